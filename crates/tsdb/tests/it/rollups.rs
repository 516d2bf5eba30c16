//! Rollups: every answer has the bits that samples give, whatever was written, merged, deleted and hidden.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_base::{HumanDuration, SimClock};
use pharos_grid::{Aggregation, Grouping, RangeFunction, is_absent};
use pharos_model::{
    BatchBuilder, Histogram, LabelsBuilder, METRIC_NAME, Matcher, MetricBatch, Sample, StepRange, TenantId, TimeRange,
    stale_nan,
};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{GridPlan, LeafPlan, LeafSeries, MetricStore, ReadContext, StorageError};
use pharos_tsdb::{Components, RealDisk, Resolution, RetentionRule, Settings, Tsdb};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

use crate::support::{all_series, append, copy_dir, files};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Three days of data begin here, at the start of windows of all lengths in use.
const BASE: i64 = CASE_TIME_MS.div_euclid(DAY) * DAY;

/// A series' samples at a steady pace.
#[derive(Debug, Clone)]
struct Stretch {
    series: u8,
    from: i64,
    gap: i64,
    count: i64,
    /// Added to every instant: on the minute, a millisecond before or behind, or somewhere between.
    shift: i64,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Append(Stretch),
    Delete { series: u8, from: i64, to: i64 },
    Flush,
    Compact,
    Reopen,
}

fn stretch() -> impl Strategy<Value = Step> {
    let shift = prop_oneof![2 => Just(0), 1 => Just(1), 1 => Just(-1), 2 => 0..MINUTE];
    let count = prop_oneof![4 => 20_i64..300, 1 => 1_i64..3];
    (0_u8..7, 0_i64..4000, 1_i64..12, count, shift, any::<u64>()).prop_map(|(series, from, gap, count, shift, seed)| {
        Step::Append(Stretch { series, from, gap, count, shift, seed })
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => stretch(),
        1 => (0_u8..7, 0_i64..72, 0_i64..20).prop_map(|(series, from, hours)| Step::Delete { series, from, to: from + hours }),
        2 => Just(Step::Flush),
        3 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

/// Counters of integers and of fractions, gauges of all sorts, histograms in between, start timestamps.
fn batch(stretch: &Stretch) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    let (mut random, mut total) = (stretch.seed | 1, (stretch.seed % 1000) as f64);
    for number in 0..stretch.count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (small, odd) = ((random >> 40) % 50, (random >> 20) % 64);
        let timestamp_ms = BASE + (stretch.from + number * stretch.gap) * MINUTE + stretch.shift;
        total = if odd == 0 { small as f64 } else { total + small as f64 };
        let value = match stretch.series {
            1 => total * 0.1 + 0.3,
            2 => small as f64,
            3 => (small as f64 - 20.0) / 7.0,
            4 => match odd {
                0..4 => f64::NAN,
                4..8 => stale_nan(),
                8 => f64::NEG_INFINITY,
                9..12 => -0.0,
                12 => 4e15,
                _ => -(small as f64),
            },
            _ => total,
        };
        let start_ms = if stretch.series == 5 && odd > 40 { timestamp_ms - 1000 } else { 0 };
        if stretch.series == 6 && odd < 2 {
            builder.push_histogram(timestamp_ms, Histogram { count: total, ..Histogram::empty(0) }, 0);
        } else {
            builder.push_sample(Sample { timestamp_ms, value }, start_ms);
        }
    }
    labels.push(METRIC_NAME, "m");
    labels.push("n", &stretch.series.to_string());
    builder.finish_series(&mut labels).unwrap();
    builder.build()
}

/// How long what is kept, and at what time.
#[derive(Debug, Clone)]
struct Keeping {
    keep: Option<HumanDuration>,
    rules: Vec<RetentionRule>,
    now_ms: i64,
}

fn keeping() -> impl Strategy<Value = Keeping> {
    let hours = |hours: i64| HumanDuration::from_ms((hours * HOUR).unsigned_abs());
    let rule = RetentionRule { tenant: None, matchers: vec!["n=~\"[02]\"".to_owned()], keep: hours(30) };
    let rules = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![rule])];
    let keep = prop_oneof![3 => Just(None), 1 => (40_i64..60).prop_map(move |count| Some(hours(count)))];
    (keep, rules, 0_i64..120).prop_map(|(keep, rules, minutes)| Keeping {
        keep,
        rules,
        now_ms: BASE + 3 * DAY + minutes * MINUTE + 17,
    })
}

