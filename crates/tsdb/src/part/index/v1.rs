//! Index files of version 1, read to be written anew in memory as the current one.
//!
//! They hold label sets in blocks, and postings, which follow from the label sets and are not read.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::Reader;
use pharos_model::Labels;

use super::writer::IndexWriter;
use crate::TsdbError;
use crate::part::block::{BlockAt, BlockFile};
use crate::part::toc::{BLOCK_SERIES, DataToc, take_blocks};

/// The table of contents as far as it is still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Toc {
    pub(super) series_count: u32,
    /// Blocks of label sets.
    labels: Vec<BlockAt>,
}

impl Toc {
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, DataToc), ChunkError> {
        let mut reader = Reader::new(bytes);
        let series_count = reader.count("series count", u32::MAX as usize)? as u32;
        let labels = take_blocks(&mut reader)?;
        if labels.len() != (series_count as usize).div_ceil(BLOCK_SERIES) {
            return Err(ChunkError::OutOfBounds { what: "block count" });
        }
        let data = DataToc::decode(&mut reader, series_count)?;
        Ok((Self { series_count, labels }, data))
    }

    /// Blocks of label sets.
    #[cfg(feature = "fuzzing")]
    pub(super) fn blocks(&self) -> &[BlockAt] {
        &self.labels
    }

    /// The same index in the current version, blocks and table of contents.
    pub(super) fn rewrite(&self, file: &BlockFile) -> Result<(Vec<u8>, super::Toc), TsdbError> {
        let mut writer = IndexWriter::default();
        for (block, at) in self.labels.iter().enumerate() {
            let payload = file.read("label block", *at)?;
            let expected = (self.series_count as usize - block * BLOCK_SERIES).min(BLOCK_SERIES);
            add_sets(&payload, expected, &mut writer).map_err(TsdbError::chunk(
                "label block",
                &file.path,
                at.offset,
            ))?;
        }
        let mut bytes = Vec::new();
        let toc = writer.write_blocks(&mut bytes);
        Ok((bytes, toc))
    }
}

/// Adds the label sets of one block: each as the bytes it does not share with its predecessor.
pub(super) fn add_sets(payload: &[u8], expected: usize, writer: &mut IndexWriter) -> Result<(), ChunkError> {
    let mut reader = Reader::new(payload);
    let count = reader.count("series count", BLOCK_SERIES)?;
    if count != expected {
        return Err(ChunkError::OutOfBounds { what: "series count" });
    }
    let mut current: Vec<u8> = Vec::new();
    for _ in 0..count {
        let shared = reader.count("shared prefix", current.len())?;
        current.truncate(shared);
        current.extend_from_slice(reader.slice()?);
        // What has no order of names or no values cannot be written.
        Labels::from_encoded(&current).map_err(|_| ChunkError::OutOfBounds { what: "label set" })?;
        writer.add_series(&current);
    }
    Ok(())
}
