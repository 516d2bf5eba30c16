//! Searches and reads at their bounds: what takes too long, what takes too much memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pharos_base::{Clock, MemoryBudget, SystemClock};
use pharos_model::{
    Attribute, AttributeValue, Resource, SearchPattern, Span, SpanBatch, SpanGroup, SpanId, TenantId, TimeRangeNs,
    TraceId,
};
use pharos_storage::{
    FoundTraces, ReadContext, SpanField, SpanPredicate, SpanReference, StorageError, TraceLookup, TraceQuery,
    TraceStore,
};
use pharos_tracestore::{Components, Settings, SpanStore};

use crate::examine::filled;
use crate::support::{Fixture, NOW_MS, NOW_NS, settings};

fn query(predicate: Option<SpanPredicate>) -> TraceQuery {
    TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 1000,
    }
}

fn find(store: &dyn TraceStore, query: &TraceQuery) -> FoundTraces {
    store.find(&TenantId::default(), query, &ReadContext::unlimited()).unwrap()
}

fn lookup(trace_id: TraceId) -> TraceLookup {
    TraceLookup { trace_id, range: None }
}

/// Every look at it costs time.
#[derive(Debug)]
struct RestlessClock {
    began_at: Instant,
    looks: AtomicU32,
}

impl Clock for RestlessClock {
    fn unix_ns(&self) -> i64 {
        NOW_MS * 1_000_000
    }

    fn monotonic(&self) -> Instant {
        self.began_at + Duration::from_millis(20) * self.looks.fetch_add(1, Ordering::Relaxed)
    }
}

#[test]
fn a_search_by_patterns_ends_in_time_and_says_so() {
    let (mut fixture, oracle, _) = filled();
    let pattern = SearchPattern::new("[a-z].*").unwrap();
    let subject = SpanReference::Field(SpanField::Name);
    let by_pattern = query(Some(SpanPredicate::Matches { subject, pattern }));
    let found = find(fixture.store(), &by_pattern);
    assert_eq!(found, find(&oracle, &by_pattern));
    assert!(!found.hits.is_empty() && found.warnings.is_empty());
    drop(fixture.store.take());
    let clock = Arc::new(RestlessClock { began_at: SystemClock.monotonic(), looks: AtomicU32::new(0) });
    let settings = Settings { pattern_time_max: "50ms".parse().unwrap(), ..settings() };
    let store = SpanStore::open(fixture.directory.path(), settings, Components { clock }).unwrap();
    let cut = find(&store, &by_pattern);
    assert!(cut.hits.len() < found.hits.len());
    assert!(cut.hits.iter().all(|hit| found.hits.iter().any(|other| other.trace_id == hit.trace_id)));
    assert!(cut.warnings[0].contains("ended after 50ms (tracestore.pattern_time_max)"), "{:?}", cut.warnings);
    assert_eq!(find(&store, &query(None)), find(&oracle, &query(None)), "other searches have no such end");
}

/// Spans whose large value stands once in their block.
fn large_spans() -> SpanBatch {
    let value = AttributeValue::String("x".repeat(64 << 10));
    let attributes = vec![Attribute { key: "body".into(), value }];
    let span = |number: u8| Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([number; 8]),
        start_ns: NOW_NS,
        end_ns: NOW_NS,
        attributes: attributes.clone(),
        ..Span::default()
    };
    let resource = Arc::new(Resource::default());
    SpanBatch { groups: vec![SpanGroup { resource, scope: Arc::default(), spans: (1..=100).map(span).collect() }] }
}

#[test]
fn memory_of_reads_is_what_their_spans_take() {
    let fixture = Fixture::new(settings());
    fixture.append(large_spans()).unwrap();
    let limited = |bytes| ReadContext { memory: MemoryBudget::new(bytes), ..ReadContext::unlimited() };
    for _ in 0..2 {
        let read = |context: &ReadContext| {
            let traces = fixture.store().traces(&TenantId::default(), &[lookup(TraceId([1; 16]))], context);
            traces.unwrap().next().unwrap()
        };
        assert!(matches!(read(&limited(4 << 20)), Err(StorageError::Memory(_))), "100 times 64 KiB are more");
        let enough = limited(16 << 20);
        assert_eq!(read(&enough).unwrap().groups[0].spans.len(), 100);
        assert_eq!(enough.memory.used_bytes(), 0);
        assert!(enough.memory.peak_bytes() > 6 << 20);
        fixture.store().flush().unwrap();
    }
    let found = fixture.store().find(&TenantId::default(), &query(None), &limited(16 << 10));
    assert!(matches!(found, Err(StorageError::Memory(_))), "a block of 64 KiB is more: {found:?}");
}
