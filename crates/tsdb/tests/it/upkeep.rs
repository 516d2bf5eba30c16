//! Merging in the background: how much it writes, what it does when it fails, and that it ends when asked to.

use std::sync::Arc;
use std::time::Duration;

use pharos_base::{ByteSize, Clock, SimClock, SystemClock};
use pharos_model::{BatchBuilder, Labels, LabelsBuilder, METRIC_NAME, MetricBatch, Sample, TenantId, TimeRange};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, read_all};
use pharos_storage::{MetricStore, MetricStoreStats};
use pharos_tsdb::{Components, Settings, Tsdb};
use tempfile::TempDir;

use crate::fault_disk::FaultDisk;
use crate::support::{all_series, append, batch, files, open, seconds, try_append};

const HOUR_MS: i64 = 3_600_000;
const STEP_MS: i64 = 15_000;

fn open_at(dir: &TempDir, clock: &Arc<SimClock>, disk: &FaultDisk, settings: Settings) -> Tsdb {
    let clock: Arc<dyn Clock> = clock.clone();
    Tsdb::open(dir.path(), settings, Components { clock, disk: Arc::new(disk.clone()), ..Components::default() })
        .unwrap()
}

/// Ten minutes of counters, gauges with two decimals and constants.
fn ten_minutes(from_ms: i64, series: usize) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for number in 0..series {
        for step in 0..40 {
            let at_ms = from_ms + step * STEP_MS;
            let tick = at_ms / STEP_MS;
            let mixed = (tick.wrapping_mul(0x9e37_79b9) ^ number as i64).wrapping_mul(0x85eb_ca6b) >> 7;
            let value = match number % 4 {
                0 => 1.0,
                1 => (tick % 100_000 * 40 + mixed % 37) as f64,
                2 => (2_000 + mixed % 300) as f64 / 100.0,
                _ => (tick / 40 % 50) as f64,
            };
            builder.push_sample(Sample { timestamp_ms: at_ms, value }, 0);
        }
        labels.push(METRIC_NAME, ["up", "requests_total", "load", "threads"][number % 4]);
        labels.push("instance", &format!("host-{:04}", number / 4));
        builder.finish_series(&mut labels).unwrap();
    }
    builder.build()
}

/// What some days of ingest came to.
struct Course {
    /// All bytes of all files of parts.
    written: u64,
    /// Bytes left at the end.
    kept: u64,
    parts_max: u64,
    stats: MetricStoreStats,
}

/// Days of ingest, flushed every `flush_every` ten minutes; every sample is there in the end.
fn ingest_days(days: i64, series: usize, flush_every: i64) -> Course {
    let dir = TempDir::new().unwrap();
    // Where the largest windows of the default retention begin.
    let from_ms = CASE_TIME_MS.div_euclid(72 * HOUR_MS) * 72 * HOUR_MS;
    let (clock, disk) = (SimClock::at_ms(from_ms), FaultDisk::default());
    let settings = Settings { retention: Settings::default().retention, ..Settings::for_tests() };
    let store = open_at(&dir, &clock, &disk, settings);
    let mut parts_max = 0;
    for round in 0..days * 24 * 6 {
        append(&store, ten_minutes(from_ms + round * 600_000, series));
        clock.advance_ms(600_000);
        // Out of step with the windows, as a flush after some start is.
        if round % flush_every == flush_every / 3 {
            store.flush().unwrap();
            store.maintain().unwrap();
            parts_max = parts_max.max(store.stats().parts);
        }
    }
    store.flush().unwrap();
    clock.advance_ms(4 * HOUR_MS);
    store.maintain().unwrap();
    let stats = store.stats();
    assert_eq!(stats.part_samples, series as u64 * days as u64 * 24 * 240);
    let found = read_all(&store, &TenantId::default(), all_series(), TimeRange::ALL);
    assert_eq!(found.len(), series);
    for round in 0..days * 24 * 6 {
        let sent = ten_minutes(from_ms + round * 600_000, series);
        for run in &sent.series {
            let labels = Labels::from_encoded(sent.encoded_labels(run)).unwrap();
            let from = round as usize * 40;
            let bits = found[&labels].values[from..from + 40].iter().map(|value| value.to_bits());
            assert!(bits.eq(sent.samples[run.samples.clone()].iter().map(|sample| sample.value.to_bits())));
        }
    }
    Course { written: disk.part_bytes(), kept: stats.part_bytes, parts_max, stats }
}