fn open(dir: &Path, keeping: &Keeping, downsampling: &[Resolution]) -> Tsdb {
    let tests = Settings::for_tests();
    let settings = Settings {
        retention: keeping.keep.unwrap_or(tests.retention),
        retention_rules: keeping.rules.clone(),
        downsampling: downsampling.to_vec(),
        ..tests
    };
    Tsdb::open(
        dir,
        settings,
        Components { clock: SimClock::at_ms(keeping.now_ms), disk: Arc::new(RealDisk), ..Components::default() },
    )
    .unwrap()
}

/// Windows, first and last step, distance of steps, offset.
const SHAPES: [(i64, i64, i64, i64, i64); 14] = [
    (HOUR, HOUR, 75 * HOUR, HOUR, 0),
    (2 * HOUR, -HOUR, 75 * HOUR, HOUR, HOUR),
    (5 * MINUTE, 0, 75 * HOUR, HOUR, 0),
    (10 * MINUTE, 10 * HOUR, 70 * HOUR, 5 * MINUTE, 5 * MINUTE),
    (HOUR, 5 * HOUR + 5 * MINUTE, 75 * HOUR, 30 * MINUTE, 0),
    (12 * HOUR, DAY, 75 * HOUR, HOUR, -HOUR),
    (DAY, 3 * DAY, 3 * DAY, HOUR, 0),
    // Single windows and two with ends that no bucket has.
    (2 * DAY, 3 * DAY + 7 * MINUTE + 1, 3 * DAY + 7 * MINUTE + 1, HOUR, 0),
    (30 * HOUR, 2 * DAY + 100, 2 * DAY + 100 + DAY, DAY, 0),
    // Nothing that whole buckets answer.
    (HOUR, HOUR + 1, 75 * HOUR, HOUR, 0),
    (HOUR, HOUR, 75 * HOUR, HOUR, 1),
    (HOUR + 1, HOUR, 75 * HOUR, HOUR, 0),
    (HOUR, HOUR, 75 * HOUR, 7 * MINUTE, 0),
    (MINUTE, HOUR, 75 * HOUR, HOUR, 0),
];

fn plan(function: RangeFunction, shape: (i64, i64, i64, i64, i64), starts_raw: bool) -> GridPlan {
    let (window_ms, start, end, step_ms, offset_ms) = shape;
    let steps = StepRange { start_ms: BASE + start, end_ms: BASE + end, step_ms };
    GridPlan { matchers: all_series(), function, window_ms, steps, offset_ms, starts_raw }
}

/// Bits of values; of arithmetic, all NaNs are alike.
fn bits(function: RangeFunction, values: &[f64]) -> Vec<u64> {
    use RangeFunction as F;
    let computes = matches!(function, F::Rate | F::Increase | F::Delta | F::SumOverTime | F::AvgOverTime);
    let of = |value: &f64| if computes && value.is_nan() && !is_absent(*value) { f64::NAN } else { *value }.to_bits();
    values.iter().map(of).collect()
}

/// Series by labels, samples that windows touched, and cells that were read.
type Answer = (Result<BTreeMap<String, String>, String>, u64, u64);

