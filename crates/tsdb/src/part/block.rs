//! Blocks: the unit of reading. Each is checksummed, and compressed where that helps.
//!
//! Layout: CRC-32 of what follows (`u32`), codec (`u8`: 0 plain, 1 zstd), plain length (`u32`), payload.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::TsdbError;

pub(crate) const BLOCK_HEADER_LEN: usize = 9;
/// No block is longer, plain or packed: a length above is damage.
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 30;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Where a block lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BlockAt {
    pub(crate) offset: u64,
    pub(crate) len: u32,
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
        check_place(what, &self.path, at, self.len)?;
        unpack(what, &self.path, at.offset, self.read_raw(at.offset, at.len as usize)?)
    }

    /// Bytes without a block's header; the caller bounds `len`.
    pub(crate) fn read_raw(&self, offset: u64, len: usize) -> Result<Vec<u8>, TsdbError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).map_err(TsdbError::io("read", &self.path))?;
        Ok(bytes)
    }
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
    let corrupt = |reason: String| TsdbError::Corrupt { what, path: path.to_owned(), offset, reason };
    let expected = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let found = crc32fast::hash(&bytes[4..]);
    if expected != found {
        return Err(TsdbError::Checksum { what, path: path.to_owned(), offset, expected, found });
    }
    let plain_len = u32::from_le_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) as usize;
    match bytes[4] {
        PLAIN if plain_len == bytes.len() - BLOCK_HEADER_LEN => {
            bytes.drain(..BLOCK_HEADER_LEN);
            Ok(bytes)
        }
        ZSTD if plain_len <= BLOCK_BYTES_MAX => {
            let plain = zstd::bulk::decompress(&bytes[BLOCK_HEADER_LEN..], plain_len);
            plain.map_err(|error| corrupt(error.to_string()))
        }
        _ => Err(corrupt("unknown codec or wrong length".to_owned())),
    }
}
