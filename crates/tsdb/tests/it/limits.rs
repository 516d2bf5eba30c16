//! Every limit of the settings, reached.

use std::num::{NonZeroU64, NonZeroUsize};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pharos_base::{ByteSize, HumanDuration, SimClock};
use pharos_model::{
    BatchBuilder, BucketSide, BucketSpan, Exemplar, Histogram, Labels, LabelsBuilder, METRIC_NAME, RunGroup, Sample,
    TenantId, TimeRange,
};
use pharos_storage::conformance::groups;
use pharos_storage::conformance::metrics::{CASE_TIME_MS, float_batch, read_all};
use pharos_storage::{BatchId, MetricStore, ReadContext, RejectReason, StorageError};
use pharos_tsdb::{Components, RealDisk, SeriesLimits, Settings, Tsdb, TsdbError};
use tempfile::TempDir;

use crate::fault_disk::{Fault, FaultDisk};
use crate::support::{all_series, append, batch, open, open_with, seconds, try_append};

#[test]
fn series_above_the_limit_are_refused_and_known_ones_go_on() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { series_max_per_tenant: NonZeroU64::new(2), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    let outcome = try_append(&store, batch(1, 5)).unwrap();
    assert_eq!((outcome.items, outcome.rejected()), (2, 3));
    assert_eq!(outcome.rejections[0].reason, RejectReason::SeriesLimit);
    assert_eq!(try_append(&store, batch(2, 2)).unwrap().rejected(), 0);
    assert_eq!(seconds(&store), [[1, 2], [1, 2]]);
    // Series that stay silent from one flush to the next make room.
    store.flush().unwrap();
    append(&store, batch(3, 1));
    store.flush().unwrap();
    let other: &[(&str, &str)] = &[("__name__", "other")];
    let outcome = try_append(&store, float_batch(&[(other, &[(CASE_TIME_MS, 1.0)])])).unwrap();
    assert_eq!(outcome.rejected(), 0);
}

