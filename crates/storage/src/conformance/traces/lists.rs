//! Lists for completion: rules L1 to L4, each with its own data, then random data against the reference.

use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, TenantId, TimeRangeNs,
    TraceId,
};

use super::{Case, SpanGenerator, random_predicate};
use crate::memory::MemoryTraceStore;
use crate::{
    AttributeKey, AttributeKeyQuery, AttributeLevel, BatchId, Comparison, LISTED_KEY_BYTES_MAX, LISTED_VALUE_BYTES_MAX,
    Listed, ListedType, ListedValue, ReadContext, SpanConstant, SpanField, SpanOperand, SpanPredicate, SpanReference,
    StorageError, TraceStore, ValueQuery, whole_days,
};

const NS_PER_HOUR: u64 = 3_600_000_000_000;
const LEVELS: [Option<AttributeLevel>; 6] = [
    None,
    Some(AttributeLevel::Span),
    Some(AttributeLevel::Resource),
    Some(AttributeLevel::Scope),
    Some(AttributeLevel::Event),
    Some(AttributeLevel::Link),
];
const FIELDS: [SpanField; 6] = [
    SpanField::Service,
    SpanField::Name,
    SpanField::EventName,
    SpanField::ScopeName,
    SpanField::ScopeVersion,
    SpanField::StatusMessage,
];

fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

fn text(key: &str, value: &str) -> Attribute {
    attribute(key, AttributeValue::String(value.to_owned()))
}

fn all_keys() -> AttributeKeyQuery {
    AttributeKeyQuery { level: None, range: TimeRangeNs::ALL, predicate: None, limit: 100 }
}

fn all_values(level: Option<AttributeLevel>, key: &str) -> ValueQuery {
    let of = SpanReference::Attribute { level, key: key.to_owned() };
    ValueQuery { of, range: TimeRangeNs::ALL, predicate: None, limit: 100 }
}

fn keys(store: &dyn TraceStore, tenant: &TenantId, query: &AttributeKeyQuery) -> Listed<AttributeKey> {
    store.attribute_keys(tenant, query, &ReadContext::unlimited()).expect("keys can be listed")
}

fn values(store: &dyn TraceStore, tenant: &TenantId, query: &ValueQuery) -> Listed<ListedValue> {
    store.listed_values(tenant, query, &ReadContext::unlimited()).expect("values can be listed")
}

fn texts(listed: &Listed<ListedValue>) -> Vec<(&str, ListedType)> {
    assert!(listed.is_complete);
    listed.entries.iter().map(|value| (value.text.as_str(), value.value_type)).collect()
}

fn is_service(service: &str) -> SpanPredicate {
    SpanPredicate::Compare {
        left: SpanOperand::Reference(SpanReference::Field(SpanField::Service)),
        comparison: Comparison::Eq,
        right: SpanOperand::Constant(SpanConstant::Text(service.to_owned())),
    }
}

/// A request to `service` that started `hours` ago.
fn request(now_ns: u64, service: &str, hours: u64, trace: u8, attributes: Vec<Attribute>) -> SpanBatch {
    let start_ns = now_ns - hours * NS_PER_HOUR;
    let event = SpanEvent {
        time_ns: start_ns,
        name: format!("{service} failed"),
        attributes: vec![text("why", service)],
        ..SpanEvent::default()
    };
    let span = Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([1; 8]),
        name: format!("GET {service}"),
        start_ns,
        end_ns: start_ns + 1,
        attributes,
        events: vec![event],
        ..Span::default()
    };
    let resource = Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    let scope = Scope { name: "lib".to_owned(), attributes: vec![text("scoped", "yes")], ..Scope::default() };
    SpanBatch { groups: vec![SpanGroup { resource: Arc::new(resource), scope: Arc::new(scope), spans: vec![span] }] }
}

