//! What stands in a query twice is read once, and that shows in nothing else.

use pharos_storage::Capabilities;
use pharos_storage::conformance::Claiming;

use super::*;

fn store() -> Arc<MemoryMetricStore> {
    let store = MemoryMetricStore::new();
    let mut batch = BatchBuilder::new();
    for (name, job) in [("a_total", "x"), ("a_total", "y"), ("b_total", "x"), ("gauge", "x")] {
        for (timestamp_ms, value) in every(10_000, 90, |at| (at * at % 17) as f64 * 0.1) {
            batch.push_sample(Sample { timestamp_ms, value }, 0);
        }
        batch.finish_series_encoded(&Labels::from_pairs([(METRIC_NAME, name), ("job", job)]).unwrap());
    }
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    Arc::new(store)
}

/// The leaves that a query reads.
fn leaves(query: &str, change: impl Fn(&mut EngineSettings)) -> usize {
    let store = Arc::new(Claiming::new(store(), Capabilities::exact()));
    let mut settings = EngineSettings { cache_bytes_max: 0, ..settings() };
    change(&mut settings);
    let engine = Engine::new(Arc::clone(&store) as _, settings);
    let steps = StepRange { start_ms: 100_000, end_ms: 700_000, step_ms: 30_000 };
    let answer = range(&engine, query, steps).unwrap();
    let read = store.asked().len();
    // Counted step by step, each part is evaluated for itself.
    let options = QueryOptions { step_counts: true, ..QueryOptions::default() };
    let unshared = engine.range(&TenantId::default(), query, steps, &options).unwrap();
    let told = |result: &QueryResult| format!("{:?} {:?}", result.value, result.annotations);
    assert_eq!(told(&answer), told(&unshared), "{query}");
    assert_eq!(answer.stats.samples_queryable, unshared.stats.samples_queryable, "{query}");
    drop((answer, unshared));
    assert_eq!(engine.memory_used_bytes(), 0);
    read
}

#[test]
fn a_part_that_stands_twice_is_read_once() {
    for (query, expected) in [
        ("sum(rate(a_total[1m])) / (sum(rate(a_total[1m])) + sum(rate(b_total[1m])))", 2),
        ("sum(rate(a_total[1m])) / (sum(rate(a_total[1m])) + sum(rate(a_total{job=\"x\"}[1m])))", 2),
        ("rate(a_total[1m]) > 0.1 and rate(a_total[1m]) < 0.5", 1),
        ("abs(a_total - 1) + abs(a_total - 1)", 1),
        // The larger part is one.
        ("(sum(a_total) + sum(b_total)) / (sum(a_total) + sum(b_total))", 2),
        ("(sum(a_total) + sum(b_total)) / (sum(a_total) + sum(b_total)) + sum(a_total)", 3),
        ("sum(a_total @ 300) + sum(a_total @ 300)", 1),
        ("max_over_time(sum(a_total)[2m:30s]) - min_over_time(sum(a_total)[2m:30s])", 1),
        ("sum by (job) (a_total) / on () group_left sum(sum by (job) (a_total))", 1),
        ("topk(1, a_total) or topk(1, a_total)", 1),
    ] {
        assert_eq!(leaves(query, |_| {}), expected, "{query}");
    }
}

#[test]
fn what_differs_is_read_for_itself() {
    for (query, expected) in [
        // Selectors are as cheap as copies, and operators look at them.
        ("timestamp(a_total) - a_total", 2),
        // What is added up by the store is not copied out of it.
        ("rate(a_total[1m]) / on () group_left sum(rate(a_total[1m]))", 2),
        ("sum(a_total) + sum(a_total offset 1m)", 2),
        ("sum(a_total) + sum by (job) (a_total)", 2),
        ("sum(a_total) + sum(a_total @ 300)", 2),
        ("max_over_time(sum(a_total)[2m:30s]) - max_over_time(sum(a_total)[3m:30s])", 2),
        ("max_over_time(sum(a_total)[2m:30s]) - sum(a_total)", 2),
        // Each place has a note of its own.
        ("sum(rate(gauge[1m])) + sum(rate(gauge[1m]))", 2),
    ] {
        assert_eq!(leaves(query, |_| {}), expected, "{query}");
    }
    let small = |settings: &mut EngineSettings| settings.memory_bytes_max = 6 << 10;
    assert_eq!(leaves("abs(a_total) + abs(a_total)", |_| {}), 1);
    assert_eq!(leaves("abs(a_total) + abs(a_total)", small), 2, "too large to keep");
}
