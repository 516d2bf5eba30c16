//! Our own metrics: what the stores say about themselves, read when `/metrics` is.

use std::sync::Arc;

use parking_lot::Mutex;
use pharos_gateway::{Authenticator, Identities};
use pharos_promql::Engine;
use pharos_storage::{MetricStore, TraceStore};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use pharos_sampling::TailSampler;

use crate::span_metrics::SpanMetrics;

/// Adds the stores and the build to `registry`.
pub(crate) fn register(
    registry: &mut Registry,
    metrics: Arc<dyn MetricStore>,
    traces: Arc<dyn TraceStore>,
    version: &'static str,
) {
    registry.register("pharos_build", "What this server was built from", Info::new([("version", version)]));
    registry.register_collector(Box::new(Stores { metrics, traces }));
}

/// Adds the query engine to `registry`.
pub(crate) fn register_engine(registry: &mut Registry, engine: Engine) {
    registry.register_collector(Box::new(Queries { engine }));
}

/// Adds what is counted of spans to `registry`.
pub(crate) fn register_span_metrics(registry: &mut Registry, span_metrics: Arc<SpanMetrics>) {
    registry.register_collector(Box::new(Spans { span_metrics }));
}

/// Adds tail sampling to `registry`.
pub(crate) fn register_sampling(registry: &mut Registry, sampler: Arc<TailSampler>) {
    registry.register_collector(Box::new(Sampling { sampler }));
}

/// Adds requests that the gateway turned away to `registry`.
pub(crate) fn register_refusals(registry: &mut Registry, authenticator: Arc<Authenticator>) {
    registry.register_collector(Box::new(Refusals { authenticator }));
}

/// Adds the state of issuers' keys to `registry`.
pub(crate) fn register_issuers(registry: &mut Registry, identities: Arc<Identities>) {
    registry.register_collector(Box::new(Issuers { identities }));
}

/// All of `registry` as OpenMetrics text.
pub(crate) fn text(registry: &Mutex<Registry>) -> String {
    let mut text = String::new();
    // Writing into memory fails only if a collector does, and ours do not.
    let _ = encode(&mut text, &registry.lock());
    text
}

#[derive(Debug)]
struct Refusals {
    authenticator: Arc<Authenticator>,
}

impl Collector for Refusals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Requests that the gateway turned away, by reason";
        let mut family =
            encoder.encode_descriptor("pharos_gateway_requests_refused", help, None, MetricType::Counter)?;
        for (reason, count) in self.authenticator.refusals() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Issuers {
    identities: Arc<Identities>,
}

impl Collector for Issuers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Keys of an issuer of web tokens that are in use";
        let mut family = encoder.encode_descriptor("pharos_gateway_issuer_keys", help, None, MetricType::Gauge)?;
        for state in self.identities.issuers() {
            let keys = i64::try_from(state.keys).unwrap_or(i64::MAX);
            ConstGauge::new(keys).encode(family.encode_family(&[("issuer", state.issuer)])?)?;
        }
        let (name, help) = (
            "pharos_gateway_issuer_keys_refreshed_timestamp_seconds",
            "When the keys of an issuer of web tokens were read or fetched last, changed or not, Unix seconds",
        );
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in self.identities.issuers() {
            if let Some(had_at_s) = state.had_at_s {
                ConstGauge::new(had_at_s).encode(family.encode_family(&[("issuer", state.issuer)])?)?;
            }
        }
        Ok(())
    }
}

struct Queries {
    engine: Engine,
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queries")
    }
}

impl Collector for Queries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let cache = self.engine.cache_stats();
        for (name, help, value) in [
            ("pharos_query_cache_hits", "Range queries answered from earlier answers", cache.hits),
            (
                "pharos_query_cache_partial_hits",
                "Range queries of which only the last steps were evaluated",
                cache.partial_hits,
            ),
            ("pharos_query_cache_misses", "Range queries evaluated whole", cache.misses),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        let help = "Memory that queries hold, answers on their way out included";
        gauge(&mut encoder, "pharos_query_memory_bytes", help, self.engine.memory_used_bytes())?;
        let help = "Memory of answers that may be asked for again";
        gauge(&mut encoder, "pharos_query_cache_bytes", help, cache.bytes)
    }
}

struct Spans {
    span_metrics: Arc<SpanMetrics>,
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spans")
    }
}

