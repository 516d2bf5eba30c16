//! Searches by predicate: each rule of the contract with its own data, then random trees against the reference.

use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Link, Resource, Scope, SearchPattern, Span, SpanBatch, SpanEvent, SpanGroup, SpanId,
    SpanKind, SpanStatus, StatusCode, TenantId, TimeRangeNs, TraceId,
};

use super::{Case, SpanGenerator, check_equal, random_query};
use crate::memory::MemoryTraceStore;
use crate::{
    AttributeLevel, BatchId, Comparison, SpanCollection, SpanConstant, SpanField, SpanOperand, SpanPredicate,
    SpanReference, TraceQuery, TraceStore,
};

use AttributeLevel::{Event, Link as LinkLevel, Resource as ResourceLevel, Scope as ScopeLevel, Span as SpanLevel};
use Comparison::{Eq, Gt, Gte, Lt, Lte, Ne};
use SpanPredicate::{And, Not, Or};

const LEVELS: [Option<AttributeLevel>; 6] =
    [None, Some(SpanLevel), Some(ResourceLevel), Some(ScopeLevel), Some(Event), Some(LinkLevel)];
const COMPARISONS: [Comparison; 6] = [Eq, Ne, Gt, Lt, Gte, Lte];
const FIELDS: [SpanField; 22] = [
    SpanField::TraceId,
    SpanField::SpanId,
    SpanField::ParentSpanId,
    SpanField::TraceState,
    SpanField::Name,
    SpanField::Kind,
    SpanField::Start,
    SpanField::End,
    SpanField::Duration,
    SpanField::Status,
    SpanField::StatusMessage,
    SpanField::Service,
    SpanField::ResourceSchemaUrl,
    SpanField::ScopeName,
    SpanField::ScopeVersion,
    SpanField::ScopeSchemaUrl,
    SpanField::EventName,
    SpanField::EventTime,
    SpanField::EventTimeSinceStart,
    SpanField::LinkTraceId,
    SpanField::LinkSpanId,
    SpanField::LinkTraceState,
];

fn attribute_of(level: Option<AttributeLevel>, key: &str) -> SpanReference {
    SpanReference::Attribute { level, key: key.to_owned() }
}

fn compare(reference: SpanReference, comparison: Comparison, constant: SpanConstant) -> SpanPredicate {
    let (left, right) = (SpanOperand::Reference(reference), SpanOperand::Constant(constant));
    SpanPredicate::Compare { left, comparison, right }
}

fn field(field: SpanField, comparison: Comparison, constant: SpanConstant) -> SpanPredicate {
    compare(SpanReference::Field(field), comparison, constant)
}

fn any(text: &str) -> SpanConstant {
    SpanConstant::Any(text.to_owned())
}

fn text(text: &str) -> SpanConstant {
    SpanConstant::Text(text.to_owned())
}

fn pattern(text: &str) -> SearchPattern {
    SearchPattern::new(text).expect("a pattern")
}

fn attribute(key: &str, value: impl Into<Option<&'static str>>) -> Attribute {
    let value = value.into().map_or(AttributeValue::Empty, |text| AttributeValue::String(text.to_owned()));
    Attribute { key: key.to_owned(), value }
}

fn query(predicate: SpanPredicate) -> TraceQuery {
    TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: Some(predicate),
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 100,
    }
}

