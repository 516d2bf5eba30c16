//! Merges: several segments of a tenant become one.
//!
//! Most blocks are copied as they are. Made anew are those whose traces have spans in more than one of the segments (so
//! that they come together and equal spans are one), that hold deleted traces, or that are small. In memory are the hashes of
//! the traces of at most [`MERGED_SPANS_MAX`] spans, and spans of traces that are not whole yet, up to [`PENDING_BYTES_MAX`].
//!
//! Blocks are written under a number that no record names; one batch then makes the new segment count and the old ones not. The
//! old blocks stay for those who read them and go when nobody does, or with the next start.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use pharos_model::TraceId;
use rocksdb::WriteBatch;

use super::filter::trace_hash;
use super::keys::{filter_key, segment_key};
use super::pieces::corrupt_block;
use super::segment::{BlockBounds, Segment};
use super::write::{BLOCK_SPANS_MAX, RawSpan, SegmentWriter};
use super::{DeletedTraces, Partition};
use crate::TraceStoreError;
use crate::block::{Block, BlockTrace};
use crate::codec::{DecodeError, OriginHash, SpanSkeleton, put_details};

/// Segments are merged up to this size.
const MERGED_SPANS_MAX: u64 = 1_000_000;
/// So many segments of one order of size are merged in the background.
const MERGED_SEGMENTS: usize = 8;
/// Larger segments are left to full merges.
const SMALL_SPANS_MAX: u64 = MERGED_SPANS_MAX / MERGED_SEGMENTS as u64;
/// A day that is over is merged fully when it has so many segments that are less than half full.
const AGED_SEGMENTS: usize = 4;
/// Spans that wait for the rest of their trace take no more memory than this; then the oldest are written as they are.
const PENDING_BYTES_MAX: usize = 32 << 20;

/// How far a merge goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeDepth {
    /// Segments of one order of size, where they have become many.
    Small,
    /// All of a day that gets no more spans, where it is worth it.
    Aged,
    /// Everything, and deleted traces leave the disk.
    Full,
}

/// A block of a segment to merge.
struct Source {
    segment: Arc<Segment>,
    block: u32,
    bounds: BlockBounds,
    is_copied: bool,
}

impl Partition {
    /// Merges segments as far as `depth` says.
    pub(crate) fn merge(&self, depth: MergeDepth) -> Result<(), TraceStoreError> {
        let segments = Arc::clone(&self.state.read().segments);
        // In the background a checkpoint shall not wait for more than one group of a tenant.
        let groups_max = if depth == MergeDepth::Full { usize::MAX } else { 1 };
        for tenant in segments.tenants() {
            let deleted = self.state.read().deleted.get(&tenant).cloned().unwrap_or_default();
            for group in choose(segments.of(tenant), depth, &deleted).iter().take(groups_max) {
                self.merge_group(tenant, group)?;
            }
        }
        drop(segments);
        self.remove_retired()
    }

    fn merge_group(&self, tenant: u32, group: &[Arc<Segment>]) -> Result<(), TraceStoreError> {
        let (number, deleted) = {
            let mut state = self.state.write();
            let number = state.next_segment;
            state.next_segment += 1;
            // Marks that come later are above the new segment's number and hide what it has.
            (number, state.deleted.get(&tenant).cloned().unwrap_or_default())
        };
        let sources = self.plan_merge(group, &deleted)?;
        let mut merge = Merge {
            partition: self,
            deleted: &deleted,
            parts_left: HashMap::new(),
            pending: HashMap::new(),
            pending_bytes: 0,
        };
        merge.count_parts(&sources)?;
        let mut writer = SegmentWriter::new(&self.database, self.day, tenant, number);
        for source in &sources {
            let bytes = self.block_source().block_once(&source.segment, source.block)?;
            if source.is_copied {
                let opened = Block::open(&bytes).map_err(|error| source.corrupt(self, &error))?;
                let traces = opened.traces().iter().map(|trace| trace_hash(trace.trace_id));
                writer.copy_block(source.bounds, &bytes, traces)?;
            } else {
                merge.take_block(source, &bytes, &mut writer)?;
            }
        }
        merge.write_pending(0, &mut writer)?;
        let mut batch = WriteBatch::default();
        let merged = writer.finish(&self.memory.filters, &mut batch)?.map(Arc::new);
        for segment in group {
            batch.delete(segment_key(tenant, segment.number));
            batch.delete(filter_key(tenant, segment.number));
        }
        // The index knows old and new at once; searches look at those that are listed.
        if let Some(segment) = &merged {
            let mut commit = self.index.begin()?;
            self.block_source().index(segment, &mut commit)?;
            commit.finish(false)?;
        }
        let view = Arc::new(self.index.view()?);
        let mut state = self.state.write();
        let state = &mut *state;
        self.database.write(batch)?;
        state.view = view;
        state.unlisted.extend(group.iter().map(|segment| (tenant, segment.number)));
        let segments = Arc::make_mut(&mut state.segments);
        segments.remove(tenant, group);
        if let Some(segment) = merged {
            segments.insert(segment);
        }
        state.retired.extend(group.iter().cloned());
        Ok(())
    }

