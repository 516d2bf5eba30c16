//! What queries cost, as metrics.

use std::time::Duration;

use pharos_base::ErrorClass;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Queries, QueryLoad, RunningQuery};

/// Which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named as the paths of the API")]
pub enum QueryKind {
    Instant,
    Range,
    Exemplars,
    Labels,
    LabelValues,
    Series,
    Read,
    Federate,
    Export,
    Search,
    TraceSearch,
    TraceRead,
    TraceLists,
}

impl QueryKind {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::Range => "range",
            Self::Exemplars => "exemplars",
            Self::Labels => "labels",
            Self::LabelValues => "label_values",
            Self::Series => "series",
            Self::Read => "read",
            Self::Federate => "federate",
            Self::Export => "export",
            Self::Search => "search",
            Self::TraceSearch => "trace_search",
            Self::TraceRead => "trace_read",
            Self::TraceLists => "trace_lists",
        }
    }
}

impl EncodeLabelValue for QueryKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// Why a query has no answer, in one word.
pub(super) fn reason(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Invalid => "invalid",
        ErrorClass::Unauthenticated => "unauthenticated",
        ErrorClass::Forbidden => "forbidden",
        ErrorClass::NotFound => "not_found",
        ErrorClass::LimitExceeded => "limit_exceeded",
        ErrorClass::Timeout => "timeout",
        ErrorClass::Cancelled => "canceled",
        ErrorClass::Unsupported => "unsupported",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Internal => "internal",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: QueryKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFailure {
    kind: QueryKind,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Debug)]
pub(super) struct QueryMetrics {
    seconds: Family<OfKind, Histogram, fn() -> Histogram>,
    failures: Family<OfFailure, Counter>,
    samples_read: Family<OfKind, Counter>,
    series_read: Family<OfKind, Counter>,
    queue_seconds: Histogram,
    refusal_seconds: Family<OfReason, Histogram, fn() -> Histogram>,
}

fn latencies() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0])
}

impl Default for QueryMetrics {
    fn default() -> Self {
        Self {
            seconds: Family::new_with_constructor(latencies),
            failures: Family::default(),
            samples_read: Family::default(),
            series_read: Family::default(),
            queue_seconds: latencies(),
            refusal_seconds: Family::new_with_constructor(latencies),
        }
    }
}

impl QueryMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Time of queries from their arrival to the end of their work, by kind";
        registry.register("pharos_query_seconds", help, self.seconds.clone());
        let help = "Time that queries waited for their turn";
        registry.register("pharos_query_queue_seconds", help, self.queue_seconds.clone());
        let help = "Queries without an answer, by kind and reason";
        registry.register("pharos_query_failures", help, self.failures.clone());
        let help = "Time that queries went on after they crossed a limit, were late or lost their client, by reason";
        registry.register("pharos_query_refusal_seconds", help, self.refusal_seconds.clone());
        let help = "Samples that queries read from the store, by kind";
        registry.register("pharos_query_samples_read", help, self.samples_read.clone());
        let help = "Series that queries read from the store, by kind";
        registry.register("pharos_query_series_read", help, self.series_read.clone());
    }

    pub(super) fn observe(&self, query: &RunningQuery, took: Duration, load: &QueryLoad, failed: Option<ErrorClass>) {
        let of_kind = OfKind { kind: query.asked().kind };
        self.seconds.get_or_create(&of_kind).observe(took.as_secs_f64());
        self.samples_read.get_or_create(&of_kind).inc_by(load.samples_read);
        self.series_read.get_or_create(&of_kind).inc_by(load.series_read);
        self.queue_seconds.observe(query.queued_for().as_secs_f64());
        if let Some(class) = failed {
            self.failures.get_or_create(&OfFailure { kind: of_kind.kind, reason: reason(class) }).inc();
            if let Some(refusal) = load.refusal {
                self.refusal_seconds.get_or_create(&OfReason { reason: reason(class) }).observe(refusal.as_secs_f64());
            }
        }
    }
}

/// Queries under way, counted when they are asked for.
#[derive(Debug)]
pub(super) struct Running(pub(super) Queries);

impl Collector for Running {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let queries = self.0.running(None);
        let waiting = queries.iter().filter(|query| query.is_waiting()).count();
        for (name, help, value) in [
            ("pharos_query_running", "Queries that run", (queries.len() - waiting) as u64),
            ("pharos_query_waiting", "Queries that wait for their turn", waiting as u64),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
