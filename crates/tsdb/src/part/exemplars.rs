//! The exemplars of a part: a file of blocks, each preceded by its length (`u32`).
//!
//! Block payload: entries of label bytes, exemplar count, and for each exemplar the instant (zigzag
//! distance to the previous one), the value (8 bytes) and its own label bytes. Entries ascend by label
//! bytes; a series' exemplars by instant, then by labels.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint, push_zigzag};
use pharos_model::{Exemplar, Labels};

use super::block::{self, BLOCK_HEADER_LEN, BlockAt, BlockFile, Packing};
use crate::TsdbError;

const BLOCK_BYTES: usize = 64 << 10;
const ZSTD_LEVEL: i32 = 3;

/// Exemplars with the labels of their series.
pub(crate) type Entries = Vec<(Labels, Exemplar)>;

/// Sorts by series, instant and labels; of equal ones the last stays.
pub(crate) fn sort(entries: &mut Entries) {
    entries.sort_by(|a, b| {
        let key = |entry: &(Labels, Exemplar)| (entry.1.timestamp_ms, entry.1.labels.clone());
        a.0.encoded().cmp(b.0.encoded()).then_with(|| key(a).cmp(&key(b)))
    });
    let same = |a: &(Labels, Exemplar), b: &(Labels, Exemplar)| {
        a.0 == b.0 && a.1.timestamp_ms == b.1.timestamp_ms && a.1.labels == b.1.labels
    };
    // `dedup_by` drops its first argument, the later one: swap it in first.
    entries.dedup_by(|later, earlier| {
        let equal = same(later, earlier);
        if equal {
            std::mem::swap(later, earlier);
        }
        equal
    });
}

/// The bytes of the file; `entries` are sorted.
pub(crate) fn encode(entries: &[(Labels, Exemplar)]) -> Vec<u8> {
    let (mut file, mut payload) = (Vec::new(), Vec::new());
    for group in entries.chunk_by(|a, b| a.0 == b.0) {
        push_slice(&mut payload, group[0].0.encoded());
        push_varint(&mut payload, group.len() as u64);
        let mut previous = 0_i64;
        for (_, exemplar) in group {
            push_zigzag(&mut payload, exemplar.timestamp_ms.wrapping_sub(previous));
            previous = exemplar.timestamp_ms;
            payload.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
            push_slice(&mut payload, exemplar.labels.encoded());
        }
        if payload.len() >= BLOCK_BYTES {
            push_block(&mut file, &mut payload);
        }
    }
    if !payload.is_empty() {
        push_block(&mut file, &mut payload);
    }
    file
}

fn push_block(file: &mut Vec<u8>, payload: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    let length = block::write(payload, Packing::Zstd(ZSTD_LEVEL), &mut bytes);
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&bytes);
    payload.clear();
}

/// Calls `each` with every entry of the file.
pub(crate) fn read(file: &BlockFile, each: &mut dyn FnMut(&[u8], Exemplar)) -> Result<(), TsdbError> {
    let mut offset = 0;
    while offset < file.len {
        let corrupt = |reason: &str| TsdbError::Corrupt {
            what: "exemplar block",
            path: file.path.clone(),
            offset,
            reason: reason.to_owned(),
        };
        if file.len - offset < 4 + BLOCK_HEADER_LEN as u64 {
            return Err(corrupt("file ends inside a block"));
        }
        let length = file.read_raw(offset, 4)?;
        let len = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let payload = file.read("exemplar block", BlockAt { offset: offset + 4, len })?;
        decode(&payload, each).map_err(TsdbError::chunk("exemplar block", &file.path, offset))?;
        offset += 4 + u64::from(len);
    }
    Ok(())
}

fn decode(payload: &[u8], each: &mut dyn FnMut(&[u8], Exemplar)) -> Result<(), ChunkError> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        let labels = reader.slice()?;
        let mut timestamp_ms = 0_i64;
        for _ in 0..reader.count("exemplar count", payload.len())? {
            timestamp_ms = timestamp_ms.wrapping_add(reader.zigzag()?);
            let value = f64::from_bits(reader.u64()?);
            let own = Labels::from_encoded(reader.slice()?)
                .map_err(|_| ChunkError::OutOfBounds { what: "exemplar labels" })?;
            each(labels, Exemplar { labels: own, timestamp_ms, value });
        }
    }
    Ok(())
}
