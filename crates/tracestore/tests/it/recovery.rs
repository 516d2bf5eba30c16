//! Crashes, torn writes and damage.

use std::fs;
use std::path::PathBuf;

use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::conformance::traces::{SpanGenerator, check_equal, random_predicate, random_query};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, ReadContext, TraceQuery, TraceStore};
use pharos_tracestore::{Settings, TraceStoreError};
use proptest::prelude::*;

use crate::support::{Fixture, NOW_NS, copy_tree, fast_directory, settings};

fn any() -> TraceQuery {
    TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: None,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 1000,
    }
}

fn log_files(fixture: &Fixture) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture.directory.path().join("log")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever arrives in whatever order, whenever the store commits, restarts or crashes: every answer is
    /// the reference's, duplicates and call counts included.
    #[test]
    fn answers_equal_the_reference_across_crashes(seed: u64) {
        let mut generator = SpanGenerator::new(seed, NOW_NS, 30);
        let mut fixture = Fixture::new(settings());
        let oracle = MemoryTraceStore::new();
        let tenant = TenantId::default();
        for _ in 0..6 {
            for _ in 0..generator.below(12) {
                let batch = generator.batch();
                let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
                fixture.append(batch).unwrap();
            }
            match generator.below(6) {
                0 => fixture.store().flush().unwrap(),
                1 => fixture.store().compact().unwrap(),
                2 => fixture.reopen(),
                3 => fixture.crash(),
                4 => fixture.cut_power(),
                _ => {}
            }
        }
        let mut queries: Vec<_> = (0..60).map(|_| random_query(&mut generator)).collect();
        // Trees find little beside many plain tests.
        for query in queries.iter_mut().step_by(2) {
            query.predicate = Some(random_predicate(&mut generator, 0));
            query.filters.truncate(1);
        }
        check_equal(fixture.store(), &oracle, &tenant, &generator.trace_ids(), &queries);
    }
}

#[test]
fn a_torn_last_write_is_cut_off_at_every_byte() {
    let mut generator = SpanGenerator::new(3, NOW_NS, 10);
    let mut fixture = Fixture::new(settings());
    let oracle = MemoryTraceStore::new();
    let tenant = TenantId::default();
    for _ in 0..3 {
        let batch = generator.batch();
        let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
        fixture.append(batch).unwrap();
    }
    let path = log_files(&fixture).pop().unwrap();
    let before = fs::metadata(&path).unwrap().len() as usize;
    let lost = loop {
        let batch = generator.batch();
        if batch.span_count() > 3 {
            break batch;
        }
    };
    drop(fixture.store.take());
    let image = fast_directory();
    copy_tree(fixture.directory.path(), image.path());
    fixture.open();
    fixture.append(lost).unwrap();
    let newest = log_files(&fixture).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    drop(fixture.store.take());
    // The writer began a new segment when it was opened; its one frame is torn at every byte.
    assert!(before > 16 && bytes.len() > 16);
    let step = (bytes.len() / 40).max(1);
    for torn in (0..bytes.len()).step_by(step).chain([15, 16, 17, bytes.len() - 1]) {
        let directory = fast_directory();
        copy_tree(image.path(), directory.path());
        fs::write(directory.path().join("log").join(newest.file_name().unwrap()), &bytes[..torn]).unwrap();
        let store = fixture.try_open(directory.path()).unwrap();
        check_equal(&store, &oracle, &tenant, &generator.trace_ids(), &[any()]);
        // And the log goes on behind the cut.
        let batch = generator.batch();
        store.append(&tenant, batch, BatchId::random()).wait().unwrap().unwrap();
        drop(store);
        drop(fixture.try_open(directory.path()).unwrap());
    }
}

#[test]
fn damage_in_synced_records_is_reported_and_nothing_is_changed() {
    let mut generator = SpanGenerator::new(5, NOW_NS, 10);
    let mut fixture = Fixture::new(settings());
    for _ in 0..4 {
        fixture.append(generator.batch()).unwrap();
    }
    drop(fixture.store.take());
    let path = log_files(&fixture).into_iter().find(|path| fs::metadata(path).unwrap().len() > 28).unwrap();
    let sound = fs::read(&path).unwrap();
    let mut damaged = sound.clone();
    damaged[60] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = fixture.try_open(fixture.directory.path()).unwrap_err();
    assert!(matches!(error, TraceStoreError::CorruptLog { offset: 28, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
    fs::write(&path, sound).unwrap();
    fixture.open();
}

#[test]
fn a_lost_index_is_rebuilt_from_the_rows() {
    for damage in [remove_index, truncate_index] {
        let mut generator = SpanGenerator::new(9, NOW_NS, 20);
        let mut fixture = Fixture::new(settings());
        let oracle = MemoryTraceStore::new();
        let tenant = TenantId::default();
        for round in 0..20 {
            let batch = generator.batch();
            let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
            fixture.append(batch).unwrap();
            if round == 12 {
                fixture.store().flush().unwrap();
            }
        }
        drop(fixture.store.take());
        for day in fs::read_dir(fixture.directory.path().join("days")).unwrap() {
            damage(&day.unwrap().path().join("index-2"));
        }
        fixture.open();
        let queries: Vec<_> = (0..30).map(|_| random_query(&mut generator)).collect();
        check_equal(fixture.store(), &oracle, &tenant, &generator.trace_ids(), &queries);
        assert!(fixture.store().stats().indexed_spans > 0);
    }
}

fn remove_index(path: &std::path::Path) {
    fs::remove_dir_all(path).unwrap();
}

fn truncate_index(path: &std::path::Path) {
    fs::write(path.join("meta.json"), "{").unwrap();
}

#[test]
fn the_log_is_emptied_by_a_flush() {
    let mut generator = SpanGenerator::new(11, NOW_NS, 10);
    let fixture = Fixture::new(Settings { log_segment: pharos_base::ByteSize(4096), ..settings() });
    for _ in 0..50 {
        fixture.append(generator.batch()).unwrap();
    }
    assert!(log_files(&fixture).len() > 2);
    let before = fixture.store().stats();
    assert!(before.log_bytes > 4096 && before.tail_spans > 0);
    fixture.store().flush().unwrap();
    let after = fixture.store().stats();
    assert_eq!((after.log_bytes, after.tail_spans), (28, 0));
    assert!(after.row_bytes > 0 && after.index_bytes > 0 && after.indexed_spans > 0);
    assert_eq!(log_files(&fixture).len(), 1);
}

#[test]
fn a_directory_has_one_store_and_one_format() {
    let mut fixture = Fixture::new(settings());
    assert!(matches!(fixture.try_open(fixture.directory.path()), Err(TraceStoreError::Locked { .. })));
    drop(fixture.store.take());
    fs::write(fixture.directory.path().join("FORMAT"), "pharos-tracestore 99\n").unwrap();
    let error = fixture.try_open(fixture.directory.path()).unwrap_err();
    assert!(matches!(&error, TraceStoreError::Format { found, .. } if found == "pharos-tracestore 99"), "{error}");
}

#[test]
fn a_closed_store_refuses_writes_and_still_reads() {
    let mut generator = SpanGenerator::new(13, NOW_NS, 10);
    let fixture = Fixture::new(settings());
    fixture.append(generator.batch()).unwrap();
    fixture.store().close().unwrap();
    fixture.store().close().unwrap();
    let error = fixture.append(generator.batch()).unwrap_err();
    assert_eq!(error.class(), pharos_base::ErrorClass::Unavailable);
    let found = fixture.store().find(&TenantId::default(), &any(), &ReadContext::unlimited()).unwrap();
    assert!(!found.hits.is_empty());
}
