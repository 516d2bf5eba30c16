//! Writing segments: blocks as traces come, record, filter and locator at the end.

use rocksdb::WriteBatch;

use super::database::Database;
use super::filter::{TraceFilter, trace_hash};
use super::keys::{block_key, filter_key, locator_key, segment_key};
use super::locator::{LocatorShape, build_pages};
use super::segment::{BlockBounds, FilterMemory, Segment, SegmentRecord};
use crate::TraceStoreError;
use crate::block::BlockBuilder;
use crate::codec::{DecodeError, OriginHash, SpanSkeleton};
use crate::record::Day;
use pharos_model::TraceId;

/// Spans of a block; a trace with more fills blocks of its own.
pub(super) const BLOCK_SPANS_MAX: usize = 2048;
/// A block ends, too, when the details of its spans take so much.
const BLOCK_DETAIL_BYTES_MAX: usize = 4 << 20;
/// And when they have so many columns: a column takes some hundred bytes of whoever builds or opens the block.
const BLOCK_COLUMNS_MAX: usize = 4096;
/// So much of blocks goes to RocksDB at a time.
const WRITE_BYTES: usize = 4 << 20;

/// A span as it goes into a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawSpan<'a> {
    pub(super) origin: OriginHash,
    pub(super) service: &'a str,
    pub(super) skeleton: SpanSkeleton,
    pub(super) details: &'a [u8],
}

/// A segment that is being written. Until its record is, nobody knows of its blocks.
pub(super) struct SegmentWriter<'a> {
    database: &'a Database,
    day: Day,
    tenant: u32,
    number: u64,
    batch: WriteBatch,
    builder: BlockBuilder,
    /// Bounds of the block in the builder.
    bounds: Option<BlockBounds>,
    detail_bytes: usize,
    blocks: Vec<BlockBounds>,
    /// Hashes of the traces in the builder.
    begun: Vec<u64>,
    /// Hashes of traces and blocks that hold them.
    located: Vec<(u64, u32)>,
}

impl<'a> SegmentWriter<'a> {
    pub(super) fn new(database: &'a Database, day: Day, tenant: u32, number: u64) -> Self {
        Self {
            database,
            day,
            tenant,
            number,
            batch: WriteBatch::default(),
            builder: BlockBuilder::new(),
            bounds: None,
            detail_bytes: 0,
            blocks: Vec::new(),
            begun: Vec::new(),
            located: Vec::new(),
        }
    }

    /// Adds a trace. Equal spans are written once; the spans are sorted by start.
    pub(super) fn push_trace(
        &mut self,
        trace_id: TraceId,
        spans: &mut Vec<RawSpan<'_>>,
    ) -> Result<(), TraceStoreError> {
        sort_distinct(spans);
        let detail_bytes: usize = spans.iter().map(|span| span.details.len()).sum();
        // A trace stands once in a block, as reads look for it. A merge may bring one in two parts.
        if self.builder.span_count() + spans.len() > BLOCK_SPANS_MAX
            || self.detail_bytes + detail_bytes > BLOCK_DETAIL_BYTES_MAX
            || self.begun.contains(&trace_hash(trace_id))
        {
            self.end_block()?;
        }
        let mut is_begun = false;
        for span in spans.iter() {
            if self.builder.span_count() >= BLOCK_SPANS_MAX
                || self.detail_bytes > BLOCK_DETAIL_BYTES_MAX
                || self.builder.column_count() > BLOCK_COLUMNS_MAX
            {
                self.end_block()?;
                is_begun = false;
            }
            if !is_begun {
                self.builder.begin_trace(trace_id);
                self.begun.push(trace_hash(trace_id));
                is_begun = true;
            }
            self.push(span).map_err(TraceStoreError::corrupt("span", self.day))?;
        }
        Ok(())
    }

