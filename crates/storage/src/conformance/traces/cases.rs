//! The cases, each a rule of the contract with its own data.

use std::num::NonZeroUsize;
use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, SpanKind, SpanStatus,
    StatusCode, TenantId, TimeRangeNs, TraceId,
};

use super::lists::{
    keys_and_values_are_listed, many_values_are_cut_at_the_limit, random_lists_are_those_of_the_reference,
};
use super::predicates::{predicates_mean_one_thing, random_predicates_are_answered_as_by_the_reference};
use super::{Case, SpanGenerator, check_equal, comparable, random_query, read_traces};
use crate::memory::MemoryTraceStore;
use crate::{
    BatchId, DependencyLink, Operation, OperationQuery, ReadContext, ServiceSpanCount, SpanFilter, StorageError,
    TraceLookup, TraceQuery, TraceStore,
};

pub(super) struct NamedCase {
    pub(super) name: &'static str,
    pub(super) run: fn(&mut Case),
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$(NamedCase { name: stringify!($name), run: $name }),*] };
}

pub(super) const ALL: &[NamedCase] = cases![
    an_empty_store_answers_nothing,
    appended_spans_are_seen_at_once,
    every_field_comes_back,
    screening_takes_out_what_an_append_would_reject,
    equal_spans_are_one_and_different_ones_with_one_id_are_both_kept,
    tenants_are_walls,
    all_tests_hold_on_one_span,
    attributes_are_found_at_every_level,
    bounds_of_time_and_duration,
    newest_first_across_days_and_late_spans,
    services_and_operations_are_listed,
    calls_are_counted_once_in_any_order,
    calls_of_spans_that_are_not_stored_are_counted,
    summaries_tell_root_errors_and_orphans,
    lookups_keep_their_order_and_skip_the_absent,
    traces_come_in_parts,
    deleted_traces_are_gone_and_later_spans_stay,
    many_resources_share_an_attribute,
    a_trace_of_ten_thousand_spans_is_whole,
    random_spans_are_answered_as_by_the_reference,
    keys_and_values_are_listed,
    random_lists_are_those_of_the_reference,
    many_values_are_cut_at_the_limit,
    predicates_mean_one_thing,
    random_predicates_are_answered_as_by_the_reference,
];

const NS_PER_MINUTE: u64 = 60_000_000_000;
const NS_PER_HOUR: u64 = 60 * NS_PER_MINUTE;

fn trace_id(number: u8) -> TraceId {
    TraceId([number; 16])
}

/// Spans that a store may or may not want: of old times, of times to come, with a long service name, with deep attributes.
fn screening_takes_out_what_an_append_would_reject(case: &mut Case) {
    let mut deep = AttributeValue::Int(1);
    for _ in 0..200 {
        deep = AttributeValue::Array(vec![deep]);
    }
    let span = |number: u8, start_ns: u64, value: &AttributeValue| Span {
        trace_id: trace_id(number),
        span_id: SpanId([number; 8]),
        start_ns,
        end_ns: start_ns,
        attributes: vec![attribute("value", value.clone())],
        ..Span::default()
    };
    let fine = AttributeValue::Int(1);
    let group = |service: String, spans: Vec<Span>| SpanGroup {
        resource: Arc::new(Resource {
            attributes: vec![attribute("service.name", AttributeValue::String(service))],
            ..Resource::default()
        }),
        scope: Arc::new(Scope::default()),
        spans,
    };
    let now_ns = case.now_ns;
    let batch = SpanBatch {
        groups: vec![
            group(
                "shop".to_owned(),
                vec![
                    span(1, now_ns, &fine),
                    span(2, 1, &fine),
                    span(3, now_ns + 90 * 24 * NS_PER_HOUR, &fine),
                    span(4, now_ns, &deep),
                ],
            ),
            group("x".repeat(10_000), vec![span(5, now_ns, &fine), span(6, 1, &fine)]),
        ],
    };
    let (tenant, mut screened) = (TenantId::default(), batch.clone());
    let rejections = case.subject.store().screen(&tenant, &mut screened);
    let raw = case.append_to(&tenant, batch);
    assert_eq!(rejections, raw.rejections, "{}", case.name);
    let after = case.append_to(&tenant, screened);
    assert_eq!((after.items, after.rejected()), (raw.items, 0), "{}", case.name);
    assert!(after.items >= 1, "{}: what is fine stays", case.name);
}

fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.to_owned())
}

fn span(trace: u8, id: u8, start_ns: u64) -> Span {
    Span {
        trace_id: trace_id(trace),
        span_id: SpanId([id; 8]),
        name: "op".to_owned(),
        start_ns,
        end_ns: start_ns + 1000,
        ..Span::default()
    }
}

fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    let attributes = vec![attribute("service.name", text(service))];
    let resource = Resource { attributes, ..Resource::default() };
    SpanGroup { resource: Arc::new(resource), scope: Arc::default(), spans }
}

fn batch(service: &str, spans: Vec<Span>) -> SpanBatch {
    SpanBatch { groups: vec![group(service, spans)] }
}

fn any() -> TraceQuery {
    TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: None,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 100,
    }
}

fn ids(hits: &[(TraceId, u64)]) -> Vec<u8> {
    hits.iter().map(|(trace_id, _)| trace_id.0[0]).collect()
}

fn an_empty_store_answers_nothing(case: &mut Case) {
    let tenant = TenantId::default();
    case.append(SpanBatch::default());
    case.subject.settle();
    let store = case.subject.store();
    assert_eq!(case.find(&any()), []);
    assert!(case.traces(&[trace_id(1)]).is_empty());
    assert!(store.services(&tenant).expect("services").is_empty());
    assert!(store.dependencies(&tenant, TimeRangeNs::ALL, &ReadContext::unlimited()).expect("dependencies").is_empty());
}

fn appended_spans_are_seen_at_once(case: &mut Case) {
    // No settling in between: acknowledged is visible.
    for number in 1..20 {
        case.append(batch("web", vec![span(number, 1, case.now_ns - u64::from(number))]));
        assert_eq!(case.find(&any()).len(), usize::from(number));
        assert_eq!(case.traces(&[trace_id(number)]).len(), 1);
    }
}

fn every_field_comes_back(case: &mut Case) {
    let mut generator = SpanGenerator::new(41, case.now_ns, 4);
    let oracle = MemoryTraceStore::new();
    for _ in 0..30 {
        let batch = generator.batch();
        let _ = oracle.append(&TenantId::default(), batch.clone(), BatchId::random()).wait();
        case.append(batch);
    }
    case.subject.settle();
    check_equal(case.subject.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &[]);
}

fn equal_spans_are_one_and_different_ones_with_one_id_are_both_kept(case: &mut Case) {
    let (first, second) = (span(1, 1, case.now_ns), span(1, 2, case.now_ns - 5));
    let changed = Span { name: "other".to_owned(), ..first.clone() };
    case.append(batch("web", vec![first.clone(), second.clone()]));
    case.append(batch("web", vec![first.clone(), second.clone()]));
    // The same spans in another batch, as after a retry that was cut differently.
    case.append(batch("web", vec![second.clone()]));
    case.append(batch("web", vec![first.clone(), changed.clone(), first.clone()]));
    case.append(batch("shop", vec![first.clone()]));
    case.subject.settle();
    let traces = case.traces(&[trace_id(1)]);
    let expected =
        SpanBatch { groups: vec![group("web", vec![first.clone(), changed, second]), group("shop", vec![first])] };
    let expected = crate::Trace { trace_id: trace_id(1), groups: expected.groups, warnings: Vec::new() };
    assert_eq!(traces.iter().map(comparable).collect::<Vec<_>>(), [comparable(&expected)]);
    let lookup = TraceLookup { trace_id: trace_id(1), range: None };
    let summaries = case.subject.store().summaries(&TenantId::default(), &[lookup], &ReadContext::unlimited());
    assert_eq!(summaries.expect("summaries")[0].span_count, 4);
}

