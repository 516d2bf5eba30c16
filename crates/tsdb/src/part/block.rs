//! Blocks: the unit of reading. Each is checksummed, and compressed where that helps.
//!
//! Layout: CRC-32 of what follows (`u32`), codec (`u8`: 0 plain, 1 zstd), plain length (`u32`), payload.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::TsdbError;

pub(crate) const BLOCK_HEADER_LEN: usize = 9;
/// No block is longer, plain or packed: a length above is damage.
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 30;
/// Bytes read at a time where a block is only checked.
const CHECK_BYTES: usize = 256 << 10;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const UNKNOWN_PACKING: &str = "unknown codec or wrong length";

/// Where a block lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BlockAt {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl BlockAt {
    /// Length of the payload if the block is not compressed.
    pub(crate) fn plain_payload_len(self) -> usize {
        (self.len as usize).saturating_sub(BLOCK_HEADER_LEN)
    }
}

/// How a block is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Bytes that are dense already.
    Plain,
    /// zstd at this level, if that is smaller.
    Zstd(i32),
}

/// Appends a block and answers its length.
pub(crate) fn write(payload: &[u8], packing: Packing, out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let packed = match packing {
        Packing::Plain => None,
        Packing::Zstd(level) => zstd::bulk::compress(payload, level).ok().filter(|packed| packed.len() < payload.len()),
    };
    out.push(if packed.is_some() { ZSTD } else { PLAIN });
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(packed.as_deref().unwrap_or(payload));
    let checksum = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    (out.len() - start) as u32
}

/// What stands in front of a payload that is written as it is.
pub(crate) fn plain_header(payload: &[u8]) -> [u8; BLOCK_HEADER_LEN] {
    let mut header = [0; BLOCK_HEADER_LEN];
    header[4] = PLAIN;
    header[5..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[4..]);
    hasher.update(payload);
    header[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
    header
}

/// A file of blocks, open for reading.
#[derive(Debug)]
pub(crate) struct BlockFile {
    pub(crate) path: PathBuf,
    file: File,
    pub(crate) len: u64,
}

impl BlockFile {
    pub(crate) fn open(path: &Path) -> Result<Self, TsdbError> {
        let file = File::open(path).map_err(TsdbError::io("open", path))?;
        let len = file.metadata().map_err(TsdbError::io("stat", path))?.len();
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// The payload of a block whose checksum is right.
    pub(crate) fn read(&self, what: &'static str, at: BlockAt) -> Result<Vec<u8>, TsdbError> {
        let mut bytes = Vec::new();
        let payload = self.read_into(what, at, &mut bytes)?;
        bytes.drain(..payload.start);
        Ok(bytes)
    }

    /// As [`BlockFile::read`], into a buffer that is used again and again: answers where in it the payload lies.
    pub(crate) fn read_into(
        &self,
        what: &'static str,
        at: BlockAt,
        buffer: &mut Vec<u8>,
    ) -> Result<Range<usize>, TsdbError> {
        check_place(what, &self.path, at, self.len)?;
        size_exactly(buffer, at.len as usize);
        self.file.read_exact_at(buffer, at.offset).map_err(TsdbError::io("read", &self.path))?;
        unpack_in_place(what, &self.path, at.offset, buffer)
    }

    /// Checks a block without holding it; true if it is a plain one, of which pieces can be read.
    pub(crate) fn check(&self, what: &'static str, at: BlockAt) -> Result<bool, TsdbError> {
        check_place(what, &self.path, at, self.len)?;
        let header = self.header(at)?;
        let (mut hasher, mut offset, end) = (crc32fast::Hasher::new(), at.offset + 4, at.offset + u64::from(at.len));
        let mut buffer = vec![0; CHECK_BYTES.min(at.len as usize)];
        while offset < end {
            let piece = buffer.len().min((end - offset) as usize);
            self.file.read_exact_at(&mut buffer[..piece], offset).map_err(TsdbError::io("read", &self.path))?;
            hasher.update(&buffer[..piece]);
            offset += piece as u64;
        }
        check_sum(what, &self.path, at.offset, header.checksum, hasher.finalize())?;
        Ok(header.is_plain(at.len as usize))
    }

    /// A piece of the payload of a plain block that was checked before; nothing of the block is beyond it.
    pub(crate) fn read_plain_piece(
        &self,
        what: &'static str,
        at: BlockAt,
        piece: Range<usize>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), TsdbError> {
        if piece.end > at.plain_payload_len() {
            return Err(self.corrupt(what, at, "is shorter than what refers to it"));
        }
        size_exactly(buffer, piece.len());
        let offset = at.offset + (BLOCK_HEADER_LEN + piece.start) as u64;
        self.file.read_exact_at(buffer, offset).map_err(TsdbError::io("read", &self.path))
    }

    /// Length of a block's payload, as its header says: its checksum was not looked at.
    pub(crate) fn plain_len(&self, what: &'static str, at: BlockAt) -> Result<usize, TsdbError> {
        check_place(what, &self.path, at, self.len)?;
        let header = self.header(at)?;
        header.payload_len(at.len as usize).ok_or_else(|| self.corrupt(what, at, UNKNOWN_PACKING))
    }

    fn header(&self, at: BlockAt) -> Result<Header, TsdbError> {
        let mut header = [0; BLOCK_HEADER_LEN];
        self.file.read_exact_at(&mut header, at.offset).map_err(TsdbError::io("read", &self.path))?;
        Ok(Header::of(&header))
    }

    fn corrupt(&self, what: &'static str, at: BlockAt, reason: &str) -> TsdbError {
        TsdbError::Corrupt { what, path: self.path.clone(), offset: at.offset, reason: reason.to_owned() }
    }

    /// Bytes without a block's header; the caller bounds `len`.
    pub(crate) fn read_raw(&self, offset: u64, len: usize) -> Result<Vec<u8>, TsdbError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).map_err(TsdbError::io("read", &self.path))?;
        Ok(bytes)
    }
}