    fn push(&mut self, span: &RawSpan<'_>) -> Result<(), DecodeError> {
        self.builder.push(span.origin, span.service, &span.skeleton, span.details)?;
        self.detail_bytes += span.details.len();
        let SpanSkeleton { start_ns, end_ns, .. } = span.skeleton;
        let bounds = self.bounds.get_or_insert(BlockBounds {
            span_count: 0,
            start_min_ns: start_ns,
            start_max_ns: start_ns,
            end_max_ns: end_ns,
        });
        bounds.span_count += 1;
        bounds.start_min_ns = bounds.start_min_ns.min(start_ns);
        bounds.start_max_ns = bounds.start_max_ns.max(start_ns);
        bounds.end_max_ns = bounds.end_max_ns.max(end_ns);
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), TraceStoreError> {
        let Some(bounds) = self.bounds.take() else { return Ok(()) };
        let bytes = self.builder.finish();
        self.detail_bytes = 0;
        let begun = std::mem::take(&mut self.begun);
        self.put_block(bounds, &bytes, begun.into_iter())
    }

    /// Adds a block of another segment as it is, with the hashes of its traces.
    pub(super) fn copy_block(
        &mut self,
        bounds: BlockBounds,
        bytes: &[u8],
        traces: impl Iterator<Item = u64>,
    ) -> Result<(), TraceStoreError> {
        // So that blocks keep to one stretch of time, unless they would become small.
        if self.builder.span_count() >= BLOCK_SPANS_MAX / 2 {
            self.end_block()?;
        }
        self.put_block(bounds, bytes, traces)
    }