fn tenants_are_walls(case: &mut Case) {
    let other: TenantId = "other".parse().expect("a tenant");
    case.append(batch("web", vec![span(1, 1, case.now_ns)]));
    case.append_to(
        &other,
        batch("secret", vec![span(1, 2, case.now_ns), Span { name: "hidden".into(), ..span(2, 1, case.now_ns) }]),
    );
    case.subject.settle();
    assert_eq!(ids(&case.find(&any())), [1]);
    assert_eq!(case.find(&TraceQuery { service: Some("secret".into()), ..any() }), []);
    assert_eq!(case.find(&TraceQuery { operation: Some("hidden".into()), ..any() }), []);
    assert_eq!(case.traces(&[trace_id(2)]), []);
    assert_eq!(case.traces(&[trace_id(1)])[0].groups[0].spans.len(), 1);
    let store = case.subject.store();
    assert_eq!(store.services(&TenantId::default()).expect("services"), ["web"]);
    assert_eq!(store.services(&other).expect("services"), ["secret"]);
    assert!(store.services(&"third".parse().expect("a tenant")).expect("services").is_empty());
}

fn all_tests_hold_on_one_span(case: &mut Case) {
    let now_ns = case.now_ns;
    let slow_ok = Span { end_ns: now_ns + NS_PER_MINUTE, ..span(1, 1, now_ns) };
    let mut quick_error = span(1, 2, now_ns);
    quick_error.status = SpanStatus { code: StatusCode::Error, message: "no".to_owned() };
    quick_error.kind = SpanKind::Server;
    case.append(batch("web", vec![slow_ok, quick_error]));
    case.subject.settle();
    let slow = TraceQuery { duration_min_ns: Some(NS_PER_MINUTE), ..any() };
    let with = |query: &TraceQuery, filter: SpanFilter| TraceQuery { filters: vec![filter], ..query.clone() };
    assert_eq!(ids(&case.find(&slow)), [1]);
    assert_eq!(ids(&case.find(&with(&any(), SpanFilter::Status(StatusCode::Error)))), [1]);
    assert_eq!(case.find(&with(&slow, SpanFilter::Status(StatusCode::Error))), []);
    assert_eq!(ids(&case.find(&with(&slow, SpanFilter::NotStatus(StatusCode::Error)))), [1]);
    assert_eq!(ids(&case.find(&with(&any(), SpanFilter::Kind(SpanKind::Server)))), [1]);
    assert_eq!(case.find(&with(&slow, SpanFilter::Kind(SpanKind::Server))), []);
}

