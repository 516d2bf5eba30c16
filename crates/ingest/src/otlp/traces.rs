//! OTLP traces to spans: everything is kept, nothing renamed; spans without valid ids are refused.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link as OtlpLink};
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, Status};
use pharos_model::{
    Link, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, SpanKind, SpanStatus, StatusCode, TraceId,
};
use pharos_storage::{AppendOutcome, RejectReason, Rejection};

use super::WireForm;
use super::attributes::{TooDeep, model};
use crate::Limits;
use crate::limits::cut;
use crate::sink::Refusal;

/// A translated trace request: what to store, and what of it was refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecodedSpans {
    /// What to store.
    pub batch: SpanBatch,
    /// What is refused, by reason; counted in spans.
    pub rejections: Vec<Rejection>,
    /// The request as it came, for a gate that writes it down; `None` where there is none.
    pub request: Option<(WireForm, Bytes)>,
}

impl DecodedSpans {
    /// Leaves out the spans that `keep` does not want; what a gate writes down says the same.
    pub fn keep_spans(&mut self, mut keep: impl FnMut(&Span) -> bool) {
        let mut has_refused = false;
        for group in &mut self.batch.groups {
            let before = group.spans.len();
            group.spans.retain(&mut keep);
            has_refused |= group.spans.len() < before;
        }
        if !has_refused {
            return;
        }
        self.batch.groups.retain(|group| !group.spans.is_empty());
        if let Some(request) = &mut self.request {
            *request = (WireForm::Protobuf, crate::relabel::request_of(&self.batch));
        }
    }
}

/// Translates a request; texts and attributes are moved, not copied.
pub(super) fn translate(request: ExportTraceServiceRequest, limits: &Limits) -> DecodedSpans {
    let (mut batch, mut refused) = (SpanBatch::default(), AppendOutcome::default());
    for message in request.resource_spans {
        let resource = resource(message.resource.unwrap_or_default(), message.schema_url, limits).map(Arc::new);
        for message in message.scope_spans {
            let scope = scope(message.scope.unwrap_or_default(), message.schema_url, limits).map(Arc::new);
            match (&resource, scope) {
                (Ok(resource), Ok(scope)) => {
                    let spans = spans(message.spans, limits, &mut refused);
                    if !spans.is_empty() {
                        batch.groups.push(SpanGroup { resource: Arc::clone(resource), scope, spans });
                    }
                }
                (Err(refusal), _) => reject(&mut refused, message.spans.len() as u64, refusal.clone()),
                (_, Err(refusal)) => reject(&mut refused, message.spans.len() as u64, refusal),
            }
        }
    }
    DecodedSpans { batch, rejections: refused.rejections, request: None }
}

fn reject(refused: &mut AppendOutcome, count: u64, refusal: Refusal) {
    if count > 0 {
        refused.reject(refusal.reason, count, || refusal.message);
    }
}

fn spans(messages: Vec<OtlpSpan>, limits: &Limits, refused: &mut AppendOutcome) -> Vec<Span> {
    let mut spans = Vec::with_capacity(messages.len());
    for message in messages {
        match span(message, limits) {
            Ok(span) => spans.push(span),
            Err(refusal) => reject(refused, 1, refusal),
        }
    }
    spans
}

