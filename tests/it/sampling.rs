//! Tail sampling in the running server: metrics of everything, traces of what the policies want, through a kill.

use std::time::Duration;

use pharos_testkit::Pharos;

use crate::durability;
use crate::span_metrics::{send, wait_for};

fn builder(wait: &str) -> pharos_testkit::PharosBuilder {
    Pharos::builder()
        .option("--span-metrics-flush-interval", "1s")
        .option("--tail-sampling-enabled", "true")
        .option("--tail-sampling-decision-wait", wait)
        .option(
            "--tail-sampling-policies",
            r#"[{"name": "errors", "rule": {"type": "status_code", "codes": ["ERROR"]}}]"#,
        )
}

/// How many spans of trace `number` are answered.
async fn spans_of(pharos: &Pharos, number: u8) -> usize {
    let (status, answer) = pharos.get(&format!("/api/traces/{}", format!("{number:02x}").repeat(16))).await;
    assert!(status == 200 || status == 404, "{answer}");
    answer["data"][0]["spans"].as_array().map_or(0, Vec::len)
}

/// Waits until every other trace, which has an error, is there as a whole.
async fn wait_for_the_failed(pharos: &Pharos) {
    for _ in 0..200 {
        let mut whole = 0;
        for number in (2..=10).step_by(2) {
            whole += usize::from(spans_of(pharos, number).await == 4);
        }
        if whole == 5 {
            for number in (1..=10).step_by(2) {
                assert_eq!(spans_of(pharos, number).await, 0, "trace {number} has no error");
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the traces with errors did not come:\n{}", pharos.log());
}

#[tokio::test]
async fn failed_traces_are_kept_and_all_are_counted() {
    let pharos = builder("2s").start().await;
    send(&pharos).await;
    assert_eq!(spans_of(&pharos, 2).await, 0, "it waits");
    wait_for_the_failed(&pharos).await;
    wait_for(&pharos, "sum(traces_span_metrics_calls_total)", 40.0).await;
    let (_, metrics) = pharos.get("/metrics").await;
    for line in ["pharos_sampling_traces_kept_total 5", "pharos_sampling_traces_dropped_total 5"] {
        assert!(metrics.as_str().unwrap().contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn spans_that_wait_survive_a_kill() {
    let mut pharos = builder("3s").start().await;
    send(&pharos).await;
    pharos.kill();
    pharos.restart().await;
    wait_for_the_failed(&pharos).await;
}

/// The same with a gate before the store: kills meet requests in its log, traces that wait and traces on their way.
#[tokio::test]
async fn acknowledged_spans_that_a_policy_wants_survive_kill_9() {
    let builder = Pharos::builder()
        .option("--tail-sampling-enabled", "true")
        .option("--tail-sampling-decision-wait", "300ms")
        .option("--tail-sampling-log-segment", "64KiB")
        .option("--tail-sampling-policies", r#"[{"name": "all", "rule": {"type": "always"}}]"#);
    durability::spans_survive(builder).await;
}

/// A trace that waits is deleted: neither its time nor a restart brings it.
#[tokio::test]
async fn a_trace_that_waits_can_be_deleted() {
    let mut pharos = builder("3s").start().await;
    send(&pharos).await;
    let gone = "02".repeat(16);
    let (status, answer) = pharos.post(&format!("/api/v1/admin/traces/delete?trace_id={gone}"), "text/plain", "").await;
    assert!(status < 300, "{status} {answer}");
    pharos.kill();
    pharos.restart().await;
    for _ in 0..200 {
        if spans_of(&pharos, 4).await == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((spans_of(&pharos, 4).await, spans_of(&pharos, 2).await), (4, 0), "{}", pharos.log());
}
