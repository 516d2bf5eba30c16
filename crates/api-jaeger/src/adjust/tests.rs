//! Each adjuster on a trace that needs it and on one that does not.

use std::sync::Arc;
use std::time::Duration;

use pharos_model::{Link, Resource, Scope, SpanEvent, SpanId, SpanKind, TraceId};

use super::*;
use crate::tests::{attribute, text};

const TRACE: TraceId = TraceId([7; 16]);

pub(crate) fn span(id: u64, parent: u64, name: &str) -> Span {
    Span {
        trace_id: TRACE,
        span_id: SpanId(id.to_be_bytes()),
        parent_span_id: SpanId(parent.to_be_bytes()),
        name: name.to_owned(),
        start_ns: 1_000 + id,
        end_ns: 2_000,
        ..Span::default()
    }
}

fn group(resource: Vec<Attribute>, spans: Vec<Span>) -> SpanGroup {
    SpanGroup {
        resource: Arc::new(Resource { attributes: resource, ..Resource::default() }),
        scope: Arc::new(Scope::default()),
        spans,
    }
}

fn adjusted_by(groups: Vec<SpanGroup>, adjusting: Adjusting) -> Trace {
    let mut trace = Trace { trace_id: TRACE, groups, warnings: Vec::new() };
    adjusting.apply(&mut trace, &pharos_base::MemoryBudget::unlimited()).unwrap();
    trace
}

fn adjusted(groups: Vec<SpanGroup>) -> Trace {
    adjusted_by(groups, Adjusting { clock_skew_max: HumanDuration::default(), trace_spans_max: 0 })
}

fn warnings(span: &Span) -> Vec<&str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == WARNINGS).map(|found| &found.value);
    let Some(AttributeValue::Array(warnings)) = found else { return Vec::new() };
    let mut texts = Vec::new();
    for warning in warnings {
        let AttributeValue::String(text) = warning else { panic!("{warning:?}") };
        texts.push(text.as_str());
    }
    texts
}

/// Id, parent and name of all spans.
fn tree(trace: &Trace) -> Vec<(u64, u64, &str)> {
    let number = |id: SpanId| u64::from_be_bytes(id.0);
    let spans = trace.groups.iter().flat_map(|group| &group.spans);
    spans.map(|span| (number(span.span_id), number(span.parent_span_id), span.name.as_str())).collect()
}

#[test]
fn a_server_that_shares_its_clients_id_becomes_its_child() {
    let kind = |span, kind| Span { kind, ..span };
    let trace = adjusted(vec![
        group(vec![], vec![kind(span(2, 0, "client"), SpanKind::Client), span(1, 2, "beside")]),
        group(vec![], vec![kind(span(2, 0, "server"), SpanKind::Server), span(4, 2, "below")]),
        group(vec![], vec![kind(span(9, 0, "alone"), SpanKind::Server)]),
    ]);
    // 3 is the smallest id that nobody bears; all of the old id's children are taken for the server's.
    let expected = [(2, 0, "client"), (1, 3, "beside"), (3, 2, "server"), (4, 3, "below"), (9, 0, "alone")];
    assert_eq!(tree(&trace), expected);
}

#[test]
fn attributes_are_sorted_by_key_and_events_by_time() {
    let attributes = || vec![attribute("b", text("1")), attribute("a", text("2")), attribute("b", text("0"))];
    let sorted = vec![attribute("a", text("2")), attribute("b", text("1")), attribute("b", text("0"))];
    let event = |time_ns, name: &str| SpanEvent {
        time_ns,
        name: name.to_owned(),
        attributes: attributes(),
        ..SpanEvent::default()
    };
    let link = Link { trace_id: TRACE, attributes: attributes(), ..Link::default() };
    let unsorted = Span {
        attributes: attributes(),
        events: vec![event(5, "late"), event(3, "first"), event(3, "second")],
        links: vec![link],
        ..span(1, 0, "a")
    };
    let mut given = group(attributes(), vec![unsorted]);
    given.scope = Arc::new(Scope { attributes: attributes(), ..Scope::default() });
    let shared = given.clone();
    let trace = adjusted(vec![given]);
    let group = &trace.groups[0];
    let span = &group.spans[0];
    for found in [&group.resource.attributes, &group.scope.attributes, &span.attributes, &span.links[0].attributes] {
        assert_eq!(*found, sorted);
    }
    let events: Vec<_> = span.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(events, ["first", "second", "late"]);
    assert!(span.events.iter().all(|event| event.attributes == sorted));
    assert_eq!(shared.resource.attributes, attributes(), "what others share stays as it is");
}

