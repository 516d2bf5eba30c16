//! Random histories: whatever is appended, deleted, flushed, merged and reopened, answers equal the memory store's.

use std::collections::BTreeSet;

use pharos_model::{
    BatchBuilder, Exemplar, Histogram, Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, MetricBatch,
    STALE_NAN_BITS, Sample, StepRange, TenantId, TimeRange,
};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, read_all};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{
    Aggregation, BatchId, GridPlan, Grouping, LabelQuery, LeafPlan, MetricStore, RangeFunction, RawSeries, ReadContext,
};
use pharos_tsdb::Tsdb;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{all_series, open};

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Point>),
    Delete {
        series: u8,
        /// In slots, as points have them; the whole of time where both are equal.
        from: i64,
        to: i64,
    },
    Clean,
    Flush,
    Compact,
    Reopen,
    Close,
}

#[derive(Debug, Clone)]
struct Point {
    series: u8,
    /// In steps of ten minutes before the clock: several days, many collisions.
    slot: i64,
    value: u64,
    kind: u8,
}

fn point() -> impl Strategy<Value = Point> {
    let value = prop_oneof![3 => (0_u32..1000).prop_map(|n| (f64::from(n) / 10.0).to_bits()), 1 => any::<u64>(), 1 => Just(STALE_NAN_BITS)];
    (0_u8..6, prop_oneof![2 => 0_i64..12, 1 => 0_i64..700], value, 0_u8..12)
        .prop_map(|(series, slot, value, kind)| Point { series, slot, value, kind })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(point(), 1..60).prop_map(Step::Append),
        2 => (0_u8..9, 0_i64..700, 0_i64..12).prop_map(|(series, from, length)| Step::Delete { series, from, to: from - length }),
        1 => (0_u8..9, 0_i64..12, 0_i64..12).prop_map(|(series, from, length)| Step::Delete { series, from, to: from - length }),
        1 => Just(Step::Clean),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

/// What a delete names: one series, or a metric, or all that have the label.
fn deleted(series: u8) -> Vec<Vec<Matcher>> {
    match series {
        0..6 => vec![vec![Matcher::equal("n", series.to_string())]],
        6 => vec![vec![Matcher::equal(METRIC_NAME, "a")], vec![Matcher::equal("n", "4")]],
        _ => vec![vec![Matcher::new(MatchOp::NotRegex, "n", "|0|5").unwrap()]],
    }
}

fn deleted_range(from: i64, to: i64) -> TimeRange {
    if from == to {
        return TimeRange::ALL;
    }
    TimeRange::new(CASE_TIME_MS - from * 600_000, CASE_TIME_MS - to * 600_000)
}

fn batch(points: &[Point]) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for point in points {
        let timestamp_ms = CASE_TIME_MS - point.slot * 600_000;
        let start_ms = if point.kind % 5 == 0 { timestamp_ms - 1000 } else { 0 };
        match point.kind {
            0..2 => {
                let histogram =
                    Histogram { count: point.value as f64, sum: f64::from_bits(point.value), ..Histogram::empty(2) };
                builder.push_histogram(timestamp_ms, histogram, start_ms);
            }
            _ => builder.push_sample(Sample { timestamp_ms, value: f64::from_bits(point.value) }, start_ms),
        }
        if point.kind == 7 {
            let own = Labels::from_pairs([("trace_id", (point.value % 3).to_string())]).unwrap();
            builder.push_exemplar(Exemplar { labels: own, timestamp_ms, value: f64::from_bits(point.value) });
        }
        labels.push(METRIC_NAME, if point.series < 3 { "a" } else { "b" });
        labels.push("n", &point.series.to_string());
        builder.finish_series(&mut labels).unwrap();
    }
    builder.build()
}

/// Everything of a series with floats as bits, in a form that compares and prints.
fn as_bits(series: &RawSeries) -> String {
    let values: Vec<u64> = series.values.iter().map(|value| value.to_bits()).collect();
    let bits = |histogram: &Histogram| (histogram.sum.to_bits(), histogram.count.to_bits());
    let histograms: Vec<_> = series.histograms.iter().map(|h| (h.timestamp_ms, bits(&h.histogram))).collect();
    let starts = (&series.start_ms, &series.histogram_start_ms);
    format!("{:?} {values:?} {histograms:?} {starts:?}", series.timestamps_ms)
}

