//! A real nginx with the files of `nginx/`, as `tests/scripts/nginx-stage.py` lays them out, and clients that trust its
//! certificate.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pharos_testkit::{Peer, Pharos, find_program, free_address};
use reqwest::{Certificate, Client, Method, RequestBuilder};
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
}

impl Nginx {
    /// Starts it with one of the sites.
    pub(crate) async fn start(site: &str, pharos: &Pharos) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // Started by root, nginx works as another user, who must reach its temporary files.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        let (https, http) = (free_address(), free_address());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/nginx-stage.py");
        let staged = Command::new(find_program(&["python3"]))
            .args([script.as_path(), folder.path()])
            .args(["--site", site, "--https", &https.port().to_string(), "--http", &http.port().to_string()])
            .args(["--upstream", &pharos.main_address().to_string()])
            .output()
            .expect("python3 can be started");
        assert!(staged.status.success(), "nginx-stage.py: {}", String::from_utf8_lossy(&staged.stderr));

        let mut command = Command::new(find_program(&["nginx"]));
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
        let mut peer = Peer::spawn("nginx", command, folder.path());
        peer.wait_until_ready(&format!("https://localhost:{}/-/healthy", https.port())).await;
        let client = client(folder.path(), None);
        Self { folder, https, http, client, peer }
    }

    /// The certificate to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca-cert.pem")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https.port())
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
        client(self.folder.path(), Some(address))
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

    /// One unary gRPC call by curl, which shows the trailers.
    pub(crate) fn grpc(&self, method: &str, token: Option<&str>, message: &[u8]) -> GrpcStatus {
        let (body, headers) = (self.folder.path().join("message"), self.folder.path().join("headers"));
        // Length-prefixed: not compressed, then four bytes of length.
        let length = u32::try_from(message.len()).expect("a message has less than 4 GiB").to_be_bytes();
        fs::write(&body, [&[0], &length[..], message].concat()).expect("the message can be written");
        let _ = fs::remove_file(&headers);
        let mut command = Command::new(find_program(&["curl"]));
        command
            .args([
                "--silent",
                "--show-error",
                "--http2",
                "--max-time",
                "60",
                "--noproxy",
                "*",
                "--output",
                "/dev/null",
            ])
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "expect:"])
            .args(token.map(|token| ["-H".to_owned(), format!("authorization: Bearer {token}")]).into_iter().flatten())
            .arg("--cacert")
            .arg(self.certificate())
            .arg("--dump-header")
            .arg(&headers)
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg(self.url(method));
        let output = command.output().expect("curl can be started");
        let headers = fs::read_to_string(&headers).unwrap_or_default();
        let value =
            |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim);
        let code = value("grpc-status").and_then(|code| code.parse().ok()).unwrap_or_else(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            panic!("{method}: no grpc-status in\n{headers}\n{error}\n{}", self.error_log())
        });
        GrpcStatus { code, message: value("grpc-message").unwrap_or_default().to_owned() }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers outlive a master that is killed.
        self.peer.terminate_blocking();
    }
}

fn client(folder: &Path, from: Option<IpAddr>) -> Client {
    let pem = fs::read(folder.join("ca-cert.pem")).expect("the certificate is there");
    let certificate = Certificate::from_pem(&pem).expect("it is a certificate");
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([certificate])
        .local_address(from)
        .timeout(std::time::Duration::from_mins(1))
        .build()
        .expect("a client can be made")
}
