//! The browser interface on the real binary: Chromium signs in with a token, draws a metric, finds a trace and reads it.
//!
//! The walk itself is `ui/e2e` (`npm run test:e2e`); `make test-demo` takes it through the demo's data, this test through data
//! that came in over OTLP/JSON, with a token that may only read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pharos_testkit::{Pharos, find_program};
use serde_json::{Value, json};
use tokio::process::Command as AsyncCommand;

use crate::otlp::now_ms;

/// A browser on a busy machine; the scenarios have shorter limits of their own.
const WALK_MAX: Duration = Duration::from_mins(3);
/// Minutes of history, one point each 15 s.
const HISTORY_MIN: i64 = 10;

fn ui() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui")
}

/// The packages that `ui/package-lock.json` names.
pub(crate) fn install_packages() {
    if ui().join("node_modules/playwright-core").is_dir() {
        return;
    }
    let output =
        Command::new(find_program(&["npm"])).args(["ci", "--no-audit", "--no-fund"]).current_dir(ui()).output();
    let output = output.expect("npm can be started");
    assert!(output.status.success(), "npm ci in ui/: {}", String::from_utf8_lossy(&output.stderr));
}

fn resource(service: &str) -> Value {
    json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": service}},
        {"key": "service.instance.id", "value": {"stringValue": format!("{service}-1")}},
    ]})
}

/// A counter that grows unevenly.
fn metrics() -> Value {
    let end_ms = now_ms();
    let points: Vec<Value> = (0..=HISTORY_MIN * 4)
        .map(|index| {
            let at_ms = end_ms - (HISTORY_MIN * 4 - index) * 15_000;
            json!({
                "startTimeUnixNano": (end_ms - HISTORY_MIN * 60_000 - 1_000).to_string() + "000000",
                "timeUnixNano": at_ms.to_string() + "000000",
                "asInt": (index * 40 + index * index % 17).to_string(),
            })
        })
        .collect();
    let sum = json!({"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": points});
    let metric = json!({"name": "orders", "description": "Orders placed.", "sum": sum});
    json!({"resourceMetrics": [{"resource": resource("storefront"), "scopeMetrics": [{"metrics": [metric]}]}]})
}

/// Twelve traces of two services, every third with an error.
fn traces() -> Value {
    let now_ms = now_ms();
    let spans = |service: &str, span: &dyn Fn(i64) -> Value| {
        let spans: Vec<Value> = (1..=12).map(span).collect();
        json!({"resource": resource(service), "scopeSpans": [{"scope": {"name": "shop"}, "spans": spans}]})
    };
    let at = |ms: i64| format!("{ms}000000");
    let root = |number: i64| {
        let start_ms = now_ms - number * 20_000;
        json!({
            "traceId": format!("{number:032x}"), "spanId": "00000000000000a1", "name": "POST /orders", "kind": 2,
            "startTimeUnixNano": at(start_ms), "endTimeUnixNano": at(start_ms + 80 + number),
            "attributes": [{"key": "http.request.method", "value": {"stringValue": "POST"}}],
        })
    };
    let child = |number: i64| {
        let start_ms = now_ms - number * 20_000 + 5;
        let status = if number % 3 == 0 { json!({"code": 2, "message": "declined"}) } else { json!({}) };
        json!({
            "traceId": format!("{number:032x}"), "spanId": "00000000000000b2", "parentSpanId": "00000000000000a1",
            "name": "charge", "kind": 3, "status": status,
            "startTimeUnixNano": at(start_ms), "endTimeUnixNano": at(start_ms + 60),
            "events": [{"name": "asked the bank", "timeUnixNano": at(start_ms + 1)}],
        })
    };
    json!({"resourceSpans": [spans("storefront", &root), spans("payment", &child)]})
}

#[tokio::test]
async fn a_browser_reads_metrics_and_traces() {
    install_packages();
    let pharos = Pharos::builder().start().await;
    for (path, message) in [("/v1/metrics", metrics()), ("/v1/traces", traces())] {
        let (status, answer) = pharos.post(path, "application/json", message.to_string()).await;
        assert_eq!((status, &answer), (200, &json!({})), "{path}");
    }
    let reader = pharos.new_token("reader", "metrics:read,traces:read", "0");
    crate::tokens::wait_for(&pharos, &reader, "/api/v1/labels", 200).await;
    let walk = AsyncCommand::new(find_program(&["npm"]))
        .args(["run", "--silent", "test:e2e"])
        .current_dir(ui())
        .env("PHAROS_URL", pharos.url("/"))
        .env("PHAROS_TOKEN", &reader)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WALK_MAX, walk).await.expect("the walk ends").expect("npm can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let passed = told.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(passed >= 5, "{passed} scenarios ran:\n{told}");
}