    /// The blocks of a group in the order of their time, and which are copied.
    fn plan_merge(&self, group: &[Arc<Segment>], deleted: &DeletedTraces) -> Result<Vec<Source>, TraceStoreError> {
        let mut sources = Vec::new();
        // Hash, segment in the group, block among the sources.
        let mut traces: Vec<(u64, u32, u32)> = Vec::new();
        for (of, segment) in group.iter().enumerate() {
            for (block, bounds) in segment.record.blocks.iter().enumerate() {
                let (block, number) = (block as u32, sources.len() as u32);
                let is_small = (bounds.span_count as usize) < BLOCK_SPANS_MAX / 2;
                let mut source = Source { segment: Arc::clone(segment), block, bounds: *bounds, is_copied: true };
                let bytes = self.block_source().block_once(segment, block)?;
                let opened = Block::open(&bytes).map_err(|error| source.corrupt(self, &error))?;
                traces.extend(opened.traces().iter().map(|trace| (trace_hash(trace.trace_id), of as u32, number)));
                let is_hidden =
                    |trace: &BlockTrace| deleted.get(&trace.trace_id).is_some_and(|mark| segment.number < *mark);
                source.is_copied = !is_small && !opened.traces().iter().any(is_hidden);
                sources.push(source);
            }
        }
        traces.sort_unstable();
        for of_trace in traces.chunk_by(|one, other| one.0 == other.0) {
            if of_trace.first().map(|first| first.1) != of_trace.last().map(|last| last.1) {
                for (_, _, source) in of_trace {
                    sources[*source as usize].is_copied = false;
                }
            }
        }
        drop(traces);
        sources.sort_by_key(|source| (source.bounds.start_min_ns, source.segment.number, source.block));
        Ok(sources)
    }

    /// Removes the blocks of segments that were merged and that nobody reads any more.
    fn remove_retired(&self) -> Result<(), TraceStoreError> {
        let mut batch = WriteBatch::default();
        let mut state = self.state.write();
        // Nobody can come to read what is in no list; who has read the list before holds the segment.
        state.retired.retain(|segment| {
            let is_read = Arc::strong_count(segment) > 1;
            if !is_read {
                let (tenant, number) = (segment.tenant, segment.number);
                self.database.delete_segment(&mut batch, tenant, number);
            }
            is_read
        });
        drop(state);
        if batch.is_empty() { Ok(()) } else { self.database.write(batch) }
    }
}

impl Source {
    fn corrupt(&self, partition: &Partition, error: &DecodeError) -> TraceStoreError {
        corrupt_block(partition.day, self.segment.number, self.block, error)
    }
}

/// A span that waits for the rest of its trace.
struct OwnedSpan {
    origin: OriginHash,
    service: Arc<str>,
    skeleton: SpanSkeleton,
    details: Box<[u8]>,
}

impl OwnedSpan {
    fn raw(&self) -> RawSpan<'_> {
        let Self { origin, service, skeleton, details } = self;
        RawSpan { origin: *origin, service, skeleton: *skeleton, details }
    }
}

#[derive(Default)]
struct PendingTrace {
    start_ns: u64,
    spans: Vec<OwnedSpan>,
    bytes: usize,
}

/// The blocks that are made anew.
struct Merge<'a> {
    partition: &'a Partition,
    deleted: &'a DeletedTraces,
    /// Blocks with spans of a trace that were not read, of traces with more than one.
    parts_left: HashMap<TraceId, u32>,
    pending: HashMap<TraceId, PendingTrace>,
    pending_bytes: usize,
}

