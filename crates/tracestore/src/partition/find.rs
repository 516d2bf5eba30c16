//! Searches of a partition: spans in memory, then blocks, those with the latest starts first.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use pharos_model::{TenantId, TraceId};
use pharos_storage::StorageError;

use super::indexing::TenantValues;
use super::segment::Segment;
use super::{DeletedTraces, Partition, read_error};
use crate::TraceStoreError;
use crate::block::Block;
use crate::search::{Progress, Search, TopTraces, passing_spans};

impl Partition {
    /// Offers the newest spans that pass to `top`. Blocks that cannot be read are left out, and `progress` knows of them.
    pub(crate) fn search(
        &self,
        tenant: &TenantId,
        search: &Search<'_>,
        top: &mut TopTraces,
        progress: &mut Progress<'_>,
    ) -> Result<(), StorageError> {
        let (number, mut chunks, segments, view, deleted) = {
            // Tails, segments and index of one moment: what is sealed is in one or the other, and I1.
            let state = self.state.read();
            let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
            let mut chunks: Vec<_> =
                state.active.tail.chunks(number).iter().map(|chunk| (Arc::clone(chunk), u64::MAX)).collect();
            if let Some(sealing) = &state.sealing {
                let sealed = sealing.unsealed.tail.chunks(number);
                chunks.extend(sealed.iter().map(|chunk| (Arc::clone(chunk), sealing.number)));
            }
            let deleted = state.deleted.get(&number).cloned().unwrap_or_default();
            (number, chunks, Arc::clone(&state.segments), Arc::clone(&state.view), deleted)
        };
        let source = self.block_source();
        let origins = source.origins(number);
        chunks.sort_by_key(|(chunk, _)| std::cmp::Reverse(chunk.start_max_ns()));
        for (chunk, segment) in &chunks {
            if !progress.goes_on()? {
                return Ok(());
            }
            let hidden = |trace_id| is_deleted(&deleted, trace_id, *segment);
            let searched = chunk.search(self.day, search, &origins, &hidden, top, progress)?;
            if let Err(error) = searched {
                return if self.has_lost(tenant) { Ok(()) } else { Err(read_error(error)) };
            }
        }
        let segments: HashMap<u64, &Segment> =
            segments.of(number).iter().map(|segment| (segment.number, &**segment)).collect();
        let values = TenantValues { source, segments: segments.clone() };
        let proposed = view.candidates(number, &search.necessary, &values).map_err(read_error)?;
        let in_range = proposed.into_iter().filter_map(|candidate| {
            let segment = segments.get(&candidate.segment)?;
            let bounds = segment.record.blocks.get(candidate.block as usize)?;
            let range = search.query.start;
            let may_start_in = bounds.start_min_ns < range.end_ns && bounds.start_max_ns >= range.start_ns;
            may_start_in.then_some((bounds.start_max_ns, candidate.segment, candidate.block))
        });
        let mut blocks: BinaryHeap<_> = in_range.collect();
        while let Some((start_max_ns, segment, block)) = blocks.pop() {
            if !top.could_take(start_max_ns) || !progress.goes_on()? {
                break;
            }
            let segment = segments[&segment];
            let searched = match self.open_block(segment, block) {
                Ok(opened) => {
                    let _held = progress.context().memory.reserve(opened.memory_bytes())?;
                    self.search_block(segment, block, &opened, search, &deleted, top)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = searched {
                if self.has_lost(tenant) {
                    break;
                }
                self.report_damage(segment, block, &error);
                progress.note_unreadable(error);
            }
        }
        Ok(())
    }

    /// Whether the tenant's retention ended here: what was found before may be gone.
    pub(crate) fn has_lost(&self, tenant: &TenantId) -> bool {
        self.state.read().expired.contains_key(tenant)
    }

    fn search_block(
        &self,
        segment: &Segment,
        number: u32,
        block: &Block,
        search: &Search<'_>,
        deleted: &DeletedTraces,
        top: &mut TopTraces,
    ) -> Result<(), TraceStoreError> {
        let source = self.block_source();
        let passing = passing_spans(&search.test, block, &source.origins(segment.tenant))
            .map_err(|error| source.failed(segment, number, error))?;
        if passing.is_empty() {
            return Ok(());
        }
        let mut starts = block.span_starts();
        for span in passing.iter() {
            let Some((trace, start_ns)) = starts.of(span) else { break };
            let trace_id = block.traces()[trace].trace_id;
            if top.could_take(start_ns) && !is_deleted(deleted, trace_id, segment.number) {
                top.offer(trace_id, start_ns);
            }
        }
        Ok(())
    }
}

/// P4: whether a segment, or a head that becomes one, has the trace no more.
pub(super) fn is_deleted(deleted: &DeletedTraces, trace_id: TraceId, segment: u64) -> bool {
    deleted.get(&trace_id).is_some_and(|mark| segment < *mark)
}
