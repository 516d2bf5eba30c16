//! Merges: several segments of a tenant become one.
//!
//! Most blocks are copied as they are. Made anew (`rewrite.rs`) are those whose traces have spans in more than one of the
//! segments (so that they come together and equal spans are one), that hold deleted traces, or that are small.
//!
//! Blocks are written under a number that no record names; one batch then makes the new segment count and the old ones not. The
//! old blocks stay for those who read them and go when nobody does, or with the next start. A merge that fails leaves all as
//! it was; a segment with a block that cannot be read is left alone from then on, and stops no other merge.
//!
//! Merges yield: between blocks they call `pause`, in which a checkpoint may be made.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use pharos_base::run_beside;
use rocksdb::WriteBatch;

use super::due::due_group;
use super::filter::trace_hash;
use super::keys::{deleted_key, filter_key, segment_key, tenant_range};
use super::pieces::corrupt_block;
use super::rewrite::Rewrite;
use super::segment::{BlockBounds, Segment};
use super::write::{BLOCK_SPANS_MAX, SegmentWriter};
use super::{DeletedTraces, MergeDepth, Partition};
use crate::TraceStoreError;
use crate::block::{Block, BlockTrace};
use crate::codec::DecodeError;

/// Files are rewritten when removed spans are this part of those that are there.
const GARBAGE_SHARE: u64 = 4;
/// How often RocksDB's own rewriting of files lets others have their turn.
const PAUSE_EVERY: Duration = Duration::from_millis(100);

/// Why a group could not be merged.
#[derive(Debug)]
pub(crate) struct MergeFailure {
    pub(crate) error: TraceStoreError,
    /// The segment that cannot be read, if that is why.
    damaged: Option<u64>,
}

impl From<TraceStoreError> for MergeFailure {
    fn from(error: TraceStoreError) -> Self {
        Self { error, damaged: None }
    }
}

impl MergeFailure {
    /// Whether what could not be read is left alone from now on; else the same merge is due again.
    pub(crate) fn is_set_aside(&self) -> bool {
        self.damaged.is_some()
    }
}

/// A block of a segment to merge.
pub(super) struct Source {
    pub(super) segment: Arc<Segment>,
    block: u32,
    bounds: BlockBounds,
    pub(super) is_copied: bool,
}

impl Source {
    pub(super) fn read(&self, partition: &Partition) -> Result<Bytes, MergeFailure> {
        let bytes = partition.block_source().block_once(&self.segment, self.block);
        bytes.map_err(|error| self.failed(error))
    }

    pub(super) fn open(&self, partition: &Partition, bytes: &Bytes) -> Result<Block, MergeFailure> {
        Block::open(bytes).map_err(|error| self.corrupt(partition, &error))
    }

    pub(super) fn corrupt(&self, partition: &Partition, error: &DecodeError) -> MergeFailure {
        self.failed(corrupt_block(partition.day, self.segment.number, self.block, error))
    }

    fn failed(&self, error: TraceStoreError) -> MergeFailure {
        MergeFailure { error, damaged: Some(self.segment.number) }
    }
}

impl Partition {
    /// Merges one group of segments, if `depth` finds one worth it, and brings it to disk. Returns whether there was one.
    ///
    /// # Errors
    /// What kept it; all is as it was then, but for a segment that cannot be read: no later merge takes it.
    pub(crate) fn merge_one(&self, depth: MergeDepth, pause: &dyn Fn()) -> Result<bool, MergeFailure> {
        let Some((tenant, group)) = self.due_group(depth) else { return Ok(false) };
        let number = self.take_segment_number();
        if let Err(failure) = self.merge_group(tenant, number, &group, pause) {
            self.forget_merge(tenant, number, &failure)?;
            return Err(failure);
        }
        drop(group);
        self.remove_needless_marks(tenant)?;
        self.remove_retired()?;
        // A day that gets no more spans has no checkpoint that would do it.
        self.database.flush()?;
        Ok(true)
    }

