//! Traces on disk: by id, and the newest that pass a search.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pharos_benches::{SpanLoad, open_traces, sized};
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{ReadContext, SpanFilter, TraceLookup, TraceQuery, TraceStore};

fn reads(c: &mut Criterion) {
    let (batches, traces) = (sized(100, 2), sized(100, 5));
    let (folder, tenant) = (tempfile::tempdir().expect("a folder"), TenantId::default());
    let (store, mut load) = (open_traces(folder.path()), SpanLoad::default());
    load.fill(&store, &tenant, batches / 2, traces);
    let old = load.newest();
    load.fill(&store, &tenant, batches - batches / 2, traces);
    store.flush().expect("the tail becomes an index");
    let context = ReadContext::unlimited();

    let lookup = [TraceLookup { trace_id: old, range: None }];
    let found = store.traces(&tenant, &lookup, &context).expect("readable").count();
    assert_eq!(found, 1, "the bench measures a trace that is there");
    let mut group = c.benchmark_group("tracestore/by_id");
    group.bench_function("20_spans", |b| {
        b.iter(|| black_box(store.traces(&tenant, &lookup, &context).expect("readable").count()));
    });
    group.finish();

    let any = TraceQuery {
        service: None,
        operation: None,
        filters: Vec::new(),
        predicate: None,
        start: TimeRangeNs::ALL,
        duration_min_ns: None,
        duration_max_ns: None,
        limit: 20,
    };
    let attribute = |key: &str, value: &str| SpanFilter::Attribute { key: key.to_owned(), value: value.to_owned() };
    let service = Some("payment".to_owned());
    let mut group = c.benchmark_group("tracestore/newest_20");
    for (name, query) in [
        ("any", any.clone()),
        ("of_service", TraceQuery { service: service.clone(), ..any.clone() }),
        ("with_error", TraceQuery { filters: vec![attribute("http.response.status_code", "500")], ..any.clone() }),
        ("of_one_customer", TraceQuery { filters: vec![attribute("customer.id", "77")], ..any.clone() }),
        ("slow_of_service", TraceQuery { service, duration_min_ns: Some(79_000_000), ..any }),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(store.find(&tenant, &query, &context).expect("searchable")));
        });
    }
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
