//! What is too old, too new, or too much.

use std::sync::Arc;

use pharos_base::ByteSize;
use pharos_model::{Attribute, AttributeValue, Resource, Span, SpanBatch, SpanGroup, SpanId, TenantId, TraceId};
use pharos_storage::{BatchId, ReadContext, RejectReason, StorageError, TraceLookup, TraceStore};
use pharos_tracestore::{Settings, TraceRetentionRule};

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

/// A tenant's rule may be shorter or longer than the rest; a day stays for those who keep it and goes for the others.
#[test]
fn tenants_have_retentions_of_their_own() {
    let rule = |tenant: &str, keep: &str| TraceRetentionRule {
        tenant: tenant.parse().unwrap(),
        keep: keep.parse().ok(),
        size: None,
    };
    let retention_rules = vec![rule("short", "24h"), rule("long", "96h")];
    let mut fixture = Fixture::new(Settings { retention: "48h".parse().unwrap(), retention_rules, ..settings() });
    let tenants: Vec<TenantId> = ["short", "usual", "long"].map(|name| name.parse().unwrap()).to_vec();
    for (tenant, accepted) in tenants.iter().zip([1, 2, 3]) {
        let spans = vec![span(1, NOW_NS), span(2, NOW_NS - 40 * NS_PER_HOUR), span(3, NOW_NS - 90 * NS_PER_HOUR)];
        let outcome = fixture.store().append(tenant, batch(spans), BatchId::random()).wait().unwrap().unwrap();
        assert_eq!(outcome.items, accepted, "{tenant}");
    }
    let seen = |fixture: &Fixture, tenant: &TenantId| {
        let context = ReadContext::unlimited();
        let lookups = [1, 2, 3].map(|number| TraceLookup { trace_id: TraceId([number; 16]), range: None });
        let traces = fixture.store().traces(tenant, &lookups, &context).unwrap();
        let by_id: Vec<_> = traces.map(|trace| trace.unwrap().trace_id.0[0]).collect();
        let found = fixture.store().find(tenant, &query(Vec::new(), 10), &context).unwrap();
        assert_eq!(found.hits.iter().map(|hit| hit.trace_id.0[0]).collect::<Vec<_>>(), by_id, "{tenant}");
        assert_eq!(fixture.store().services(tenant).unwrap().len(), usize::from(!by_id.is_empty()), "{tenant}");
        by_id
    };
    fixture.store().flush().unwrap();
    assert_eq!(fixture.store().stats().partitions, 3);
    fixture.clock.advance_ms(46 * 3_600_000);
    fixture.store().flush().unwrap();
    let expected: [&[u8]; 3] = [&[], &[1], &[1, 2]];
    for round in 0..4 {
        assert_eq!(fixture.store().stats().partitions, 2, "only the oldest day is out of all retentions");
        for (tenant, expected) in tenants.iter().zip(expected) {
            assert_eq!(seen(&fixture, tenant), expected, "{tenant} in round {round}");
        }
        let late = fixture.store().append(&tenants[0], batch(vec![span(1, NOW_NS)]), BatchId::random());
        assert_eq!(late.wait().unwrap().unwrap().rejections[0].reason, RejectReason::TooOld);
        match round {
            0 => fixture.reopen(),
            1 => fixture.store().compact().unwrap(),
            _ => fixture.cut_power(),
        }
    }
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

/// A dropped day stays dropped over a restart: neither its records in the log nor late spans make it anew.
#[test]
fn a_day_dropped_for_its_size_stays_dropped() {
    let mut fixture = Fixture::new(Settings { retention_size: Some(ByteSize(1)), ..settings() });
    for day in 0..2 {
        fixture.append(batch(vec![span(day, NOW_NS - u64::from(day) * 24 * NS_PER_HOUR)])).unwrap();
    }
    fixture.store().flush().unwrap();
    for restart in 0..3 {
        assert_eq!(fixture.store().stats().partitions, 1, "{restart}");
        let outcome = fixture.append(batch(vec![span(9, NOW_NS - 24 * NS_PER_HOUR)])).unwrap();
        assert_eq!(outcome.rejections[0].reason, RejectReason::TooOld, "{restart}");
        if restart == 0 { fixture.crash() } else { fixture.reopen() }
    }
}

/// A tenant with a limit of its own loses its oldest days, and nobody else anything; what was dropped stays dropped.
#[test]
fn a_tenants_oldest_days_go_while_it_has_more_than_it_may() {
    let small: TenantId = "small".parse().unwrap();
    let rule = TraceRetentionRule { tenant: small.clone(), keep: None, size: Some(ByteSize(10 << 10)) };
    let mut fixture = Fixture::new(Settings { retention_rules: vec![rule], ..settings() });
    let spans = |day: u64| {
        let start_ns = NOW_NS - day * 24 * NS_PER_HOUR;
        let text = |id: u64| format!("{:x}", (id + 7 * day).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_pow(3));
        let made = (0..150_u64).map(|id| Span {
            span_id: SpanId(id.to_le_bytes()),
            name: text(id),
            ..span(day as u8, start_ns)
        });
        batch(made.collect())
    };
    for day in 0..4 {
        fixture.append(spans(day)).unwrap();
        fixture.store().append(&small, spans(day), BatchId::random()).wait().unwrap().unwrap();
    }
    let has = |fixture: &Fixture, tenant: &TenantId| {
        (0..4_u8)
            .map(|day| {
                let lookup = TraceLookup { trace_id: TraceId([day; 16]), range: None };
                fixture.store().traces(tenant, &[lookup], &ReadContext::unlimited()).unwrap().next().is_some()
            })
            .collect::<Vec<_>>()
    };
    fixture.store().flush().unwrap();
    fixture.store().flush().unwrap();
    let left = has(&fixture, &small);
    assert!(left[0] && !left[3], "{left:?}");
    assert!(left.windows(2).all(|pair| pair[0] || !pair[1]), "the oldest go first: {left:?}");
    assert_eq!(has(&fixture, &TenantId::default()), [true; 4]);
    let late = fixture.store().append(&small, spans(3), BatchId::random()).wait().unwrap().unwrap();
    assert_eq!(late.rejections[0].reason, RejectReason::TooOld);
    fixture.reopen();
    assert_eq!((has(&fixture, &small), has(&fixture, &TenantId::default())), (left, vec![true; 4]));
}

/// A clock that is wrong says that all is too old: nothing goes before it has said so for an hour.
#[test]
fn a_clock_that_jumps_does_not_delete_everything() {
    const YEAR_MS: i64 = 365 * 24 * 3_600_000;
    let mut fixture = Fixture::new(Settings { retention: "72h".parse().unwrap(), ..settings() });
    fixture.append(batch(vec![span(1, NOW_NS - 40 * NS_PER_HOUR), span(2, NOW_NS)])).unwrap();
    fixture.store().flush().unwrap();
    fixture.append(batch(vec![span(3, NOW_NS)])).unwrap();
    let all = |fixture: &Fixture| [1, 2, 3].map(|number| stored(fixture, number));
    fixture.clock.advance_ms(YEAR_MS);
    for _ in 0..2 {
        fixture.store().flush().unwrap();
        assert_eq!(all(&fixture), [true; 3]);
    }
    // It is put right, and wrong again at the next start.
    fixture.clock.advance_ms(-YEAR_MS);
    fixture.store().flush().unwrap();
    fixture.append(batch(vec![span(4, NOW_NS)])).unwrap();
    fixture.clock.advance_ms(YEAR_MS);
    fixture.crash();
    fixture.store().flush().unwrap();
    assert!(stored(&fixture, 4) && all(&fixture) == [true; 3], "nor is the log forgotten");
    fixture.clock.advance_ms(59 * 60_000);
    fixture.store().flush().unwrap();
    assert_eq!(all(&fixture), [true; 3]);
    fixture.clock.advance_ms(60_000);
    fixture.store().flush().unwrap();
    assert_eq!((all(&fixture), fixture.store().stats().partitions), ([false; 3], 0));
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

/// The limit holds within one batch too, and a batch of only new names costs no more than its size.
#[test]
fn one_batch_of_new_operations_stays_within_the_limit() {
    let mut fixture = Fixture::new(Settings { operations_max: 50, ..settings() });
    let named =
        |id: u32| Span { span_id: SpanId(u64::from(id + 1).to_be_bytes()), name: format!("op{id}"), ..span(1, NOW_NS) };
    fixture.append(batch((0..20_000).map(named).collect())).unwrap();
    let query = pharos_storage::OperationQuery { service: "web".into(), kind: None };
    assert_eq!(fixture.store().operations(&TenantId::default(), &query).unwrap().len(), 50);
    fixture.append(batch((20_000..20_010).map(named).collect())).unwrap();
    fixture.reopen();
    assert_eq!(fixture.store().operations(&TenantId::default(), &query).unwrap().len(), 50);
}

fn batch_of(service: &str, spans: Vec<Span>) -> SpanBatch {
    let mut batch = batch(spans);
    let value = AttributeValue::String(service.into());
    let attributes = vec![Attribute { key: "service.name".into(), value }];
    batch.groups[0].resource = Arc::new(Resource { attributes, ..Resource::default() });
    batch
}

/// A service's name stands in every row: without a limit a batch of a megabyte would become gigabytes.
#[test]
fn names_of_services_have_a_limit() {
    let fixture = Fixture::new(settings());
    let outcome = fixture.append(batch_of(&"s".repeat(4097), vec![span(1, NOW_NS), span(2, NOW_NS)])).unwrap();
    assert_eq!((outcome.items, outcome.rejected(), outcome.rejections[0].reason), (0, 2, RejectReason::Limit));
    assert_eq!(fixture.append(batch_of(&"s".repeat(4096), vec![span(3, NOW_NS)])).unwrap().items, 1);
    assert_eq!([1, 2, 3].map(|number| stored(&fixture, number)), [false, false, true]);
}

/// Keys, values and names far above the index's limit of a term, and times at the end of time.
#[test]
fn hostile_spans_are_stored_and_found() {
    let huge = |length: usize| "x".repeat(length);
    let mut fixture = Fixture::new(settings());
    let mut hostile = Span { name: huge(70_000), end_ns: 0, ..span(1, NOW_NS) };
    hostile.attributes.push(Attribute { key: huge(66_000), value: AttributeValue::String(huge(8 << 20)) });
    let endless = Span { end_ns: u64::MAX, ..span(2, NOW_NS - 1) };
    let sent = batch(vec![hostile.clone(), endless.clone(), span(3, u64::MAX)]);
    let outcome = fixture.append(sent).unwrap();
    assert_eq!((outcome.items, outcome.rejected()), (2, 1));
    for round in 0..3 {
        let value = huge(8 << 20);
        let filter = pharos_storage::SpanFilter::Attribute { key: huge(66_000), value };
        let query = query(vec![filter], 10);
        let found = fixture.store().find(&TenantId::default(), &query, &ReadContext::unlimited()).unwrap();
        assert_eq!(found.hits.iter().map(|hit| hit.trace_id.0[0]).collect::<Vec<_>>(), [1]);
        let longest = pharos_storage::TraceQuery { duration_min_ns: Some(1 << 60), ..self::query(Vec::new(), 10) };
        let found = fixture.store().find(&TenantId::default(), &longest, &ReadContext::unlimited()).unwrap();
        assert_eq!(found.hits.iter().map(|hit| hit.trace_id.0[0]).collect::<Vec<_>>(), [2]);
        let lookup = TraceLookup { trace_id: TraceId([1; 16]), range: None };
        let traces = fixture.store().traces(&TenantId::default(), &[lookup], &ReadContext::unlimited());
        assert_eq!(traces.unwrap().next().unwrap().unwrap().groups[0].spans, [hostile.clone()]);
        if round == 0 { fixture.store().flush().unwrap() } else { fixture.crash() }
    }
}

fn query(filters: Vec<pharos_storage::SpanFilter>, limit: usize) -> pharos_storage::TraceQuery {
    pharos_storage::TraceQuery {
        service: None,
        operation: None,
        filters,
        predicate: None,
        start: pharos_model::TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit,
    }
}

/// Above the limit origins are read from disk: the answers stay the same.
#[test]
fn origins_above_their_limit_are_found_on_disk() {
    let mut fixture = Fixture::new(Settings { origins_in_memory: 3, ..settings() });
    for number in 0..9 {
        let mut sent = batch(vec![span(number, NOW_NS - u64::from(number))]);
        let attribute = |key: &str, value: String| Attribute { key: key.into(), value: AttributeValue::String(value) };
        let attributes = vec![attribute("pod", number.to_string()), attribute("zone", (number % 2).to_string())];
        sent.groups[0].resource = Arc::new(Resource { attributes, ..Resource::default() });
        fixture.append(sent.clone()).unwrap();
        fixture.append(sent).unwrap();
    }
    let resource =
        |key: &str, value: &str| pharos_storage::SpanFilter::ResourceAttribute { key: key.into(), value: value.into() };
    let any = |key: &str, value: &str| pharos_storage::SpanFilter::Attribute { key: key.into(), value: value.into() };
    for round in 0..3 {
        let ids = |filters| {
            let found = fixture.store().find(&TenantId::default(), &query(filters, 4), &ReadContext::unlimited());
            found.unwrap().hits.iter().map(|hit| hit.trace_id.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(ids(vec![resource("zone", "1")]), [1, 3, 5, 7]);
        assert_eq!(ids(vec![any("zone", "0"), resource("pod", "8")]), [8]);
        assert_eq!(ids(vec![resource("pod", "9")]), [0; 0]);
        if round == 0 { fixture.store().flush().unwrap() } else { fixture.reopen() }
    }
}
