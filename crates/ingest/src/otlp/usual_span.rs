//! Spans as exporters write them, from the wire to the model without a message between.
//!
//! Whatever is unusual (a field twice, one that nobody knows, damage, more than a limit allows) is given up: the general way
//! decodes the span and finds the words for what is wrong. What is read here is what the general way would read.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use pharos_model::{Attribute, AttributeValue, Span};
use prost::Message;

use super::footprint::bytes_of;
use super::json::{ANY_VALUE, EVENT, KEY_VALUE, LINK, MessageSchema, SPAN, STATUS};
use super::traces;
use crate::Limits;
use crate::wire::{Payload, Reader};

/// What a number counts as among the bytes of values.
const NUMBER_BYTES: usize = 8;
/// The fields that repeat: attributes, events, links.
const REPEATED: [u32; 3] = [9, 11, 13];

/// What the span before had: the next one is likely to have as much.
#[derive(Debug, Default)]
pub(super) struct Hints {
    attributes: usize,
}

/// What decoding takes.
struct Taken {
    bytes: usize,
    bytes_max: usize,
}

impl Taken {
    /// Takes so much more; `None` if that is too much.
    #[inline]
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.checked_add(bytes)?;
        (self.bytes <= self.bytes_max).then_some(())
    }

    /// Takes what a message takes, before it is decoded.
    fn take_message(&mut self, message: &[u8], schema: &'static MessageSchema) -> Option<()> {
        self.take(bytes_of(message, schema))
    }
}

/// A span, and the bytes that decoding it would take; `None` where anything is unusual, or it takes more than `bytes_max`.
pub(super) fn usual_span(
    message: &[u8],
    limits: &Limits,
    bytes_max: usize,
    hints: &mut Hints,
) -> Option<(Span, usize)> {
    let mut taken = Taken { bytes: SPAN.memory_bytes + message.len(), bytes_max };
    let mut span = Span { attributes: Vec::with_capacity(hints.attributes), ..Span::default() };
    let (mut seen, mut inner) = (0_u32, 0);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next().ok()? {
        let bit = 1_u32.checked_shl(field.number)?;
        if seen & bit != 0 && !REPEATED.contains(&field.number) {
            return None;
        }
        seen |= bit;
        match (field.number, field.payload) {
            (1, Payload::Bytes(id)) => span.trace_id = traces::trace_id(id)?,
            (2, Payload::Bytes(id)) => span.span_id = traces::span_id(id)?,
            (3, Payload::Bytes(text)) => span.trace_state = owned(text)?,
            (4, Payload::Bytes([])) => {}
            (4, Payload::Bytes(id)) => span.parent_span_id = traces::span_id(id)?,
            (5, Payload::Bytes(text)) => span.name = owned(text)?,
            (6, Payload::Varint(kind)) => span.kind = traces::span_kind(kind as i32),
            (7, Payload::Fixed64(ns)) => span.start_ns = ns,
            (8, Payload::Fixed64(ns)) => span.end_ns = ns,
            (9, Payload::Bytes(message)) => span.attributes.push(attribute(message, limits, &mut taken)?),
            (10, Payload::Varint(count)) => span.dropped_attributes_count = count as u32,
            (11, Payload::Bytes(message)) => {
                taken.take_message(message, &EVENT)?;
                let event = traces::event(Event::decode(message).ok()?, limits).ok()?;
                inner += event.attributes.len();
                span.events.push(event);
            }
            (12, Payload::Varint(count)) => span.dropped_events_count = count as u32,
            (13, Payload::Bytes(message)) => {
                taken.take_message(message, &LINK)?;
                let link = traces::link(Link::decode(message).ok()?, limits).ok()?;
                inner += link.attributes.len();
                span.links.push(link);
            }
            (14, Payload::Varint(count)) => span.dropped_links_count = count as u32,
            (15, Payload::Bytes(message)) => {
                taken.take(STATUS.memory_bytes)?;
                span.status = traces::status(Status::decode(message).ok()?);
            }
            (16, Payload::Fixed32(flags)) => span.flags = flags,
            _ => return None,
        }
    }
    hints.attributes = span.attributes.len();
    let fits = span.attributes.len() <= limits.span_items_max
        && span.attributes.len() + inner <= limits.span_attributes_max
        && span.events.len() <= limits.span_events_max
        && span.links.len() <= limits.span_links_max;
    (fits && !span.trace_id.is_zero() && !span.span_id.is_zero()).then_some((span, taken.bytes))
}

/// An attribute: key, then value, each once.
#[inline]
fn attribute(message: &[u8], limits: &Limits, taken: &mut Taken) -> Option<Attribute> {
    taken.take(KEY_VALUE.memory_bytes + ANY_VALUE.memory_bytes)?;
    let (mut key, mut value) = (None, None);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next().ok()? {
        match (field.number, field.payload) {
            (1, Payload::Bytes(text)) if key.is_none() => key = Some(text),
            (2, Payload::Bytes(message)) if value.is_none() => value = Some(message),
            _ => return None,
        }
    }
    let value_bytes_max = usize::try_from(limits.span_value_bytes_max.0).unwrap_or(usize::MAX);
    if value_bytes_max < NUMBER_BYTES {
        return None;
    }
    let mut reader = Reader::new(value.unwrap_or_default());
    let value = match reader.next().ok()?.map(|field| (field.number, field.payload)) {
        None => AttributeValue::Empty,
        Some((1, Payload::Bytes(text))) if text.len() <= value_bytes_max => AttributeValue::String(owned(text)?),
        Some((2, Payload::Varint(truth))) => AttributeValue::Bool(truth != 0),
        Some((3, Payload::Varint(number))) => AttributeValue::Int(number as i64),
        Some((4, Payload::Fixed64(bits))) => AttributeValue::Double(f64::from_bits(bits)),
        Some((7, Payload::Bytes(bytes))) if bytes.len() <= value_bytes_max => AttributeValue::Bytes(bytes.to_vec()),
        Some((5 | 6, Payload::Bytes(_))) => {
            taken.take_message(message, &KEY_VALUE)?;
            return traces::attributes(vec![KeyValue::decode(message).ok()?], "span", limits).ok()?.pop();
        }
        _ => return None,
    };
    reader.rest().is_empty().then_some(Attribute { key: owned(key.unwrap_or_default())?, value })
}

fn owned(text: &[u8]) -> Option<String> {
    std::str::from_utf8(text).ok().map(str::to_owned)
}
