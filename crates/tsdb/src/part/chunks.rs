//! What reading keeps of a part's data file: chunk headers of a block of series, and encoded columns of instants.

use std::ops::Range;

use hashbrown::HashMap;
use pharos_chunk::ChunkError;
use pharos_model::TimeRange;

use super::layout::{self, BulkAt, Headers};
use crate::TsdbError;
use crate::body::{self, Body};

/// One chunk of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    kind: u8,
    /// Whether its bulk lies in the block's own bytes, too.
    inline: bool,
    /// In the block's own bytes; a head is a few varints.
    head_len: u16,
    head: u32,
    bulk: u32,
    bulk_len: u32,
    /// Which of the block's columns of instants.
    column: u32,
}

/// A column of instants that chunks of a block refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnBounds {
    /// Its number in the part.
    pub(crate) number: u32,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

/// Chunk headers of up to 256 series.
#[derive(Debug)]
pub(crate) struct ChunkBlock {
    /// Ends of the chunks of each series.
    ends: Box<[u32]>,
    chunks: Box<[Chunk]>,
    columns: Box<[ColumnBounds]>,
    /// Heads of all chunks, and the short bulks.
    bytes: Box<[u8]>,
}

impl Chunk {
    /// Where its bulk lies among the bulks of its block; `None` if it is with the headers.
    pub(super) fn bulk_apart(&self) -> Option<Range<usize>> {
        (!self.inline).then(|| self.bulk())
    }

    pub(super) fn holds_histograms(&self) -> bool {
        body::holds_histograms(self.kind)
    }

    fn bulk(&self) -> Range<usize> {
        self.bulk as usize..self.bulk as usize + self.bulk_len as usize
    }
}

impl ColumnBounds {
    /// Whether an instant may lie in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.first_ms < range.end_ms && range.start_ms <= self.last_ms
    }
}

impl ChunkBlock {
    /// From the payload of a header block of this version; `bounds` tells first and last instant of a column.
    ///
    /// # Errors
    /// `decode_error` of what makes no sense in the payload, and those of `bounds`.
    pub(super) fn build(
        (version, payload): (u32, &[u8]),
        bulks_len: usize,
        decode_error: impl Fn(ChunkError) -> TsdbError,
        mut bounds: impl FnMut(u32) -> Result<(i64, i64), TsdbError>,
    ) -> Result<Self, TsdbError> {
        let headers = Headers::decode(version, payload, bulks_len).map_err(&decode_error)?;
        let mut local: HashMap<u32, u32> = HashMap::new();
        let mut columns = Vec::new();
        let mut chunks = Vec::with_capacity(headers.chunks.len());
        let inline = headers.chunks.iter().filter_map(|chunk| match &chunk.bulk {
            BulkAt::Inline(range) => Some(range.start),
            BulkAt::Section(_) => None,
        });
        let inline_from = inline.min().unwrap_or(payload.len());
        let heads_len = headers.heads.len();
        let mut bytes = headers.heads;
        bytes.extend_from_slice(&payload[inline_from..]);
        for chunk in &headers.chunks {
            let column = if let Some(column) = local.get(&chunk.times) {
                *column
            } else {
                let (first_ms, last_ms) = bounds(chunk.times)?;
                columns.push(ColumnBounds { number: chunk.times, first_ms, last_ms });
                let column = columns.len() as u32 - 1;
                local.insert(chunk.times, column);
                column
            };
            let (bulk, inline) = match &chunk.bulk {
                BulkAt::Inline(range) => {
                    (range.start - inline_from + heads_len..range.end - inline_from + heads_len, true)
                }
                BulkAt::Section(range) => (range.clone(), false),
            };
            // Blocks are at most 1 GiB; a head has few varints of at most ten bytes.
            let (head, head_len) = (chunk.head.start as u32, chunk.head.len() as u16);
            let (bulk, bulk_len) = (bulk.start as u32, bulk.len() as u32);
            chunks.push(Chunk { kind: chunk.kind, inline, head_len, head, bulk, bulk_len, column });
        }
        Ok(Self {
            ends: headers.series.iter().map(|chunks| chunks.end as u32).collect(),
            chunks: chunks.into(),
            columns: columns.into(),
            bytes: bytes.into(),
        })
    }

    /// The chunks of the series in a place of the block.
    pub(crate) fn chunks_of(&self, slot: usize) -> Option<&[Chunk]> {
        let end = *self.ends.get(slot)? as usize;
        let start = slot.checked_sub(1).map_or(0, |previous| self.ends[previous] as usize);
        self.chunks.get(start..end)
    }

    pub(super) fn series_count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn column(&self, chunk: &Chunk) -> ColumnBounds {
        self.columns[chunk.column as usize]
    }

    /// Whether it is clear without its bulk that no sample of a chunk is a stale marker.
    pub(super) fn is_surely_fresh(&self, chunk: &Chunk) -> bool {
        self.body(chunk, &[]).is_surely_fresh()
    }

    /// A chunk's body; `bulk` is what lies apart of it.
    pub(super) fn body<'a>(&'a self, chunk: &Chunk, bulk: &'a [u8]) -> Body<'a> {
        let head = &self.bytes[chunk.head as usize..chunk.head as usize + usize::from(chunk.head_len)];
        Body { kind: chunk.kind, head, bulk: if chunk.inline { &self.bytes[chunk.bulk()] } else { bulk } }
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of::<Self>()
            + size_of_val(self.ends.as_ref())
            + size_of_val(self.chunks.as_ref())
            + size_of_val(self.columns.as_ref())
            + self.bytes.len()) as u64
    }
}

/// A block of encoded columns of instants.
#[derive(Debug)]
pub(crate) struct TimesBlock {
    payload: Vec<u8>,
    columns: Vec<Range<usize>>,
}

impl TimesBlock {
    /// # Errors
    /// [`ChunkError`] if the columns do not lie in the payload.
    pub(super) fn new(payload: Vec<u8>) -> Result<Self, ChunkError> {
        let columns = layout::decode_times(&payload)?;
        Ok(Self { payload, columns })
    }

    /// The encoded column in a place of the block.
    pub(super) fn column(&self, slot: usize) -> Option<&[u8]> {
        self.columns.get(slot).map(|range| &self.payload[range.clone()])
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.payload.capacity() + self.columns.capacity() * size_of::<Range<usize>>()) as u64
    }
}
