//! Debian's exporter, agent and server as neighbours: `vmagent` and `prometheus` scrape `prometheus-node-exporter` and write
//! to Pharos; what Prometheus answers about these samples, Pharos answers too.

pub(crate) mod compare;
pub(crate) mod programs;
mod queries;
mod recorded;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pharos_testkit::Pharos;
use serde_json::Value;

use compare::{Comparison, Server, free_phase_ms};
use programs::{Agent, NodeExporter, PrometheusServer};
use queries::{INSTANT_QUERIES, Moment, RANGE_QUERIES};

use crate::otlp::now_ms;

/// How long data may take from an exporter to an answer.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);
/// Samples that Prometheus shall have before the first question: the longest window of the table at the first step of the
/// ranges, and some more, so that no series begins inside a window: how far a rate is then extrapolated has changed in 3.x.
const HISTORY_MS: i64 = 30_000;
/// The ranges that are asked for, before the end.
const RANGE_MS: i64 = 8_000;

/// Asks until `found` is content with the answer.
pub(crate) async fn wait_for(pharos: &Pharos, query: &str, found: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let answer = pharos.query(query, now_ms() as f64 / 1_000.0).await;
        let result = answer.as_array().cloned().unwrap_or_default();
        if found(&result) {
            return result;
        }
        assert!(begun.elapsed() < ARRIVAL_MAX, "{query}: still {answer}\n{}", pharos.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn vmagent_writes_what_the_node_exporter_tells_through_both_doors() {
    let pharos = Pharos::builder().start().await;
    let exporter = NodeExporter::start(pharos.folder()).await;
    let doors = [("main", "/api/v1/write"), ("insert", "/insert/0/prometheus/api/v1/write")];
    let agents =
        doors.map(|(door, path)| Agent::new(door, &pharos.url(path), pharos.token()).start(pharos.folder(), &exporter));
    for (mut agent, (door, _)) in agents.into_iter().zip(doors) {
        agent.wait_until_ready().await;
        let matched = format!("job=\"node\",door=\"{door}\"");
        wait_for(&pharos, &format!("up{{{matched}}}"), |found| found.len() == 1 && found[0]["value"][1] == "1").await;
        wait_for(&pharos, &format!("count_over_time(node_load1{{{matched}}}[1m])"), |found| {
            found
                .first()
                .and_then(|series| series["value"][1].as_str()?.parse::<f64>().ok())
                .is_some_and(|count| count >= 3.0)
        })
        .await;
        // Everything on the exporter's page is there, and what does not change has the value that the page shows.
        let page = exporter.page().await;
        let listed = pharos.query(&format!("{{{matched}}}"), now_ms() as f64 / 1_000.0).await;
        let found: BTreeSet<&str> =
            listed.as_array().into_iter().flatten().filter_map(|one| one["metric"]["__name__"].as_str()).collect();
        let missing: Vec<&String> = page.names.iter().filter(|name| !found.contains(name.as_str())).collect();
        assert!(page.names.len() > 100 && missing.is_empty(), "{door}: missing {missing:?}");
        for (name, value) in &page.constants {
            let answer = pharos.query(&format!("{name}{{{matched}}}"), now_ms() as f64 / 1_000.0).await;
            let got = answer[0]["value"][1].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
            // vmagent reads decimal numbers fast, the last bit may be another.
            assert!((got - value).abs() <= value * f64::EPSILON, "{door}: {name} is {got} instead of {value}");
        }
        assert!(agent.count("vmagent_remotewrite_requests_total", "status_code=\"2XX\"").await > 0.0, "{door}");
        assert_eq!(agent.count("vmagent_remotewrite_packets_dropped_total", "").await, 0.0, "{door}");
    }
}

#[tokio::test]
async fn vmagent_with_a_wrong_token_brings_nothing_in_and_waits_while_pharos_is_away() {
    let mut pharos = Pharos::builder().start().await;
    let exporter = NodeExporter::start(pharos.folder()).await;
    let url = pharos.url("/api/v1/write");
    let mut stranger = Agent::new("stranger", &url, "not-the-token").start(pharos.folder(), &exporter);
    let mut agent = Agent::new("main", &url, pharos.token()).start(pharos.folder(), &exporter);
    stranger.wait_until_ready().await;
    agent.wait_until_ready().await;
    wait_for(&pharos, "up{job=\"node\",door=\"main\"}", |found| found.len() == 1).await;
    let begun = Instant::now();
    while stranger.count("vmagent_remotewrite_requests_total", "status_code=\"401\"").await == 0.0 {
        assert!(begun.elapsed() < ARRIVAL_MAX, "nothing is refused:\n{}", stranger.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(pharos.query("{door=\"stranger\"}", now_ms() as f64 / 1_000.0).await, serde_json::json!([]));

    // What is scraped while Pharos is away arrives afterwards: every second has its sample.
    let gone_at_ms = now_ms();
    pharos.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    pharos.restart().await;
    let back_at_ms = now_ms();
    let length_ms = back_at_ms - gone_at_ms;
    let query = format!("count_over_time(up{{door=\"main\"}}[{length_ms}ms] @ {})", back_at_ms as f64 / 1_000.0);
    let expected = (length_ms / 1_000) as f64;
    wait_for(&pharos, &query, |found| {
        found
            .first()
            .and_then(|series| series["value"][1].as_str()?.parse::<f64>().ok())
            .is_some_and(|count| count >= expected)
    })
    .await;
}

#[tokio::test]
async fn prometheus_and_pharos_answer_alike_about_what_prometheus_wrote() {
    let pharos = Pharos::builder().start().await;
    let exporter = NodeExporter::start(pharos.folder()).await;
    let prometheus =
        PrometheusServer::start(pharos.folder(), &exporter, &pharos.url("/api/v1/write"), pharos.token()).await;
    let theirs = Server::new(&prometheus.url(), None);
    let ours = Server::new(&pharos.url(""), Some(pharos.token()));
    let comparison = Comparison::new(&theirs, &ours);

    // Requests of every kind, so that their histograms and counters exist long before the first window.
    theirs.warm_up().await;
    tokio::time::sleep(Duration::from_millis(u64::try_from(HISTORY_MS).expect("it is positive"))).await;

    // Prometheus before 3.0 counts a sample at the left end of a window and Pharos, as 3.x, does not: no end may meet one.
    let phase_ms = free_phase_ms(&comparison.same_samples(now_ms() - 1_000, ARRIVAL_MAX).await);
    let end_ms = (now_ms() - 2_000) / 1_000 * 1_000 + phase_ms;
    let samples = comparison.same_samples(end_ms, ARRIVAL_MAX).await;
    assert!(samples.values().map(Vec::len).sum::<usize>() > 20_000, "{} series", samples.len());

    let moment = Moment { end_ms, phase_ms };
    let (mut wrong, mut empty, mut compared) = (Vec::new(), Vec::new(), 0);
    for template in INSTANT_QUERIES {
        let query = moment.fill(template);
        compared += 1;
        comparison.instant(&query, end_ms).await.sort_into(&mut wrong, &mut empty);
    }
    for template in INSTANT_QUERIES.iter().chain(RANGE_QUERIES) {
        let query = moment.fill(template);
        compared += 1;
        comparison.range(&query, end_ms - RANGE_MS, end_ms, 1_000).await.sort_into(&mut wrong, &mut empty);
    }
    for path in queries::LISTINGS {
        compared += 1;
        comparison.listing(&moment.fill(path)).await.sort_into(&mut wrong, &mut empty);
    }
    println!("{compared} answers of Prometheus and Pharos compared over {} series", samples.len());
    assert!(wrong.is_empty(), "{} of {compared} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    // Two empty answers prove nothing; a machine may lack a device, everything else is there.
    empty.retain(|query| !["node_network_", "node_filesystem_"].iter().any(|device| query.contains(device)));
    assert!(empty.is_empty(), "no answer at all to:\n{}", empty.join("\n"));
}