impl Collector for Spans {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.span_metrics.meter.stats();
        for (name, help, value) in [
            ("pharos_spanmetrics_series", "Series of operations that spans are counted in", stats.series),
            ("pharos_spanmetrics_edges", "Edges of service graphs that calls are counted along", stats.edges),
            ("pharos_spanmetrics_targets", "Resources that sent spans and are told of", stats.targets),
            ("pharos_spanmetrics_calls_waiting", "Halves of calls that wait for the other half", stats.calls_waiting),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        for (name, help, value) in [
            ("pharos_spanmetrics_spans", "Spans counted in metrics", stats.spans_counted),
            (
                "pharos_spanmetrics_spans_overflowed",
                "Spans counted for the rest of their service: span_metrics.series_max",
                stats.spans_overflowed,
            ),
            (
                "pharos_spanmetrics_spans_too_old",
                "Spans not counted in metrics: span_metrics.span_age_max",
                stats.spans_too_old,
            ),
            (
                "pharos_spanmetrics_targets_dropped",
                "How often a resource was not told of, as its tenant has too many",
                stats.targets_dropped,
            ),
            ("pharos_spanmetrics_calls_unpaired", "Halves of calls that waited in vain", stats.calls_unpaired),
            (
                "pharos_spanmetrics_calls_dropped",
                "Halves of calls that found no room to wait: service_graph.waiting_max",
                stats.calls_dropped,
            ),
            (
                "pharos_spanmetrics_calls_overflowed",
                "Calls counted along the edge of the rest: service_graph.edges_max",
                stats.calls_overflowed,
            ),
            (
                "pharos_spanmetrics_flush_failures",
                "Batches of counts that the metrics store did not take",
                self.span_metrics.failures(),
            ),
            (
                "pharos_spanmetrics_samples_rejected",
                "Samples of span metrics refused by a limit of the metrics store",
                self.span_metrics.rejected(),
            ),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Sampling {
    sampler: Arc<TailSampler>,
}

impl Collector for Sampling {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.sampler.stats();
        let help = "Traces that wait to be judged";
        gauge(&mut encoder, "pharos_sampling_traces_waiting", help, stats.traces_waiting)?;
        let help = "Memory of spans that wait to be judged or to be stored";
        gauge(&mut encoder, "pharos_sampling_waiting_bytes", help, stats.bytes_waiting)?;
        let help = "Damaged files of the log of waiting spans, those set aside included";
        gauge(&mut encoder, "pharos_sampling_damaged_files", help, stats.damaged_files)?;
        for (name, help, value) in [
            ("pharos_sampling_traces_kept", "Traces that a policy wanted", stats.traces_kept),
            ("pharos_sampling_traces_dropped", "Traces that no policy wanted", stats.traces_dropped),
            (
                "pharos_sampling_traces_early",
                "Traces judged before their time: tail_sampling.traces_max, tail_sampling.memory_max",
                stats.traces_early,
            ),
            ("pharos_sampling_spans_late", "Spans of traces that were judged before", stats.spans_late),
            (
                "pharos_sampling_spans_rejected",
                "Acknowledged spans that are not stored: the trace store rejected them, or the log could not be read",
                stats.spans_rejected,
            ),
            (
                "pharos_sampling_store_failures",
                "Times that the trace store did not take what was kept",
                stats.store_failures,
            ),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

struct Stores {
    metrics: Arc<dyn MetricStore>,
    traces: Arc<dyn TraceStore>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stores")
    }
}

impl Collector for Stores {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (tsdb, spans) = (self.metrics.stats(), self.traces.stats());
        for (name, help, value) in [
            ("pharos_tsdb_head_series", "Series with samples in the head", tsdb.head_series),
            ("pharos_tsdb_head_samples", "Samples in the head", tsdb.head_samples),
            ("pharos_tsdb_head_bytes", "Bytes of memory of the head, series included", tsdb.head_bytes),
            ("pharos_tsdb_log_bytes", "Bytes of log not yet in parts", tsdb.log_bytes),
            ("pharos_tsdb_parts", "Parts on disk", tsdb.parts),
            ("pharos_tsdb_part_bytes", "Bytes of parts on disk", tsdb.part_bytes),
            ("pharos_tsdb_part_samples", "Samples in parts", tsdb.part_samples),
            ("pharos_tsdb_tombstones", "Deletions whose samples are still on disk", tsdb.tombstones),
            ("pharos_tsdb_rollup_bytes", "Bytes of rollups of samples, in parts", tsdb.rollup_bytes),
            ("pharos_tsdb_read_only", "1 while the metrics store takes no writes", u64::from(tsdb.read_only)),
            ("pharos_tracestore_partitions", "Day partitions on disk", spans.partitions),
            ("pharos_tracestore_segments", "Sealed runs of spans on disk", spans.segments),
            ("pharos_tracestore_damaged_days", "Days of spans that are damaged", spans.damaged_days),
            ("pharos_tracestore_damaged_segments", "Runs of spans that merges cannot read", spans.damaged_segments),
            ("pharos_tracestore_damaged_places", "Places that reads of spans could not read", spans.damaged_places),
            ("pharos_tracestore_log_bytes", "Bytes of log not yet in partitions", spans.log_bytes),
            ("pharos_tracestore_row_bytes", "Bytes of span rows on disk", spans.row_bytes),
            ("pharos_tracestore_index_bytes", "Bytes of search index on disk", spans.index_bytes),
            ("pharos_tracestore_tail_spans", "Spans searched from memory", spans.tail_spans),
            ("pharos_tracestore_indexed_spans", "Spans in the search index", spans.indexed_spans),
            ("pharos_tracestore_read_only", "1 while the trace store takes no writes", u64::from(spans.read_only)),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        // Since the start. The encoder appends `_total`.
        for (name, help, value) in [
            ("pharos_tsdb_damage_met", "How often damaged files were met", tsdb.damage_met),
            ("pharos_tsdb_flush_failures", "Flushes that failed", tsdb.flush_failures),
            ("pharos_tsdb_merges", "Merges of parts", tsdb.merges),
            ("pharos_tsdb_merge_failures", "Merges that failed", tsdb.merge_failures),
            ("pharos_tsdb_merge_bytes_read", "Bytes read by merges", tsdb.merge_bytes_read),
            ("pharos_tsdb_merge_bytes_written", "Bytes written by merges", tsdb.merge_bytes_written),
            (
                "pharos_tsdb_merge_samples_copied",
                "Samples copied by merges without decoding",
                tsdb.merge_samples_copied,
            ),
            ("pharos_tsdb_rollup_cells_read", "Cells of rollups read in place of samples", tsdb.rollup_cells_read),
        ] {
            counter(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}
