//! Whoever may not write for now is told which limit was met, its value, the way out, and when to come back.

use std::sync::Arc;

use pharos_base::ByteSize;
use pharos_model::TenantId;
use pharos_storage::{BatchId, MetricStore, StorageError};
use pharos_tsdb::Settings;
use tempfile::TempDir;

use crate::fault_disk::FaultDisk;
use crate::support::{append, batch, open_with, try_append};

const SERIES: usize = 500;

fn assert_told(refused: &StorageError, limit: &str) {
    assert!(matches!(refused, StorageError::Unavailable { retry_after: Some(_), .. }), "{refused}");
    let told = refused.to_string();
    assert!(told.contains(limit) && told.contains("send again later") && told.contains("raise it"), "{told}");
}

#[test]
fn a_head_and_a_log_that_are_full_are_named() {
    let small_head =
        Settings { head_memory_max: ByteSize::mib(1), head_memory_limit: ByteSize::mib(4), ..Settings::for_tests() };
    let small_log = Settings { log_size_max: ByteSize::mib(1), ..Settings::for_tests() };
    for (settings, limit) in [(small_head, "tsdb.head_memory_max = 1MiB"), (small_log, "tsdb.log_size_max = 1MiB")] {
        let (dir, disk) = (TempDir::new().unwrap(), FaultDisk::default());
        let store = open_with(dir.path(), settings, Arc::new(disk.clone())).unwrap();
        disk.set_full_for_parts(true);
        let refused = (0..10_000).find_map(|second| try_append(&store, batch(second, SERIES)).err());
        assert_told(&refused.expect("appends go on without bound"), limit);
    }
}

#[test]
fn a_queue_that_is_full_is_named() {
    let (dir, disk) = (TempDir::new().unwrap(), FaultDisk::default());
    let settings = Settings { queue_memory_max: ByteSize::mib(1), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(disk.clone())).unwrap();
    append(&store, batch(0, SERIES));
    disk.set_stalled(true);
    let pending: Vec<_> =
        (1..1_000).map(|second| store.append(&TenantId::default(), batch(second, SERIES), BatchId::random())).collect();
    disk.set_stalled(false);
    let refused = pending.into_iter().find_map(|pending| pending.wait().expect("open").err());
    assert_told(&refused.expect("the queue grows without bound"), "tsdb.queue_memory_max = 1MiB");
}
