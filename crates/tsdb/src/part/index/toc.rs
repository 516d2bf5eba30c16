//! The table of contents of a part's index file. Kept in memory while the part is open.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint};

use crate::part::block::BlockAt;
use crate::part::toc::{BLOCK_SERIES, DataToc, push_at, push_blocks, take_at, take_blocks};

/// Postings of consecutive values of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostingsBlock {
    pub(crate) name: String,
    pub(crate) first_value: String,
    pub(crate) at: BlockAt,
}

/// Where everything in the index file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Toc {
    pub(super) series_count: u32,
    /// Blocks of label sets.
    pub(super) labels: Vec<BlockAt>,
    /// By name and first value, ascending.
    pub(super) postings: Vec<PostingsBlock>,
}

impl Toc {
    pub(super) fn encode(&self, data: &DataToc) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, u64::from(self.series_count));
        push_blocks(&mut out, &self.labels);
        data.encode(&mut out);
        push_varint(&mut out, self.postings.len() as u64);
        for block in &self.postings {
            push_slice(&mut out, block.name.as_bytes());
            push_slice(&mut out, block.first_value.as_bytes());
            push_at(&mut out, block.at);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, DataToc), ChunkError> {
        let mut reader = Reader::new(bytes);
        let series_count = reader.count("series count", u32::MAX as usize)? as u32;
        let labels = take_blocks(&mut reader)?;
        if labels.len() != (series_count as usize).div_ceil(BLOCK_SERIES) {
            return Err(ChunkError::OutOfBounds { what: "block count" });
        }
        let data = DataToc::decode(&mut reader, series_count)?;
        let count = reader.count("block count", bytes.len())?;
        let postings = (0..count)
            .map(|_| {
                let name = take_text(&mut reader)?;
                Ok(PostingsBlock { name, first_value: take_text(&mut reader)?, at: take_at(&mut reader)? })
            })
            .collect::<Result<_, ChunkError>>()?;
        Ok((Self { series_count, labels, postings }, data))
    }
}

fn take_text(reader: &mut Reader<'_>) -> Result<String, ChunkError> {
    let text = std::str::from_utf8(reader.slice()?).map_err(|_| ChunkError::OutOfBounds { what: "text" })?;
    Ok(text.to_owned())
}
