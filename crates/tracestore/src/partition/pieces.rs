//! The pieces of a trace in a partition: its rows in a head, its spans in blocks.

use std::sync::Arc;

use bytes::Bytes;
use pharos_model::{Span, SpanId, TraceId};

use crate::TraceStoreError;
use crate::block::{Block, BlockTrace};
use crate::codec::{DecodeError, OriginHash, RowReader, SpanSkeleton};
use crate::record::{Day, Row};

/// What a span takes in a row, about.
const USUAL_SPAN_BYTES: u64 = 400;

/// Spans of one trace that lie together.
#[derive(Debug)]
pub(crate) struct TracePiece {
    day: Day,
    trace_id: TraceId,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Row(Arc<Row>),
    Block(BlockPlace),
}

#[derive(Debug)]
struct BlockPlace {
    segment: u64,
    block: u32,
    bytes: Bytes,
    trace: BlockTrace,
}

impl TracePiece {
    pub(super) fn of_row(day: Day, trace_id: TraceId, row: Arc<Row>) -> Self {
        Self { day, trace_id, place: Place::Row(row) }
    }

    /// The trace's spans in a block; `None` if it has none there.
    pub(super) fn of_block(
        day: Day,
        trace_id: TraceId,
        (segment, block): (u64, u32),
        bytes: Bytes,
    ) -> Result<Option<Self>, TraceStoreError> {
        let found = Block::open(&bytes).map(|opened| opened.find_trace(trace_id).cloned());
        let found = found.map_err(|error| corrupt_block(day, segment, block, &error))?;
        Ok(found.map(|trace| Self { day, trace_id, place: Place::Block(BlockPlace { segment, block, bytes, trace }) }))
    }

    /// What it holds in memory.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.place {
            Place::Row(row) => row.value.len() as u64,
            // The whole block is held, whatever the trace's share in it.
            Place::Block(place) => place.bytes.len() as u64,
        }
    }

    /// What its spans take as a row, about.
    pub(crate) fn spans_bytes(&self) -> u64 {
        match &self.place {
            Place::Row(row) => row.value.len() as u64,
            // In a block the many attributes that spans have in common are packed.
            Place::Block(place) => place.trace.spans.len() as u64 * USUAL_SPAN_BYTES,
        }
    }

    /// Hands over every span's origin, service and skeleton, in order.
    pub(crate) fn skeletons(
        &self,
        mut visit: impl FnMut(OriginHash, &str, &SpanSkeleton),
    ) -> Result<(), TraceStoreError> {
        let mut read = || -> Result<(), DecodeError> {
            match &self.place {
                Place::Row(row) => {
                    let reader = RowReader::new(&row.value, row.min_start_ns)?;
                    reader.spans().iter().for_each(|span| visit(span.origin, span.service, &span.skeleton));
                }
                Place::Block(place) => {
                    let block = Block::open(&place.bytes)?;
                    for span in block.skeletons(place.trace.spans.clone())? {
                        let (origin, service, skeleton) = span?;
                        visit(origin, service, &skeleton);
                    }
                }
            }
            Ok(())
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// Hands over every span's id, in order.
    pub(crate) fn span_ids(&self, mut visit: impl FnMut(SpanId)) -> Result<(), TraceStoreError> {
        let mut read = || -> Result<(), DecodeError> {
            match &self.place {
                Place::Row(row) => {
                    let reader = RowReader::new(&row.value, row.min_start_ns)?;
                    reader.spans().iter().for_each(|span| visit(span.skeleton.span_id));
                }
                Place::Block(place) => {
                    Block::open(&place.bytes)?.span_ids(place.trace.spans.clone())?.for_each(&mut visit);
                }
            }
            Ok(())
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// The name of span `index`.
    pub(crate) fn name(&self, index: u32) -> Result<String, TraceStoreError> {
        let read = || -> Result<String, DecodeError> {
            match &self.place {
                Place::Row(row) => {
                    RowReader::new(&row.value, row.min_start_ns)?.name(index as usize).map(str::to_owned)
                }
                Place::Block(place) => {
                    let block = Block::open(&place.bytes)?;
                    let at = place.trace.spans.start + index;
                    let name = block.names(at..at + 1)?.next();
                    Ok(name.ok_or(DecodeError::OutOfRange("span number"))??.into_owned())
                }
            }
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// Whole spans from `first` on, at most `count`; returns how many there were.
    pub(crate) fn spans(
        &self,
        first: u32,
        count: u32,
        mut visit: impl FnMut(OriginHash, Span),
    ) -> Result<u32, TraceStoreError> {
        let mut read = || -> Result<u32, DecodeError> {
            let mut found = 0;
            match &self.place {
                Place::Row(row) => {
                    let reader = RowReader::new(&row.value, row.min_start_ns)?;
                    for span in reader.whole_spans(self.trace_id).skip(first as usize).take(count as usize) {
                        let (origin, span) = span?;
                        visit(origin, span);
                        found += 1;
                    }
                }
                Place::Block(place) => {
                    let all = &place.trace.spans;
                    let from = all.start.saturating_add(first).min(all.end);
                    let block = Block::open(&place.bytes)?;
                    for span in block.spans(self.trace_id, from..from.saturating_add(count).min(all.end))? {
                        let (origin, span) = span?;
                        visit(origin, span);
                        found += 1;
                    }
                }
            }
            Ok(found)
        };
        read().map_err(|error| self.corrupt(&error))
    }

    fn corrupt(&self, error: &DecodeError) -> TraceStoreError {
        match &self.place {
            Place::Row(_) => TraceStoreError::corrupt("row", self.day)(*error),
            Place::Block(place) => corrupt_block(self.day, place.segment, place.block, error),
        }
    }
}

/// Damage of a block, with its place.
pub(super) fn corrupt_block(day: Day, segment: u64, block: u32, error: &DecodeError) -> TraceStoreError {
    TraceStoreError::Corrupt {
        what: "block",
        partition: day.to_string(),
        detail: format!("block {block} of segment {segment}: {error}"),
    }
}
