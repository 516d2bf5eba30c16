//! A meter, a store it is flushed to, and an engine on the store's views.

use std::sync::Arc;

use pharos_base::SimClock;
use pharos_model::{
    Attribute, AttributeValue, Labels, Matcher, Resource, Scope, Span, SpanBatch, SpanGroup, SpanId, SpanKind,
    SpanStatus, StatusCode, TenantId, TimeRange, TraceId,
};
use pharos_promql::engine::SampleValue;
use pharos_promql::{Engine, EngineSettings, QueryOptions, Value, parse_selector};
use pharos_spanmetrics::{ServiceGraphSettings, SpanMeter, SpanMetricViews, SpanMetricsSettings};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore, RawSeries, ReadContext, SpanTap};

/// When all tests begin, Unix milliseconds.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) meter: SpanMeter,
    pub(crate) stored: Arc<MemoryMetricStore>,
    pub(crate) views: Arc<SpanMetricViews>,
    pub(crate) engine: Engine,
    pub(crate) tenant: TenantId,
}

/// A span in words of a test.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) service: String,
    pub(crate) span: Span,
}

/// A span of a service that takes `ms`.
pub(crate) fn span(service: &str, name: &str, kind: SpanKind, ms: f64) -> Made {
    let start_ns = START_MS as u64 * 1_000_000;
    let span = Span {
        trace_id: TraceId([1; 16]),
        span_id: SpanId([2; 8]),
        name: name.to_owned(),
        kind,
        start_ns,
        end_ns: start_ns + (ms * 1e6) as u64,
        ..Span::default()
    };
    Made { service: service.to_owned(), span }
}

impl Made {
    pub(crate) fn ids(mut self, trace: u8, id: u8, parent: u8) -> Self {
        self.span.trace_id = TraceId([trace; 16]);
        self.span.span_id = SpanId([id; 8]);
        self.span.parent_span_id = SpanId([parent; 8]);
        self
    }

    pub(crate) fn failed(mut self) -> Self {
        self.span.status = SpanStatus { code: StatusCode::Error, message: String::new() };
        self
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.span.attributes.push(attribute(key, value));
        self
    }
}

pub(crate) fn attribute(key: &str, value: &str) -> Attribute {
    Attribute { key: key.to_owned(), value: AttributeValue::String(value.to_owned()) }
}

/// Each span in a group of its own.
pub(crate) fn batch(spans: &[Made]) -> SpanBatch {
    let group = |made: &Made| SpanGroup {
        resource: Arc::new(Resource {
            attributes: vec![attribute("service.name", &made.service)],
            ..Resource::default()
        }),
        scope: Arc::new(Scope::default()),
        spans: vec![made.span.clone()],
    };
    SpanBatch { groups: spans.iter().map(group).collect() }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(SpanMetricsSettings::default(), ServiceGraphSettings::default())
    }

    pub(crate) fn with(red: SpanMetricsSettings, graph: ServiceGraphSettings) -> Self {
        let clock = SimClock::at_ms(START_MS);
        let meter = SpanMeter::new(red, graph, Arc::clone(&clock) as _).unwrap();
        let stored = Arc::new(MemoryMetricStore::new());
        let views = Arc::new(SpanMetricViews::new(Arc::clone(&stored) as _));
        let engine = Engine::new(Arc::clone(&views) as _, EngineSettings::default());
        Self { clock, meter, stored, views, engine, tenant: TenantId::default() }
    }

    /// Takes spans that the store then takes.
    pub(crate) fn store(&self, spans: &[Made]) {
        self.meter.notice(&self.tenant, &batch(spans)).stored();
    }

    pub(crate) fn clock_ms(&self) -> i64 {
        use pharos_base::Clock;
        self.clock.unix_ms()
    }

    /// Time goes on; counts go to the store.
    pub(crate) fn flush_after(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.meter.flush(|tenant, batch| {
            let outcome = self.stored.append(tenant, batch, BatchId::random()).wait().unwrap().unwrap();
            assert_eq!(outcome.rejected(), 0);
            true
        });
    }

    /// Time goes on; the store refuses all counts.
    pub(crate) fn refused_flush_after(&self, ms: i64) {
        self.clock.advance_ms(ms);
        let mut batches = 0;
        self.meter.flush(|_, _| {
            batches += 1;
            false
        });
        assert!(batches > 0, "there was something to refuse");
    }

    /// An instant query now: labels without the name, and values, in order of the labels.
    pub(crate) fn ask(&self, query: &str) -> Vec<(String, f64)> {
        let found = self.engine.instant(&self.tenant, query, self.clock_ms(), &QueryOptions::default());
        let Value::Vector(samples) = found.unwrap_or_else(|error| panic!("{query}: {error}")).value else {
            panic!("{query} is no vector");
        };
        let mut all: Vec<_> = samples
            .into_iter()
            .map(|sample| match sample.value {
                SampleValue::Float(value) => (sample.labels.to_string(), value),
                SampleValue::Histogram(_) => panic!("{query} answers a histogram"),
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The only value of an answer.
    pub(crate) fn value(&self, query: &str) -> f64 {
        match self.ask(query).as_slice() {
            [(_, value)] => *value,
            other => panic!("{query} answers {other:?}"),
        }
    }

    pub(crate) fn raw(&self, selector: &str) -> Vec<RawSeries> {
        raw_of(&*self.views, &self.tenant, selector)
    }
}

pub(crate) fn matchers(selector: &str) -> Vec<Matcher> {
    parse_selector(selector).unwrap()
}

pub(crate) fn raw_of(store: &dyn MetricStore, tenant: &TenantId, selector: &str) -> Vec<RawSeries> {
    let plan =
        pharos_storage::LeafPlan::Raw(pharos_storage::RawPlan { matchers: matchers(selector), range: TimeRange::ALL });
    let stream = store.leaf(tenant, &plan, &ReadContext::unlimited()).unwrap();
    let mut all: Vec<RawSeries> = stream
        .map(|series| match series.unwrap() {
            pharos_storage::LeafSeries::Raw(series) => series,
            pharos_storage::LeafSeries::Grid(_) => panic!("raw was asked for"),
        })
        .collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}
