//! What every store of metrics must do, as cases that panic where one does not.
//!
//! A case writes, checks, lets the engine settle (flush, compact, reopen; nothing for a store without
//! such states), and checks again: what is true of fresh data must stay true of old data.

use std::collections::BTreeMap;

use pharos_base::CancelToken;
use pharos_model::{
    BatchBuilder, BucketSide, BucketSpan, Exemplar, Histogram, Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher,
    MetricBatch, MetricKind, MetricMetadata, STALE_NAN_BITS, Sample, StepRange, TenantId, TimeRange,
};

use super::{grids, pieces};
use crate::{
    AppendOutcome, BatchId, GridPlan, LabelQuery, LeafPlan, LeafSeries, MetricStore, RangeFunction, RawPlan, RawSeries,
    ReadContext, StorageError,
};

/// The instant around which all cases write, Unix milliseconds: engines under test that have a clock
/// and a retention set them so that this is recent.
pub const CASE_TIME_MS: i64 = 1_700_000_000_000;

/// One promise of the contract.
#[derive(Debug, Clone, Copy)]
pub struct MetricCase {
    /// What is promised.
    pub name: &'static str,
    /// Fills an empty store.
    pub write: fn(&dyn MetricStore),
    /// Panics if the promise is broken.
    pub check: fn(&dyn MetricStore),
}

/// Runs all cases, each on a fresh store of `make`; `settle` is called between two checks.
///
/// # Panics
/// If the store breaks a promise; the case's name goes to standard error.
pub fn metric_store_suite<S: MetricStore>(make: impl Fn() -> S, settle: impl Fn(S) -> S) {
    for case in METRIC_CASES {
        let _named = NamedOnPanic(case.name);
        let store = make();
        (case.write)(&store);
        (case.check)(&store);
        let store = settle(store);
        (case.check)(&store);
    }
}

/// Says which case it was when a check panics.
struct NamedOnPanic(&'static str);

impl Drop for NamedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("case: {}", self.0);
        }
    }
}

/// All cases.
pub const METRIC_CASES: &[MetricCase] = &[
    MetricCase { name: "samples ascend and the last one appended wins", write: write_disorder, check: check_disorder },
    MetricCase { name: "every bit of a value survives", write: write_odd_values, check: check_odd_values },
    MetricCase { name: "matchers select", write: write_matched, check: check_matched },
    MetricCase { name: "labels and series are listed", write: write_matched, check: check_listed },
    MetricCase { name: "limits and cancellation have names", write: write_matched, check: check_bounds },
    MetricCase { name: "tenants are walls", write: write_tenants, check: check_tenants },
    MetricCase { name: "histograms come back as they were", write: write_histograms, check: check_histograms },
    MetricCase { name: "start timestamps are kept", write: write_starts, check: check_starts },
    MetricCase { name: "exemplars are kept", write: write_exemplars, check: check_exemplars },
    MetricCase { name: "metadata is kept", write: write_metadata, check: check_metadata },
    MetricCase { name: "days of samples in any order", write: write_days, check: check_days },
    MetricCase { name: "changes are told", write: write_matched, check: check_changes },
    MetricCase { name: "grids are what the samples yield", write: grids::write, check: grids::check_grids },
    MetricCase { name: "aggregates are what the grids yield", write: grids::write, check: grids::check_aggregates },
    MetricCase { name: "grids have limits", write: grids::write, check: grids::check_bounds },
    MetricCase { name: "pieces of a leaf are the leaf", write: grids::write, check: pieces::check_pieces },
    MetricCase { name: "pieces of a leaf have limits", write: grids::write, check: pieces::check_bounds_of_pieces },
    MetricCase { name: "a store at rest is not busy", write: write_matched, check: check_at_rest },
    MetricCase { name: "series are counted", write: write_matched, check: check_cardinality },
    MetricCase { name: "blocks tell what is in them", write: write_days, check: check_blocks },
    MetricCase { name: "what was deleted is gone, what came later is not", write: write_deleted, check: check_deleted },
];

/// Labels as pairs, and samples as instants and values.
pub type FloatSeries<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

