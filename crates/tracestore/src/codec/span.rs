//! The details of one span: all that its skeleton does not hold.

use pharos_model::{Link, Span, SpanEvent, SpanId, TraceId};

use super::attributes::{put_attributes, read_attributes};
use super::wire::{DecodeError, Reader, Writer};

/// Bits that say which of the rarely used parts follow.
pub(super) mod present {
    pub(in crate::codec) const TRACE_STATE: u8 = 1;
    pub(in crate::codec) const FLAGS: u8 = 1 << 1;
    pub(in crate::codec) const DROPPED: u8 = 1 << 2;
    pub(in crate::codec) const EVENTS: u8 = 1 << 3;
    pub(in crate::codec) const LINKS: u8 = 1 << 4;
    pub(in crate::codec) const STATUS_MESSAGE: u8 = 1 << 5;
    pub(in crate::codec) const ALL: u8 = (1 << 6) - 1;
}

pub(crate) fn put_details(out: &mut Vec<u8>, span: &Span) {
    let dropped = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count];
    let bit = |bit: u8, is_present: bool| if is_present { bit } else { 0 };
    let parts = bit(present::TRACE_STATE, !span.trace_state.is_empty())
        | bit(present::FLAGS, span.flags != 0)
        | bit(present::DROPPED, dropped != [0; 3])
        | bit(present::EVENTS, !span.events.is_empty())
        | bit(present::LINKS, !span.links.is_empty())
        | bit(present::STATUS_MESSAGE, !span.status.message.is_empty());
    out.put_bytes(span.name.as_bytes());
    out.push(parts);
    put_attributes(out, &span.attributes);
    if parts & present::TRACE_STATE != 0 {
        out.put_bytes(span.trace_state.as_bytes());
    }
    if parts & present::FLAGS != 0 {
        out.put_varint(u64::from(span.flags));
    }
    if parts & present::DROPPED != 0 {
        for count in dropped {
            out.put_varint(u64::from(count));
        }
    }
    if parts & present::STATUS_MESSAGE != 0 {
        out.put_bytes(span.status.message.as_bytes());
    }
    if parts & present::EVENTS != 0 {
        out.put_varint(span.events.len() as u64);
        for event in &span.events {
            out.put_delta(event.time_ns, span.start_ns);
            out.put_bytes(event.name.as_bytes());
            put_attributes(out, &event.attributes);
            out.put_varint(u64::from(event.dropped_attributes_count));
        }
    }
    if parts & present::LINKS != 0 {
        out.put_varint(span.links.len() as u64);
        for link in &span.links {
            out.extend_from_slice(&link.trace_id.0);
            out.extend_from_slice(&link.span_id.0);
            out.put_bytes(link.trace_state.as_bytes());
            put_attributes(out, &link.attributes);
            out.put_varint(u64::from(link.dropped_attributes_count));
            out.put_varint(u64::from(link.flags));
        }
    }
}

/// The name alone, without decoding the rest.
pub(super) fn read_name(details: &[u8]) -> Result<&str, DecodeError> {
    Reader::new(details).text("span name")
}

/// Fills `span`, whose skeleton is there already, with its details.
pub(super) fn read_details(details: &[u8], span: &mut Span) -> Result<(), DecodeError> {
    let mut reader = Reader::new(details);
    reader.text("span name")?.clone_into(&mut span.name);
    let parts = reader.byte("span parts")?;
    if parts & !present::ALL != 0 {
        return Err(DecodeError::OutOfRange("span parts"));
    }
    span.attributes = read_attributes(&mut reader)?;
    if parts & present::TRACE_STATE != 0 {
        reader.text("trace state")?.clone_into(&mut span.trace_state);
    }
    if parts & present::FLAGS != 0 {
        span.flags = reader.varint_u32("span flags")?;
    }
    if parts & present::DROPPED != 0 {
        span.dropped_attributes_count = reader.varint_u32("dropped attributes")?;
        span.dropped_events_count = reader.varint_u32("dropped events")?;
        span.dropped_links_count = reader.varint_u32("dropped links")?;
    }
    if parts & present::STATUS_MESSAGE != 0 {
        reader.text("status message")?.clone_into(&mut span.status.message);
    }
    if parts & present::EVENTS != 0 {
        let count = reader.count("event count")?;
        let events: Result<Vec<_>, _> = (0..count).map(|_| read_event(&mut reader, span.start_ns)).collect();
        span.events = events?;
    }
    if parts & present::LINKS != 0 {
        let count = reader.count("link count")?;
        let links: Result<Vec<_>, _> = (0..count).map(|_| read_link(&mut reader)).collect();
        span.links = links?;
    }
    if !reader.is_empty() {
        return Err(DecodeError::OutOfRange("span length"));
    }
    Ok(())
}

fn read_event(reader: &mut Reader<'_>, start_ns: u64) -> Result<SpanEvent, DecodeError> {
    Ok(SpanEvent {
        time_ns: reader.delta(start_ns, "event time")?,
        name: reader.text("event name")?.to_owned(),
        attributes: read_attributes(reader)?,
        dropped_attributes_count: reader.varint_u32("dropped attributes")?,
    })
}

fn read_link(reader: &mut Reader<'_>) -> Result<Link, DecodeError> {
    Ok(Link {
        trace_id: TraceId(reader.array("link trace id")?),
        span_id: SpanId(reader.array("link span id")?),
        trace_state: reader.text("trace state")?.to_owned(),
        attributes: read_attributes(reader)?,
        dropped_attributes_count: reader.varint_u32("dropped attributes")?,
        flags: reader.varint_u32("link flags")?,
    })
}