/// Three traces of one span each: trace 1 has everything, trace 2 other values of other types, trace 3 next to nothing.
fn three_traces(now_ns: u64) -> SpanBatch {
    let key = |key: &str, value| Attribute { key: key.to_owned(), value };
    let event = |name: &str, time_ns, code: &'static str| SpanEvent {
        time_ns,
        name: name.to_owned(),
        attributes: vec![attribute("code", code)],
        dropped_attributes_count: 0,
    };
    let link = |state: &str, code: &'static str| Link {
        trace_id: TraceId([9; 16]),
        trace_state: state.to_owned(),
        attributes: vec![attribute("code", code)],
        ..Link::default()
    };
    let span = |trace: u8| Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([trace; 8]),
        start_ns: now_ns - u64::from(trace),
        end_ns: now_ns - u64::from(trace),
        ..Span::default()
    };
    let full = Span {
        name: "GET /".to_owned(),
        kind: SpanKind::Server,
        parent_span_id: SpanId([0xab; 8]),
        end_ns: now_ns + 1_999_999,
        trace_state: "a=b".to_owned(),
        status: SpanStatus { code: StatusCode::Error, message: "broken".to_owned() },
        attributes: vec![
            key("status", AttributeValue::Int(500)),
            key("size", AttributeValue::Double(72.5)),
            key("ok", AttributeValue::Bool(true)),
            attribute("zone", "eu"),
            attribute("word", "9"),
        ],
        events: vec![event("exception", now_ns + 99, "1"), event("retry", now_ns - 51, "2")],
        links: vec![link("", "1"), link("x=y", "3")],
        ..span(1)
    };
    let other = Span {
        name: "query".to_owned(),
        kind: SpanKind::Client,
        end_ns: now_ns + 998,
        attributes: vec![attribute("status", "500"), attribute("zone", None), attribute("word", "10")],
        ..span(2)
    };
    let resource = |service: &'static str, zone: &'static str| Resource {
        attributes: vec![attribute("service.name", service), attribute("zone", zone)],
        schema_url: "https://example.org/r".to_owned(),
        ..Resource::default()
    };
    let scope = Scope {
        name: "lib".to_owned(),
        version: "1".to_owned(),
        attributes: vec![attribute("zone", "scope")],
        ..Scope::default()
    };
    let group =
        |resource, scope, span| SpanGroup { resource: Arc::new(resource), scope: Arc::new(scope), spans: vec![span] };
    let groups = vec![
        group(resource("web", "us"), scope, full),
        group(resource("db", "eu"), Scope::default(), other),
        group(Resource::default(), Scope::default(), span(3)),
    ];
    SpanBatch { groups }
}

