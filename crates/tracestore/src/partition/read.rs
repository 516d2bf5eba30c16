//! Reads of a partition: pieces of a trace, lists, call counts.

use std::sync::Arc;

use pharos_model::{SpanKind, TenantId, TraceId};
use pharos_storage::{Operation, StorageError};

use super::filter::trace_hash;
use super::keys::{MetaKey, calls_minute, locator_key, read_meta_key};
use super::locator::find_blocks;
use super::pieces::TracePiece;
use super::segment::Segment;
use super::{Partition, read_error};
use crate::TraceStoreError;
use crate::calls::{CallSpan, TraceCalls};
use crate::codec::{Origin, OriginHash};
use crate::record::Row;
use crate::search::OriginSource;

/// Where some spans of a trace are. Holds on to its segment, so that merges leave the block.
#[derive(Debug, Clone)]
pub(crate) enum PiecePlace {
    /// In this block.
    Block(Arc<Segment>, u32),
    /// In a head.
    Row(Arc<Row>),
}

impl Partition {
    /// Where the pieces of a trace are, older ones first. No block is read.
    fn trace_places(&self, tenant: &TenantId, trace_id: TraceId) -> Result<Vec<PiecePlace>, TraceStoreError> {
        self.places(tenant, trace_id, |_, error| Err(error))
    }

    /// As [`Partition::trace_places`], but where a locator cannot be read, every block of its segment is a place where the trace
    /// may be: it is derived from them.
    pub(crate) fn trace_places_or_all(
        &self,
        tenant: &TenantId,
        trace_id: TraceId,
    ) -> Result<Vec<PiecePlace>, TraceStoreError> {
        self.places(tenant, trace_id, |segment, error| {
            self.report_damaged_locator(segment, &error);
            Ok((0..segment.record.blocks.len() as u32).collect())
        })
    }

    fn places(
        &self,
        tenant: &TenantId,
        trace_id: TraceId,
        mut without_locator: impl FnMut(&Segment, TraceStoreError) -> Result<Vec<u32>, TraceStoreError>,
    ) -> Result<Vec<PiecePlace>, TraceStoreError> {
        let (number, rows, segments, mark) = {
            // Heads and segments of one moment: what is sealed is in one or the other.
            let state = self.state.read();
            let Some(number) = state.tenants.get(tenant).copied() else { return Ok(Vec::new()) };
            let mark = state.deleted.get(&number).and_then(|deleted| deleted.get(&trace_id)).copied().unwrap_or(0);
            let mut rows = Vec::new();
            if let Some(sealing) = state.sealing.as_ref().filter(|sealing| sealing.number >= mark) {
                rows.extend_from_slice(sealing.unsealed.head.rows(number, trace_id));
            }
            rows.extend_from_slice(state.active.head.rows(number, trace_id));
            (number, rows, Arc::clone(&state.segments), mark)
        };
        let hash = trace_hash(trace_id);
        let mut places = Vec::new();
        // P4
        for segment in segments.of(number).iter().filter(|segment| segment.number >= mark) {
            if segment.may_contain(hash) {
                let shape = segment.record.locator;
                let read = || {
                    let page = self.database.meta(&locator_key(segment.tenant, segment.number, shape.page(hash)))?;
                    let blocks = page.map_or(Ok(Vec::new()), |page| find_blocks(shape, &page, hash));
                    blocks.map_err(TraceStoreError::corrupt("trace locator", self.day))
                };
                let blocks = read().or_else(|error| without_locator(segment, error))?;
                places.extend(blocks.into_iter().map(|block| PiecePlace::Block(Arc::clone(segment), block)));
            }
        }
        places.extend(rows.into_iter().map(PiecePlace::Row));
        Ok(places)
    }

    /// The spans of a trace at a place: a piece, none if it has none there after all, several where a block has it more than once.
    pub(crate) fn pieces(&self, trace_id: TraceId, place: &PiecePlace) -> Result<Vec<TracePiece>, TraceStoreError> {
        match place {
            PiecePlace::Row(row) => Ok(vec![TracePiece::of_row(self.day, trace_id, Arc::clone(row))]),
            PiecePlace::Block(segment, block) => {
                let opened = self.open_block(segment, *block)?;
                Ok(TracePiece::of_block(self.day, trace_id, (segment.number, *block), &opened).collect())
            }
        }
    }

