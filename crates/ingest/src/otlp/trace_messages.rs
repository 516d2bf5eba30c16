//! Traces as OTLP's protobuf messages, for doors that hand traces out: everything a span has, in its types.
//!
//! A trace may be larger than what a client takes in one message, so it is cut into several. Each repeats
//! resource and scope of its spans; order and number of the spans stay as they are.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData, span, status};
use pharos_model::{Attribute, AttributeValue, Link, SpanEvent, SpanGroup, SpanId, SpanKind, StatusCode};
use prost::Message;

/// Tags and lengths around one group: two messages deep, at most 11 bytes each.
const GROUP_FRAME_BYTES: usize = 22;
/// Tag and length of one span.
const SPAN_FRAME_BYTES: usize = 11;

/// Hands the spans of a trace to `send` in messages of at most `bytes_max` each, none of them empty. A span that is larger
/// with its resource and scope fills a message alone.
///
/// # Errors
/// The first that `send` returns; nothing is sent after it.
pub fn each_message<E>(
    groups: Vec<SpanGroup>,
    bytes_max: usize,
    mut send: impl FnMut(TracesData) -> Result<(), E>,
) -> Result<(), E> {
    let (mut message, mut message_bytes) = (TracesData::default(), 0);
    for group in groups {
        let frame = frame(&group);
        let frame_bytes = frame.encoded_len() + GROUP_FRAME_BYTES;
        let mut open: Option<ResourceSpans> = None;
        for span in group.spans {
            let span = span_message(span);
            let span_bytes = span.encoded_len() + SPAN_FRAME_BYTES;
            let added = span_bytes + if open.is_some() { 0 } else { frame_bytes };
            if message_bytes > 0 && message_bytes + added > bytes_max {
                message.resource_spans.extend(open.take());
                send(std::mem::take(&mut message))?;
                message_bytes = 0;
            }
            if open.is_none() {
                message_bytes += frame_bytes;
            }
            message_bytes += span_bytes;
            open.get_or_insert_with(|| frame.clone()).scope_spans[0].spans.push(span);
        }
        message.resource_spans.extend(open);
    }
    if message.resource_spans.is_empty() { Ok(()) } else { send(message) }
}

/// A group without its spans: one resource with one scope.
fn frame(group: &SpanGroup) -> ResourceSpans {
    let (resource, scope) = (&group.resource, &group.scope);
    ResourceSpans {
        resource: Some(Resource {
            attributes: key_values(resource.attributes.clone()),
            dropped_attributes_count: resource.dropped_attributes_count,
            entity_refs: Vec::new(),
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: scope.name.clone(),
                version: scope.version.clone(),
                attributes: key_values(scope.attributes.clone()),
                dropped_attributes_count: scope.dropped_attributes_count,
            }),
            spans: Vec::new(),
            schema_url: scope.schema_url.clone(),
        }],
        schema_url: resource.schema_url.clone(),
    }
}

fn span_message(span: pharos_model::Span) -> Span {
    Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state,
        parent_span_id: parent(span.parent_span_id),
        flags: span.flags,
        name: span.name,
        kind: kind(span.kind) as i32,
        start_time_unix_nano: span.start_ns,
        end_time_unix_nano: span.end_ns,
        attributes: key_values(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: span.events.into_iter().map(event).collect(),
        dropped_events_count: span.dropped_events_count,
        links: span.links.into_iter().map(link).collect(),
        dropped_links_count: span.dropped_links_count,
        status: Some(Status { message: span.status.message, code: status_code(span.status.code) as i32 }),
    }
}

/// A root has no parent id at all.
fn parent(id: SpanId) -> Vec<u8> {
    if id.is_zero() { Vec::new() } else { id.0.to_vec() }
}

fn event(event: SpanEvent) -> span::Event {
    span::Event {
        time_unix_nano: event.time_ns,
        name: event.name,
        attributes: key_values(event.attributes),
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn link(link: Link) -> span::Link {
    span::Link {
        trace_id: link.trace_id.0.to_vec(),
        span_id: link.span_id.0.to_vec(),
        trace_state: link.trace_state,
        attributes: key_values(link.attributes),
        dropped_attributes_count: link.dropped_attributes_count,
        flags: link.flags,
    }
}

fn key_values(attributes: Vec<Attribute>) -> Vec<KeyValue> {
    let key_value = |Attribute { key, value }| KeyValue { key, value: Some(any_value(value)), ..KeyValue::default() };
    attributes.into_iter().map(key_value).collect()
}

fn any_value(value: AttributeValue) -> AnyValue {
    use any_value::Value;
    let value = match value {
        AttributeValue::Empty => None,
        AttributeValue::String(text) => Some(Value::StringValue(text)),
        AttributeValue::Bool(truth) => Some(Value::BoolValue(truth)),
        AttributeValue::Int(number) => Some(Value::IntValue(number)),
        AttributeValue::Double(number) => Some(Value::DoubleValue(number)),
        AttributeValue::Bytes(bytes) => Some(Value::BytesValue(bytes)),
        AttributeValue::Array(values) => {
            Some(Value::ArrayValue(ArrayValue { values: values.into_iter().map(any_value).collect() }))
        }
        AttributeValue::Map(members) => Some(Value::KvlistValue(KeyValueList { values: key_values(members) })),
    };
    AnyValue { value }
}

fn kind(kind: SpanKind) -> span::SpanKind {
    match kind {
        SpanKind::Unspecified => span::SpanKind::Unspecified,
        SpanKind::Internal => span::SpanKind::Internal,
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
    }
}

fn status_code(code: StatusCode) -> status::StatusCode {
    match code {
        StatusCode::Unset => status::StatusCode::Unset,
        StatusCode::Ok => status::StatusCode::Ok,
        StatusCode::Error => status::StatusCode::Error,
    }
}
