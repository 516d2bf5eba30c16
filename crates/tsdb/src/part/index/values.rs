//! Blocks of label values: consecutive symbols, each as the bytes it does not share with its predecessor.
//!
//! Values of one label are ordered by length, then by bytes: the order in which encoded label sets sort as long as
//! values have less than 128 bytes, so that mostly the ids of sorted series ascend too. Nothing relies on it: whether
//! a column ascends is seen when it is decoded. Payload, column by column, because equal things compress when
//! they stand together: length of each value (zigzag distance to the one before), bytes it shares with the
//! one before, then the bytes it does not share, end to end. How many values a block holds is said by the
//! table of contents.

use std::cmp::Ordering;

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_varint, push_zigzag};

/// A block is ended by the value that brings its text to this size.
pub(super) const BLOCK_TEXT_BYTES: usize = 64 << 10;
/// No block holds more text: shared prefixes must not let a small block grow without bound.
const BLOCK_TEXT_BYTES_MAX: usize = 64 << 20;

/// The order of the values of one label.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

/// Collects the values of one block.
#[derive(Debug, Default)]
pub(super) struct ValuesBuilder {
    pub(super) count: u32,
    pub(super) text_bytes: usize,
    lengths: Vec<u8>,
    shared: Vec<u8>,
    rest: Vec<u8>,
    previous: Vec<u8>,
}

impl ValuesBuilder {
    pub(super) fn push(&mut self, value: &str) {
        let value = value.as_bytes();
        let shared = self.previous.iter().zip(value).take_while(|(a, b)| a == b).count();
        push_zigzag(&mut self.lengths, value.len() as i64 - self.previous.len() as i64);
        push_varint(&mut self.shared, shared as u64);
        self.rest.extend_from_slice(&value[shared..]);
        self.previous.clear();
        self.previous.extend_from_slice(value);
        self.count += 1;
        self.text_bytes += value.len();
    }

    pub(super) fn payload(&self) -> Vec<u8> {
        [self.lengths.as_slice(), &self.shared, &self.rest].concat()
    }
}

/// A decoded block.
#[derive(Debug, Default)]
pub(crate) struct Values {
    text: Box<str>,
    /// Where each value ends.
    ends: Box<[u32]>,
}

impl Values {
    pub(super) fn decode(payload: &[u8], count: u32) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(payload);
        let count = count as usize;
        if count > payload.len() {
            return Err(ChunkError::OutOfBounds { what: "value count" });
        }
        let (mut length, mut total) = (0_i64, 0);
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            length = length.wrapping_add(reader.zigzag()?);
            if length <= 0 || length as usize > BLOCK_TEXT_BYTES_MAX - total {
                return Err(ChunkError::OutOfBounds { what: "length of a value" });
            }
            total += length as usize;
            ends.push(total as u32);
        }
        let mut text = Vec::with_capacity(total);
        let shared =
            (0..count).map(|_| reader.count("shared prefix", BLOCK_TEXT_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
        let (mut previous, mut start) = (0..0, 0);
        for (end, shared) in ends.iter().zip(shared) {
            let end = *end as usize;
            if shared > previous.len() || shared > end - start {
                return Err(ChunkError::OutOfBounds { what: "shared prefix" });
            }
            text.extend_from_within(previous.start..previous.start + shared);
            text.extend_from_slice(reader.take(end - start - shared)?);
            (previous, start) = (start..end, end);
        }
        let text = String::from_utf8(text).map_err(|_| ChunkError::OutOfBounds { what: "text of a value" })?;
        if !reader.is_empty() || ends.iter().any(|end| !text.is_char_boundary(*end as usize)) {
            return Err(ChunkError::OutOfBounds { what: "text of a value" });
        }
        Ok(Self { text: text.into(), ends: ends.into() })
    }

    /// The value at a position; empty beyond the end.
    pub(crate) fn get(&self, position: usize) -> &str {
        let start = position.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(position).copied().unwrap_or(start);
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    pub(super) fn memory(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<u32>()
    }
}
