//! The way in, past the doors: inflate, decode, validate, append.
//!
//! The first three are pure and belong on a thread that may be busy; the last hands out a future.
//! Nothing here knows of HTTP or gRPC, waits for a store or starts a thread.

use std::sync::Arc;

use bytes::Bytes;
use pharos_base::{ByteSize, Clock, HumanDuration};
use pharos_model::{LabelRewrite, TenantId};
use pharos_storage::{BatchId, Completion, MetricStore, SpanGate, SpanRequest, SpanTap, StorageError, TraceStore};

use crate::ha::{HaTracker, Verdict};
use crate::inflate::ScratchPool;
use crate::otlp::{DecodedSpans, MetricsDecoder, OtlpSettings, WireForm};
use crate::relabel::{self, RewriteMemories};
use crate::remote_write::{RemoteWriteSettings, RemoteWriteVersion, SeriesMemories};
use crate::report::{IngestReport, PendingReport};
use crate::starts::StartMemory;
use crate::{
    DecodedMetrics, Encoding, HaRules, HaSettings, HaStats, IngestError, Limits, TimeWindow, inflate, otlp,
    remote_write,
};

const MINUTE_MS: i64 = 60_000;

/// What an [`Ingestor`] is made of.
#[derive(Clone)]
pub struct IngestComponents {
    /// Where metrics go.
    pub metrics: Arc<dyn MetricStore>,
    /// Where spans go.
    pub traces: Arc<dyn TraceStore>,
    /// What "now" is.
    pub clock: Arc<dyn Clock>,
    /// Samples older than this are refused; `None` where samples are kept for ever.
    pub metrics_retention: Option<HumanDuration>,
}

/// Settings of ingest.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// What a request may hold.
    pub limits: Limits,
    /// How OTLP becomes Prometheus' names and labels.
    pub otlp: OtlpSettings,
    /// What remote write does beside storing.
    pub remote_write: RemoteWriteSettings,
    /// Pairs of senders of remote write that bring the same.
    pub ha: HaSettings,
}

/// Sizes of what an [`Ingestor`] remembers of requests that are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// Memory of known OTLP metric streams, bytes: at most [`Limits::otlp_streams_memory_max`].
    pub otlp_streams_bytes: u64,
    /// Memory of series that came by remote write, bytes: at most [`Limits::remote_write_memory_max`].
    pub remote_write_bytes: u64,
    /// How many these are.
    pub remote_write_series: u64,
    /// OTLP delta streams that are added up: at most [`OtlpSettings::delta_streams_max`] of each tenant.
    pub delta_streams: u64,
    /// What these take, bytes: at most [`OtlpSettings::delta_memory_max`] of each tenant.
    pub delta_bytes: u64,
    /// Memory of label sets that credentials or pairs have rewritten, bytes: at most [`Limits::remote_write_memory_max`], too.
    pub rewritten_bytes: u64,
    /// Series whose starts are remembered: at most [`Limits::start_series_max`] of each tenant.
    pub start_series: u64,
}

/// Takes request bodies and brings what is in them to the stores.
pub struct Ingestor {
    components: IngestComponents,
    settings: IngestSettings,
    otlp_metrics: MetricsDecoder,
    /// They serve one set of limits.
    memories: SeriesMemories,
    rewritten: RewriteMemories,
    ha: HaTracker,
    starts: StartMemory,
    scratch: ScratchPool,
    span_tap: Option<Arc<dyn SpanTap>>,
    span_gate: Option<Arc<dyn SpanGate>>,
}