impl Merge<'_> {
    fn count_parts(&mut self, sources: &[Source]) -> Result<(), TraceStoreError> {
        let mut once: HashSet<TraceId> = HashSet::new();
        for source in sources.iter().filter(|source| !source.is_copied) {
            let bytes = self.partition.block_source().block_once(&source.segment, source.block)?;
            let opened = Block::open(&bytes).map_err(|error| source.corrupt(self.partition, &error))?;
            for trace in opened.traces() {
                if !once.insert(trace.trace_id) {
                    *self.parts_left.entry(trace.trace_id).or_insert(1) += 1;
                }
            }
        }
        Ok(())
    }

    /// Takes the spans of a block, and writes the traces that are whole now.
    fn take_block(
        &mut self,
        source: &Source,
        bytes: &Bytes,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<(), TraceStoreError> {
        let corrupt = |error| source.corrupt(self.partition, &error);
        let block = Block::open(bytes).map_err(corrupt)?;
        let mut whole = Vec::new();
        let mut services: HashMap<String, Arc<str>> = HashMap::new();
        for trace in block.traces() {
            let id = trace.trace_id;
            if self.deleted.get(&id).is_none_or(|mark| source.segment.number >= *mark) {
                let pending = self.pending.entry(id).or_default();
                let before = pending.bytes;
                pending.take(&block, trace, &mut services).map_err(corrupt)?;
                self.pending_bytes += pending.bytes - before;
            }
            let left = self.parts_left.get_mut(&id).map_or(0, |left| {
                *left -= 1;
                *left
            });
            if left == 0 {
                whole.extend(self.pending.remove(&id).map(|pending| (id, pending)));
            }
        }
        self.write(whole, writer)?;
        self.write_pending(PENDING_BYTES_MAX, writer)
    }

    /// Writes what waits, the oldest first, until no more than `bytes_max` do.
    fn write_pending(&mut self, bytes_max: usize, writer: &mut SegmentWriter<'_>) -> Result<(), TraceStoreError> {
        if self.pending_bytes <= bytes_max {
            return Ok(());
        }
        let mut oldest: Vec<_> = self.pending.iter().map(|(id, pending)| (pending.start_ns, *id)).collect();
        oldest.sort_unstable();
        let (mut chosen, mut left) = (Vec::new(), self.pending_bytes);
        // Half of the room is made, so that this is rare.
        for (_, id) in oldest {
            if left <= bytes_max / 2 {
                break;
            }
            if let Some(pending) = self.pending.remove(&id) {
                left -= pending.bytes;
                chosen.push((id, pending));
            }
        }
        self.write(chosen, writer)
    }

    fn write(
        &mut self,
        mut traces: Vec<(TraceId, PendingTrace)>,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<(), TraceStoreError> {
        traces.sort_unstable_by_key(|(id, pending)| (pending.start_ns, *id));
        for (id, pending) in traces {
            self.pending_bytes -= pending.bytes;
            writer.push_trace(id, &mut pending.spans.iter().map(OwnedSpan::raw).collect())?;
        }
        Ok(())
    }
}

impl PendingTrace {
    fn take(
        &mut self,
        block: &Block,
        trace: &BlockTrace,
        services: &mut HashMap<String, Arc<str>>,
    ) -> Result<(), DecodeError> {
        let skeletons = block.skeletons(trace.spans.clone())?;
        self.start_ns = if self.spans.is_empty() { trace.min_start_ns } else { self.start_ns.min(trace.min_start_ns) };
        for (described, whole) in skeletons.zip(block.spans(trace.trace_id, trace.spans.clone())?) {
            let ((origin, service, skeleton), (_, span)) = (described?, whole?);
            let service = match services.get(service) {
                Some(known) => Arc::clone(known),
                None => Arc::clone(services.entry(service.to_owned()).or_insert_with(|| Arc::from(service))),
            };
            let mut details = Vec::new();
            put_details(&mut details, &span);
            self.bytes += details.len() + size_of::<OwnedSpan>();
            self.spans.push(OwnedSpan { origin, service, skeleton, details: details.into_boxed_slice() });
        }
        Ok(())
    }
}

/// The groups of segments that are merged, each to one.
fn choose(segments: &[Arc<Segment>], depth: MergeDepth, deleted: &DeletedTraces) -> Vec<Vec<Arc<Segment>>> {
    let mut by_time = segments.to_vec();
    by_time.sort_by_key(|segment| (segment.start_min_ns(), segment.number));
    match depth {
        MergeDepth::Small => {
            let mut tiers: std::collections::BTreeMap<u32, Vec<Arc<Segment>>> = std::collections::BTreeMap::new();
            for segment in by_time.iter().filter(|segment| segment.record.span_count < SMALL_SPANS_MAX) {
                let tier = segment.record.span_count.max(1).ilog(MERGED_SEGMENTS as u64);
                tiers.entry(tier).or_default().push(Arc::clone(segment));
            }
            tiers.into_values().filter(|tier| tier.len() >= MERGED_SEGMENTS).collect()
        }
        MergeDepth::Aged => {
            let is_half = |segment: &&Arc<Segment>| segment.record.span_count < MERGED_SPANS_MAX / 2;
            if by_time.iter().filter(is_half).count() < AGED_SEGMENTS {
                return Vec::new();
            }
            let mut groups = pack(by_time);
            groups.retain(|group| group.len() > 1);
            groups
        }
        MergeDepth::Full => {
            let has_deleted = |segment: &Arc<Segment>| {
                deleted.iter().any(|(id, mark)| segment.number < *mark && segment.may_contain(trace_hash(*id)))
            };
            let mut groups = pack(by_time);
            groups.retain(|group| group.len() > 1 || group.iter().any(has_deleted));
            groups
        }
    }
}

/// Neighbours in time, as many as fit into one segment.
fn pack(by_time: Vec<Arc<Segment>>) -> Vec<Vec<Arc<Segment>>> {
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    let mut span_count = 0;
    for segment in by_time {
        let spans = segment.record.span_count;
        match groups.last_mut() {
            Some(group) if span_count + spans <= MERGED_SPANS_MAX => {
                group.push(segment);
                span_count += spans;
            }
            _ => {
                groups.push(vec![segment]);
                span_count = spans;
            }
        }
    }
    groups
}
