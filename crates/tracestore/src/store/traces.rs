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
use crate::partition::{Partition, PiecePlace, TracePiece, read_error};

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
    Held(TracePiece),
    There(PiecePlace),
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
    /// Ids that come more than once: of these it matters what was handed out.
    repeated: HashSet<SpanId>,
    handed_out: HashSet<u128>,
    origins: HashMap<OriginHash, Arc<Origin>>,
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
        for (partition, place) in shared.places_of(tenant, lookup)? {
            // So many different ids are as many different spans: no more are handed out.
            if seen.len() as u64 > allowed {
                pieces.push_back((partition, Piece::There(place)));
                has_unseen = true;
                continue;
            }
            context.check()?;
            let found = partition.pieces(trace_id, &place).map_err(read_error)?;
            let before = left;
            for piece in &found {
                let visit = |span_id| {
                    left += 1;
                    if !seen.insert(span_id) {
                        repeated.insert(span_id);
                    }
                };
                piece.span_ids(visit).map_err(read_error)?;
            }
            ids_reserved.grow((left - before) * ID_BYTES)?;
            let bytes = found.iter().map(TracePiece::bytes).max().unwrap_or(0);
            if held_bytes + bytes <= HELD_BYTES_MAX {
                held_bytes += bytes;
                reserved.grow(bytes)?;
                pieces.extend(found.into_iter().map(|piece| (Arc::clone(&partition), Piece::Held(piece))));
            } else {
                if bytes > largest_bytes {
                    reserved.grow(bytes - largest_bytes)?;
                    largest_bytes = bytes;
                }
                pieces.push_back((partition, Piece::There(place)));
            }
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        // What tells equal spans apart.
        reserved.grow((left - seen.len() as u64) * REPEATED_BYTES)?;
        Ok(Some(Self {
            tenant: tenant.clone(),
            trace_id,
            pieces,
            read_of_piece: 0,
            left,
            has_unseen,
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
        let Some((mut part, part_bytes)) = self.ready.take() else { return Ok(None) };
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
        Ok(Some(part))
    }

    /// The next spans; `None` if there are no more.
    fn read_part(&mut self, context: &ReadContext) -> Result<Option<(TracePart, Reservation)>, StorageError> {
        let mut part_bytes = CountedBytes::new(context)?;
        let mut groups: Vec<SpanGroup> = Vec::new();
        let mut group_of: HashMap<OriginHash, usize> = HashMap::new();
        let mut room = self.spans_max;
        while room > 0 && self.allowed > 0 {
            if let Some((partition, Piece::There(place))) = self.pieces.front() {
                let partition = Arc::clone(partition);
                let found = partition.pieces(self.trace_id, place).map_err(read_error)?;
                self.pieces.pop_front();
                for piece in found.into_iter().rev() {
                    self.pieces.push_front((Arc::clone(&partition), Piece::Held(piece)));
                }
                continue;
            }
            let Some((partition, Piece::Held(piece))) = self.pieces.front() else { break };
            context.check()?;
            let wanted = u32::try_from((room as u64).min(self.allowed)).unwrap_or(u32::MAX);
            let read = piece.spans(self.read_of_piece, wanted, |hash, span| {
                part_bytes.add(span.memory_bytes() as u64)?;
                if self.repeated.contains(&span.span_id) && !self.handed_out.insert(content_hash(hash, &span)) {
                    return Ok(());
                }
                let group = if let Some(group) = group_of.get(&hash) {
                    *group
                } else {
                    let origin = origin(&mut self.origins, partition, &self.tenant, hash).map_err(read_error)?;
                    // Its retention ended while it was read.
                    let Some(origin) = origin else { return Ok(()) };
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
            let read = read.map_err(read_error)??;
            self.read_of_piece += read;
            self.left = self.left.saturating_sub(u64::from(read));
            if read < wanted {
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

fn origin(
    known: &mut HashMap<OriginHash, Arc<Origin>>,
    partition: &Partition,
    tenant: &TenantId,
    hash: OriginHash,
) -> Result<Option<Arc<Origin>>, TraceStoreError> {
    if let Some(origin) = known.get(&hash) {
        return Ok(Some(origin.clone()));
    }
    let origin = partition.origin(tenant, hash)?;
    known.extend(origin.clone().map(|origin| (hash, origin)));
    Ok(origin)
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
