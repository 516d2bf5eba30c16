//! The payloads of the blocks of a part's data file: chunk headers and instants.

use std::ops::Range;

use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_chunk::{ChunkError, timestamps};

use super::toc::BLOCK_SERIES;
use crate::body::{Body, HEAD_FIELDS_MAX};

/// The version of data files that is written, and the oldest that is read.
pub(crate) const DATA_VERSION: u32 = 2;
pub(crate) const DATA_VERSION_MIN: u32 = 1;

/// Bulks up to this size lie in the compressed header.
pub(crate) const INLINE_BULK_MAX: usize = 16;

/// Equal bulks are looked for among those in the first bytes of a block: they are short and many, where
/// blocks are small.
const SHARED_WITHIN: usize = 4 << 20;

/// Where a chunk's bulk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BulkAt {
    /// In the header block.
    Inline(Range<usize>),
    /// In the bulks behind it.
    Section(Range<usize>),
}

/// One chunk of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkAt {
    pub(crate) kind: u8,
    /// Number of its column of instants in the part.
    pub(crate) times: u32,
    pub(super) head: Range<usize>,
    pub(super) bulk: BulkAt,
}

/// Chunk headers of one block, decoded.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// For each series of the block, its range in `chunks`.
    pub(crate) series: Vec<Range<usize>>,
    pub(crate) chunks: Vec<ChunkAt>,
    /// Heads of the chunks, end to end.
    pub(super) heads: Vec<u8>,
}

/// Collects the chunks of one block.
#[derive(Debug, Default)]
pub(crate) struct HeadersBuilder {
    chunk_counts: Vec<u64>,
    kinds: Vec<u8>,
    times: Vec<u32>,
    /// How many varints the head of each chunk has.
    field_counts: Vec<u8>,
    /// The first varint of every head, the second of every head that has one, and so on.
    fields: [Vec<u8>; HEAD_FIELDS_MAX],
    /// For each chunk: 0 inline, 1 next in the bulks, n the bulk of the chunk n − 1 before it.
    forms: Vec<u64>,
    lengths: Vec<u64>,
    inline: Vec<u8>,
    pub(crate) bodies: Vec<u8>,
    known_bulks: hashbrown::HashMap<Box<[u8]>, usize>,
}

impl HeadersBuilder {
    pub(crate) fn begin_series(&mut self) {
        self.chunk_counts.push(0);
    }

    /// Adds a chunk to the series begun last.
    pub(crate) fn push(&mut self, body: Body<'_>, times: u32) {
        if let Some(count) = self.chunk_counts.last_mut() {
            *count += 1;
        }
        let index = self.kinds.len();
        self.kinds.push(body.kind);
        self.times.push(times);
        self.push_head(body.head);
        let bulk = body.bulk;
        if bulk.len() <= INLINE_BULK_MAX {
            self.forms.push(0);
            self.lengths.push(bulk.len() as u64);
            self.inline.extend_from_slice(bulk);
        } else if let Some(known) = self.known_bulks.get(bulk) {
            self.forms.push((index - known + 1) as u64);
        } else {
            if self.bodies.len() < SHARED_WITHIN {
                self.known_bulks.insert(bulk.into(), index);
            }
            self.forms.push(1);
            self.lengths.push(bulk.len() as u64);
            self.bodies.extend_from_slice(bulk);
        }
    }

    fn push_head(&mut self, head: &[u8]) {
        let fields = head.split_inclusive(|byte| *byte < 0x80);
        let count = fields.zip(&mut self.fields).map(|(field, column)| column.extend_from_slice(field)).count();
        self.field_counts.push(count as u8);
    }

    pub(crate) fn series_count(&self) -> usize {
        self.chunk_counts.len()
    }

    /// The header payload; column by column, because equal things compress when they stand together.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, self.chunk_counts.len() as u64);
        self.chunk_counts.iter().for_each(|count| push_varint(&mut out, *count));
        out.extend_from_slice(&self.kinds);
        let mut previous = 0;
        for times in &self.times {
            push_zigzag(&mut out, i64::from(*times) - previous);
            previous = i64::from(*times);
        }
        self.forms.iter().for_each(|form| push_varint(&mut out, *form));
        self.lengths.iter().for_each(|length| push_varint(&mut out, *length));
        out.extend_from_slice(&self.field_counts);
        self.fields.iter().for_each(|column| push_slice(&mut out, column));
        out.extend_from_slice(&self.inline);
        out
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Headers {
    /// Reads the header payload of a data file of this version, with `bulks_len` bytes of bulks behind it.
    pub(crate) fn decode(version: u32, payload: &[u8], bulks_len: usize) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(payload);
        let count = reader.count("series count", BLOCK_SERIES)?;
        let mut headers = Self::default();
        let mut total = 0;
        for _ in 0..count {
            let chunks = reader.count("chunk count", payload.len())?;
            headers.series.push(total..total + chunks);
            total += chunks;
            if total > payload.len() {
                return Err(ChunkError::OutOfBounds { what: "chunk count" });
            }
        }
        let kinds = reader.take(total)?;
        let mut column = 0_i64;
        let mut times = Vec::with_capacity(total);
        for _ in 0..total {
            column = column.wrapping_add(reader.zigzag()?);
            times.push(u32::try_from(column).map_err(|_| ChunkError::OutOfBounds { what: "column number" })?);
        }
        let forms = (0..total).map(|_| reader.count("body form", payload.len())).collect::<Result<Vec<_>, _>>()?;
        let lengths = forms.iter().filter(|form| **form < 2).count();
        let lengths =
            (0..lengths).map(|_| reader.count("body length", u32::MAX as usize)).collect::<Result<Vec<_>, _>>()?;
        let heads = if version >= 2 { headers.decode_heads(&mut reader, total)? } else { vec![0..0; total] };
        let (mut inline, mut section) = (payload.len() - reader.rest().len(), 0);
        let mut lengths = lengths.into_iter();
        for (index, (form, head)) in forms.into_iter().zip(heads).enumerate() {
            let bulk = if form >= 2 {
                let source = index.checked_sub(form - 1).and_then(|source| headers.chunks.get(source));
                source.ok_or(ChunkError::OutOfBounds { what: "shared body" })?.bulk.clone()
            } else {
                let length = lengths.next().ok_or(ChunkError::Truncated)?;
                let (at, end) = if form == 0 { (&mut inline, payload.len()) } else { (&mut section, bulks_len) };
                let range = *at..*at + length;
                if range.end > end {
                    return Err(ChunkError::OutOfBounds { what: "body" });
                }
                *at = range.end;
                if form == 0 { BulkAt::Inline(range) } else { BulkAt::Section(range) }
            };
            headers.chunks.push(ChunkAt { kind: kinds[index], times: times[index], head, bulk });
        }
        Ok(headers)
    }

