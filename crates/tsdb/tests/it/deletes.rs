//! Deletes: at once out of sight, for ever, and only what came before.

use std::path::Path;
use std::sync::Arc;

use pharos_model::{METRIC_NAME, Matcher, TenantId, TimeRange};
use pharos_storage::conformance::metrics::{CASE_TIME_MS, float_batch};
use pharos_storage::{MetricStore, StorageError};
use pharos_tsdb::{RealDisk, Settings, Tsdb, TsdbError};
use tempfile::TempDir;

use crate::fault_disk::{Fault, FaultDisk};
use crate::support::{append, batch, copy_dir, files, open, open_with, seconds, try_append};

fn series(n: usize) -> Vec<Vec<Matcher>> {
    vec![vec![Matcher::equal("n", n.to_string())]]
}

fn delete(store: &Tsdb, n: usize, range: TimeRange) -> Result<(), StorageError> {
    store.delete(&TenantId::default(), &series(n), range)
}

fn at(second: i64) -> i64 {
    CASE_TIME_MS + second * 1000
}

/// Puts the log of `from` back in front of what `to` has: a removal of segments that never reached the disk.
fn bring_back_log(from: &Path, to: &Path) {
    for file in files(&from.join("log")) {
        std::fs::copy(&file, to.join("log").join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_replay_over_parts_brings_nothing_deleted_back() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 2));
    delete(&store, 0, TimeRange::ALL).unwrap();
    append(&store, batch(2, 2));
    delete(&store, 1, TimeRange::new(at(2), at(3))).unwrap();
    append(&store, batch(3, 2));
    let expected = [vec![2, 3], vec![1, 3]];
    assert_eq!(seconds(&store), expected);
    let image = TempDir::new().unwrap();
    copy_dir(dir.path(), image.path());
    store.flush().unwrap();
    assert_eq!(seconds(&store), expected);
    drop(store);
    bring_back_log(image.path(), dir.path());
    for _ in 0..2 {
        assert_eq!(seconds(&open(dir.path())), expected, "parts and their log together");
    }
    let store = open(dir.path());
    store.compact().unwrap();
    assert_eq!((seconds(&store), store.stats().tombstones), (expected.to_vec(), 0));
}

#[test]
fn numbers_of_segments_are_not_used_again_below_a_delete() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for second in 0..4 {
        append(&store, batch(second, 2));
        delete(&store, 0, TimeRange::new(at(second), at(second + 1))).unwrap();
    }
    store.close().unwrap();
    // The log is empty now; what is appended next is newer than all deletes, also after a replay.
    append(&open(dir.path()), batch(0, 2));
    assert_eq!(seconds(&open(dir.path())), [vec![0], vec![0, 1, 2, 3]]);
}

/// Cuts the power after each sync in turn: an answered delete is done for ever, an unanswered one wholly or not.
#[test]
fn answered_deletes_survive_power_loss() {
    let (mut answered_rounds, mut reached_the_end) = (0, false);
    for syncs in 0..90 {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("data");
        let disk = FaultDisk::failing_after(syncs);
        let (mut appended, mut deleted, mut asked) = (Vec::new(), 0, 0);
        if let Ok(store) = open_with(&root, Settings::for_tests(), Arc::new(disk.clone())) {
            for second in 0..8 {
                if try_append(&store, batch(second, 2)).is_err() {
                    break;
                }
                appended.push(second);
                if second % 2 == 1 {
                    asked = second;
                    if delete(&store, 0, TimeRange::new(i64::MIN, at(second))).is_err() {
                        break;
                    }
                    deleted = second;
                }
                let _ = match second {
                    2 | 5 => store.flush(),
                    6 => store.clean_tombstones(),
                    _ => Ok(()),
                };
            }
        }
        disk.cut_power();
        let store = open(&root);
        assert!(store.damaged().is_empty(), "after {syncs} syncs: {:?}", store.damaged());
        let check = |store: &Tsdb| {
            let found = seconds(store);
            let Some(all) = found.last().filter(|_| !appended.is_empty()) else { return };
            assert!(appended.iter().all(|second| all.contains(second)), "after {syncs} syncs: {found:?}");
            let left: Vec<i64> = all.iter().copied().filter(|second| *second >= deleted).collect();
            let less: Vec<i64> = all.iter().copied().filter(|second| *second >= asked).collect();
            assert!(found[0] == left || found[0] == less, "after {syncs} syncs: {found:?}, deleted before {deleted}");
        };
        check(&store);
        append(&store, batch(100, 2));
        appended.push(100);
        let check = |store: &Tsdb| assert!(seconds(store).iter().all(|series| series.contains(&100)));
        check(&store);
        store.compact().unwrap();
        check(&store);
        answered_rounds += usize::from(deleted > 0);
        reached_the_end |= !disk.has_failed();
    }
    assert!(answered_rounds > 10 && reached_the_end, "{answered_rounds}");
}

