//! What was acknowledged survives `kill -9`, again and again, in the middle of the load.
//!
//! `PHAROS_KILLS` says how often (20); `make kills KILLS=100` runs these tests alone.

mod disturb;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pharos_testkit::{Pharos, PharosBuilder};
use serde_json::Value;

use crate::loadgen;

const KILLS: usize = 20;
/// The server lives for a random time up to this in each round.
const LIFE_MAX_MS: u64 = 800;
/// The load goes on for about so long for each kill.
const SPAN_PER_KILL_S: u64 = 150;
/// As that, of traces.
const TRACES_PER_KILL: usize = 300;
/// Spans may wait for a sampling decision.
const VISIBLE_MAX: Duration = Duration::from_secs(30);
/// They are spread over two midnights.
const HOURS_OF_TRACES: u64 = 50;
/// Most traces that one search answers.
const SEARCH_DEPTH: usize = 10_000;

fn kills() -> usize {
    std::env::var("PHAROS_KILLS").map_or(KILLS, |text| text.parse().expect("PHAROS_KILLS is a number"))
}

/// Kills and restarts the server again and again; returns the longest restart.
async fn torment(pharos: &mut Pharos, kills: usize) -> Duration {
    let (mut longest, mut random) = (Duration::ZERO, now_s());
    eprintln!("seed {random}");
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((random >> 33) % LIFE_MAX_MS)).await;
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
    // Flushes and merges all the time, so that kills meet them.
    let busy = [
        ("flush-interval", "1s"),
        ("head-memory-max", "1MiB"),
        ("log-size-max", "1MiB"),
        ("log-segment-size", "64KiB"),
    ];
    let builder = Pharos::builder();
    let mut pharos = busy
        .iter()
        .fold(builder, |builder, (key, value)| builder.option(&format!("--tsdb-{key}"), value))
        .start()
        .await;
    let span_s = SPAN_PER_KILL_S * kills() as u64;
    let (start, span, token) = ((now_s() - span_s - 600).to_string(), format!("{span_s}s"), pharos.token().to_owned());
    let shape = ["--series", "2400", "--interval", "15s", "--span", &span, "--start", &start, "--seed", "7"];
    let url = pharos.url("/api/v1/write");
    let retries = (kills() * 20).to_string();
    let push =
        ["metrics", "--url", &url, "--token", &token, "--retries", &retries, "--rate", "30000", "--batch", "1200"];
    let load = loadgen::start(&[&push[..], &shape[..]].concat());
    let (disturbing, stop) = disturb::start(&pharos, disturb::OF_METRICS);
    let longest = torment(&mut pharos, kills()).await;
    let report = load.report().await;
    let _ = stop.send(());
    let ledger = disturbing.await.expect("it ends");
    println!("longest restart {longest:?}, {report}, answered {:?}", ledger.answered);
    assert_eq!(report["accepted"], report["sent"], "{report}");
    assert!(report["retries"].as_u64().unwrap_or(0) >= 5, "the kills must hit the load: {report}");
    assert!(ledger.is_full(disturb::OF_METRICS), "every request was answered now and then: {ledger:?}");
    pharos.kill();
    pharos.restart().await;
    let base = pharos.url("");
    let verify = ["verify", "--url", &base, "--token", &token, "--values", "50"];
    loadgen::start(&[&verify[..], &shape[..]].concat()).report().await;
    ledger.check(&pharos).await;
    let (status, _) = pharos.post("/-/compact", "text/plain", "").await;
    assert_eq!(status, 200, "{}", pharos.log());
    loadgen::start(&[&verify[..], &shape[..]].concat()).report().await;
    ledger.check(&pharos).await;
}

#[tokio::test]
async fn acknowledged_spans_survive_kill_9() {
    spans_survive(Pharos::builder()).await;
}