/// A batch of float series.
///
/// # Panics
/// If the labels break a rule.
#[must_use]
pub fn float_batch(series: &[FloatSeries<'_>]) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for (pairs, samples) in series {
        for (timestamp_ms, value) in *samples {
            builder.push_sample(Sample { timestamp_ms: *timestamp_ms, value: *value }, 0);
        }
        pairs.iter().for_each(|(name, value)| labels.push(name, value));
        builder.finish_series(&mut labels).expect("sound labels");
    }
    builder.build()
}

/// Appends and waits.
///
/// # Panics
/// If the store refuses.
pub fn append(store: &dyn MetricStore, tenant: &TenantId, batch: MetricBatch) -> AppendOutcome {
    let completed = store.append(tenant, batch, BatchId::random()).wait();
    completed.expect("the store is open").expect("the batch is stored")
}

/// All samples of the series that pass, by labels.
///
/// # Panics
/// If the store fails, or yields a series twice.
pub fn read_all(
    store: &dyn MetricStore,
    tenant: &TenantId,
    matchers: Vec<Matcher>,
    range: TimeRange,
) -> BTreeMap<Labels, RawSeries> {
    let plan = LeafPlan::Raw(RawPlan { matchers, range });
    let mut all = BTreeMap::new();
    for series in store.leaf(tenant, &plan, &ReadContext::unlimited()).expect("raw plans are served") {
        let LeafSeries::Raw(series) = series.expect("sound data") else { panic!("a raw plan answers raw series") };
        assert!(series.timestamps_ms.is_sorted_by(|a, b| a < b), "instants ascend strictly");
        assert_eq!(series.timestamps_ms.len(), series.values.len());
        assert!(series.start_ms.is_empty() || series.start_ms.len() == series.values.len());
        assert!(series.sample_count() > 0, "series without samples are left out");
        let twice = all.insert(series.labels.clone(), series);
        assert!(twice.is_none(), "each series is yielded once");
    }
    all
}

fn at(seconds: i64) -> i64 {
    CASE_TIME_MS + seconds * 1000
}

fn any_series() -> Vec<Matcher> {
    vec![matcher(MatchOp::Regex, METRIC_NAME, ".+")]
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("sound pattern")
}

fn only(store: &dyn MetricStore, metric: &str, range: TimeRange) -> RawSeries {
    let all = read_all(store, &TenantId::default(), vec![Matcher::equal(METRIC_NAME, metric)], range);
    assert_eq!(all.len(), 1, "one series of {metric}");
    all.into_values().next().expect("one series")
}

fn write_disorder(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    let labels: &[(&str, &str)] = &[(METRIC_NAME, "m")];
    append(store, &tenant, float_batch(&[(labels, &[(at(20), 2.0), (at(10), 1.0), (at(20), 2.5)])]));
    let batch = float_batch(&[(labels, &[(at(30), 3.0), (at(10), 1.5)])]);
    let outcome = append(store, &tenant, batch.clone());
    assert_eq!((outcome.items, outcome.rejected()), (2, 0));
    // A retry under the same and under a new id.
    let id = BatchId::random();
    for id in [id, id, BatchId::random()] {
        store.append(&tenant, batch.clone(), id).wait().expect("open").expect("stored");
    }
    append(store, &tenant, MetricBatch::default());
}

fn check_disorder(store: &dyn MetricStore) {
    let series = only(store, "m", TimeRange::ALL);
    assert_eq!(series.timestamps_ms, [at(10), at(20), at(30)]);
    assert_eq!(series.values, [1.5, 2.5, 3.0]);
    assert!(series.start_ms.is_empty(), "unknown starts take no column");
    assert_eq!(only(store, "m", TimeRange::new(at(10), at(30))).timestamps_ms, [at(10), at(20)], "[start, end)");
    let outside = read_all(store, &TenantId::default(), any_series(), TimeRange::new(at(31), at(99)));
    assert!(outside.is_empty());
    let empty = read_all(store, &TenantId::default(), any_series(), TimeRange::new(at(30), at(10)));
    assert!(empty.is_empty());
}

const ODD_BITS: [u64; 10] = [
    STALE_NAN_BITS,
    0x7ff8_0000_0000_0001,
    0x7ff4_dead_0000_beef,
    u64::MAX,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x8000_0000_0000_0000,
    1,
    0x7fef_ffff_ffff_ffff,
    0x3fb9_9999_9999_999a,
];

