//! Blocks that rot, and tenants whose spans go while they are read.

use std::num::NonZeroUsize;
use std::sync::Arc;

use pharos_model::{Resource, Span, SpanBatch, SpanGroup, SpanId, TenantId, TimeRangeNs, TraceId};
use pharos_storage::{BatchId, ReadContext, StorageError, TraceLookup, TraceQuery, TraceStore};

use super::{FaultDisk, NOW_NS, append, open, settings};

fn everything() -> TraceQuery {
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

#[test]
fn a_damaged_block_is_told_beside_what_the_others_have() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    for number in 1..=3 {
        append(&store, number).unwrap();
        store.flush().unwrap();
    }
    let partition = store.shared.partitions_newest_first().remove(0);
    assert_eq!(partition.damage_block(), 3);
    let context = ReadContext::unlimited();
    for _ in 0..2 {
        let found = store.find(&TenantId::default(), &everything(), &context).unwrap();
        assert_eq!(found.hits.iter().map(|hit| hit.trace_id.0[0]).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(found.warnings.len(), 1);
        let warning = "traces may be missing: blocks of spans that cannot be read: 1; the first: corrupt block";
        assert!(found.warnings[0].starts_with(warning), "{:?}", found.warnings);
        // Whoever asks for a trace by its id is not told that it is not there.
        let lookup = TraceLookup { trace_id: TraceId([3; 16]), range: None };
        let mut read = store.traces(&TenantId::default(), &[lookup], &context).unwrap();
        assert!(matches!(read.next(), Some(Err(StorageError::Internal { .. }))));
    }
}

#[test]
fn spans_whose_retention_ends_while_they_are_read_are_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    let (tenant, trace_id) = (TenantId::default(), TraceId([1; 16]));
    let group = |number: u8| {
        let resource = Resource { schema_url: format!("https://schemas.example/{number}"), ..Resource::default() };
        let span = Span { trace_id, span_id: SpanId([number; 8]), start_ns: NOW_NS, ..Span::default() };
        SpanGroup { resource: Arc::new(resource), scope: Arc::default(), spans: vec![span] }
    };
    let batch = SpanBatch { groups: (1..=5).map(group).collect() };
    store.append(&tenant, batch, BatchId::random()).wait().unwrap().unwrap();
    store.flush().unwrap();
    let lookup = TraceLookup { trace_id, range: None };
    let mut parts = store.trace_parts(&tenant, &[lookup], NonZeroUsize::MIN, &ReadContext::unlimited()).unwrap();
    assert_eq!(parts.next().unwrap().unwrap().span_count(), 1);
    assert!(store.shared.partitions_newest_first()[0].drop_tenant(&tenant).unwrap());
    assert_eq!(parts.map(|part| part.unwrap().span_count()).sum::<usize>(), 1, "what was read ahead");
}

/// A locator is made of the blocks: without it they are looked through, and no trace is missing.
#[test]
fn without_locators_traces_are_found_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    for number in 1..=3 {
        append(&store, number).unwrap();
        store.flush().unwrap();
    }
    store.shared.partitions_newest_first()[0].damage_locators();
    let lookups = [1, 2, 3, 9].map(|number| TraceLookup { trace_id: TraceId([number; 16]), range: None });
    let (tenant, context) = (TenantId::default(), ReadContext::unlimited());
    for _ in 0..2 {
        let found: Vec<_> = store.traces(&tenant, &lookups, &context).unwrap().map(Result::unwrap).collect();
        assert_eq!(found.iter().map(|trace| trace.trace_id.0[0]).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(found.iter().all(|trace| trace.warnings.is_empty()));
        let summaries = store.summaries(&tenant, &lookups, &context).unwrap();
        assert!(summaries.len() == 3 && summaries.iter().all(|summary| summary.warnings.is_empty()));
    }
    assert_eq!(store.stats().damaged_places, 3, "each segment's is told once");
    // Nor does it keep spans out.
    append(&store, 1).unwrap();
    store.flush().unwrap();
}

#[test]
fn calls_are_read_within_the_memory_and_the_time_of_a_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), settings(), &FaultDisk::sound());
    let group = |service: String, id: u8, parent: u8| {
        let name = pharos_model::Attribute {
            key: "service.name".to_owned(),
            value: pharos_model::AttributeValue::String(service),
        };
        let resource = Resource { attributes: vec![name], ..Resource::default() };
        let (span_id, parent_span_id) = (SpanId([id; 8]), SpanId([parent; 8]));
        let span = Span { trace_id: TraceId([1; 16]), span_id, parent_span_id, start_ns: NOW_NS, ..Span::default() };
        SpanGroup { resource: Arc::new(resource), scope: Arc::default(), spans: vec![span] }
    };
    let called = (2..200).map(|id| group(format!("called-{id}"), id, 1));
    let batch = SpanBatch { groups: [group("caller".to_owned(), 1, 0)].into_iter().chain(called).collect() };
    let tenant = TenantId::default();
    store.append(&tenant, batch, BatchId::random()).wait().unwrap().unwrap();
    for _ in 0..2 {
        let read = |context: &ReadContext| store.dependencies(&tenant, TimeRangeNs::ALL, context);
        assert_eq!(read(&ReadContext::unlimited()).unwrap().len(), 198);
        let memory = pharos_base::MemoryBudget::new(16 << 10);
        let narrow = ReadContext { memory: memory.clone(), ..ReadContext::unlimited() };
        assert!(matches!(read(&narrow), Err(StorageError::Memory(_))));
        assert_eq!(memory.used_bytes(), 0);
        let late = ReadContext::unlimited();
        late.cancel.cancel();
        assert!(matches!(read(&late), Err(StorageError::Interrupted(_))));
        store.flush().unwrap();
    }
}
