//! Spans in the words of Jaeger's v1 model, which API v1 tells as JSON and `jaeger.api_v2` in messages.
//!
//! Source: Jaeger's translation of OTLP to its v1 model. What v1 has no word for is lost here (attributes of
//! scopes and links, trace state of links, dropped counts, schema URLs); API v3 has it all.

use std::borrow::Cow;

use pharos_model::{Attribute, AttributeValue, Link, Resource, Scope, Span, SpanEvent, SpanId, StatusCode, TraceId};
use pharos_storage::{render_attribute_value, span_kind_name};

use crate::adjust::WARNINGS;

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tag<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: TagValue<'a>,
}

/// A value of one of v1's types; arrays and maps are JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TagValue<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Binary(&'a [u8]),
}

/// A reference to another span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `CHILD_OF`, otherwise `FOLLOWS_FROM`.
    pub(crate) is_child: bool,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
}

/// The flags that v1 knows.
pub(crate) fn flags(span: &Span) -> u32 {
    span.flags & 0xff
}

/// The name by which searches, lists and the monitor know the service, also where the resource has none. Jaeger says
/// `OTLPResourceNoServiceName` then.
pub(crate) fn process_name(resource: &Resource) -> &str {
    resource.service_name()
}

pub(crate) fn process_tags(resource: &Resource) -> impl Iterator<Item = Tag<'_>> {
    resource.attributes.iter().filter(|attribute| attribute.key != "service.name").map(tag)
}

/// What the reader of a span should know.
pub(crate) fn warnings(span: &Span) -> Vec<Cow<'_, str>> {
    span.attributes.iter().filter(|attribute| is_warning(attribute)).flat_map(warning_texts).collect()
}

fn is_warning(attribute: &Attribute) -> bool {
    attribute.key == WARNINGS
}

fn warning_texts(attribute: &Attribute) -> Vec<Cow<'_, str>> {
    match &attribute.value {
        AttributeValue::Array(values) => values.iter().map(render_attribute_value).collect(),
        value => vec![render_attribute_value(value)],
    }
}

/// The parent comes first.
pub(crate) fn references(span: &Span) -> impl Iterator<Item = Reference> {
    let is_parent = |link: &Link| link.trace_id == span.trace_id && link.span_id == span.parent_span_id;
    let parent = (!span.parent_span_id.is_zero()).then(|| {
        let stated = span.links.iter().rfind(|link| is_parent(link));
        let is_child = stated.is_none_or(is_child_of);
        Reference { is_child, trace_id: span.trace_id, span_id: span.parent_span_id }
    });
    let others = span.links.iter().filter(move |link| !is_parent(link));
    parent.into_iter().chain(others.map(|link| Reference {
        is_child: is_child_of(link),
        trace_id: link.trace_id,
        span_id: link.span_id,
    }))
}

fn is_child_of(link: &Link) -> bool {
    link.attributes.iter().any(|attribute| {
        attribute.key == "opentracing.ref_type" && attribute.value == AttributeValue::String("child_of".to_owned())
    })
}

pub(crate) fn tags<'a>(span: &'a Span, scope: &'a Scope) -> impl Iterator<Item = Tag<'a>> {
    let text =
        |key, text: &'a str| (!text.is_empty()).then_some(Tag { key, value: TagValue::Text(Cow::Borrowed(text)) });
    let first = [text("otel.scope.name", &scope.name), text("otel.scope.version", &scope.version)];
    let (status, is_error) = match span.status.code {
        StatusCode::Unset => ("", false),
        StatusCode::Ok => ("OK", false),
        StatusCode::Error => ("ERROR", true),
    };
    let last = [
        text("span.kind", span_kind_name(span.kind)),
        text("otel.status_code", status),
        // Also where an attribute says so already, as Jaeger does.
        is_error.then_some(Tag { key: "error", value: TagValue::Bool(true) }),
        text("otel.status_description", &span.status.message),
        text("w3c.tracestate", &span.trace_state),
    ];
    let own = span.attributes.iter().filter(|attribute| !is_warning(attribute)).map(tag);
    first.into_iter().flatten().chain(own).chain(last.into_iter().flatten())
}

/// The name of an event is its first field, unless an attribute says what it is.
pub(crate) fn log_fields(event: &SpanEvent) -> impl Iterator<Item = Tag<'_>> {
    let is_named = !event.name.is_empty() && !event.attributes.iter().any(|attribute| attribute.key == "event");
    let name = is_named.then_some(Tag { key: "event", value: TagValue::Text(Cow::Borrowed(&event.name)) });
    name.into_iter().chain(event.attributes.iter().map(tag))
}

fn tag(attribute: &Attribute) -> Tag<'_> {
    let value = match &attribute.value {
        AttributeValue::Bool(truth) => TagValue::Bool(*truth),
        AttributeValue::Int(number) => TagValue::Int(*number),
        AttributeValue::Double(number) => TagValue::Double(*number),
        AttributeValue::Bytes(bytes) => TagValue::Binary(bytes),
        value => TagValue::Text(render_attribute_value(value)),
    };
    Tag { key: &attribute.key, value }
}
