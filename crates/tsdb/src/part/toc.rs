//! The table of contents of a part's index file: where every block lies. Kept in memory while the part
//! is open; some tens of bytes per 256 series.

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint};

use super::block::BlockAt;

/// Series of one block, in the index and in the data file alike.
pub(crate) const BLOCK_SERIES: usize = 256;

/// Postings of consecutive values of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostingsBlock {
    pub(crate) name: String,
    pub(crate) first_value: String,
    pub(crate) at: BlockAt,
}

/// Where everything is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Toc {
    pub(crate) series_count: u32,
    /// Blocks of label sets, in the index file.
    pub(crate) labels: Vec<BlockAt>,
    /// Blocks of chunk headers, one per block of labels, in the data file; bodies follow each.
    pub(crate) headers: Vec<BlockAt>,
    /// Bytes of bodies that follow each header block, with their own checksum.
    pub(crate) bodies: Vec<BlockAt>,
    /// Blocks of instants, in the data file, with the number of the first column in each.
    pub(crate) times: Vec<(u32, BlockAt)>,
    /// By name and first value, ascending.
    pub(crate) postings: Vec<PostingsBlock>,
}

impl Toc {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, u64::from(self.series_count));
        for blocks in [&self.labels, &self.headers, &self.bodies] {
            push_varint(&mut out, blocks.len() as u64);
            for at in blocks {
                push_at(&mut out, *at);
            }
        }
        push_varint(&mut out, self.times.len() as u64);
        for (first, at) in &self.times {
            push_varint(&mut out, u64::from(*first));
            push_at(&mut out, *at);
        }
        push_varint(&mut out, self.postings.len() as u64);
        for block in &self.postings {
            push_slice(&mut out, block.name.as_bytes());
            push_slice(&mut out, block.first_value.as_bytes());
            push_at(&mut out, block.at);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(bytes);
        let series_count = reader.count("series count", u32::MAX as usize)? as u32;
        let mut columns = [Vec::new(), Vec::new(), Vec::new()];
        for column in &mut columns {
            let count = reader.count("block count", bytes.len())?;
            *column = (0..count).map(|_| take_at(&mut reader)).collect::<Result<_, _>>()?;
        }
        let [labels, headers, bodies] = columns;
        let blocks = (series_count as usize).div_ceil(BLOCK_SERIES);
        if labels.len() != blocks || headers.len() != blocks || bodies.len() != blocks {
            return Err(ChunkError::OutOfBounds { what: "block count" });
        }
        let count = reader.count("block count", bytes.len())?;
        let times = (0..count)
            .map(|_| Ok((reader.count("column number", u32::MAX as usize)? as u32, take_at(&mut reader)?)))
            .collect::<Result<_, ChunkError>>()?;
        let count = reader.count("block count", bytes.len())?;
        let postings = (0..count)
            .map(|_| {
                let name = take_text(&mut reader)?;
                Ok(PostingsBlock { name, first_value: take_text(&mut reader)?, at: take_at(&mut reader)? })
            })
            .collect::<Result<_, ChunkError>>()?;
        Ok(Self { series_count, labels, headers, bodies, times, postings })
    }
}

fn push_at(out: &mut Vec<u8>, at: BlockAt) {
    push_varint(out, at.offset);
    push_varint(out, u64::from(at.len));
}

fn take_at(reader: &mut Reader<'_>) -> Result<BlockAt, ChunkError> {
    Ok(BlockAt { offset: reader.varint()?, len: reader.count("block length", u32::MAX as usize)? as u32 })
}

pub(super) fn take_text(reader: &mut Reader<'_>) -> Result<String, ChunkError> {
    let text = std::str::from_utf8(reader.slice()?).map_err(|_| ChunkError::OutOfBounds { what: "text" })?;
    Ok(text.to_owned())
}
