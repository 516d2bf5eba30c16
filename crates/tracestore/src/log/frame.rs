//! Segment headers, frames and records as bytes.

use crate::codec::{Reader, Writer};

pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"PHTRLOG1";
pub(super) const SEGMENT_HEADER_BYTES: usize = 16;

const FRAME_MAGIC: [u8; 4] = *b"PHFR";
/// Magic 4, CRC 4, length of the records 4, first sequence 8, synced bytes 8.
pub(super) const FRAME_HEADER_BYTES: usize = 28;
/// No frame is longer: a group commit stops gathering long before.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 30;
/// A record's content is at most this long after inflation; longer ones are refused before they are written.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 29;

/// A frame's header and where its records lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) first_sequence: u64,
    pub(super) synced_bytes: u64,
    pub(super) records: &'a [u8],
}

pub(super) fn segment_header(first_sequence: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..].copy_from_slice(&first_sequence.to_le_bytes());
    header
}

/// The bytes of a frame of `records`, each already made by [`encode_record`].
pub(super) fn encode_frame(first_sequence: u64, synced_bytes: u64, records: &[&[u8]]) -> Vec<u8> {
    let length: usize = records.iter().map(|record| record.len() + 10).sum();
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + length);
    out.resize(FRAME_HEADER_BYTES, 0);
    for record in records {
        out.put_bytes(record);
    }
    let records_length = (out.len() - FRAME_HEADER_BYTES) as u32;
    out[8..12].copy_from_slice(&records_length.to_le_bytes());
    out[12..20].copy_from_slice(&first_sequence.to_le_bytes());
    out[20..28].copy_from_slice(&synced_bytes.to_le_bytes());
    let crc = crc32fast::hash(&out[8..]);
    out[..4].copy_from_slice(&FRAME_MAGIC);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The frame at the front of `bytes`, if it is whole and sound.
pub(super) fn decode_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let mut reader = Reader::new(bytes);
    if reader.array("magic").ok()? != FRAME_MAGIC {
        return None;
    }
    let crc = u32::from_le_bytes(reader.array("crc").ok()?);
    let length = u32::from_le_bytes(reader.array("length").ok()?) as usize;
    let first_sequence = u64::from_le_bytes(reader.array("first sequence").ok()?);
    let synced_bytes = u64::from_le_bytes(reader.array("synced bytes").ok()?);
    if length > FRAME_BYTES_MAX {
        return None;
    }
    let records = reader.take(length, "records").ok()?;
    let total = FRAME_HEADER_BYTES + length;
    (crc32fast::hash(&bytes[8..total]) == crc).then_some((Frame { first_sequence, synced_bytes, records }, total))
}

/// Whether a sound frame begins anywhere in `bytes`, and the highest `synced_bytes` of those.
pub(super) fn synced_bytes_after(bytes: &[u8]) -> Option<u64> {
    let starts = bytes.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, window)| *window == FRAME_MAGIC);
    starts.filter_map(|(at, _)| decode_frame(&bytes[at..])).map(|(frame, _)| frame.synced_bytes).max()
}

/// A record: the length of its content and the content, compressed.
pub(crate) fn encode_record(content: &[u8]) -> std::io::Result<Vec<u8>> {
    const LEVEL: i32 = 1;
    let mut out = Vec::with_capacity(content.len() / 3 + 16);
    out.put_varint(content.len() as u64);
    out.extend_from_slice(&zstd::bulk::compress(content, LEVEL)?);
    Ok(out)
}

/// The reverse of [`encode_record`].
pub(crate) fn decode_record(record: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(record);
    let length = usize::try_from(reader.varint("length").ok()?).ok().filter(|length| *length <= RECORD_BYTES_MAX)?;
    let compressed = reader.take(reader.remaining(), "content").ok()?;
    zstd::bulk::decompress(compressed, length).ok().filter(|content| content.len() == length)
}
