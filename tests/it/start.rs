//! Starting and failing to start: one clear line each, exit code 2.

use std::fs;
use std::net::TcpListener;
use std::process::Output;

use pharos_testkit::{Pharos, free_address};

/// Runs `pharos serve` with the small ports off, and expects it not to start.
fn refused(arguments: &[&str]) -> String {
    let mut all = vec!["serve"];
    for port in ["--otlp-grpc", "--otlp-http", "--jaeger", "--jaeger-grpc"] {
        if !arguments.contains(&port) {
            all.extend([port, "off"]);
        }
    }
    all.extend(arguments);
    let Output { status, stderr, .. } = Pharos::run(&all);
    let message = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(2), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn one_line(message: &str) -> &str {
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 1, "one clear line: {message}");
    lines[0]
}

#[test]
fn a_port_that_is_taken_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = refused(&["--data-dir", folder.path().to_str().unwrap(), "--listen", &address]);
    assert!(one_line(&message).contains(&format!("cannot listen on {address}")), "{message}");
    let free = free_address().to_string();
    let data = folder.path().to_str().unwrap();
    let message = refused(&["--data-dir", data, "--listen", &free, "--otlp-grpc", &address]);
    assert!(one_line(&message).contains("--otlp-grpc"), "{message}");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let message =
        refused(&["--data-dir", file.join("data").to_str().unwrap(), "--listen", &free_address().to_string()]);
    assert!(one_line(&message).contains("cannot make the data folder"), "{message}");
}

#[tokio::test]
async fn a_data_folder_in_use_names_its_user() {
    let pharos = Pharos::builder().start().await;
    let data = pharos.data_dir();
    let message = refused(&["--data-dir", data.to_str().unwrap(), "--listen", &free_address().to_string()]);
    assert!(one_line(&message).contains(&format!("in use by another pharos (process {})", pharos.id())), "{message}");
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pharos.yaml");
    fs::write(&file, "listen: 127.0.0.1:1\nretention:\n  metrix: 3d\n").unwrap();
    let message = refused(&["--config", file.to_str().unwrap()]);
    assert!(one_line(&message).contains("metrix") && message.contains("pharos.yaml"), "{message}");
}

#[test]
fn authentication_is_not_turned_off_for_strangers() {
    let message = refused(&["--auth", "off", "--listen", "0.0.0.0:0"]);
    assert!(one_line(&message).contains("auth_off_anywhere"), "{message}");
}

#[tokio::test]
async fn without_authentication_everyone_on_loopback_is_let_in() {
    let pharos = Pharos::builder().option("--auth", "off").start().await;
    let answer = pharos.client().get(pharos.url("/api/v1/labels")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[tokio::test]
async fn a_stopped_server_has_kept_everything_and_says_so() {
    let mut pharos = Pharos::builder().start().await;
    let at_ms = crate::otlp::now_ms() - 1_000;
    let message = crate::otlp::remote_write("kept", &[], &[(at_ms, 7.0)]);
    assert_eq!(crate::otlp::push_remote_write(&pharos, "/api/v1/write", message).await.0, 204);
    assert!(pharos.stop().await.success(), "{}", pharos.log());
    assert!(pharos.log().contains("stopped"));
    pharos.restart().await;
    let found = pharos.query("kept", at_ms as f64 / 1_000.0).await;
    assert_eq!(found[0]["value"][1], "7");
}

#[tokio::test]
async fn own_metrics_and_health_are_told() {
    let pharos = Pharos::builder().start().await;
    for path in ["/-/healthy", "/-/ready"] {
        let answer = pharos.client().get(pharos.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path} needs no token");
    }
    let (status, metrics) = pharos.get("/metrics").await;
    let text = metrics.as_str().unwrap();
    assert_eq!(status, 200);
    for name in ["pharos_build_info", "pharos_tsdb_head_series", "pharos_http_requests_total"] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
    assert_eq!(pharos.client().get(pharos.url("/metrics")).send().await.unwrap().status().as_u16(), 401);
    let check = Pharos::run(&["healthcheck", "--address", &pharos.main_address().to_string()]);
    assert!(check.status.success());
}
