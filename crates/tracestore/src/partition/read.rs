//! Reads of a partition: pieces of a trace, lists, call counts.

use std::sync::Arc;

use pharos_model::{SpanKind, TenantId, TraceId};
use pharos_storage::Operation;

use super::Partition;
use super::filter::trace_hash;
use super::keys::{MetaKey, calls_minute, locator_key, read_meta_key};
use super::locator::find_blocks;
use super::pieces::TracePiece;
use super::segment::Segment;
use crate::TraceStoreError;
use crate::calls::CallSpan;
use crate::codec::{Origin, OriginHash};
use crate::search::OriginSource;

impl Partition {
    /// The pieces of a trace, older ones first.
    pub(crate) fn trace_pieces(
        &self,
        tenant: &TenantId,
        trace_id: TraceId,
    ) -> Result<Vec<TracePiece>, TraceStoreError> {
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
        let mut pieces = Vec::new();
        // P4
        for segment in segments.of(number).iter().filter(|segment| segment.number >= mark) {
            if segment.may_contain(hash) {
                self.find_in(segment, trace_id, hash, &mut pieces)?;
            }
        }
        pieces.extend(rows.into_iter().map(|row| TracePiece::of_row(self.day, trace_id, row)));
        Ok(pieces)
    }

    fn find_in(
        &self,
        segment: &Segment,
        trace_id: TraceId,
        hash: u64,
        pieces: &mut Vec<TracePiece>,
    ) -> Result<(), TraceStoreError> {
        let shape = segment.record.locator;
        let page = self.database.meta(&locator_key(segment.tenant, segment.number, shape.page(hash)))?;
        let blocks = page.map_or(Ok(Vec::new()), |page| find_blocks(shape, &page, hash));
        for block in blocks.map_err(TraceStoreError::corrupt("trace locator", self.day))? {
            let opened = self.open_block(segment, block)?;
            pieces.extend(TracePiece::of_block(self.day, trace_id, (segment.number, block), &opened));
        }
        Ok(())
    }

    /// All spans of a trace that are here, for the pairing of calls. A trace that is new costs a look at the filters.
    pub(crate) fn call_spans(
        &self,
        tenant: &TenantId,
        trace_id: TraceId,
        mut service: impl FnMut(&str) -> Arc<str>,
    ) -> Result<Vec<CallSpan>, TraceStoreError> {
        let mut found = Vec::new();
        for piece in self.trace_pieces(tenant, trace_id)? {
            piece.skeletons(|_, name, skeleton| found.push(CallSpan::new(skeleton, service(name))))?;
        }
        Ok(found)
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
        mut visit: impl FnMut(&str, &str, i64),
    ) -> Result<(), TraceStoreError> {
        // Under the lock, so that a checkpoint does not move counts from memory to disk meanwhile.
        let state = self.state.read();
        let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
        let unwritten = state.sealing.as_ref().filter(|sealing| sealing.written.get().is_none());
        let calls = unwritten.map(|sealing| &sealing.unsealed.calls);
        for ((tenant, minute, parent, child), by) in calls.into_iter().chain([&state.active.calls]).flatten() {
            if *tenant == number && (minutes.0..=minutes.1).contains(minute) {
                visit(parent, child, *by);
            }
        }
        let until =
            minutes.1.checked_add(1).map_or_else(|| calls_minute(number + 1, 0), |end| calls_minute(number, end));
        for entry in self.database.metas(&calls_minute(number, minutes.0), until) {
            let (key, value) = entry?;
            let key = read_meta_key(&key).map_err(TraceStoreError::corrupt("call count", self.day))?;
            if let (MetaKey::Calls { parent, child, .. }, Ok(count)) = (key, <[u8; 8]>::try_from(&*value)) {
                visit(parent, child, i64::from_le_bytes(count));
            }
        }
        Ok(())
    }
}
