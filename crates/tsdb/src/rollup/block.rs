//! A block of a rollup file: the cells of [`BLOCK_SERIES`] consecutive series, and the frames that they share.

use std::ops::Range;

use hashbrown::HashMap;
use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint};

use super::Resolution;
use super::cells::{Cells, Frame};
use super::codec;
use crate::part::toc::BLOCK_SERIES;

/// Collects the series of one block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    frames: HashMap<Frame, usize>,
    /// Frames in the order of their numbers, each with its length in front.
    encoded_frames: Vec<u8>,
    /// Series, each with its length in front; nothing where there are no cells.
    series: Vec<u8>,
    series_count: usize,
    scratch: Vec<u8>,
}

impl BlockBuilder {
    /// Adds the next series of the part.
    pub(super) fn push(&mut self, cells: Option<Cells>) {
        self.series_count += 1;
        self.scratch.clear();
        if let Some(mut cells) = cells {
            let frames: Vec<usize> =
                cells.runs.iter_mut().map(|run| self.intern(std::mem::take(&mut run.frame))).collect();
            self.scratch.clear();
            codec::encode_series(&cells, &frames, &mut self.scratch);
        }
        push_slice(&mut self.series, &self.scratch);
    }

    /// Series so far.
    pub(super) fn series_count(&self) -> usize {
        self.series_count
    }

    fn intern(&mut self, frame: Frame) -> usize {
        if let Some(number) = self.frames.get(&frame) {
            return *number;
        }
        self.scratch.clear();
        codec::encode_frame(&frame, &mut self.scratch);
        push_slice(&mut self.encoded_frames, &self.scratch);
        let number = self.frames.len();
        self.frames.insert(frame, number);
        number
    }

    /// The payload; the builder begins the next block.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.encoded_frames.len() + self.series.len() + 16);
        push_varint(&mut payload, self.frames.len() as u64);
        payload.extend_from_slice(&self.encoded_frames);
        push_varint(&mut payload, self.series_count as u64);
        payload.extend_from_slice(&self.series);
        *self = Self::default();
        payload
    }
}

/// A block that was read.
#[derive(Debug)]
pub(super) struct Block {
    payload: Vec<u8>,
    frames: Vec<Range<usize>>,
    series: Vec<Range<usize>>,
}

impl Block {
    pub(super) fn new(payload: Vec<u8>) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(&payload);
        // Each takes at least a byte.
        let frame_count = reader.count("frame count", payload.len())?;
        let frames = take_ranges(payload.len(), frame_count, &mut reader)?;
        let series_count = reader.count("series count", BLOCK_SERIES)?;
        let series = take_ranges(payload.len(), series_count, &mut reader)?;
        if !reader.is_empty() {
            return Err(ChunkError::OutOfBounds { what: "end of a rollup block" });
        }
        Ok(Self { payload, frames, series })
    }

    #[cfg(feature = "fuzzing")]
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What it takes in memory, about, bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.payload.capacity() + (self.frames.len() + self.series.len()) * size_of::<Range<usize>>()) as u64
    }

    /// The bytes of a series; empty if it has no cells.
    pub(super) fn series(&self, slot: usize) -> Result<&[u8], ChunkError> {
        let range = self.series.get(slot).ok_or(ChunkError::OutOfBounds { what: "series of a rollup block" })?;
        Ok(&self.payload[range.clone()])
    }

    /// A frame, decoded anew.
    pub(super) fn frame(&self, number: usize, resolution: Resolution) -> Result<Frame, ChunkError> {
        let range = self.frames.get(number).ok_or(ChunkError::OutOfBounds { what: "frame number" })?;
        codec::decode_frame(&self.payload[range.clone()], resolution)
    }
}

/// The places of so many slices, each with its length in front, in a payload of `payload_len` bytes.
fn take_ranges(payload_len: usize, count: usize, reader: &mut Reader<'_>) -> Result<Vec<Range<usize>>, ChunkError> {
    let take = |_| {
        let length = reader.slice()?.len();
        let end = payload_len - reader.rest().len();
        Ok(end - length..end)
    };
    (0..count).map(take).collect()
}