pub(super) fn keys_and_values_are_listed(case: &mut Case) {
    let now_ns = case.now_ns;
    let tenant = TenantId::default();
    let shop = |code, trace| {
        request(now_ns, "shop", 0, trace, vec![attribute("code", AttributeValue::Int(code)), text("why", "span")])
    };
    let long = text("long", &"x".repeat(LISTED_VALUE_BYTES_MAX + 1));
    let long_key = text(&"k".repeat(LISTED_KEY_BYTES_MAX + 1), "y");
    let db = request(
        now_ns,
        "db",
        30,
        9,
        vec![text("code", "200"), attribute("cold", AttributeValue::Bool(true)), long, long_key],
    );
    let batches = [shop(200, 1), shop(500, 2), db];
    let other: TenantId = "other".parse().expect("a tenant");
    let _ = case.append_to(&other, request(now_ns, "foreign", 0, 1, vec![text("foreign", "")]));
    for batch in batches {
        case.append(batch);
    }
    for _ in 0..2 {
        let store = case.subject.store();
        let listed = |query: &AttributeKeyQuery| {
            let listed = keys(store, &tenant, query);
            assert!(listed.is_complete, "{query:?}");
            listed.entries.into_iter().map(|entry| (entry.level, entry.key)).collect::<Vec<_>>()
        };
        let key = |level, key: &str| (level, key.to_owned());
        let (of_span, of_event) = (AttributeLevel::Span, AttributeLevel::Event);
        let (of_resource, of_scope) =
            (key(AttributeLevel::Resource, "service.name"), key(AttributeLevel::Scope, "scoped"));
        let of_spans = ["code", "cold", "long", "why"].map(|name| key(of_span, name)).to_vec();
        let others = [of_resource.clone(), of_scope.clone(), key(of_event, "why")];
        assert_eq!(listed(&all_keys()), [&of_spans[..], &others].concat());
        assert_eq!(listed(&AttributeKeyQuery { level: Some(of_span), ..all_keys() }), of_spans);
        assert_eq!(listed(&AttributeKeyQuery { level: Some(AttributeLevel::Link), ..all_keys() }), []);
        let today = whole_days(TimeRangeNs { start_ns: now_ns, end_ns: now_ns + 1 });
        let of_today = vec![key(of_span, "code"), key(of_span, "why")];
        assert_eq!(listed(&AttributeKeyQuery { range: today, level: Some(of_span), ..all_keys() }), of_today);
        let of_db = AttributeKeyQuery { predicate: Some(is_service("db")), level: Some(of_span), ..all_keys() };
        assert_eq!(listed(&of_db), ["code", "cold", "long"].map(|name| key(of_span, name)));
        let none = AttributeKeyQuery { range: today, ..of_db };
        assert_eq!(listed(&none), []);

        let list = |query: &ValueQuery| values(store, &tenant, query);
        let typed = [("200", ListedType::Text), ("200", ListedType::Int), ("500", ListedType::Int)];
        assert_eq!(texts(&list(&all_values(None, "code"))), typed);
        assert_eq!(texts(&list(&all_values(Some(AttributeLevel::Resource), "code"))), []);
        let why = |level| {
            texts(&list(&all_values(level, "why"))).iter().map(|(text, _)| (*text).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (why(None), why(Some(of_event))),
            (vec!["span".to_owned()], vec!["db".to_owned(), "shop".to_owned()])
        );
        assert_eq!(texts(&list(&all_values(None, "cold"))), [("true", ListedType::Bool)]);
        assert_eq!(texts(&list(&all_values(None, "long"))), []);
        let code_of_db = ValueQuery { predicate: Some(is_service("db")), ..all_values(None, "code") };
        assert_eq!(texts(&list(&code_of_db)), [("200", ListedType::Text)]);
        assert_eq!(texts(&list(&ValueQuery { range: today, ..code_of_db })), []);
        assert_eq!(texts(&list(&ValueQuery { range: today, ..all_values(None, "code") })), &typed[1..]);
        let of_field = |field| ValueQuery { of: SpanReference::Field(field), ..all_values(None, "") };
        let names = [("GET db", ListedType::Text), ("GET shop", ListedType::Text)];
        assert_eq!(texts(&list(&of_field(SpanField::Name))), names);
        let shop_alone = ValueQuery { predicate: Some(is_service("shop")), ..of_field(SpanField::EventName) };
        assert_eq!(texts(&list(&shop_alone)), [("shop failed", ListedType::Text)]);
        assert_eq!(texts(&list(&of_field(SpanField::ScopeName))), [("lib", ListedType::Text)]);
        assert_eq!(texts(&list(&of_field(SpanField::ScopeVersion))), []);
        for refused in [SpanField::TraceId, SpanField::Duration] {
            let answer = store.listed_values(&tenant, &of_field(refused), &ReadContext::unlimited());
            assert!(matches!(answer, Err(StorageError::Unsupported { .. })), "{refused:?}");
        }
        case.subject.settle();
    }
}

pub(super) fn many_values_are_cut_at_the_limit(case: &mut Case) {
    let now_ns = case.now_ns;
    for number in 0..300_u64 {
        let attributes = vec![text("user", &format!("user {number:03}"))];
        case.append(request(now_ns - number, "shop", 0, (number % 250) as u8, attributes));
    }
    case.subject.settle();
    let store = case.subject.store();
    for predicate in [None, Some(is_service("shop"))] {
        for limit in [1, 20, 299, 300, 1000] {
            let query = ValueQuery { predicate: predicate.clone(), limit, ..all_values(None, "user") };
            let listed = values(store, &TenantId::default(), &query);
            assert_eq!((listed.entries.len(), listed.is_complete), (limit.min(300), limit >= 300), "{query:?}");
            assert!(listed.entries.is_sorted_by(|one, other| one < other));
            assert!(listed.entries.iter().all(|value| value.text.starts_with("user ")));
        }
        let query = AttributeKeyQuery { predicate, limit: 1, ..all_keys() };
        let listed = keys(store, &TenantId::default(), &query);
        assert_eq!((listed.entries.len(), listed.is_complete), (1, false));
    }
}

pub(super) fn random_lists_are_those_of_the_reference(case: &mut Case) {
    let mut generator = SpanGenerator::new(13, case.now_ns, 40);
    let tenant = TenantId::default();
    let oracle = MemoryTraceStore::new();
    for _ in 0..60 {
        let batch = generator.batch();
        let _ = oracle.append(&tenant, batch.clone(), BatchId::random()).wait();
        case.append(batch);
    }
    case.subject.settle();
    let store = case.subject.store();
    for number in 0..120 {
        let start_ns = generator.recent_ns();
        let range = match number % 3 {
            0 => TimeRangeNs::ALL,
            _ => TimeRangeNs { start_ns, end_ns: start_ns + generator.below(30) * NS_PER_HOUR },
        };
        let predicate = (number % 2 == 0).then(|| random_predicate(&mut generator, 0));
        let level = generator.pick(&LEVELS);
        let key = generator.pick(&["http.status", "user", "region", "service.name", "absent"]).to_owned();
        let of = match number % 4 {
            0 => SpanReference::Field(generator.pick(&FIELDS)),
            _ => SpanReference::Attribute { level, key },
        };
        let of_keys = AttributeKeyQuery { level, range, predicate: predicate.clone(), limit: 1000 };
        let of_values = ValueQuery { of, range, predicate, limit: 1000 };
        let wide = whole_days(range);
        check_list(
            of_keys.predicate.is_some(),
            &keys(store, &tenant, &of_keys),
            &keys(&oracle, &tenant, &of_keys),
            &keys(&oracle, &tenant, &AttributeKeyQuery { range: wide, ..of_keys.clone() }),
        );
        check_list(
            of_values.predicate.is_some(),
            &values(store, &tenant, &of_values),
            &values(&oracle, &tenant, &of_values),
            &values(&oracle, &tenant, &ValueQuery { range: wide, ..of_values.clone() }),
        );
    }
}

/// L1 and L2: exactly `least`, or between `least` and `most`.
fn check_list<T: std::fmt::Debug + PartialEq + Ord>(
    is_exact: bool,
    listed: &Listed<T>,
    least: &Listed<T>,
    most: &Listed<T>,
) {
    assert!(listed.is_complete);
    assert!(listed.entries.is_sorted_by(|one, other| one < other), "{listed:?}");
    if is_exact {
        assert_eq!(listed.entries, least.entries);
        return;
    }
    let missing: Vec<_> = least.entries.iter().filter(|entry| !listed.entries.contains(entry)).collect();
    assert!(missing.is_empty(), "{missing:?} of {:?}", listed.entries);
    let foreign: Vec<_> = listed.entries.iter().filter(|entry| !most.entries.contains(entry)).collect();
    assert!(foreign.is_empty(), "{foreign:?} beside {:?}", most.entries);
}
