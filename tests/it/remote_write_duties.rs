//! Remote write with real senders, beside the duties that `crates/api-ingest/tests/it/remote_write_duties.rs` lists: a pair of
//! agents that scrape the same, of which one dies, an agent whose block is too large, and the queue manager of Prometheus 3.14 (`tests/prometheus-sender`), which
//! speaks both versions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pharos_testkit::Pharos;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::otlp::now_ms;
use crate::peers::programs::{Agent, NodeExporter};
use crate::peers::wait_for;

const FAILOVER: Duration = Duration::from_secs(4);
/// Scrapes and the agents' flushes come once a second each; and the machine may have other work.
const SLACK: Duration = Duration::from_secs(4);
/// Longer than the test takes.
const WINDOW: &str = "5m";

/// One of Pharos' own counters.
async fn own(pharos: &Pharos, counter: &str) -> f64 {
    let page = pharos.client().get(pharos.url("/metrics")).bearer_auth(pharos.token()).send().await.unwrap();
    let page = page.text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("{counter} is not on the page:\n{page}"))
}

async fn wait_for_own(pharos: &Pharos, counter: &str, min: f64) {
    let begun = std::time::Instant::now();
    while own(pharos, counter).await < min {
        assert!(begun.elapsed() < Duration::from_secs(30), "{counter} stays below {min}\n{}", pharos.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Instants of the one series of `up`, Unix milliseconds.
async fn instants(pharos: &Pharos) -> Vec<i64> {
    let answer = pharos.query(&format!("up{{job=\"node\"}}[{WINDOW}]"), now_ms() as f64 / 1_000.0).await;
    let series = answer.as_array().unwrap();
    assert_eq!(series.len(), 1, "the replicas' label is gone: {answer}");
    assert!(series[0]["metric"].get("door").is_none(), "{answer}");
    let at_ms = |point: &serde_json::Value| (point[0].as_f64().unwrap() * 1_000.0).round() as i64;
    series[0]["values"].as_array().unwrap().iter().map(at_ms).collect()
}

#[tokio::test]
async fn of_a_pair_of_agents_one_is_stored_and_the_other_takes_over() {
    let failover = format!("{}s", FAILOVER.as_secs());
    let pharos = Pharos::builder()
        .option("--ingest-ha-replica-label", "door")
        .option("--ingest-ha-cluster-label", "job")
        .option("--ingest-ha-failover", &failover)
        .start()
        .await;
    let exporter = NodeExporter::start(pharos.folder()).await;
    let start =
        |replica| Agent::new(replica, &pharos.url("/api/v1/write"), pharos.token()).start(pharos.folder(), &exporter);
    let mut first = start("first");
    first.wait_until_ready().await;
    wait_for(&pharos, "up{job=\"node\"}", |found| found.len() == 1).await;
    let mut second = start("second");
    second.wait_until_ready().await;
    wait_for_own(&pharos, "pharos_ingest_ha_dropped_total", 1_000.0).await;
    // Both write for a while; one of them is seen.
    wait_for(&pharos, &format!("count_over_time(up{{job=\"node\"}}[{WINDOW}])"), |found| {
        found[0]["value"][1].as_str().is_some_and(|count| count.parse::<f64>().unwrap() >= 8.0)
    })
    .await;
    let seen = instants(&pharos).await;
    let closest = seen.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(closest >= 700, "scrapes of one agent are a second apart, not {closest} ms: {seen:?}");
    assert_eq!(own(&pharos, "pharos_ingest_ha_switches_total").await, 0.0);

    drop(first);
    wait_for_own(&pharos, "pharos_ingest_ha_switches_total", 1.0).await;
    wait_for(&pharos, &format!("count_over_time(up{{job=\"node\"}}[{WINDOW}])"), |found| {
        found[0]["value"][1].as_str().is_some_and(|count| count.parse::<usize>().unwrap() >= seen.len() + 4)
    })
    .await;
    let seen = instants(&pharos).await;
    let gap = seen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    let bound = (FAILOVER + SLACK).as_millis() as i64;
    assert!(gap <= bound, "{gap} ms without a sample, more than {bound}: {seen:?}");
    assert!(second.log().lines().all(|line| !line.contains("dropping")), "{}", second.log());
}

/// What vmagent is answered 413 it repeats for ever, and with one queue nothing else ever leaves it.
#[tokio::test]
async fn a_block_that_is_too_large_does_not_stop_the_queue_of_vmagent() {
    let pharos = Pharos::builder().option("--ingest-limits-body-max", "64KiB").start().await;
    let mut agent = Agent::new("pushed", &pharos.url("/api/v1/write"), pharos.token()).start_pushed(pharos.folder());
    agent.wait_until_ready().await;
    agent.push("before 1\n".to_owned()).await;
    wait_for(&pharos, "before", |found| found.len() == 1).await;
    let line = |at: usize| format!("large{{at=\"{at}\",padding=\"{}\"}} 1\n", "x".repeat(200));
    agent.push((0..2_000).map(line).collect()).await;
    let begun = std::time::Instant::now();
    let dropped = "vmagent_remotewrite_packets_dropped_total";
    while agent.count(dropped, "").await == 0.0 {
        assert!(begun.elapsed() < Duration::from_mins(1), "it repeats the block\n{}", agent.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agent.push("after 1\n".to_owned()).await;
    wait_for(&pharos, "after", |found| found.len() == 1).await;
    assert_eq!(agent.count("vmagent_remotewrite_requests_total", "status_code=\"413\"").await, 0.0);
    assert_eq!(pharos.query("count(large)", now_ms() as f64 / 1_000.0).await, json!([]), "a block is dropped whole");
}

/// Prometheus' own sender; Go keeps what it has built.
fn sender(folder: &Path) -> PathBuf {
    let program = folder.join("prometheus-sender");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus-sender");
    let built = Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
    let built = built.expect("go can be started: run `make sdks`");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

/// Sends its workload with one version; what its own metrics say of it.
async fn send_as_prometheus(program: &Path, pharos: &Pharos, message: &str) -> Value {
    let mut command = tokio::process::Command::new(program);
    command.args(["-url", &pharos.url("/api/v1/write"), "-token", pharos.token(), "-message", message]);
    let output = command.env("NO_PROXY", "127.0.0.1").kill_on_drop(true).output().await.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}: {said}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("it tells its counters");
    for what in ["samples", "histograms", "exemplars"] {
        for end in ["failed", "retried"] {
            assert_eq!(told[format!("{what}_{end}_total")], 0.0, "{message}: {what} {end}: {told}\n{said}");
        }
    }
    told
}

/// The raw series of a selector, without their instants: labels, and values or histograms.
async fn raw(pharos: &Pharos, selector: &str) -> Vec<Value> {
    let answer = pharos.query(&format!("{selector}[10m]"), now_ms() as f64 / 1_000.0).await;
    let of = |series: &Value| {
        let points = |key: &str| series[key].as_array().into_iter().flatten().map(|point| point[1].clone()).collect();
        let (values, histograms): (Vec<Value>, Vec<Value>) = (points("values"), points("histograms"));
        json!({"metric": series["metric"], "values": values, "histograms": histograms})
    };
    answer.as_array().unwrap().iter().map(of).collect()
}

/// Nothing that the queue manager sends is refused or counted as lost, exemplars without samples included, and all of it is
/// what comes back. 2.0 tells types, units and starts as well.
#[tokio::test]
async fn the_queue_manager_of_prometheus_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let program = sender(scratch.path());
    for (message, is_new) in [("prometheus.WriteRequest", false), ("io.prometheus.write.v2.Request", true)] {
        let pharos = Pharos::builder()
            .option("--ingest-remote-write-created-zero", "true")
            .option("--ingest-remote-write-type-and-unit-labels", "true")
            .start()
            .await;
        let told = send_as_prometheus(&program, &pharos, message).await;
        // 1.0 has no word for custom buckets: its queue drops them before they are sent.
        let histograms = if is_new { 2.0 } else { 1.0 };
        let sent = ["samples_total", "histograms_total"].map(|count| told[count].as_f64());
        assert_eq!(sent, [Some(5.0), Some(histograms)], "{message}");
        let labels = |name: &str, kind: &str, unit: &str| {
            let mut labels = json!({"__name__": name, "job": "sender", "city": "Zürich 東京"});
            for (label, value) in [("__type__", kind), ("__unit__", unit)] {
                if is_new && !value.is_empty() {
                    labels[label] = json!(value);
                }
            }
            labels
        };
        let floats =
            |labels: Value, values: &[&str]| vec![json!({"metric": labels, "values": values, "histograms": []})];
        // It was born before the server was: no zero is put where it may have been counting.
        let counter = floats(labels("sent_total", "counter", "bytes"), &["3", "5", "8"]);
        assert_eq!(raw(&pharos, "sent_total").await, counter, "{message}");
        let gauge = floats(labels("room_celsius", "gauge", "celsius"), &["-18.5"]);
        assert_eq!(raw(&pharos, "room_celsius").await, gauge, "{message}");
        assert_eq!(raw(&pharos, "not_a_number").await, floats(labels("not_a_number", "", ""), &["NaN"]), "{message}");
        let custom = is_new.then_some(("custom", "", "5", "9", 3));
        for (name, unit, count, sum, buckets) in [("size", "bytes", "7", "12.5", 5)].into_iter().chain(custom) {
            let found = raw(&pharos, name).await;
            assert_eq!((found.len(), &found[0]["metric"]), (1, &labels(name, "histogram", unit)), "{message}");
            let histogram = &found[0]["histograms"][0];
            assert_eq!((&histogram["count"], &histogram["sum"]), (&json!(count), &json!(sum)), "{message} {histogram}");
            assert_eq!(histogram["buckets"].as_array().map(Vec::len), Some(buckets), "{message} {histogram}");
        }
        let exemplars = pharos.get(&format!("/api/v1/query_exemplars?query=sent_total&start=0&end={}", now_ms())).await;
        let exemplar = &exemplars.1["data"][0]["exemplars"][0];
        assert_eq!(
            (&exemplar["labels"], &exemplar["value"]),
            (&json!({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}), &json!("2")),
            "{message} {exemplars:?}"
        );
        let metadata = pharos.get("/api/v1/metadata?metric=sent_total").await.1["data"].clone();
        let expected = json!({"sent_total": [{"type": "counter", "unit": "bytes", "help": "Help of sent_total."}]});
        assert_eq!(metadata, if is_new { expected } else { json!({}) }, "{message}");
    }
}

/// A sender of 2.0 takes an answer without these headers for one that lost data; the one here never gets to the door.
#[tokio::test]
async fn strangers_are_told_that_nothing_was_written() {
    let data = tempfile::tempdir().unwrap();
    let reader = Pharos::new_token_in(data.path(), "reader", "metrics:read", "*");
    let pharos = Pharos::builder().data_dir(data.path()).start().await;
    for (token, status) in [("", 401), ("not-the-token", 401), (reader.as_str(), 403)] {
        let request = pharos.client().post(pharos.url("/api/v1/write")).body("anything");
        let answer = if token.is_empty() { request } else { request.bearer_auth(token) }.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        for what in ["samples", "histograms", "exemplars"] {
            let header = format!("x-prometheus-remote-write-{what}-written");
            assert_eq!(answer.headers().get(&header).map(HeaderValue::as_bytes), Some(&b"0"[..]), "{status} {what}");
        }
    }
}