#[test]
fn spans_that_differ_in_order_only_are_shown_once() {
    let with = |keys: [&str; 2]| Span {
        attributes: keys.map(|key| attribute(key, AttributeValue::Double(0.5))).to_vec(),
        ..span(1, 0, "twice")
    };
    let trace = adjusted(vec![
        group(vec![attribute("host", text("a"))], vec![with(["a", "b"]), with(["b", "a"]), with(["a", "c"])]),
        group(vec![attribute("host", text("b"))], vec![with(["a", "b"])]),
        group(vec![attribute("host", text("a"))], vec![with(["b", "a"])]),
    ]);
    let counts: Vec<_> = trace.groups.iter().map(|group| group.spans.len()).collect();
    assert_eq!(counts, [2, 1], "another attribute or another resource makes another span; empty groups go");
}

#[test]
fn many_spans_of_one_id_are_compared_in_time() {
    let numbered = |number| Span {
        attributes: vec![attribute("n", AttributeValue::Int(number))],
        start_ns: 5,
        ..span(1, 0, "same")
    };
    let mut groups = vec![group(vec![], (0..20_000).map(|number| numbered(number % 10_000)).collect())];
    duplicates::drop_duplicates(&mut groups);
    assert_eq!(groups[0].spans.len(), 10_000);
}

/// A parent of host `a`, and its child of `child_host` at these times.
fn parent_and_child(child_host: &str, start_ns: u64, end_ns: u64) -> Vec<SpanGroup> {
    let parent = Span { start_ns: 1_000_000, end_ns: 1_010_000, ..span(1, 0, "parent") };
    let event = SpanEvent { time_ns: start_ns, ..SpanEvent::default() };
    let child = Span { start_ns, end_ns, events: vec![event], ..span(2, 1, "child") };
    let below = Span { start_ns, end_ns, ..span(3, 2, "below") };
    let host = |name: &str| vec![attribute("host.name", text(name))];
    vec![group(host("a"), vec![parent]), group(host(child_host), vec![child, below])]
}

fn within(ms: u64) -> Adjusting {
    Adjusting { clock_skew_max: HumanDuration(Duration::from_millis(ms)), trace_spans_max: 0 }
}

#[test]
fn a_child_of_another_host_is_moved_into_its_parent() {
    // 2 µs long in 10 µs: 4 µs go each way.
    let trace = adjusted_by(parent_and_child("b", 500_000, 502_000), within(1_000));
    let [child, below] = &trace.groups[1].spans[..] else { panic!() };
    assert_eq!((child.start_ns, child.end_ns, child.events[0].time_ns), (1_004_000, 1_006_000, 1_004_000));
    assert_eq!((below.start_ns, below.end_ns), (1_004_000, 1_006_000), "what is below it moves along");
    assert_eq!(warnings(child), ["This span's timestamps were adjusted by 504\u{b5}s"]);
    assert_eq!(warnings(&trace.groups[0].spans[0]), [""; 0]);
}

#[test]
fn a_child_that_lasts_longer_than_its_parent_is_moved_to_its_start_only() {
    let trace = adjusted_by(parent_and_child("b", 900_000, 2_000_000), within(1_000));
    assert_eq!((trace.groups[1].spans[0].start_ns, trace.groups[1].spans[0].end_ns), (1_000_000, 2_100_000));
    let trace = adjusted_by(parent_and_child("b", 1_005_000, 2_000_000), within(1_000));
    assert_eq!(trace.groups[1].spans[0].start_ns, 1_005_000);
}

#[test]
fn nothing_is_moved_on_one_host_or_where_it_fits_or_beyond_the_limit() {
    for (host, start_ns, end_ns, limit_ms, told) in [
        ("a", 500_000, 502_000, 1_000, vec![]),
        ("b", 1_001_000, 1_002_000, 1_000, vec![]),
        ("b", 500_000, 502_000, 0, vec![]),
        (
            "b",
            3_000_000_000,
            3_000_002_000,
            2,
            vec!["max clock skew adjustment delta of 2ms exceeded; not applying calculated delta of -2.998996s"],
        ),
    ] {
        let trace = adjusted_by(parent_and_child(host, start_ns, end_ns), within(limit_ms));
        let child = &trace.groups[1].spans[0];
        assert_eq!((child.start_ns, child.end_ns), (start_ns, end_ns), "{host} {start_ns}");
        assert_eq!(warnings(child), told);
    }
}

#[test]
fn spans_that_cannot_be_compared_say_so() {
    let twice = Span { start_ns: 7, ..span(2, 0, "twice") };
    let groups = vec![group(vec![], vec![span(1, 99, "orphan"), span(2, 0, "twice"), twice])];
    let trace = adjusted_by(groups, within(1));
    let spans = &trace.groups[0].spans;
    let orphan = "parent span ID=0000000000000063 is not in the trace; skipping clock skew adjustment";
    assert_eq!(warnings(&spans[0]), [orphan]);
    assert_eq!(warnings(&spans[2]), ["duplicate span IDs; skipping clock skew adjustment"]);
}

