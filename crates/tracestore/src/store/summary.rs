//! A trace in short from ids, times and states of its spans, piece by piece: whole spans are not decoded, and one piece is
//! in memory at a time.

use std::collections::BTreeMap;

use pharos_model::{SpanId, StatusCode, TenantId, TraceId};
use pharos_storage::{ReadContext, ServiceSpanCount, StorageError, TraceSummary};

use super::read::TracePlaces;
use crate::TraceStoreError;
use crate::partition::TracePiece;
use crate::unreadable::Unreadable;

/// What came of it.
pub(super) enum Summarized {
    /// The trace is not there.
    Absent,
    /// Span ids come twice: of equal spans, or of different ones.
    IdsRepeat,
    Whole(TraceSummary),
}

/// Spans, and those that ended in error.
#[derive(Default)]
struct Counts {
    spans: u64,
    errors: u64,
}

struct Root {
    /// Start and id: where ids are unique, they decide.
    place: (u64, SpanId),
    service: String,
    operation: String,
}

/// All spans so far.
struct Sums {
    ids: Vec<SpanId>,
    parents: Vec<SpanId>,
    services: BTreeMap<String, Counts>,
    start_ns: u64,
    end_ns: u64,
    root: Option<Root>,
    unreadable: Unreadable,
}

/// Looks at the trace at `places`. What its ids take is reserved as it goes.
///
/// # Errors
/// As soon as a bound of `context` is met, and if nothing of the trace can be read.
pub(super) fn summarize(
    (tenant, trace_id): (&TenantId, TraceId),
    places: &TracePlaces,
    context: &ReadContext,
) -> Result<Summarized, StorageError> {
    let (ids, parents, services) = (Vec::new(), Vec::new(), BTreeMap::new());
    let unreadable = Unreadable::default();
    let mut sums = Sums { ids, parents, services, start_ns: u64::MAX, end_ns: 0, root: None, unreadable };
    let mut reserved = context.memory.reserve(0)?;
    let mut largest_bytes = 0;
    for (partition, place) in places {
        context.check()?;
        let known = sums.ids.len() + sums.parents.len();
        let read = partition.pieces(trace_id, place).and_then(|pieces| {
            pieces.iter().try_for_each(|piece| sums.add(piece))?;
            Ok(pieces)
        });
        let pieces = read.unwrap_or_else(|error| {
            let damage = partition.damage_at(tenant, place, error);
            if let Some(damage) = damage {
                sums.unreadable.note(damage);
            }
            Vec::new()
        });
        // A vector that grows doubles.
        let ids_bytes = 2 * (sums.ids.len() + sums.parents.len() - known) * size_of::<SpanId>();
        let bytes = pieces.iter().map(TracePiece::bytes).max().unwrap_or(0);
        let more_bytes = bytes.saturating_sub(largest_bytes);
        largest_bytes += more_bytes;
        reserved.grow(ids_bytes as u64 + more_bytes)?;
    }
    sums.finish(trace_id)
}

impl Sums {
    fn add(&mut self, piece: &TracePiece) -> Result<(), TraceStoreError> {
        let (mut index, mut root_index) = (0, None);
        let visit = |_, service: &str, span: &crate::codec::SpanSkeleton| {
            self.ids.push(span.span_id);
            self.start_ns = self.start_ns.min(span.start_ns);
            self.end_ns = self.end_ns.max(span.end_ns);
            if !self.services.contains_key(service) {
                self.services.insert(service.to_owned(), Counts::default());
            }
            if let Some(counts) = self.services.get_mut(service) {
                counts.spans += 1;
                counts.errors += u64::from(span.status == StatusCode::Error);
            }
            let place = (span.start_ns, span.span_id);
            if !span.parent_span_id.is_zero() {
                self.parents.push(span.parent_span_id);
            } else if self.root.as_ref().is_none_or(|root| place < root.place) {
                self.root = Some(Root { place, service: service.to_owned(), operation: String::new() });
                root_index = Some(index);
            }
            index += 1;
        };
        piece.skeletons(visit)?;
        if let (Some(root), Some(index)) = (&mut self.root, root_index) {
            root.operation = piece.name(index)?;
        }
        Ok(())
    }

    fn finish(mut self, trace_id: TraceId) -> Result<Summarized, StorageError> {
        if self.ids.is_empty() {
            return self.unreadable.take_failure().map_or(Ok(Summarized::Absent), Err);
        }
        self.ids.sort_unstable();
        if self.ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Ok(Summarized::IdsRepeat);
        }
        let is_orphan = |parent: &&SpanId| self.ids.binary_search(parent).is_err();
        let orphan_count = self.parents.iter().filter(is_orphan).count() as u64;
        let (root_service, root_operation) =
            self.root.map_or_else(Default::default, |root| (root.service, root.operation));
        let error_count = self.services.values().map(|counts| counts.errors).sum();
        let of_service = |(service, Counts { spans, errors })| ServiceSpanCount { service, spans, errors };
        let warning = self.unreadable.warning("spans are missing: parts of the trace that cannot be read");
        Ok(Summarized::Whole(TraceSummary {
            trace_id,
            root_service,
            root_operation,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            span_count: self.ids.len() as u64,
            error_count,
            orphan_count,
            services: self.services.into_iter().map(of_service).collect(),
            warnings: warning.into_iter().collect(),
        }))
    }
}