fn write_odd_values(store: &dyn MetricStore) {
    let samples: Vec<_> = (0_i64..).zip(ODD_BITS).map(|(i, bits)| (at(i), f64::from_bits(bits))).collect();
    append(store, &TenantId::default(), float_batch(&[(&[(METRIC_NAME, "odd")], &samples)]));
}

fn check_odd_values(store: &dyn MetricStore) {
    let series = only(store, "odd", TimeRange::ALL);
    assert_eq!(series.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), ODD_BITS);
}

fn write_matched(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    let sample: &[(i64, f64)] = &[(at(0), 1.0)];
    append(
        store,
        &tenant,
        float_batch(&[
            (&[(METRIC_NAME, "up"), ("job", "api"), ("instance", "a")], sample),
            (&[(METRIC_NAME, "up"), ("job", "api"), ("instance", "b")], sample),
            (&[(METRIC_NAME, "up"), ("job", "db"), ("instance", "c")], sample),
            (&[(METRIC_NAME, "up"), ("instance", "d")], sample),
            (&[(METRIC_NAME, "down"), ("job", "api"), ("zone", "é")], sample),
        ]),
    );
}

fn instances(store: &dyn MetricStore, matchers: Vec<Matcher>) -> String {
    let found = read_all(store, &TenantId::default(), matchers, TimeRange::ALL);
    found.keys().map(|labels| labels.get("instance").unwrap_or("-")).collect()
}

fn check_matched(store: &dyn MetricStore) {
    let up = || Matcher::equal(METRIC_NAME, "up");
    let cases: &[(Vec<Matcher>, &str)] = &[
        (vec![up()], "abcd"),
        (any_series(), "-abcd"),
        (vec![up(), Matcher::equal("job", "api")], "ab"),
        (vec![up(), Matcher::equal("job", "")], "d"),
        (vec![up(), matcher(MatchOp::NotEqual, "job", "api")], "cd"),
        (vec![up(), matcher(MatchOp::NotEqual, "job", "")], "abc"),
        (vec![up(), matcher(MatchOp::Regex, "instance", "a|c|x")], "ac"),
        (vec![up(), matcher(MatchOp::Regex, "instance", "[b-d]")], "bcd"),
        (vec![up(), matcher(MatchOp::Regex, "job", "a.*")], "ab"),
        (vec![up(), matcher(MatchOp::Regex, "job", "a.*|")], "abd"),
        (vec![up(), matcher(MatchOp::Regex, "job", ".*")], "abcd"),
        (vec![up(), matcher(MatchOp::Regex, "job", ".+")], "abc"),
        (vec![up(), matcher(MatchOp::NotRegex, "job", "a.*")], "cd"),
        (vec![up(), matcher(MatchOp::NotRegex, "job", ".*")], ""),
        (vec![up(), matcher(MatchOp::NotRegex, "job", ".+")], "d"),
        (vec![up(), matcher(MatchOp::NotRegex, "job", "db|")], "ab"),
        (vec![up(), Matcher::equal("instance", "a"), Matcher::equal("instance", "b")], ""),
        (vec![Matcher::equal("zone", "é")], "-"),
        (vec![Matcher::equal("nosuch", "x")], ""),
        (vec![Matcher::equal(METRIC_NAME, "upp")], ""),
        (vec![up(), Matcher::equal("nosuch", "")], "abcd"),
    ];
    for (matchers, expected) in cases {
        assert_eq!(instances(store, matchers.clone()), *expected, "{matchers:?}");
    }
}

