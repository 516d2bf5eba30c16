//! The engine over the store in memory.

mod branches;
mod cancel;
mod limits;
mod names;
mod picks;
mod push_down;
mod shared;
mod stats;
mod tripping;
mod windows;

use std::sync::Arc;

use pharos_base::Helpers;
use pharos_model::{BatchBuilder, Labels, METRIC_NAME, Sample, StepRange, TenantId};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};

use super::{Engine, EngineSettings, QueryError, QueryOptions, QueryResult, SampleValue, Value};
use crate::ParserOptions;

/// A series: name, further labels, samples as Unix milliseconds and value.
type SeriesSpec<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<(i64, f64)>);

fn store_with(series: &[SeriesSpec<'_>]) -> Arc<MemoryMetricStore> {
    let store = MemoryMetricStore::new();
    let mut batch = BatchBuilder::new();
    for (name, labels, samples) in series {
        for (timestamp_ms, value) in samples {
            batch.push_sample(Sample { timestamp_ms: *timestamp_ms, value: *value }, 0);
        }
        let pairs = labels.iter().copied().chain([(METRIC_NAME, *name)]);
        batch.finish_series_encoded(&Labels::from_pairs(pairs).unwrap());
    }
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    Arc::new(store)
}

fn engine_with(series: &[SeriesSpec<'_>], settings: EngineSettings) -> Engine {
    // What is held and when work ends shall not depend on the cores of who runs the tests.
    Engine::new(store_with(series), settings).with_helpers(Helpers::new(0))
}

fn settings() -> EngineSettings {
    EngineSettings { parser: ParserOptions::all(), ..EngineSettings::default() }
}

fn engine(series: &[SeriesSpec<'_>]) -> Engine {
    engine_with(series, settings())
}

/// `count` samples, one each `step_ms` from 0 on.
fn every(step_ms: i64, count: i64, value: impl Fn(i64) -> f64) -> Vec<(i64, f64)> {
    (0..count).map(|index| (index * step_ms, value(index))).collect()
}

fn instant(engine: &Engine, query: &str, at_ms: i64) -> Result<QueryResult, QueryError> {
    engine.instant(&TenantId::default(), query, at_ms, &QueryOptions::default())
}

fn range(engine: &Engine, query: &str, steps: StepRange) -> Result<QueryResult, QueryError> {
    engine.range(&TenantId::default(), query, steps, &QueryOptions::default())
}

/// The floats of an instant vector as `labels value`, sorted.
fn texts(result: &QueryResult) -> Vec<String> {
    let Value::Vector(samples) = &result.value else { panic!("{:?} is no vector", result.value) };
    let mut texts: Vec<String> = samples
        .iter()
        .map(|sample| match &sample.value {
            SampleValue::Float(value) => format!("{} {value}", sample.labels),
            SampleValue::Histogram(histogram) => format!("{} count {}", sample.labels, histogram.count),
        })
        .collect();
    texts.sort();
    texts
}
