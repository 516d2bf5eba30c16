//! Large reads on several threads: answers are those of one thread, bit by bit and group by group.

use std::path::Path;

use pharos_base::{Helpers, MemoryBudget};
use pharos_model::{
    BatchBuilder, LabelsBuilder, METRIC_NAME, Matcher, MetricBatch, Sample, StepRange, TenantId, TimeRange,
};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{
    Aggregation, GridPlan, Grouping, LeafPlan, LeafSeries, LeafStream, MetricStore, RangeFunction, RawPlan,
    ReadContext, ReadCounts, StorageError,
};
use pharos_tsdb::{Components, Settings, Tsdb};
use tempfile::TempDir;

use crate::support::{append, clock};

/// Enough for several threads.
const SERIES: i64 = 7000;

fn open(dir: &Path, threads: usize) -> Tsdb {
    let components = Components { clock: clock(), helpers: Helpers::new(threads - 1), ..Components::default() };
    Tsdb::open(dir, Settings::for_tests(), components).unwrap()
}

/// Samples of some of the series, no two alike.
fn batch(series: impl Iterator<Item = i64>, samples: std::ops::Range<i64>) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for number in series {
        for sample in samples.clone() {
            let value = ((number * 7919 + sample * 104_729) % 9973) as f64 / 7.0;
            builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS - (60 - sample) * 10_000, value }, 0);
        }
        labels.push(METRIC_NAME, "m_total");
        labels.push("g", &(number % 5).to_string());
        labels.push("n", &number.to_string());
        builder.finish_series(&mut labels).unwrap();
    }
    builder.build()
}

/// Two parts, one of them of few series, a head of others, and a deletion that hides some.
fn fill(dir: &Path) {
    let store = open(dir, 1);
    append(&store, batch(0..SERIES, 0..12));
    store.flush().unwrap();
    append(&store, batch((0..SERIES).filter(|number| number % 11 == 3), 9..20));
    store.flush().unwrap();
    let deleted = vec![vec![Matcher::equal("g", "2")]];
    store
        .delete(&TenantId::default(), &deleted, TimeRange::new(CASE_TIME_MS - 560_000, CASE_TIME_MS - 520_000))
        .unwrap();
    append(&store, batch((100..SERIES + 300).filter(|number| number % 2 == 0), 15..40));
}

type Groups = Vec<(String, Vec<u64>)>;

fn aggregate(
    store: &Tsdb,
    function: RangeFunction,
    aggregation: Aggregation,
    label: Option<&str>,
    context: &ReadContext,
) -> Result<Groups, StorageError> {
    let grid = GridPlan {
        matchers: vec![Matcher::equal(METRIC_NAME, "m_total")],
        function,
        window_ms: 90_000,
        steps: StepRange { start_ms: CASE_TIME_MS - 580_000, end_ms: CASE_TIME_MS, step_ms: 15_000 },
        offset_ms: 0,
        starts_raw: false,
    };
    let grouping = Grouping { without: false, labels: label.into_iter().map(str::to_owned).collect() };
    let plan = LeafPlan::Aggregate { grid, aggregation, grouping };
    let groups = store.leaf(&TenantId::default(), &plan, context)?.map(|group| match group? {
        LeafSeries::Grid(group) => Ok((group.labels.to_string(), group.values.into_iter().map(f64::to_bits).collect())),
        LeafSeries::Raw(_) => panic!("groups have grids"),
    });
    groups.collect()
}

fn answers(store: &Tsdb) -> (Vec<Groups>, ReadCounts) {
    let context = ReadContext::unlimited();
    let asked = [
        (RangeFunction::Rate, Aggregation::Sum, Some("g")),
        (RangeFunction::AvgOverTime, Aggregation::Avg, None),
        (RangeFunction::Last, Aggregation::Max, Some("n")),
    ];
    let found =
        asked.map(|(function, aggregation, label)| aggregate(store, function, aggregation, label, &context).unwrap());
    (found.into(), context.meter.counts())
}

#[test]
fn many_threads_answer_what_one_answers() {
    let dir = TempDir::new().unwrap();
    fill(dir.path());
    let store = open(dir.path(), 1);
    let expected = answers(&store);
    assert_eq!(expected.0.iter().map(Vec::len).collect::<Vec<_>>(), [5, 1, SERIES as usize + 150]);
    drop(store);
    let store = open(dir.path(), 4);
    assert!(answers(&store) == expected, "from parts and a head");
    store.compact().unwrap();
    store.flush().unwrap();
    store.compact().unwrap();
    assert!(answers(&store) == expected, "from one part");
}

/// Labels and bits of the values.
type Series = Vec<(String, Vec<u64>)>;

fn read(stream: LeafStream) -> Series {
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
    let series = stream.map(|series| match series.unwrap() {
        LeafSeries::Raw(raw) => (raw.labels.to_string(), bits(raw.values)),
        LeafSeries::Grid(grid) => (grid.labels.to_string(), bits(grid.values)),
    });
    series.collect()
}