fn attributes_are_found_at_every_level(case: &mut Case) {
    let mut found = span(1, 1, case.now_ns);
    found.attributes =
        vec![attribute("http.status", AttributeValue::Int(500)), attribute("ratio", AttributeValue::Double(72.5))];
    found.attributes.push(attribute("stack", text(&"frame ".repeat(2000))));
    found.events =
        vec![SpanEvent { attributes: vec![attribute("in.event", AttributeValue::Bool(true))], ..SpanEvent::default() }];
    found.links = vec![pharos_model::Link { attributes: vec![attribute("in.link", text("x"))], ..Default::default() }];
    let attributes = vec![attribute("service.name", text("web")), attribute("pod", text("p1"))];
    let resource = Resource { attributes, ..Resource::default() };
    let scope = Scope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![attribute("in.scope", text("y"))],
        ..Scope::default()
    };
    let found = SpanGroup { resource: Arc::new(resource), scope: Arc::new(scope), spans: vec![found] };
    case.append(SpanBatch { groups: vec![found, group("shop", vec![span(2, 1, case.now_ns)])] });
    case.subject.settle();
    let tag = |key: &str, value: &str| SpanFilter::Attribute { key: key.into(), value: value.into() };
    let resource_tag = |key: &str, value: &str| SpanFilter::ResourceAttribute { key: key.into(), value: value.into() };
    let find = |filters: Vec<SpanFilter>| ids(&case.find(&TraceQuery { filters, ..any() }));
    for (key, value) in [
        ("http.status", "500"),
        ("ratio", "72.5"),
        ("in.event", "true"),
        ("in.link", "x"),
        ("pod", "p1"),
        ("in.scope", "y"),
        ("service.name", "web"),
        ("stack", &"frame ".repeat(2000)),
    ] {
        assert_eq!(find(vec![tag(key, value)]), [1], "{key}");
        assert_eq!(find(vec![tag(key, &format!("{value}1"))]), [0_u8; 0], "{key}");
    }
    assert_eq!(find(vec![tag("pod", "p1"), tag("http.status", "500"), tag("in.event", "true")]), [1]);
    assert_eq!(find(vec![resource_tag("pod", "p1")]), [1]);
    assert_eq!(find(vec![resource_tag("http.status", "500")]), [0_u8; 0]);
    assert_eq!(find(vec![SpanFilter::ScopeName("lib".into()), SpanFilter::ScopeVersion("1.2".into())]), [1]);
    assert_eq!(find(vec![SpanFilter::ScopeName("1.2".into())]), [0_u8; 0]);
}

fn bounds_of_time_and_duration(case: &mut Case) {
    let now_ns = case.now_ns;
    case.append(batch("web", vec![span(1, 1, now_ns), span(2, 1, now_ns - 1), span(3, 1, now_ns - 2)]));
    case.subject.settle();
    let between = |start_ns, end_ns| TraceQuery { start: TimeRangeNs { start_ns, end_ns }, ..any() };
    assert_eq!(ids(&case.find(&between(now_ns - 2, now_ns))), [2, 3]);
    assert_eq!(ids(&case.find(&between(now_ns - 1, now_ns + 1))), [1, 2]);
    assert_eq!(case.find(&between(now_ns, now_ns)), []);
    let lasting = |min, max| TraceQuery { duration_min_ns: min, duration_max_ns: max, ..any() };
    assert_eq!(case.find(&lasting(Some(1000), Some(1000))).len(), 3);
    assert_eq!(case.find(&lasting(Some(1001), None)), []);
    assert_eq!(case.find(&lasting(None, Some(999))), []);
    assert_eq!(case.find(&TraceQuery { limit: 0, ..any() }), []);
}

fn newest_first_across_days_and_late_spans(case: &mut Case) {
    let now_ns = case.now_ns;
    // Trace 9 begins two days ago; its newest span comes first, its oldest last.
    case.append(batch("web", vec![span(9, 1, now_ns - NS_PER_HOUR)]));
    case.append(batch("web", vec![span(5, 1, now_ns - 30 * NS_PER_HOUR), span(4, 1, now_ns - 30 * NS_PER_HOUR)]));
    case.append(batch("web", vec![span(7, 1, now_ns), span(6, 1, now_ns - 40 * NS_PER_HOUR)]));
    case.append(batch("web", vec![span(9, 2, now_ns - 47 * NS_PER_HOUR), span(6, 2, now_ns - 2 * NS_PER_HOUR)]));
    case.subject.settle();
    let hits = case.find(&any());
    assert_eq!(ids(&hits), [7, 9, 6, 4, 5]);
    assert_eq!(hits[1].1, now_ns - NS_PER_HOUR);
    for limit in 1..6 {
        assert_eq!(case.find(&TraceQuery { limit, ..any() }), hits[..limit]);
    }
    let old = TraceQuery { start: TimeRangeNs { start_ns: 0, end_ns: now_ns - 35 * NS_PER_HOUR }, ..any() };
    assert_eq!(ids(&case.find(&old)), [6, 9]);
    let spans: usize = case.traces(&[trace_id(9)])[0].groups.iter().map(|group| group.spans.len()).sum();
    assert_eq!(spans, 2, "a trace that spans days is whole");
}

