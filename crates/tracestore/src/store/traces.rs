//! Whole traces, part by part: the pieces of a trace are joined, equal spans once, and no more than a part is decoded
//! at a time.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use pharos_base::Reservation;
use pharos_model::{Span, SpanGroup, SpanId, TenantId, TraceId};
use pharos_storage::{ReadContext, StorageError, Trace, TraceLookup, TracePart, TracePartStream, TraceStream};
use xxhash_rust::xxh3::xxh3_128;

use super::Shared;
use crate::TraceStoreError;
use crate::codec::{Origin, OriginHash, put_details};
use crate::partition::{Partition, PiecePlace, TracePiece};
use crate::record::Day;
use crate::unreadable::Unreadable;

/// What decoded spans take is counted in steps of this.
const COUNTED_BYTES: u64 = 64 << 10;
/// Blocks and rows of a trace that are kept from the look at their ids until their spans are read; more are read twice.
const HELD_BYTES_MAX: u64 = 8 << 20;
/// What it takes to know an id, about.
const ID_BYTES: u64 = 16;
/// What it takes to know that a span with an id that comes again was handed out, about.
const REPEATED_BYTES: u64 = 48;

impl Shared {
    pub(super) fn traces(
        self: &Arc<Self>,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> TraceStream {
        // One part is the whole trace.
        let parts = self.trace_parts(tenant, lookups, NonZeroUsize::MAX, context);
        Box::new(
            parts.map(|part| {
                part.map(|TracePart { trace_id, groups, warnings, .. }| Trace { trace_id, groups, warnings })
            }),
        )
    }

    pub(super) fn trace_parts(
        self: &Arc<Self>,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        spans_max: NonZeroUsize,
        context: &ReadContext,
    ) -> TracePartStream {
        let (shared, tenant, context) = (Arc::clone(self), tenant.clone(), context.clone());
        let mut lookups: VecDeque<_> = lookups.iter().copied().collect();
        let mut reader: Option<PartReader> = None;
        let mut has_failed = false;
        Box::new(std::iter::from_fn(move || {
            if has_failed {
                return None;
            }
            let mut next = || -> Result<Option<TracePart>, StorageError> {
                loop {
                    if let Some(open) = &mut reader {
                        if let Some(part) = open.next(&context)? {
                            return Ok(Some(part));
                        }
                        reader = None;
                    }
                    let Some(lookup) = lookups.pop_front() else { return Ok(None) };
                    context.check()?;
                    reader = PartReader::open(&shared, &tenant, lookup, spans_max, &context)?;
                }
            };
            let part = next();
            has_failed = part.is_err();
            part.transpose()
        }))
    }
}

/// A piece that is in memory or is read when its turn comes.
enum Piece {
    Held(TracePiece, PiecePlace),
    /// Spans of it that were counted when it was looked at.
    There(PiecePlace, u64),
}

/// Reads one trace.
struct PartReader {
    tenant: TenantId,
    trace_id: TraceId,
    pieces: VecDeque<(Arc<Partition>, Piece)>,
    /// Spans of the first piece that were read.
    read_of_piece: u32,
    /// Spans that were not read, in pieces that were looked at.
    left: u64,
    /// Whether there are pieces that were not looked at.
    has_unseen: bool,
    /// What is left out, as it cannot be read.
    unreadable: Unreadable,
    /// Days between its first and last span that are set aside.
    days_aside: Vec<Day>,
    has_begun: bool,
    /// Ids that come more than once: of these it matters what was handed out.
    repeated: HashSet<SpanId>,
    handed_out: HashSet<u128>,
    /// `None` for one that is not there.
    origins: HashMap<OriginHash, Option<Arc<Origin>>>,
    spans_max: usize,
    /// Spans that may still be handed out.
    allowed: u64,
    spans_limit: u64,
    /// A part is handed out when it is known whether another follows.
    ready: Option<(TracePart, Reservation)>,
    /// For the part that was handed out last, until the next one is asked for.
    handed_out_bytes: Option<Reservation>,
    /// For the pieces.
    _held: Reservation,
}

impl PartReader {
    /// `None` if the trace is not there.
    ///
    /// Looks at the ids of all spans that may be handed out, piece by piece; what that takes is reserved as it goes.
    fn open(
        shared: &Arc<Shared>,
        tenant: &TenantId,
        lookup: TraceLookup,
        spans_max: NonZeroUsize,
        context: &ReadContext,
    ) -> Result<Option<Self>, StorageError> {
        let (trace_id, allowed) = (lookup.trace_id, shared.settings.trace_spans_max);
        let (mut reserved, mut ids_reserved) = (context.memory.reserve(0)?, context.memory.reserve(0)?);
        let (mut seen, mut repeated) = (HashSet::new(), HashSet::new());
        let (mut pieces, mut has_unseen) = (VecDeque::new(), false);
        let (mut left, mut held_bytes, mut largest_bytes) = (0_u64, 0, 0);
        let mut unreadable = Unreadable::default();
        for (partition, place) in shared.places_of(tenant, lookup)? {
            // So many different ids are as many different spans: no more are handed out.
            if seen.len() as u64 > allowed {
                pieces.push_back((partition, Piece::There(place, 0)));
                has_unseen = true;
                continue;
            }
            context.check()?;
            let before = left;
            let mut look = || -> Result<Vec<TracePiece>, TraceStoreError> {
                let found = partition.pieces(trace_id, &place)?;
                for piece in &found {
                    piece.span_ids(|span_id| {
                        left += 1;
                        if !seen.insert(span_id) {
                            repeated.insert(span_id);
                        }
                    })?;
                }
                Ok(found)
            };
            let found = match look() {
                Ok(found) => found,
                Err(error) => {
                    left = before;
                    partition.damage_at(tenant, &place, error).into_iter().for_each(|error| unreadable.note(error));
                    continue;
                }
            };
            ids_reserved.grow((left - before) * ID_BYTES)?;
            let bytes = found.iter().map(TracePiece::bytes).max().unwrap_or(0);
            if held_bytes + bytes <= HELD_BYTES_MAX {
                held_bytes += bytes;
                reserved.grow(bytes)?;
                let held = |piece| (Arc::clone(&partition), Piece::Held(piece, place.clone()));
                pieces.extend(found.into_iter().map(held));
            } else {
                if bytes > largest_bytes {
                    reserved.grow(bytes - largest_bytes)?;
                    largest_bytes = bytes;
                }
                pieces.push_back((partition, Piece::There(place, left - before)));
            }
        }
        if pieces.is_empty() {
            return unreadable.take_failure().map_or(Ok(None), Err);
        }
        let days = pieces.iter().map(|(partition, _)| partition.day());
        let (first, last) = (days.clone().min(), days.max());
        let mut days_aside = shared.gone.days_aside();
        days_aside.retain(|day| first <= Some(*day) && Some(*day) <= last);
        // What tells equal spans apart.
        reserved.grow(left.saturating_sub(seen.len() as u64) * REPEATED_BYTES)?;
        Ok(Some(Self {
            tenant: tenant.clone(),
            trace_id,
            pieces,
            read_of_piece: 0,
            left,
            has_unseen,
            unreadable,
            days_aside,
            has_begun: false,
            repeated,
            handed_out: HashSet::new(),
            origins: HashMap::new(),
            spans_max: spans_max.get(),
            allowed,
            spans_limit: allowed,
            ready: None,
            handed_out_bytes: None,
            _held: reserved,
        }))
    }

