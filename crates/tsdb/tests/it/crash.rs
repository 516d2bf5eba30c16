//! Power cuts, torn tails, full disks: what was acknowledged is there, nothing else is half there.

use std::sync::Arc;

use pharos_base::HumanDuration;
use pharos_storage::{MetricStore, StorageError};
use pharos_tsdb::{Settings, SyncPolicy, TsdbError};
use tempfile::TempDir;

use crate::fault_disk::FaultDisk;
use crate::support::{append, batch, copy_dir, files, open, open_with, seconds, try_append};

const SERIES: usize = 3;

#[test]
fn acknowledged_batches_survive_a_drop_without_close() {
    let dir = TempDir::new().unwrap();
    for round in 0..3 {
        let store = open(dir.path());
        append(&store, batch(round, SERIES));
        append(&store, batch(100 + round, SERIES));
    }
    assert_eq!(seconds(&open(dir.path())), vec![vec![0, 1, 2, 100, 101, 102]; SERIES]);
}

/// Cuts the power after each sync in turn: no acknowledged batch is lost, no other is half there.
#[test]
fn h1_acknowledged_batches_survive_power_loss() {
    let mut reached_the_end = false;
    for syncs in 0..80 {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("data");
        let disk = FaultDisk::failing_after(syncs);
        let mut acknowledged = 0;
        if let Ok(store) = open_with(&root, Settings::for_tests(), Arc::new(disk.clone())) {
            for second in 0..12 {
                match try_append(&store, batch(second, SERIES)) {
                    Ok(_) => acknowledged = second + 1,
                    Err(StorageError::Unavailable { .. }) => break,
                    Err(other) => panic!("{other}"),
                }
                if second % 3 == 2 {
                    let _ = store.flush();
                }
                if second == 8 {
                    let _ = store.compact();
                }
            }
        }
        disk.cut_power();
        let store = open(&root);
        let found = seconds(&store);
        assert!(store.damaged().is_empty(), "after {syncs} syncs: {:?}", store.damaged());
        let whole: Vec<i64> = (0..acknowledged).collect();
        let with_next: Vec<i64> = (0..=acknowledged).collect();
        for series in &found {
            assert!(
                *series == whole || *series == with_next,
                "after {syncs} syncs: {series:?}, {acknowledged} acknowledged"
            );
            assert_eq!(series, &found[0], "a batch is whole or absent");
        }
        assert!(acknowledged == 0 || found.len() == SERIES, "after {syncs} syncs");
        // The store goes on from there.
        append(&store, batch(500, SERIES));
        assert_eq!(seconds(&store)[0].last(), Some(&500));
        reached_the_end |= !disk.has_failed();
    }
    assert!(reached_the_end, "the last rounds see no fault, so that every sync had its turn");
}

/// A crash may tear the last record at any byte.
#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, SERIES));
    let log = log_file(dir.path());
    let whole = std::fs::metadata(&log).unwrap().len();
    append(&store, batch(2, SERIES));
    let longer = std::fs::metadata(&log).unwrap().len();
    drop(store);
    let bytes = std::fs::read(&log).unwrap();
    assert!(longer > whole + 24);
    for length in whole..longer {
        for garbage in [0, 40] {
            let image = TempDir::new().unwrap();
            copy_dir(dir.path(), image.path());
            let mut torn = bytes[..length as usize].to_vec();
            // Blocks of a file may be there although earlier ones are not.
            torn.resize(torn.len() + garbage, 0xa5);
            std::fs::write(log_file(image.path()), torn).unwrap();
            let store = open(image.path());
            assert_eq!(seconds(&store), vec![vec![1]; SERIES], "{length} of {longer}");
            append(&store, batch(3, SERIES));
            drop(store);
            assert_eq!(seconds(&open(image.path())), vec![vec![1, 3]; SERIES]);
        }
    }
}

#[test]
fn damage_before_the_tail_is_refused_with_file_and_offset() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, SERIES));
    let log = log_file(dir.path());
    let first_end = std::fs::metadata(&log).unwrap().len() as usize;
    append(&store, batch(2, SERIES));
    append(&store, batch(3, SERIES));
    drop(store);
    let sound = std::fs::read(&log).unwrap();
    for at in (16..first_end).chain([0, 3, 8]) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&log, &bytes).unwrap();
        let error = open_with(dir.path(), Settings::for_tests(), Arc::new(pharos_tsdb::RealDisk)).unwrap_err();
        assert!(matches!(error, TsdbError::DamagedLog { .. } | TsdbError::Version { .. }), "byte {at}: {error}");
        assert!(error.to_string().contains(".log"), "{error}");
        assert_eq!(std::fs::read(&log).unwrap(), bytes, "left untouched");
    }
}

/// What the message tells the operator to do must work.
#[test]
fn the_remedies_for_a_damaged_log_open_the_store() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, SERIES));
    let log = log_file(dir.path());
    let first_end = std::fs::metadata(&log).unwrap().len();
    append(&store, batch(2, SERIES));
    append(&store, batch(3, SERIES));
    drop(store);
    append(&open(dir.path()), batch(4, SERIES));
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[first_end as usize + 30] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let error = open_with(dir.path(), Settings::for_tests(), Arc::new(pharos_tsdb::RealDisk)).unwrap_err();
    let message = error.to_string();
    for part in [format!("truncate --size={first_end} {}", log.display()), format!("`mv {}", log.display())] {
        assert!(message.contains(&part), "{message}");
    }
    let kept = log.with_extension("log.damaged");
    std::fs::rename(&log, &kept).unwrap();
    assert_eq!(seconds(&open(dir.path())), vec![vec![4]; SERIES], "moved away");
    std::fs::write(&log, &bytes[..first_end as usize]).unwrap();
    assert_eq!(seconds(&open(dir.path())), vec![vec![1, 4]; SERIES], "cut");
    assert!(kept.exists(), "evidence is left alone");
}