fn services_and_operations_are_listed(case: &mut Case) {
    let named = |id, name: &str, kind| Span { name: name.into(), kind, ..span(1, id, case.now_ns) };
    let spans =
        vec![named(1, "b", SpanKind::Server), named(2, "a", SpanKind::Client), named(3, "a", SpanKind::Unspecified)];
    case.append(batch("web", spans.clone()));
    case.append(batch("web", spans));
    case.append(batch("db", vec![named(9, "q", SpanKind::Internal)]));
    case.subject.settle();
    let store = case.subject.store();
    assert_eq!(store.services(&TenantId::default()).expect("services"), ["db", "web"]);
    let operations = |service: &str, kind| {
        let query = OperationQuery { service: service.into(), kind };
        store.operations(&TenantId::default(), &query).expect("operations")
    };
    let operation = |name: &str, kind| Operation { name: name.into(), kind };
    assert_eq!(operations("web", None), [operation("a", ""), operation("a", "client"), operation("b", "server")]);
    assert_eq!(operations("web", Some(SpanKind::Client)), [operation("a", "client")]);
    assert_eq!(operations("absent", None), []);
}

fn calls_are_counted_once_in_any_order(case: &mut Case) {
    let now_ns = case.now_ns;
    let child_of = |parent: u8, span: Span| Span { parent_span_id: SpanId([parent; 8]), ..span };
    let call = batch("shop", vec![child_of(1, span(1, 2, now_ns))]);
    let query = batch("db", vec![child_of(2, span(1, 3, now_ns - NS_PER_HOUR))]);
    // Grandchild first, root last, everything twice.
    for _ in 0..2 {
        case.append(query.clone());
        case.append(call.clone());
        case.append(batch("web", vec![span(1, 1, now_ns - 30 * NS_PER_HOUR), child_of(1, span(1, 7, now_ns))]));
    }
    case.append(batch("web", vec![span(2, 1, now_ns)]));
    case.append(batch("shop", vec![child_of(1, span(2, 2, now_ns)), child_of(77, span(2, 5, now_ns))]));
    case.subject.settle();
    let dependencies = |start_ns, end_ns| {
        let range = TimeRangeNs { start_ns, end_ns };
        let context = ReadContext::unlimited();
        case.subject.store().dependencies(&TenantId::default(), range, &context).expect("dependencies")
    };
    let link = |parent: &str, child: &str, call_count| DependencyLink {
        parent: parent.into(),
        child: child.into(),
        call_count,
    };
    assert_eq!(dependencies(0, u64::MAX), [link("shop", "db", 1), link("web", "shop", 2)]);
    assert_eq!(dependencies(now_ns - NS_PER_MINUTE, now_ns + 1), [link("web", "shop", 2)]);
    assert_eq!(dependencies(now_ns - 2 * NS_PER_HOUR, now_ns - NS_PER_HOUR + 1), [link("shop", "db", 1)]);
    assert_eq!(dependencies(now_ns, now_ns), []);
    let cancelled = ReadContext::unlimited();
    cancelled.cancel.cancel();
    let refused = case.subject.store().dependencies(&TenantId::default(), TimeRangeNs::ALL, &cancelled);
    assert!(matches!(refused, Err(StorageError::Interrupted(_))), "{refused:?}");
}

