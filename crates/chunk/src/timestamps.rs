//! Columns of instants (Unix milliseconds), which all series of one scrape target can share.
//!
//! Layout: sample count as a varint, then an integer column ([`crate::ints`]).

use crate::bytes::{Reader, VARINT_BYTES_MAX, push_varint};
use crate::{CHUNK_SAMPLES_MAX, ChunkError, Form, ints};

/// No encoding of `count` instants is longer.
#[must_use]
pub const fn worst_case_len(count: usize) -> usize {
    VARINT_BYTES_MAX + ints::worst_case_len(count)
}

/// Appends an encoding of `instants_ms`, at most [`CHUNK_SAMPLES_MAX`].
pub fn encode(instants_ms: &[i64], form: Form, out: &mut Vec<u8>) {
    push_varint(out, instants_ms.len() as u64);
    ints::encode(instants_ms, form, out);
}

/// How many instants an encoding holds.
///
/// # Errors
/// [`ChunkError`] if it cannot be an encoding.
pub fn count(bytes: &[u8]) -> Result<usize, ChunkError> {
    Reader::new(bytes).count("sample count", CHUNK_SAMPLES_MAX)
}

/// Appends all instants to `out`.
///
/// # Errors
/// [`ChunkError`] for bytes that [`encode`] did not write.
pub fn decode(bytes: &[u8], out: &mut Vec<i64>) -> Result<(), ChunkError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("sample count", CHUNK_SAMPLES_MAX)?;
    ints::decode(&mut reader, count, out)
}