#[test]
fn series_that_belong_together_are_stored_together() {
    let dir = TempDir::new().unwrap();
    let settings =
        Settings { series_max_per_tenant: NonZeroU64::new(groups::SERIES_MAX as u64), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    groups::groups_are_stored_whole(&store);
}

/// Where the memory of series is used up, all new ones are refused, and a group with one of them.
#[test]
fn series_beyond_their_memory_are_refused_group_by_group() {
    let dir = TempDir::new().unwrap();
    let settings =
        Settings { head_memory_max: ByteSize::mib(1), head_memory_limit: ByteSize::mib(4), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    let known: &[(&str, &str)] = &[("__name__", "h_count")];
    append(&store, float_batch(&[(known, &[(CASE_TIME_MS, 1.0)])]));
    assert!(try_append(&store, batch(1, 20_000)).unwrap().rejected() > 0);
    store.flush().unwrap();
    let new: &[(&str, &str)] = &[("__name__", "h_bucket")];
    let mut histogram = float_batch(&[(known, &[(CASE_TIME_MS + 1, 1.0)]), (new, &[(CASE_TIME_MS + 1, 1.0)])]);
    histogram.groups = vec![RunGroup { runs: 0..2, added: 0..0, items: 1 }];
    let outcome = try_append(&store, histogram).unwrap();
    assert_eq!((outcome.items, outcome.rejected(), outcome.refused_runs), (0, 1, vec![0, 1]));
    assert_eq!(outcome.rejections[0].reason, RejectReason::Limit);
}

#[test]
fn one_tenant_may_have_fewer_series_than_the_others_and_is_named() {
    let dir = TempDir::new().unwrap();
    let limited: TenantId = "dev".parse().unwrap();
    let is_limited = limited.clone();
    let series_limits = SeriesLimits::new(move |tenant| (*tenant == is_limited).then_some(2));
    let components = Components { series_limits, ..Components::default() };
    let store = Tsdb::open(dir.path(), Settings::for_tests(), components).unwrap();
    let append = |tenant: &TenantId| store.append(tenant, batch(1, 5), BatchId::random()).wait().unwrap().unwrap();
    let outcome = append(&limited);
    assert_eq!((outcome.items, outcome.rejected()), (2, 3));
    let message = &outcome.rejections[0].message;
    assert!(message.contains("tenant dev has 2") && message.contains("limits.series_active"), "{message}");
    assert_eq!(append(&TenantId::default()).rejected(), 0);
}

#[test]
fn no_more_tenants_than_the_limit_and_known_ones_go_on() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { tenants_max: NonZeroUsize::new(2).unwrap(), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    let append = |name: &str| store.append(&name.parse().unwrap(), batch(1, 1), BatchId::random()).wait().unwrap();
    assert!(append("a").is_ok() && append("b").is_ok());
    let refused = append("c").unwrap_err();
    assert!(matches!(&refused, StorageError::LimitExceeded { what: "tenants", limit: 2, .. }), "{refused}");
    assert!(append("a").is_ok());
    let admits = |name: &str| store.admits(&name.parse().unwrap());
    assert!(admits("b").is_ok());
    assert!(admits("c").unwrap_err().to_string().contains("tsdb.tenants_max"));
}

#[test]
fn samples_older_than_retention_are_neither_answered_nor_kept() {
    let dir = TempDir::new().unwrap();
    let clock = SimClock::at_ms(CASE_TIME_MS);
    let settings = Settings { retention: HumanDuration::from_ms(10 * 86_400_000), ..Settings::for_tests() };
    let components = Components { clock: clock.clone(), disk: Arc::new(RealDisk), ..Components::default() };
    let store = Tsdb::open(dir.path(), settings, components).unwrap();
    append(&store, batch(-9 * 86_400, 1));
    append(&store, batch(-60, 1));
    store.flush().unwrap();
    assert_eq!(seconds(&store), [[-9 * 86_400, -60]]);
    clock.advance_ms(2 * 86_400_000);
    assert_eq!(seconds(&store), [[-60]]);
    assert_eq!(store.stats().part_samples, 2);
    store.compact().unwrap();
    assert_eq!((store.stats().part_samples, seconds(&store)), (1, vec![vec![-60]]));
}

#[test]
fn the_oldest_parts_go_when_all_are_too_large() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { retention_size: Some(ByteSize(4000)), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    for day in (0..40).rev() {
        append(&store, batch(-day * 86_400 * 27, 20));
        store.flush().unwrap();
    }
    store.compact().unwrap();
    assert!(store.stats().part_bytes <= 4000 && store.stats().parts > 0);
    assert_eq!(seconds(&store)[0].last(), Some(&0), "the newest stays");
}

#[test]
fn a_head_above_its_limit_is_flushed_by_itself() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { head_memory_max: ByteSize::mib(1), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    let deadline = std::time::Duration::from_secs(20);
    let started = pharos_base::Clock::monotonic(&pharos_base::SystemClock);
    let mut second = 0;
    while store.stats().parts == 0 {
        // Refusals are legal while the flush runs; the loop is bounded by the flush, not by time.
        let _ = try_append(&store, batch(second, 500));
        second += 1;
        assert!(pharos_base::Clock::monotonic(&pharos_base::SystemClock).duration_since(started) < deadline);
    }
}

#[test]
fn log_segments_are_bounded_and_each_replays_by_itself() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { log_segment_size: ByteSize(64 << 10), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap();
    for second in 0..100 {
        append(&store, batch(second, 300));
    }
    drop(store);
    assert!(crate::support::files(&dir.path().join("log")).len() > 2);
    let store = open(dir.path());
    assert_eq!(seconds(&store), vec![(0..100).collect::<Vec<_>>(); 300]);
    store.flush().unwrap();
    assert_eq!(store.stats().log_bytes, 0);
    assert!(crate::support::files(&dir.path().join("log")).is_empty());
}

#[test]
fn settings_below_their_minimum_are_named() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { head_memory_max: ByteSize(5), ..Settings::default() };
    let error = open_with(dir.path(), settings, Arc::new(RealDisk)).unwrap_err();
    assert!(matches!(&error, TsdbError::Settings { setting: "head_memory_max", .. }), "{error}");
}

/// The log keeps histograms in groups that can be read back only up to a size: more is refused, not lost.
#[test]
fn a_batch_too_large_for_one_record_is_stored_in_several() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let wide = |buckets: u32| Histogram {
        positive: BucketSide {
            spans: vec![BucketSpan { offset: 0, length: buckets }],
            counts: (0..buckets).map(f64::from).collect(),
        },
        ..Histogram::empty(0)
    };
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for time in 0..100 {
        builder.push_histogram(CASE_TIME_MS + time, wide(12_000), 0);
    }
    labels.push("__name__", "wide");
    builder.finish_series(&mut labels).unwrap();
    builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS + 1000, value: 1.0 }, 0);
    labels.push("__name__", "narrow");
    builder.finish_series(&mut labels).unwrap();
    let outcome = try_append(&store, builder.build()).unwrap();
    assert_eq!((outcome.histograms, outcome.items), (100, 1));
    append(&store, batch(1, 1));
    // Replayed from the log, and again from a part.
    drop(store);
    for _ in 0..2 {
        let store = open(dir.path());
        let all = read_all(&store, &TenantId::default(), all_series(), TimeRange::ALL);
        let of = |name: &str| all.values().find(|series| series.labels.metric_name() == name).unwrap();
        assert_eq!(of("wide").histograms.len(), 100);
        assert_eq!((of("narrow").values.as_slice(), of("m").values.len()), (&[1.0][..], 1));
        store.flush().unwrap();
    }
}