pub(super) fn predicates_mean_one_thing(case: &mut Case) {
    case.append(three_traces(case.now_ns));
    case.subject.settle();
    let code_and_name = || {
        vec![
            compare(attribute_of(Some(Event), "code"), Eq, any("2")),
            field(SpanField::EventName, Eq, text("exception")),
        ]
    };
    let some = |of, predicate| SpanPredicate::Some { of, predicate: Box::new(predicate) };
    let matches = |subject, text| SpanPredicate::Matches { subject, pattern: pattern(text) };
    let between = |left, comparison, right| SpanPredicate::Compare {
        left: SpanOperand::Reference(left),
        comparison,
        right: SpanOperand::Reference(right),
    };
    let zone = |level| attribute_of(level, "zone");
    let status = || attribute_of(None, "status");
    let start = i64::try_from(case.now_ns).expect("a time of today");
    let checks: Vec<(SpanPredicate, &[u8])> = vec![
        // An untyped constant takes the type of what it meets; a typed one meets only its own.
        (compare(status(), Eq, any("500")), &[1, 2]),
        (compare(status(), Eq, any("500.0")), &[1]),
        (compare(status(), Eq, SpanConstant::Int(500)), &[1]),
        (compare(status(), Eq, SpanConstant::Double(500.0)), &[1]),
        (compare(status(), Eq, text("500")), &[2]),
        (compare(attribute_of(None, "ok"), Eq, any("true")), &[1]),
        (compare(attribute_of(None, "ok"), Eq, text("true")), &[]),
        (compare(attribute_of(None, "ok"), Eq, SpanConstant::Bool(true)), &[1]),
        (compare(attribute_of(None, "ok"), Gt, any("false")), &[]),
        (compare(attribute_of(None, "size"), Gt, any("72")), &[1]),
        (compare(attribute_of(None, "size"), Gt, SpanConstant::Int(72)), &[1]),
        (compare(attribute_of(None, "size"), Gte, any("72.5")), &[1]),
        (compare(attribute_of(None, "size"), Lt, any("72.5")), &[]),
        // Numbers in order as numbers, text as text.
        (compare(status(), Lt, any("1000")), &[1]),
        (compare(attribute_of(None, "word"), Gt, any("10")), &[1]),
        (compare(attribute_of(None, "word"), Lte, any("10")), &[2]),
        // Levels, and several values of one key.
        (compare(zone(None), Eq, any("eu")), &[1, 2]),
        (compare(zone(Some(SpanLevel)), Eq, any("eu")), &[1]),
        (compare(zone(Some(ResourceLevel)), Eq, any("eu")), &[2]),
        (compare(zone(Some(ScopeLevel)), Eq, any("scope")), &[1]),
        (compare(zone(None), Eq, any("scope")), &[]),
        (compare(zone(None), Ne, any("us")), &[2]),
        (compare(zone(None), Ne, any("nowhere")), &[1, 2]),
        (Not(Box::new(compare(zone(None), Eq, any("us")))), &[2, 3]),
        (SpanPredicate::In { subject: zone(None), values: vec![any("us"), any("asia")] }, &[1]),
        (SpanPredicate::NotIn { subject: zone(None), values: vec![any("us"), any("asia")] }, &[2]),
        (SpanPredicate::In { subject: status(), values: vec![SpanConstant::Int(500)] }, &[1]),
        (SpanPredicate::Exists(zone(Some(SpanLevel))), &[1, 2]),
        (Not(Box::new(SpanPredicate::Exists(zone(None)))), &[3]),
        (between(zone(Some(SpanLevel)), Ne, zone(Some(ResourceLevel))), &[1, 2]),
        (between(zone(Some(SpanLevel)), Eq, zone(Some(SpanLevel))), &[1, 2]),
        // Patterns.
        (matches(status(), "^5.0$"), &[1, 2]),
        (matches(SpanReference::Field(SpanField::Name), "E"), &[1]),
        (matches(SpanReference::Field(SpanField::Service), "^(web|db)$"), &[1, 2]),
        (matches(attribute_of(None, "absent"), ""), &[]),
        // Fields.
        (field(SpanField::Duration, Eq, SpanConstant::DurationNs(2_000_000)), &[1]),
        (field(SpanField::Duration, Gt, SpanConstant::DurationNs(999)), &[1, 2]),
        (field(SpanField::Duration, Lt, SpanConstant::DurationNs(1_000)), &[3]),
        (field(SpanField::Duration, Lt, SpanConstant::DurationNs(-1)), &[]),
        (field(SpanField::Start, Gte, SpanConstant::TimeNs(case.now_ns - 2)), &[1, 2]),
        (field(SpanField::Start, Eq, SpanConstant::Int(start - 3)), &[3]),
        (field(SpanField::Kind, Eq, text("server")), &[1]),
        (field(SpanField::Kind, Eq, any("unspecified")), &[3]),
        (field(SpanField::Status, Ne, any("error")), &[2, 3]),
        (field(SpanField::StatusMessage, Eq, any("broken")), &[1]),
        (Not(Box::new(SpanPredicate::Exists(SpanReference::Field(SpanField::StatusMessage)))), &[2, 3]),
        (SpanPredicate::Exists(SpanReference::Field(SpanField::ParentSpanId)), &[1]),
        (field(SpanField::ParentSpanId, Eq, any("abababababababab")), &[1]),
        (field(SpanField::TraceId, Eq, any("02020202020202020202020202020202")), &[2]),
        (field(SpanField::Name, Eq, any("")), &[3]),
        (field(SpanField::Service, Eq, any("unknown_service")), &[3]),
        (SpanPredicate::Exists(SpanReference::Field(SpanField::ScopeVersion)), &[1]),
        (SpanPredicate::Exists(SpanReference::Field(SpanField::ScopeSchemaUrl)), &[]),
        (field(SpanField::ResourceSchemaUrl, Eq, any("https://example.org/r")), &[1, 2]),
        (field(SpanField::EventTimeSinceStart, Lt, SpanConstant::DurationNs(0)), &[1]),
        (field(SpanField::EventTimeSinceStart, Eq, SpanConstant::DurationNs(100)), &[1]),
        (field(SpanField::LinkTraceId, Eq, any("09090909090909090909090909090909")), &[1]),
        (between(SpanReference::Field(SpanField::Start), Lt, SpanReference::Field(SpanField::End)), &[1, 2]),
        // Any event, and the same event.
        (And(code_and_name()), &[1]),
        (some(SpanCollection::Events, And(code_and_name())), &[]),
        (some(SpanCollection::Events, Or(code_and_name())), &[1]),
        (some(SpanCollection::Events, field(SpanField::LinkTraceState, Eq, any("x=y"))), &[1]),
        (
            some(
                SpanCollection::Links,
                And(vec![
                    compare(attribute_of(Some(LinkLevel), "code"), Eq, any("3")),
                    field(SpanField::LinkTraceState, Eq, any("x=y")),
                ]),
            ),
            &[1],
        ),
        (Not(Box::new(some(SpanCollection::Events, Not(Box::new(And(Vec::new())))))), &[1, 2, 3]),
        (Or(Vec::new()), &[]),
    ];
    for (predicate, expected) in checks {
        let found: Vec<_> = case.find(&query(predicate.clone())).iter().map(|(trace_id, _)| trace_id.0[0]).collect();
        assert_eq!(found, expected, "{predicate:?}");
    }
}

