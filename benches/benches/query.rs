//! PromQL over metrics on disk: 1,000 counters, 6 hours of them, flushed into parts.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pharos_benches::{MetricLoad, SCRAPE_MS, START_MS, open_metrics, sized};
use pharos_model::{StepRange, TenantId, TimeRange};
use pharos_promql::{Engine, EngineSettings, QueryOptions};
use pharos_storage::{LabelQuery, MetricStore, ReadContext};

const HOUR_MS: i64 = 3_600_000;
const STEP_MS: i64 = 60_000;

fn queries(c: &mut Criterion) {
    let (series, scrapes) = (sized(1_000, 20), sized(6 * HOUR_MS / SCRAPE_MS, 40) as usize);
    let (folder, tenant) = (tempfile::tempdir().expect("a folder"), TenantId::default());
    let (store, mut load) = (Arc::new(open_metrics(folder.path())), MetricLoad::new(series));
    load.fill(store.as_ref(), &tenant, scrapes);
    store.flush().expect("the head becomes parts");
    let engine = Engine::new(Arc::clone(&store) as _, EngineSettings::default());
    let (options, end_ms) = (QueryOptions::default(), load.newest_ms());
    let steps = StepRange { start_ms: START_MS, end_ms, step_ms: STEP_MS };

    let mut group = c.benchmark_group("promql/range");
    group.sample_size(20);
    group.throughput(Throughput::Elements((series * scrapes) as u64));
    for (name, query) in [
        ("sum_by_rate", "sum by (job) (rate(http_requests_total[5m]))"),
        ("topk_rate", "topk(5, rate(http_requests_total[5m]))"),
        ("ratio_of_errors", "sum(rate(http_requests_total{code=\"500\"}[5m])) / sum(rate(http_requests_total[5m]))"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(engine.range(&tenant, query, steps, &options).expect("answered")));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("promql/instant");
    group.throughput(Throughput::Elements(series as u64));
    for (name, query) in [
        ("sum_by_rate", "sum by (job) (rate(http_requests_total[5m]))"),
        ("count_all", "count({__name__=~\".+\"})"),
        ("one_series_of_many", "http_requests_total{instance=\"10.0.0.1:9100\",code=\"200\",path=\"/api/v1/path-0\"}"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(engine.instant(&tenant, query, end_ms, &options).expect("answered")));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("tsdb/label_values");
    let context = ReadContext::unlimited();
    let all = LabelQuery { matcher_sets: Vec::new(), range: TimeRange::ALL, limit: usize::MAX };
    for name in ["__name__", "instance"] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(store.label_values(&tenant, name, &all, &context).expect("listed")));
        });
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