/// Of a store that follows changes: none is missed.
fn check_changes(store: &dyn MetricStore) {
    let (tenant, other) = (TenantId::default(), "elsewhere".parse::<TenantId>().expect("a tenant"));
    let Some(before) = store.change_mark(&tenant) else { return };
    let (hour, later) = (TimeRange::new(at(0), at(3_600)), TimeRange::new(at(3_600), at(7_200)));
    append(store, &other, float_batch(&[(&[(METRIC_NAME, "elsewhere")], &[(at(5), 1.0)])]));
    assert_eq!(store.changed_since(&tenant, before, hour), None, "another tenant's samples");
    append(store, &tenant, float_batch(&[(&[(METRIC_NAME, "changing")], &[(at(1_800), 1.0)])]));
    let told = store.changed_since(&tenant, before, hour).expect("an append is a change");
    assert!(at(0) <= told && told <= at(1_800), "{told}");
    assert_eq!(store.changed_since(&tenant, store.change_mark(&tenant).expect("it followed before"), hour), None);
    append(store, &tenant, float_batch(&[(&[(METRIC_NAME, "changing")], &[(at(4_000), 1.0), (at(10), 2.0)])]));
    assert!(store.changed_since(&tenant, before, later).is_some_and(|told| told <= at(4_000)));
    assert!(store.changed_since(&tenant, before, hour).is_some_and(|told| told <= at(10)));
    let before = store.change_mark(&tenant).expect("it followed before");
    let deleted =
        store.delete(&tenant, &[vec![Matcher::equal(METRIC_NAME, "changing")]], TimeRange::new(at(0), at(60)));
    if deleted.is_ok() {
        assert!(
            store.changed_since(&tenant, before, hour).is_some_and(|told| told <= at(10)),
            "a deletion is a change"
        );
    }
}

fn check_at_rest(store: &dyn MetricStore) {
    assert!(!store.is_busy());
}

fn listing(matcher_sets: Vec<Vec<Matcher>>, limit: usize) -> LabelQuery {
    LabelQuery { matcher_sets, range: TimeRange::ALL, limit }
}

fn check_listed(store: &dyn MetricStore) {
    let (tenant, context) = (TenantId::default(), ReadContext::unlimited());
    let names = |query: &LabelQuery| store.label_names(&tenant, query, &context).expect("names");
    let values = |name: &str, query: &LabelQuery| store.label_values(&tenant, name, query, &context).expect("values");
    assert_eq!(names(&listing(vec![], usize::MAX)), [METRIC_NAME, "instance", "job", "zone"]);
    assert_eq!(names(&listing(vec![], 2)), [METRIC_NAME, "instance"]);
    let down = vec![vec![Matcher::equal(METRIC_NAME, "down")]];
    assert_eq!(names(&listing(down.clone(), usize::MAX)), [METRIC_NAME, "job", "zone"]);
    assert_eq!(values("job", &listing(vec![], usize::MAX)), ["api", "db"]);
    assert_eq!(values("instance", &listing(vec![], 3)), ["a", "b", "c"]);
    assert_eq!(values("job", &listing(down, usize::MAX)), ["api"]);
    assert!(values("nosuch", &listing(vec![], usize::MAX)).is_empty());
    let two = vec![vec![Matcher::equal("instance", "a")], vec![Matcher::equal("job", "api")]];
    assert_eq!(values(METRIC_NAME, &listing(two.clone(), usize::MAX)), ["down", "up"]);
    let mut series: Vec<String> = store
        .series(&tenant, &two, TimeRange::ALL, &context)
        .expect("series")
        .map(|labels| labels.expect("sound").to_string())
        .collect();
    series.sort();
    let expected = [r#"down{job="api", zone="é"}"#, r#"up{instance="a", job="api"}"#, r#"up{instance="b", job="api"}"#];
    assert_eq!(series, expected, "each once, though one passes both sets");
    let far = TimeRange::new(at(40 * 86_400), at(41 * 86_400));
    assert_eq!(store.series(&tenant, &[], far, &context).expect("series").count(), 0);
    assert!(
        store
            .label_names(&tenant, &LabelQuery { range: far, ..listing(vec![], 9) }, &context)
            .expect("names")
            .is_empty()
    );
}

fn first_error(store: &dyn MetricStore, plan: &LeafPlan, context: &ReadContext) -> Option<StorageError> {
    match store.leaf(&TenantId::default(), plan, context) {
        Ok(stream) => stream.into_iter().find_map(Result::err),
        Err(error) => Some(error),
    }
}

fn check_bounds(store: &dyn MetricStore) {
    let plan = LeafPlan::Raw(RawPlan { matchers: any_series(), range: TimeRange::ALL });
    let few = ReadContext { series_max: 4, ..ReadContext::unlimited() };
    assert!(matches!(first_error(store, &plan, &few), Some(StorageError::LimitExceeded { limit: 4, .. })));
    let enough = ReadContext { series_max: 5, ..ReadContext::unlimited() };
    assert!(first_error(store, &plan, &enough).is_none());
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = ReadContext { cancel, ..ReadContext::unlimited() };
    assert!(matches!(first_error(store, &plan, &cancelled), Some(StorageError::Interrupted(_))));
    check_claims(store);
}

/// What a store does not claim it refuses.
fn check_claims(store: &dyn MetricStore) {
    let claimed = store.capabilities();
    for function in RangeFunction::ALL {
        let grid = GridPlan {
            matchers: any_series(),
            function,
            window_ms: 300_000,
            steps: StepRange::instant(at(0)),
            offset_ms: 0,
            starts_raw: false,
        };
        let refused = first_error(store, &LeafPlan::Grid(grid), &ReadContext::unlimited());
        match claimed.function(function) {
            Some(_) => assert!(refused.is_none(), "{function:?}: {refused:?}"),
            None => assert!(matches!(refused, Some(StorageError::Unsupported { .. })), "{function:?}"),
        }
    }
}

fn write_tenants(store: &dyn MetricStore) {
    for (tenant, value) in [("one", 1.0), ("two", 2.0)] {
        let tenant: TenantId = tenant.parse().expect("a tenant");
        append(store, &tenant, float_batch(&[(&[(METRIC_NAME, "m"), ("of", tenant.as_str())], &[(at(0), value)])]));
    }
}

fn check_tenants(store: &dyn MetricStore) {
    let context = ReadContext::unlimited();
    for (tenant, value) in [("one", 1.0), ("two", 2.0)] {
        let id: TenantId = tenant.parse().expect("a tenant");
        let found = read_all(store, &id, any_series(), TimeRange::ALL);
        assert_eq!(found.values().map(|series| series.values[0]).collect::<Vec<_>>(), [value]);
        let values = store.label_values(&id, "of", &listing(vec![], usize::MAX), &context).expect("values");
        assert_eq!(values, [tenant]);
    }
    let nobody: TenantId = "nobody".parse().expect("a tenant");
    assert!(read_all(store, &nobody, any_series(), TimeRange::ALL).is_empty());
    assert!(store.label_names(&nobody, &listing(vec![], 9), &context).expect("names").is_empty());
}

fn histogram(seed: u32) -> Histogram {
    let counts = vec![f64::from(seed), 2.0, f64::from(seed % 3)];
    Histogram {
        is_integer: true,
        zero_threshold: 1e-128,
        zero_count: 1.0,
        count: 1.0 + counts.iter().sum::<f64>(),
        sum: f64::from(seed) * 0.1,
        positive: BucketSide {
            spans: vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 3, length: 1 }],
            counts,
        },
        ..Histogram::empty(3)
    }
}

