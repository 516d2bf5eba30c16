//! Blocks of postings: values of one label, each with the numbers of its series.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint};

/// Series numbers with one label value, ascending, being collected.
#[derive(Debug, Default)]
pub(crate) struct PostingList {
    pub(crate) count: u32,
    next: u32,
    bytes: Vec<u8>,
}

impl PostingList {
    pub(crate) fn push(&mut self, number: u32) {
        push_varint(&mut self.bytes, u64::from(number - self.next));
        self.next = number + 1;
        self.count += 1;
    }
}

/// Appends one value with its postings to a block.
pub(crate) fn push_postings(out: &mut Vec<u8>, previous: &str, value: &str, list: &PostingList) {
    let shared = previous.bytes().zip(value.bytes()).take_while(|(a, b)| a == b).count();
    push_varint(out, shared as u64);
    push_slice(out, &value.as_bytes()[shared..]);
    push_varint(out, u64::from(list.count));
    push_slice(out, &list.bytes);
}

/// Calls `each` with every value of a postings block, its count and its encoded numbers, until it says stop.
pub(crate) fn for_each_value(
    payload: &[u8],
    mut each: impl FnMut(&str, u32, &[u8]) -> Result<bool, ChunkError>,
) -> Result<(), ChunkError> {
    let mut reader = Reader::new(payload);
    let mut value: Vec<u8> = Vec::new();
    while !reader.is_empty() {
        let shared = reader.count("shared prefix", value.len())?;
        value.truncate(shared);
        value.extend_from_slice(reader.slice()?);
        let text = std::str::from_utf8(&value).map_err(|_| ChunkError::OutOfBounds { what: "label value" })?;
        let count = reader.count("postings count", u32::MAX as usize)? as u32;
        if !each(text, count, reader.slice()?)? {
            break;
        }
    }
    Ok(())
}

/// Appends the numbers of encoded postings, all below `end`.
pub(crate) fn decode_numbers(encoded: &[u8], end: u32, out: &mut Vec<u32>) -> Result<(), ChunkError> {
    let mut reader = Reader::new(encoded);
    let mut next = 0_u64;
    while !reader.is_empty() {
        let number = next.saturating_add(reader.varint()?);
        if number >= u64::from(end) {
            return Err(ChunkError::OutOfBounds { what: "series number" });
        }
        out.push(number as u32);
        next = number + 1;
    }
    Ok(())
}
