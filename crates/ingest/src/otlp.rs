//! OTLP: metrics by Prometheus' rules, traces in full.
//!
//! Both encodings lead to one translation: JSON is turned into the protobuf wire form first.

mod attributes;
mod footprint;
mod json;
mod labels;
mod metrics;
mod names;
mod points;
mod settings;
mod target_info;
mod traces;

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};

pub use settings::{OtlpSettings, TranslationStrategy};
pub use traces::DecodedSpans;

/// How an OTLP message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WireForm {
    /// Protobuf.
    Protobuf,
    /// OTLP/JSON: protobuf's JSON mapping, but ids are hexadecimal and enumerations numbers.
    Json,
}

const METRICS_REQUEST: &str = "ExportMetricsServiceRequest";
const TRACES_REQUEST: &str = "ExportTraceServiceRequest";

/// Translates an inflated metrics request.
///
/// # Errors
/// - [`IngestError::Decode`]: the bytes are no such message.
/// - [`IngestError::BatchTooLarge`]: the message or its labels grow beyond their limit.
pub fn decode_metrics(
    body: &[u8],
    form: WireForm,
    settings: &OtlpSettings,
    limits: &Limits,
    window: TimeWindow,
) -> Result<DecodedMetrics, IngestError> {
    let wire = wire_bytes(body, form, &json::METRICS_REQUEST, METRICS_REQUEST, limits)?;
    let request = ExportMetricsServiceRequest::decode(&*wire).map_err(|error| damaged(METRICS_REQUEST, &error))?;
    metrics::translate(&request, settings, limits, window)
}

/// Translates an inflated trace request.
///
/// # Errors
/// - [`IngestError::Decode`]: the bytes are no such message.
/// - [`IngestError::BatchTooLarge`]: the message grows beyond its limit.
pub fn decode_traces(body: &[u8], form: WireForm, limits: &Limits) -> Result<DecodedSpans, IngestError> {
    let wire = wire_bytes(body, form, &json::TRACES_REQUEST, TRACES_REQUEST, limits)?;
    let request = ExportTraceServiceRequest::decode(&*wire).map_err(|error| damaged(TRACES_REQUEST, &error))?;
    Ok(traces::translate(request, limits))
}

fn wire_bytes<'a>(
    body: &'a [u8],
    form: WireForm,
    schema: &'static json::MessageSchema,
    name: &'static str,
    limits: &Limits,
) -> Result<Cow<'a, [u8]>, IngestError> {
    let wire = match form {
        WireForm::Protobuf => Cow::Borrowed(body),
        WireForm::Json => {
            Cow::Owned(json::to_wire(body, schema, limits.nesting_max).map_err(|error| damaged(name, &error))?)
        }
    };
    footprint::check(&wire, schema, limits.decoded_max)?;
    Ok(wire)
}

fn damaged(message_name: &'static str, error: &dyn std::fmt::Display) -> IngestError {
    IngestError::Decode { message_name, message: error.to_string() }
}

#[cfg(test)]
mod tests;