fn custom_histogram() -> Histogram {
    Histogram {
        count: 2.5,
        sum: 7.0,
        custom_bounds: vec![0.5, 10.0],
        positive: BucketSide { spans: vec![BucketSpan { offset: 0, length: 2 }], counts: vec![0.5, 2.0] },
        ..Histogram::empty(pharos_model::CUSTOM_BUCKETS_SCHEMA)
    }
}

fn histogram_batch(samples: Vec<(i64, Histogram)>) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for (timestamp_ms, histogram) in samples {
        builder.push_histogram(timestamp_ms, histogram, 0);
    }
    labels.push(METRIC_NAME, "h");
    builder.finish_series(&mut labels).expect("sound labels");
    builder.build()
}

fn expected_histograms() -> Vec<(i64, Histogram)> {
    let mut all: Vec<_> = (0..70_u32).map(|i| (at(i64::from(i)), histogram(i))).collect();
    all.push((at(100), custom_histogram()));
    all.push((at(101), Histogram::stale()));
    all
}

fn write_histograms(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    let outcome = append(store, &tenant, histogram_batch(expected_histograms()));
    assert_eq!((outcome.items, outcome.histograms), (0, 72));
    let labels: &[(&str, &str)] = &[(METRIC_NAME, "h")];
    // Of a float and a histogram at one instant the later one stays.
    append(store, &tenant, float_batch(&[(labels, &[(at(200), 1.0), (at(201), 1.0), (at(202), 1.0)])]));
    append(store, &tenant, histogram_batch(vec![(at(200), histogram(7))]));
    append(store, &tenant, float_batch(&[(labels, &[(at(69), 69.0)])]));
}

