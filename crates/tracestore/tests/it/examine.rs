//! A store looked through while no server runs on it.

use std::fs;
use std::path::{Path, PathBuf};

use pharos_model::TenantId;
use pharos_storage::conformance::traces::{SpanGenerator, check_equal, random_query};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, TraceStore};
use pharos_tracestore::{SpanStore, TraceStoreError};

use crate::support::{Fixture, NOW_NS, settings};

pub(crate) fn filled() -> (Fixture, MemoryTraceStore, SpanGenerator) {
    let mut generator = SpanGenerator::new(4, NOW_NS, 60);
    let (fixture, oracle) = (Fixture::new(settings()), MemoryTraceStore::new());
    for _ in 0..60 {
        let batch = generator.batch();
        let _ = oracle.append(&TenantId::default(), batch.clone(), BatchId::random()).wait();
        fixture.append(batch).unwrap();
    }
    fixture.store().flush().unwrap();
    (fixture, oracle, generator)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_store_in_use_is_refused() {
    let (fixture, ..) = filled();
    let refused = SpanStore::examine(fixture.directory.path(), &settings(), false);
    assert!(matches!(refused, Err(TraceStoreError::Locked { .. })), "{refused:?}");
}

#[test]
fn a_damaged_index_is_built_anew() {
    let (mut fixture, oracle, mut generator) = filled();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let sound = SpanStore::examine(&directory, &settings(), false).unwrap();
    assert!(sound.days > 1 && sound.blocks >= sound.segments && sound.spans > 100, "{sound:?}");
    assert_eq!((sound.damage.len(), sound.rebuilt_days), (0, 0));
    let mut all = Vec::new();
    files(&directory, &mut all);
    for path in
        all.iter().filter(|path| path.extension().is_some_and(|extension| extension == "idx" || extension == "term"))
    {
        let garbled = fs::read(path).unwrap().iter().map(|byte| !byte).collect::<Vec<_>>();
        fs::write(path, garbled).unwrap();
    }
    let rebuilt = SpanStore::examine(&directory, &settings(), true).unwrap();
    assert_eq!((rebuilt.spans, rebuilt.rebuilt_days), (sound.spans, sound.days));
    fixture.open();
    let queries: Vec<_> = (0..40).map(|_| random_query(&mut generator)).collect();
    check_equal(fixture.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &queries);
}

#[test]
fn one_wrong_bit_in_an_index_is_told_and_healed_by_a_start() {
    let (mut fixture, oracle, mut generator) = filled();
    let queries: Vec<_> = (0..40).map(|_| random_query(&mut generator)).collect();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let sound = SpanStore::examine(&directory, &settings(), false).unwrap();
    for extension in ["term", "idx", "fast"] {
        let mut all = Vec::new();
        files(&directory, &mut all);
        all.retain(|path| path.extension().is_some_and(|of| of == extension));
        for path in &all {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        let damaged = SpanStore::examine(&directory, &settings(), false).unwrap();
        assert_eq!((damaged.damage.len() as u64, damaged.spans), (sound.days, sound.spans), "{damaged:?}");
        fixture.open();
        check_equal(fixture.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &queries);
        fixture.store().close().unwrap();
        drop(fixture.store.take());
        assert_eq!(SpanStore::examine(&directory, &settings(), false).unwrap().damage, [""; 0]);
    }
}

#[test]
fn damaged_blocks_are_told_and_the_others_are_read() {
    let (mut fixture, ..) = filled();
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let sound = SpanStore::examine(&directory, &settings(), false).unwrap();
    let mut all = Vec::new();
    files(&directory, &mut all);
    all.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let largest = all.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest, bytes).unwrap();
    let damaged = SpanStore::examine(&directory, &settings(), true).unwrap();
    assert!(!damaged.damage.is_empty() && damaged.spans < sound.spans, "{damaged:?}");
    assert_eq!(damaged.rebuilt_days, sound.days - 1);
}

/// Whatever lies in rows and log is under a checksum that is looked at, and looking changes no file. RocksDB's own filters and
/// properties are not looked at.
#[test]
fn flipped_bits_are_told_and_nothing_is_changed() {
    let (mut fixture, _, mut generator) = filled();
    for _ in 0..3 {
        fixture.append(generator.batch()).unwrap();
    }
    drop(fixture.store.take());
    let directory = fixture.directory.path().to_owned();
    let contents = || {
        let mut all = Vec::new();
        files(&directory, &mut all);
        all.sort();
        all.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let before = contents();
    let sound = SpanStore::examine(&directory, &settings(), false).unwrap();
    assert!(sound.damage.is_empty() && sound.log_records >= 3, "{sound:?}");
    assert!(contents() == before, "nothing is written");
    for (path, bytes) in before {
        if path.extension().is_none_or(|extension| extension != "sst" && extension != "log") || bytes.len() < 200 {
            continue;
        }
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let mut told = 0;
        for part in 1..8 {
            let mut flipped = bytes.clone();
            flipped[bytes.len() * part / 16] ^= 4;
            fs::write(&path, &flipped).unwrap();
            let damaged = SpanStore::examine(&directory, &settings(), false).unwrap();
            // The last frame of a log may have been torn.
            told += u32::from(!damaged.damage.is_empty() || is_log && damaged.log_records < sound.log_records);
        }
        assert!(told == 7 || !is_log && told > 0, "{}: {told} of 7", path.display());
        fs::write(&path, &bytes).unwrap();
    }
}