impl std::fmt::Debug for Ingestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingestor").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ingestor {
    /// An ingestor on these stores.
    #[must_use]
    pub fn new(components: IngestComponents, settings: IngestSettings) -> Self {
        let otlp_metrics = MetricsDecoder::new(settings.otlp.clone(), settings.limits.clone());
        let memories = SeriesMemories::new(settings.limits.remote_write_memory_max);
        let rewritten = RewriteMemories::new(settings.limits.remote_write_memory_max);
        let starts = StartMemory::new(settings.limits.start_series_max, components.clock.unix_ms());
        let ha = HaTracker::new(Arc::new(HaRules::new(&settings.ha, [])));
        let scratch = ScratchPool::default();
        let (span_tap, span_gate) = (None, None);
        Self { components, settings, otlp_metrics, memories, rewritten, ha, starts, scratch, span_tap, span_gate }
    }

    /// The same, showing all spans to `tap` on their way to the store.
    #[must_use]
    pub fn with_span_tap(mut self, tap: Arc<dyn SpanTap>) -> Self {
        self.span_tap = Some(tap);
        self
    }

    /// The same, handing spans to `gate` in place of the trace store.
    #[must_use]
    pub fn with_span_gate(mut self, gate: Arc<dyn SpanGate>) -> Self {
        self.span_gate = Some(gate);
        self
    }

    /// The same, with rules of single tenants for pairs of senders, which may be reloaded.
    #[must_use]
    pub fn with_ha_rules(mut self, rules: Arc<HaRules>) -> Self {
        self.ha = HaTracker::new(rules);
        self
    }

    /// The same, where queries look back so far.
    #[must_use]
    pub fn with_lookback(mut self, lookback: HumanDuration) -> Self {
        self.otlp_metrics = self.otlp_metrics.with_lookback_ms(lookback.as_ms());
        self
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &IngestSettings {
        &self.settings
    }

    /// What the time is, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.components.clock.unix_ms()
    }

    fn now_minute(&self) -> u32 {
        (self.now_ms() / MINUTE_MS) as u32
    }

    /// Where a sample's timestamp may lie now.
    #[must_use]
    pub fn window(&self) -> TimeWindow {
        let now_ms = self.components.clock.unix_ms();
        let past = self.components.metrics_retention.map(|retention| now_ms.saturating_sub(retention.as_ms()));
        TimeWindow {
            min_ms: past.unwrap_or(i64::MIN),
            max_ms: now_ms.saturating_add(self.settings.limits.future_max.as_ms()),
        }
    }

    /// What is remembered of requests that are done.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        let (delta_streams, delta_bytes) = self.otlp_metrics.delta_streams();
        Remembered {
            delta_streams,
            delta_bytes,
            otlp_streams_bytes: self.otlp_metrics.known_bytes(),
            remote_write_bytes: self.memories.memory_bytes(),
            remote_write_series: self.memories.series_count() as u64,
            rewritten_bytes: self.rewritten.memory_bytes(),
            start_series: self.starts.series_count(),
        }
    }

    /// Inflates (to `body_max` at most: that of the tenant) and translates a remote write body of a tenant. Without an encoding it is snappy,
    /// or else plain; snappy and zstd may be declared as one another. Busy: not for an async worker.
    ///
    /// # Errors
    /// [`IngestError::BodyTooLarge`], [`IngestError::BatchTooLarge`], [`IngestError::Inflate`], [`IngestError::Decode`].
    pub fn decode_remote_write(
        &self,
        tenant: &TenantId,
        body: Bytes,
        encoding: Option<Encoding>,
        version: RemoteWriteVersion,
        body_max: ByteSize,
    ) -> Result<DecodedMetrics, IngestError> {
        let IngestSettings { limits, remote_write: settings, .. } = &self.settings;
        let known = self.memories.of(tenant, self.now_minute());
        self.scratch.lend(|scratch| {
            let plain = inflate::inflate_remote_write(body, encoding, body_max, scratch)?;
            let rules = remote_write::Rules { settings, limits, window: self.window() };
            remote_write::decode(&plain, version, rules, &known)
        })
    }

    /// Inflates and translates an `ExportMetricsServiceRequest` for a tenant, of a sender whose credential sets labels. Busy: not for an async worker.
    ///
    /// # Errors
    /// As [`decode_remote_write`](Self::decode_remote_write).
    pub fn decode_otlp_metrics(
        &self,
        sender: (&TenantId, Option<&LabelRewrite>),
        body: Bytes,
        encoding: Encoding,
        form: WireForm,
        body_max: ByteSize,
    ) -> Result<DecodedMetrics, IngestError> {
        let plain = inflate::inflate(body, encoding, body_max)?;
        self.otlp_metrics.decode_labelled(sender, (&plain, form), self.window(), self.now_ms())
    }

    /// Inflates and translates an `ExportTraceServiceRequest`. Busy: not for an async worker.
    ///
    /// # Errors
    /// As [`decode_remote_write`](Self::decode_remote_write).
    pub fn decode_otlp_traces(
        &self,
        body: Bytes,
        encoding: Encoding,
        form: WireForm,
        body_max: ByteSize,
    ) -> Result<DecodedSpans, IngestError> {
        let plain = inflate::inflate(body, encoding, body_max)?;
        let mut decoded = otlp::decode_traces(&plain, form, &self.settings.limits)?;
        decoded.request = self.span_gate.is_some().then_some((form, plain));
        Ok(decoded)
    }

    /// Sets labels on every series of a tenant, whatever its sender said.
    pub fn label_metrics(&self, tenant: &TenantId, decoded: &mut DecodedMetrics, labels: Option<&Arc<LabelRewrite>>) {
        if let Some(labels) = labels {
            self.rewritten.of(tenant, self.now_minute()).rewrite(&mut decoded.batch, |_| Some(labels));
        }
    }

    /// Sets attributes on the resource of every span, whatever its sender said.
    pub fn label_spans(&self, decoded: &mut DecodedSpans, labels: Option<&Arc<LabelRewrite>>) {
        let Some(labels) = labels else { return };
        relabel::set_on_spans(&mut decoded.batch, labels);
        if let Some(request) = &mut decoded.request {
            // What a gate writes down must say the same.
            *request = (WireForm::Protobuf, relabel::request_of(&decoded.batch));
        }
    }

    /// How often attributes of OTLP metrics met others under one label: see [`MetricsDecoder::joined_attributes`].
    #[must_use]
    pub fn otlp_joined_attributes(&self) -> u64 {
        self.otlp_metrics.joined_attributes()
    }

    /// What became of the pairs of senders.
    #[must_use]
    pub fn ha_stats(&self) -> HaStats {
        self.ha.stats()
    }

    /// Makes of samples that came by remote write what is to be stored: with the labels of their sender's credential, without those
    /// of another replica than the elected one (see [`HaSettings`]). What is limited or counted is what is left.
    pub fn elect_and_label(&self, tenant: &TenantId, decoded: &mut DecodedMetrics, labels: Option<&Arc<LabelRewrite>>) {
        let settings = self.ha.settings(tenant);
        let Some(replica_label) = settings.replica() else { return self.label_metrics(tenant, decoded, labels) };
        let now = self.components.clock.monotonic();
        let verdicts = self.ha.judge((tenant, &settings), &decoded.batch, labels.map(AsRef::as_ref), now);
        let set = labels.map_or(&[][..], |labels| labels.set());
        let of_pairs = LabelRewrite::new(set, Some(replica_label)).map(Arc::new);
        let rewritten = self.rewritten.of(tenant, self.now_minute());
        rewritten.rewrite(&mut decoded.batch, |place| match verdicts[place] {
            Verdict::Single => labels,
            Verdict::Elected => of_pairs.as_ref(),
            Verdict::Duplicate | Verdict::OneTooMany => None,
        });
        decoded.duplicates = self.ha.leave_out(&settings, &verdicts, decoded);
    }

    /// Whether the metrics store asks writers to wait: see [`MetricStore::is_busy`].
    #[must_use]
    pub fn is_metrics_busy(&self) -> bool {
        self.components.metrics.is_busy()
    }

    /// Whether the trace store asks writers to wait: see [`TraceStore::is_busy`].
    #[must_use]
    pub fn is_traces_busy(&self) -> bool {
        self.components.traces.is_busy()
    }

    /// Whether the metrics store takes samples of this tenant: asked before anything is read for it.
    ///
    /// # Errors
    /// As [`MetricStore::admits`].
    pub fn admits_metrics(&self, tenant: &TenantId) -> Result<(), StorageError> {
        self.components.metrics.admits(tenant)
    }

    /// Whether the trace store takes spans of this tenant: asked before anything is read for it.
    ///
    /// # Errors
    /// As [`TraceStore::admits`].
    pub fn admits_spans(&self, tenant: &TenantId) -> Result<(), StorageError> {
        self.components.traces.admits(tenant)
    }

    /// Hands samples to the store, with zeros where counters start if the settings ask for them.
    pub fn append_metrics(&self, tenant: &TenantId, mut decoded: DecodedMetrics) -> PendingReport {
        let zeros = self.starts.add_zeros(tenant, &mut decoded, self.window().min_ms, self.now_ms());
        let DecodedMetrics { batch, rejections, exemplars_dropped, warnings, duplicates, .. } = decoded;
        let ahead = IngestReport { exemplars_dropped, duplicates, rejections, warnings, ..IngestReport::default() };
        let completion = if batch.is_empty() {
            Completion::ready(Ok(pharos_storage::AppendOutcome::default()))
        } else {
            self.components.metrics.append(tenant, batch, BatchId::random())
        };
        PendingReport::new(completion, ahead).with_zeros(zeros)
    }

    /// Hands spans to the store.
    pub fn append_spans(&self, tenant: &TenantId, decoded: DecodedSpans) -> PendingReport {
        let DecodedSpans { batch, rejections, request } = decoded;
        let ahead = IngestReport { rejections, ..IngestReport::default() };
        if batch.is_empty() {
            return PendingReport::new(Completion::ready(Ok(pharos_storage::AppendOutcome::default())), ahead);
        }
        let noticed = self.span_tap.as_ref().map(|tap| tap.notice(tenant, &batch));
        let completion = match (&self.span_gate, &request) {
            (Some(gate), Some((form, body))) => {
                gate.append(tenant, batch, SpanRequest { form: form.number(), body: body.as_ref() })
            }
            _ => self.components.traces.append(tenant, batch, BatchId::random()),
        };
        PendingReport::new(completion, ahead).with_noticed(noticed)
    }
}
