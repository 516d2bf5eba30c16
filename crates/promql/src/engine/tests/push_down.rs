//! What a store computes by itself must not show: random series and queries, with push-down and without.

use pharos_model::{Histogram, StepRange, stale_nan};
use pharos_storage::conformance::Claiming;
use pharos_storage::{Aggregation, Capabilities, Precision, RangeFunction};
use proptest::prelude::*;

use super::*;

/// A sample: gap before it, value, and how long before the sample its count began (0: unknown).
type Point = (i64, f64, i64);

fn points() -> impl Strategy<Value = Vec<Point>> {
    let value = prop_oneof![
        8 => (0..50_i32).prop_map(f64::from),
        3 => -1e3..1e3_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(stale_nan()),
        1 => Just(-0.0),
        1 => Just(1e17),
    ];
    let start = prop_oneof![9 => Just(0), 1 => 1..100_000_i64];
    proptest::collection::vec((1..40_000_i64, value, start), 0..40)
}

#[derive(Debug, Clone)]
struct Spec {
    name: &'static str,
    job: &'static str,
    points: Vec<Point>,
    /// From this sample on the series has histograms.
    histograms_from: usize,
}

fn series() -> impl Strategy<Value = Vec<Spec>> {
    let name = prop_oneof![Just("a_total"), Just("a_total"), Just("b")];
    let histograms_from = prop_oneof![6 => Just(usize::MAX), 1 => 0..40_usize];
    let one = (name, prop_oneof![Just("x"), Just("y")], points(), histograms_from);
    let one = one.prop_map(|(name, job, points, histograms_from)| Spec { name, job, points, histograms_from });
    proptest::collection::vec(one, 0..7)
}

fn fill(specs: &[Spec]) -> Arc<MemoryMetricStore> {
    let store = MemoryMetricStore::new();
    let mut batch = BatchBuilder::new();
    for (index, spec) in specs.iter().enumerate() {
        let mut timestamp_ms = 0;
        for (at, (gap, value, start)) in spec.points.iter().enumerate() {
            timestamp_ms += gap;
            let start_ms = if *start == 0 { 0 } else { (timestamp_ms - start).max(1) };
            if at >= spec.histograms_from {
                batch.push_histogram(timestamp_ms, Histogram { count: at as f64, ..Histogram::empty(1) }, start_ms);
            } else {
                batch.push_sample(Sample { timestamp_ms, value: *value }, start_ms);
            }
        }
        let index = index.to_string();
        let pairs = [(METRIC_NAME, spec.name), ("job", spec.job), ("i", index.as_str())];
        batch.finish_series_encoded(&Labels::from_pairs(pairs).unwrap());
    }
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    Arc::new(store)
}

fn selector() -> impl Strategy<Value = String> {
    let matchers = prop_oneof![
        4 => Just("a_total"),
        2 => Just("b"),
        1 => Just("{__name__=~\"a_total|b\"}"),
        1 => Just("{job=\"x\"}"),
        1 => Just("a_total{job=\"x\"}"),
    ];
    matchers.prop_map(str::to_owned)
}

fn modifier() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(String::new()),
        2 => (-60..60_i32).prop_map(|seconds| format!(" offset {seconds}s")),
        1 => (0..400_i32).prop_map(|at| format!(" @ {at}")),
        1 => Just(" @ end()".to_owned()),
    ]
}

fn windowed() -> impl Strategy<Value = String> {
    let functions = "rate increase delta irate idelta sum_over_time avg_over_time min_over_time max_over_time \
                     count_over_time last_over_time changes resets stddev_over_time present_over_time";
    let functions: Vec<&str> = functions.split_whitespace().collect();
    let subquery = prop_oneof![6 => Just(""), 1 => Just(":17s")];
    (proptest::sample::select(functions), selector(), 1..150_i32, subquery, modifier()).prop_map(
        |(function, selector, range, subquery, modifier)| {
            format!("{function}({selector}[{range}s{subquery}]{modifier})")
        },
    )
}

fn grouping() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just(" by (job)"), Just(" by (__name__)"), Just(" without (i)"), Just(" without (job, i)")]
}

fn query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => windowed(), 1 => (selector(), modifier()).prop_map(|(selector, modifier)| selector + &modifier)];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let ops = proptest::sample::select(vec!["sum", "count", "group", "avg", "min", "max", "stddev"]);
        prop_oneof![
            5 => (ops, grouping(), inner.clone()).prop_map(|(op, grouping, inner)| format!("{op}{grouping} ({inner})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(lhs, rhs)| format!("({lhs}) / on (job) group_left ({rhs})")),
            1 => inner.clone().prop_map(|inner| format!("topk(2, {inner})")),
            1 => inner.clone().prop_map(|inner| format!("-({inner})")),
            1 => inner.prop_map(|inner| format!("max_over_time(({inner})[2m:20s])")),
        ]
    })
}

