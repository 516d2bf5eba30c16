//! Tokens: made, used, listed, revoked; who may do what, in every dialect.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use pharos_testkit::Pharos;
use serde_json::json;

async fn status_with(pharos: &Pharos, token: &str, path: &str) -> u16 {
    let request = pharos.client().get(pharos.url(path)).bearer_auth(token);
    request.send().await.expect("the server answers").status().as_u16()
}

#[tokio::test]
async fn a_token_made_while_the_server_runs_works_and_a_revoked_one_stops() {
    let pharos = Pharos::builder().start().await;
    let token = pharos.new_token("reader", "metrics:read", "0");
    let mode = std::fs::metadata(pharos.data_dir().join("tokens.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(pharos.data_dir().join("tokens.json")).unwrap();
    assert!(!kept.contains(&token), "only hashes are kept");
    wait_for(&pharos, &token, "/api/v1/labels", 200).await;
    assert_eq!(status_with(&pharos, &token, "/api/services").await, 403);
    assert_eq!(status_with(&pharos, &token, "/select/7/prometheus/api/v1/labels").await, 403);

    let data = pharos.data_dir();
    let data = data.to_str().unwrap();
    let list = Pharos::run(&["token", "list", "--data-dir", data]);
    let listed = String::from_utf8(list.stdout).unwrap();
    assert!(listed.contains("reader") && listed.contains("metrics:read") && !listed.contains(&token), "{listed}");
    assert!(Pharos::run(&["token", "revoke", "--data-dir", data, "reader"]).status.success());
    wait_for(&pharos, &token, "/api/v1/labels", 401).await;
}

/// The token file is looked at once a second.
pub(crate) async fn wait_for(pharos: &Pharos, token: &str, path: &str, expected: u16) {
    let begun = Instant::now();
    while status_with(pharos, token, path).await != expected {
        assert!(begun.elapsed() < Duration::from_secs(10), "{path} does not become {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn refusals_speak_the_dialect_of_the_path() {
    let pharos = Pharos::builder().start().await;
    let text = async |path: &str, token: Option<&str>| {
        let mut request = pharos.client().post(pharos.url(path)).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for token in [None, Some("wrong")] {
        let (status, prometheus) = text("/api/v1/query", token).await;
        assert!(status == 401 && prometheus.contains("\"errorType\":\"unauthorized\""), "{prometheus}");
        let (status, otlp) = text("/v1/traces", token).await;
        assert!(status == 401 && otlp.contains("\"code\":16"), "{otlp}");
        let (status, jaeger) = text("/api/traces", token).await;
        assert!(status == 401 && jaeger.contains("\"errors\":[{\"code\":401"), "{jaeger}");
        let (status, plain) = text("/api/v1/write", token).await;
        assert!(status == 401 && !plain.starts_with('{'), "{plain}");
    }
    let writer = pharos.new_token("writer", "traces:write", "0");
    wait_for(&pharos, &writer, "/api/v1/labels", 403).await;
    let (status, otlp) = text("/v1/metrics", Some(&writer)).await;
    assert!(status == 403 && otlp.contains("metrics:write"), "{otlp}");
}

#[tokio::test]
async fn the_first_start_makes_a_token_and_prints_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let printed = async || {
        let address = pharos_testkit::free_address().to_string();
        let mut command = std::process::Command::new(Pharos::program());
        command.args(["serve", "--data-dir", data.to_str().unwrap(), "--listen", &address]);
        for port in ["--otlp-grpc", "--otlp-http", "--jaeger", "--jaeger-grpc"] {
            command.args([port, "off"]);
        }
        let mut peer = pharos_testkit::Peer::spawn("pharos", command, folder.path());
        peer.wait_until_ready(&format!("http://{address}/-/ready")).await;
        assert!(peer.terminate().await.success());
        let log = peer.log();
        log.split_whitespace().filter(|word| word.starts_with("pharos_")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = printed().await;
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(printed().await, first, "the second start prints no token (the log is appended to)");
}

#[tokio::test]
async fn a_browser_logs_in_with_a_token_and_holds_a_cookie() {
    let pharos = Pharos::builder().start().await;
    let login = pharos.client().post(pharos.url("/auth/login")).json(&json!({"token": pharos.token()}));
    let answer = login.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 204);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let with_cookie = |path: &str| pharos.client().get(pharos.url(path)).header("cookie", &cookie);
    let session: serde_json::Value = with_cookie("/auth/session").send().await.unwrap().json().await.unwrap();
    assert_eq!((&session["name"], &session["auth"]), (&json!("test"), &json!("on")));
    assert_eq!(with_cookie("/api/v1/labels").send().await.unwrap().status().as_u16(), 200);
    let wrong = pharos.client().post(pharos.url("/auth/login")).json(&json!({"token": "wrong"}));
    assert_eq!(wrong.send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test]
async fn one_tenant_does_not_see_another() {
    let pharos = Pharos::builder().start().await;
    for tenant in ["7", "8"] {
        let body = crate::otlp::remote_write("owned", &[("owner", tenant)], &[(crate::otlp::now_ms(), 1.0)]);
        let path = format!("/insert/{tenant}/prometheus/api/v1/write");
        let (status, answer) = crate::otlp::push_remote_write(&pharos, &path, body).await;
        assert_eq!(status, 204, "{answer}");
    }
    for tenant in ["7", "8"] {
        let path = format!("/select/{tenant}/prometheus/api/v1/series?match[]=owned");
        let (_, answer) = pharos.get(&path).await;
        assert_eq!(answer["data"], json!([{"__name__": "owned", "owner": tenant}]));
    }
    assert_eq!(pharos.get("/api/v1/series?match[]=owned").await.1["data"], json!([]));
}
