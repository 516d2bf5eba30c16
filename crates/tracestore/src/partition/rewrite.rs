//! The blocks that a merge makes anew: traces whose spans lie in several blocks come together.
//!
//! In memory are spans of traces that are not whole yet, up to a limit; beyond it the oldest are written as they are, and the
//! rest of such a trace goes to another block.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use pharos_model::TraceId;

use super::merge::{MergeFailure, Source};
use super::write::{RawSpan, SegmentWriter};
use super::{DeletedTraces, Partition};
use crate::block::{Block, BlockTrace};
use crate::codec::{DecodeError, OriginHash, SpanSkeleton, put_details};

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
pub(super) struct Rewrite<'a> {
    partition: &'a Partition,
    deleted: &'a DeletedTraces,
    /// Blocks with spans of a trace that were not read, of traces with more than one.
    parts_left: HashMap<TraceId, u32>,
    pending: HashMap<TraceId, PendingTrace>,
    pending_bytes: usize,
}

impl<'a> Rewrite<'a> {
    /// Of those among `sources` that are not copied.
    pub(super) fn new(
        partition: &'a Partition,
        deleted: &'a DeletedTraces,
        sources: &[Source],
        pause: &dyn Fn(),
    ) -> Result<Self, MergeFailure> {
        let mut once: HashSet<TraceId> = HashSet::new();
        let mut parts_left = HashMap::new();
        for source in sources.iter().filter(|source| !source.is_copied) {
            let bytes = source.read(partition)?;
            for trace in source.open(partition, &bytes)?.traces() {
                if !once.insert(trace.trace_id) {
                    *parts_left.entry(trace.trace_id).or_insert(1) += 1;
                }
            }
            pause();
        }
        Ok(Self { partition, deleted, parts_left, pending: HashMap::new(), pending_bytes: 0 })
    }

    /// Takes the spans of a block, and writes the traces that are whole now.
    pub(super) fn take_block(
        &mut self,
        source: &Source,
        bytes: &Bytes,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<(), MergeFailure> {
        let corrupt = |error| source.corrupt(self.partition, &error);
        let block = source.open(self.partition, bytes)?;
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
        self.write_pending(self.partition.memory.merge_bytes, writer)
    }

    /// Writes what waits, the oldest first, until no more than `bytes_max` do.
    pub(super) fn write_pending(
        &mut self,
        bytes_max: usize,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<(), MergeFailure> {
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
    ) -> Result<(), MergeFailure> {
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
