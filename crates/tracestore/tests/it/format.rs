//! A store that an earlier build wrote opens and answers as it did.
//!
//! `testdata/format/v2` holds segments of three days, one of them merged, a marked deletion, and in the log batches and
//! a deletion that were not sealed. `UPDATE_GOLDEN=1` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use pharos_model::{TenantId, TraceId};
use pharos_storage::conformance::traces::{SpanGenerator, comparable, random_query};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, ReadContext, TraceLookup, TraceQuery, TraceStore};
use pharos_tracestore::TraceStoreError;

use crate::support::{Fixture, NOW_NS, copy_tree, settings};

const SEED: u64 = 2;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format/v2")
}

/// Does the same to every store that is given.
fn fill(stores: &[&dyn TraceStore]) -> SpanGenerator {
    let mut generator = SpanGenerator::new(SEED, NOW_NS, 20);
    let tenant = TenantId::default();
    let ids = generator.trace_ids();
    for round in 0..24 {
        let batch = generator.batch();
        for store in stores {
            store.append(&tenant, batch.clone(), BatchId::random()).wait().unwrap().unwrap();
            match round {
                6 | 14 | 18 => store.flush().unwrap(),
                10 | 21 => store.delete_trace(&tenant, ids[round - 8]).unwrap(),
                16 => store.compact().unwrap(),
                _ => {}
            }
        }
    }
    generator
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the switch by which golden files are written anew")]
fn a_store_of_format_2_opens() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let mut fixture = Fixture::new(settings());
        fill(&[fixture.store()]);
        drop(fixture.store.take());
        let _ = fs::remove_dir_all(golden());
        copy_tree(fixture.directory.path(), &golden());
        remove_clutter(&golden());
    }
    let oracle = MemoryTraceStore::new();
    let mut generator = fill(&[&oracle]);
    let mut fixture = Fixture::new(settings());
    drop(fixture.store.take());
    fs::remove_dir_all(fixture.directory.path()).unwrap();
    copy_tree(&golden(), fixture.directory.path());
    fixture.open();
    let queries: Vec<_> = (0..40).map(|_| random_query(&mut generator)).collect();
    // What was deleted was counted all the same, so calls are not compared.
    let tenant = TenantId::default();
    let ids = generator.trace_ids();
    check_spans(&fixture, &oracle, &ids, &queries);
    fixture.reopen();
    fixture.store().compact().unwrap();
    check_spans(&fixture, &oracle, &ids, &queries);
    assert!(fixture.store().services(&tenant).unwrap().len() > 2);
}

fn check_spans(fixture: &Fixture, oracle: &MemoryTraceStore, ids: &[TraceId], queries: &[TraceQuery]) {
    let (tenant, context) = (TenantId::default(), ReadContext::unlimited());
    let lookups: Vec<_> = ids.iter().map(|trace_id| TraceLookup { trace_id: *trace_id, range: None }).collect();
    let spans = |store: &dyn TraceStore| {
        let traces = store.traces(&tenant, &lookups, &context).unwrap();
        traces.map(|trace| comparable(&trace.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(spans(fixture.store()), spans(oracle));
    for query in queries {
        let hits = |store: &dyn TraceStore| store.find(&tenant, query, &context).unwrap().hits;
        assert_eq!(hits(fixture.store()), hits(oracle), "{query:?}");
    }
}

/// Locks, and what RocksDB tells about its work.
fn remove_clutter(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            remove_clutter(&path);
        } else if name.starts_with("LOG") || name.contains("LOCK") || name.starts_with(".tantivy") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Version 1 was never released: it is refused, and left as it is.
#[test]
fn format_1_is_refused_and_untouched() {
    let mut fixture = Fixture::new(settings());
    drop(fixture.store.take());
    let path = fixture.directory.path().join("FORMAT");
    fs::write(&path, "pharos-tracestore 1\n").unwrap();
    let error = fixture.try_open(fixture.directory.path()).unwrap_err();
    assert!(matches!(&error, TraceStoreError::Format { found, .. } if found == "pharos-tracestore 1"), "{error}");
    assert!(error.to_string().contains("this version reads pharos-tracestore 2"), "{error}");
    assert_eq!(fs::read_to_string(path).unwrap(), "pharos-tracestore 1\n");
}
