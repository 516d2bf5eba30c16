//! Writing the rollup file of a part that is being written: it becomes visible and durable with the part.

use std::path::{Path, PathBuf};

use pharos_chunk::bytes::push_varint;

use super::block::BlockBuilder;
use super::cells::Cells;
use super::{FOOTER_LEN, HEADER_LEN, MAGIC, Resolution, VERSION};
use crate::TsdbError;
use crate::disk::{Disk, DiskFile};
use crate::part::block::{self, Packing};
use crate::part::meta::RollupMeta;
use crate::part::toc::BLOCK_SERIES;
use crate::samples::Samples;

const BLOCK_ZSTD: Packing = Packing::Zstd(6);

/// A rollup file being written.
pub(crate) struct RollupWriter {
    resolution: Resolution,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    len: u64,
    block: BlockBuilder,
    block_lens: Vec<u32>,
    series_count: u64,
}

impl RollupWriter {
    /// Creates the file in a part's directory.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, resolution: Resolution) -> Result<Self, TsdbError> {
        let path = dir.join(resolution.file_name());
        let file = disk.create(&path).map_err(TsdbError::io("create", &path))?;
        let block = BlockBuilder::default();
        let mut writer = Self { resolution, file, path, len: 0, block, block_lens: Vec::new(), series_count: 0 };
        writer.write(&header())?;
        Ok(writer)
    }

    /// Adds the next series of the part with its sorted samples.
    pub(crate) fn add_series(&mut self, samples: &Samples) -> Result<(), TsdbError> {
        self.block.push(Cells::of(samples, self.resolution));
        self.series_count += 1;
        if self.block.series_count() >= BLOCK_SERIES { self.end_block() } else { Ok(()) }
    }

    /// Ends the file and syncs it.
    pub(crate) fn finish(mut self) -> Result<RollupMeta, TsdbError> {
        if self.block.series_count() > 0 {
            self.end_block()?;
        }
        let end = end(self.resolution, self.series_count, &self.block_lens, self.len);
        self.write(&end)?;
        self.file.sync().map_err(TsdbError::io("sync", &self.path))?;
        Ok(RollupMeta { resolution_ms: self.resolution.ms(), bytes: self.len })
    }

    fn end_block(&mut self) -> Result<(), TsdbError> {
        let payload = self.block.take();
        let mut bytes = Vec::with_capacity(payload.len() + 16);
        self.block_lens.push(block::write(&payload, BLOCK_ZSTD, &mut bytes));
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TsdbError> {
        self.len += bytes.len() as u64;
        self.file.write_all(bytes).map_err(TsdbError::io("write", &self.path))
    }
}

/// Last bytes of a rollup file: table of contents, which lies at `offset`, and footer.
pub(super) fn end(resolution: Resolution, series_count: u64, block_lens: &[u32], offset: u64) -> Vec<u8> {
    let mut toc = Vec::new();
    push_varint(&mut toc, resolution.ms().unsigned_abs());
    push_varint(&mut toc, series_count);
    push_varint(&mut toc, block_lens.len() as u64);
    for len in block_lens {
        push_varint(&mut toc, u64::from(*len));
    }
    let mut end = Vec::with_capacity(toc.len() + FOOTER_LEN);
    let toc_len = block::write(&toc, BLOCK_ZSTD, &mut end);
    end.extend_from_slice(&offset.to_le_bytes());
    end.extend_from_slice(&toc_len.to_le_bytes());
    end.extend_from_slice(&VERSION.to_le_bytes());
    end.extend_from_slice(&MAGIC);
    end
}

/// First bytes of a rollup file: magic, version, zeros.
pub(super) fn header() -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}