#[test]
fn a_day_of_ingest_is_written_at_most_three_times() {
    let Course { written, kept, parts_max, .. } = ingest_days(1, 100, 12);
    println!("flush every 2 h: {written} bytes written for {kept} kept, at most {parts_max} parts");
    assert!(written <= 3 * kept, "{written} bytes written for {kept}");
    assert!(parts_max <= 16, "{parts_max} parts");
}

/// The third merge of a sample copies what the second has encoded.
#[test]
fn three_days_become_one_part_and_are_written_at_most_four_times() {
    const SERIES: usize = 24;
    let Course { written, kept, stats, .. } = ingest_days(3, SERIES, 12);
    println!("three days: {written} bytes written for {kept} kept");
    assert_eq!((stats.parts, stats.merge_samples_copied), (1, SERIES as u64 * 72 * 240));
    assert!(written <= 4 * kept, "{written} bytes written for {kept}");
}

/// Figures for the documents: more series, and a head that is full every ten minutes.
#[test]
#[ignore = "takes a minute; prints figures"]
fn amplification() {
    for (days, series, flush_every) in [(1, 300, 12), (1, 300, 3), (1, 300, 1), (3, 300, 12)] {
        let Course { written, kept, parts_max, .. } = ingest_days(days, series, flush_every);
        let ratio = written as f64 / kept as f64;
        println!(
            "{days} days of {series} series, a flush every {} min: {ratio:.2} ({written} for {kept}), at most {parts_max} parts",
            flush_every * 10
        );
    }
}

fn many_parts(store: &Tsdb) {
    for second in 0..12 {
        append(store, batch(second, 20));
        store.flush().unwrap();
    }
}

#[test]
fn a_merge_without_room_fails_before_it_writes_and_is_not_tried_again_at_once() {
    let dir = TempDir::new().unwrap();
    let (clock, disk) = (SimClock::at_ms(CASE_TIME_MS + 60_000), FaultDisk::default());
    let store = open_at(&dir, &clock, &disk, Settings::for_tests());
    many_parts(&store);
    disk.set_free(1000);
    let (before, on_disk) = (disk.part_bytes(), files(&dir.path().join("tenants")));
    // The background may be the one that tries: both keep the same pause.
    let tried: Vec<_> = (0..5).filter_map(|_| store.maintain().err()).map(|error| error.to_string()).collect();
    assert!(tried.iter().all(|error| error.contains("bytes of free disk space")), "{tried:?}");
    assert_eq!((tried.len() <= 1, store.stats().merge_failures), (true, 1));
    clock.advance_ms(31_000);
    let _ = store.maintain();
    let _ = store.maintain();
    assert_eq!(store.stats().merge_failures, 2);
    assert_eq!((disk.part_bytes(), files(&dir.path().join("tenants"))), (before, on_disk), "nothing was written");
    assert_eq!(seconds(&store), vec![(0..12).collect::<Vec<_>>(); 20]);
    disk.set_free(u64::MAX);
    clock.advance_ms(61_000);
    store.maintain().unwrap();
    assert_eq!((store.stats().parts, store.stats().merges), (1, 1));
    assert_eq!(seconds(&store), vec![(0..12).collect::<Vec<_>>(); 20]);
}

#[test]
fn failures_of_flush_and_merge_are_counted_and_leave_everything_readable() {
    let dir = TempDir::new().unwrap();
    let (clock, disk) = (SimClock::at_ms(CASE_TIME_MS + 60_000), FaultDisk::default());
    let store = open_at(&dir, &clock, &disk, Settings::for_tests());
    many_parts(&store);
    append(&store, batch(50, 20));
    disk.set_full(true);
    assert!(store.flush().is_err());
    let _ = store.maintain();
    let stats = store.stats();
    assert_eq!((stats.flush_failures, stats.merge_failures, stats.parts), (1, 1, 12));
    disk.set_full(false);
    clock.advance_ms(31_000);
    store.flush().unwrap();
    store.maintain().unwrap();
    assert!(store.stats().parts <= 2);
    assert_eq!(seconds(&store)[19], (0..12).chain([50]).collect::<Vec<_>>());
}

