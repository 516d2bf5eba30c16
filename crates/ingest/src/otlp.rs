//! OTLP: metrics by Prometheus' rules, traces in full.
//!
//! Both encodings lead to one translation: JSON is turned into the protobuf wire form first. Metrics and usual spans are
//! translated from the wire, metrics with a memory of what came before; unusual spans are decoded into messages.

#[cfg(test)]
mod agreement;
mod attribute;
mod attributes;
mod booked;
mod delta;
#[cfg(test)]
mod duties;
mod exemplars;
mod footprint;
mod group;
mod json;
mod known;
mod known_group;
mod label_sets;
mod labels;
mod message;
mod metric_fields;
mod metrics;
mod names;
mod point_fields;
mod point_rules;
mod points;
#[cfg(test)]
mod reference;
mod settings;
mod shape;
#[cfg(test)]
mod span_agreement;
mod stream_pass;
mod streams;
mod target_info;
mod trace_json;
mod trace_messages;
mod traces;
mod usual_span;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use pharos_model::{LabelRewrite, TenantId};

use crate::sink::beyond_memory;
use crate::wire::WireError;
use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};
use delta::{DeltaPass, DeltaStreams};
use json::JsonError;
use known::Known;
use metrics::Rules;

pub use settings::{DeltaMode, OtlpSettings, TranslationStrategy};
pub use trace_json::Otlp;
pub use trace_messages::each_message;
pub use traces::DecodedSpans;

/// How an OTLP message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireForm {
    /// Protobuf.
    Protobuf,
    /// OTLP/JSON: protobuf's JSON mapping, but ids are hexadecimal and enumerations numbers.
    Json,
}

impl WireForm {
    /// Its number where requests are written down; never another one's.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Protobuf => 0,
            Self::Json => 1,
        }
    }

    /// The form of a number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Protobuf, Self::Json].into_iter().find(|form| form.number() == number)
    }
}

const MINUTE_MS: i64 = 60_000;
const METRICS_REQUEST: &str = "ExportMetricsServiceRequest";
const TRACES_REQUEST: &str = "ExportTraceServiceRequest";

/// Translates metrics requests, and remembers what it met.
#[derive(Debug)]
pub struct MetricsDecoder {
    settings: OtlpSettings,
    limits: Limits,
    known: Known,
    /// Where deltas are added up.
    deltas: Option<DeltaStreams>,
    lookback_ms: i64,
    /// How often attributes met others under one label.
    joined: AtomicU64,
}

impl MetricsDecoder {
    /// A decoder by these rules. What it remembers is bounded by [`Limits::otlp_streams_memory_max`].
    #[must_use]
    pub fn new(settings: OtlpSettings, limits: Limits) -> Self {
        let deltas = (settings.delta == DeltaMode::Convert).then(|| DeltaStreams::new(&settings));
        let known = Known::new(limits.otlp_streams_memory_max);
        let joined = AtomicU64::new(0);
        Self { known, deltas, lookback_ms: target_info::LOOKBACK_MS, settings, limits, joined }
    }

    /// The same, where queries look back so far: `target_info` has two samples in it.
    #[must_use]
    pub fn with_lookback_ms(mut self, lookback_ms: i64) -> Self {
        self.lookback_ms = lookback_ms;
        self
    }

    /// Delta streams that are added up and what they take, bytes: all tenants together.
    #[must_use]
    pub fn delta_streams(&self) -> (u64, u64) {
        self.deltas.as_ref().map_or((0, 0), DeltaStreams::size)
    }

    /// How often an attribute met another under one label so that their values were joined: counted as label sets are made, which is
    /// once for each that is remembered.
    #[must_use]
    pub fn joined_attributes(&self) -> u64 {
        self.joined.load(Ordering::Relaxed)
    }

    /// Memory of what was met, bytes: all tenants together.
    #[must_use]
    pub fn known_bytes(&self) -> u64 {
        self.known.memory_bytes()
    }

