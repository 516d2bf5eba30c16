//! The payloads of the blocks of a part's data file: chunk headers and instants.

use std::ops::Range;

use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_chunk::{ChunkError, timestamps};

use super::toc::BLOCK_SERIES;

/// Bodies up to this size lie in the compressed header, where constants shrink to almost nothing.
pub(crate) const INLINE_BODY_MAX: usize = 16;

/// Equal bodies are looked for among those in the first bytes of a block: they are short and many, where
/// blocks are small.
const SHARED_WITHIN: usize = 4 << 20;

/// Where a chunk's body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyAt {
    /// In the header block.
    Inline(Range<usize>),
    /// In the bodies behind it.
    Section(Range<usize>),
}

/// One chunk of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkAt {
    pub(crate) kind: u8,
    /// Number of its column of instants in the part.
    pub(crate) times: u32,
    pub(crate) body: BodyAt,
}

/// Chunk headers of one block, decoded.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// For each series of the block, its range in `chunks`.
    pub(crate) series: Vec<Range<usize>>,
    pub(crate) chunks: Vec<ChunkAt>,
}

/// Collects the chunks of one block.
#[derive(Debug, Default)]
pub(crate) struct HeadersBuilder {
    chunk_counts: Vec<u64>,
    kinds: Vec<u8>,
    times: Vec<u32>,
    /// For each chunk: 0 inline, 1 next in the bodies, n the body of the chunk n − 1 before it.
    forms: Vec<u64>,
    lengths: Vec<u64>,
    inline: Vec<u8>,
    pub(crate) bodies: Vec<u8>,
    known_bodies: hashbrown::HashMap<Vec<u8>, usize>,
}

impl HeadersBuilder {
    pub(crate) fn begin_series(&mut self) {
        self.chunk_counts.push(0);
    }

    /// Adds a chunk to the series begun last.
    pub(crate) fn push(&mut self, kind: u8, times: u32, body: &[u8]) {
        if let Some(count) = self.chunk_counts.last_mut() {
            *count += 1;
        }
        let index = self.kinds.len();
        self.kinds.push(kind);
        self.times.push(times);
        if body.len() <= INLINE_BODY_MAX {
            self.forms.push(0);
            self.lengths.push(body.len() as u64);
            self.inline.extend_from_slice(body);
        } else if let Some(known) = self.known_bodies.get(body) {
            self.forms.push((index - known + 1) as u64);
        } else {
            if self.bodies.len() < SHARED_WITHIN {
                self.known_bodies.insert(body.to_vec(), index);
            }
            self.forms.push(1);
            self.lengths.push(body.len() as u64);
            self.bodies.extend_from_slice(body);
        }
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
        out.extend_from_slice(&self.inline);
        out
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Headers {
    pub(crate) fn decode(payload: &[u8], bodies_len: usize) -> Result<Self, ChunkError> {
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
        let (mut inline, mut section) = (payload.len() - reader.rest().len(), 0);
        let mut lengths = lengths.into_iter();
        for (index, form) in forms.into_iter().enumerate() {
            let body = if form >= 2 {
                let source = index.checked_sub(form - 1).and_then(|source| headers.chunks.get(source));
                source.ok_or(ChunkError::OutOfBounds { what: "shared body" })?.body.clone()
            } else {
                let length = lengths.next().ok_or(ChunkError::Truncated)?;
                let (at, end) = if form == 0 { (&mut inline, payload.len()) } else { (&mut section, bodies_len) };
                let range = *at..*at + length;
                if range.end > end {
                    return Err(ChunkError::OutOfBounds { what: "body" });
                }
                *at = range.end;
                if form == 0 { BodyAt::Inline(range) } else { BodyAt::Section(range) }
            };
            headers.chunks.push(ChunkAt { kind: kinds[index], times: times[index], body });
        }
        Ok(headers)
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
    fn equal_and_small_bodies_take_no_room_of_their_own() {
        let mut builder = HeadersBuilder::default();
        let large = [7; 100];
        for body in [large.as_slice(), &[1, 2], &large] {
            builder.begin_series();
            builder.push(0, 5, body);
        }
        assert_eq!(builder.bodies.len(), 100);
        let payload = builder.encode();
        let headers = Headers::decode(&payload, 100).unwrap();
        assert_eq!(headers.chunks[0].body, BodyAt::Section(0..100));
        assert_eq!(headers.chunks[2], headers.chunks[0]);
        let BodyAt::Inline(inline) = &headers.chunks[1].body else { panic!("small bodies are inline") };
        assert_eq!(payload[inline.clone()], [1, 2]);
        assert!(Headers::decode(&payload, 99).is_err(), "a body beyond the section");
    }

    proptest! {
        #[test]
        fn hostile_blocks_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Headers::decode(&bytes, 50);
            let _ = decode_times(&bytes);
            let _ = decode_instants(&bytes);
        }
    }
}
