//! Native histograms with Debian's `prometheus`, which scrapes them from `/federate` in protobuf. By remote read it asks for
//! samples in which it sees no histograms; chunks of them are read back by the tests of `pharos-api-prometheus`.

use std::process::Command;
use std::time::{Duration, Instant};

use pharos_proto::remote_write::v1::histogram::{Count, ResetHint, ZeroCount};
use pharos_proto::remote_write::v1::{BucketSpan, Histogram, Label, TimeSeries, WriteRequest};
use pharos_testkit::{Peer, Pharos, find_program, free_address};
use prost::Message;
use serde_json::Value;

use crate::otlp::now_ms;
use crate::peers::compare::Server;

/// How long a scrape may take to show.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);
/// Histograms of each series, a second apart.
const HISTOGRAMS: i64 = 20;

/// Counters of two schemas with buckets on both sides, one with a gap, the other with a zero bucket of its own width.
fn series(kind: &str, schema: i32, newest_ms: i64) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let one = |at: i64| {
        let grown = u64::try_from(at).unwrap();
        Histogram {
            // 2 + 1 + 4 and 3 in the buckets below, each `at` times, and the zero bucket.
            count: Some(Count::CountInt(grown * 10 + 7)),
            zero_count: Some(ZeroCount::ZeroCountInt(7)),
            sum: at as f64 * 12.75,
            schema,
            zero_threshold: if schema > 0 { 0.001 } else { 2.938_735_877_055_719e-39 },
            positive_spans: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 4, length: 1 }],
            positive_deltas: vec![2 * at, -at, 3 * at],
            negative_spans: vec![BucketSpan { offset: 1, length: 1 }],
            negative_deltas: vec![3 * at],
            reset_hint: ResetHint::Unknown as i32,
            timestamp: newest_ms - (HISTOGRAMS - at) * 1_000,
            ..Histogram::default()
        }
    };
    TimeSeries {
        labels: vec![label("__name__", "latency_seconds"), label("job", "cart"), label("kind", kind)],
        histograms: (1..=HISTOGRAMS).map(one).collect(),
        ..TimeSeries::default()
    }
}

async fn filled(newest_ms: i64) -> (Pharos, Server) {
    let pharos = Pharos::builder().start().await;
    let ours = Server::new(&pharos.url(""), Some(pharos.token()));
    let timeseries = vec![series("fine", 3, newest_ms), series("coarse", 0, newest_ms)];
    let message = WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
    ours.write(snap::raw::Encoder::new().compress_vec(&message).expect("it fits in memory")).await;
    (pharos, ours)
}

/// A `prometheus` that knows native histograms.
async fn prometheus(pharos: &Pharos, config: &str) -> (Server, Peer) {
    let (address, folder) = (free_address(), pharos.folder());
    let file = folder.join("native-histograms.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(find_program(&["prometheus"]));
    command
        .arg("--enable-feature=native-histograms")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("native-histograms-data").display()))
        .arg(format!("--web.listen-address={address}"));
    let mut peer = Peer::spawn("native-histograms", command, folder);
    peer.wait_until_ready(&format!("http://{address}/-/ready")).await;
    (Server::new(&format!("http://{address}"), None), peer)
}

/// The result of an instant query, series in the order of their labels.
async fn result(server: &Server, query: &str, at_ms: i64) -> Vec<Value> {
    let parameters = [("query", query.to_owned()), ("time", format!("{}", at_ms as f64 / 1_000.0))];
    let reply = server.ask("/api/v1/query", &parameters).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.body);
    let mut series = reply.body["data"]["result"].as_array().cloned().unwrap_or_default();
    series.sort_by_key(|series| series["metric"].to_string());
    series
}

#[tokio::test]
async fn prometheus_scrapes_native_histograms_from_federation() {
    let newest_ms = now_ms();
    let (pharos, ours) = filled(newest_ms).await;
    let config = format!(
        "scrape_configs:\n- job_name: federate\n  scrape_interval: 1s\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{\"match[]\": [latency_seconds]}}\n  authorization: {{type: Bearer, credentials: {}}}\n  \
         static_configs: [{{targets: [\"{}\"]}}]\n",
        pharos.token(),
        pharos.main_address()
    );
    let (theirs, peer) = prometheus(&pharos, &config).await;
    let expected = result(&ours, "latency_seconds", newest_ms).await;
    assert!(expected.len() == 2 && expected.iter().all(|series| series["histogram"].is_array()), "{expected:?}");
    let begun = Instant::now();
    while result(&theirs, "latency_seconds", newest_ms).await.len() < 2 {
        assert!(begun.elapsed() < ARRIVAL_MAX, "nothing came\n{}\n{}", peer.log(), pharos.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for query in [
        "latency_seconds",
        "histogram_count(latency_seconds)",
        "histogram_sum(latency_seconds)",
        "histogram_quantile(0.3, latency_seconds)",
    ] {
        let (found, expected) = (result(&theirs, query, newest_ms).await, result(&ours, query, newest_ms).await);
        assert!(found == expected, "{query}:\n{found:?}\nis not\n{expected:?}");
    }
}
