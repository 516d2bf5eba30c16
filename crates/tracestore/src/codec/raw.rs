//! The details of a span handed out piece by piece, borrowed: what rewrites spans in another form needs no `Span`.

use pharos_model::{SpanId, TraceId};

use super::attributes::{RawValue, read_raw_value};
use super::span::present;
use super::wire::{DecodeError, Reader};

/// A part of a span, an event or a link besides ids, times, kind, status and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DetailField {
    Name,
    TraceState,
    Flags,
    DroppedAttributes,
    DroppedEvents,
    DroppedLinks,
    StatusMessage,
}

/// Takes the pieces in the order in which they stand. What follows `event` or `link` is that one's, up to the next.
pub(crate) trait DetailsVisitor {
    /// Zero numbers and absent texts may be handed over or left out, but for names.
    fn field(&mut self, field: DetailField, value: RawValue<'_>);
    fn attribute(&mut self, key: &str, value: RawValue<'_>);
    fn event(&mut self, time_ns: u64);
    fn link(&mut self, trace_id: TraceId, span_id: SpanId);
}

/// Reads details as `docs/keys.md` has them.
pub(crate) fn visit_details(
    details: &[u8],
    start_ns: u64,
    visitor: &mut impl DetailsVisitor,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(details);
    let reader = &mut reader;
    visitor.field(DetailField::Name, RawValue::Text(reader.text("span name")?));
    let parts = reader.byte("span parts")?;
    if parts & !present::ALL != 0 {
        return Err(DecodeError::OutOfRange("span parts"));
    }
    visit_attributes(reader, visitor)?;
    if parts & present::TRACE_STATE != 0 {
        visitor.field(DetailField::TraceState, RawValue::Text(reader.text("trace state")?));
    }
    if parts & present::FLAGS != 0 {
        visit_number(reader, visitor, DetailField::Flags)?;
    }
    if parts & present::DROPPED != 0 {
        visit_number(reader, visitor, DetailField::DroppedAttributes)?;
        visit_number(reader, visitor, DetailField::DroppedEvents)?;
        visit_number(reader, visitor, DetailField::DroppedLinks)?;
    }
    if parts & present::STATUS_MESSAGE != 0 {
        visitor.field(DetailField::StatusMessage, RawValue::Text(reader.text("status message")?));
    }
    if parts & present::EVENTS != 0 {
        for _ in 0..reader.count("event count")? {
            visitor.event(reader.delta(start_ns, "event time")?);
            visitor.field(DetailField::Name, RawValue::Text(reader.text("event name")?));
            visit_attributes(reader, visitor)?;
            visit_number(reader, visitor, DetailField::DroppedAttributes)?;
        }
    }
    if parts & present::LINKS != 0 {
        for _ in 0..reader.count("link count")? {
            visitor.link(TraceId(reader.array("link trace id")?), SpanId(reader.array("link span id")?));
            visitor.field(DetailField::TraceState, RawValue::Text(reader.text("trace state")?));
            visit_attributes(reader, visitor)?;
            visit_number(reader, visitor, DetailField::DroppedAttributes)?;
            visit_number(reader, visitor, DetailField::Flags)?;
        }
    }
    if reader.is_empty() { Ok(()) } else { Err(DecodeError::OutOfRange("span length")) }
}

fn visit_attributes(reader: &mut Reader<'_>, visitor: &mut impl DetailsVisitor) -> Result<(), DecodeError> {
    for _ in 0..reader.count("attribute count")? {
        let key = reader.text("attribute key")?;
        visitor.attribute(key, read_raw_value(reader)?);
    }
    Ok(())
}

fn visit_number(
    reader: &mut Reader<'_>,
    visitor: &mut impl DetailsVisitor,
    field: DetailField,
) -> Result<(), DecodeError> {
    visitor.field(field, RawValue::Int(i64::from(reader.varint_u32("number of a span")?)));
    Ok(())
}
