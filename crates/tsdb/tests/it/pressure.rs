//! More comes in than the disk takes: memory stays bounded, senders are told, nothing acknowledged is lost.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pharos_base::ByteSize;
use pharos_model::TenantId;
use pharos_storage::{BatchId, MetricStore, RejectReason, StorageError};
use pharos_tsdb::{RealDisk, Settings};
use tempfile::TempDir;

use crate::fault_disk::FaultDisk;
use crate::support::{append, batch, open, open_with, seconds, try_append};

const SERIES: usize = 500;

/// Refused for now: the sender is told when to come back.
fn assert_come_back(refused: &StorageError) {
    assert!(matches!(refused, StorageError::Unavailable { retry_after: Some(_), .. }), "{refused}");
}

fn small_head() -> Settings {
    Settings {
        head_memory_max: ByteSize::mib(1),
        head_memory_limit: ByteSize::mib(4),
        queue_memory_max: ByteSize::mib(1),
        ..Settings::for_tests()
    }
}

#[test]
fn a_head_that_cannot_be_flushed_refuses_and_keeps_what_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), small_head(), Arc::new(disk.clone())).unwrap();
    disk.set_full_for_parts(true);
    let mut acknowledged = 0;
    let mut asked_to_wait_at = None;
    let refused = loop {
        if store.is_busy() {
            asked_to_wait_at.get_or_insert_with(|| store.stats().head_bytes);
        }
        match try_append(&store, batch(acknowledged, SERIES)) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "appends go on without bound");
    };
    assert_come_back(&refused);
    assert!(store.is_busy());
    let held = store.stats().head_bytes;
    assert!(held < 3 << 20, "{held} bytes");
    let asked_at = asked_to_wait_at.expect("writers are asked to wait before they are refused");
    assert!(held - asked_at > 256 << 10, "at {asked_at} of {held} bytes");
    disk.set_full_for_parts(false);
    store.flush().unwrap();
    assert!(!store.is_busy());
    append(&store, batch(acknowledged, SERIES));
    drop(store);
    assert_eq!(seconds(&open(dir.path())), vec![(0..=acknowledged).collect::<Vec<_>>(); SERIES]);
}

#[test]
fn a_stalled_log_refuses_more_than_its_queue_holds() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), small_head(), Arc::new(disk.clone())).unwrap();
    append(&store, batch(0, SERIES));
    disk.set_stalled(true);
    let mut waiting = Vec::new();
    let refused = loop {
        let second = waiting.len() as i64 + 1;
        let mut pending = store.append(&TenantId::default(), batch(second, SERIES), BatchId::random());
        match pin!(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => break answer.expect("open").unwrap_err(),
            Poll::Pending => waiting.push(pending),
        }
        assert!(waiting.len() < 1000, "the queue grows without bound");
    };
    assert_come_back(&refused);
    assert!(store.is_busy());
    disk.set_stalled(false);
    let count = waiting.len() as i64;
    for pending in waiting {
        pending.wait().expect("open").expect("what was not refused is stored");
    }
    drop(store);
    assert_eq!(seconds(&open(dir.path())), vec![(0..=count).collect::<Vec<_>>(); SERIES]);
}

#[test]
fn writers_wait_for_what_is_being_written_too() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let settings = Settings { queue_memory_max: ByteSize::mib(1), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(disk.clone())).unwrap();
    append(&store, batch(0, SERIES));
    assert!(!store.is_busy());
    disk.set_stalled(true);
    let pending = store.append(&TenantId::default(), batch(1, 20 * SERIES), BatchId::random());
    disk.await_stall();
    assert!(store.is_busy(), "it has left the queue, and lies in memory until it is synced");
    disk.set_stalled(false);
    pending.wait().expect("open").expect("it is stored");
}

#[test]
fn series_beyond_their_share_of_memory_are_refused_and_known_ones_go_on() {
    let dir = TempDir::new().unwrap();
    let store = open_with(dir.path(), small_head(), Arc::new(RealDisk)).unwrap();
    let outcome = try_append(&store, batch(0, 20_000)).unwrap();
    assert_eq!(outcome.rejections[0].reason, RejectReason::Limit);
    assert!(outcome.rejections[0].message.contains("head_memory_limit"), "{:?}", outcome.rejections);
    assert_eq!(outcome.items + outcome.rejected(), 20_000);
    let known = usize::try_from(outcome.items).unwrap();
    assert!(known > 1000);
    store.flush().unwrap();
    assert_eq!(try_append(&store, batch(1, known)).unwrap().rejected(), 0);
}

#[test]
fn lack_of_descriptors_passes() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), small_head(), Arc::new(disk.clone())).unwrap();
    for second in 0..3 {
        disk.set_out_of_descriptors(true);
        assert!(matches!(try_append(&store, batch(50, 1)), Err(StorageError::Unavailable { .. })));
        assert!(!store.stats().read_only);
        // The segment's file can be opened, the log's directory cannot.
        disk.set_descriptors(1);
        assert!(matches!(try_append(&store, batch(51, 1)), Err(StorageError::Unavailable { .. })));
        assert!(!store.stats().read_only);
        disk.set_out_of_descriptors(false);
        append(&store, batch(second, 1));
        // Its end closes the segment: the next append begins another.
        store.flush().unwrap();
    }
    assert_eq!(seconds(&store), [[0, 1, 2]]);
}

#[test]
fn a_log_that_flushes_cannot_empty_refuses_and_keeps_what_it_acknowledged() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    // The head has room for all: one tenant whose parts find no space keeps the segments of everybody.
    let settings = Settings { log_size_max: ByteSize::mib(1), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(disk.clone())).unwrap();
    disk.set_full_for_parts(true);
    let mut acknowledged = 0;
    let refused = loop {
        match try_append(&store, batch(acknowledged, SERIES)) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "appends go on without bound");
    };
    assert_come_back(&refused);
    let stats = store.stats();
    assert!(stats.log_bytes < 3 << 20 && stats.head_bytes < 32 << 20, "{} bytes of log", stats.log_bytes);
    disk.set_full_for_parts(false);
    store.flush().unwrap();
    append(&store, batch(acknowledged, SERIES));
    drop(store);
    assert_eq!(seconds(&open(dir.path())), vec![(0..=acknowledged).collect::<Vec<_>>(); SERIES]);
}
