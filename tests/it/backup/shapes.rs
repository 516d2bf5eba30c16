//! Snapshots over HTTP look as VictoriaMetrics and Prometheus show theirs: the real ones are asked beside ours.

use std::path::Path;
use std::process::Command;

use pharos_testkit::{Peer, Pharos, find_program, free_address};
use reqwest::Method;
use serde_json::Value;

use super::member;

struct Server {
    url: String,
    token: Option<String>,
    _peer: Option<Peer>,
}

/// Status, content type and body, with every name of a snapshot replaced.
type Answer = (u16, String, Value);

impl Server {
    fn ours(pharos: &Pharos) -> Self {
        Self { url: pharos.url(""), token: Some(pharos.token().to_owned()), _peer: None }
    }

    async fn victoria_metrics(folder: &Path) -> Self {
        let address = free_address();
        let mut command = Command::new(find_program(&["victoria-metrics"]));
        command.arg(format!("-storageDataPath={}", folder.join("vm").display()));
        command.arg(format!("-httpListenAddr={address}"));
        Self::start("victoria-metrics", command, format!("http://{address}"), "/health", folder).await
    }

    async fn prometheus(folder: &Path) -> Self {
        let address = free_address();
        let mut command = Command::new(find_program(&["prometheus"]));
        command.args(["--config.file=/dev/null", "--web.enable-admin-api"]);
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}"));
        Self::start("prometheus", command, format!("http://{address}"), "/-/ready", folder).await
    }

    async fn start(name: &str, command: Command, url: String, ready: &str, folder: &Path) -> Self {
        let mut peer = Peer::spawn(name, command, folder);
        peer.wait_until_ready(&format!("{url}{ready}")).await;
        Self { url, token: None, _peer: Some(peer) }
    }

    async fn ask(&self, method: Method, path: &str) -> Answer {
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        (status, kind, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }
}

/// Replaces names of snapshots by `NAME`: date and time, a dash, 16 hexadecimal digits.
fn without_names(value: &mut Value) {
    match value {
        Value::String(text) if is_name(text) => "NAME".clone_into(text),
        Value::Array(values) => values.iter_mut().for_each(without_names),
        Value::Object(members) => members.values_mut().for_each(without_names),
        _ => {}
    }
}

fn is_name(text: &str) -> bool {
    let Some((time, random)) = text.split_once('-') else { return false };
    let digits = time.bytes().filter(u8::is_ascii_digit).count();
    // Prometheus writes 20260102T030405Z.
    let is_time = digits == 14 && time.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z'));
    is_time && random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn check(ours: &Server, theirs: &Server, method: &Method, path: &str) {
    let mut mine = ours.ask(method.clone(), path).await;
    let mut peer = theirs.ask(method.clone(), path).await;
    without_names(&mut mine.2);
    without_names(&mut peer.2);
    assert_eq!(mine, peer, "{method} {path}");
}

#[tokio::test]
async fn snapshots_look_as_victoriametrics_shows_them() {
    let pharos = Pharos::builder().start().await;
    let (ours, theirs) = (Server::ours(&pharos), Server::victoria_metrics(pharos.folder()).await);
    for method in [Method::GET, Method::POST] {
        for path in ["/snapshot/list", "/snapshot/create", "/snapshot/create", "/snapshot/list"] {
            check(&ours, &theirs, &method, path).await;
        }
        // Each deletes one of its own.
        let mut answers = Vec::new();
        for server in [&ours, &theirs] {
            let (_, _, made) = server.ask(Method::GET, "/snapshot/create").await;
            let path = format!("/snapshot/delete?snapshot={}", member(&made, "snapshot"));
            answers.push(server.ask(method.clone(), &path).await);
        }
        assert_eq!(answers[0], answers[1]);
        check(&ours, &theirs, &method, "/snapshot/list").await;
        check(&ours, &theirs, &method, "/snapshot/delete_all").await;
        check(&ours, &theirs, &method, "/snapshot/list").await;
    }
    // The same members; the words are ours, and a name that nothing has is the caller's fault, not the server's.
    let (status, kind, mine) = ours.ask(Method::GET, "/snapshot/delete?snapshot=none").await;
    let (_, their_kind, peer) = theirs.ask(Method::GET, "/snapshot/delete?snapshot=none").await;
    assert_eq!((status, kind), (400, their_kind));
    assert_eq!(member(&mine, "status"), member(&peer, "status"));
    assert!(member(&mine, "msg").contains("none") && member(&peer, "msg").contains("none"));
    assert_eq!(mine.as_object().unwrap().len(), peer.as_object().unwrap().len());
}

#[tokio::test]
async fn snapshots_look_as_prometheus_shows_them() {
    const PATH: &str = "/api/v1/admin/tsdb/snapshot";
    let pharos = Pharos::builder().start().await;
    let (ours, theirs) = (Server::ours(&pharos), Server::prometheus(pharos.folder()).await);
    for method in [Method::POST, Method::PUT] {
        for query in ["", "?skip_head=true", "?skip_head=false"] {
            check(&ours, &theirs, &method, &format!("{PATH}{query}")).await;
        }
    }
    let wrong = format!("{PATH}?skip_head=maybe");
    let ((status, _, mine), (their_status, _, peer)) =
        (ours.ask(Method::POST, &wrong).await, theirs.ask(Method::POST, &wrong).await);
    assert_eq!((status, &mine["status"], &mine["errorType"]), (their_status, &peer["status"], &peer["errorType"]));
    assert!(member(&mine, "error").contains("skip_head") && member(&peer, "error").contains("skip_head"));
    assert_eq!(ours.ask(Method::GET, PATH).await.0, theirs.ask(Method::GET, PATH).await.0);
}