fn calls_of_spans_that_are_not_stored_are_counted(case: &mut Case) {
    let (now_ns, tenant) = (case.now_ns, TenantId::default());
    let child_of = |parent: u8, span: Span| Span { parent_span_id: SpanId([parent; 8]), ..span };
    let count = |case: &Case, batch: &SpanBatch| {
        let counted = case.subject.store().count_calls(&tenant, batch).wait();
        counted.expect("it is answered").expect("calls are counted");
    };
    // A trace that is not stored, on a day without spans; one of which a part is.
    let yesterday = now_ns - 30 * NS_PER_HOUR;
    let dropped = SpanBatch {
        groups: vec![
            group("shop", vec![child_of(1, span(1, 2, yesterday + 1)), child_of(1, span(2, 2, now_ns))]),
            group("web", vec![span(1, 1, yesterday)]),
        ],
    };
    count(case, &dropped);
    count(case, &dropped);
    case.append(batch("web", vec![span(2, 1, now_ns - 5)]));
    case.append(batch("db", vec![child_of(2, span(2, 3, now_ns))]));
    // A late span. Later than the store remembers the others, it would pair with stored ones only.
    count(case, &batch("mail", vec![child_of(2, span(1, 9, now_ns))]));
    case.subject.settle();
    let store = case.subject.store();
    let link = |parent: &str, child: &str, call_count| DependencyLink {
        parent: parent.into(),
        child: child.into(),
        call_count,
    };
    let range = TimeRangeNs { start_ns: 0, end_ns: u64::MAX };
    let context = ReadContext::unlimited();
    let found = store.dependencies(&tenant, range, &context).expect("dependencies");
    assert_eq!(found, [link("shop", "db", 1), link("shop", "mail", 1), link("web", "shop", 2)]);
    assert_eq!(ids(&case.find(&any())), [2], "what is not stored is not found");
    assert_eq!(store.services(&tenant).expect("services"), ["db", "web"]);
    let others = store.dependencies(&"other".parse().expect("a tenant"), range, &context);
    assert!(others.expect("dependencies").is_empty());
}

fn summaries_tell_root_errors_and_orphans(case: &mut Case) {
    let now_ns = case.now_ns;
    let mut failed = Span { parent_span_id: SpanId([1; 8]), ..span(1, 2, now_ns + 10) };
    failed.status.code = StatusCode::Error;
    let orphan = Span { parent_span_id: SpanId([99; 8]), end_ns: now_ns + 9_000_000, ..span(1, 3, now_ns - 3) };
    case.append(batch("shop", vec![failed, orphan]));
    case.append(batch("web", vec![Span { name: "root".into(), ..span(1, 1, now_ns) }]));
    case.subject.settle();
    let lookups = [2, 1].map(|number| TraceLookup { trace_id: trace_id(number), range: None });
    let summaries = case.subject.store().summaries(&TenantId::default(), &lookups, &ReadContext::unlimited());
    let count = |service: &str, spans, errors| ServiceSpanCount { service: service.into(), spans, errors };
    let expected = crate::TraceSummary {
        trace_id: trace_id(1),
        root_service: "web".into(),
        root_operation: "root".into(),
        start_ns: now_ns - 3,
        end_ns: now_ns + 9_000_000,
        span_count: 3,
        error_count: 1,
        orphan_count: 1,
        services: vec![count("shop", 2, 1), count("web", 1, 0)],
        warnings: Vec::new(),
    };
    assert_eq!(summaries.expect("summaries"), [expected]);
}

fn lookups_keep_their_order_and_skip_the_absent(case: &mut Case) {
    for number in 1..5 {
        case.append(batch("web", vec![span(number, 1, case.now_ns)]));
    }
    case.subject.settle();
    let order: Vec<_> = case.traces(&[4, 9, 2, 3].map(trace_id)).iter().map(|trace| trace.trace_id.0[0]).collect();
    assert_eq!(order, [4, 2, 3]);
    let range = Some(TimeRangeNs { start_ns: case.now_ns - 5, end_ns: case.now_ns + 5 });
    let lookup = TraceLookup { trace_id: trace_id(1), range };
    let found = case.subject.store().traces(&TenantId::default(), &[lookup], &ReadContext::unlimited());
    assert_eq!(found.expect("traces").count(), 1);
}

