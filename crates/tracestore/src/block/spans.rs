//! Whole spans out of a block.

use std::borrow::Cow;
use std::ops::Range;

use pharos_model::{Attribute, Link, Span, SpanEvent, SpanId, TraceId};

use super::catalogue::{Catalogue, Table};
use super::open::{Block, CoreCursor, set_bits};
use super::schema::{Field, Level, ValueType};
use crate::codec::{DecodeError, OriginHash};
use crate::log::RECORD_BYTES_MAX;

/// An element of an array or a map takes so much more in memory than encoded, about.
const NESTED_RATIO: usize = 16;
/// Memory of a span: twice what the largest record of the log takes, as attributes take more of it than of a record. What
/// repeats stands once in a block, and damage could make it stand in a span without end.
const SPAN_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

impl Block {
    /// The spans in `spans`, bit for bit as they came, as spans of `trace`.
    ///
    /// # Errors
    /// If the block has not as many spans, or is damaged.
    pub(crate) fn spans(
        &self,
        trace: TraceId,
        spans: Range<u32>,
    ) -> Result<impl Iterator<Item = Result<(OriginHash, Span), DecodeError>>, DecodeError> {
        let spans = self.checked(spans)?;
        let mut cursor = SpanCursor::new(self, spans.start)?;
        Ok(spans.map(move |_| cursor.next(trace)))
    }

    /// The names of the spans in `spans`.
    ///
    /// # Errors
    /// As [`Block::spans`].
    pub(crate) fn names(
        &self,
        spans: Range<u32>,
    ) -> Result<impl Iterator<Item = Result<Cow<'_, str>, DecodeError>>, DecodeError> {
        let spans = self.checked(spans)?;
        let catalogue = self.catalogue()?;
        let table = &catalogue.tables[Level::Span as usize];
        let mut places = Places::at(catalogue, Level::Span, spans.start, |field| field == Field::Name);
        Ok(spans.map(move |span| {
            let mut name = Ok(Cow::Borrowed(""));
            for slot in table.slots(table.class_of(span)) {
                let column = slot.column as usize;
                if catalogue.columns[column].kind.field == Field::Name {
                    let entry = slot.constant().map_or_else(|| places.next(catalogue, column), Ok)?;
                    name = catalogue.text(column, entry);
                }
            }
            name
        }))
    }
}

/// How many varying values of each column come before a place.
struct Places(Vec<usize>);

impl Places {
    /// Before record number `record` of a level, for its columns of the fields that are `wanted`.
    fn at(catalogue: &Catalogue, level: Level, record: usize, wanted: impl Fn(Field) -> bool) -> Self {
        let table = &catalogue.tables[level as usize];
        let mut places = Self(vec![0; catalogue.columns.len()]);
        places.add(catalogue, table, &counts_of(table, 0..record), wanted);
        places
    }

    /// Skips as many records of each class as `counts` says.
    fn add(&mut self, catalogue: &Catalogue, table: &Table, counts: &[usize], wanted: impl Fn(Field) -> bool) {
        for (class, count) in table.classes.iter().zip(counts).filter(|(_, count)| **count > 0) {
            for slot in table.slots(class).iter().filter(|slot| slot.constant().is_none()) {
                if wanted(catalogue.columns[slot.column as usize].kind.field) {
                    self.0[slot.column as usize] += count;
                }
            }
        }
    }

    /// The entry of the next varying value of `column`.
    fn next(&mut self, catalogue: &Catalogue, column: usize) -> Result<usize, DecodeError> {
        let place = &mut self.0[column];
        *place += 1;
        catalogue.entry(column, *place - 1)
    }
}

/// How many of the records are of each class.
fn counts_of(table: &Table, records: Range<usize>) -> Vec<usize> {
    let mut counts = vec![0; table.classes.len()];
    for class in &table.class_of[records] {
        counts[*class as usize] += 1;
    }
    counts
}

/// Builds one span after the other.
struct SpanCursor<'b> {
    block: &'b Block,
    catalogue: &'b Catalogue,
    core: CoreCursor<'b>,
    places: Places,
    next_event: usize,
    next_link: usize,
    /// Bytes that the span at hand may still take.
    bytes_left: usize,
}

