//! What was sent, as `../README.md` specifies it: spans as OTLP/JSON, taken from the SDK on their way to
//! the exporter; metric series as Prometheus shows them, stated beside each instrument.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::{Value as Json, json};

pub(crate) const SCHEMA: &str = "pharos-example-reference/1";
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The labels of one series.
pub(crate) type Labels = BTreeMap<String, String>;

/// The spans that were delivered.
pub(crate) type Delivered = Arc<Mutex<Vec<SpanData>>>;

/// Keeps what it passes on.
#[derive(Debug)]
pub(crate) struct RecordingExporter<E> {
    inner: E,
    delivered: Delivered,
}

impl<E> RecordingExporter<E> {
    pub(crate) fn new(inner: E) -> (Self, Delivered) {
        let delivered = Delivered::default();
        (Self { inner, delivered: Arc::clone(&delivered) }, delivered)
    }
}

impl<E: SpanExporter> SpanExporter for RecordingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let copy = batch.clone();
        self.inner.export(batch).await?;
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).extend(copy);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Renders the spans of one resource and one scope.
pub(crate) fn resource_spans(resource: &Resource, scope: &InstrumentationScope, spans: &[SpanData]) -> Json {
    json!({
        "resource": { "attributes": resource.iter().map(|(key, value)| pair(key.as_str(), value)).collect::<Vec<_>>() },
        "schemaUrl": resource.schema_url().unwrap_or_default(),
        "scopeSpans": [{
            "scope": {
                "name": scope.name(),
                "version": scope.version().unwrap_or_default(),
                "attributes": attributes(scope.attributes()),
            },
            "schemaUrl": scope.schema_url().unwrap_or_default(),
            "spans": spans.iter().map(otlp_span).collect::<Vec<_>>(),
        }],
    })
}

fn otlp_span(span: &SpanData) -> Json {
    let context = &span.span_context;
    let parent = if span.parent_span_id == SpanId::INVALID { String::new() } else { span.parent_span_id.to_string() };
    let (code, message) = match &span.status {
        Status::Unset => (0, ""),
        Status::Ok => (1, ""),
        Status::Error { description } => (2, description.as_ref()),
    };
    json!({
        "traceId": context.trace_id().to_string(),
        "spanId": context.span_id().to_string(),
        "parentSpanId": parent,
        "traceState": context.trace_state().header(),
        "flags": flags(context, span.parent_span_is_remote),
        "name": span.name,
        "kind": kind(&span.span_kind),
        "startTimeUnixNano": unix_nano(span.start_time),
        "endTimeUnixNano": unix_nano(span.end_time),
        "attributes": attributes(&span.attributes),
        "events": span.events.iter().map(otlp_event).collect::<Vec<_>>(),
        "links": span.links.iter().map(otlp_link).collect::<Vec<_>>(),
        "droppedAttributesCount": span.dropped_attributes_count,
        "droppedEventsCount": span.events.dropped_count,
        "droppedLinksCount": span.links.dropped_count,
        "status": { "code": code, "message": message },
    })
}

fn otlp_event(event: &Event) -> Json {
    json!({
        "name": event.name,
        "timeUnixNano": unix_nano(event.timestamp),
        "attributes": attributes(&event.attributes),
        "droppedAttributesCount": event.dropped_attributes_count,
    })
}

fn otlp_link(link: &Link) -> Json {
    json!({
        "traceId": link.span_context.trace_id().to_string(),
        "spanId": link.span_context.span_id().to_string(),
        "traceState": link.span_context.trace_state().header(),
        "flags": flags(&link.span_context, link.span_context.is_remote()),
        "attributes": attributes(&link.attributes),
        "droppedAttributesCount": link.dropped_attributes_count,
    })
}

/// The W3C flags and, above them, whether the parent is known to be remote.
fn flags(context: &SpanContext, remote: bool) -> u32 {
    u32::from(context.trace_flags().to_u8()) | HAS_IS_REMOTE | if remote { IS_REMOTE } else { 0 }
}

fn kind(kind: &SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn attributes<'a>(from: impl IntoIterator<Item = &'a KeyValue>) -> Vec<Json> {
    from.into_iter().map(|attribute| pair(attribute.key.as_str(), &attribute.value)).collect()
}

fn pair(key: &str, value: &Value) -> Json {
    json!({ "key": key, "value": otlp_value(value) })
}

fn otlp_value(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::I64(value) => json!({ "intValue": value.to_string() }),
        Value::F64(value) => json!({ "doubleValue": value }),
        Value::String(value) => json!({ "stringValue": value.as_str() }),
        Value::Array(Array::Bool(values)) => otlp_array(values.iter().map(|&value| value.into())),
        Value::Array(Array::I64(values)) => otlp_array(values.iter().map(|&value| value.into())),
        Value::Array(Array::F64(values)) => otlp_array(values.iter().map(|&value| value.into())),
        Value::Array(Array::String(values)) => otlp_array(values.iter().map(|value| value.clone().into())),
        // The SDK may grow types; the comparison then says which one is missing here.
        other => json!({ "unknown": other.to_string() }),
    }
}

fn otlp_array(values: impl Iterator<Item = Value>) -> Json {
    json!({ "arrayValue": { "values": values.map(|value| otlp_value(&value)).collect::<Vec<_>>() } })
}

/// Nanoseconds since 1970, in decimal.
pub(crate) fn unix_nano(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