#[test]
fn parents_in_a_ring_and_chains_of_any_depth_end() {
    let ring = vec![group(vec![], vec![span(1, 2, "a"), span(2, 1, "b"), span(3, 3, "self")])];
    assert_eq!(tree(&adjusted_by(ring, within(1))).len(), 3);
    let chain = (1..=20_000).map(|id| Span { start_ns: 1, end_ns: 2, ..span(id, id - 1, "link") }).collect();
    assert_eq!(tree(&adjusted_by(vec![group(vec![], chain)], within(1))).len(), 20_000);
}

#[test]
fn addresses_that_came_as_numbers_are_texts() {
    let number = AttributeValue::Int(1 << 24 | 2 << 16 | 3 << 8 | 4);
    let attributes = vec![
        attribute("a", number.clone()),
        attribute("ip", AttributeValue::Double(f64::from(192_u32 << 24 | 168 << 16 | 1))),
        attribute("peer.ipv4", number.clone()),
    ];
    let trace = adjusted(vec![group(
        vec![attribute("ip", AttributeValue::Int(-1))],
        vec![Span { attributes, ..span(1, 0, "a") }],
    )]);
    assert_eq!(trace.groups[0].resource.attributes, [attribute("ip", text("255.255.255.255"))]);
    let expected =
        [attribute("a", number), attribute("ip", text("192.168.0.1")), attribute("peer.ipv4", text("1.2.3.4"))];
    assert_eq!(trace.groups[0].spans[0].attributes, expected);
}

#[test]
fn attributes_of_the_library_move_to_the_resource() {
    let (name, language) = ("telemetry.sdk.name", "telemetry.sdk.language");
    let given = |language_value: AttributeValue| Span {
        attributes: vec![
            attribute("http.method", text("GET")),
            attribute(language, language_value),
            attribute(name, text("otel")),
        ],
        ..span(1, 0, "a")
    };
    let second = Span { span_id: SpanId([2; 8]), ..given(text("rust")) };
    let trace = adjusted(vec![group(vec![attribute(language, text("go"))], vec![given(text("go")), second])]);
    let group = &trace.groups[0];
    assert_eq!(group.resource.attributes, [attribute(language, text("go")), attribute(name, text("otel"))]);
    assert_eq!(group.spans[0].attributes, [attribute("http.method", text("GET"))]);
    assert_eq!(group.spans[1].attributes[1], attribute(language, text("rust")), "what differs stays");
    let told = "conflicting values between Span and Resource for attribute telemetry.sdk.language";
    assert_eq!(warnings(&group.spans[1]), [told]);
}

#[test]
fn links_that_lead_nowhere_are_dropped_and_told() {
    let links = vec![Link::default(), Link { trace_id: TRACE, ..Link::default() }];
    let trace = adjusted(vec![group(vec![], vec![Span { links, ..span(1, 0, "a") }])]);
    let span = &trace.groups[0].spans[0];
    assert_eq!((span.links.len(), warnings(span)), (1, vec!["Invalid span link removed"]));
}

#[test]
fn of_a_trace_above_the_limit_the_first_spans_are_kept() {
    let groups = |ids: [&[u64]; 3]| ids.map(|ids| group(vec![], ids.iter().map(|id| span(*id, 0, "a")).collect()));
    let of_three = Adjusting { clock_skew_max: HumanDuration::default(), trace_spans_max: 3 };
    let trace = adjusted_by(groups([&[1, 2], &[3, 4], &[5]]).to_vec(), of_three);
    assert_eq!(tree(&trace), [(1, 0, "a"), (2, 0, "a"), (3, 0, "a")]);
    assert_eq!(trace.groups.len(), 2);
    let told = "trace has more than 3 spans, showing first 3 spans only";
    assert_eq!(warnings(&trace.groups[0].spans[0]), [told]);
    let whole = adjusted_by(groups([&[1], &[2], &[3]]).to_vec(), of_three);
    assert_eq!((tree(&whole).len(), warnings(&whole.groups[0].spans[0]).len()), (3, 0));
}

#[test]
fn a_warning_joins_those_that_are_there_whatever_they_are() {
    let mut warned = span(1, 0, "a");
    warned.attributes = vec![attribute(WARNINGS, text("sent"))];
    warn(&mut warned, "one".to_owned());
    warn(&mut warned, "two".to_owned());
    assert_eq!(warnings(&warned), ["sent", "one", "two"]);
}
