//! An open rollup file of a part.
//!
//! It is never needed: where it is damaged or of a version to come, the samples themselves are read.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::Reader;

use super::block::Block;
use super::writer::header;
use super::{FOOTER_LEN, HEADER_LEN, MAGIC, Resolution, VERSION};
use crate::TsdbError;
use crate::part::block::{BlockAt, BlockFile};
use crate::part::meta::RollupMeta;
use crate::part::toc::BLOCK_SERIES;

const TOC: &str = "table of contents of a rollup";
const BLOCK: &str = "rollup block";

/// One resolution of a part.
#[derive(Debug)]
pub(crate) struct RollupFile {
    resolution: Resolution,
    /// Set when a block was found damaged: from then on samples are read, and a compaction writes it anew.
    damaged: AtomicBool,
    file: BlockFile,
    blocks: Vec<BlockAt>,
}

impl RollupFile {
    /// Opens the file that a part of `series_count` series says it has.
    pub(crate) fn open(dir: &Path, meta: RollupMeta, series_count: u64) -> Result<Self, TsdbError> {
        let Some(resolution) = Resolution::of_ms(meta.resolution_ms) else {
            let (what, path) = ("part description", dir.join(crate::part::meta::META_FILE));
            return Err(TsdbError::Corrupt { what, path, offset: 0, reason: "an unknown resolution".to_owned() });
        };
        let file = BlockFile::open(&dir.join(resolution.file_name()))?;
        let toc = read_footer(&file, meta.bytes)?;
        let payload = file.read(TOC, toc)?;
        let blocks = decode_toc(&payload, resolution, series_count, toc.offset)
            .map_err(TsdbError::chunk(TOC, &file.path, toc.offset))?;
        Ok(Self { resolution, damaged: AtomicBool::new(false), file, blocks })
    }

    /// Whether it can be read at this resolution.
    pub(crate) fn serves(&self, resolution: Resolution) -> bool {
        self.resolution == resolution && !self.damaged.load(Ordering::Relaxed)
    }

    /// Gives it up.
    pub(super) fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Lengths of all blocks in the file.
    pub(super) fn block_lens(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.iter().map(|at| u64::from(at.len))
    }

    /// Reads the block of 256 series.
    pub(super) fn block(&self, number: u32) -> Result<Block, TsdbError> {
        let Some(at) = self.blocks.get(number as usize) else {
            return Err(self.corrupt(BLOCK, self.file.len, "has too few blocks"));
        };
        let payload = self.file.read(BLOCK, *at)?;
        Block::new(payload).map_err(self.chunk_error(number))
    }

    /// For what makes no sense in a block.
    pub(super) fn chunk_error(&self, block: u32) -> impl FnOnce(ChunkError) -> TsdbError {
        let offset = self.blocks.get(block as usize).map_or(0, |at| at.offset);
        TsdbError::chunk(BLOCK, &self.file.path, offset)
    }

    fn corrupt(&self, what: &'static str, offset: u64, reason: &str) -> TsdbError {
        TsdbError::Corrupt { what, path: self.file.path.clone(), offset, reason: reason.to_owned() }
    }
}

/// Where the table of contents is.
fn read_footer(file: &BlockFile, expected_len: u64) -> Result<BlockAt, TsdbError> {
    let corrupt = |offset: u64, reason: String| TsdbError::Corrupt {
        what: "rollup file",
        path: file.path.clone(),
        offset,
        reason,
    };
    if file.len != expected_len || file.len < (HEADER_LEN + FOOTER_LEN) as u64 {
        return Err(corrupt(file.len, format!("has {} bytes instead of {expected_len}", file.len)));
    }
    let (head, offset) = (file.read_raw(0, HEADER_LEN)?, file.len - FOOTER_LEN as u64);
    let footer = file.read_raw(offset, FOOTER_LEN)?;
    let mut reader = Reader::new(&footer);
    let mut fields = || Ok((reader.u64()?, reader.u32()?, reader.u32()?, reader.take(MAGIC.len())?));
    let (at, len, version, magic) = fields().map_err(TsdbError::chunk("rollup file", &file.path, offset))?;
    if magic != MAGIC || head[..MAGIC.len()] != MAGIC {
        return Err(corrupt(offset, "not a rollup file".to_owned()));
    }
    if version > VERSION {
        return Err(TsdbError::Version { path: file.path.clone(), found: version, supported: VERSION });
    }
    if head != header() || version != VERSION || at.saturating_add(u64::from(len)) != offset {
        return Err(corrupt(offset, "header and footer disagree".to_owned()));
    }
    Ok(BlockAt { offset: at, len })
}

/// The blocks, which lie from the header to `end` without gaps.
fn decode_toc(payload: &[u8], resolution: Resolution, series_count: u64, end: u64) -> Result<Vec<BlockAt>, ChunkError> {
    let mut reader = Reader::new(payload);
    let (resolution_ms, series) = (reader.varint()?, reader.varint()?);
    if resolution_ms != resolution.ms().unsigned_abs() || series != series_count {
        return Err(ChunkError::OutOfBounds { what: "resolution or series count" });
    }
    // A length takes at least a byte.
    let count = reader.count("block count", reader.rest().len())?;
    let mut offset = HEADER_LEN as u64;
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let len = reader.count("block length", u32::MAX as usize)? as u32;
        blocks.push(BlockAt { offset, len });
        offset += u64::from(len);
    }
    if count as u64 != series_count.div_ceil(BLOCK_SERIES as u64) || offset != end || !reader.is_empty() {
        return Err(ChunkError::OutOfBounds { what: "block count" });
    }
    Ok(blocks)
}