#[test]
fn cleaning_frees_the_disk_and_leaves_other_parts_alone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for day in 0..3 {
        let names: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let pairs: Vec<[(&str, &str); 2]> =
            names.iter().map(|n| [(METRIC_NAME, if day == 0 { "old" } else { "m" }), ("n", n.as_str())]).collect();
        let samples = [(at(-27 * 86_400 * (3 - day)), 1.0)];
        let all: Vec<_> = pairs.iter().map(|pairs| (pairs.as_slice(), samples.as_slice())).collect();
        append(&store, float_batch(&all));
        store.flush().unwrap();
    }
    let untouched = files(&dir.path().join("tenants/0/parts")).first().unwrap().parent().unwrap().to_owned();
    let before = store.stats();
    assert_eq!((before.parts, before.tombstones), (3, 0));
    store.delete(&TenantId::default(), &[vec![Matcher::equal(METRIC_NAME, "m")]], TimeRange::ALL).unwrap();
    assert_eq!((store.stats().part_samples, store.stats().tombstones), (150, 1));
    assert_eq!(seconds(&store).len(), 50);
    store.clean_tombstones().unwrap();
    let after = store.stats();
    assert_eq!((after.parts, after.part_samples, after.tombstones), (1, 50, 0));
    assert!(after.part_bytes < before.part_bytes / 2);
    assert!(untouched.is_dir(), "a part without deleted series is not written again");
    drop(store);
    let store = open(dir.path());
    assert_eq!((seconds(&store).len(), store.stats().tombstones), (50, 0));
}

#[test]
fn a_snapshot_knows_what_was_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 2));
    store.flush().unwrap();
    delete(&store, 0, TimeRange::ALL).unwrap();
    append(&store, batch(2, 2));
    store.create_snapshot("s", true).unwrap();
    store.clean_tombstones().unwrap();
    let expected = [vec![2], vec![1, 2]];
    assert_eq!(seconds(&store), expected);
    let snapshot = open(&dir.path().join("snapshots/s"));
    assert_eq!(seconds(&snapshot), expected);
    append(&snapshot, batch(1, 2));
    drop(snapshot);
    assert_eq!(seconds(&open(&dir.path().join("snapshots/s"))), vec![vec![1, 2]; 2], "appended after the delete");
}

#[test]
fn a_delete_that_the_disk_refuses_is_not_answered_and_does_not_happen() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    append(&store, batch(1, 2));
    disk.set_full(true);
    assert!(matches!(delete(&store, 0, TimeRange::ALL), Err(StorageError::Unavailable { .. })));
    disk.set_full(false);
    assert_eq!(seconds(&store), vec![vec![1]; 2]);
    append(&store, batch(2, 2));
    delete(&store, 0, TimeRange::ALL).unwrap();
    assert_eq!(seconds(&store), [[1, 2]]);
    drop(store);
    assert_eq!(seconds(&open(dir.path())), [[1, 2]]);
}

#[test]
fn a_damaged_tombstones_file_is_named_and_nothing_is_served_without_it() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 2));
    delete(&store, 0, TimeRange::ALL).unwrap();
    drop(store);
    let path = dir.path().join("tenants/0/tombstones");
    let sound = std::fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        std::fs::write(&path, &bytes).unwrap();
        match open_with(dir.path(), Settings::for_tests(), Arc::new(RealDisk)) {
            Err(TsdbError::Checksum { path: found, .. } | TsdbError::Corrupt { path: found, .. }) => {
                assert_eq!(found, path);
            }
            Err(TsdbError::Version { .. }) => assert!((8..12).contains(&at)),
            Ok(_) => assert!((12..16).contains(&at), "only padding may change unseen: byte {at}"),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    std::fs::write(&path, &sound).unwrap();
    assert_eq!(seconds(&open(dir.path())), [[1]]);
}