/// Makes a buffer that is used again and again so long, and no larger than it must be for that.
fn size_exactly(buffer: &mut Vec<u8>, len: usize) {
    buffer.clear();
    buffer.reserve_exact(len);
    buffer.resize(len, 0);
}

/// Checks that a block lies within a file of `len` bytes.
pub(crate) fn check_place(what: &'static str, path: &Path, at: BlockAt, len: u64) -> Result<(), TsdbError> {
    let inside = at.offset.saturating_add(u64::from(at.len)) <= len;
    if inside && (BLOCK_HEADER_LEN..=BLOCK_BYTES_MAX).contains(&(at.len as usize)) {
        return Ok(());
    }
    let reason = "block lies outside the file".to_owned();
    Err(TsdbError::Corrupt { what, path: path.to_owned(), offset: at.offset, reason })
}

/// The payload of a block, given its bytes (at least a header) and, for messages, where they were.
pub(crate) fn unpack(what: &'static str, path: &Path, offset: u64, mut bytes: Vec<u8>) -> Result<Vec<u8>, TsdbError> {
    let payload = unpack_in_place(what, path, offset, &mut bytes)?;
    bytes.drain(..payload.start);
    Ok(bytes)
}

/// As [`unpack`]; the payload lies in the range answered, to the end.
fn unpack_in_place(
    what: &'static str,
    path: &Path,
    offset: u64,
    bytes: &mut Vec<u8>,
) -> Result<Range<usize>, TsdbError> {
    let corrupt = |reason: String| TsdbError::Corrupt { what, path: path.to_owned(), offset, reason };
    let header = Header::of(bytes);
    check_sum(what, path, offset, header.checksum, crc32fast::hash(&bytes[4..]))?;
    let plain_len = header.payload_len(bytes.len()).ok_or_else(|| corrupt(UNKNOWN_PACKING.to_owned()))?;
    if header.is_plain(bytes.len()) {
        return Ok(BLOCK_HEADER_LEN..bytes.len());
    }
    let plain = zstd::bulk::decompress(&bytes[BLOCK_HEADER_LEN..], plain_len);
    *bytes = plain.map_err(|error| corrupt(error.to_string()))?;
    Ok(0..bytes.len())
}

fn check_sum(what: &'static str, path: &Path, offset: u64, expected: u32, found: u32) -> Result<(), TsdbError> {
    if expected == found {
        return Ok(());
    }
    Err(TsdbError::Checksum { what, path: path.to_owned(), offset, expected, found })
}

/// The first bytes of a block.
#[derive(Debug, Clone, Copy)]
struct Header {
    checksum: u32,
    codec: u8,
    plain_len: usize,
}

impl Header {
    /// Of at least [`BLOCK_HEADER_LEN`] bytes.
    fn of(bytes: &[u8]) -> Self {
        Self {
            checksum: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            codec: bytes[4],
            plain_len: u32::from_le_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) as usize,
        }
    }

    /// Of a block of `len` bytes: whether its payload stands there as it is.
    fn is_plain(self, len: usize) -> bool {
        self.codec == PLAIN && self.plain_len + BLOCK_HEADER_LEN == len
    }

    /// Length of the payload; `None` if the header makes no sense.
    fn payload_len(self, len: usize) -> Option<usize> {
        let is_packed = self.codec == ZSTD && self.plain_len <= BLOCK_BYTES_MAX;
        (is_packed || self.is_plain(len)).then_some(self.plain_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_those_of_the_whole_and_end_where_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let payload: Vec<u8> = (0..CHECK_BYTES as u32 * 2 + 5).map(|byte| byte as u8).collect();
        let mut bytes = vec![0; 7];
        let plain = BlockAt { offset: 7, len: write(&payload, Packing::Plain, &mut bytes) };
        let packed = BlockAt { offset: bytes.len() as u64, len: write(&payload, Packing::Zstd(1), &mut bytes) };
        std::fs::write(&path, &bytes).unwrap();
        let file = BlockFile::open(&path).unwrap();
        assert_eq!(file.read("block", packed).unwrap(), payload);
        assert_eq!(file.read("block", plain).unwrap(), payload);
        assert_eq!(plain_header(&payload), bytes[7..7 + BLOCK_HEADER_LEN], "the same as written in one piece");
        assert_eq!((file.check("block", plain).unwrap(), file.check("block", packed).unwrap()), (true, false));
        for at in [plain, packed] {
            assert_eq!(file.plain_len("block", at).unwrap(), payload.len());
        }
        let mut piece = Vec::new();
        file.read_plain_piece("block", plain, 100..300, &mut piece).unwrap();
        assert_eq!(piece, payload[100..300]);
        assert!(file.read_plain_piece("block", plain, 0..payload.len() + 1, &mut piece).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed_by_reading_and_by_checking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let mut bytes = Vec::new();
        let at = BlockAt { offset: 0, len: write(b"some bytes of a block", Packing::Plain, &mut bytes) };
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            let file = BlockFile::open(&path).unwrap();
            assert!(file.read("block", at).is_err() && file.check("block", at).is_err(), "bit {bit}");
        }
    }
}
