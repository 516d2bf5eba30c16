//! Lists for completion: spans in memory, the words of the index, and the newest of the blocks that words leave open or
//! that a predicate asks for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pharos_model::TenantId;
use pharos_storage::{ReadContext, StorageError};

use super::find::is_deleted;
use super::index::Candidate;
use super::indexing::{BlockSource, TenantValues};
use super::segment::Segment;
use super::{DeletedTraces, Partition, read_error};
use crate::TraceStoreError;
use crate::block::Block;
use crate::search::{Bits, EvaluateError, Listing, Search, Wanted, list_block, passing_spans};

impl Partition {
    /// Adds what the spans of the day have, or, with a search, those that pass.
    pub(crate) fn list(
        &self,
        tenant: &TenantId,
        search: Option<&Search<'_>>,
        listing: &mut Listing<'_>,
        context: &ReadContext,
    ) -> Result<(), StorageError> {
        let (number, chunks, segments, view, deleted) = {
            // Tails, segments and index of one moment: what is sealed is in one or the other, and I1.
            let state = self.state.read();
            let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
            let active = state.active.tail.chunks(number).iter();
            let mut chunks: Vec<_> = active.map(|chunk| (Arc::clone(chunk), u64::MAX)).collect();
            if let Some(sealing) = &state.sealing {
                let sealed = sealing.unsealed.tail.chunks(number).iter();
                chunks.extend(sealed.map(|chunk| (Arc::clone(chunk), sealing.number)));
            }
            let deleted = state.deleted.get(&number).cloned().unwrap_or_default();
            (number, chunks, Arc::clone(&state.segments), Arc::clone(&state.view), deleted)
        };
        let source = self.block_source();
        let origins = source.origins(number);
        for (chunk, segment) in &chunks {
            context.check()?;
            if listing.is_full() {
                return listing.check();
            }
            let hidden = |trace_id| is_deleted(&deleted, trace_id, *segment);
            chunk.list(self.day, search, &origins, &hidden, listing).map_err(read_error)?;
        }
        let segments: HashMap<u64, &Segment> =
            segments.of(number).iter().map(|segment| (segment.number, &**segment)).collect();
        let seen = |segment| segments.contains_key(&segment);
        let unread = match (search, listing.wanted) {
            (Some(search), _) => {
                let values = TenantValues { source, segments: segments.clone() };
                view.candidates(number, &search.necessary, &values)
            }
            (None, Wanted::Keys(_)) => view.list_keys(number, &seen, listing),
            (None, Wanted::Values(_)) => view.list_values(number, &seen, listing),
        };
        let unread = newest_first(&unread.map_err(read_error)?, &segments, search);
        for (segment, block) in unread {
            if listing.is_full() {
                break;
            }
            if listing.blocks_left == 0 {
                listing.is_cut = true;
                break;
            }
            listing.blocks_left -= 1;
            context.check()?;
            list_one(source, segment, block, search, &deleted, listing).map_err(read_error)?;
        }
        listing.check()
    }
}

/// The blocks that readers see and that may have spans in the range of the search.
fn newest_first<'s>(
    candidates: &[Candidate],
    segments: &HashMap<u64, &'s Segment>,
    search: Option<&Search<'_>>,
) -> Vec<(&'s Segment, u32)> {
    let mut sorted = BTreeSet::new();
    for Candidate { segment, block } in candidates {
        let bounds = segments.get(segment).and_then(|segment| segment.record.blocks.get(*block as usize));
        let Some(bounds) = bounds else { continue };
        let may_start_in = search.is_none_or(|search| {
            bounds.start_min_ns < search.query.start.end_ns && bounds.start_max_ns >= search.query.start.start_ns
        });
        if may_start_in {
            sorted.insert((bounds.start_max_ns, *segment, *block));
        }
    }
    sorted.into_iter().rev().map(|(_, segment, block)| (segments[&segment], block)).collect()
}

fn list_one(
    source: BlockSource<'_>,
    segment: &Segment,
    number: u32,
    search: Option<&Search<'_>>,
    deleted: &DeletedTraces,
    listing: &mut Listing<'_>,
) -> Result<(), TraceStoreError> {
    let bytes = source.block(segment, number)?;
    let origins = source.origins(segment.tenant);
    let mut list = || -> Result<(), EvaluateError> {
        let block = Block::open(&bytes)?;
        let within = match search {
            None => None,
            Some(search) => {
                let mut passing = passing_spans(&search.test, &block, &origins)?;
                if !deleted.is_empty() {
                    let mut gone = Bits::none(passing.len());
                    let traces = block.traces().iter();
                    for trace in traces.filter(|trace| is_deleted(deleted, trace.trace_id, segment.number)) {
                        trace.spans.clone().for_each(|span| gone.insert(span as usize));
                    }
                    passing.remove(&gone);
                }
                if passing.is_empty() {
                    return Ok(());
                }
                Some(passing)
            }
        };
        list_block(&block, &origins, within.as_ref(), listing)
    };
    list().map_err(|error| source.failed(segment, number, error))
}
