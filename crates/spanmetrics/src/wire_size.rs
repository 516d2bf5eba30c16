//! How many bytes a span takes as an OTLP message: what Tempo calls its size.

use pharos_model::{Attribute, AttributeValue, Link, Span, SpanEvent};

/// Bytes of `span` in protobuf, its own tag and length left out.
pub(crate) fn span_bytes(span: &Span) -> usize {
    let ids = 18 + 10 + if span.parent_span_id.is_zero() { 0 } else { 10 };
    let times = if span.start_ns == 0 { 0 } else { 9 } + if span.end_ns == 0 { 0 } else { 9 };
    let counts = varint_field(span.kind as u64)
        + varint_field(u64::from(span.dropped_attributes_count))
        + varint_field(u64::from(span.dropped_events_count))
        + varint_field(u64::from(span.dropped_links_count));
    // The flags' field number is above 15: a tag of two bytes.
    let flags = if span.flags == 0 { 0 } else { 6 };
    ids + times
        + counts
        + flags
        + text(&span.trace_state)
        + text(&span.name)
        + attributes(&span.attributes)
        + span.events.iter().map(|event| nested(event_bytes(event))).sum::<usize>()
        + span.links.iter().map(|link| nested(link_bytes(link))).sum::<usize>()
        + status(span)
}

fn status(span: &Span) -> usize {
    let bytes = text(&span.status.message) + varint_field(span.status.code as u64);
    if bytes == 0 { 0 } else { nested(bytes) }
}

fn event_bytes(event: &SpanEvent) -> usize {
    let time = if event.time_ns == 0 { 0 } else { 9 };
    time + text(&event.name) + attributes(&event.attributes) + varint_field(u64::from(event.dropped_attributes_count))
}

fn link_bytes(link: &Link) -> usize {
    let flags = if link.flags == 0 { 0 } else { 5 };
    18 + 10
        + text(&link.trace_state)
        + attributes(&link.attributes)
        + varint_field(u64::from(link.dropped_attributes_count))
        + flags
}

fn attributes(attributes: &[Attribute]) -> usize {
    attributes.iter().map(|attribute| nested(pair(attribute))).sum()
}

fn pair(attribute: &Attribute) -> usize {
    text(&attribute.key) + nested(value(&attribute.value))
}

/// A value in a `oneof`: what is set is written, zero or not.
fn value(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::Empty => 0,
        AttributeValue::String(text) => nested(text.len()),
        AttributeValue::Bool(_) => 2,
        AttributeValue::Int(number) => 1 + varint(*number as u64),
        AttributeValue::Double(_) => 9,
        AttributeValue::Bytes(bytes) => nested(bytes.len()),
        AttributeValue::Array(values) => nested(values.iter().map(|inner| nested(self::value(inner))).sum()),
        AttributeValue::Map(pairs) => nested(attributes(pairs)),
    }
}

/// A field of text, left out where it is empty.
fn text(text: &str) -> usize {
    if text.is_empty() { 0 } else { nested(text.len()) }
}

/// A field of a number, left out where it is zero.
fn varint_field(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint(number) }
}

/// A field of `length` bytes with its tag.
fn nested(length: usize) -> usize {
    1 + varint(length as u64) + length
}

fn varint(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}
