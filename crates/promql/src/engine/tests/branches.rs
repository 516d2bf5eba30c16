//! Parts of a plan on several threads: when there are any, and what is left of them.

use std::time::Duration;

use pharos_storage::Capabilities;
use pharos_storage::conformance::Claiming;

use super::*;

/// So many counters with a sample every fifteen seconds for ten minutes.
fn counters(count: usize) -> Arc<MemoryMetricStore> {
    let names: Vec<String> = (0..count).map(|at| at.to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("i", name.as_str())]).collect();
    let series: Vec<SeriesSpec<'_>> = labels
        .iter()
        .enumerate()
        .map(|(at, labels)| {
            let samples = (0..40).map(|tick: i64| (tick * 15_000, (tick * (at as i64 % 7 + 1)) as f64)).collect();
            ("c_total", &labels[..], samples)
        })
        .collect();
    store_with(&series)
}

const STEPS: StepRange = StepRange { start_ms: 0, end_ms: 600_000, step_ms: 10_000 };

fn threads(engine: &Engine, query: &str) -> usize {
    let result = engine.range(&TenantId::default(), query, STEPS, &QueryOptions::default()).unwrap();
    result.stats.threads
}

#[test]
fn only_what_is_large_is_worth_several_threads() {
    let helpers = Helpers::new(3);
    let engine = |store, branch_work_min| {
        let settings = EngineSettings { branch_work_min, cache_bytes_max: 0, ..settings() };
        Engine::new(store, settings).with_helpers(helpers.clone())
    };
    let store: Arc<dyn MetricStore> = counters(100);
    // A hundred series of some 40 samples, 61 steps of the leaf and as many of the answer, and a hundred for all else.
    let small = engine(Arc::clone(&store), EngineSettings::default().branch_work_min);
    assert_eq!(threads(&small, "stddev(rate(c_total[1m]))"), 1);
    for (work_min, expected) in [(40_000, 1), (20_000, 2), (10_000, 3), (1, 4)] {
        assert_eq!(threads(&engine(Arc::clone(&store), work_min), "stddev(rate(c_total[1m]))"), expected);
    }
    // What others have is not there.
    let large = engine(store, 1);
    let lent = helpers.lend(2, 0);
    assert_eq!(threads(&large, "c_total * 2"), 2);
    let all = helpers.lend(1, 0);
    assert_eq!(threads(&large, "c_total * 2"), 1);
    drop((lent, all));
    assert_eq!((threads(&large, "c_total * 2"), helpers.lent()), (4, 0));
    // Nor is there a way to cut these.
    for query in ["vector(1)", "time()", "absent_over_time(c_total[1m])"] {
        assert_eq!(threads(&large, query), 1, "{query}");
    }
}

#[test]
fn queries_that_stop_leave_no_thread_behind() {
    let helpers = Helpers::new(3);
    let settings = EngineSettings { branch_work_min: 1, ..settings() };
    let store = Claiming::new(counters(200), Capabilities::raw());
    let engine = Engine::new(Arc::new(store), settings).with_helpers(helpers.clone());
    let steps = StepRange { start_ms: 0, end_ms: 600_000, step_ms: 10 };
    for query in ["stddev_over_time(c_total[10m])", "c_total / on (i) deriv(c_total[10m])"] {
        for timeout_ms in [0, 1, 5, 20] {
            let timeout = Some(Duration::from_millis(timeout_ms));
            let options = QueryOptions { timeout, ..QueryOptions::default() };
            let result = engine.range(&TenantId::default(), query, steps, &options);
            assert!(matches!(result, Err(QueryError::Interrupted(_))), "{query} within {timeout_ms} ms");
            assert_eq!((engine.memory_used_bytes(), helpers.lent()), (0, 0), "{query} after {timeout_ms} ms");
        }
    }
    // Series that become alike end it in the middle.
    let error = range(&engine, "label_replace(c_total, \"i\", \"x\", \"i\", \".*\")", STEPS).unwrap_err();
    assert_eq!(error.to_string(), "vector cannot contain metrics with the same labelset");
    assert_eq!((engine.memory_used_bytes(), helpers.lent()), (0, 0));
}