    fn due_group(&self, depth: MergeDepth) -> Option<(u32, Vec<Arc<Segment>>)> {
        let state = self.state.read();
        let (segments, deleted, damaged) = (Arc::clone(&state.segments), state.deleted.clone(), state.damaged.clone());
        drop(state);
        segments.tenants().into_iter().find_map(|tenant| {
            let is_sound = |segment: &&Arc<Segment>| !damaged.contains(&(tenant, segment.number));
            let sound = segments.of(tenant).iter().filter(is_sound).cloned().collect();
            let deleted = deleted.get(&tenant).cloned().unwrap_or_default();
            Some((tenant, due_group(sound, depth, &deleted)?))
        })
    }

    fn take_segment_number(&self) -> u64 {
        let mut state = self.state.write();
        let number = state.next_segment;
        state.next_segment += 1;
        number
    }

    fn merge_group(
        &self,
        tenant: u32,
        number: u64,
        group: &[Arc<Segment>],
        pause: &dyn Fn(),
    ) -> Result<(), MergeFailure> {
        // Marks that come later are above the new segment's number and hide what it has.
        let deleted = self.state.read().deleted.get(&tenant).cloned().unwrap_or_default();
        let sources = self.plan_merge(group, &deleted, pause)?;
        let mut rewrite = Rewrite::new(self, &deleted, &sources, pause)?;
        let mut writer = SegmentWriter::new(&self.database, self.day, tenant, number);
        for source in &sources {
            let bytes = source.read(self)?;
            if source.is_copied {
                let opened = source.open(self, &bytes)?;
                let traces = opened.traces().iter().map(|trace| trace_hash(trace.trace_id));
                writer.copy_block(source.bounds, &bytes, traces)?;
            } else {
                rewrite.take_block(source, &bytes, &mut writer)?;
            }
            pause();
        }
        rewrite.write_pending(0, &mut writer)?;
        let mut batch = WriteBatch::default();
        let merged = writer.finish(&self.memory.filters, &mut batch)?.map(Arc::new);
        for segment in group {
            batch.delete(segment_key(tenant, segment.number));
            batch.delete(filter_key(tenant, segment.number));
        }
        // The index knows old and new at once; searches look at those that are listed.
        if let Some(segment) = &merged {
            self.block_source().index_in_pieces(&self.index, segment, pause)?;
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
        // So that the next checkpoint takes the old segments from the index.
        state.is_dirty = true;
        Ok(())
    }

    /// Removes what a merge that failed has written.
    fn forget_merge(&self, tenant: u32, number: u64, failure: &MergeFailure) -> Result<(), TraceStoreError> {
        let mut state = self.state.write();
        state.damaged.extend(failure.damaged.map(|damaged| (tenant, damaged)));
        // The index may have it already.
        state.unlisted.push((tenant, number));
        state.is_dirty = true;
        drop(state);
        let mut batch = WriteBatch::default();
        self.database.delete_segment(&mut batch, tenant, number);
        self.database.write(batch)
    }

    /// The blocks of a group in the order of their time, and which are copied.
    fn plan_merge(
        &self,
        group: &[Arc<Segment>],
        deleted: &DeletedTraces,
        pause: &dyn Fn(),
    ) -> Result<Vec<Source>, MergeFailure> {
        let mut sources = Vec::new();
        // Hash, segment in the group, block among the sources.
        let mut traces: Vec<(u64, u32, u32)> = Vec::new();
        for (of, segment) in group.iter().enumerate() {
            for (block, bounds) in segment.record.blocks.iter().enumerate() {
                let (block, number) = (block as u32, sources.len() as u32);
                let is_small = (bounds.span_count as usize) < BLOCK_SPANS_MAX / 2;
                let mut source = Source { segment: Arc::clone(segment), block, bounds: *bounds, is_copied: true };
                let bytes = source.read(self)?;
                let opened = source.open(self, &bytes)?;
                traces.extend(opened.traces().iter().map(|trace| (trace_hash(trace.trace_id), of as u32, number)));
                let is_hidden =
                    |trace: &BlockTrace| deleted.get(&trace.trace_id).is_some_and(|mark| segment.number < *mark);
                source.is_copied = !is_small && !opened.traces().iter().any(is_hidden);
                sources.push(source);
                pause();
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

    /// Removes the marks of deletions that hide nothing any more: no segment below them may have the trace.
    fn remove_needless_marks(&self, tenant: u32) -> Result<(), TraceStoreError> {
        let state = self.state.read();
        let Some(deleted) = state.deleted.get(&tenant).filter(|_| state.sealing.is_none()).cloned() else {
            return Ok(());
        };
        let segments = Arc::clone(&state.segments);
        drop(state);
        let hides = |id, mark| {
            let hash = trace_hash(id);
            segments.of(tenant).iter().any(|segment| segment.number < mark && segment.may_contain(hash))
        };
        let needless: Vec<_> = deleted.iter().filter(|(id, mark)| !hides(**id, **mark)).collect();
        if needless.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for (id, _) in &needless {
            batch.delete(deleted_key(tenant, **id));
        }
        let mut state = self.state.write();
        self.database.write(batch)?;
        // Only this thread makes segments, so that a mark set again meanwhile with the same number hides nothing either.
        if let Some(kept) = state.deleted.get_mut(&tenant).map(Arc::make_mut) {
            kept.retain(|id, mark| deleted.get(id) != Some(mark) || hides(*id, *mark));
        }
        Ok(())
    }

    /// Removes the blocks of segments that were merged or dropped and that nobody reads any more, and the origins of tenants that
    /// were dropped.
    pub(crate) fn remove_retired(&self) -> Result<(), TraceStoreError> {
        let (mut batch, mut removed_spans) = (WriteBatch::default(), 0);
        let mut state = self.state.write();
        let state = &mut *state;
        // Nobody can come to read what is in no list; who has read the list before holds the segment.
        state.retired.retain(|segment| {
            let is_read = Arc::strong_count(segment) > 1;
            if !is_read {
                let (tenant, number) = (segment.tenant, segment.number);
                self.database.delete_segment(&mut batch, tenant, number);
                removed_spans += segment.record.span_count;
            }
            is_read
        });
        state.departed.retain(|tenant| {
            let is_read = state.retired.iter().any(|segment| segment.tenant == *tenant);
            if !is_read {
                let (from, until) = tenant_range(b'O', *tenant);
                batch.delete_range(from, until);
            }
            is_read
        });
        if batch.is_empty() {
            return Ok(());
        }
        state.is_dirty = true;
        state.garbage_spans += removed_spans;
        self.database.write(batch)
    }

    /// Rewrites RocksDB's files without what was removed, if that is much.
    pub(crate) fn collect_garbage(&self, pause: &dyn Fn()) -> Result<bool, TraceStoreError> {
        let garbage_spans = self.state.read().garbage_spans;
        if garbage_spans == 0 || garbage_spans * GARBAGE_SHARE < self.indexed_spans() {
            return Ok(false);
        }
        self.compact_database(pause)?;
        Ok(true)
    }

    /// Merges all that can be merged, and rewrites RocksDB's and the index's files.
    ///
    /// # Errors
    /// The first of those that kept it from something; the rest is done.
    pub(crate) fn compact(&self, pause: &dyn Fn()) -> Result<(), TraceStoreError> {
        let mut first_failure = None;
        // Each merge takes up a segment that is there now, so that no stream of deletions keeps it going.
        for _ in 0..self.segment_count() {
            match self.merge_one(MergeDepth::Full, pause) {
                Ok(true) => {}
                Ok(false) => break,
                Err(failure) => {
                    let is_set_aside = failure.is_set_aside();
                    first_failure.get_or_insert(failure.error);
                    if !is_set_aside {
                        break;
                    }
                }
            }
            pause();
        }
        let rewritten = self.remove_retired().and_then(|()| self.compact_database(pause));
        let merged = self.index.merge_all().and_then(|()| {
            let view = Arc::new(self.index.view()?);
            self.state.write().view = view;
            Ok(())
        });
        first_failure.map_or(Ok(()), Err).and(rewritten).and(merged)
    }

    fn compact_database(&self, pause: &dyn Fn()) -> Result<(), TraceStoreError> {
        self.state.write().garbage_spans = 0;
        self.database.flush()?;
        // RocksDB does not come back before it is done: it gets a thread, so that checkpoints go on.
        let (done, is_done) = sync_channel::<()>(0);
        let compact = || {
            let _done = done;
            self.database.compact();
        };
        let wait = || {
            while is_done.recv_timeout(PAUSE_EVERY) == Err(RecvTimeoutError::Timeout) {
                pause();
            }
        };
        run_beside("trace-compact", compact, wait)
            .map(|_| ())
            .map_err(TraceStoreError::io("start a thread for", &self.directory))
    }
}