impl<'b> SpanCursor<'b> {
    fn new(block: &'b Block, span: usize) -> Result<Self, DecodeError> {
        let catalogue = block.catalogue()?;
        let table = &catalogue.tables[Level::Span as usize];
        let counts = counts_of(table, 0..span);
        let mut places = Places(vec![0; catalogue.columns.len()]);
        places.add(catalogue, table, &counts, |_| true);
        let next_event = children_before(catalogue, &counts, &places, Field::EventCount)?;
        let next_link = children_before(catalogue, &counts, &places, Field::LinkCount)?;
        for (level, records) in [(Level::Event, next_event), (Level::Link, next_link)] {
            let table = &catalogue.tables[level as usize];
            if records > table.class_of.len() {
                return Err(DecodeError::OutOfRange("number of events or links"));
            }
            places.add(catalogue, table, &counts_of(table, 0..records), |_| true);
        }
        Ok(Self {
            block,
            catalogue,
            core: block.core_cursor(span),
            places,
            next_event,
            next_link,
            bytes_left: SPAN_BYTES_MAX,
        })
    }

    fn next(&mut self, trace_id: TraceId) -> Result<(OriginHash, Span), DecodeError> {
        let number = self.core.span;
        self.bytes_left = SPAN_BYTES_MAX;
        let (origin, mut skeleton) = self.core.next()?;
        let catalogue = self.catalogue;
        let table = &catalogue.tables[Level::Span as usize];
        let class = table.class_of(number);
        set_bits(&mut skeleton, class.bits)?;
        let mut span = Span {
            trace_id,
            span_id: skeleton.span_id,
            parent_span_id: skeleton.parent_span_id,
            kind: skeleton.kind,
            start_ns: skeleton.start_ns,
            end_ns: skeleton.end_ns,
            ..Span::default()
        };
        span.status.code = skeleton.status;
        let slots = table.slots(class);
        span.attributes.reserve_exact(slots.len().saturating_sub(1));
        for slot in slots {
            let column = slot.column as usize;
            let entry = slot.constant().map_or_else(|| self.places.next(catalogue, column), Ok)?;
            let number = || u32_of(catalogue.number(column, entry));
            match catalogue.columns[column].kind.field {
                Field::Attribute => span.attributes.push(self.attribute(column, entry)?),
                Field::Name => span.name = self.text(column, entry)?,
                Field::TraceState => span.trace_state = self.text(column, entry)?,
                Field::StatusMessage => span.status.message = self.text(column, entry)?,
                Field::Flags => span.flags = number()?,
                Field::DroppedAttributes => span.dropped_attributes_count = number()?,
                Field::DroppedEvents => span.dropped_events_count = number()?,
                Field::DroppedLinks => span.dropped_links_count = number()?,
                Field::EventCount => span.events = self.events(number()?, span.start_ns)?,
                Field::LinkCount => span.links = self.links(number()?)?,
            }
        }
        Ok((self.block.origin(origin), span))
    }

    fn attribute(&mut self, column: usize, entry: usize) -> Result<Attribute, DecodeError> {
        let key = self.catalogue.key(column).to_owned();
        let (value, value_bytes) = self.catalogue.value(column, entry)?;
        let is_nested = self.catalogue.columns[column].kind.value_type == ValueType::Nested;
        let value_bytes = value_bytes.saturating_mul(if is_nested { NESTED_RATIO } else { 1 });
        self.take(size_of::<Attribute>() + key.len() + value_bytes)?;
        Ok(Attribute { key, value })
    }

    fn text(&mut self, column: usize, entry: usize) -> Result<String, DecodeError> {
        let text = self.catalogue.text(column, entry)?;
        self.take(text.len())?;
        Ok(text.into_owned())
    }

    /// Counts memory of the span at hand.
    fn take(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(DecodeError::OutOfRange("length of a span"))?;
        Ok(())
    }

