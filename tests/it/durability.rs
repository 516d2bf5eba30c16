//! What was acknowledged survives `kill -9`, again and again, in the middle of the load.

use std::time::{Duration, Instant};

use pharos_testkit::Pharos;
use serde_json::Value;

use crate::loadgen;

const ROUNDS: usize = 20;
/// How long the server lives in each round.
const LIFE: Duration = Duration::from_millis(400);

/// Kills and restarts the server `ROUNDS` times; returns the longest restart.
async fn torment(pharos: &mut Pharos) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        tokio::time::sleep(LIFE).await;
        pharos.kill();
        let begun = Instant::now();
        pharos.restart().await;
        longest = longest.max(begun.elapsed());
    }
    longest
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970").as_secs()
}

#[tokio::test]
async fn acknowledged_samples_survive_kill_9() {
    let mut pharos = Pharos::builder().start().await;
    let (start, token) = ((now_s() - 3_600).to_string(), pharos.token().to_owned());
    let shape = ["--series", "2400", "--interval", "15s", "--span", "50m", "--start", &start, "--seed", "7"];
    let url = pharos.url("/api/v1/write");
    let push = ["metrics", "--url", &url, "--token", &token, "--retries", "400", "--rate", "30000", "--batch", "1200"];
    let load = loadgen::start(&[&push[..], &shape[..]].concat());
    torment(&mut pharos).await;
    let report = load.report().await;
    assert_eq!(report["accepted"], report["sent"], "{report}");
    assert!(report["retries"].as_u64().unwrap_or(0) >= 5, "the kills must hit the load: {report}");
    pharos.kill();
    pharos.restart().await;
    let base = pharos.url("");
    let verify = ["verify", "--url", &base, "--token", &token, "--values", "50"];
    loadgen::start(&[&verify[..], &shape[..]].concat()).report().await;
    let (status, _) = pharos.post("/-/compact", "text/plain", "").await;
    assert_eq!(status, 200, "{}", pharos.log());
    loadgen::start(&[&verify[..], &shape[..]].concat()).report().await;
}

#[tokio::test]
async fn acknowledged_spans_survive_kill_9() {
    let mut pharos = Pharos::builder().start().await;
    let (start, token) = (now_s() - 3_600, pharos.token().to_owned());
    let (url, start_text) = (pharos.url("/v1/traces"), start.to_string());
    let load = loadgen::start(&[
        "traces",
        "--url",
        &url,
        "--token",
        &token,
        "--retries",
        "400",
        "--rate",
        "4000",
        "--batch",
        "100",
        "--traces",
        "6000",
        "--spans-per-trace",
        "10",
        "--start",
        &start_text,
        "--span-of-time",
        "50m",
    ]);
    torment(&mut pharos).await;
    let report = load.report().await;
    assert_eq!(report["accepted"], report["sent"], "{report}");
    assert!(report["retries"].as_u64().unwrap_or(0) >= 5, "the kills must hit the load: {report}");
    pharos.kill();
    pharos.restart().await;
    let found = summaries(&pharos, start).await;
    assert_eq!(found.len(), 6_000, "every trace is found by search");
    for summary in &found {
        assert_eq!(summary["spanCount"], 10, "every span of it is there: {summary}");
    }
    for some in found.chunks(100) {
        let ids = some.iter().map(|summary| format!("traceID={}", summary["traceId"].as_str().expect("an id")));
        let (status, answer) = pharos.get(&format!("/api/traces?{}", ids.collect::<Vec<_>>().join("&"))).await;
        assert_eq!((status, &answer["errors"]), (200, &Value::Null), "every trace is read by id");
        let traces = answer["data"].as_array().expect("traces are listed");
        assert_eq!(traces.len(), some.len());
        assert!(traces.iter().all(|trace| trace["spans"].as_array().map(Vec::len) == Some(10)));
    }
}

/// All traces of the hour from `start_s`.
async fn summaries(pharos: &Pharos, start_s: u64) -> Vec<Value> {
    let window = format!("query.startTimeMin={}&query.startTimeMax={}", instant(start_s - 1), instant(start_s + 3_600));
    let (status, answer) = pharos.get(&format!("/api/v3/trace-summaries?{window}&query.searchDepth=10000")).await;
    assert_eq!(status, 200, "{answer}");
    answer["summaries"].as_array().cloned().unwrap_or_default()
}

/// RFC 3339 of whole Unix seconds.
fn instant(unix_s: u64) -> String {
    let unix_s = i64::try_from(unix_s).expect("it is before the end of time");
    jiff::Timestamp::from_second(unix_s).expect("it is a time").to_string()
}
