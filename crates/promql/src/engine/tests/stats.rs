//! What a query says it cost.

use pharos_storage::Capabilities;
use pharos_storage::conformance::Claiming;

use super::*;
use crate::engine::{QueryStats, StepCounts};

/// Two counters, a sample each 10 s for 10 minutes.
fn store() -> Arc<MemoryMetricStore> {
    let store = MemoryMetricStore::new();
    let mut batch = BatchBuilder::new();
    for job in ["a", "b"] {
        for (timestamp_ms, value) in every(10_000, 60, |at| at as f64) {
            batch.push_sample(Sample { timestamp_ms, value }, 0);
        }
        batch.finish_series_encoded(&Labels::from_pairs([(METRIC_NAME, "m_total"), ("job", job)]).unwrap());
    }
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    Arc::new(store)
}

fn cost(engine: &Engine, query: &str, step_counts: bool) -> QueryStats {
    let options = QueryOptions { step_counts, no_cache: true, ..QueryOptions::default() };
    let steps = StepRange { start_ms: 100_000, end_ms: 160_000, step_ms: 20_000 };
    engine.range(&TenantId::default(), query, steps, &options).unwrap().stats
}

#[test]
fn samples_are_counted_step_by_step() {
    let engine = Engine::new(store(), settings());
    for (query, queryable, read) in [
        ("m_total", [2, 2, 2, 2], [2, 2, 2, 2]),
        ("m_total + m_total", [4, 4, 4, 4], [4, 4, 4, 4]),
        ("nothing", [0; 4], [0; 4]),
        ("time()", [0; 4], [0; 4]),
        // Windows of 5 samples, of which each step but the first brings 2.
        ("rate(m_total[50s])", [10, 10, 10, 10], [10, 4, 4, 4]),
        ("sum(stddev_over_time(m_total{job=\"a\"}[50s]))", [5, 5, 5, 5], [5, 2, 2, 2]),
        // Evaluated once, told at every step, read at the first.
        ("m_total @ 100", [2, 2, 2, 2], [2, 0, 0, 0]),
        ("sum(increase(m_total[50s] @ 100))", [10, 10, 10, 10], [10, 0, 0, 0]),
        ("m_total - on (job) (m_total @ 100)", [4, 4, 4, 4], [4, 2, 2, 2]),
        // As Prometheus 3.14 counts: results of a subquery where windows look at them, what they are made of where it is
        // first needed, and not at all between windows.
        ("rate(m_total[5s])", [2, 2, 2, 2], [2, 2, 2, 2]),
        ("rate(m_total[15s])", [4, 4, 4, 4], [4, 4, 4, 4]),
        ("max_over_time(m_total[30s:10s])", [6, 6, 6, 6], [6, 4, 4, 4]),
        ("absent_over_time(m_total[30s:10s])", [6, 6, 6, 6], [6, 4, 4, 4]),
        ("max_over_time(m_total[10s:5s])", [4, 4, 4, 4], [4, 4, 4, 4]),
        ("max_over_time(m_total[15s:10s])", [4, 4, 4, 4], [4, 4, 4, 4]),
        ("max_over_time(m_total[30s:10s] offset 10s)", [6, 6, 6, 6], [6, 4, 4, 4]),
        ("max_over_time(m_total[30s:10s] offset 7s)", [6, 6, 6, 6], [6, 4, 4, 4]),
        ("max_over_time(m_total[30s:10s] @ 100)", [6, 6, 6, 6], [6, 0, 0, 0]),
        ("avg_over_time(rate(m_total[50s])[40s:10s])", [8, 8, 8, 8], [16, 4, 4, 4]),
        ("avg_over_time(rate(m_total[20s])[40s:30s])", [2, 4, 2, 2], [4, 4, 0, 4]),
        ("max_over_time(max_over_time(m_total[20s:10s])[40s:20s])", [4, 4, 4, 4], [8, 4, 4, 4]),
        ("max_over_time(max_over_time(m_total[20s:10s])[15s:5s] offset 5s)", [6, 6, 6, 6], [6, 2, 2, 2]),
        ("max_over_time((m_total @ 100)[30s:10s])", [6, 6, 6, 6], [2, 0, 0, 0]),
        ("max_over_time((m_total + m_total @ 100)[30s:10s])", [6, 6, 6, 6], [8, 4, 4, 4]),
        ("max_over_time(max_over_time(m_total[20s:10s] @ 100)[40s:20s])", [4, 4, 4, 4], [4, 0, 0, 0]),
        ("sum(m_total) + max_over_time(m_total[30s:10s])", [8, 8, 8, 8], [8, 6, 6, 6]),
    ] {
        let stats = cost(&engine, query, true);
        let expected = StepCounts { queryable: queryable.to_vec(), read: read.to_vec() };
        assert_eq!(stats.steps, Some(expected), "{query}");
        assert_eq!(stats.samples_queryable, queryable.iter().sum::<u64>(), "{query}");
    }
}

#[test]
fn totals_do_not_depend_on_who_evaluates() {
    let engines = [Capabilities::exact(), Capabilities::raw()]
        .map(|capabilities| Engine::new(Arc::new(Claiming::new(store(), capabilities)), settings()));
    for query in [
        "m_total",
        "m_total @ 100",
        "sum(m_total @ 100) + sum(m_total)",
        "rate(m_total[50s])",
        "rate(m_total[50s] @ end())",
        "sum by (job) (rate(m_total[50s]))",
        "sum(rate(m_total[50s] @ 90)) / count(m_total)",
        "avg_over_time(rate(m_total[50s])[40s:10s])",
        "avg_over_time(rate(m_total[50s])[40s:10s] @ 100)",
        "sum(rate(m_total[50s] smoothed))",
    ] {
        let counted = |stats: QueryStats| (stats.series_read, stats.samples_read, stats.samples_queryable);
        let step_by_step = cost(&engines[0], query, true);
        let in_steps = step_by_step.steps.as_ref().unwrap().queryable.iter().sum::<u64>();
        assert_eq!(in_steps, step_by_step.samples_queryable, "{query}");
        let expected = counted(step_by_step);
        for engine in &engines {
            let stats = cost(engine, query, false);
            assert_eq!(stats.steps, None);
            assert_eq!(counted(stats), expected, "{query}");
        }
    }
}

/// What Prometheus 3.14 says of instant queries over the same samples.
#[test]
fn instant_queries_for_windows_and_subqueries_are_counted() {
    let engine = Engine::new(store(), settings());
    for (query, queryable, read) in [
        ("m_total", 2, 2),
        ("m_total[30s]", 6, 6),
        ("m_total[30s:10s]", 6, 6),
        ("m_total[30s:10s] offset 5s", 6, 6),
        ("m_total[30s:10s] @ 90", 6, 6),
        ("rate(m_total[50s])[30s:10s]", 30, 14),
        ("max_over_time(m_total[20s:10s])[30s:10s]", 12, 8),
        ("max_over_time(m_total[30s:10s])", 6, 6),
        ("sum(max_over_time(rate(m_total[20s])[30s:10s]))", 6, 8),
    ] {
        let options = QueryOptions { step_counts: true, ..QueryOptions::default() };
        let stats = engine.instant(&TenantId::default(), query, 160_000, &options).unwrap().stats;
        assert_eq!(stats.steps, Some(StepCounts { queryable: vec![queryable], read: vec![read] }), "{query}");
        let plain = engine.instant(&TenantId::default(), query, 160_000, &QueryOptions::default()).unwrap().stats;
        assert_eq!((stats.samples_queryable, plain.samples_queryable), (queryable, queryable), "{query}");
    }
}
