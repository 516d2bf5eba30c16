//! OTLP traces to spans: everything is kept, nothing renamed; spans without valid ids are refused.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link as OtlpLink};
use opentelemetry_proto::tonic::trace::v1::{Span as OtlpSpan, Status};
use pharos_model::{
    Link, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, SpanKind, SpanStatus, StatusCode, TraceId,
};
use pharos_storage::{AppendOutcome, RejectReason, Rejection};
use prost::Message;

use super::attributes::{TooDeep, model};
use super::footprint::Footprint;
use super::json::{RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN};
use super::message::{METRIC_NESTING, Merged, RESOURCE_NESTING};
use super::usual_span::{Hints, usual_span};
use super::{Failure, WireForm};
use crate::Limits;
use crate::limits::cut;
use crate::sink::Refusal;
use crate::wire::Reader;

/// No span that is stored takes fewer bytes: its ids alone.
const SPAN_BYTES_MIN: usize = 30;

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

/// Translates a request, span by span from the wire; `bytes_taken` count as its memory already.
pub(super) fn translate(request: &[u8], bytes_taken: usize, limits: &Limits) -> Result<DecodedSpans, Failure> {
    let mut translator = Translator {
        limits,
        footprint: Footprint::new(limits.decoded_max),
        batch: SpanBatch::default(),
        refused: AppendOutcome::default(),
        hints: Hints::default(),
    };
    translator.footprint.take_bytes(bytes_taken)?;
    let mut reader = Reader::new(request);
    while let Some(field) = reader.next()? {
        if field.number == 1 {
            translator.resource(field.bytes()?)?;
        }
    }
    Ok(DecodedSpans { batch: translator.batch, rejections: translator.refused.rejections, request: None })
}

struct Translator<'l> {
    limits: &'l Limits,
    footprint: Footprint,
    batch: SpanBatch,
    refused: AppendOutcome,
    hints: Hints,
}

impl Translator<'_> {
    fn resource(&mut self, message: &[u8]) -> Result<(), Failure> {
        let (mut resource, mut schema_url) = (Merged::default(), "");
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => resource.add(field.bytes()?, &RESOURCE, RESOURCE_NESTING)?,
                2 => drop(field.bytes()?),
                3 => schema_url = field.text()?,
                _ => {}
            }
        }
        let bytes = resource.get().unwrap_or_default();
        self.footprint.take_bytes(RESOURCE_SPANS.memory_bytes + schema_url.len())?;
        self.footprint.take(bytes, &RESOURCE)?;
        let resource = self::resource(OtlpResource::decode(bytes)?, schema_url.to_owned(), self.limits).map(Arc::new);
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            if field.number == 2 {
                self.scope(&resource, field.bytes()?)?;
            }
        }
        Ok(())
    }

    fn scope(&mut self, resource: &Result<Arc<Resource>, Refusal>, message: &[u8]) -> Result<(), Failure> {
        let (mut scope, mut schema_url, mut span_count) = (Merged::default(), "", 0);
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => scope.add(field.bytes()?, &SCOPE, METRIC_NESTING)?,
                2 => {
                    field.bytes()?;
                    span_count += 1;
                }
                3 => schema_url = field.text()?,
                _ => {}
            }
        }
        let bytes = scope.get().unwrap_or_default();
        self.footprint.take_bytes(SCOPE_SPANS.memory_bytes + schema_url.len())?;
        self.footprint.take(bytes, &SCOPE)?;
        let scope = self::scope(InstrumentationScope::decode(bytes)?, schema_url.to_owned(), self.limits).map(Arc::new);
        // A span takes its share of the body at least: what is reserved is bounded by it.
        let mut spans = Vec::with_capacity(span_count.min(message.len() / SPAN_BYTES_MIN));
        let refusal = resource.as_ref().err().or(scope.as_ref().err()).cloned();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            if field.number != 2 {
                continue;
            }
            let read = self.span(field.bytes()?)?;
            match (&refusal, read) {
                (None, Ok(span)) => spans.push(span),
                (None, Err(refusal)) => reject(&mut self.refused, 1, refusal),
                (Some(_), _) => {}
            }
        }
        match (resource, scope, refusal) {
            (Ok(resource), Ok(scope), _) if !spans.is_empty() => {
                self.batch.groups.push(SpanGroup { resource: Arc::clone(resource), scope, spans });
            }
            (_, _, Some(refusal)) => reject(&mut self.refused, span_count as u64, refusal),
            _ => {}
        }
        Ok(())
    }

    /// A span, or why it is refused.
    fn span(&mut self, message: &[u8]) -> Result<Result<Span, Refusal>, Failure> {
        if let Some((span, bytes)) = usual_span(message, self.limits, self.footprint.left(), &mut self.hints) {
            self.footprint.take_bytes(bytes)?;
            return Ok(Ok(span));
        }
        self.footprint.take(message, &SPAN)?;
        Ok(span(OtlpSpan::decode(message)?, self.limits))
    }
}