/// How many series there are at an instant, by group.
fn assert_equal_counts(store: &Tsdb, oracle: &MemoryMetricStore) {
    let groups = |store: &dyn MetricStore, plan: &LeafPlan| -> BTreeSet<String> {
        let groups = store.leaf(&TenantId::default(), plan, &ReadContext::unlimited()).unwrap();
        groups.map(|group| format!("{:?}", group.unwrap())).collect()
    };
    for (back, lookback) in [(0, 1), (3, 4), (9, 700), (150, 40), (690, 5)] {
        for (aggregation, label) in
            [(Aggregation::Count, None), (Aggregation::Count, Some(METRIC_NAME)), (Aggregation::Group, Some("n"))]
        {
            let grid = GridPlan {
                matchers: all_series(),
                function: RangeFunction::Last,
                window_ms: lookback * 600_000,
                steps: StepRange::instant(CASE_TIME_MS - back * 600_000),
                offset_ms: 0,
                starts_raw: false,
            };
            let labels = label.into_iter().map(str::to_owned).collect();
            let plan = LeafPlan::Aggregate { grid, aggregation, grouping: Grouping { without: false, labels } };
            assert_eq!(groups(store, &plan), groups(oracle, &plan), "{plan:?}");
        }
    }
}

/// `cleaned`: whether nothing that was deleted can be left.
fn assert_equal(store: &Tsdb, oracle: &MemoryMetricStore, cleaned: bool) {
    let tenant = TenantId::default();
    let ranges = [
        TimeRange::ALL,
        TimeRange::new(CASE_TIME_MS - 5 * 600_000, CASE_TIME_MS - 600_000),
        TimeRange::new(CASE_TIME_MS - 400 * 600_000, CASE_TIME_MS - 100 * 600_000),
    ];
    for range in ranges {
        for matchers in [all_series(), vec![Matcher::equal(METRIC_NAME, "b")], vec![Matcher::equal("n", "2")]] {
            let found = read_all(store, &tenant, matchers.clone(), range);
            let expected = read_all(oracle, &tenant, matchers, range);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (labels, series) in &found {
                assert_eq!(as_bits(series), as_bits(&expected[labels]), "{labels}");
            }
        }
        let context = ReadContext::unlimited();
        let found = store.exemplars(&tenant, &[], range, &context).unwrap();
        assert_eq!(found, oracle.exemplars(&tenant, &[], range, &context).unwrap());
    }
    assert_equal_counts(store, oracle);
    let query = LabelQuery { matcher_sets: vec![], range: TimeRange::ALL, limit: usize::MAX };
    let values = |store: &dyn MetricStore| store.label_values(&tenant, "n", &query, &ReadContext::unlimited()).unwrap();
    if cleaned {
        assert_eq!(values(store), values(oracle));
        assert_eq!(store.stats().tombstones, 0);
    } else {
        let (found, expected) = (values(store), values(oracle));
        assert!(expected.iter().all(|value| found.contains(value)), "{found:?} has all of {expected:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_like_the_memory_store(steps in proptest::collection::vec(step(), 1..24)) {
        let dir = TempDir::new().unwrap();
        let (mut store, oracle, tenant) = (open(dir.path()), MemoryMetricStore::new(), TenantId::default());
        for step in steps {
            match step {
                Step::Append(points) => {
                    let batch = batch(&points);
                    oracle.append(&tenant, batch.clone(), BatchId::random()).wait().unwrap().unwrap();
                    store.append(&tenant, batch, BatchId::random()).wait().unwrap().unwrap();
                }
                Step::Delete { series, from, to } => {
                    let (sets, range) = (deleted(series), deleted_range(from, to));
                    oracle.delete(&tenant, &sets, range).unwrap();
                    store.delete(&tenant, &sets, range).unwrap();
                }
                Step::Clean => store.clean_tombstones().unwrap(),
                Step::Flush => store.flush().unwrap(),
                Step::Compact => store.compact().unwrap(),
                Step::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
                Step::Close => {
                    store.close().unwrap();
                    store = open(dir.path());
                }
            }
        }
        assert_equal(&store, &oracle, false);
        store.compact().unwrap();
        assert_equal(&store, &oracle, true);
    }
}