    /// Translates an inflated metrics request of this tenant at this moment, Unix milliseconds.
    ///
    /// Deltas count from here on, stored or not: a request that is refused behind this and comes again is translated to
    /// the same samples.
    ///
    /// # Errors
    /// - [`IngestError::Decode`]: the bytes are no such message.
    /// - [`IngestError::BatchTooLarge`]: the message or its labels grow beyond their limit.
    pub fn decode(
        &self,
        tenant: &TenantId,
        (body, form): (&[u8], WireForm),
        window: TimeWindow,
        now_ms: i64,
    ) -> Result<DecodedMetrics, IngestError> {
        self.decode_labelled((tenant, None), (body, form), window, now_ms)
    }

    /// The same, for a sender whose credential sets `labels` on the series afterwards: deltas that only these tell apart are
    /// added up apart.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_labelled(
        &self,
        (tenant, labels): (&TenantId, Option<&LabelRewrite>),
        (body, form): (&[u8], WireForm),
        window: TimeWindow,
        now_ms: i64,
    ) -> Result<DecodedMetrics, IngestError> {
        let Self { settings, limits, known, deltas, lookback_ms, joined } = self;
        let wire = wire_bytes(body, form, &json::METRICS_REQUEST, METRICS_REQUEST, limits)?;
        let now_minute = (now_ms / MINUTE_MS) as u32;
        let known = known.of(tenant, now_minute);
        let rules = Rules { settings, limits, window, known: &known, now_minute, lookback_ms: *lookback_ms, joined };
        let streams = deltas.as_ref().map(|deltas| deltas.of(tenant, now_ms));
        let deltas =
            streams.as_deref().map(|streams| DeltaPass::new(streams, labels.map_or(0, LabelRewrite::digest), now_ms));
        metrics::translate(&wire, bytes_taken(&wire, form), rules, deltas)
            .map_err(|failure| failure.of(METRICS_REQUEST))
    }
}

/// Why a request cannot be translated.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl Failure {
    /// What is told of a request of this name.
    fn of(self, message_name: &'static str) -> IngestError {
        match self {
            Self::Wire(error) => damaged(message_name, &error),
            Self::Message(error) => damaged(message_name, &error),
            Self::Ingest(error) => error,
        }
    }
}

/// Translates an inflated trace request.
///
/// # Errors
/// - [`IngestError::Decode`]: the bytes are no such message.
/// - [`IngestError::BatchTooLarge`]: the message grows beyond its limit.
pub fn decode_traces(body: &[u8], form: WireForm, limits: &Limits) -> Result<DecodedSpans, IngestError> {
    let wire = wire_bytes(body, form, &json::TRACES_REQUEST, TRACES_REQUEST, limits)?;
    traces::translate(&wire, bytes_taken(&wire, form), limits).map_err(|failure| failure.of(TRACES_REQUEST))
}

fn wire_bytes<'a>(
    body: &'a [u8],
    form: WireForm,
    schema: &'static json::MessageSchema,
    name: &'static str,
    limits: &Limits,
) -> Result<Cow<'a, [u8]>, IngestError> {
    match form {
        WireForm::Protobuf => Ok(Cow::Borrowed(body)),
        WireForm::Json => {
            let wire = json::to_wire(body, schema, limits.nesting_max, limits.decoded_max.0);
            wire.map(Cow::Owned).map_err(|error| match error {
                JsonError::TooLong => beyond_memory(limits),
                JsonError::Text(error) => damaged(name, &error),
            })
        }
    }
}

/// What a message takes beside the body that it came in.
fn bytes_taken(wire: &[u8], form: WireForm) -> usize {
    match form {
        WireForm::Protobuf => 0,
        WireForm::Json => wire.len(),
    }
}

fn damaged(message_name: &'static str, error: &dyn std::fmt::Display) -> IngestError {
    IngestError::Decode { message_name, message: error.to_string() }
}

#[cfg(test)]
mod tests;