    fn next(&mut self, context: &ReadContext) -> Result<Option<TracePart>, StorageError> {
        if self.ready.is_none() {
            self.ready = self.read_part(context)?;
        }
        drop(self.handed_out_bytes.take());
        let Some((mut part, part_bytes)) = self.ready.take() else {
            let failure = if self.has_begun { None } else { self.unreadable.take_failure() };
            return failure.map_or(Ok(None), Err);
        };
        self.has_begun = true;
        self.handed_out_bytes = Some(part_bytes);
        self.ready = self.read_part(context)?;
        part.is_last = self.ready.is_none();
        if part.is_last && self.left > 0 {
            let others = if self.has_unseen { "the others".to_owned() } else { self.left.to_string() };
            part.warnings.push(format!(
                "the trace has more than {} spans; {others} are left out (raise tracestore.trace_spans_max to see them)",
                self.spans_limit
            ));
        }
        if part.is_last {
            part.warnings.extend(self.unreadable.warning("spans are missing: parts of the trace that cannot be read"));
            part.warnings.extend(self.days_aside.iter().map(|day| {
                format!("spans may be missing: {day} is damaged and set aside until `pharos doctor --repair` reads it")
            }));
        }
        Ok(Some(part))
    }

    /// What cannot be read of the first piece, which had so many more spans, is left out.
    fn give_up(&mut self, place: &PiecePlace, spans: u64, error: TraceStoreError) {
        if let Some((partition, _)) = self.pieces.pop_front() {
            let damage = partition.damage_at(&self.tenant, place, error);
            if let Some(damage) = damage {
                self.unreadable.note(damage);
            }
        }
        self.left = self.left.saturating_sub(spans);
        self.read_of_piece = 0;
    }