fn resource(message: OtlpResource, schema_url: String, limits: &Limits) -> Result<Resource, Refusal> {
    Ok(Resource {
        attributes: attributes(message.attributes, "resource", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
        schema_url,
    })
}

fn scope(message: InstrumentationScope, schema_url: String, limits: &Limits) -> Result<Scope, Refusal> {
    Ok(Scope {
        name: message.name,
        version: message.version,
        attributes: attributes(message.attributes, "scope", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
        schema_url,
    })
}

fn span(message: OtlpSpan, limits: &Limits) -> Result<Span, Refusal> {
    let about = |what: &str| format!("{what} of span {:?}", cut(&message.name, 128));
    let invalid = |message: String| Refusal { reason: RejectReason::InvalidSpan, message };
    let trace_id = trace_id(&message.trace_id).filter(|id| !id.is_zero());
    let span_id = span_id(&message.span_id).filter(|id| !id.is_zero());
    let (Some(trace_id), Some(span_id)) = (trace_id, span_id) else {
        let what = format!(
            "ids ({} and {} bytes, must be 16 and 8 and not all zero)",
            message.trace_id.len(),
            message.span_id.len()
        );
        return Err(invalid(about(&what)));
    };
    let parent_span_id = match message.parent_span_id.as_slice() {
        [] => SpanId::default(),
        bytes => self::span_id(bytes).ok_or_else(|| invalid(about("parent id (must be 8 bytes)")))?,
    };
    check_count("events", message.events.len(), ("span_events_max", limits.span_events_max))?;
    check_count("links", message.links.len(), ("span_links_max", limits.span_links_max))?;
    check_attributes(&message, limits)?;
    let links = message.links.into_iter().map(|message| link(message, limits)).collect::<Result<_, _>>()?;
    let events = message.events.into_iter().map(|message| event(message, limits)).collect::<Result<_, _>>()?;
    Ok(Span {
        trace_id,
        span_id,
        trace_state: message.trace_state,
        parent_span_id,
        flags: message.flags,
        name: message.name,
        kind: span_kind(message.kind),
        start_ns: message.start_time_unix_nano,
        end_ns: message.end_time_unix_nano,
        attributes: attributes(message.attributes, "span", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
        events,
        dropped_events_count: message.dropped_events_count,
        links,
        dropped_links_count: message.dropped_links_count,
        status: message.status.map(status).unwrap_or_default(),
    })
}

fn event(message: Event, limits: &Limits) -> Result<SpanEvent, Refusal> {
    Ok(SpanEvent {
        time_ns: message.time_unix_nano,
        name: message.name,
        attributes: attributes(message.attributes, "event", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
    })
}

/// A link may point nowhere (some SDKs send such), but what it has must be an id.
fn link(message: OtlpLink, limits: &Limits) -> Result<Link, Refusal> {
    let trace_id = if message.trace_id.is_empty() { Some(TraceId::default()) } else { trace_id(&message.trace_id) };
    let span_id = if message.span_id.is_empty() { Some(SpanId::default()) } else { span_id(&message.span_id) };
    let (Some(trace_id), Some(span_id)) = (trace_id, span_id) else {
        let message = "ids of a link (must be 16 and 8 bytes)".to_owned();
        return Err(Refusal { reason: RejectReason::InvalidSpan, message });
    };
    Ok(Link {
        trace_id,
        span_id,
        trace_state: message.trace_state,
        attributes: attributes(message.attributes, "link", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
        flags: message.flags,
    })
}

fn attributes(
    messages: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>,
    of: &str,
    limits: &Limits,
) -> Result<pharos_model::Attributes, Refusal> {
    check_count("attributes", messages.len(), ("span_items_max", limits.span_items_max))?;
    let value_bytes_max = usize::try_from(limits.span_value_bytes_max.0).unwrap_or(usize::MAX);
    if let Some(long) = messages.iter().find(|attribute| value_bytes(attribute.value.as_ref()) > value_bytes_max) {
        let message = format!(
            "{of} attribute {:?} has a value of {} bytes, more than ingest.limits.span_value_bytes_max = {value_bytes_max}",
            cut(&long.key, 128),
            value_bytes(long.value.as_ref())
        );
        return Err(Refusal { reason: RejectReason::Limit, message });
    }
    model(messages, limits.nesting_max).map_err(|TooDeep| Refusal {
        reason: RejectReason::Limit,
        message: format!("{of} attribute nests deeper than ingest.limits.nesting_max = {}", limits.nesting_max),
    })
}

/// Bytes of all that is in a value, as senders count them: numbers are eight. It nests no deeper than messages do.
fn value_bytes(value: Option<&AnyValue>) -> usize {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => 0,
        Some(Value::StringValue(text)) => text.len(),
        Some(Value::BytesValue(bytes)) => bytes.len(),
        Some(Value::BoolValue(_)) => 1,
        Some(Value::IntValue(_) | Value::DoubleValue(_)) => 8,
        Some(Value::ArrayValue(array)) => array.values.iter().map(|value| value_bytes(Some(value))).sum(),
        Some(Value::KvlistValue(list)) => {
            list.values.iter().map(|pair| pair.key.len() + value_bytes(pair.value.as_ref())).sum()
        }
    }
}

fn check_count(what: &str, count: usize, (name, limit): (&str, usize)) -> Result<(), Refusal> {
    if count <= limit {
        return Ok(());
    }
    let message = format!("{count} {what}, more than ingest.limits.{name} = {limit}");
    Err(Refusal { reason: RejectReason::Limit, message })
}

/// A store keeps a column for each key.
fn check_attributes(message: &OtlpSpan, limits: &Limits) -> Result<(), Refusal> {
    let of_events = message.events.iter().map(|event| event.attributes.len());
    let of_links = message.links.iter().map(|link| link.attributes.len());
    let count = message.attributes.len() + of_events.chain(of_links).sum::<usize>();
    if count <= limits.span_attributes_max {
        return Ok(());
    }
    let message = format!(
        "{count} attributes of a span, its events and links, more than ingest.limits.span_attributes_max = {}",
        limits.span_attributes_max
    );
    Err(Refusal { reason: RejectReason::Limit, message })
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    bytes.try_into().ok().map(TraceId)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    bytes.try_into().ok().map(SpanId)
}

/// Numbers that OpenTelemetry has not given a meaning say nothing.
fn span_kind(number: i32) -> SpanKind {
    match number {
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn status(message: Status) -> SpanStatus {
    let code = match message.code {
        1 => StatusCode::Ok,
        2 => StatusCode::Error,
        _ => StatusCode::Unset,
    };
    SpanStatus { code, message: message.message }
}