#[test]
fn deletes_have_a_limit() {
    let dir = TempDir::new().unwrap();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(FaultDisk::default())).unwrap();
    append(&store, batch(0, 1));
    append(&store, batch(10, 1));
    store.flush().unwrap();
    let mut done = 0;
    let refused = loop {
        // Between the samples of the part: whether there are any is not asked of the samples.
        match delete(&store, 0, TimeRange::new(at(5), at(5) + 1 + done)) {
            Ok(()) => done += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StorageError::LimitExceeded { limit: 1000, .. }), "{refused}");
    assert_eq!((done, store.stats().tombstones), (1000, 1000));
    store.clean_tombstones().unwrap();
    delete(&store, 0, TimeRange::new(at(5), at(11))).unwrap();
    assert_eq!(seconds(&store), [[0]]);
}

/// The delete has its place between two flushes and is still being written when they are merged: the merged part is newer
/// than the delete, and must know it all the same.
#[test]
fn a_merge_waits_for_a_delete_that_has_its_place() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    append(&store, batch(1, 2));
    std::thread::scope(|scope| {
        disk.stall_until_merge("tombstones", || {
            scope.spawn(|| delete(&store, 0, TimeRange::ALL).unwrap());
        });
        append(&store, batch(2, 2));
        store.flush().unwrap();
        assert_eq!(store.stats().parts, 2);
        store.compact().unwrap();
    });
    let expected = [vec![2], vec![1, 2]];
    assert_eq!((seconds(&store), store.stats().parts), (expected.to_vec(), 1));
    drop(store);
    assert_eq!(seconds(&open(dir.path())), expected);
}

/// Files that a failed flush has left behind hold what was deleted since, and a restart finds them.
#[test]
fn a_part_that_could_not_be_removed_brings_nothing_deleted_back() {
    let mut left_behind = 0;
    for calls in 0..60 {
        let dir = TempDir::new().unwrap();
        let disk = FaultDisk::default();
        let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
        // Two windows: the second fails where the first is there already.
        append(&store, batch(-7200, 2));
        append(&store, batch(0, 2));
        disk.plan(calls, Fault::Stuck);
        let flushed = store.flush().is_ok();
        if disk.unplan() {
            assert!(flushed && left_behind > 5, "{left_behind} failures in {calls} calls");
            return;
        }
        let left = files(&dir.path().join("tenants")).iter().any(|path| path.ends_with("meta.json"));
        left_behind += u64::from(!flushed && left);
        disk.unstick();
        delete(&store, 0, TimeRange::ALL).unwrap();
        append(&store, batch(20, 2));
        store.compact().unwrap();
        store.clean_tombstones().unwrap();
        let expected = [vec![20], vec![-7200, 0, 20]];
        assert_eq!(seconds(&store), expected, "{calls}");
        drop(store);
        disk.cut_power();
        let store = open(dir.path());
        assert_eq!((seconds(&store), store.damaged().len()), (expected.to_vec(), 0), "{calls}");
        // With a restart everything is known again.
        store.compact().unwrap();
        assert_eq!((seconds(&store), store.stats().tombstones), (expected.to_vec(), 0), "{calls}");
    }
    panic!("the flush never ends");
}

#[test]
fn a_tombstones_file_that_cannot_be_looked_at_is_not_taken_for_none() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 2));
    delete(&store, 0, TimeRange::ALL).unwrap();
    drop(store);
    let path = dir.path().join("tenants/0/tombstones");
    let aside = dir.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let refused = open_with(dir.path(), Settings::for_tests(), Arc::new(RealDisk)).unwrap_err();
    assert!(matches!(&refused, TsdbError::Io { path: found, .. } if *found == path), "{refused}");
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(seconds(&open(dir.path())), [[1]]);
}
