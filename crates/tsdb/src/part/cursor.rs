//! A cursor over selected series of a part, in label order.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_chunk::ChunkError;
use pharos_model::TimeRange;
use roaring::RoaringBitmap;

use super::block::BlockAt;
use super::index::LabelCursor;
use super::layout::{self, Headers};
use super::reader::{Part, corrupt};
use super::toc::BLOCK_SERIES;
use crate::TsdbError;
use crate::body;
use crate::samples::Samples;

/// Decoded columns of instants a cursor remembers.
const COLUMNS_CACHED_MAX: usize = 64;

/// Walks selected series of a part in label order, decoding one block at a time.
pub(crate) struct PartCursor {
    part: Arc<Part>,
    numbers: roaring::bitmap::IntoIter,
    current: Option<u32>,
    labels: LabelCursor,
    chunk_block: Option<ChunkBlock>,
    columns: HashMap<u32, Arc<[i64]>>,
    times_block: Option<(usize, Vec<u8>, Vec<std::ops::Range<usize>>)>,
}

struct ChunkBlock {
    number: usize,
    headers: Headers,
    payload: Vec<u8>,
    bodies: Vec<u8>,
}

impl PartCursor {
    /// A cursor that stands on the first selected series.
    pub(crate) fn new(part: Arc<Part>, selected: RoaringBitmap) -> Result<Self, TsdbError> {
        let mut cursor = Self {
            part,
            numbers: selected.into_iter(),
            current: None,
            labels: LabelCursor::default(),
            chunk_block: None,
            columns: HashMap::new(),
            times_block: None,
        };
        cursor.advance()?;
        Ok(cursor)
    }

    /// The number of the series it stands on; `None` at the end.
    pub(crate) fn number(&self) -> Option<u32> {
        self.current
    }

    /// Label bytes of the series it stands on; `None` at the end.
    pub(crate) fn labels(&self) -> Option<&[u8]> {
        self.current.and_then(|number| self.labels.get(number))
    }

    /// Goes to the next selected series.
    pub(crate) fn advance(&mut self) -> Result<(), TsdbError> {
        self.current = self.numbers.next();
        if let Some(number) = self.current {
            self.labels.seek(&self.part.index, number)?;
        }
        Ok(())
    }

    /// Samples in the range of the series it stands on, sorted.
    pub(crate) fn read(&mut self, range: TimeRange) -> Result<Samples, TsdbError> {
        let Some(number) = self.current else { return Ok(Samples::default()) };
        let (block_number, slot) = (number as usize / BLOCK_SERIES, number as usize % BLOCK_SERIES);
        let block = match self.chunk_block.take() {
            Some(block) if block.number == block_number => block,
            _ => self.load_chunks(block_number)?,
        };
        let samples = self.decode(&block, slot, range);
        self.chunk_block = Some(block);
        samples
    }

    fn decode(&mut self, block: &ChunkBlock, slot: usize, range: TimeRange) -> Result<Samples, TsdbError> {
        let at = self.part.toc.headers[block.number];
        let Some(chunks) = block.headers.series.get(slot) else {
            return Err(corrupt(&self.part.data, "chunk header block", at.offset, "wrong number of series"));
        };
        let mut all = Samples::default();
        for chunk in &block.headers.chunks[chunks.clone()] {
            let times = self.column(chunk.times)?;
            let inside = times.first().is_some_and(|first| *first < range.end_ms)
                && times.last().is_some_and(|last| range.start_ms <= *last);
            if !inside {
                continue;
            }
            let body = block.headers.body(chunk, &block.payload, &block.bodies);
            let decoded =
                body::decode(body, &times).map_err(TsdbError::chunk("chunk", &self.part.data.path, at.offset))?;
            all.merge(decoded);
        }
        all.cut(range);
        Ok(all)
    }

    fn load_chunks(&self, number: usize) -> Result<ChunkBlock, TsdbError> {
        let (at, bodies_at) = (self.part.toc.headers[number], self.part.toc.bodies[number]);
        let payload = self.part.data.read("chunk header block", at)?;
        let bodies = self.part.data.read("chunk body block", bodies_at)?;
        let headers = Headers::decode(self.part.data_version, &payload, bodies.len()).map_err(TsdbError::chunk(
            "chunk header block",
            &self.part.data.path,
            at.offset,
        ))?;
        Ok(ChunkBlock { number, headers, payload, bodies })
    }

    fn column(&mut self, number: u32) -> Result<Arc<[i64]>, TsdbError> {
        if let Some(column) = self.columns.get(&number) {
            return Ok(Arc::clone(column));
        }
        let times = &self.part.toc.times;
        let Some(block) = times.partition_point(|(first, _)| *first <= number).checked_sub(1) else {
            return Err(corrupt(&self.part.data, "chunk", 0, "refers to no column of instants"));
        };
        let (first, at) = times[block];
        if self.times_block.as_ref().is_none_or(|(loaded, ..)| *loaded != block) {
            let payload = self.part.data.read("block of instants", at)?;
            let columns = layout::decode_times(&payload).map_err(self.times_error(at))?;
            self.times_block = Some((block, payload, columns));
        }
        let encoded = self.times_block.as_ref().and_then(|(_, payload, columns)| {
            columns.get(number.checked_sub(first)? as usize).map(|range| &payload[range.clone()])
        });
        let Some(encoded) = encoded else {
            return Err(corrupt(&self.part.data, "block of instants", at.offset, "has too few columns"));
        };
        let column: Arc<[i64]> = layout::decode_instants(encoded).map_err(self.times_error(at))?.into();
        if self.columns.len() >= COLUMNS_CACHED_MAX {
            self.columns.clear();
        }
        self.columns.insert(number, Arc::clone(&column));
        Ok(column)
    }

    fn times_error(&self, at: BlockAt) -> impl FnOnce(ChunkError) -> TsdbError {
        TsdbError::chunk("block of instants", &self.part.data.path, at.offset)
    }
}
