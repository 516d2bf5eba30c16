//! What could make an older sample win, or a sample vanish, between log, flush, merge and start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use pharos_base::{ByteSize, Clock, HumanDuration, SimClock};
use pharos_model::{METRIC_NAME, MetricBatch, TenantId, TimeRange};
use pharos_storage::MetricStore;
use pharos_storage::conformance::metrics::{CASE_TIME_MS, float_batch, read_all};
use pharos_tsdb::{Components, RealDisk, Settings, Tsdb};
use tempfile::TempDir;

use crate::fault_disk::FaultDisk;
use crate::support::{all_series, append, batch, clock, copy_dir, files, open, open_with, seconds, try_append};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn one(name: &str, at_ms: i64, value: f64) -> MetricBatch {
    float_batch(&[(&[(METRIC_NAME, name)], &[(at_ms, value)])])
}

/// Values of all series, by labels and time.
fn values(store: &Tsdb) -> Vec<f64> {
    let all = read_all(store, &TenantId::default(), all_series(), TimeRange::ALL);
    all.values().flat_map(|series| series.values.clone()).collect()
}

fn part_dirs(root: &Path) -> Vec<PathBuf> {
    let dir = root.join("tenants").join(TenantId::default().as_str()).join("parts");
    let mut found: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Whatever order removals of segments reach the disk in: an old one that comes back alone must not
/// beat the parts that the newer one is in.
#[test]
fn h1_the_last_value_wins_after_a_power_loss_between_removals() {
    let settings = Settings { log_segment_size: ByteSize(64 << 10), ..Settings::for_tests() };
    let mut rounds_with_both = 0;
    for syncs in 14..34 {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("data");
        let disk = FaultDisk::failing_after(syncs);
        let mut last = None;
        if let Ok(store) = open_with(&root, settings.clone(), Arc::new(disk.clone())) {
            for value in 1..=3 {
                if try_append(&store, one("m", CASE_TIME_MS, f64::from(value))).is_ok() {
                    last = Some(value);
                }
                // Noise that ends the segment.
                let _ = try_append(&store, batch(value.into(), 6000));
            }
            let _ = store.flush();
        }
        disk.cut_power();
        let store = open(&root);
        let found = read_all(
            &store,
            &TenantId::default(),
            vec![pharos_model::Matcher::equal(METRIC_NAME, "m")],
            TimeRange::ALL,
        );
        let at = found.values().flat_map(|s| s.timestamps_ms.iter().zip(&s.values)).find(|(t, _)| **t == CASE_TIME_MS);
        if let Some(last) = last {
            let value = at.map(|(_, value)| *value);
            assert!(
                value.is_some_and(|value| value >= f64::from(last)),
                "after {syncs} syncs: {value:?}, acknowledged {last}"
            );
            rounds_with_both += usize::from(last == 3);
        }
    }
    assert!(rounds_with_both > 3);
}

/// Every look at the clock finds it a step later.
#[derive(Debug)]
struct Hurrying {
    now_ms: AtomicI64,
    step_ms: AtomicI64,
    origin: Instant,
}

impl Clock for Hurrying {
    fn unix_ns(&self) -> i64 {
        self.now_ms.fetch_add(self.step_ms.load(Ordering::SeqCst), Ordering::SeqCst) * 1_000_000
    }

    fn monotonic(&self) -> Instant {
        self.origin
    }
}

/// A flush of many windows takes several passes; a sample must not fall between a window that is done
/// and one that it no longer belongs to.
#[test]
fn a_flush_that_outlives_a_boundary_of_windows_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let (now_ms, step_ms) = (AtomicI64::new(CASE_TIME_MS), AtomicI64::new(0));
    let clock = Arc::new(Hurrying { now_ms, step_ms, origin: SimClock::at_ms(0).monotonic() });
    let components =
        Components { clock: Arc::clone(&clock) as Arc<dyn Clock>, disk: Arc::new(RealDisk), ..Components::default() };
    let store = Tsdb::open(dir.path(), Settings::for_tests(), components).unwrap();
    append(&store, one("a", CASE_TIME_MS - DAY_MS - 1, 1.0));
    for window in 1..81 {
        append(&store, one("b", CASE_TIME_MS - DAY_MS - window * 27 * DAY_MS, 2.0));
    }
    let boundary = CASE_TIME_MS - DAY_MS;
    for minute in 0..30 {
        append(&store, one(&format!("c{minute:02}"), boundary + (minute + 4) * 60_000, 3.0));
    }
    let before = values(&store).len();
    clock.step_ms.store(60_000, Ordering::SeqCst);
    store.flush().unwrap();
    assert_eq!(values(&store).len(), before);
}

