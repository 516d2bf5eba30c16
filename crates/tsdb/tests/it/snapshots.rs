//! Snapshots: whole, independent of the store, and there or not there after a crash.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use pharos_storage::{MetricStore, StorageError};
use pharos_tsdb::Settings;
use tempfile::TempDir;

use crate::fault_disk::FaultDisk;
use crate::support::{append, batch, files, open, open_with, seconds, try_append};

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 3));
    store.create_snapshot("first", true).unwrap();
    append(&store, batch(2, 3));
    store.create_snapshot("second", false).unwrap();
    assert_eq!(store.snapshots().unwrap(), ["first", "second"]);
    // What happens to the store afterwards does not reach them.
    append(&store, batch(3, 3));
    store.compact().unwrap();
    let first = open(&dir.path().join("snapshots/first"));
    assert_eq!(seconds(&first), vec![vec![1]; 3]);
    assert_eq!(seconds(&open(&dir.path().join("snapshots/second"))), vec![vec![1]; 3], "the head was not asked for");
    // And the other way round.
    append(&first, batch(9, 3));
    first.compact().unwrap();
    assert_eq!(seconds(&first), vec![vec![1, 9]; 3]);
    assert_eq!(seconds(&store), vec![vec![1, 2, 3]; 3]);
}

#[test]
fn files_are_linked_not_copied() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 3));
    store.create_snapshot("s", true).unwrap();
    let linked = files(&dir.path().join("snapshots/s"));
    assert!(linked.len() >= 3, "{linked:?}");
    assert!(linked.iter().all(|path| path.metadata().unwrap().nlink() == 2), "{linked:?}");
}

#[test]
fn snapshots_are_deleted_and_names_checked() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 1));
    store.create_snapshot("s", true).unwrap();
    for name in ["s", "", "..", "a/b", "../s", "tmp-s", ".s", &"x".repeat(65)] {
        assert!(matches!(store.create_snapshot(name, true), Err(StorageError::Invalid { .. })), "{name:?}");
    }
    assert!(matches!(store.delete_snapshot("../tenants"), Err(StorageError::Invalid { .. })));
    assert!(!store.delete_snapshot("other").unwrap());
    assert!(store.delete_snapshot("s").unwrap());
    assert_eq!(store.snapshots().unwrap(), Vec::<String>::new());
    assert_eq!(seconds(&store), vec![vec![1]]);
}

/// Cuts the power after each sync in turn: a snapshot that is listed afterwards is whole.
#[test]
fn a_crash_leaves_no_half_snapshot() {
    let (mut made, mut not_made) = (0, 0);
    for syncs in 0..60 {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("data");
        let disk = FaultDisk::failing_after(syncs);
        let mut acknowledged = false;
        if let Ok(store) = open_with(&root, Settings::for_tests(), Arc::new(disk.clone()))
            && try_append(&store, batch(1, 2)).is_ok()
            && store.flush().is_ok()
            && try_append(&store, batch(2, 2)).is_ok()
        {
            acknowledged = store.create_snapshot("s", true).is_ok();
        }
        disk.cut_power();
        let listed = open(&root).snapshots().unwrap();
        assert!(!acknowledged || listed == ["s"], "after {syncs} syncs");
        if listed.is_empty() {
            not_made += 1;
            let store = open(&root);
            append(&store, batch(3, 2));
            store.create_snapshot("s", true).unwrap();
            assert_eq!(
                files(&root.join("snapshots")).iter().filter(|path| path.to_string_lossy().contains("tmp-")).count(),
                0
            );
        } else {
            made += 1;
            assert_eq!(seconds(&open(&root.join("snapshots/s"))), vec![vec![1, 2]; 2], "after {syncs} syncs");
        }
    }
    assert!(made > 0 && not_made > 5, "{made} made, {not_made} not");
}
