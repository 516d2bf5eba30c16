//! Where the blocks of a part's data file lie. Kept in memory while the part is open; some tens of bytes
//! per 256 series. Written within the table of contents of the index file.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_varint};

use super::block::BlockAt;

/// Series of one block, in the index and in the data file alike.
pub(crate) const BLOCK_SERIES: usize = 256;

/// Where everything in the data file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DataToc {
    /// Blocks of chunk headers, one per block of series; bodies follow each.
    pub(crate) headers: Vec<BlockAt>,
    /// Bytes of bodies that follow each header block, with their own checksum.
    pub(crate) bodies: Vec<BlockAt>,
    /// Blocks of instants, with the number of the first column in each.
    pub(crate) times: Vec<(u32, BlockAt)>,
}

impl DataToc {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for blocks in [&self.headers, &self.bodies] {
            push_blocks(out, blocks);
        }
        push_varint(out, self.times.len() as u64);
        for (first, at) in &self.times {
            push_varint(out, u64::from(*first));
            push_at(out, *at);
        }
    }

    /// Reads what [`DataToc::encode`] wrote for a part of `series_count` series.
    pub(crate) fn decode(reader: &mut Reader<'_>, series_count: u32) -> Result<Self, ChunkError> {
        let (headers, bodies) = (take_blocks(reader)?, take_blocks(reader)?);
        let blocks = (series_count as usize).div_ceil(BLOCK_SERIES);
        if headers.len() != blocks || bodies.len() != blocks {
            return Err(ChunkError::OutOfBounds { what: "block count" });
        }
        let count = reader.count("block count", reader.rest().len())?;
        let times = (0..count)
            .map(|_| Ok((reader.count("column number", u32::MAX as usize)? as u32, take_at(reader)?)))
            .collect::<Result<_, ChunkError>>()?;
        Ok(Self { headers, bodies, times })
    }
}

pub(super) fn push_blocks(out: &mut Vec<u8>, blocks: &[BlockAt]) {
    push_varint(out, blocks.len() as u64);
    for at in blocks {
        push_at(out, *at);
    }
}

pub(super) fn take_blocks(reader: &mut Reader<'_>) -> Result<Vec<BlockAt>, ChunkError> {
    let count = reader.count("block count", reader.rest().len())?;
    (0..count).map(|_| take_at(reader)).collect()
}

pub(super) fn push_at(out: &mut Vec<u8>, at: BlockAt) {
    push_varint(out, at.offset);
    push_varint(out, u64::from(at.len));
}

pub(super) fn take_at(reader: &mut Reader<'_>) -> Result<BlockAt, ChunkError> {
    Ok(BlockAt { offset: reader.varint()?, len: reader.count("block length", u32::MAX as usize)? as u32 })
}
