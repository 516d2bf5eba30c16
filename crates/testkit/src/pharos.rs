//! The real binary.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Peer, free_address};

/// A running server in a temporary folder, with a token that opens everything.
#[derive(Debug)]
pub struct Pharos {
    folder: TempDir,
    data: PathBuf,
    options: Vec<String>,
    addresses: Addresses,
    token: String,
    peer: Peer,
    client: reqwest::Client,
    scheme: &'static str,
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    main: SocketAddr,
    otlp_grpc: SocketAddr,
    otlp_http: SocketAddr,
    jaeger: SocketAddr,
    jaeger_grpc: SocketAddr,
}

/// What to start.
#[derive(Debug, Default)]
pub struct PharosBuilder {
    options: Vec<String>,
    data: Option<PathBuf>,
    over_tls: bool,
}

impl PharosBuilder {
    /// Adds a flag such as `--retention-metrics` with its value.
    #[must_use]
    pub fn option(mut self, flag: &str, value: &str) -> Self {
        self.options.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Puts the data folder here instead of into a folder of its own, such as on a small disk.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data = Some(path.to_owned());
        self
    }

    /// The main port speaks TLS by what the options say; its certificate is not checked by this fixture.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        self.over_tls = true;
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(self) -> Pharos {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let addresses = Addresses {
            main: free_address(),
            otlp_grpc: free_address(),
            otlp_http: free_address(),
            jaeger: free_address(),
            jaeger_grpc: free_address(),
        };
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        let token = Pharos::new_token_in(&data, "test", "all", "*");
        let peer = spawn(folder.path(), &data, &self.options, &addresses);
        let client = reqwest::Client::builder().timeout(Duration::from_mins(1));
        let client = client.tls_danger_accept_invalid_certs(self.over_tls).build().expect("a client can be made");
        let scheme = if self.over_tls { "https" } else { "http" };
        let mut pharos = Pharos { folder, data, options: self.options, addresses, token, peer, client, scheme };
        pharos.wait_until_ready().await;
        pharos
    }
}

fn spawn(folder: &Path, data: &Path, options: &[String], addresses: &Addresses) -> Peer {
    let mut command = Command::new(Pharos::program());
    command.arg("serve").arg("--data-dir").arg(data);
    for (flag, address) in [
        ("--listen", addresses.main),
        ("--otlp-grpc", addresses.otlp_grpc),
        ("--otlp-http", addresses.otlp_http),
        ("--jaeger", addresses.jaeger),
        ("--jaeger-grpc", addresses.jaeger_grpc),
    ] {
        command.arg(flag).arg(address.to_string());
    }
    command.args(options);
    Peer::spawn("pharos", command, folder)
}

impl Pharos {
    /// A server with the defaults, on free ports.
    #[must_use]
    pub fn builder() -> PharosBuilder {
        PharosBuilder::default()
    }

    /// The binary under test: `PHAROS_BIN`, else the one that cargo built beside this test.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn program() -> PathBuf {
        if let Some(path) = std::env::var_os("PHAROS_BIN") {
            return PathBuf::from(path);
        }
        let test = std::env::current_exe().expect("a running test has a path");
        let found = test.ancestors().map(|folder| folder.join("pharos")).find(|path| path.is_file());
        found.expect("set PHAROS_BIN, or run `cargo build -p pharos` first")
    }

    /// Runs a subcommand and returns what it wrote.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(arguments: &[&str]) -> Output {
        Command::new(Self::program()).args(arguments).output().expect("the binary can be started")
    }

    /// Makes a token in a data folder.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new_token_in(data: &Path, name: &str, scopes: &str, tenant: &str) -> String {
        let data = data.to_string_lossy();
        let output =
            Self::run(&["token", "new", "--data-dir", &data, "--name", name, "--scopes", scopes, "--tenant", tenant]);
        assert!(output.status.success(), "pharos token new: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes another token for this server.
    #[must_use]
    pub fn new_token(&self, name: &str, scopes: &str, tenant: &str) -> String {
        Self::new_token_in(&self.data_dir(), name, scopes, tenant)
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone()
    }

    /// A folder for the test's own files, removed with the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The token that opens everything, for every tenant.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// `http://address/path` of the main port, or `https:`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.addresses.main)
    }

    /// The main port.
    #[must_use]
    pub fn main_address(&self) -> SocketAddr {
        self.addresses.main
    }

    /// The port of OTLP over gRPC.
    #[must_use]
    pub fn otlp_grpc_address(&self) -> SocketAddr {
        self.addresses.otlp_grpc
    }

    /// The port of OTLP over HTTP.
    #[must_use]
    pub fn otlp_http_address(&self) -> SocketAddr {
        self.addresses.otlp_http
    }

    /// The port of Jaeger's HTTP API.
    #[must_use]
    pub fn jaeger_address(&self) -> SocketAddr {
        self.addresses.jaeger
    }

    /// The port of Jaeger's gRPC API.
    #[must_use]
    pub fn jaeger_grpc_address(&self) -> SocketAddr {
        self.addresses.jaeger_grpc
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.peer.id()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.peer.log()
    }

    /// A client without a token.
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Sends a GET with the token and returns status and JSON (or the text as a JSON string).
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.client.get(self.url(path)).bearer_auth(&self.token);
        let answer = request.send().await.unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log()));
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the answer is text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Sends a POST with the token and a body.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.client.post(self.url(path)).bearer_auth(&self.token).header("content-type", content_type);
        let answer =
            request.body(body).send().await.unwrap_or_else(|error| panic!("POST {path}: {error}\n{}", self.log()));
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the answer is text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The result of an instant query.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn query(&self, query: &str, at_s: f64) -> Value {
        let form = [("query", query.to_owned()), ("time", at_s.to_string())];
        let url = reqwest::Url::parse_with_params(&self.url("/api/v1/query"), &form).expect("the URL is valid");
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let (status, answer) = self.get(&path).await;
        assert_eq!(status, 200, "{query}: {answer}");
        answer["data"]["result"].clone()
    }

    /// Waits until it is ready.
    pub async fn wait_until_ready(&mut self) {
        let url = self.url("/-/ready");
        self.peer.wait_until_ready(&url).await;
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.peer.kill();
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        self.peer.terminate().await
    }

    /// Starts it again on the same data and ports.
    pub async fn restart(&mut self) {
        self.peer.kill();
        self.peer = spawn(self.folder.path(), &self.data, &self.options, &self.addresses);
        self.wait_until_ready().await;
    }
}
