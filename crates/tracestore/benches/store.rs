//! What spans cost: coming in, by id, and by search.

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pharos_base::{Clock, SimClock};
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::conformance::traces::SpanGenerator;
use pharos_storage::{BatchId, ReadContext, SpanFilter, TraceLookup, TraceQuery, TraceStore};
use pharos_tracestore::{Components, Settings, SpanStore};

const NOW_MS: i64 = 1_795_230_000_000;
const SEED: u64 = 42;

fn open(directory: &tempfile::TempDir) -> SpanStore {
    let clock: Arc<dyn Clock> = SimClock::at_ms(NOW_MS);
    SpanStore::open(directory.path(), Settings::default(), Components { clock }).expect("an empty store opens")
}

fn append_batches(c: &mut Criterion) {
    const BATCHES: usize = 64;
    let mut generator = SpanGenerator::new(SEED, NOW_MS as u64 * 1_000_000, 200);
    let batches: Vec<_> = (0..BATCHES).map(|_| generator.batch()).collect();
    let spans: usize = batches.iter().map(pharos_model::SpanBatch::span_count).sum();
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory);
    let mut group = c.benchmark_group("tracestore/append");
    group.throughput(Throughput::Elements(spans as u64));
    group.sample_size(20);
    group.bench_function("64_batches_together", |b| {
        b.iter_batched(
            || batches.clone(),
            |batches| {
                let tenant = TenantId::default();
                let waiting: Vec<_> =
                    batches.into_iter().map(|batch| store.append(&tenant, batch, BatchId::random())).collect();
                for completion in waiting {
                    completion.wait().expect("the store is open").expect("there is space");
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn read_and_search(c: &mut Criterion) {
    let mut generator = SpanGenerator::new(SEED, NOW_MS as u64 * 1_000_000, 250);
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory);
    let tenant = TenantId::default();
    let waiting: Vec<_> = (0..4000).map(|_| store.append(&tenant, generator.batch(), BatchId::random())).collect();
    for completion in waiting {
        completion.wait().expect("the store is open").expect("there is space");
    }
    store.flush().expect("a flush works");
    let context = ReadContext::unlimited();
    let mut group = c.benchmark_group("tracestore/read");
    let lookup = TraceLookup { trace_id: generator.trace_ids()[3], range: None };
    group.bench_function("trace_by_id", |b| {
        b.iter(|| store.traces(&tenant, &[lookup], &context).expect("readable").count());
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
    let tag = |key: &str, value: &str| SpanFilter::Attribute { key: key.to_owned(), value: value.to_owned() };
    let shapes = [
        ("newest", any.clone()),
        ("service", TraceQuery { service: Some("web".to_owned()), ..any.clone() }),
        ("attribute", TraceQuery { filters: vec![tag("user", "ada")], ..any.clone() }),
        ("absent_value", TraceQuery { filters: vec![tag("user", "nobody")], ..any.clone() }),
        ("slow", TraceQuery { duration_min_ns: Some(1 << 39), ..any }),
    ];
    let mut group = c.benchmark_group("tracestore/find");
    for (name, query) in shapes {
        group.bench_with_input(BenchmarkId::from_parameter(name), &query, |b, query| {
            b.iter(|| store.find(&tenant, query, &context).expect("searchable"));
        });
    }
    group.finish();
}

criterion_group!(benches, append_batches, read_and_search);
criterion_main!(benches);
