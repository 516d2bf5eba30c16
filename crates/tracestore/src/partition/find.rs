//! Searches of a partition: spans in memory, then blocks, those with the latest starts first.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use pharos_model::{TenantId, TraceId};
use pharos_storage::{ReadContext, StorageError};

use super::indexing::{BlockSource, TenantValues};
use super::segment::Segment;
use super::{DeletedTraces, Partition, read_error};
use crate::TraceStoreError;
use crate::block::Block;
use crate::search::{EvaluateError, Search, TopTraces, passing_spans};

impl Partition {
    /// Offers the newest spans that pass to `top`.
    pub(crate) fn search(
        &self,
        tenant: &TenantId,
        search: &Search<'_>,
        top: &mut TopTraces,
        context: &ReadContext,
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
            context.check()?;
            let hidden = |trace_id| is_deleted(&deleted, trace_id, *segment);
            chunk.search(self.day, search, &origins, &hidden, top).map_err(read_error)?;
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
            if !top.could_take(start_max_ns) {
                break;
            }
            context.check()?;
            search_block(source, segments[&segment], block, search, &deleted, top).map_err(read_error)?;
        }
        Ok(())
    }
}

/// P4: whether a segment, or a head that becomes one, has the trace no more.
pub(super) fn is_deleted(deleted: &DeletedTraces, trace_id: TraceId, segment: u64) -> bool {
    deleted.get(&trace_id).is_some_and(|mark| segment < *mark)
}

fn search_block(
    source: BlockSource<'_>,
    segment: &Segment,
    number: u32,
    search: &Search<'_>,
    deleted: &DeletedTraces,
    top: &mut TopTraces,
) -> Result<(), TraceStoreError> {
    let bytes = source.block(segment, number)?;
    let failed = |error| source.failed(segment, number, error);
    let block = Block::open(&bytes).map_err(EvaluateError::from).map_err(failed)?;
    let passing = passing_spans(&search.test, &block, &source.origins(segment.tenant)).map_err(failed)?;
    if passing.is_empty() {
        return Ok(());
    }
    let starts: Vec<u64> = block.times().map(|(start_ns, _)| start_ns).collect();
    let mut traces = block.traces().iter();
    let mut trace = traces.next();
    for span in passing.iter() {
        while trace.is_some_and(|trace| trace.spans.end as usize <= span) {
            trace = traces.next();
        }
        let Some(trace) = trace else { break };
        let start_ns = starts[span];
        if top.could_take(start_ns) && !is_deleted(deleted, trace.trace_id, segment.number) {
            top.offer(trace.trace_id, start_ns);
        }
    }
    Ok(())
}