#[test]
fn pieces_read_by_many_threads_are_what_one_reads() {
    let dir = TempDir::new().unwrap();
    fill(dir.path());
    let store = open(dir.path(), 1);
    let matchers = || vec![Matcher::equal(METRIC_NAME, "m_total")];
    // Most of these steps are where no sample is.
    let steps = StepRange { start_ms: CASE_TIME_MS - 3_000_000, end_ms: CASE_TIME_MS + 900_000, step_ms: 20_000 };
    let grid = |function| {
        LeafPlan::Grid(GridPlan {
            matchers: matchers(),
            function,
            window_ms: 90_000,
            steps,
            offset_ms: 0,
            starts_raw: false,
        })
    };
    let newest = GridPlan {
        matchers: matchers(),
        function: RangeFunction::Last,
        window_ms: 300_000,
        steps: StepRange::instant(CASE_TIME_MS),
        offset_ms: 0,
        starts_raw: false,
    };
    let raw = LeafPlan::Raw(RawPlan { matchers: matchers(), range: TimeRange::ALL });
    for plan in [grid(RangeFunction::Rate), grid(RangeFunction::MaxOverTime), LeafPlan::Grid(newest), raw] {
        let one = ReadContext::unlimited();
        let expected = read(store.leaf(&TenantId::default(), &plan, &one).unwrap());
        assert!(expected.len() > 3500, "{} series", expected.len());
        for series in [1, 100, 3000] {
            let many = ReadContext::unlimited();
            let leaf = store.open_leaf(&TenantId::default(), &plan, &many).unwrap();
            assert!(leaf.series_count() >= expected.len());
            let pieces: Vec<LeafStream> = leaf.pieces(series).map(Result::unwrap).collect();
            assert!(pieces.len() > 1, "pieces of {series}");
            let found = std::thread::scope(|scope| {
                let threads: Vec<_> = pieces.into_iter().map(|piece| scope.spawn(move || read(piece))).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Series>()
            });
            assert!(found == expected, "{plan:?} in pieces of {series}");
            assert_eq!(many.meter.counts(), one.meter.counts());
            assert_eq!(many.memory.used_bytes(), 0);
        }
        let few = ReadContext { series_max: 3500, ..ReadContext::unlimited() };
        let error = match store.open_leaf(&TenantId::default(), &plan, &few) {
            Ok(leaf) => leaf.pieces(500).find_map(|piece| piece.unwrap().find_map(Result::err)),
            Err(error) => Some(error),
        };
        assert!(matches!(error, Some(StorageError::LimitExceeded { limit: 3500, .. })), "{error:?}");
    }
}

#[test]
fn bounds_hold_on_many_threads_too() {
    let dir = TempDir::new().unwrap();
    fill(dir.path());
    let store = open(dir.path(), 4);
    let ask = |context: &ReadContext| aggregate(&store, RangeFunction::Rate, Aggregation::Sum, Some("g"), context);
    let few = ReadContext { series_max: 6000, ..ReadContext::unlimited() };
    assert!(matches!(ask(&few), Err(StorageError::LimitExceeded { limit: 6000, .. })));
    let cancelled = ReadContext::unlimited();
    cancelled.cancel.cancel();
    assert!(matches!(ask(&cancelled), Err(StorageError::Interrupted(_))));
    let small = ReadContext { memory: MemoryBudget::new(1000), ..ReadContext::unlimited() };
    assert!(matches!(ask(&small), Err(StorageError::Memory(_))));
    // Too little for pieces in waiting, enough for one series at a time.
    let modest = ReadContext { memory: MemoryBudget::new(7 << 20), ..ReadContext::unlimited() };
    assert_eq!(ask(&modest).unwrap(), ask(&ReadContext::unlimited()).unwrap());
    assert_eq!(modest.memory.used_bytes(), 0, "everything was given back");
    // Nobody holds more than pieces in waiting, whatever the room.
    let roomy = ReadContext::unlimited();
    ask(&roomy).unwrap();
    assert!(roomy.memory.peak_bytes() < 24 << 20, "{} bytes", roomy.memory.peak_bytes());
}

/// A series longer than a query has memory for is refused while it is read, before anybody holds it.
#[test]
fn a_long_series_is_bounded_by_the_memory_of_who_asks() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), 1);
    let long = |from: i64| {
        let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        for sample in from..from + 50_000 {
            builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS - 150_000 + sample, value: sample as f64 }, 0);
        }
        labels.push(METRIC_NAME, "long");
        builder.finish_series(&mut labels).unwrap();
        builder.build()
    };
    append(&store, long(0));
    store.flush().unwrap();
    append(&store, long(50_000));
    let plan = LeafPlan::Raw(RawPlan { matchers: vec![Matcher::equal(METRIC_NAME, "long")], range: TimeRange::ALL });
    let ask = |context: &ReadContext| -> Result<usize, StorageError> {
        let mut samples = 0;
        for series in store.leaf(&TenantId::default(), &plan, context)? {
            let LeafSeries::Raw(series) = series? else { panic!("raw plans answer samples") };
            samples += series.sample_count();
        }
        Ok(samples)
    };
    let small = ReadContext { memory: MemoryBudget::new(1 << 20), ..ReadContext::unlimited() };
    assert!(matches!(ask(&small), Err(StorageError::Memory(_))));
    assert_eq!(small.memory.used_bytes(), 0);
    let enough = ReadContext { memory: MemoryBudget::new(2 << 20), ..ReadContext::unlimited() };
    assert_eq!(ask(&enough).unwrap(), 100_000);
}