fn reject(refused: &mut AppendOutcome, count: u64, refusal: Refusal) {
    if count > 0 {
        refused.reject(refusal.reason, count, || refusal.message);
    }
}

pub(super) fn resource(message: OtlpResource, schema_url: String, limits: &Limits) -> Result<Resource, Refusal> {
    Ok(Resource {
        attributes: attributes(message.attributes, "resource", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
        schema_url,
    })
}

pub(super) fn scope(message: InstrumentationScope, schema_url: String, limits: &Limits) -> Result<Scope, Refusal> {
    Ok(Scope {
        name: message.name,
        version: message.version,
        attributes: attributes(message.attributes, "scope", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
        schema_url,
    })
}

/// What a decoded span becomes.
pub(super) fn span(message: OtlpSpan, limits: &Limits) -> Result<Span, Refusal> {
    let about = |what: &str| format!("{what} of span {:?}", cut(&message.name, 128));
    let invalid = |message: String| Refusal { reason: RejectReason::InvalidSpan, message };
    let trace_id = trace_id(&message.trace_id).filter(|id| !id.is_zero());
    let span_id = span_id(&message.span_id).filter(|id| !id.is_zero());
    let (Some(trace_id), Some(span_id)) = (trace_id, span_id) else {
        let what = format!(
            "ids ({} and {} bytes, must be 16 and 8 and not all zero; in JSON 32 and 16 hexadecimal digits)",
            message.trace_id.len(),
            message.span_id.len()
        );
        return Err(invalid(about(&what)));
    };
    let parent_span_id = match message.parent_span_id.as_slice() {
        [] => SpanId::default(),
        bytes => self::span_id(bytes)
            .ok_or_else(|| invalid(about("parent id (must be 8 bytes, in JSON 16 hexadecimal digits)")))?,
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

pub(super) fn event(message: Event, limits: &Limits) -> Result<SpanEvent, Refusal> {
    Ok(SpanEvent {
        time_ns: message.time_unix_nano,
        name: message.name,
        attributes: attributes(message.attributes, "event", limits)?,
        dropped_attributes_count: message.dropped_attributes_count,
    })
}

/// A link may point nowhere (some SDKs send such), but what it has must be an id.
pub(super) fn link(message: OtlpLink, limits: &Limits) -> Result<Link, Refusal> {
    let trace_id = if message.trace_id.is_empty() { Some(TraceId::default()) } else { trace_id(&message.trace_id) };
    let span_id = if message.span_id.is_empty() { Some(SpanId::default()) } else { span_id(&message.span_id) };
    let (Some(trace_id), Some(span_id)) = (trace_id, span_id) else {
        let message = "ids of a link (must be 16 and 8 bytes, in JSON 32 and 16 hexadecimal digits)".to_owned();
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

pub(super) fn attributes(
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

pub(super) fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    bytes.try_into().ok().map(TraceId)
}

pub(super) fn span_id(bytes: &[u8]) -> Option<SpanId> {
    bytes.try_into().ok().map(SpanId)
}

/// Numbers that OpenTelemetry has not given a meaning say nothing.
pub(super) fn span_kind(number: i32) -> SpanKind {
    match number {
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

pub(super) fn status(message: Status) -> SpanStatus {
    let code = match message.code {
        1 => StatusCode::Ok,
        2 => StatusCode::Error,
        _ => StatusCode::Unset,
    };
    SpanStatus { code, message: message.message }
}