/// A batch that is larger than the queue is taken when others wait, too: it would never find the queue empty.
#[test]
fn a_large_batch_waits_its_turn() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let settings = Settings { queue_memory_max: ByteSize::mib(1), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(disk.clone())).unwrap();
    append(&store, batch(0, 1));
    disk.set_stalled(true);
    let send = |batch| {
        let mut pending = store.append(&TenantId::default(), batch, BatchId::random());
        match pin!(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Err(answer.expect("open").unwrap_err()),
            Poll::Pending => Ok(pending),
        }
    };
    let with_the_log = send(batch(1, 1)).unwrap();
    disk.await_stall();
    let first = send(batch(2, 1)).unwrap();
    let large = batch(3, 20_000);
    assert!(large.memory_bytes() > 1 << 20);
    let large = send(large).expect("it waits behind the first");
    let refused = send(batch(4, 1)).expect_err("what waits is more than may wait");
    assert!(matches!(refused, StorageError::Unavailable { retry_after: Some(_), .. }), "{refused}");
    disk.set_stalled(false);
    for pending in [with_the_log, first, large] {
        pending.wait().expect("open").expect("what was not refused is stored");
    }
    assert_eq!(seconds(&store).concat().len(), 3 + 20_000);
}

#[test]
fn exemplars_of_many_windows_are_written_some_at_a_time() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    builder.push_sample(Sample { timestamp_ms: CASE_TIME_MS, value: 1.0 }, 0);
    for window in 0..100 {
        let timestamp_ms = CASE_TIME_MS - window * 27 * 86_400_000;
        builder.push_exemplar(Exemplar { labels: Labels::empty(), timestamp_ms, value: 0.5 });
    }
    labels.push(METRIC_NAME, "m");
    builder.finish_series(&mut labels).unwrap();
    append(&store, builder.build());
    store.flush().unwrap();
    assert!(store.stats().parts > 90, "{} parts", store.stats().parts);
    assert!((2..=64).contains(&disk.parts_open_max()), "{} parts at a time", disk.parts_open_max());
    let found = store.exemplars(&TenantId::default(), &[], TimeRange::ALL, &ReadContext::unlimited()).unwrap();
    assert_eq!((found.len(), found[0].exemplars.len()), (1, 100));
}

#[test]
fn a_part_that_cannot_be_removed_does_not_keep_the_others() {
    let dir = TempDir::new().unwrap();
    let (clock, disk) = (SimClock::at_ms(CASE_TIME_MS), FaultDisk::default());
    let settings = Settings { retention: HumanDuration::from_ms(10 * 86_400_000), ..Settings::for_tests() };
    let components = Components { clock: clock.clone(), disk: Arc::new(disk.clone()), ..Components::default() };
    let store = Tsdb::open(dir.path(), settings, components).unwrap();
    for day in (0..9).rev() {
        append(&store, batch(-day * 86_400, 2));
        store.flush().unwrap();
    }
    let parts = store.stats().parts;
    clock.advance_ms(20 * 86_400_000);
    disk.plan(0, Fault::Once);
    let _ = store.maintain();
    let left = std::fs::read_dir(dir.path().join("tenants/0/parts")).unwrap().count();
    assert_eq!((parts > 3, left, store.stats().parts), (true, 1, 0));
}

#[test]
fn a_power_loss_while_parts_are_dropped_leaves_no_half_of_one() {
    let mut reached_the_end = false;
    for calls in 0..30 {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("data");
        let (clock, disk) = (SimClock::at_ms(CASE_TIME_MS), FaultDisk::default());
        let settings = Settings { retention: HumanDuration::from_ms(10 * 86_400_000), ..Settings::for_tests() };
        let components = || Components { clock: clock.clone(), disk: Arc::new(disk.clone()), ..Components::default() };
        let store = Tsdb::open(&root, settings.clone(), components()).unwrap();
        for day in [8, 4, 0] {
            append(&store, batch(-day * 86_400, 2));
            store.flush().unwrap();
        }
        clock.advance_ms(8 * 86_400_000);
        disk.plan(calls, Fault::Gone);
        let _ = store.maintain();
        reached_the_end |= disk.unplan();
        drop(store);
        disk.cut_power();
        let (disk, clock) = (Arc::new(FaultDisk::default()), clock.clone());
        let store = Tsdb::open(&root, settings, Components { clock, disk, ..Components::default() }).unwrap();
        assert_eq!((store.damaged(), seconds(&store)), (vec![], vec![vec![0]; 2]), "after {calls} calls");
    }
    assert!(reached_the_end);
}
