//! A real nginx with the files of `nginx/`, as `tests/scripts/nginx-stage.py` lays them out, and clients that trust its
//! certificate.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pharos_testkit::{Peer, Pharos, find_program, free_address};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

/// A running nginx in front of a Pharos.
pub(crate) struct Nginx {
    folder: TempDir,
    https: SocketAddr,
    http: SocketAddr,
    client: Client,
    peer: Peer,
}

/// How a gRPC call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    pub(crate) code: i32,
    pub(crate) message: String,
    /// `grpc-status-details-bin`, in base64.
    pub(crate) details: Option<String>,
}

impl Nginx {
    /// Starts it with one of the sites.
    pub(crate) async fn start(site: &str, pharos: &Pharos) -> Self {
        Self::start_with(site, pharos, &[]).await
    }

    /// The same with more that `nginx-stage.py` is told.
    pub(crate) async fn start_with(site: &str, pharos: &Pharos, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // Started by root, nginx works as another user, who must reach its temporary files.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        let (https, http) = (free_address(), free_address());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/nginx-stage.py");
        let staged = Command::new(find_program(&["python3"]))
            .args([script.as_path(), folder.path()])
            .args(["--site", site, "--https", &https.port().to_string(), "--http", &http.port().to_string()])
            .args(["--upstream", &pharos.main_address().to_string()])
            .args(more)
            .output()
            .expect("python3 can be started");
        assert!(staged.status.success(), "nginx-stage.py: {}", String::from_utf8_lossy(&staged.stderr));

        let mut command = Command::new(find_program(&["nginx"]));
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
        let peer = Peer::spawn("nginx", command, folder.path());
        let client = client(folder.path()).build().expect("a client can be made");
        let nginx = Self { folder, https, http, client, peer };
        nginx.wait_until_it_answers().await;
        nginx
    }

    /// Any answer will do: some sites refuse who shows no certificate.
    async fn wait_until_it_answers(&self) {
        let begun = Instant::now();
        while let Err(error) = self.client.get(self.url("/-/healthy")).send().await {
            assert!(begun.elapsed() < Duration::from_mins(1), "{error:?}\n{}{}", self.peer.log(), self.error_log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca-cert.pem")
    }

    /// A client that shows the certificate whose names are `agent` and `spiffe://test/agent/a1`.
    pub(crate) fn client_with_certificate(&self) -> Client {
        let pem = ["client-cert.pem", "client-key.pem"].map(|name| fs::read(self.path(name)).expect("it was staged"));
        let identity = Identity::from_pem(&pem.concat()).expect("a certificate and its key");
        client(self.folder.path()).identity(identity).build().expect("a client can be made")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https.port())
    }

    /// The same path of another host, which is this nginx, too.
    pub(crate) fn url_of_host(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.https.port())
    }

    /// A client that takes this nginx for `host`.
    pub(crate) fn client_of_host(&self, host: &str) -> Client {
        client(self.folder.path()).resolve(host, self.https).build().expect("a client can be made")
    }

    /// The same without TLS.
    pub(crate) fn plain_url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.http.port())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A client that comes from another address.
    pub(crate) fn client_from(&self, address: IpAddr) -> Client {
        client(self.folder.path()).local_address(Some(address)).build().expect("a client can be made")
    }

    pub(crate) fn request(&self, method: Method, path: &str, token: Option<&str>) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Status and JSON, or the text as a JSON string.
    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        self.send(self.request(Method::GET, path, token)).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        content_type: &str,
        body: Vec<u8>,
    ) -> (u16, Value) {
        self.send(self.request(Method::POST, path, token).header("content-type", content_type).body(body)).await
    }

    async fn send(&self, request: RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap_or_else(|error| panic!("{error:?}\n{}", self.error_log()));
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the answer is text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn error_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// How one gRPC call ended.
    pub(crate) fn grpc(&self, method: &str, token: Option<&str>, message: &[u8]) -> GrpcStatus {
        let token = token.map(|token| format!("authorization: Bearer {token}"));
        self.grpc_call(method, token.as_slice(), &[], message).0
    }

    /// One gRPC call by curl, which shows the trailers, of a method or a whole URL: with these headers and more arguments of curl's. Answers how it ended, and
    /// the messages that came.
    pub(crate) fn grpc_call(
        &self,
        method: &str,
        headers_sent: &[String],
        arguments: &[&str],
        message: &[u8],
    ) -> (GrpcStatus, Vec<Vec<u8>>) {
        let (body, headers, answer) = (self.path("message"), self.path("headers"), self.path("answer"));
        // Length-prefixed: not compressed, then four bytes of length.
        let length = u32::try_from(message.len()).expect("a message has less than 4 GiB").to_be_bytes();
        fs::write(&body, [&[0], &length[..], message].concat()).expect("the message can be written");
        for file in [&headers, &answer] {
            let _ = fs::remove_file(file);
        }
        let mut command = Command::new(find_program(&["curl"]));
        command
            .args(["--silent", "--show-error", "--http2", "--max-time", "60", "--noproxy", "*"])
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "expect:"])
            .args(headers_sent.iter().flat_map(|header| ["-H", header]))
            .args(arguments)
            .arg("--output")
            .arg(&answer)
            .arg("--cacert")
            .arg(self.certificate())
            .arg("--dump-header")
            .arg(&headers)
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg(if method.starts_with("https:") { method.to_owned() } else { self.url(method) });
        let output = command.output().expect("curl can be started");
        let headers = fs::read_to_string(&headers).unwrap_or_default();
        let value =
            |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
        let code = value("grpc-status").and_then(|code| code.parse().ok()).unwrap_or_else(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            panic!("{method}: no grpc-status in\n{headers}\n{error}\n{}", self.error_log())
        });
        let status = GrpcStatus {
            code,
            message: value("grpc-message").unwrap_or_default().to_owned(),
            details: value("grpc-status-details-bin").map(str::to_owned),
        };
        (status, messages(&fs::read(&answer).unwrap_or_default()))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers outlive a master that is killed.
        self.peer.terminate_blocking();
    }
}

/// Length-prefixed messages that are not compressed.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((&[flag, ref length @ ..], rest)) = bytes.split_first_chunk::<5>() {
        assert_eq!(flag, 0, "not compressed");
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        found.push(message.to_vec());
        bytes = rest;
    }
    found
}

fn client(folder: &Path) -> ClientBuilder {
    let pem = fs::read(folder.join("ca-cert.pem")).expect("the certificate is there");
    let certificate = Certificate::from_pem(&pem).expect("it is a certificate");
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([certificate])
        .timeout(Duration::from_mins(1))
}
