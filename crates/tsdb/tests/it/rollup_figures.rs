//! Figures on rollups for the documents: what thirty days cost to read with them and without, and on disk.

use std::path::Path;
use std::sync::Arc;

use pharos_base::{HumanDuration, SimClock};
use pharos_grid::{Aggregation, Grouping, RangeFunction};
use pharos_model::{BatchBuilder, LabelsBuilder, METRIC_NAME, Matcher, MetricBatch, Sample, StepRange, TenantId};
use pharos_storage::conformance::metrics::CASE_TIME_MS;
use pharos_storage::{GridPlan, LeafPlan, LeafSeries, MetricStore, ReadContext};
use pharos_tsdb::{Components, RealDisk, Resolution, Settings, Tsdb};
use tempfile::TempDir;

use crate::support::{append, files};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const DAYS: i64 = 30;
const BASE: i64 = CASE_TIME_MS.div_euclid(72 * HOUR) * 72 * HOUR;
const SERIES: i64 = 100;

fn open(dir: &Path, clock: &Arc<SimClock>, downsampling: &[Resolution]) -> Tsdb {
    let retention = HumanDuration::from_ms(40 * DAY.unsigned_abs());
    let settings = Settings { retention, downsampling: downsampling.to_vec(), ..Settings::for_tests() };
    Tsdb::open(dir, settings, Components { clock: clock.clone(), disk: Arc::new(RealDisk), ..Components::default() })
        .unwrap()
}

/// Six hours, one sample in 15 seconds: counters of requests and of seconds, gauges with two decimals and of integers.
fn six_hours(from_ms: i64, totals: &mut [f64], random: &mut u64) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for series in 0..SERIES {
        let (kind, target) = (series % 4, series / 4);
        for tick in 0..6 * 240 {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (*random >> 40) as f64 / (1_u64 << 24) as f64;
            let total = &mut totals[series as usize];
            *total = match kind {
                0 => *total + (draw * 40.0).floor(),
                1 => *total + (draw * 1e6).floor() / 1e6,
                2 => ((*total * 100.0 + (draw * 200.0).floor() - 100.0).round() / 100.0).abs(),
                _ => (*total + (draw * 3.0).floor() - 1.0).abs(),
            };
            let timestamp_ms = from_ms + tick * 15_000 + (target * 577) % 15_000 + 1;
            builder.push_sample(Sample { timestamp_ms, value: *total }, 0);
        }
        labels.push(METRIC_NAME, ["requests_total", "seconds_total", "load", "threads"][kind as usize]);
        labels.push("instance", &format!("host-{target:04}"));
        builder.finish_series(&mut labels).unwrap();
    }
    builder.build()
}

/// CPU time of the process, ms.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
}

/// CPU of one query, ms, and cells it read.
fn cost(store: &Tsdb, leaf: &LeafPlan) -> (f64, u64) {
    let mut cells = 0;
    let mut query = || {
        let context = ReadContext::unlimited();
        for series in store.leaf(&TenantId::default(), leaf, &context).unwrap() {
            assert!(matches!(series.unwrap(), LeafSeries::Grid(_)));
        }
        cells = context.meter.counts().cells;
    };
    query();
    let (before, mut runs) = (cpu_ms(), 0);
    while cpu_ms() - before < 1000.0 {
        query();
        runs += 1;
    }
    ((cpu_ms() - before) / f64::from(runs), cells)
}

#[test]
#[ignore = "writes thirty days; prints figures, worth something in release only"]
fn rollup_figures() {
    let dir = TempDir::new().unwrap();
    let clock = SimClock::at_ms(BASE);
    let both = [Resolution::FiveMinutes, Resolution::Hour];
    let mut build = [0.0; 2];
    for (at, kinds) in [&[][..], &both[..]].into_iter().enumerate() {
        let store = open(dir.path(), &clock, kinds);
        if at == 0 {
            let (mut totals, mut random) = ([100.0; SERIES as usize], 7);
            for round in 0..DAYS * 4 {
                append(&store, six_hours(BASE + round * 6 * HOUR, &mut totals, &mut random));
                clock.advance_ms(6 * HOUR);
            }
            store.flush().unwrap();
            clock.advance_ms(DAY);
        }
        let before = cpu_ms();
        store.compact().unwrap();
        build[at] = cpu_ms() - before;
    }
    let plain = open(dir.path(), &clock, &[]);
    let stats = plain.stats();
    let samples = stats.part_samples as f64;
    println!(
        "{} samples in {} parts; all merges {:.0} ms of CPU, all again with rollups {:.0} ms",
        samples, stats.parts, build[0], build[1]
    );
    let bytes = |name: &str| {
        let found = files(dir.path()).into_iter().filter(|path| path.ends_with(name));
        found.map(|path| std::fs::metadata(path).unwrap().len()).sum::<u64>() as f64 / samples
    };
    println!(
        "bytes per sample: data {:.3}, rollup-5m {:.3}, rollup-1h {:.4}",
        bytes("data"),
        bytes("rollup-5m"),
        bytes("rollup-1h")
    );
    let end = BASE + DAYS * DAY;
    let queries = [
        (
            "sum(increase(requests_total[1h])), step 1h",
            "requests_total",
            RangeFunction::Increase,
            HOUR,
            HOUR,
            Some(Aggregation::Sum),
        ),
        (
            "sum(rate(seconds_total[5m])), step 1h",
            "seconds_total",
            RangeFunction::Rate,
            300_000,
            HOUR,
            Some(Aggregation::Sum),
        ),
        ("avg_over_time(threads[1h]), step 1h", "threads", RangeFunction::AvgOverTime, HOUR, HOUR, None),
        ("max_over_time(load[1d]), step 1d", "load", RangeFunction::MaxOverTime, DAY, DAY, None),
        ("sum(load), step 1h", "load", RangeFunction::Last, 300_000, HOUR, Some(Aggregation::Sum)),
        (
            "sum(increase(requests_total[30d]))",
            "requests_total",
            RangeFunction::Increase,
            DAYS * DAY,
            0,
            Some(Aggregation::Sum),
        ),
    ];
    let plans = queries.map(|(text, metric, function, window_ms, step_ms, aggregation)| {
        let steps = match step_ms {
            0 => StepRange::instant(end + 7),
            _ => StepRange { start_ms: BASE + step_ms, end_ms: end, step_ms },
        };
        let matchers = vec![Matcher::equal(METRIC_NAME, metric)];
        let grid = GridPlan { matchers, function, window_ms, steps, offset_ms: 0, starts_raw: false };
        let grouping = Grouping { without: false, labels: Vec::new() };
        (
            text,
            match aggregation {
                Some(aggregation) => LeafPlan::Aggregate { grid, aggregation, grouping },
                None => LeafPlan::Grid(grid),
            },
        )
    });
    let without = plans.each_ref().map(|(_, leaf)| cost(&plain, leaf));
    drop(plain);
    let rolled = open(dir.path(), &clock, &both);
    println!("30 d of {} series, CPU of the leaf:", SERIES / 4);
    for ((text, leaf), (plain_ms, _)) in plans.iter().zip(without) {
        let (rolled_ms, cells) = cost(&rolled, leaf);
        println!("{text}: {plain_ms:.2} ms from samples, {rolled_ms:.2} ms from {cells} cells");
    }
}
