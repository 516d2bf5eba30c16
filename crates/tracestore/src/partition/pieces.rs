//! The pieces of a trace in a partition: its rows in a head, its spans in blocks.

use std::ops::Range;
use std::sync::Arc;

use pharos_model::{Span, SpanId, TraceId};

use crate::TraceStoreError;
use crate::block::Block;
use crate::codec::{DecodeError, OriginHash, RowReader, SpanSkeleton};
use crate::record::{Day, Row};

/// Spans of one trace that lie together.
pub(crate) struct TracePiece {
    day: Day,
    trace_id: TraceId,
    place: Place,
}

enum Place {
    Row(Arc<Row>),
    Block(BlockPlace),
}

struct BlockPlace {
    segment: u64,
    number: u32,
    block: Arc<Block>,
    /// Numbers of its spans.
    spans: Range<u32>,
}

impl TracePiece {
    pub(super) fn of_row(day: Day, trace_id: TraceId, row: Arc<Row>) -> Self {
        Self { day, trace_id, place: Place::Row(row) }
    }

    /// The trace's spans in a block, if it has some there: one piece, or several where the block has it more than once.
    pub(super) fn of_block(
        day: Day,
        trace_id: TraceId,
        (segment, number): (u64, u32),
        block: &Arc<Block>,
    ) -> impl Iterator<Item = Self> {
        block.runs_of(trace_id).map(move |run| {
            let (block, spans) = (Arc::clone(block), run.spans.clone());
            Self { day, trace_id, place: Place::Block(BlockPlace { segment, number, block, spans }) }
        })
    }

    /// What it holds in memory.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.place {
            Place::Row(row) => row.value.len() as u64,
            // The whole block is held, whatever the trace's share in it.
            Place::Block(place) => place.block.memory_bytes(),
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
                    for span in place.block.skeletons(place.spans.clone())? {
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
                    place.block.span_ids(place.spans.clone())?.for_each(&mut visit);
                }
            }
            Ok(())
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// How many spans it has; 0 if that cannot be read.
    pub(crate) fn span_count(&self) -> u32 {
        match &self.place {
            Place::Row(row) => {
                RowReader::new(&row.value, row.min_start_ns).map_or(0, |reader| reader.spans().len() as u32)
            }
            Place::Block(place) => place.spans.len() as u32,
        }
    }

    /// The name of span `index`.
    pub(crate) fn name(&self, index: u32) -> Result<String, TraceStoreError> {
        let read = || -> Result<String, DecodeError> {
            match &self.place {
                Place::Row(row) => {
                    RowReader::new(&row.value, row.min_start_ns)?.name(index as usize).map(str::to_owned)
                }
                Place::Block(place) => {
                    let at = place.spans.start.saturating_add(index);
                    let name = place.block.names(at..at.saturating_add(1))?.next();
                    Ok(name.ok_or(DecodeError::OutOfRange("span number"))??.into_owned())
                }
            }
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// Whole spans from `first` on, at most `count`, until one is refused; returns how many there were.
    pub(crate) fn spans<E>(
        &self,
        first: u32,
        count: u32,
        mut visit: impl FnMut(OriginHash, Span) -> Result<(), E>,
    ) -> Result<Result<u32, E>, TraceStoreError> {
        let mut read = || -> Result<Result<u32, E>, DecodeError> {
            let mut found = 0;
            match &self.place {
                Place::Row(row) => {
                    let reader = RowReader::new(&row.value, row.min_start_ns)?;
                    for span in reader.whole_spans(self.trace_id).skip(first as usize).take(count as usize) {
                        let (origin, span) = span?;
                        if let Err(refusal) = visit(origin, span) {
                            return Ok(Err(refusal));
                        }
                        found += 1;
                    }
                }
                Place::Block(place) => {
                    let all = &place.spans;
                    let from = all.start.saturating_add(first).min(all.end);
                    for span in place.block.spans(self.trace_id, from..from.saturating_add(count).min(all.end))? {
                        let (origin, span) = span?;
                        if let Err(refusal) = visit(origin, span) {
                            return Ok(Err(refusal));
                        }
                        found += 1;
                    }
                }
            }
            Ok(Ok(found))
        };
        read().map_err(|error| self.corrupt(&error))
    }

    fn corrupt(&self, error: &DecodeError) -> TraceStoreError {
        match &self.place {
            Place::Row(_) => TraceStoreError::corrupt("row", self.day)(*error),
            Place::Block(place) => corrupt_block(self.day, place.segment, place.number, error),
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