fn answer(store: &Tsdb, function: RangeFunction, leaf: &LeafPlan) -> Answer {
    let context = ReadContext::unlimited();
    let all = store.leaf(&TenantId::default(), leaf, &context).and_then(|stream| {
        stream
            .map(|series| {
                Ok(match series? {
                    LeafSeries::Grid(grid) => (grid.labels.to_string(), format!("{:x?}", bits(function, &grid.values))),
                    LeafSeries::Raw(raw) => {
                        let values: Vec<u64> = raw.values.iter().map(|value| value.to_bits()).collect();
                        let histograms: Vec<_> = raw.histograms.iter().map(|sample| sample.timestamp_ms).collect();
                        let samples =
                            format!("raw {:?} {values:x?} {:?} {histograms:?}", raw.timestamps_ms, raw.start_ms);
                        (raw.labels.to_string(), samples)
                    }
                })
            })
            .collect::<Result<BTreeMap<_, _>, StorageError>>()
    });
    let counts = context.meter.counts();
    (all.map_err(|error| error.to_string()), counts.samples_queryable, counts.cells)
}

/// Cells read for each function, and series for which there were none.
type Usage = BTreeMap<String, u64>;

fn assert_alike(rolled: &Tsdb, plain: &Tsdb, usage: &RefCell<Usage>) {
    for function in RangeFunction::ALL {
        for (at, shape) in SHAPES.into_iter().enumerate() {
            let grid = plan(function, shape, at % 2 == 0);
            let aggregation = Aggregation::ALL[at % Aggregation::ALL.len()];
            let grouping = Grouping { without: false, labels: vec!["n".to_owned()] };
            let aggregate = LeafPlan::Aggregate { grid: grid.clone(), aggregation, grouping };
            for leaf in [LeafPlan::Grid(grid), aggregate] {
                let (found, expected) = (answer(rolled, function, &leaf), answer(plain, function, &leaf));
                assert_eq!(expected.2, 0, "without rollups nobody reads any");
                assert_eq!(found.0, expected.0, "{function:?} {shape:?} {leaf:?}");
                assert_eq!(found.1, expected.1, "samples in the windows of {function:?} {shape:?} {leaf:?}");
                *usage.borrow_mut().entry(format!("{function:?}")).or_default() += found.2;
            }
        }
    }
}

fn run(keeping: &Keeping, steps: &[Step], usage: &RefCell<Usage>) {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let kinds: [&[Resolution]; 2] = [&[Resolution::FiveMinutes, Resolution::Hour], &[]];
    let tenant = TenantId::default();
    let mut stores = [0, 1].map(|at| Some(open(dirs[at].path(), keeping, kinds[at])));
    for step in steps {
        for (at, slot) in stores.iter_mut().enumerate() {
            if matches!(step, Step::Reopen) {
                drop(slot.take());
                *slot = Some(open(dirs[at].path(), keeping, kinds[at]));
            }
            let store = slot.as_ref().unwrap();
            match step {
                Step::Append(stretch) => append(store, batch(stretch)),
                Step::Delete { series, from, to } => {
                    let range = TimeRange::new(BASE + from * HOUR, BASE + to * HOUR + 1);
                    store.delete(&tenant, &[vec![Matcher::equal("n", series.to_string())]], range).unwrap();
                }
                Step::Flush => store.flush().unwrap(),
                Step::Compact => store.compact().unwrap(),
                Step::Reopen => {}
            }
        }
    }
    let [Some(rolled), Some(plain)] = &stores else { panic!("both are open") };
    assert_alike(rolled, plain, usage);
}

