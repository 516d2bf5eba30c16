//! Appending known series, and reading them back from the head and from a part.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pharos_model::{BatchBuilder, LabelsBuilder, METRIC_NAME, Matcher, MetricBatch, Sample, TenantId, TimeRange};
use pharos_storage::{BatchId, LeafPlan, MetricStore, RawPlan, ReadContext};
use pharos_tsdb::{Components, Settings, Tsdb};
use tempfile::TempDir;

const SERIES: usize = 10_000;
const START_MS: i64 = 1_700_000_000_000;

fn batch(step: i64) -> MetricBatch {
    let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for number in 0..SERIES as i64 {
        let value = ((step * 17 + number) % 1000) as f64;
        builder.push_sample(Sample { timestamp_ms: START_MS + step * 15_000, value }, 0);
        labels.push(METRIC_NAME, "http_requests_total");
        labels.push("instance", &format!("10.0.{}.{}:9100", number / 250, number % 250));
        labels.push("job", "bench");
        labels.push("path", "/api/v1/query_range");
        builder.finish_series(&mut labels).expect("sound labels");
    }
    builder.build()
}

fn open(dir: &TempDir) -> Tsdb {
    Tsdb::open(dir.path(), Settings::for_tests(), Components::default()).expect("the store opens")
}

fn append_known_series(c: &mut Criterion) {
    let mut group = c.benchmark_group("tsdb/append");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.sample_size(20);
    let dir = TempDir::new().expect("a directory");
    let (store, tenant, mut step) = (open(&dir), TenantId::default(), 0);
    group.bench_function("known_series", |b| {
        b.iter_batched(
            || {
                step += 1;
                batch(step)
            },
            |batch| store.append(&tenant, batch, BatchId::random()).wait(),
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn read_all_series(c: &mut Criterion) {
    const STEPS: i64 = 120;
    let mut group = c.benchmark_group("tsdb/read");
    group.throughput(Throughput::Elements(SERIES as u64 * STEPS as u64));
    group.sample_size(10);
    let dir = TempDir::new().expect("a directory");
    let (store, tenant) = (open(&dir), TenantId::default());
    for step in 0..STEPS {
        store.append(&tenant, batch(step), BatchId::random()).wait().expect("open").expect("stored");
    }
    let plan = LeafPlan::Raw(RawPlan { matchers: vec![Matcher::equal("job", "bench")], range: TimeRange::ALL });
    let read = || {
        let stream = store.leaf(&tenant, &plan, &ReadContext::unlimited()).expect("served");
        stream.for_each(|series| {
            black_box(series.expect("sound"));
        });
    };
    group.bench_function("head", |b| b.iter(read));
    store.flush().expect("flushed");
    group.bench_function("part", |b| b.iter(read));
    group.finish();
}

criterion_group!(benches, append_known_series, read_all_series);
criterion_main!(benches);
