//! Blocks of label sets: up to [`BLOCK_SERIES`] series, each as the bytes it does not share with its predecessor.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint};

use crate::part::toc::BLOCK_SERIES;

/// Label sets of up to [`BLOCK_SERIES`] series: each as the bytes it does not share with its predecessor.
pub(crate) fn encode_labels(sets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, sets.len() as u64);
    let mut previous: &[u8] = &[];
    for set in sets {
        let shared = previous.iter().zip(set).take_while(|(a, b)| a == b).count();
        push_varint(&mut out, shared as u64);
        push_slice(&mut out, &set[shared..]);
        previous = set;
    }
    out
}

pub(crate) fn decode_labels(payload: &[u8]) -> Result<Vec<Box<[u8]>>, ChunkError> {
    let mut reader = Reader::new(payload);
    let count = reader.count("series count", BLOCK_SERIES)?;
    let mut sets = Vec::with_capacity(count);
    let mut current: Vec<u8> = Vec::new();
    for _ in 0..count {
        let shared = reader.count("shared prefix", current.len())?;
        current.truncate(shared);
        current.extend_from_slice(reader.slice()?);
        sets.push(current.as_slice().into());
    }
    Ok(sets)
}