#[test]
fn any_history_answers_alike_with_rollups_and_without() {
    let usage = RefCell::new(Usage::new());
    // A sixteenth of the usual number: every case asks hundreds of questions.
    let config = Config { cases: Config::default().cases / 16, failure_persistence: None, ..Config::default() };
    let steps = (keeping(), proptest::collection::vec(step(), 1..14)).prop_map(|(keeping, mut steps)| {
        // What comes last is often late for what was merged before.
        let at = steps.len() - steps.len() / 4;
        steps.insert(at, Step::Compact);
        (keeping, steps)
    });
    let mut runner = TestRunner::new(config);
    runner
        .run(&steps, |(keeping, steps)| {
            run(&keeping, &steps, &usage);
            Ok(())
        })
        .unwrap();
    // Not all from samples: every function that can has read cells.
    let usage = usage.into_inner();
    for function in RangeFunction::ALL {
        use RangeFunction as F;
        let needs_all = matches!(function, F::Irate | F::Idelta | F::Changes);
        let cells = usage[&format!("{function:?}")];
        assert_eq!(cells == 0, needs_all, "{function:?} read {cells} cells");
    }
}

/// A sample outside of all windows, in a part with rollups, and newer ones with start timestamps.
#[test]
fn what_is_answered_as_samples_has_all_of_the_range() {
    let keeping = Keeping { keep: Some("40h".parse().unwrap()), rules: Vec::new(), now_ms: BASE + 3 * DAY + 17 };
    let stretch =
        |series, from, gap, count, shift, seed| Step::Append(Stretch { series, from, gap, count, shift, seed });
    let steps = [
        stretch(5, 1926, 1, 1, 0, 6_007_808_593_549_681_919),
        Step::Flush,
        stretch(1, 903, 9, 2, 0, 90_650_597_397_499_426),
        Step::Compact,
        stretch(5, 3098, 10, 166, 48_804, 3_028_519_996_024_236_750),
    ];
    run(&keeping, &steps, &RefCell::default());
}

fn steady(series: u8) -> Stretch {
    Stretch { series, from: 0, gap: 1, count: 3 * 24 * 60, shift: 0, seed: 5 }
}

fn forever() -> Keeping {
    Keeping { keep: None, rules: Vec::new(), now_ms: BASE + 4 * DAY }
}

fn filled(dir: &Path, series: u8) -> Tsdb {
    let store = open(dir, &forever(), &[Resolution::FiveMinutes, Resolution::Hour]);
    append(&store, batch(&steady(series)));
    store.compact().unwrap();
    store
}

fn cells(store: &Tsdb, function: RangeFunction, shape: (i64, i64, i64, i64, i64)) -> u64 {
    let before = store.stats().rollup_cells_read;
    let (_, _, cells) = answer(store, function, &LeafPlan::Grid(plan(function, shape, false)));
    assert_eq!(store.stats().rollup_cells_read - before, cells);
    cells
}

#[test]
fn a_day_of_hours_is_read_as_hours_and_a_sample_within_one_as_samples() {
    let dir = TempDir::new().unwrap();
    let store = filled(dir.path(), 0);
    let day_of_hours = (HOUR, HOUR, DAY, HOUR, 0);
    assert_eq!(cells(&store, RangeFunction::Increase, day_of_hours), 24);
    assert_eq!(cells(&store, RangeFunction::SumOverTime, day_of_hours), 24);
    assert_eq!(cells(&store, RangeFunction::Last, (5 * MINUTE, HOUR, DAY, HOUR, 0)), 24, "one of each hour");
    assert_eq!(cells(&store, RangeFunction::Changes, day_of_hours), 0);
    let late = |minutes: i64| batch(&Stretch { from: minutes, count: 1, shift: 1, ..steady(0) });
    append(&store, late(30 * 60));
    assert_eq!(cells(&store, RangeFunction::Increase, day_of_hours), 24, "late, but beyond what is asked for");
    append(&store, late(90));
    assert_eq!(cells(&store, RangeFunction::Increase, day_of_hours), 0, "late, within a bucket");
    store.compact().unwrap();
    assert_eq!(cells(&store, RangeFunction::Increase, day_of_hours), 24, "merged, and rolled up anew");
}