fn traces_come_in_parts(case: &mut Case) {
    let spans = |trace: u8, first: u8, count: u8| {
        let spans = (first..first + count).map(|id| span(trace, id, case.now_ns - u64::from(id) * NS_PER_HOUR));
        spans.collect::<Vec<_>>()
    };
    case.append(SpanBatch { groups: vec![group("web", spans(1, 1, 11)), group("shop", spans(1, 20, 6))] });
    case.append(batch("web", vec![span(2, 1, case.now_ns)]));
    // Again, and cut differently: equal spans are one in parts, too.
    case.append(SpanBatch { groups: vec![group("shop", spans(1, 22, 4)), group("web", spans(1, 5, 9))] });
    case.subject.settle();
    let order = [2, 9, 1].map(trace_id);
    let whole = case.traces(&order);
    assert_eq!(whole[1].groups.iter().map(|group| group.spans.len()).sum::<usize>(), 19);
    let lookups = order.map(|trace_id| TraceLookup { trace_id, range: None });
    for spans_max in [1, 2, 5, 7, 18, 19, 1000] {
        let spans_max = NonZeroUsize::new(spans_max).expect("not zero");
        let store = case.subject.store();
        let parts = store.trace_parts(&TenantId::default(), &lookups, spans_max, &ReadContext::unlimited());
        let parts: Vec<_> = parts.expect("parts").collect::<Result<_, _>>().expect("parts can be read");
        let mut joined: Vec<crate::Trace> = Vec::new();
        let mut is_new = true;
        for part in parts {
            assert!((1..=spans_max.get()).contains(&part.span_count()), "{} of {spans_max}", part.span_count());
            if is_new {
                let (groups, warnings) = (Vec::new(), Vec::new());
                joined.push(crate::Trace { trace_id: part.trace_id, groups, warnings });
            }
            let trace = joined.last_mut().expect("one was pushed");
            assert_eq!(trace.trace_id, part.trace_id, "parts of one trace follow each other");
            trace.groups.extend(part.groups);
            is_new = part.is_last;
        }
        assert!(is_new, "the last part says so");
        assert_eq!(joined.iter().map(comparable).collect::<Vec<_>>(), whole.iter().map(comparable).collect::<Vec<_>>());
    }
}