pub(super) fn random_predicates_are_answered_as_by_the_reference(case: &mut Case) {
    let mut generator = SpanGenerator::new(11, case.now_ns, 40);
    let oracle = MemoryTraceStore::new();
    for _ in 0..40 {
        let batch = generator.batch();
        let _ = oracle.append(&TenantId::default(), batch.clone(), BatchId::random()).wait();
        case.append(batch);
    }
    case.subject.settle();
    let queries: Vec<_> = (0..80)
        .map(|number| {
            let predicate = Some(random_predicate(&mut generator, 0));
            // Every other query has plain tests, too.
            let plain = if number % 2 == 0 { query(And(Vec::new())) } else { random_query(&mut generator) };
            TraceQuery { predicate, limit: 1 + generator.below(6) as usize, ..plain }
        })
        .collect();
    check_equal(case.subject.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &queries);
}

/// A predicate that has good chances to hold for some of the generator's spans, and not to for others.
pub fn random_predicate(generator: &mut SpanGenerator, depth: u8) -> SpanPredicate {
    let inner = |generator: &mut SpanGenerator| {
        let count = 1 + generator.below(3);
        (0..count).map(|_| random_predicate(generator, depth + 1)).collect::<Vec<_>>()
    };
    match generator.below(if depth < 3 { 13 } else { 9 }) {
        0 => SpanPredicate::Exists(random_reference(generator)),
        1 => {
            let text = generator.pick(&["5", "^e", "a$", "GET|que", "", "lib", "0{2}", "[ab]d", "^$", "rue"]);
            SpanPredicate::Matches { subject: random_reference(generator), pattern: pattern(text) }
        }
        2 => SpanPredicate::In { subject: random_reference(generator), values: random_constants(generator) },
        3 => SpanPredicate::NotIn { subject: random_reference(generator), values: random_constants(generator) },
        4 => SpanPredicate::Compare {
            left: SpanOperand::Reference(random_reference(generator)),
            comparison: generator.pick(&COMPARISONS),
            right: SpanOperand::Reference(random_reference(generator)),
        },
        5..=8 => {
            // Equality most of all: it is what an index answers.
            let comparison = if generator.below(2) == 0 { Eq } else { generator.pick(&COMPARISONS) };
            compare(random_reference(generator), comparison, random_constant(generator))
        }
        9 => Not(Box::new(random_predicate(generator, depth + 1))),
        10 => Or(inner(generator)),
        11 => SpanPredicate::Some {
            of: generator.pick(&[SpanCollection::Events, SpanCollection::Links]),
            predicate: Box::new(random_predicate(generator, depth + 1)),
        },
        _ => And(inner(generator)),
    }
}

fn random_reference(generator: &mut SpanGenerator) -> SpanReference {
    if generator.below(2) == 0 {
        let key = generator.pick(&["http.status", "user", "region", "service.name", "absent"]);
        return attribute_of(generator.pick(&LEVELS), key);
    }
    SpanReference::Field(generator.pick(&FIELDS))
}

fn random_constants(generator: &mut SpanGenerator) -> Vec<SpanConstant> {
    let count = 1 + generator.below(3);
    (0..count).map(|_| random_constant(generator)).collect()
}

fn random_constant(generator: &mut SpanGenerator) -> SpanConstant {
    const TEXTS: [&str; 16] = [
        "500", "200", "500.0", "-1", "0", "-0", "72.5", "true", "false", "eu", "ada", "", "web", "GET /", "server",
        "error",
    ];
    match generator.below(9) {
        0 => SpanConstant::Int(generator.pick(&[500, 200, -1, 0, i64::MAX, i64::MIN])),
        1 => SpanConstant::Double(generator.pick(&[72.5, 500.0, 0.0, -0.0, f64::INFINITY, f64::NAN, 1e300, 9.2e18])),
        2 => SpanConstant::Bool(generator.below(2) == 0),
        3 => SpanConstant::DurationNs(generator.pick(&[0, 2, 50, 1_000_001, 1 << 33, -5])),
        4 => SpanConstant::TimeNs(generator.recent_ns()),
        5 => SpanConstant::Text(generator.pick(&TEXTS).to_owned()),
        _ => SpanConstant::Any(generator.pick(&TEXTS).to_owned()),
    }
}