#[test]
fn kinds_that_are_not_exact_are_read_from_samples() {
    let day_of_hours = (HOUR, HOUR, DAY, HOUR, 0);
    for (series, function, expected) in [
        (1, RangeFunction::SumOverTime, 0),
        (1, RangeFunction::Increase, 24),
        (2, RangeFunction::Increase, 0),
        (2, RangeFunction::AvgOverTime, 24),
        (3, RangeFunction::MinOverTime, 24),
        (4, RangeFunction::MaxOverTime, 24),
        (6, RangeFunction::CountOverTime, 0),
    ] {
        let dir = TempDir::new().unwrap();
        assert_eq!(cells(&filled(dir.path(), series), function, day_of_hours), expected, "{function:?} of {series}");
    }
}

#[test]
fn who_turns_it_off_reads_samples_and_writes_no_more_of_it() {
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path(), 0));
    let rollups = || files(dir.path()).iter().filter(|path| path.to_string_lossy().contains("rollup-")).count();
    assert_eq!(rollups(), 2);
    let store = open(dir.path(), &forever(), &[]);
    assert_eq!(cells(&store, RangeFunction::Increase, (HOUR, HOUR, DAY, HOUR, 0)), 0);
    assert!(store.stats().rollup_bytes > 0);
    append(&store, batch(&Stretch { shift: 5, ..steady(0) }));
    store.compact().unwrap();
    assert_eq!((rollups(), store.stats().rollup_bytes), (0, 0));
}

#[test]
fn a_damaged_rollup_is_reported_and_the_samples_are_read() {
    let shape = (HOUR, HOUR, DAY, HOUR, 0);
    let leaf = LeafPlan::Grid(plan(RangeFunction::Increase, shape, false));
    for at in [3, 30, usize::MAX] {
        let dir = TempDir::new().unwrap();
        let store = filled(dir.path(), 0);
        let expected = answer(&store, RangeFunction::Increase, &leaf);
        drop(store);
        let path = files(dir.path()).into_iter().find(|path| path.ends_with("rollup-1h")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        if at < bytes.len() {
            bytes[at] ^= 4;
        } else {
            bytes.truncate(bytes.len() - 1);
        }
        std::fs::write(&path, bytes).unwrap();
        let store = open(dir.path(), &forever(), &[Resolution::Hour]);
        let found = answer(&store, RangeFunction::Increase, &leaf);
        assert_eq!((found.0, found.1, found.2), (expected.0, expected.1, 0));
        assert!(store.damaged().iter().any(|message| message.contains("rollup-1h")), "{:?}", store.damaged());
        store.compact().unwrap();
        assert_eq!(cells(&store, RangeFunction::Increase, shape), 24, "it was written anew");
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format/rollups-v1")
}

/// Half a day of a counter of integers, one of fractions and two gauges.
fn fill_fixture(store: &Tsdb) {
    for series in [0, 1, 2, 4] {
        append(store, batch(&Stretch { count: 720, ..steady(series) }));
    }
    store.compact().unwrap();
}

/// What a released version wrote is read for ever.
#[test]
fn version_1_of_rollups_is_read() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    copy_dir(&fixture(), dirs[0].path());
    let old = open(dirs[0].path(), &forever(), &[Resolution::FiveMinutes, Resolution::Hour]);
    let new = open(dirs[1].path(), &forever(), &[]);
    fill_fixture(&new);
    assert!(old.damaged().is_empty() && old.stats().rollup_bytes > 0);
    let usage = RefCell::new(Usage::new());
    assert_alike(&old, &new, &usage);
    assert!(usage.into_inner().values().filter(|cells| **cells > 0).count() >= 10);
}

/// Writes the fixture. Run by hand, once, for a new version only.
#[test]
#[ignore = "overwrites testdata; for a new format version only"]
fn write_rollup_fixture() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), &forever(), &[Resolution::FiveMinutes, Resolution::Hour]);
    fill_fixture(&store);
    drop(store);
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    copy_dir(dir.path(), &fixture());
}
