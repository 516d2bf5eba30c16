//! Calls between services: limits, the switch, and calls of spans that are not stored.

use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Resource, Span, SpanBatch, SpanGroup, SpanId, TenantId, TimeRangeNs, TraceId,
};
use pharos_storage::{ReadContext, TraceStore};
use pharos_tracestore::Settings;

use crate::support::{Fixture, NOW_NS, settings};

const NS_PER_HOUR: u64 = 3_600_000_000_000;

/// A call of trace `number` from `parent` to `child`, which starts an hour later: span 1 calls span 2.
fn call(number: u8, parent: &str, child: &str, start_ns: u64) -> SpanBatch {
    let group = |service: &str, id: u8, parent: u8, start_ns| {
        let value = AttributeValue::String(service.into());
        let attributes = vec![Attribute { key: "service.name".into(), value }];
        let span = Span {
            trace_id: TraceId([number; 16]),
            span_id: SpanId([id; 8]),
            parent_span_id: SpanId([parent; 8]),
            start_ns,
            ..Span::default()
        };
        let resource = Arc::new(Resource { attributes, ..Resource::default() });
        SpanGroup { resource, scope: Arc::default(), spans: vec![span] }
    };
    SpanBatch { groups: vec![group(parent, 1, 0, start_ns), group(child, 2, 1, start_ns + NS_PER_HOUR)] }
}

fn dependencies(fixture: &Fixture) -> Vec<(String, String, u64)> {
    let links =
        fixture.store().dependencies(&TenantId::default(), TimeRangeNs::ALL, &ReadContext::unlimited()).unwrap();
    links.into_iter().map(|link| (link.parent, link.child, link.call_count)).collect()
}

fn link(parent: &str, child: &str, count: u64) -> (String, String, u64) {
    (parent.to_owned(), child.to_owned(), count)
}

/// Two midnights lie between the spans of these calls. Nothing of them is stored, and all of it is in the log or on disk.
#[test]
fn calls_of_spans_that_are_not_stored_survive_power_cuts() {
    let mut fixture = Fixture::new(settings());
    for number in 0..12 {
        let batch = call(number, "web", "shop", NOW_NS - 28 * NS_PER_HOUR + u64::from(number) * 2 * NS_PER_HOUR);
        fixture.store().count_calls(&TenantId::default(), &batch).wait().unwrap().unwrap();
        match number % 4 {
            0 => fixture.cut_power(),
            1 => fixture.store().flush().unwrap(),
            2 => fixture.reopen(),
            _ => {}
        }
        assert_eq!(dependencies(&fixture), [link("web", "shop", u64::from(number) + 1)]);
    }
    assert_eq!(fixture.store().stats().indexed_spans, 0);
    assert!(fixture.store().stats().partitions >= 2);
}

#[test]
fn pairs_of_services_beyond_the_limit_are_not_counted_and_known_ones_are() {
    let mut fixture = Fixture::new(Settings { dependencies_max: 2, ..settings() });
    for (number, child) in ["a", "b", "c", "d", "a"].iter().enumerate() {
        fixture.append(call(number as u8, "web", child, NOW_NS - NS_PER_HOUR)).unwrap();
    }
    let expected = [link("web", "a", 2), link("web", "b", 1)];
    assert_eq!(dependencies(&fixture), expected);
    fixture.cut_power();
    assert_eq!(dependencies(&fixture), expected);
    fixture.reopen();
    fixture.append(call(9, "web", "c", NOW_NS - NS_PER_HOUR)).unwrap();
    fixture.append(call(10, "web", "b", NOW_NS - NS_PER_HOUR)).unwrap();
    assert_eq!(dependencies(&fixture), [link("web", "a", 2), link("web", "b", 2)], "the limit is one of the day");
}

#[test]
fn what_was_counted_is_answered_when_no_more_is() {
    let mut fixture = Fixture::new(settings());
    fixture.append(call(1, "web", "shop", NOW_NS - NS_PER_HOUR)).unwrap();
    fixture.settings.dependencies = false;
    fixture.reopen();
    fixture.append(call(2, "web", "shop", NOW_NS - NS_PER_HOUR)).unwrap();
    let other = call(3, "web", "shop", NOW_NS - NS_PER_HOUR);
    fixture.store().count_calls(&TenantId::default(), &other).wait().unwrap().unwrap();
    assert_eq!(dependencies(&fixture), [link("web", "shop", 1)]);
}