fn deleted_traces_are_gone_and_later_spans_stay(case: &mut Case) {
    let tenant = TenantId::default();
    let other: TenantId = "other".parse().expect("a tenant");
    let now_ns = case.now_ns;
    let old = || batch("web", vec![span(1, 1, now_ns - 30 * NS_PER_HOUR), span(1, 2, now_ns), span(2, 1, now_ns - 1)]);
    case.append(old());
    case.append_to(&other, old());
    let delete = |case: &Case, number| {
        case.subject.store().delete_trace(&tenant, trace_id(number)).expect("deletion works");
    };
    let check = |case: &Case, expected: &[(u8, &[u8])]| {
        let all: Vec<_> = (1..5).map(trace_id).collect();
        let traces = case.traces(&all);
        let found = traces.iter().map(|trace| {
            let spans = trace.groups.iter().flat_map(|group| &group.spans);
            let mut spans: Vec<_> = spans.map(|span| span.span_id.0[0]).collect();
            spans.sort_unstable();
            (trace.trace_id.0[0], spans)
        });
        let expected: Vec<_> = expected.iter().map(|(id, spans)| (*id, spans.to_vec())).collect();
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let lookups: Vec<_> = all.iter().map(|id| TraceLookup { trace_id: *id, range: None }).collect();
        let summaries = case.subject.store().summaries(&tenant, &lookups, &ReadContext::unlimited());
        let counts = summaries.expect("summaries").into_iter().map(|summary| summary.span_count as usize);
        assert_eq!(counts.collect::<Vec<_>>(), expected.iter().map(|(_, spans)| spans.len()).collect::<Vec<_>>());
        let mut hits = ids(&case.find(&any()));
        hits.sort_unstable();
        assert_eq!(hits, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    };
    // Before and after settling, what is in memory and what is not.
    delete(case, 1);
    delete(case, 9);
    check(case, &[(2, &[1])]);
    case.append(batch("web", vec![span(3, 1, now_ns), span(3, 2, now_ns)]));
    case.subject.settle();
    check(case, &[(2, &[1]), (3, &[1, 2])]);
    delete(case, 3);
    case.append(batch("web", vec![span(3, 3, now_ns - 7), span(1, 4, now_ns - 40 * NS_PER_HOUR)]));
    check(case, &[(1, &[4]), (2, &[1]), (3, &[3])]);
    assert_eq!(
        case.find(&TraceQuery { limit: 2, ..any() }).iter().map(|hit| hit.1).collect::<Vec<_>>(),
        [now_ns - 1, now_ns - 7]
    );
    case.subject.settle();
    check(case, &[(1, &[4]), (2, &[1]), (3, &[3])]);
    // What was deleted may come again.
    case.append(old());
    delete(case, 2);
    case.subject.settle();
    check(case, &[(1, &[1, 2, 4]), (3, &[3])]);
    let kept = read_traces(case.subject.store(), &other, &[1, 2, 3].map(trace_id));
    assert_eq!(kept.iter().map(|trace| trace.trace_id.0[0]).collect::<Vec<_>>(), [1, 2]);
}

fn many_resources_share_an_attribute(case: &mut Case) {
    for number in 0..180 {
        let zone = if number % 3 == 0 { "b" } else { "a" };
        let attributes = vec![attribute("pod", text(&number.to_string())), attribute("zone", text(zone))];
        let resource = Arc::new(Resource { attributes, ..Resource::default() });
        let spans = vec![span(number, 1, case.now_ns - u64::from(number))];
        case.append(SpanBatch { groups: vec![SpanGroup { resource, scope: Arc::default(), spans }] });
    }
    case.subject.settle();
    let zone = |value: &str| SpanFilter::Attribute { key: "zone".into(), value: value.into() };
    let found = ids(&case.find(&TraceQuery { filters: vec![zone("a")], limit: 5, ..any() }));
    assert_eq!(found, [1, 2, 4, 5, 7]);
    assert_eq!(case.find(&TraceQuery { filters: vec![zone("b")], ..any() }).len(), 60);
    assert_eq!(case.find(&TraceQuery { filters: vec![zone("a"), zone("b")], ..any() }), []);
}

fn a_trace_of_ten_thousand_spans_is_whole(case: &mut Case) {
    const SPANS: u64 = 10_008;
    for first in (0..SPANS).step_by(1001) {
        let numbers = first..SPANS.min(first + 1001);
        let spans = numbers.map(|number| Span {
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: SpanId(number.to_be_bytes()),
            ..span(1, 0, case.now_ns - number * 1_000_000_000)
        });
        case.append(batch("web", spans.collect()));
    }
    case.subject.settle();
    let trace = case.traces(&[trace_id(1)]).remove(0);
    assert_eq!(trace.groups.iter().map(|group| group.spans.len() as u64).sum::<u64>(), SPANS);
    let lookup = TraceLookup { trace_id: trace_id(1), range: None };
    let summaries = case.subject.store().summaries(&TenantId::default(), &[lookup], &ReadContext::unlimited());
    let summary = summaries.expect("summaries").remove(0);
    assert_eq!((summary.span_count, summary.orphan_count), (SPANS, 0));
    assert_eq!(summary.start_ns, case.now_ns - (SPANS - 1) * 1_000_000_000);
    assert_eq!(case.find(&any()), [(trace_id(1), case.now_ns)]);
}

fn random_spans_are_answered_as_by_the_reference(case: &mut Case) {
    let mut generator = SpanGenerator::new(7, case.now_ns, 40);
    let oracle = MemoryTraceStore::new();
    for _ in 0..60 {
        let batch = generator.batch();
        let _ = oracle.append(&TenantId::default(), batch.clone(), BatchId::random()).wait();
        case.append(batch);
    }
    case.subject.settle();
    let queries: Vec<_> = (0..60).map(|_| random_query(&mut generator)).collect();
    check_equal(case.subject.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &queries);
}