/// The merged part is named, so its sources would go; but it cannot be read.
#[test]
fn sources_stay_until_the_part_that_replaces_them_opens() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in 0..4 {
        append(&store, batch(second, 2));
        store.flush().unwrap();
    }
    let image = TempDir::new().unwrap();
    copy_dir(dir.path(), image.path());
    store.compact().unwrap();
    drop(store);
    let merged = part_dirs(dir.path()).pop().unwrap();
    let there = image.path().join(merged.strip_prefix(dir.path()).unwrap());
    copy_dir(&merged, &there);
    let data = there.join("data");
    let bytes = std::fs::read(&data).unwrap();
    std::fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    let store = open(image.path());
    assert_eq!(store.damaged().len(), 1);
    assert_eq!(seconds(&store), vec![vec![0, 1, 2, 3]; 2]);
    drop(store);
    std::fs::write(&data, bytes).unwrap();
    let store = open(image.path());
    assert_eq!((store.stats().parts, part_dirs(image.path()).len()), (1, 1), "whole again, it replaces them");
    assert_eq!(seconds(&store), vec![vec![0, 1, 2, 3]; 2]);
}

/// Retention was changed: parts of a larger window lie across the windows that are merged now.
#[test]
fn merging_does_not_jump_over_a_part_of_another_window() {
    let dir = TempDir::new().unwrap();
    let at_ms = CASE_TIME_MS - 3 * DAY_MS;
    let short = Settings { retention: HumanDuration::from_ms(30 * 86_400_000), ..Settings::for_tests() };
    for (settings, value) in [(short.clone(), 1.0), (Settings::for_tests(), 2.0)] {
        let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
        append(&store, one("m", at_ms, value));
        store.close().unwrap();
    }
    let store = open_with(dir.path(), short, Arc::new(RealDisk)).unwrap();
    append(&store, one("other", at_ms, 3.0));
    store.compact().unwrap();
    assert_eq!(values(&store), [2.0, 3.0]);
    assert!(clock().unix_ms() - at_ms < 30 * DAY_MS);
}

/// A full disk must not be filled further by every new attempt.
#[test]
fn a_failed_flush_leaves_no_files_behind() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    append(&store, one("m", CASE_TIME_MS, 1.0));
    append(&store, one("m", CASE_TIME_MS - 60 * DAY_MS, 1.0));
    store.flush().unwrap();
    let flushed = files(&dir.path().join("tenants"));
    let dirs = part_dirs(dir.path());
    append(&store, one("m", CASE_TIME_MS, 2.0));
    append(&store, one("m", CASE_TIME_MS - 60 * DAY_MS, 2.0));
    for writes in 0..12 {
        disk.full_after(writes);
        let flushed_at_last = store.flush().is_ok();
        disk.set_full(false);
        if flushed_at_last {
            assert!(writes > 4, "each file of both parts had its turn");
            assert_eq!(values(&store), [2.0, 2.0]);
            return;
        }
        assert_eq!(files(&dir.path().join("tenants")), flushed, "full after {writes} writes");
        assert_eq!(part_dirs(dir.path()), dirs, "full after {writes} writes");
    }
    panic!("the flush never succeeded");
}

/// A source that could not be removed must not come back when the part that replaced it is merged itself.
#[test]
fn a_source_that_stayed_is_replaced_by_the_next_merge_too() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in 0..2 {
        append(&store, batch(second, 2));
        store.flush().unwrap();
    }
    let source = part_dirs(dir.path()).remove(0);
    let kept = TempDir::new().unwrap();
    copy_dir(&source, kept.path());
    store.compact().unwrap();
    copy_dir(kept.path(), &source);
    append(&store, batch(2, 2));
    store.compact().unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.stats().parts, part_dirs(dir.path()).len()), (1, 1));
    assert_eq!(seconds(&store), vec![vec![0, 1, 2]; 2]);
}

/// The part that overwrote a sample is small and its end is the oldest: if it went first, the old value would be seen again.
#[test]
fn size_does_not_bring_an_overwritten_value_back() {
    for size_max in (200..6000).step_by(100) {
        let dir = TempDir::new().unwrap();
        let settings = Settings { retention_size: Some(ByteSize(size_max)), ..Settings::for_tests() };
        let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
        let at_ms = CASE_TIME_MS - 100 * DAY_MS;
        for batch in [
            float_batch(&[(&[(METRIC_NAME, "m")], &[(at_ms, 1.0), (at_ms + 1000, 1.5)])]),
            one("m", at_ms, 2.0),
            one("m", CASE_TIME_MS, 3.0),
        ] {
            append(&store, batch);
            store.flush().unwrap();
        }
        let _ = store.maintain();
        let found = values(&store);
        assert!([vec![], vec![3.0], vec![2.0, 3.0], vec![2.0, 1.5, 3.0]].contains(&found), "{size_max}: {found:?}");
    }
}
