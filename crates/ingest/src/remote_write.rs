//! Prometheus remote write, from bytes to a batch in one pass.
//!
//! The reader borrows from the body, samples go straight into the batch's columns. Labels that a sender named before
//! are recognised by [`SeriesMemory`], others are brought into canonical form. Nothing is allocated for a known series
//! or a sample, exemplars and histograms apart.
//! Decoding is all or nothing (damaged bytes refuse the request); what breaks a rule or a limit is
//! refused by itself, and the rest is kept.

mod canonical;
mod framed;
mod histogram;
mod memory;
mod symbols;
mod v1;
mod v2;

pub(crate) use memory::SeriesMemories;
pub use memory::SeriesMemory;
use pharos_model::MetricKind;
use serde::{Deserialize, Serialize};

use crate::wire::{Reader, WireError};
use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};

/// The version of the protocol, which the content type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoteWriteVersion {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl RemoteWriteVersion {
    /// The message's full name.
    #[must_use]
    pub fn message_name(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

/// What remote write does beside storing; 1.0 tells neither types nor starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteWriteSettings {
    /// Whether series of 2.0 get their type and unit as `__type__` and `__unit__`, in place of what the sender says. Default
    /// no.
    pub type_and_unit_labels: bool,
    /// Whether series of 2.0 get a zero where they start, so that PromQL sees their first increase. Default no.
    pub created_zero: bool,
}

/// What translation goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// What it does beside.
    pub settings: &'a RemoteWriteSettings,
    /// What a request may hold.
    pub limits: &'a Limits,
    /// Where samples may lie.
    pub window: TimeWindow,
}

/// Translates an inflated body; what is remembered of others makes it quick, and changes nothing that comes out.
///
/// # Errors
/// - [`IngestError::Decode`]: the bytes are no such message.
/// - [`IngestError::BatchTooLarge`]: the labels, or all the rest, grow beyond their limit.
pub fn decode(
    body: &[u8],
    version: RemoteWriteVersion,
    rules: Rules<'_>,
    memory: &SeriesMemory,
) -> Result<DecodedMetrics, IngestError> {
    let decoded = match version {
        RemoteWriteVersion::V1 => v1::decode(body, rules.limits, rules.window, memory),
        RemoteWriteVersion::V2 => v2::decode(body, rules, memory),
    };
    decoded.map_err(|error| match error {
        DecodeError::Wire(error) => {
            IngestError::Decode { message_name: version.message_name(), message: error.to_string() }
        }
        DecodeError::Ingest(error) => error,
    })
}

#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// How many fields of this number a message has, as far as it is sound.
#[cold]
fn field_count(message: &[u8], number: u32) -> u64 {
    let mut reader = Reader::new(message);
    let fields = std::iter::from_fn(|| reader.next().ok().flatten());
    fields.filter(|field| field.number == number).count() as u64
}

/// A metric type; both versions number them alike.
fn metric_kind(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}

#[cfg(test)]
mod tests;
