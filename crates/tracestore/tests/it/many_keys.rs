//! Spans with more keys than words of the index tell of.

use pharos_model::{Attribute, AttributeValue, Span, SpanBatch, SpanGroup, SpanId, TenantId, TimeRangeNs, TraceId};
use pharos_storage::{
    AttributeKeyQuery, ListedType, ReadContext, SpanFilter, SpanReference, TraceQuery, TraceStore, ValueQuery,
};

use crate::support::{Fixture, NOW_NS, settings};

const KEYS: usize = 6000;

fn span(number: u8, attributes: impl Iterator<Item = (String, &'static str)>) -> Span {
    let attribute = |(key, value): (String, &str)| Attribute { key, value: AttributeValue::String(value.to_owned()) };
    Span {
        trace_id: TraceId([number; 16]),
        span_id: SpanId([number; 8]),
        name: "work".to_owned(),
        start_ns: NOW_NS,
        end_ns: NOW_NS + 5,
        attributes: attributes.map(attribute).collect(),
        ..Span::default()
    }
}

fn by_attribute(service: Option<&str>, key: &str, value: &str) -> TraceQuery {
    TraceQuery {
        service: service.map(str::to_owned),
        operation: None,
        filters: vec![SpanFilter::Attribute { key: key.to_owned(), value: value.to_owned() }],
        predicate: None,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 20,
    }
}

#[test]
fn a_span_with_thousands_of_keys_is_found_and_listed_by_each() {
    let fixture = Fixture::new(settings());
    let many = span(1, (0..KEYS).map(|key| (format!("key {key}"), "many")));
    let usual = span(2, [("key 7".to_owned(), "usual")].into_iter());
    let group =
        SpanGroup { resource: std::sync::Arc::default(), scope: std::sync::Arc::default(), spans: vec![many, usual] };
    fixture.append(SpanBatch { groups: vec![group] }).unwrap();
    let (store, tenant, context) = (fixture.store(), TenantId::default(), ReadContext::unlimited());
    let service = Some("unknown_service");
    let found = |service: Option<&str>, key: &str, value: &str| {
        let found = store.find(&tenant, &by_attribute(service, key, value), &context).unwrap();
        found.hits.iter().map(|hit| hit.trace_id.0[0]).collect::<Vec<_>>()
    };
    for step in ["in memory", "sealed", "merged"] {
        match step {
            "sealed" => store.flush().unwrap(),
            "merged" => store.compact().unwrap(),
            _ => {}
        }
        for key in ["key 0", "key 7", "key 5999"] {
            assert_eq!((found(None, key, "many"), found(service, key, "many")), (vec![1], vec![1]), "{step} {key}");
            assert_eq!(found(None, key, "none"), [0; 0], "{step} {key}");
        }
        assert_eq!(found(service, "key 7", "usual"), [2], "{step}");
        let query = AttributeKeyQuery { level: None, range: TimeRangeNs::ALL, predicate: None, limit: KEYS + 100 };
        let keys = store.attribute_keys(&tenant, &query, &context).unwrap();
        assert!(keys.is_complete && keys.entries.len() >= KEYS, "{step}: {}", keys.entries.len());
        let of = SpanReference::Attribute { level: None, key: "key 7".to_owned() };
        let query = ValueQuery { of, range: TimeRangeNs::ALL, predicate: None, limit: 10 };
        let values = store.listed_values(&tenant, &query, &context).unwrap();
        let values: Vec<_> = values.entries.iter().map(|value| (value.value_type, value.text.as_str())).collect();
        assert_eq!(values, [(ListedType::Text, "many"), (ListedType::Text, "usual")], "{step}");
    }
}