    /// Brings the columns of fields back into rows.
    fn decode_heads(&mut self, reader: &mut Reader<'_>, total: usize) -> Result<Vec<Range<usize>>, ChunkError> {
        let field_counts = reader.take(total)?;
        let mut columns = [&[][..]; HEAD_FIELDS_MAX];
        for column in &mut columns {
            *column = reader.slice()?;
        }
        self.heads.reserve(columns.iter().map(|column| column.len()).sum());
        field_counts
            .iter()
            .map(|fields| {
                let start = self.heads.len();
                let columns = columns.get_mut(..usize::from(*fields));
                for column in columns.ok_or(ChunkError::OutOfBounds { what: "head fields" })? {
                    let last = column.iter().position(|byte| *byte < 0x80).ok_or(ChunkError::Truncated)?;
                    let (field, rest) = column.split_at(last + 1);
                    self.heads.extend_from_slice(field);
                    *column = rest;
                }
                Ok(start..self.heads.len())
            })
            .collect()
    }

    /// A chunk's body, given the block's payload and bulks that the headers were decoded from.
    #[cfg(test)]
    pub(crate) fn body<'a>(&'a self, chunk: &ChunkAt, payload: &'a [u8], bulks: &'a [u8]) -> Body<'a> {
        let bulk = match &chunk.bulk {
            BulkAt::Inline(range) => &payload[range.clone()],
            BulkAt::Section(range) => &bulks[range.clone()],
        };
        Body { kind: chunk.kind, head: &self.heads[chunk.head.clone()], bulk }
    }
}

/// Columns of instants, each encoded.
pub(crate) fn encode_times(columns: &[Box<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, columns.len() as u64);
    for column in columns {
        push_slice(&mut out, column);
    }
    out
}

/// The columns of a block of instants, each as a range of the payload.
pub(crate) fn decode_times(payload: &[u8]) -> Result<Vec<Range<usize>>, ChunkError> {
    let mut reader = Reader::new(payload);
    let count = reader.count("column count", payload.len())?;
    (0..count)
        .map(|_| {
            let length = reader.slice()?.len();
            let end = payload.len() - reader.rest().len();
            Ok(end - length..end)
        })
        .collect()
}

pub(crate) fn decode_instants(encoded: &[u8]) -> Result<Vec<i64>, ChunkError> {
    let mut times = Vec::new();
    timestamps::decode(encoded, &mut times)?;
    // Reading cuts and merges by binary search.
    if !times.is_sorted_by(|a, b| a < b) {
        return Err(ChunkError::OutOfBounds { what: "order of instants" });
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_and_small_bulks_take_no_room_of_their_own() {
        let mut builder = HeadersBuilder::default();
        let large = [7; 100];
        let heads = [[1, 0x80, 1, 3].as_slice(), &[], &[2, 5, 9, 9]];
        let bulks = [large.as_slice(), &[1, 2], &large];
        for (head, bulk) in heads.into_iter().zip(bulks) {
            builder.begin_series();
            builder.push(Body { kind: 0, head, bulk }, 5);
        }
        assert_eq!(builder.bodies.len(), 100);
        let payload = builder.encode();
        let headers = Headers::decode(2, &payload, 100).unwrap();
        for (chunk, (head, bulk)) in headers.chunks.iter().zip(heads.into_iter().zip(bulks)) {
            let found = headers.body(chunk, &payload, &large);
            assert_eq!((found.head, found.bulk), (head, bulk));
        }
        assert!(Headers::decode(2, &payload, 99).is_err(), "a bulk beyond the section");
    }

    proptest! {
        #[test]
        fn hostile_blocks_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Headers::decode(1, &bytes, 50);
            let _ = Headers::decode(2, &bytes, 50);
            let _ = decode_times(&bytes);
            let _ = decode_instants(&bytes);
        }
    }
}