    /// What to make of an error of a read at `place`: `None` if the tenant's retention ended meanwhile, and nothing is missing.
    /// It is logged, once for each block.
    pub(crate) fn damage_at(
        &self,
        tenant: &TenantId,
        place: &PiecePlace,
        error: TraceStoreError,
    ) -> Option<TraceStoreError> {
        if self.has_lost(tenant) {
            return None;
        }
        if let PiecePlace::Block(segment, block) = place {
            self.report_damage(segment, *block, &error);
        }
        Some(error)
    }

    /// Adds the spans of a trace that are here to `calls`, until that is closed; one block is in memory at a time. A trace that
    /// is new costs a look at the filters.
    pub(crate) fn read_calls(
        &self,
        tenant: &TenantId,
        trace_id: TraceId,
        calls: &mut TraceCalls,
        mut service: impl FnMut(&str) -> Arc<str>,
    ) -> Result<(), TraceStoreError> {
        for place in self.trace_places(tenant, trace_id)? {
            if calls.is_closed() {
                break;
            }
            for piece in self.pieces(trace_id, &place)? {
                piece.skeletons(|_, name, skeleton| calls.add_known(CallSpan::new(skeleton, service(name))))?;
            }
        }
        Ok(())
    }

    /// An origin that a span of this partition names; `None` once the tenant's retention ended here.
    pub(crate) fn origin(&self, tenant: &TenantId, hash: OriginHash) -> Result<Option<Arc<Origin>>, TraceStoreError> {
        let Some(number) = self.state.read().tenants.get(tenant).copied() else { return Ok(None) };
        match self.block_source().origins(number).origin(hash) {
            Err(_) if self.has_lost(tenant) => Ok(None),
            found => found.map(Some),
        }
    }

    pub(crate) fn for_each_service(&self, tenant: &TenantId, visit: impl FnMut(&str)) {
        self.state.read().names.services(tenant).for_each(visit);
    }

    pub(crate) fn for_each_operation(
        &self,
        tenant: &TenantId,
        service: &str,
        kind: Option<SpanKind>,
        visit: impl FnMut(Operation),
    ) {
        self.state.read().names.operations(tenant, service, kind).for_each(visit);
    }

    /// Call counts of the minutes, both ends inside.
    pub(crate) fn calls(
        &self,
        tenant: &TenantId,
        minutes: (u32, u32),
        mut visit: impl FnMut(&str, &str, i64) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let until = |number: u32| {
            minutes.1.checked_add(1).map_or_else(|| calls_minute(number + 1, 0), |end| calls_minute(number, end))
        };
        // What is in memory and a view of what is on disk, of one moment: a checkpoint moves counts from here to there. The disk
        // is read when the lock is free again.
        let (unsealed, sealed) = {
            let state = self.state.read();
            let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
            let unwritten = state.sealing.as_ref().filter(|sealing| sealing.written.get().is_none());
            let calls = unwritten.map(|sealing| &sealing.unsealed.calls);
            let mut unsealed = Vec::new();
            for ((of, minute, parent, child), by) in calls.into_iter().chain([&state.active.calls]).flatten() {
                if *of == number && (minutes.0..=minutes.1).contains(minute) {
                    unsealed.push((Arc::clone(parent), Arc::clone(child), *by));
                }
            }
            (unsealed, self.database.metas(&calls_minute(number, minutes.0), until(number)))
        };
        for (parent, child, by) in unsealed {
            visit(&parent, &child, by)?;
        }
        for entry in sealed {
            let (key, value) = entry.map_err(read_error)?;
            let key = read_meta_key(&key).map_err(TraceStoreError::corrupt("call count", self.day));
            if let (MetaKey::Calls { parent, child, .. }, Ok(count)) =
                (key.map_err(read_error)?, <[u8; 8]>::try_from(&*value))
            {
                visit(parent, child, i64::from_le_bytes(count))?;
            }
        }
        Ok(())
    }
}
