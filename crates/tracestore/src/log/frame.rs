//! Segment headers, frames and records as bytes.

use std::io::Read as _;

use pharos_base::random_bytes;

use crate::codec::{Reader, Writer};

const SEGMENT_MAGIC: [u8; 8] = *b"PHTRLOG2";
/// Magic 8, first sequence 8, mark of frames 8, CRC 4.
pub(super) const SEGMENT_HEADER_BYTES: usize = 28;

/// Segments as they were written before: magic and first sequence; frames begin with a word that all know.
const SEGMENT_MAGIC_1: [u8; 8] = *b"PHTRLOG1";
const SEGMENT_HEADER_1_BYTES: usize = 16;
const FRAME_MAGIC_1: [u8; 4] = *b"PHFR";

/// CRC 4, length of the records 4, first sequence 8, synced bytes 8.
const FRAME_NUMBERS_BYTES: usize = 24;
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

/// What frames of a segment begin with. It is random, so that bytes that are sent to us cannot look like a frame when the head of
/// the one that holds them is torn off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FrameMark(Vec<u8>);

impl FrameMark {
    pub(super) fn random() -> Self {
        Self(random_bytes::<8>().to_vec())
    }

    pub(super) fn frame_header_bytes(&self) -> usize {
        self.0.len() + FRAME_NUMBERS_BYTES
    }
}

/// What stands at the front of a segment.
#[derive(Debug)]
pub(super) struct SegmentHeader {
    pub(super) first_sequence: u64,
    pub(super) mark: FrameMark,
    /// Frames begin here.
    pub(super) bytes: usize,
}

impl SegmentHeader {
    pub(super) fn encode(first_sequence: u64, mark: &FrameMark) -> Vec<u8> {
        let mut header = [&SEGMENT_MAGIC[..], &first_sequence.to_le_bytes(), &mark.0].concat();
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        header
    }

    /// The header at the front of `bytes`, if it is whole and sound.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let magic = reader.array::<8>("magic").ok()?;
        let first_sequence = u64::from_le_bytes(reader.array("sequence").ok()?);
        if magic == SEGMENT_MAGIC_1 {
            let mark = FrameMark(FRAME_MAGIC_1.to_vec());
            return Some(Self { first_sequence, mark, bytes: SEGMENT_HEADER_1_BYTES });
        }
        let mark = FrameMark(reader.array::<8>("mark").ok()?.to_vec());
        let is_sound =
            magic == SEGMENT_MAGIC && Self::encode(first_sequence, &mark) == bytes.get(..SEGMENT_HEADER_BYTES)?;
        is_sound.then_some(Self { first_sequence, mark, bytes: SEGMENT_HEADER_BYTES })
    }
}

/// The bytes of a frame of `records`, each already made by [`encode_record`].
pub(super) fn encode_frame(mark: &FrameMark, first_sequence: u64, synced_bytes: u64, records: &[&[u8]]) -> Vec<u8> {
    let length: usize = records.iter().map(|record| record.len() + 10).sum();
    let header_bytes = mark.frame_header_bytes();
    let mut out = Vec::with_capacity(header_bytes + length);
    out.resize(header_bytes, 0);
    for record in records {
        out.put_bytes(record);
    }
    let records_length = (out.len() - header_bytes) as u32;
    let (front, numbers) = out.split_at_mut(mark.0.len());
    front.copy_from_slice(&mark.0);
    numbers[4..8].copy_from_slice(&records_length.to_le_bytes());
    numbers[8..16].copy_from_slice(&first_sequence.to_le_bytes());
    numbers[16..24].copy_from_slice(&synced_bytes.to_le_bytes());
    let crc = crc32fast::hash(&numbers[4..]);
    numbers[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The frame at the front of `bytes`, if it is whole and sound.
pub(super) fn decode_frame<'a>(mark: &FrameMark, bytes: &'a [u8]) -> Option<(Frame<'a>, usize)> {
    let numbers = bytes.strip_prefix(mark.0.as_slice())?;
    let mut reader = Reader::new(numbers);
    let crc = u32::from_le_bytes(reader.array("crc").ok()?);
    let length = u32::from_le_bytes(reader.array("length").ok()?) as usize;
    let first_sequence = u64::from_le_bytes(reader.array("first sequence").ok()?);
    let synced_bytes = u64::from_le_bytes(reader.array("synced bytes").ok()?);
    if length > FRAME_BYTES_MAX {
        return None;
    }
    let records = reader.take(length, "records").ok()?;
    let is_sound = crc32fast::hash(&numbers[4..FRAME_NUMBERS_BYTES + length]) == crc;
    is_sound.then_some((Frame { first_sequence, synced_bytes, records }, mark.frame_header_bytes() + length))
}

/// Whether a sound frame begins anywhere in `bytes`, and the highest `synced_bytes` of those.
pub(super) fn synced_bytes_after(mark: &FrameMark, bytes: &[u8]) -> Option<u64> {
    let starts = bytes.windows(mark.0.len()).enumerate().filter(|(_, window)| *window == mark.0);
    starts.filter_map(|(at, _)| decode_frame(mark, &bytes[at..])).map(|(frame, _)| frame.synced_bytes).max()
}

/// A record: the length of its content and the content, compressed.
pub(crate) fn encode_record(content: &[u8]) -> std::io::Result<Vec<u8>> {
    const LEVEL: i32 = 1;
    let mut out = Vec::with_capacity(content.len() / 3 + 16);
    out.put_varint(content.len() as u64);
    out.extend_from_slice(&zstd::bulk::compress(content, LEVEL)?);
    Ok(out)
}

/// The reverse of [`encode_record`]. Memory grows with what is there, not with what the length says.
pub(crate) fn decode_record(record: &[u8]) -> Option<Vec<u8>> {
    const RATIO_EXPECTED: usize = 16;
    let mut reader = Reader::new(record);
    let length = usize::try_from(reader.varint("length").ok()?).ok().filter(|length| *length <= RECORD_BYTES_MAX)?;
    let compressed = reader.take(reader.remaining(), "content").ok()?;
    let mut content = Vec::with_capacity(length.min(compressed.len().saturating_mul(RATIO_EXPECTED)));
    let inflating = zstd::Decoder::with_buffer(compressed).ok()?;
    inflating.take(length as u64 + 1).read_to_end(&mut content).ok()?;
    (content.len() == length).then_some(content)
}

/// Gives a segment's header and its frames their checksums, as far as one follows the other.
#[cfg(feature = "internals")]
pub(crate) fn make_segment_right(bytes: &mut [u8]) {
    const HEADER_FRONT_BYTES: usize = SEGMENT_HEADER_BYTES - 4;
    if bytes.starts_with(&SEGMENT_MAGIC) && bytes.len() >= SEGMENT_HEADER_BYTES {
        let crc = crc32fast::hash(&bytes[..HEADER_FRONT_BYTES]);
        bytes[HEADER_FRONT_BYTES..SEGMENT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    let Some(header) = SegmentHeader::decode(bytes) else { return };
    let mut at = header.bytes;
    while let Some(numbers) = bytes.get_mut(at + header.mark.0.len()..)
        && let Some(length) = numbers.get(4..8)
    {
        let length = length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let Some(checked) = numbers.get(4..FRAME_NUMBERS_BYTES + length) else { return };
        let crc = crc32fast::hash(checked);
        numbers[..4].copy_from_slice(&crc.to_le_bytes());
        at += header.mark.frame_header_bytes() + length;
    }
}
