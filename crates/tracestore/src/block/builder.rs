//! Collects the spans of a block, column by column, from what rows hold.

use pharos_model::{SpanId, TraceId};

use super::classes::TableBuilder;
use super::columns::{Columns, SlotValue};
use super::intern::Interner;
use super::schema::{Field, Level};
use super::write::{Encoder, encode};
use crate::codec::{
    DecodeError, DetailField, DetailsVisitor, OriginHash, RawValue, SpanSkeleton, kind_code, status_code, visit_details,
};

/// Spans of one tenant, traces one after the other, in the order they shall have.
///
/// Its memory is that of the spans of one block: it is kept from one block to the next, as much as that block needed.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    pub(super) content: Content,
    pending: Pending,
    encoder: Encoder,
}

/// What a block is made of.
#[derive(Default)]
pub(super) struct Content {
    /// Trace ids and the number of the first span of each.
    pub(super) traces: Vec<(TraceId, u32)>,
    pub(super) skeletons: Vec<SpanSkeleton>,
    /// Origin hash, then the service's name.
    pub(super) origins: Interner,
    pub(super) span_origins: Vec<i64>,
    pub(super) columns: Columns,
    /// By level.
    pub(super) tables: [TableBuilder; 3],
    /// From the start of the span.
    pub(super) event_delays: Vec<i64>,
    /// Trace id and span id of each.
    pub(super) link_ids: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Begins a trace; the spans pushed next are its. A trace without spans is left out.
    pub(crate) fn begin_trace(&mut self, trace_id: TraceId) {
        let traces = &mut self.content.traces;
        let first_span = self.content.skeletons.len() as u32;
        match traces.last_mut() {
            Some((last, first)) if *first == first_span => *last = trace_id,
            _ => traces.push((trace_id, first_span)),
        }
    }

    /// Adds one span as a row keeps it: details as in `docs/keys.md`.
    ///
    /// # Panics
    /// If no trace was begun.
    ///
    /// # Errors
    /// If the details are damaged; the span is then not in the block.
    pub(crate) fn push(
        &mut self,
        origin: OriginHash,
        service: &str,
        skeleton: &SpanSkeleton,
        details: &[u8],
    ) -> Result<(), DecodeError> {
        assert!(!self.content.traces.is_empty(), "spans belong to a trace");
        self.pending.clear();
        let mut collector = Collector { columns: &mut self.content.columns, pending: &mut self.pending };
        visit_details(details, skeleton.start_ns, &mut collector)?;
        collector.count_children();
        self.content.commit(&mut self.pending, skeleton);
        self.pending.origin.clear();
        self.pending.origin.extend_from_slice(&origin.0);
        self.pending.origin.extend_from_slice(service.as_bytes());
        self.content.span_origins.push(i64::from(self.content.origins.number(&self.pending.origin)));
        Ok(())
    }

    pub(crate) fn span_count(&self) -> usize {
        self.content.skeletons.len()
    }

    /// Columns that the spans have: what a block of unusual spans takes to build and to read.
    pub(crate) fn column_count(&self) -> usize {
        self.content.columns.all().len()
    }

    /// The block's bytes; the builder is empty again and keeps its memory.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let bytes = encode(&self.content, &mut self.encoder);
        self.content.clear();
        bytes
    }
}

impl Content {
    fn commit(&mut self, pending: &mut Pending, skeleton: &SpanSkeleton) {
        self.skeletons.push(*skeleton);
        let bits = kind_code(skeleton.kind) | status_code(skeleton.status) << 3;
        self.add(Level::Span, bits, &pending.span);
        let mut from = 0;
        for (time_ns, until) in &pending.events {
            self.event_delays.push(time_ns.wrapping_sub(skeleton.start_ns) as i64);
            self.add(Level::Event, 0, &pending.event_slots[from..*until]);
            from = *until;
        }
        from = 0;
        for (ids, until) in &pending.links {
            self.link_ids.extend_from_slice(ids);
            self.add(Level::Link, 0, &pending.link_slots[from..*until]);
            from = *until;
        }
    }

    fn add(&mut self, level: Level, bits: u8, slots: &[SlotValue]) {
        self.tables[level as usize].push(bits, slots.iter().map(|(column, _)| *column));
        for slot in slots {
            self.columns.add(*slot);
        }
    }

    fn clear(&mut self) {
        self.traces.clear();
        self.skeletons.clear();
        self.origins.clear();
        self.span_origins.clear();
        self.columns.clear();
        self.tables.iter_mut().for_each(TableBuilder::clear);
        self.event_delays.clear();
        self.link_ids.clear();
    }
}

/// One span's values, until all of them are known to be sound.
#[derive(Default)]
struct Pending {
    span: Vec<SlotValue>,
    /// Time of each event and where its values end in `event_slots`.
    events: Vec<(u64, usize)>,
    event_slots: Vec<SlotValue>,
    /// Ids of each link and where its values end in `link_slots`.
    links: Vec<([u8; 24], usize)>,
    link_slots: Vec<SlotValue>,
    origin: Vec<u8>,
}

impl Pending {
    fn clear(&mut self) {
        self.span.clear();
        self.events.clear();
        self.event_slots.clear();
        self.links.clear();
        self.link_slots.clear();
    }
}

struct Collector<'a> {
    columns: &'a mut Columns,
    pending: &'a mut Pending,
}

impl Collector<'_> {
    fn slot(&mut self, field: Field, key: &str, value: RawValue<'_>) {
        let pending = &mut *self.pending;
        let (level, slots, end) = match (pending.links.last_mut(), pending.events.last_mut()) {
            (Some((_, end)), _) => (Level::Link, &mut pending.link_slots, Some(end)),
            (None, Some((_, end))) => (Level::Event, &mut pending.event_slots, Some(end)),
            (None, None) => (Level::Span, &mut pending.span, None),
        };
        let slot = self.columns.slot(slots.last().copied(), (level, field), key, value);
        slots.push(slot);
        if let Some(end) = end {
            *end = slots.len();
        }
    }

    /// How many events and links the span has are its last two slots, where it has any.
    fn count_children(&mut self) {
        let pending = &mut *self.pending;
        for (field, count) in [(Field::EventCount, pending.events.len()), (Field::LinkCount, pending.links.len())] {
            if count > 0 {
                let (previous, value) = (pending.span.last().copied(), RawValue::Int(count as i64));
                pending.span.push(self.columns.slot(previous, (Level::Span, field), "", value));
            }
        }
    }
}

impl DetailsVisitor for Collector<'_> {
    fn field(&mut self, field: DetailField, value: RawValue<'_>) {
        let is_absent = match value {
            RawValue::Int(number) => number == 0,
            RawValue::Text(text) => text.is_empty() && field != DetailField::Name,
            _ => false,
        };
        if !is_absent {
            self.slot(field.into(), "", value);
        }
    }

    fn attribute(&mut self, key: &str, value: RawValue<'_>) {
        self.slot(Field::Attribute, key, value);
    }

    fn event(&mut self, time_ns: u64) {
        let end = self.pending.event_slots.len();
        self.pending.events.push((time_ns, end));
    }

    fn link(&mut self, trace_id: TraceId, span_id: SpanId) {
        let mut ids = [0; 24];
        ids[..16].copy_from_slice(&trace_id.0);
        ids[16..].copy_from_slice(&span_id.0);
        let end = self.pending.link_slots.len();
        self.pending.links.push((ids, end));
    }
}