    fn events(&mut self, count: u32, start_ns: u64) -> Result<Vec<SpanEvent>, DecodeError> {
        let catalogue = self.catalogue;
        let table = &catalogue.tables[Level::Event as usize];
        let records = children(self.next_event, count, table.class_of.len())?;
        self.next_event = records.end;
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            let delay = catalogue.event_delays.get(record) as u64;
            let mut event = SpanEvent { time_ns: start_ns.wrapping_add(delay), ..SpanEvent::default() };
            for slot in table.slots(table.class_of(record)) {
                let column = slot.column as usize;
                let entry = slot.constant().map_or_else(|| self.places.next(catalogue, column), Ok)?;
                match catalogue.columns[column].kind.field {
                    Field::Attribute => event.attributes.push(self.attribute(column, entry)?),
                    Field::Name => event.name = self.text(column, entry)?,
                    Field::DroppedAttributes => {
                        event.dropped_attributes_count = u32_of(catalogue.number(column, entry))?;
                    }
                    _ => return Err(DecodeError::OutOfRange("part of an event")),
                }
            }
            events.push(event);
        }
        Ok(events)
    }

    fn links(&mut self, count: u32) -> Result<Vec<Link>, DecodeError> {
        let catalogue = self.catalogue;
        let table = &catalogue.tables[Level::Link as usize];
        let records = children(self.next_link, count, table.class_of.len())?;
        self.next_link = records.end;
        let mut links = Vec::with_capacity(records.len());
        for record in records {
            let (trace_id, span_id) = catalogue.link_ids[record].split_first_chunk::<16>().expect("24 bytes");
            let mut link = Link {
                trace_id: TraceId(*trace_id),
                span_id: SpanId(*span_id.first_chunk().expect("8 of 24 bytes")),
                ..Link::default()
            };
            for slot in table.slots(table.class_of(record)) {
                let column = slot.column as usize;
                let entry = slot.constant().map_or_else(|| self.places.next(catalogue, column), Ok)?;
                match catalogue.columns[column].kind.field {
                    Field::Attribute => link.attributes.push(self.attribute(column, entry)?),
                    Field::TraceState => link.trace_state = self.text(column, entry)?,
                    Field::DroppedAttributes => {
                        link.dropped_attributes_count = u32_of(catalogue.number(column, entry))?;
                    }
                    Field::Flags => link.flags = u32_of(catalogue.number(column, entry))?,
                    _ => return Err(DecodeError::OutOfRange("part of a link")),
                }
            }
            links.push(link);
        }
        Ok(links)
    }
}

fn u32_of(number: i64) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError::OutOfRange("number of a span"))
}

/// The next `count` of `total` events or links.
fn children(next: usize, count: u32, total: usize) -> Result<Range<usize>, DecodeError> {
    let end = next.checked_add(count as usize).filter(|end| *end <= total);
    Ok(next..end.ok_or(DecodeError::OutOfRange("number of events or links"))?)
}

/// Events or links of the spans before a place: `counts` of each class.
fn children_before(
    catalogue: &Catalogue,
    counts: &[usize],
    places: &Places,
    field: Field,
) -> Result<usize, DecodeError> {
    let level = if field == Field::EventCount { Level::Event } else { Level::Link };
    if catalogue.tables[level as usize].class_of.is_empty() {
        return Ok(0);
    }
    let is_it = |column: &usize| catalogue.columns[*column].kind.field == field;
    let table = &catalogue.tables[Level::Span as usize];
    let mut sum = 0_u64;
    for column in (0..catalogue.columns.len()).filter(is_it) {
        for index in 0..places.0[column] {
            sum = sum.saturating_add(u64::from(u32_of(catalogue.number(column, catalogue.entry(column, index)?))?));
        }
        for (class, count) in table.classes.iter().zip(counts).filter(|(_, count)| **count > 0) {
            for slot in table.slots(class).iter().filter(|slot| slot.column as usize == column) {
                if let Some(entry) = slot.constant() {
                    let each = u64::from(u32_of(catalogue.number(column, entry))?);
                    sum = sum.saturating_add(each.saturating_mul(*count as u64));
                }
            }
        }
    }
    usize::try_from(sum).map_err(|_| DecodeError::OutOfRange("number of events or links"))
}