    fn put_block(
        &mut self,
        bounds: BlockBounds,
        bytes: &[u8],
        traces: impl Iterator<Item = u64>,
    ) -> Result<(), TraceStoreError> {
        let number = self.blocks.len() as u32;
        self.located.extend(traces.map(|hash| (hash, number)));
        self.database.put_block(&mut self.batch, &block_key(self.tenant, self.number, number), bytes);
        self.blocks.push(bounds);
        if self.batch.size_in_bytes() > WRITE_BYTES {
            self.database.write(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Ends the segment: what is left, its record included, goes into `batch`, which makes it count. `None` if no
    /// span was added.
    pub(super) fn finish(
        mut self,
        memory: &FilterMemory,
        batch: &mut WriteBatch,
    ) -> Result<Option<Segment>, TraceStoreError> {
        self.end_block()?;
        self.database.write(std::mem::take(&mut self.batch))?;
        if self.blocks.is_empty() {
            return Ok(None);
        }
        self.located.sort_unstable();
        self.located.dedup();
        let mut hashes: Vec<u64> = self.located.iter().map(|(hash, _)| *hash).collect();
        hashes.dedup();
        let record = SegmentRecord {
            span_count: self.blocks.iter().map(|block| u64::from(block.span_count)).sum(),
            trace_count: hashes.len() as u64,
            locator: LocatorShape::of(self.located.len()),
            blocks: self.blocks,
        };
        for (page, bytes) in build_pages(record.locator, &self.located) {
            batch.put(locator_key(self.tenant, self.number, page), bytes);
        }
        let filter = TraceFilter::build(hashes.into_iter());
        batch.put(filter_key(self.tenant, self.number), filter.as_bytes());
        batch.put(segment_key(self.tenant, self.number), record.encode());
        Ok(Some(Segment::new(self.day, (self.tenant, self.number), record, Some(filter), memory)))
    }
}

/// Sorts spans by start and id, and leaves one of equal ones.
fn sort_distinct(spans: &mut Vec<RawSpan<'_>>) {
    let place = |span: &RawSpan<'_>| (span.skeleton.start_ns, span.skeleton.span_id);
    spans.sort_by_key(place);
    for run in spans.chunk_by_mut(|one, other| place(one) == place(other)) {
        if run.len() > 1 {
            run.sort_by(|one, other| (one.origin, one.details).cmp(&(other.origin, other.details)));
        }
    }
    // Spans that differ in the rest of the skeleton alone may stand between equal ones: these stay, and reads join them.
    spans.dedup_by(|one, other| {
        one.skeleton == other.skeleton && one.origin == other.origin && one.details == other.details
    });
}

#[cfg(test)]
mod tests {
    use pharos_base::ByteSize;
    use pharos_model::{Attribute, AttributeValue, Span, SpanId, SpanKind, StatusCode};

    use super::*;
    use crate::block::Block;
    use crate::codec::put_details;
    use crate::partition::database::DatabaseMemory;

    fn skeleton(id: u8, after_ns: u64) -> SpanSkeleton {
        SpanSkeleton {
            span_id: SpanId([id; 8]),
            parent_span_id: SpanId::default(),
            kind: SpanKind::Server,
            status: StatusCode::Unset,
            start_ns: Day(20_000).start_ns() + after_ns,
            end_ns: Day(20_000).start_ns() + 9,
        }
    }

    #[test]
    fn a_trace_that_comes_in_parts_stands_once_in_each_block() {
        let folder = tempfile::tempdir().unwrap();
        let memory = DatabaseMemory::new(ByteSize::mib(8), ByteSize::mib(1), ByteSize::mib(1));
        let database = Database::open(folder.path(), &memory).unwrap();
        let mut details = Vec::new();
        put_details(&mut details, &Span { name: "part".to_owned(), ..Span::default() });
        let mut writer = SegmentWriter::new(&database, Day(20_000), 0, 7);
        for (trace, number) in [(1, 1), (2, 2), (1, 3), (1, 4), (3, 5)] {
            let skeleton = skeleton(number, u64::from(number));
            let span = RawSpan { origin: OriginHash([1; 16]), service: "shop", skeleton, details: &details };
            writer.push_trace(TraceId([trace; 16]), &mut vec![span]).unwrap();
        }
        let mut batch = WriteBatch::default();
        let segment = writer.finish(&memory.filters, &mut batch).unwrap().unwrap();
        let mut found = Vec::new();
        for number in 0..segment.record.blocks.len() as u32 {
            let bytes = database.block(&block_key(0, 7, number)).unwrap().unwrap();
            let block = Block::open(&bytes).unwrap();
            let mut ids: Vec<_> = block.traces().iter().map(|trace| trace.trace_id.0[0]).collect();
            found.push((ids.clone(), block.span_count()));
            ids.dedup();
            assert_eq!(ids.len(), block.traces().len());
        }
        assert_eq!(found, [(vec![1, 2], 2), (vec![1], 1), (vec![1, 3], 2)]);
    }

    #[test]
    fn a_block_ends_when_it_has_many_columns() {
        let folder = tempfile::tempdir().unwrap();
        let memory = DatabaseMemory::new(ByteSize::mib(8), ByteSize::mib(1), ByteSize::mib(1));
        let database = Database::open(folder.path(), &memory).unwrap();
        let mut writer = SegmentWriter::new(&database, Day(20_000), 0, 7);
        for number in 0..100_u8 {
            let attributes =
                (0..200).map(|key| Attribute { key: format!("user.{number}.{key}"), value: AttributeValue::Int(1) });
            let mut details = Vec::new();
            put_details(&mut details, &Span { attributes: attributes.collect(), ..Span::default() });
            let skeleton = skeleton(number, u64::from(number));
            let span = RawSpan { origin: OriginHash([1; 16]), service: "shop", skeleton, details: &details };
            writer.push_trace(TraceId([1 + number / 30; 16]), &mut vec![span]).unwrap();
        }
        let mut batch = WriteBatch::default();
        let segment = writer.finish(&memory.filters, &mut batch).unwrap().unwrap();
        let mut span_count = 0;
        for number in 0..segment.record.blocks.len() as u32 {
            let bytes = database.block(&block_key(0, 7, number)).unwrap().unwrap();
            let block = Block::open(&bytes).unwrap();
            assert!(block.column_count().unwrap() <= BLOCK_COLUMNS_MAX + 201);
            span_count += block.span_count();
        }
        assert_eq!(span_count, 100);
    }
}
