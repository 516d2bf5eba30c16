//! The table of contents of a part's index file. Kept in memory while the part is open: some tens of bytes
//! for each label name, block and segment.
//!
//! Blocks stand in the file in the order of the table and without gaps, so that lengths say where they are.

use std::ops::Range;

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_slice, push_varint};

use super::INDEX_VERSION;
use super::segment::SEGMENT_SERIES;
use super::values::BLOCK_TEXT_BYTES;
use crate::part::block::BlockAt;
use crate::part::toc::DataToc;

/// One label name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: Box<str>,
    /// Its values' symbols: the value id is the position in here.
    pub(super) symbols: Range<u32>,
}

/// Consecutive symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValuesBlock {
    pub(super) symbols: Range<u32>,
    /// The first value, kept where the block begins within a label: lookups choose by it.
    pub(super) first_value: Option<Box<str>>,
    pub(super) at: BlockAt,
}

/// Consecutive series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) series: Range<u32>,
    pub(super) shapes: BlockAt,
    /// First label of each group of columns.
    pub(super) groups: Vec<(u32, BlockAt)>,
    /// For each label the ids that occur, from the least to the greatest; empty in a part of one segment.
    pub(super) zones: Vec<Range<u32>>,
}

/// Where everything in the index file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Toc {
    pub(super) series_count: u32,
    /// Ascending by name.
    pub(super) labels: Vec<Label>,
    pub(super) values: Vec<ValuesBlock>,
    pub(super) segments: Vec<Segment>,
}

impl Toc {
    pub(super) fn encode(&self, data: &DataToc) -> Vec<u8> {
        let mut out = Vec::new();
        let out = &mut out;
        push_varint(out, u64::from(INDEX_VERSION));
        push_varint(out, u64::from(self.series_count));
        push_varint(out, self.labels.len() as u64);
        self.labels.iter().for_each(|label| push_slice(out, label.name.as_bytes()));
        self.labels.iter().for_each(|label| push_varint(out, label.symbols.len() as u64));
        push_varint(out, self.values.len() as u64);
        for block in &self.values {
            push_varint(out, block.symbols.len() as u64);
            push_varint(out, u64::from(block.at.len));
            push_slice(out, block.first_value.as_deref().unwrap_or("").as_bytes());
        }
        push_varint(out, self.segments.len() as u64);
        for segment in &self.segments {
            push_varint(out, segment.series.len() as u64);
            push_varint(out, u64::from(segment.shapes.len));
            push_varint(out, segment.groups.len() as u64);
            for (first_label, at) in &segment.groups {
                push_varint(out, u64::from(*first_label));
                push_varint(out, u64::from(at.len));
            }
            for zone in &segment.zones {
                push_varint(out, u64::from(zone.start));
                push_varint(out, zone.len() as u64);
            }
        }
        data.encode(out);
        std::mem::take(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, DataToc), ChunkError> {
        let mut reader = Reader::new(bytes);
        if reader.varint()? != u64::from(INDEX_VERSION) {
            return Err(ChunkError::OutOfBounds { what: "version of the table of contents" });
        }
        let series_count = take_u32(&mut reader, "series count")?;
        let labels = take_labels(&mut reader)?;
        let mut offset = 0;
        let values = take_values(&mut reader, &labels, &mut offset)?;
        let count = reader.count("segment count", reader.rest().len())?;
        let (mut segments, mut next) = (Vec::new(), 0);
        for _ in 0..count {
            let segment = take_segment(&mut reader, next, &labels, count > 1, &mut offset)?;
            next = segment.series.end;
            segments.push(segment);
        }
        if next != series_count {
            return Err(ChunkError::OutOfBounds { what: "series of segments" });
        }
        let data = DataToc::decode(&mut reader, series_count)?;
        Ok((Self { series_count, labels, values, segments }, data))
    }

    /// The number of a label.
    pub(super) fn label(&self, name: &str) -> Option<u32> {
        self.labels.binary_search_by(|label| label.name.as_ref().cmp(name)).ok().map(|at| at as u32)
    }

    /// The segment of a series.
    pub(super) fn segment_of(&self, series: u32) -> Option<usize> {
        let segment = self.segments.partition_point(|segment| segment.series.end <= series);
        (segment < self.segments.len()).then_some(segment)
    }

    /// The block of a symbol.
    pub(super) fn values_of(&self, symbol: u32) -> usize {
        self.values.partition_point(|block| block.symbols.end <= symbol)
    }
}

impl Segment {
    /// The group of columns that holds a label, with the labels it holds.
    pub(super) fn group_of(&self, label: u32, label_count: usize) -> Option<(Range<u32>, BlockAt)> {
        let group = self.groups.partition_point(|(first, _)| *first <= label).checked_sub(1)?;
        let (first, at) = self.groups[group];
        let end = self.groups.get(group + 1).map_or(label_count as u32, |(next, _)| *next);
        Some((first..end, at))
    }
}

fn take_labels(reader: &mut Reader<'_>) -> Result<Vec<Label>, ChunkError> {
    let count = reader.count("label count", reader.rest().len())?;
    let mut labels: Vec<Label> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = take_text(reader)?;
        if name.is_empty() || labels.last().is_some_and(|last| last.name >= name) {
            return Err(ChunkError::OutOfBounds { what: "order of label names" });
        }
        labels.push(Label { name, symbols: 0..0 });
    }
    let mut next = 0_u32;
    for label in &mut labels {
        let values = take_u32(reader, "value count")?;
        let end = next.checked_add(values).filter(|_| values > 0);
        label.symbols = next..end.ok_or(ChunkError::OutOfBounds { what: "value count" })?;
        next = label.symbols.end;
    }
    Ok(labels)
}