/// Kills the server under a load of spans: everything that was acknowledged is found by search and read by id, if not at once
/// then within [`VISIBLE_MAX`].
pub(crate) async fn spans_survive(builder: PharosBuilder) {
    // Seals and merges all the time, over several days, so that kills meet them.
    let busy = [("commit-interval", "50ms"), ("commit-spans", "500"), ("log-segment", "64KiB")];
    let mut pharos = busy
        .iter()
        .fold(builder, |builder, (key, value)| builder.option(&format!("--tracestore-{key}"), value))
        .start()
        .await;
    let (start, token) = (now_s() - HOURS_OF_TRACES * 3_600 - 600, pharos.token().to_owned());
    let span_of_time = format!("{HOURS_OF_TRACES}h");
    let (url, start_text) = (pharos.url("/v1/traces"), start.to_string());
    let traces = TRACES_PER_KILL * kills();
    let (count, retries) = (traces.to_string(), (kills() * 20).to_string());
    let load = loadgen::start(&[
        "traces",
        "--url",
        &url,
        "--token",
        &token,
        "--retries",
        &retries,
        "--rate",
        "4000",
        "--batch",
        "100",
        "--traces",
        &count,
        "--spans-per-trace",
        "10",
        "--start",
        &start_text,
        "--span-of-time",
        &span_of_time,
    ]);
    let (disturbing, stop) = disturb::start(&pharos, disturb::OF_TRACES);
    torment(&mut pharos, kills()).await;
    let report = load.report().await;
    let _ = stop.send(());
    let ledger = disturbing.await.expect("it ends");
    // A few kills may meet an operator who has hardly begun.
    let is_full = ledger.is_full(disturb::OF_TRACES) || kills() < KILLS;
    assert!(is_full, "every request was answered now and then: {ledger:?}");
    assert_eq!(report["accepted"], report["sent"], "{report}");
    assert!(report["retries"].as_u64().unwrap_or(0) >= 5, "the kills must hit the load: {report}");
    pharos.kill();
    pharos.restart().await;
    check_spans(&pharos, start, traces).await;
    ledger.check_traces(&pharos).await;
    let (status, _) = pharos.post("/-/compact", "text/plain", "").await;
    assert_eq!(status, 200, "{}", pharos.log());
    check_spans(&pharos, start, traces).await;
    ledger.check_traces(&pharos).await;
}

/// All traces of the load are there, by search and by id, each with all its spans.
async fn check_spans(pharos: &Pharos, start: u64, traces: usize) {
    let begun = Instant::now();
    let mut found = summaries(pharos, start).await;
    let is_whole = |found: &[Value]| found.len() == traces && found.iter().all(|summary| summary["spanCount"] == 10);
    while !is_whole(&found) && begun.elapsed() < VISIBLE_MAX {
        tokio::time::sleep(Duration::from_millis(500)).await;
        found = summaries(pharos, start).await;
    }
    assert_eq!(found.len(), traces, "every trace is found by search");
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

/// All traces of the load that begins at `start_s`, each once.
async fn summaries(pharos: &Pharos, start_s: u64) -> Vec<Value> {
    let mut found = BTreeMap::new();
    // A search answers so many, and no more: an hour at a time.
    for hour in 0..=HOURS_OF_TRACES {
        let from = start_s - 1 + hour * 3_600;
        let window = format!("query.startTimeMin={}&query.startTimeMax={}", instant(from), instant(from + 3_601));
        let (status, answer) =
            pharos.get(&format!("/api/v3/trace-summaries?{window}&query.searchDepth={SEARCH_DEPTH}")).await;
        assert_eq!(status, 200, "{answer}");
        let summaries = answer["summaries"].as_array().cloned().unwrap_or_default();
        assert!(summaries.len() < SEARCH_DEPTH, "the search may have left out some");
        found.extend(
            summaries.into_iter().map(|summary| (summary["traceId"].as_str().unwrap_or("").to_owned(), summary)),
        );
    }
    // Those of the operator are checked by the ledger.
    found.into_iter().filter(|(id, _)| !id.starts_with(disturb::VICTIM_TRACES)).map(|(_, summary)| summary).collect()
}

/// RFC 3339 of whole Unix seconds.
fn instant(unix_s: u64) -> String {
    let unix_s = i64::try_from(unix_s).expect("it is before the end of time");
    jiff::Timestamp::from_second(unix_s).expect("it is a time").to_string()
}