fn check_histograms(store: &dyn MetricStore) {
    let series = only(store, "h", TimeRange::ALL);
    assert_eq!(series.timestamps_ms, [at(69), at(201), at(202)]);
    let mut expected = expected_histograms();
    expected.retain(|(time, _)| *time != at(69));
    expected.push((at(200), histogram(7)));
    assert_eq!(series.histograms.len(), expected.len());
    for (found, (time, histogram)) in series.histograms.iter().zip(&expected) {
        assert_eq!(found.timestamp_ms, *time);
        assert!(found.histogram.bits_equal(histogram), "{found:?} is not {histogram:?}");
    }
    let later = only(store, "h", TimeRange::new(at(100), at(102)));
    assert_eq!((later.histograms.len(), later.timestamps_ms.len()), (2, 0));
}

fn write_starts(store: &dyn MetricStore) {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for (second, start_ms) in [(0, 0), (1, at(-5)), (2, at(-5)), (3, 0)] {
        builder.push_sample(Sample { timestamp_ms: at(second), value: 1.0 }, start_ms);
    }
    labels.push(METRIC_NAME, "started");
    builder.finish_series(&mut labels).expect("sound labels");
    builder.push_histogram(at(0), histogram(1), at(-9));
    labels.push(METRIC_NAME, "h_started");
    builder.finish_series(&mut labels).expect("sound labels");
    append(store, &TenantId::default(), builder.build());
    append(store, &TenantId::default(), float_batch(&[(&[(METRIC_NAME, "started")], &[(at(4), 1.0)])]));
}

fn check_starts(store: &dyn MetricStore) {
    assert_eq!(only(store, "started", TimeRange::ALL).start_ms, [0, at(-5), at(-5), 0, 0]);
    assert_eq!(only(store, "h_started", TimeRange::ALL).histogram_start_ms, [at(-9)]);
}

fn exemplar(trace_id: &str, second: i64, value: f64) -> Exemplar {
    let labels = Labels::from_pairs([("trace_id", trace_id)]).expect("sound labels");
    Exemplar { labels, timestamp_ms: at(second), value }
}

fn write_exemplars(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    for round in 0..2 {
        let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        for (job, exemplars) in
            [("b", vec![exemplar("t2", 2, 2.0), exemplar("t1", 1, 1.0)]), ("a", vec![exemplar("t3", 1, 3.0)])]
        {
            builder.push_sample(Sample { timestamp_ms: at(0), value: 1.0 }, 0);
            for exemplar in exemplars {
                builder.push_exemplar(exemplar);
            }
            labels.push(METRIC_NAME, "latency");
            labels.push("job", job);
            builder.finish_series(&mut labels).expect("sound labels");
        }
        let outcome = append(store, &tenant, builder.build());
        assert_eq!(outcome.exemplars, 3, "round {round}");
    }
}

