//! Samples and spans into the stores as a server puts them there: whole batches, to the acknowledgement.
//!
//! The loads run on and on, so the stores flush in the background as they do in a server.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pharos_benches::{MetricLoad, SPANS_PER_TRACE, SpanLoad, open_metrics, open_traces, sized};
use pharos_model::TenantId;
use pharos_storage::{BatchId, MetricStore, TraceStore};

/// One sample for each of 10,000 series that the store knows: the steady state of remote write.
fn samples(c: &mut Criterion) {
    let series = sized(10_000, 50);
    let (folder, tenant) = (tempfile::tempdir().expect("a folder"), TenantId::default());
    let (store, mut load) = (open_metrics(folder.path()), MetricLoad::new(series));
    load.fill(&store, &tenant, 1);
    let mut group = c.benchmark_group("tsdb/append_steady");
    group.throughput(Throughput::Elements(series as u64));
    group.sample_size(20);
    group.bench_function("10k_known_series", |b| {
        b.iter_batched(
            || load.scrape(),
            |batch| store.append(&tenant, batch, BatchId::random()).wait().expect("open").expect("stored"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Batches of 100 new traces of 20 spans.
fn spans(c: &mut Criterion) {
    let traces = sized(100, 3);
    let (folder, tenant) = (tempfile::tempdir().expect("a folder"), TenantId::default());
    let (store, mut load) = (open_traces(folder.path()), SpanLoad::default());
    let mut group = c.benchmark_group("tracestore/append_steady");
    group.throughput(Throughput::Elements((traces * SPANS_PER_TRACE) as u64));
    group.sample_size(20);
    group.bench_function("100_traces_of_20", |b| {
        b.iter_batched(
            || load.batch(traces),
            |batch| store.append(&tenant, batch, BatchId::random()).wait().expect("open").expect("stored"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, samples, spans);
criterion_main!(benches);