/// Bytes that no codec makes smaller.
fn noise(from_ms: i64, samples: i64) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for series in 0..8_i64 {
        for step in 0..samples {
            let bits = (from_ms + series * 77 + step).wrapping_mul(0x5851_f42d_4c95_7f2d).cast_unsigned();
            let value = f64::from_bits(bits & !(0x7ff << 52) | 0x3ff << 52);
            builder.push_sample(Sample { timestamp_ms: from_ms + step * 10, value }, 0);
        }
        labels.push(METRIC_NAME, "noise");
        labels.push("n", &series.to_string());
        builder.finish_series(&mut labels).unwrap();
    }
    builder.build()
}

#[test]
fn a_merge_under_way_does_not_keep_the_store_from_closing() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { merge_rate_max: Some(ByteSize::mib(1)), ..Settings::for_tests() };
    let (clock, disk) = (SimClock::at_ms(CASE_TIME_MS + HOUR_MS), FaultDisk::default());
    let store = open_at(&dir, &clock, &disk, settings);
    for round in 0..12 {
        append(&store, noise(CASE_TIME_MS + round * 60_000, 4000));
        store.flush().unwrap();
    }
    // At 1 MiB a second, read and written, all of it takes this long at least.
    let merge_takes = Duration::from_secs(store.stats().part_bytes * 2 / (1 << 20));
    assert!(merge_takes > Duration::from_secs(4), "{merge_takes:?}");
    let before = seconds(&store);
    // Deletes wake the background.
    let everything = [vec![pharos_model::Matcher::equal("n", "0")]];
    for round in 0..6 {
        append(&store, noise(CASE_TIME_MS - HOUR_MS + round, 1));
        let range = TimeRange::new(CASE_TIME_MS - HOUR_MS, CASE_TIME_MS - HOUR_MS + 100);
        store.delete(&TenantId::default(), &everything, range).unwrap();
    }
    let clock = SystemClock;
    let asked_at = clock.monotonic();
    let is_merging = || {
        let all = files(&dir.path().join("tenants"));
        let growing = all.iter().filter(|path| path.to_string_lossy().contains("tmp-"));
        growing.filter_map(|path| path.metadata().ok()).any(|found| found.len() > 300 << 10)
    };
    while !is_merging() {
        assert!(clock.monotonic().duration_since(asked_at) < Duration::from_mins(5), "the merge does not begin");
    }
    let closed_at = clock.monotonic();
    drop(store);
    let took = clock.monotonic().duration_since(closed_at);
    assert!(took < merge_takes / 2, "closing took {took:?} of {merge_takes:?}");
    let store = open(dir.path());
    assert_eq!(seconds(&store)[0], before[0]);
    assert!(files(&dir.path().join("tenants")).iter().all(|path| !path.to_string_lossy().contains("tmp-")));
}

#[test]
fn a_failed_flush_is_tried_again_without_being_asked() {
    let dir = TempDir::new().unwrap();
    let (clock, disk) = (SimClock::at_ms(CASE_TIME_MS + 60_000), FaultDisk::default());
    let settings = Settings { head_memory_max: ByteSize::mib(1), ..Settings::for_tests() };
    let store = open_at(&dir, &clock, &disk, settings);
    disk.set_full_for_parts(true);
    let mut round = 0;
    while store.stats().flush_failures == 0 {
        // Refused ones ask for a flush; nobody asks afterwards.
        let _ = try_append(&store, noise(CASE_TIME_MS + round * 60_000, 4000));
        round += 1;
    }
    disk.set_full_for_parts(false);
    assert!(disk.wait_for_parts(1), "nobody flushes");
}
