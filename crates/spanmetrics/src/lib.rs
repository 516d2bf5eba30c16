//! Metrics made of spans on their way in: calls, durations and errors by operation, and the graph of services.
//!
//! [`SpanMeter`] looks at every accepted batch of spans (it is a `SpanTap` of ingest), before any sampling, and counts it
//! once the trace store has it. Every `span_metrics.flush_interval` its owner brings the counts to the metrics store, where
//! they are series as any other. [`SpanMetricViews`] is the metrics store with further names for them: each series is stored
//! once and answers to the names of the OpenTelemetry collector and to those of Tempo.
//!
//! # What is stored
//! | metric | kind | labels |
//! |---|---|---|
//! | `traces_span_metrics_calls_total` | counter | `service_name`, `span_name`, `span_kind` (`SPAN_KIND_SERVER`…), `status_code` (`STATUS_CODE_ERROR`…), dimensions |
//! | `traces_span_metrics_duration_milliseconds` | native histogram with custom buckets, with exemplars | the same |
//! | `traces_spanmetrics_size_total` | counter, bytes | the same with `service` for `service_name` |
//! | `traces_service_graph_request_total`, `…_failed_total` | counters | `client`, `server`, `connection_type` |
//! | `traces_service_graph_request_{server,client,messaging_system}_seconds` | native histograms with custom buckets | the same |
//! | `traces_service_graph_unpaired_spans_total`, `…_dropped_spans_total` | counters | `client`, `server` |
//! | `traces_target_info`, if `span_metrics.target_info` | gauge, 1 | `job`, `instance`, attributes of the resource |
//!
//! Everything else (`…_bucket`, `…_sum`, `…_count`, Tempo's `traces_spanmetrics_…`) is answered from these; all of it is in
//! `docs/metrics.md`. Who asks the store in this process asks for the stored form: `rate` of the calls is pushed down into
//! the store, and `histogram_quantile` takes the native histogram as it is.
//!
//! # Guarantees
//! - M1 A batch counts once the trace store acknowledged it, whether its sender still waits or has hung up; one that was
//!   refused counts when it is sent again. Spans that the store refuses one by one count with their batch.
//! - M2 Counters are in memory between two flushes. A crash loses what was counted since the last one, the spans never; an
//!   orderly stop flushes. After a start counters begin again from a zero at a new start timestamp, which is a reset.
//! - M3 A flush that the metrics store refuses loses its instant and its exemplars only.
//! - M4 Memory is bounded by `series_max`, `target_info_max`, `edges_max` and `waiting_max` of each tenant; a tenant without spans is forgotten
//!   after `idle_max`. Nothing is allocated for a span whose series is known, but for dimensions that are no texts.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod flush;
mod graph;
mod life;
mod metadata;
mod meter;
mod names;
mod output;
mod red;
mod settings;
mod shared_names;
mod slots;
mod tally;
mod targets;
mod tenant;
mod views;
mod wire_size;

pub use meter::{SpanMeter, SpanMeterStats};
pub use settings::{ServiceGraphSettings, SettingsError, SpanMetricsSettings};
pub use views::SpanMetricViews;