fn check_exemplars(store: &dyn MetricStore) {
    let (tenant, context) = (TenantId::default(), ReadContext::unlimited());
    let read = |sets: &[Vec<Matcher>], range| {
        let found = store.exemplars(&tenant, sets, range, &context).expect("exemplars");
        found
            .iter()
            .map(|series| {
                let traces: Vec<_> =
                    series.exemplars.iter().filter_map(|exemplar| exemplar.labels.get("trace_id")).collect();
                format!("{}:{}", series.labels.get("job").unwrap_or(""), traces.join(","))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(read(&[], TimeRange::ALL), ["a:t3", "b:t1,t2"]);
    assert_eq!(read(&[vec![Matcher::equal("job", "b")]], TimeRange::new(at(1), at(2))), ["b:t1"]);
    assert!(read(&[vec![Matcher::equal("job", "c")]], TimeRange::ALL).is_empty());
    let found =
        store.exemplars(&tenant, &[vec![Matcher::equal("job", "a")]], TimeRange::ALL, &context).expect("exemplars");
    assert_eq!(found[0].exemplars, [exemplar("t3", 1, 3.0)]);
}

fn metadata(metric: &str, help: &str) -> MetricMetadata {
    MetricMetadata {
        metric: metric.to_owned(),
        kind: MetricKind::Counter,
        help: help.to_owned(),
        unit: "bytes".to_owned(),
    }
}

fn write_metadata(store: &dyn MetricStore) {
    for help in ["old", "new"] {
        let mut builder = BatchBuilder::new();
        builder.push_metadata(metadata("b", help));
        builder.push_metadata(metadata("a", "same"));
        append(store, &TenantId::default(), builder.build());
    }
}

fn check_metadata(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    let read = |metric, limit| store.metadata(&tenant, metric, limit).expect("metadata");
    assert_eq!(read(None, usize::MAX), [metadata("a", "same"), metadata("b", "new")]);
    assert_eq!(read(None, 1), [metadata("a", "same")]);
    assert_eq!(read(Some("b"), usize::MAX), [metadata("b", "new")]);
    assert!(read(Some("c"), usize::MAX).is_empty());
}

/// Half an hour apart, over four days, in an order that jumps.
fn day_instants() -> Vec<i64> {
    (0..192).map(|i| at(-1800 * ((i * 37) % 192))).collect()
}

fn write_days(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    for group in day_instants().chunks(10) {
        let samples: Vec<_> = group.iter().map(|time| (*time, *time as f64)).collect();
        append(
            store,
            &tenant,
            float_batch(&[
                (&[(METRIC_NAME, "days"), ("n", "1")], &samples),
                (&[(METRIC_NAME, "days"), ("n", "2")], &samples[..1]),
            ]),
        );
    }
}

fn check_days(store: &dyn MetricStore) {
    let mut expected = day_instants();
    expected.sort_unstable();
    let one = || vec![Matcher::equal("n", "1")];
    let found = read_all(store, &TenantId::default(), one(), TimeRange::ALL);
    let series = found.values().next().expect("the series");
    assert_eq!(series.timestamps_ms, expected);
    assert!(series.values.iter().zip(&expected).all(|(value, time)| *value == *time as f64));
    let range = TimeRange::new(expected[50], expected[60]);
    let found = read_all(store, &TenantId::default(), one(), range);
    assert_eq!(found.values().next().expect("the series").timestamps_ms, expected[50..60]);
    assert_eq!(read_all(store, &TenantId::default(), any_series(), TimeRange::ALL).len(), 2);
}

/// What a store tells of its blocks is what it answers, but for what is not in blocks yet.
fn check_blocks(store: &dyn MetricStore) {
    let tenant = TenantId::default();
    let blocks = store.blocks(&tenant).expect("blocks");
    assert!(blocks.windows(2).all(|pair| pair[0].range.start_ms <= pair[1].range.start_ms), "{blocks:?}");
    let everything = vec![Matcher::new(MatchOp::NotEqual, METRIC_NAME, "").expect("a matcher")];
    for block in &blocks {
        let plan = LeafPlan::Raw(RawPlan { matchers: everything.clone(), range: block.range });
        let found = store.leaf(&tenant, &plan, &ReadContext::unlimited()).expect("raw plans are always served");
        let (mut series, mut samples) = (0, 0);
        for answer in found {
            let LeafSeries::Raw(raw) = answer.expect("sound data") else { panic!("raw was asked for") };
            series += 1;
            samples += raw.sample_count() as u64;
        }
        // Other blocks may have samples of the same time.
        assert!(block.series > 0 && block.series <= series, "{block:?}: {series} series");
        assert!(
            block.floats + block.histograms > 0 && block.floats + block.histograms <= samples,
            "{block:?}: {samples}"
        );
        assert!(block.chunks >= block.series, "{block:?}");
    }
    let nobody: TenantId = "nobody".parse().expect("a tenant");
    assert!(store.blocks(&nobody).expect("blocks").is_empty());
}

fn check_cardinality(store: &dyn MetricStore) {
    let status = store.cardinality(&TenantId::default(), 2).expect("cardinality");
    assert_eq!((status.series, status.label_pairs), (5, 9));
    assert_eq!((status.min_time_ms.min(at(0)), status.max_time_ms), (status.min_time_ms, at(0)));
    let text = |entries: &[crate::CardinalityEntry]| {
        entries.iter().map(|entry| format!("{}={}", entry.name, entry.value)).collect::<Vec<_>>()
    };
    assert_eq!(text(&status.series_by_metric), ["up=4", "down=1"]);
    assert_eq!(text(&status.values_by_label), ["instance=4", "__name__=2"]);
    assert_eq!(text(&status.series_by_pair), ["__name__=up=4", "job=api=3"]);
    assert_eq!(text(&status.bytes_by_label), ["__name__=12", "job=11"]);
    let nobody: TenantId = "nobody".parse().expect("a tenant");
    assert_eq!(store.cardinality(&nobody, 2).expect("cardinality").series, 0);
}

fn write_deleted(store: &dyn MetricStore) {
    let (tenant, other): (TenantId, TenantId) = (TenantId::default(), "other".parse().expect("a tenant"));
    let instants: Vec<_> = (0..10).map(|i| (at(i * 10), i as f64)).collect();
    let all = |value: f64| instants.iter().map(|(time, _)| (*time, value)).collect::<Vec<_>>();
    for name in ["whole", "middle", "again", "kept"] {
        append(store, &tenant, float_batch(&[(&[(METRIC_NAME, name), ("of", name)], &instants)]));
        append(store, &other, float_batch(&[(&[(METRIC_NAME, name)], &instants)]));
    }
    append(store, &tenant, histogram_batch(vec![(at(0), histogram(1)), (at(50), histogram(2))]));
    let named = |name: &str| vec![Matcher::equal(METRIC_NAME, name)];
    let delete = |sets: &[Vec<Matcher>], range| store.delete(&tenant, sets, range).expect("deleted");
    delete(&[vec![matcher(MatchOp::Regex, METRIC_NAME, "wh.*"), Matcher::equal("of", "whole")]], TimeRange::ALL);
    // A retry deletes nothing more, and what does not exist is no error.
    delete(&[named("whole"), named("nosuch")], TimeRange::ALL);
    delete(&[named("middle"), named("h")], TimeRange::new(at(30), at(60)));
    // Deleted, appended again, of that one half deleted again.
    delete(&[named("again")], TimeRange::ALL);
    append(store, &tenant, float_batch(&[(&[(METRIC_NAME, "again"), ("of", "again")], &all(7.0))]));
    delete(&[named("again")], TimeRange::new(at(50), at(1_000)));
    append(store, &tenant, float_batch(&[(&[(METRIC_NAME, "again"), ("of", "again")], &[(at(70), 8.0)])]));
    delete(&[named("kept")], TimeRange::new(at(30), at(30)));
    let none = store.delete(&tenant, &[], TimeRange::ALL);
    assert!(matches!(none, Err(StorageError::Invalid { .. })), "nothing is deleted by accident");
}

fn check_deleted(store: &dyn MetricStore) {
    let seconds = |series: &RawSeries| -> Vec<i64> {
        series.timestamps_ms.iter().map(|time| (time - CASE_TIME_MS) / 1000).collect()
    };
    let found = read_all(store, &TenantId::default(), any_series(), TimeRange::ALL);
    let names: Vec<_> = found.keys().map(|labels| labels.metric_name().to_owned()).collect();
    assert_eq!(names, ["again", "h", "kept", "middle"]);
    assert_eq!(seconds(&only(store, "middle", TimeRange::ALL)), [0, 10, 20, 60, 70, 80, 90]);
    assert_eq!(seconds(&only(store, "kept", TimeRange::ALL)).len(), 10);
    let again = only(store, "again", TimeRange::ALL);
    assert_eq!(seconds(&again), [0, 10, 20, 30, 40, 70]);
    assert_eq!(again.values, [7.0, 7.0, 7.0, 7.0, 7.0, 8.0]);
    assert_eq!(only(store, "h", TimeRange::ALL).histograms.len(), 1);
    let other: TenantId = "other".parse().expect("a tenant");
    assert_eq!(read_all(store, &other, any_series(), TimeRange::ALL).len(), 4, "tenants are walls");
    store.clean_tombstones().expect("cleaned");
    let context = ReadContext::unlimited();
    let values = store.label_values(&TenantId::default(), "of", &listing(vec![], 9), &context).expect("values");
    assert_eq!(values, ["again", "kept", "middle"]);
    let listed = store.series(&TenantId::default(), &[], TimeRange::ALL, &context).expect("series");
    assert_eq!(listed.count(), 4);
    assert_eq!(store.stats().tombstones, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryMetricStore;

    #[test]
    fn the_memory_store_keeps_its_promises() {
        metric_store_suite(MemoryMetricStore::new, |store| store);
    }
}