    /// The next spans; `None` if there are no more.
    fn read_part(&mut self, context: &ReadContext) -> Result<Option<(TracePart, Reservation)>, StorageError> {
        let mut part_bytes = CountedBytes::new(context)?;
        let mut groups: Vec<SpanGroup> = Vec::new();
        let mut group_of: HashMap<OriginHash, usize> = HashMap::new();
        let mut room = self.spans_max;
        while room > 0 && self.allowed > 0 {
            if let Some((partition, Piece::There(place, spans))) = self.pieces.front() {
                let (partition, place, spans) = (Arc::clone(partition), place.clone(), *spans);
                match partition.pieces(self.trace_id, &place) {
                    Ok(found) => {
                        self.pieces.pop_front();
                        for piece in found.into_iter().rev() {
                            self.pieces.push_front((Arc::clone(&partition), Piece::Held(piece, place.clone())));
                        }
                    }
                    Err(error) => self.give_up(&place, spans, error),
                }
                continue;
            }
            let Some((partition, Piece::Held(piece, place))) = self.pieces.front() else { break };
            let partition = Arc::clone(partition);
            context.check()?;
            let wanted = u32::try_from((room as u64).min(self.allowed)).unwrap_or(u32::MAX);
            let mut visited = 0;
            let read = piece.spans(self.read_of_piece, wanted, |hash, span| {
                visited += 1;
                part_bytes.add(span.memory_bytes() as u64)?;
                if self.repeated.contains(&span.span_id) && !self.handed_out.insert(content_hash(hash, &span)) {
                    return Ok(());
                }
                let group = if let Some(group) = group_of.get(&hash) {
                    *group
                } else {
                    // Its retention ended while it was read, or it is damaged.
                    let found = origin(&mut self.origins, &mut self.unreadable, &partition, &self.tenant, hash);
                    let Some(origin) = found else { return Ok(()) };
                    let Origin { resource, scope } = (*origin).clone();
                    groups.push(SpanGroup { resource, scope, spans: Vec::new() });
                    group_of.insert(hash, groups.len() - 1);
                    groups.len() - 1
                };
                groups[group].spans.push(span);
                room -= 1;
                self.allowed -= 1;
                Ok::<_, StorageError>(())
            });
            let (read, damage) = match read {
                Ok(read) => (read?, None),
                // What was read before the damage is sound.
                Err(error) => (visited, Some((place.clone(), piece.span_count(), error))),
            };
            self.read_of_piece += read;
            self.left = self.left.saturating_sub(u64::from(read));
            if let Some((place, spans, error)) = damage {
                let left = u64::from(spans.saturating_sub(self.read_of_piece));
                self.give_up(&place, left, error);
            } else if read < wanted {
                self.pieces.pop_front();
                self.read_of_piece = 0;
            }
        }
        let (trace_id, warnings) = (self.trace_id, Vec::new());
        let part = TracePart { trace_id, groups, warnings, is_last: false };
        Ok((!part.groups.is_empty()).then_some((part, part_bytes.reserved)))
    }
}

/// Bytes of decoded spans, reserved as they become more.
struct CountedBytes {
    reserved: Reservation,
    counted: u64,
}

impl CountedBytes {
    fn new(context: &ReadContext) -> Result<Self, StorageError> {
        Ok(Self { reserved: context.memory.reserve(0)?, counted: 0 })
    }

    fn add(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.counted += bytes;
        if self.counted > self.reserved.bytes() {
            self.reserved.grow((self.counted - self.reserved.bytes()).next_multiple_of(COUNTED_BYTES))?;
        }
        Ok(())
    }
}

/// `None` for one that cannot be read, which is noted, and for one that left with its tenant's retention.
fn origin(
    known: &mut HashMap<OriginHash, Option<Arc<Origin>>>,
    unreadable: &mut Unreadable,
    partition: &Partition,
    tenant: &TenantId,
    hash: OriginHash,
) -> Option<Arc<Origin>> {
    if let Some(known) = known.get(&hash) {
        return known.clone();
    }
    let origin = partition.origin(tenant, hash).unwrap_or_else(|error| {
        partition.report_damaged_origin(tenant, hash, &error);
        unreadable.note(error);
        None
    });
    known.insert(hash, origin.clone());
    origin
}

/// What makes two spans of a trace equal: origin, skeleton and details.
fn content_hash(origin: OriginHash, span: &Span) -> u128 {
    let mut bytes = origin.0.to_vec();
    bytes.extend_from_slice(&span.span_id.0);
    bytes.extend_from_slice(&span.parent_span_id.0);
    bytes.extend_from_slice(&span.start_ns.to_le_bytes());
    bytes.extend_from_slice(&span.end_ns.to_le_bytes());
    bytes.extend_from_slice(&[span.kind as u8, span.status.code as u8]);
    put_details(&mut bytes, span);
    xxh3_128(&bytes)
}