/// All that a caller sees, and what was counted.
fn told(result: &Result<QueryResult, QueryError>) -> String {
    match result {
        Ok(result) => {
            let stats = &result.stats;
            let read = (stats.series_read, stats.samples_read, stats.samples_queryable);
            format!("{:?}\n{:?}\n{read:?}", result.value, result.annotations)
        }
        Err(error) => error.to_string(),
    }
}

fn partly() -> Capabilities {
    Capabilities::raw()
        .with_function(RangeFunction::Rate, Precision::Exact)
        .with_function(RangeFunction::Last, Precision::Exact)
        .with_function(RangeFunction::Delta, Precision::Rounded)
        .with_aggregation(Aggregation::Max, Precision::Exact)
        .with_aggregation(Aggregation::Sum, Precision::Rounded)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn push_down_does_not_show(
        specs in series(),
        queries in proptest::collection::vec(query(), 6),
        start_ms in -20_000..300_000_i64,
        step_ms in 500..30_000_i64,
        count in prop_oneof![Just(0), 1..40_i64],
        (delayed, starts, types) in any::<(bool, bool, bool)>(),
        series_max in prop_oneof![5 => Just(1_000), 1 => 0..5_u64],
        samples_max in prop_oneof![5 => Just(1_000_000), 1 => 1..60_u64],
    ) {
        let settings = EngineSettings {
            delayed_name_removal: delayed,
            use_start_timestamps: starts,
            type_and_unit_labels: types,
            series_max,
            ..settings()
        };
        let store = fill(&specs);
        let steps = StepRange { start_ms, end_ms: start_ms + count * step_ms, step_ms };
        let engine = |capabilities, settings: &EngineSettings| {
            Engine::new(Arc::new(Claiming::new(Arc::clone(&store), capabilities)), settings.clone())
        };
        for query in &queries {
            let plain = range(&engine(Capabilities::raw(), &settings), query, steps);
            for capabilities in [Capabilities::exact(), partly()] {
                let pushed = range(&engine(capabilities, &settings), query, steps);
                prop_assert_eq!(told(&pushed), told(&plain), "{}", query);
            }
            // A store may hold less at a time than the engine would; never more.
            let limited = EngineSettings { samples_max, ..settings.clone() };
            let pushed = range(&engine(Capabilities::exact(), &limited), query, steps);
            if pushed.is_err() {
                prop_assert!(range(&engine(Capabilities::raw(), &limited), query, steps).is_err(), "{}", query);
            }
        }
    }
}

#[test]
fn what_a_store_claims_it_is_asked() {
    let specs =
        [Spec { name: "a_total", job: "x", points: vec![(1_000, 1.0, 0), (10_000, 5.0, 0)], histograms_from: 9 }];
    let store = fill(&specs);
    let read = |capabilities: Capabilities, rounded: bool, query: &str| {
        let settings = EngineSettings { rounded_push_down: rounded, ..settings() };
        let claiming = Arc::new(Claiming::new(Arc::clone(&store), capabilities));
        let engine = Engine::new(Arc::<Claiming<_>>::clone(&claiming), settings);
        instant(&engine, query, 12_000).unwrap();
        claiming.asked().join(",")
    };
    let all = Capabilities::exact();
    assert_eq!(read(all, false, "a_total"), "Last");
    assert_eq!(read(all, false, "a_total @ 3"), "Last");
    assert_eq!(read(all, false, "rate(a_total[1m])"), "Rate");
    assert_eq!(read(all, false, "sum by (job) (rate(a_total[1m])) / count(a_total)"), "Sum Rate,Count Last");
    assert_eq!(read(all, false, "topk(1, sum(increase(a_total[1m])))"), "Sum Increase");
    assert_eq!(read(all, false, "stddev(rate(a_total[1m]))"), "Rate");
    assert_eq!(read(all, false, "sum(rate({job=\"x\"}[1m]))"), "Rate", "each name is judged by itself");
    assert_eq!(read(all, false, "stddev_over_time(a_total[1m])"), "raw");
    assert_eq!(read(all, false, "rate(a_total[1m:10s])"), "Last");
    assert_eq!(read(Capabilities::raw(), true, "sum(rate(a_total[1m]))"), "raw");
    assert_eq!(read(partly(), false, "max(rate(a_total[1m]))"), "Max Rate");
    assert_eq!(read(partly(), false, "sum(rate(a_total[1m]))"), "Rate", "sums are rounded");
    assert_eq!(read(partly(), true, "sum(rate(a_total[1m]))"), "Sum Rate");
    assert_eq!(read(partly(), false, "delta(a_total[1m])"), "raw");
    assert_eq!(read(partly(), true, "delta(a_total[1m])"), "Delta");
}
