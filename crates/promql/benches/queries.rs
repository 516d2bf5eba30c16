//! What a query costs beside its storage: parsing, and evaluation over the store in memory.
//!
//! Throughput is in bytes of query text, and in samples that the selectors read.
#![allow(missing_docs, reason = "a bench")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pharos_model::{BatchBuilder, LabelsBuilder, Sample, StepRange, TenantId};
use pharos_promql::{Engine, EngineSettings, ParserOptions, QueryOptions, parse};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};

const SERIES: usize = 200;
const INTERVAL_MS: i64 = 15_000;
/// Two hours.
const SAMPLES: i64 = 480;
const START_MS: i64 = 1_700_000_000_000;

const TEXTS: [(&str, &str); 3] = [
    ("selector", r#"http_requests_total{job="api",code=~"5..",path!="/health"}"#),
    (
        "dashboard",
        r#"sum by (job, code) (rate(http_requests_total{job=~"api|web"}[5m])) / on (job) group_left sum by (job) (rate(http_requests_total[5m]))"#,
    ),
    (
        "quantile",
        r#"histogram_quantile(0.99, sum by (le, path) (rate(http_request_duration_seconds_bucket{job="api"}[5m] offset 1d))) > 0.5"#,
    ),
];

const QUERIES: [(&str, &str); 9] = [
    ("selector", "requests_total"),
    ("rate", "rate(requests_total[5m])"),
    ("sum_rate", "sum(rate(requests_total[5m]))"),
    ("sum_by_rate", "sum by (job) (rate(requests_total[5m]))"),
    ("sum_over_time_integers", "sum_over_time(requests_total[1h])"),
    ("sum_over_time_fractions", "sum_over_time(temperature[1h])"),
    ("max_over_time", "max_over_time(temperature[1h])"),
    ("ratio", "rate(requests_total[5m]) / ignoring (job) rate(requests_total[5m])"),
    // Says something for every series.
    ("annotated", "sum(rate(temperature[5m]))"),
];

fn engine() -> Engine {
    let store = MemoryMetricStore::new();
    let (mut batch, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    for (name, slope) in [("requests_total", 3.0), ("temperature", 0.1)] {
        for series in 0..SERIES {
            for at in 0..SAMPLES {
                let value = slope * (at as f64) + series as f64;
                batch.push_sample(Sample { timestamp_ms: START_MS + at * INTERVAL_MS, value }, 0);
            }
            labels.push("__name__", name);
            labels.push("instance", &format!("10.0.0.{series}:9100"));
            labels.push("job", if series % 2 == 0 { "api" } else { "web" });
            batch.finish_series(&mut labels).expect("sound labels");
        }
    }
    let stored = store.append(&TenantId::default(), batch.build(), BatchId::random()).wait();
    stored.expect("the store is open").expect("the batch is sound");
    Engine::new(Arc::new(store), EngineSettings { parser: ParserOptions::all(), ..EngineSettings::default() })
}

fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("promql/parse");
    for (name, text) in TEXTS {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), text, |b, text| {
            b.iter(|| parse(black_box(text), ParserOptions::default()).expect("valid"));
        });
    }
    group.finish();
}

/// A range query of 100 steps over the last hour.
fn evaluation(c: &mut Criterion) {
    let (engine, tenant, options) = (engine(), TenantId::default(), QueryOptions::default());
    let end_ms = START_MS + SAMPLES * INTERVAL_MS;
    let steps = StepRange { start_ms: end_ms - 3_600_000, end_ms, step_ms: 36_000 };
    let mut group = c.benchmark_group("promql/range");
    for (name, query) in QUERIES {
        let run = || engine.range(&tenant, query, steps, &options).expect("valid");
        group.throughput(Throughput::Elements(run().stats.samples_read));
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| black_box(run())));
    }
    group.finish();
}

criterion_group!(benches, parsing, evaluation);
criterion_main!(benches);
