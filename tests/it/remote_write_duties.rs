//! Remote write with real senders, beside the duties that `crates/api-ingest/tests/it/remote_write_duties.rs` lists: a pair of
//! agents that scrape the same, of which one dies.

use std::time::Duration;

use pharos_testkit::Pharos;

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
