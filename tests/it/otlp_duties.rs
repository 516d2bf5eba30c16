//! What OTLP asks of a server, with real SDKs: deltas come out as if they had been cumulative, histograms and exemplars
//! included, and counters begin at zero where that is asked for. The duties of the protocol itself, one by one, are in
//! `crates/api-ingest/tests/it/otlp_duties.rs`.
//!
//! The senders are those of [`sdks`](crate::sdks), told to prefer delta temporality by the standard variable.

use pharos_testkit::Pharos;
use serde_json::Value;

use crate::otlp::now_ms;
use crate::sdks::programs::{Language, Program};
use crate::sdks::reference::Reference;
use crate::sdks::{compare_all, endpoint};

const TEMPORALITY: (&str, &str) = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");

/// Sends over every protocol of the language with delta temporality; answers what was sent.
fn send_deltas(language: Language, pharos: &Pharos) -> Vec<(String, Reference)> {
    let scratch = tempfile::tempdir().expect("a folder for the program and its files");
    let program = Program::build(language, scratch.path()).with(TEMPORALITY);
    let send = |(number, protocol): (usize, &_)| {
        let file = scratch.path().join(format!("sent-{number}.json"));
        let sent = program.send(*protocol, &endpoint(pharos, *protocol), pharos.token(), &file);
        let what = format!("deltas of {} over {}", language.name(), protocol.name());
        assert!(sent.status.success(), "{what}: {}", String::from_utf8_lossy(&sent.stderr));
        (what, Reference::read(&file))
    };
    language.protocols().iter().enumerate().map(send).collect()
}

/// Nothing of what a program states knows of temporality: deltas must come back as the same series.
async fn check_deltas(language: Language) {
    let mut pharos = Pharos::builder().start().await;
    let sent = send_deltas(language, &pharos);
    compare_all(&pharos, &sent, "at once").await;
    assert!(own_metric(&pharos, "pharos_ingest_otlp_delta_streams").await > 0.0, "nothing came as a delta");
    pharos.restart().await;
    compare_all(&pharos, &sent, "after kill -9").await;
}

async fn own_metric(pharos: &Pharos, name: &str) -> f64 {
    let page = pharos.client().get(pharos.url("/metrics")).bearer_auth(pharos.token()).send().await.unwrap();
    let page = page.text().await.unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not on the page:\n{page}"))
}

#[tokio::test]
async fn deltas_of_the_go_sdk_come_back_as_sums() {
    check_deltas(Language::Go).await;
}

#[tokio::test]
async fn deltas_of_the_python_sdk_come_back_as_sums() {
    check_deltas(Language::Python).await;
}

/// A program that runs once sends each of its counters once: without a zero nothing has ever increased.
#[tokio::test]
async fn what_an_sdk_counts_begins_at_zero_when_asked() {
    let pharos = Pharos::builder().option("--ingest-otlp-created-zero", "true").start().await;
    let sent = send_deltas(Language::Go, &pharos);
    let at_s = now_ms() as f64 / 1_000.0;
    let values = async |query: &str| -> Vec<f64> {
        let answer = pharos.query(query, at_s).await;
        let value = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
        let values = answer.as_array().into_iter().flatten().map(|series| value(series).expect("a number"));
        values.collect()
    };
    let runs = sent.len();
    for (query, expected) in [
        ("min_over_time(shop_orders_total{city!=\"\"}[10m])", 0.0),
        ("max_over_time(shop_orders_total{city!=\"\"}[10m])", 42.0),
        ("count_over_time(shop_orders_total{city!=\"\"}[10m])", 2.0),
        ("min_over_time(shop_request_duration_seconds_bucket{le=\"1\"}[10m])", 0.0),
        ("histogram_count(sum_over_time(shop_payload_size_bytes[10m]))", 6.0),
        ("count_over_time(shop_payload_size_bytes[10m])", 2.0),
        // What can fall has no zero.
        ("count_over_time(shop_room_temperature_celsius[10m])", 1.0),
        ("count_over_time(shop_cart_items[10m])", 1.0),
        // One or two samples of it, as the SDK reads the clock for each instrument.
        ("min_over_time(target_info[10m])", 1.0),
    ] {
        assert_eq!(values(query).await, vec![expected; runs], "{query}");
    }
    let increased = values("increase(shop_orders_total{city!=\"\"}[10m]) > bool 0").await;
    assert_eq!(increased, vec![1.0; runs]);
}
