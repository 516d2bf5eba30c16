//! Snapshots: stores of their own that answer as the store did, whatever goes on meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use pharos_model::TenantId;
use pharos_storage::conformance::traces::{SpanGenerator, check_equal, random_query};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, ReadContext, StorageError, TraceLookup, TraceStore};
use proptest::prelude::*;

use crate::support::{Fixture, NOW_NS, settings};

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// A snapshot answers as the reference did when it was made, and takes more spans as any store does.
    #[test]
    fn a_snapshot_answers_as_the_store_did(seed: u64) {
        let mut generator = SpanGenerator::new(seed, NOW_NS, 30);
        let fixture = Fixture::new(settings());
        let tenant = TenantId::default();
        let (mut batches, mut made) = (Vec::new(), Vec::new());
        for number in 0..3 {
            for _ in 0..generator.below(12) {
                let batch = generator.batch();
                fixture.append(batch.clone()).unwrap();
                batches.push(batch);
            }
            match generator.below(3) {
                0 => fixture.store().flush().unwrap(),
                1 => fixture.store().compact().unwrap(),
                _ => {}
            }
            let name = format!("s{number}");
            fixture.store().create_snapshot(&name).unwrap();
            made.push((name, batches.len()));
        }
        let queries: Vec<_> = (0..30).map(|_| random_query(&mut generator)).collect();
        for (name, count) in made {
            let oracle = MemoryTraceStore::new();
            for batch in &batches[..count] {
                let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
            }
            let opened = fixture.try_open(&fixture.directory.path().join("snapshots").join(name)).unwrap();
            check_equal(&opened, &oracle, &tenant, &generator.trace_ids(), &queries);
            // What it has already it knows as its own; what is new to it is added.
            for batch in &batches {
                let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
                opened.append(&tenant, batch.clone(), BatchId::random()).wait().unwrap().unwrap();
            }
            check_equal(&opened, &oracle, &tenant, &generator.trace_ids(), &queries);
        }
    }
}

/// Whatever is written, indexed and merged meanwhile: a snapshot opens, and has at least what was acknowledged before it.
#[test]
fn snapshots_are_whole_while_spans_arrive_and_are_merged() {
    let mut fixture = Fixture::new(settings());
    let mut generator = SpanGenerator::new(7, NOW_NS, 30);
    let batches: Vec<_> = (0..400).map(|_| generator.batch()).collect();
    let queries: Vec<_> = (0..20).map(|_| random_query(&mut generator)).collect();
    let ids = generator.trace_ids();
    let lookups: Vec<_> = ids.iter().map(|id| TraceLookup { trace_id: *id, range: None }).collect();
    let tenant = TenantId::default();
    let acknowledged = std::sync::Mutex::new(0);
    let is_done = AtomicBool::new(false);
    let mut made = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in &batches {
                fixture.append(batch.clone()).unwrap();
                *acknowledged.lock().unwrap() += 1;
            }
            is_done.store(true, Ordering::SeqCst);
        });
        while !is_done.load(Ordering::SeqCst) && made.len() < 12 {
            let before = *acknowledged.lock().unwrap();
            let name = format!("s{}", made.len());
            fixture.store().create_snapshot(&name).unwrap();
            made.push((name, before, *acknowledged.lock().unwrap()));
            fixture.store().flush().unwrap();
        }
    });
    assert!(!made.is_empty());
    for (name, before, after) in made {
        let opened = fixture.try_open(&fixture.directory.path().join("snapshots").join(&name)).unwrap();
        // One writer, so what is in it is a prefix; one batch may have been on its way.
        let (oracle, context) = (MemoryTraceStore::new(), ReadContext::unlimited());
        let whole = opened.summaries(&tenant, &lookups, &context).unwrap();
        let spans: u64 = whole.iter().map(|summary| summary.span_count).sum();
        for (number, batch) in batches[..(after + 1).min(batches.len())].iter().enumerate() {
            // Prefixes only grow: the one with as many spans is it, if any is.
            if number >= before && oracle.stats().tail_spans >= spans {
                break;
            }
            let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
        }
        assert!(
            oracle.summaries(&tenant, &lookups, &context).unwrap() == whole,
            "{name} is no state between {before} and {after} batches"
        );
        check_equal(&opened, &oracle, &tenant, &ids, &queries);
    }
    fixture.reopen();
}

#[test]
fn files_are_linked_and_the_index_comes_along() {
    let fixture = Fixture::new(settings());
    let mut generator = SpanGenerator::new(1, NOW_NS, 30);
    for _ in 0..20 {
        fixture.append(generator.batch()).unwrap();
    }
    fixture.store().create_snapshot("s").unwrap();
    let days = fixture.directory.path().join("snapshots/s/days");
    let mut linked = 0;
    for day in fs::read_dir(days).unwrap() {
        let day = day.unwrap().path();
        assert!(day.join("index-2/meta.json").is_file() && day.join("index-2/.managed.json").is_file());
        for folder in ["spans", "index-2"] {
            for file in fs::read_dir(day.join(folder)).unwrap() {
                let links = std::os::unix::fs::MetadataExt::nlink(&file.unwrap().metadata().unwrap());
                linked += usize::from(links == 2);
            }
        }
    }
    assert!(linked >= 4, "{linked}");
}

#[test]
fn snapshots_are_deleted_and_names_checked() {
    let fixture = Fixture::new(settings());
    let store = fixture.store();
    store.create_snapshot("s").unwrap();
    for name in ["s", "", "..", "a/b", "../s", "tmp-s", ".s", &"x".repeat(65)] {
        assert!(matches!(store.create_snapshot(name), Err(StorageError::Invalid { .. })), "{name:?}");
    }
    assert_eq!(store.snapshots().unwrap(), ["s"]);
    assert!(matches!(store.delete_snapshot("../log"), Err(StorageError::Invalid { .. })));
    assert!(!store.delete_snapshot("other").unwrap());
    // What a crash left is removed with the next one.
    let left = fixture.directory.path().join("snapshots/tmp-x/days");
    fs::create_dir_all(&left).unwrap();
    store.create_snapshot("t").unwrap();
    assert!(!left.exists());
    assert!(store.delete_snapshot("s").unwrap() && store.delete_snapshot("t").unwrap());
    assert_eq!(store.snapshots().unwrap(), Vec::<String>::new());
}

/// The maker of a snapshot clears what a crash left, on the maintenance thread; removals run beside it. Neither may trip
/// over the other, whatever the snapshots are called.
#[test]
fn snapshots_are_made_and_removed_side_by_side() {
    let fixture = Fixture::new(settings());
    let store = fixture.store();
    std::thread::scope(|scope| {
        for name in ["a", "removed-a", "a-removed"] {
            scope.spawn(move || {
                for _ in 0..25 {
                    store.create_snapshot(name).unwrap();
                    assert!(store.delete_snapshot(name).unwrap(), "{name}");
                    assert!(!store.delete_snapshot(name).unwrap(), "{name}");
                }
            });
        }
    });
    assert!(store.snapshots().unwrap().is_empty());
}