/// A killed process leaves bytes that the kernel has and the disk has not. Once they are replayed they
/// must be durable: another segment follows, and only the last one may be torn.
#[test]
fn what_a_killed_process_wrote_is_synced_before_it_is_built_upon() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { sync: SyncPolicy::Interval(HumanDuration::from_ms(3_600_000)), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings, Arc::new(pharos_tsdb::RealDisk)).unwrap();
    append(&store, batch(1, SERIES));
    let synced = std::fs::metadata(log_file(dir.path())).unwrap().len();
    append(&store, batch(2, SERIES));
    let image = TempDir::new().unwrap();
    copy_dir(dir.path(), image.path());
    let disk = FaultDisk::default();
    disk.forget_after(&log_file(image.path()), synced + 5);
    let store = open_with(image.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    append(&store, batch(3, SERIES));
    drop(store);
    disk.cut_power();
    assert_eq!(seconds(&open(image.path())), vec![vec![1, 2, 3]; SERIES]);
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    append(&store, batch(1, SERIES));
    for round in 0..3 {
        disk.set_full(true);
        for _ in 0..2 {
            assert!(matches!(try_append(&store, batch(50 + round, SERIES)), Err(StorageError::Unavailable { .. })));
        }
        assert!(store.stats().read_only);
        assert_eq!(seconds(&store)[0].len() as i64, 1 + round, "reads go on, nothing refused is visible");
        disk.set_full(false);
        append(&store, batch(2 + round, SERIES));
        assert!(!store.stats().read_only);
    }
    drop(store);
    assert_eq!(seconds(&open(dir.path())), vec![vec![1, 2, 3, 4]; SERIES]);
}

#[test]
fn a_full_disk_during_flush_keeps_everything_readable() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::default();
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    append(&store, batch(1, SERIES));
    disk.set_full(true);
    assert!(store.flush().is_err());
    assert_eq!(seconds(&store), vec![vec![1]; SERIES]);
    disk.set_full(false);
    append(&store, batch(2, SERIES));
    store.flush().unwrap();
    assert_eq!(seconds(&store), vec![vec![1, 2]; SERIES]);
    assert!(store.stats().parts > 0 && store.stats().head_samples == 0);
}

#[test]
fn a_failed_sync_poisons_writes_but_not_reads() {
    let dir = TempDir::new().unwrap();
    let disk = FaultDisk::failing_after(12);
    let store = open_with(dir.path(), Settings::for_tests(), Arc::new(disk.clone())).unwrap();
    let mut acknowledged = Vec::new();
    for second in 0..20 {
        if try_append(&store, batch(second, 1)).is_ok() {
            acknowledged.push(second);
        }
    }
    assert!(disk.has_failed() && !acknowledged.is_empty());
    assert!(store.stats().read_only);
    assert_eq!(seconds(&store), vec![acknowledged]);
    assert!(store.flush().is_err());
}

#[test]
fn interval_sync_acknowledges_at_once_and_loses_nothing_at_close() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { sync: SyncPolicy::Interval(HumanDuration::from_ms(3_600_000)), ..Settings::for_tests() };
    let store = open_with(dir.path(), settings.clone(), Arc::new(pharos_tsdb::RealDisk)).unwrap();
    for second in 0..5 {
        append(&store, batch(second, SERIES));
    }
    // The process dies: the kernel still has everything that was written.
    let image = TempDir::new().unwrap();
    copy_dir(dir.path(), image.path());
    assert_eq!(seconds(&open(image.path())), vec![vec![0, 1, 2, 3, 4]; SERIES]);
    drop(store);
    let store = open_with(dir.path(), settings, Arc::new(pharos_tsdb::RealDisk)).unwrap();
    assert_eq!(seconds(&store), vec![vec![0, 1, 2, 3, 4]; SERIES]);
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let dir = TempDir::new().unwrap();
    let _store = open(dir.path());
    let second = open_with(dir.path(), Settings::for_tests(), Arc::new(pharos_tsdb::RealDisk));
    assert!(matches!(second.unwrap_err(), TsdbError::Locked { .. }));
}

fn log_file(dir: &std::path::Path) -> std::path::PathBuf {
    files(&dir.join("log")).pop().expect("a log segment")
}

/// A record that a later version wrote, or that was damaged before it was written: its checksum is right, so it was
/// acknowledged, though it be the last.
#[test]
fn a_whole_record_that_makes_no_sense_is_damage_and_no_torn_tail() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    append(&store, batch(1, 1));
    drop(store);
    append(&open(dir.path()), batch(2, 1));
    for (at, name) in [(20, "kind"), (21, "codec"), (12, "length")] {
        let path = log_file(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let last = whole.windows(4).rposition(|window| window == b"\xf1PHR").unwrap();
        let mut bytes = whole.clone();
        bytes[last + at] = 9;
        let checksum = crc32fast::hash(&bytes[last + 8..]);
        bytes[last + 4..last + 8].copy_from_slice(&checksum.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        if name == "length" && whole[last + 21] == 0 {
            // Of a plain record it says nothing.
            assert_eq!(seconds(&open(dir.path())), [[1, 2]]);
        } else {
            let refused = open_with(dir.path(), Settings::for_tests(), Arc::new(pharos_tsdb::RealDisk)).unwrap_err();
            assert!(
                matches!(&refused, TsdbError::DamagedLog { offset, .. } if *offset == last as u64),
                "{name}: {refused}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was changed");
        }
        std::fs::write(&path, &whole).unwrap();
    }
}
