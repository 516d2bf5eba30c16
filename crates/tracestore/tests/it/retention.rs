//! What is too old, too new, or too much.

use std::sync::Arc;

use pharos_base::ByteSize;
use pharos_model::{Attribute, AttributeValue, Resource, Span, SpanBatch, SpanGroup, SpanId, TenantId, TraceId};
use pharos_storage::{ReadContext, RejectReason, StorageError, TraceLookup, TraceStore};
use pharos_tracestore::Settings;

use crate::support::{Fixture, NOW_NS, settings};

const NS_PER_HOUR: u64 = 3_600_000_000_000;

fn batch(spans: Vec<Span>) -> SpanBatch {
    let attribute = Attribute { key: "service.name".into(), value: AttributeValue::String("web".into()) };
    let resource = Arc::new(Resource { attributes: vec![attribute], ..Resource::default() });
    SpanBatch { groups: vec![SpanGroup { resource, scope: Arc::default(), spans }] }
}

fn span(number: u8, start_ns: u64) -> Span {
    Span { trace_id: TraceId([number; 16]), span_id: SpanId([1; 8]), start_ns, end_ns: start_ns, ..Span::default() }
}

fn stored(fixture: &Fixture, number: u8) -> bool {
    let lookup = TraceLookup { trace_id: TraceId([number; 16]), range: None };
    let mut found = fixture.store().traces(&TenantId::default(), &[lookup], &ReadContext::unlimited()).unwrap();
    found.next().is_some()
}

#[test]
fn spans_outside_retention_are_told_and_the_rest_is_kept() {
    let fixture = Fixture::new(Settings { retention: "24h".parse().unwrap(), ..settings() });
    let spans = vec![
        span(1, NOW_NS - 24 * NS_PER_HOUR - 1),
        span(2, NOW_NS - 24 * NS_PER_HOUR),
        span(3, NOW_NS + NS_PER_HOUR / 6),
        span(4, NOW_NS + NS_PER_HOUR / 6 + 1),
        span(5, 0),
    ];
    let outcome = fixture.append(batch(spans)).unwrap();
    assert_eq!(outcome.items, 2);
    let reasons: Vec<_> = outcome.rejections.iter().map(|rejection| (rejection.reason, rejection.count)).collect();
    assert_eq!(reasons, [(RejectReason::TooOld, 2), (RejectReason::TooNew, 1)]);
    assert_eq!([1, 2, 3, 4, 5].map(|number| stored(&fixture, number)), [false, true, true, false, false]);
}

#[test]
fn attributes_that_nest_too_deep_are_refused() {
    let mut value = AttributeValue::Int(1);
    for _ in 0..200 {
        value = AttributeValue::Array(vec![value]);
    }
    let mut deep = span(1, NOW_NS);
    deep.attributes.push(Attribute { key: "deep".into(), value });
    let fixture = Fixture::new(settings());
    let outcome = fixture.append(batch(vec![deep, span(2, NOW_NS)])).unwrap();
    assert_eq!((outcome.items, outcome.rejected()), (1, 1));
    assert_eq!(outcome.rejections[0].reason, RejectReason::InvalidSpan);
}

#[test]
fn days_out_of_retention_are_dropped_whole() {
    let mut fixture = Fixture::new(Settings { retention: "48h".parse().unwrap(), ..settings() });
    fixture.append(batch(vec![span(1, NOW_NS - 40 * NS_PER_HOUR), span(2, NOW_NS)])).unwrap();
    fixture.store().flush().unwrap();
    assert_eq!(fixture.store().stats().partitions, 2);
    fixture.clock.advance_ms(30 * 3_600_000);
    fixture.store().flush().unwrap();
    assert_eq!(fixture.store().stats().partitions, 1);
    assert!(!stored(&fixture, 1) && stored(&fixture, 2));
    assert_eq!(std::fs::read_dir(fixture.directory.path().join("days")).unwrap().count(), 1);
    fixture.reopen();
    assert!(!stored(&fixture, 1) && stored(&fixture, 2));
}

#[test]
fn the_oldest_days_go_when_the_store_is_too_large() {
    let fixture = Fixture::new(Settings { retention_size: Some(ByteSize(1)), ..settings() });
    for day in 0..3 {
        fixture.append(batch(vec![span(day, NOW_NS - u64::from(day) * 24 * NS_PER_HOUR)])).unwrap();
    }
    fixture.store().flush().unwrap();
    assert_eq!(fixture.store().stats().partitions, 1, "the newest day stays");
    assert_eq!([0, 1, 2].map(|number| stored(&fixture, number)), [true, false, false]);
    let outcome = fixture.append(batch(vec![span(9, NOW_NS - 24 * NS_PER_HOUR)])).unwrap();
    assert_eq!(outcome.rejections[0].reason, RejectReason::TooOld);
}

#[test]
fn a_trace_above_the_limit_says_what_is_missing() {
    let fixture = Fixture::new(Settings { trace_spans_max: 10, ..settings() });
    let spans = (0..25).map(|id| Span { span_id: SpanId([id; 8]), ..span(1, NOW_NS) }).collect();
    fixture.append(batch(spans)).unwrap();
    let lookup = TraceLookup { trace_id: TraceId([1; 16]), range: None };
    let trace = fixture.store().traces(&TenantId::default(), &[lookup], &ReadContext::unlimited());
    let trace = trace.unwrap().next().unwrap().unwrap();
    assert_eq!(trace.groups[0].spans.len(), 10);
    assert!(trace.warnings[0].contains("15 are left out"), "{:?}", trace.warnings);
}

#[test]
fn a_read_above_its_memory_budget_fails() {
    let fixture = Fixture::new(settings());
    let spans = (0..100).map(|id| Span { span_id: SpanId([id; 8]), ..span(1, NOW_NS) }).collect();
    fixture.append(batch(spans)).unwrap();
    let context = ReadContext { memory: pharos_base::MemoryBudget::new(100), ..ReadContext::unlimited() };
    let lookup = TraceLookup { trace_id: TraceId([1; 16]), range: None };
    let mut traces = fixture.store().traces(&TenantId::default(), &[lookup], &context).unwrap();
    assert!(matches!(traces.next(), Some(Err(StorageError::Memory(_)))));
    assert!(traces.next().is_none());
}

#[test]
fn operations_above_their_limit_are_found_but_not_listed() {
    let fixture = Fixture::new(Settings { operations_max: 2, ..settings() });
    for id in 0..5 {
        fixture.append(batch(vec![Span { name: format!("op{id}"), ..span(id, NOW_NS) }])).unwrap();
    }
    let query = pharos_storage::OperationQuery { service: "web".into(), kind: None };
    assert_eq!(fixture.store().operations(&TenantId::default(), &query).unwrap().len(), 2);
    assert!(stored(&fixture, 4));
}