fn take_values(reader: &mut Reader<'_>, labels: &[Label], offset: &mut u64) -> Result<Vec<ValuesBlock>, ChunkError> {
    let total = labels.last().map_or(0, |label| label.symbols.end);
    let count = reader.count("block count", reader.rest().len())?;
    let (mut blocks, mut next) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        // No value is empty, so that their number is bounded like their text.
        let symbols = reader.count("symbol count", BLOCK_TEXT_BYTES.min((total - next) as usize))? as u32;
        let at = take_next(reader, offset)?;
        let first_value = Some(take_text(reader)?).filter(|first| !first.is_empty());
        blocks.push(ValuesBlock { symbols: next..next + symbols, first_value, at });
        next += symbols;
    }
    if next != total {
        return Err(ChunkError::OutOfBounds { what: "symbols of blocks" });
    }
    Ok(blocks)
}

fn take_segment(
    reader: &mut Reader<'_>,
    first: u32,
    labels: &[Label],
    zoned: bool,
    offset: &mut u64,
) -> Result<Segment, ChunkError> {
    let series = reader.count("series of a segment", SEGMENT_SERIES as usize)? as u32;
    let end = first.checked_add(series).ok_or(ChunkError::OutOfBounds { what: "series of a segment" })?;
    let shapes = take_next(reader, offset)?;
    let mut groups: Vec<(u32, BlockAt)> = Vec::new();
    for _ in 0..reader.count("group count", labels.len())? {
        let first_label = reader.count("label number", labels.len())? as u32;
        // The first group holds the first label, so that every label is in one.
        if groups.last().map_or(first_label != 0, |(last, _)| *last >= first_label) {
            return Err(ChunkError::OutOfBounds { what: "label number" });
        }
        groups.push((first_label, take_next(reader, offset)?));
    }
    let mut zones = Vec::new();
    if zoned {
        for label in labels {
            let start = reader.count("value id", label.symbols.len())? as u32;
            let ids = reader.count("value ids", label.symbols.len() - start as usize)? as u32;
            zones.push(start..start + ids);
        }
    }
    Ok(Segment { series: first..end, shapes, groups, zones })
}

fn take_next(reader: &mut Reader<'_>, offset: &mut u64) -> Result<BlockAt, ChunkError> {
    let at = BlockAt { offset: *offset, len: take_u32(reader, "block length")? };
    *offset = offset.saturating_add(u64::from(at.len));
    Ok(at)
}

fn take_u32(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, ChunkError> {
    Ok(reader.count(what, u32::MAX as usize)? as u32)
}

fn take_text(reader: &mut Reader<'_>) -> Result<Box<str>, ChunkError> {
    let text = std::str::from_utf8(reader.slice()?).map_err(|_| ChunkError::OutOfBounds { what: "text" })?;
    Ok(text.into())
}
