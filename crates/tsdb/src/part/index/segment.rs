//! Segments: up to [`SEGMENT_SERIES`] consecutive series, stored as shapes and columns.
//!
//! A shape is a set of label names; sorted series come in runs of one shape. For each label the segment
//! has one column: the value ids of the series that have it, in order. Columns are grouped into blocks: all
//! of a small segment in one, those of a large one apart, so that a lookup reads the labels it asks for.

use std::ops::Range;

use pharos_chunk::ChunkError;
use pharos_chunk::bytes::{Reader, push_varint, push_zigzag};

/// Series of one segment; as many as a container of a roaring bitmap.
pub(super) const SEGMENT_SERIES: u32 = 1 << 16;
/// Label pairs of one segment; one that would have more ends earlier.
pub(super) const SEGMENT_PAIRS: usize = 1 << 24;

/// One run of series with the same label names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Numbers of its series within the segment.
    pub(super) series: Range<u32>,
    /// Its shape's label numbers, and for each the position of the run's first series in the column.
    pub(super) labels: Range<u32>,
}

/// Which labels the series of a segment have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shapes {
    pub(super) runs: Vec<Run>,
    /// Label numbers of all shapes, end to end, ascending within one.
    labels: Vec<u32>,
    /// For each run its shape's place in `labels`.
    starts: Vec<u32>,
    /// Positions of the runs in the columns, `Run::labels` of each.
    positions: Vec<u32>,
    /// For each label of the part, how many series of the segment have it.
    pub(super) counts: Vec<u32>,
}

impl Shapes {
    /// Label numbers of a run, each with the run's position in its column.
    pub(super) fn labels_of(&self, run: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let positions = &self.runs[run].labels;
        let positions = &self.positions[positions.start as usize..positions.end as usize];
        let labels = &self.labels[self.starts[run] as usize..][..positions.len()];
        labels.iter().copied().zip(positions.iter().copied())
    }

    /// The position of a run in the column of a label; `None` if its series do not have it.
    pub(super) fn position(&self, run: usize, label: u32) -> Option<u32> {
        let positions = self.runs[run].labels.start as usize..self.runs[run].labels.end as usize;
        let labels = &self.labels[self.starts[run] as usize..][..positions.len()];
        labels.binary_search(&label).ok().map(|at| self.positions[positions.start + at])
    }

    /// Whether each of the segment's `series` has the label: positions in its column are then numbers of series.
    pub(super) fn all_have(&self, label: u32, series: u32) -> bool {
        self.counts.get(label as usize) == Some(&series)
    }

    /// The label that the first series begins with.
    pub(super) fn first_label(&self) -> Option<u32> {
        self.starts.first().and_then(|start| self.labels.get(*start as usize)).copied()
    }

    /// The run of a series.
    pub(super) fn run_of(&self, series: u32) -> Option<usize> {
        let run = self.runs.partition_point(|run| run.series.end <= series);
        (run < self.runs.len()).then_some(run)
    }

    pub(super) fn encode(shapes: &[Box<[u32]>], runs: &[(u32, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        push_varint(&mut out, shapes.len() as u64);
        for labels in shapes {
            push_varint(&mut out, labels.len() as u64);
            let mut next = 0;
            for label in labels {
                push_varint(&mut out, u64::from(label - next));
                next = label + 1;
            }
        }
        push_varint(&mut out, runs.len() as u64);
        let mut previous = 0;
        for (shape, _) in runs {
            push_zigzag(&mut out, i64::from(*shape) - previous);
            previous = i64::from(*shape);
        }
        for (_, length) in runs {
            push_varint(&mut out, u64::from(*length));
        }
        out
    }

    /// Reads the shapes of a segment of `series` series in a part with `label_count` labels.
    pub(super) fn decode(payload: &[u8], series: u32, label_count: usize) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(payload);
        let mut found = Self { counts: vec![0; label_count], ..Self::default() };
        let mut shapes = Vec::new();
        for _ in 0..reader.count("shape count", payload.len())? {
            let (start, mut next) = (found.labels.len() as u32, 0_u64);
            for _ in 0..reader.count("label count", label_count)? {
                let label = next.saturating_add(reader.varint()?);
                if label >= label_count as u64 {
                    return Err(ChunkError::OutOfBounds { what: "label number" });
                }
                found.labels.push(label as u32);
                next = label + 1;
            }
            shapes.push(start..found.labels.len() as u32);
        }
        let run_count = reader.count("run count", payload.len())?;
        let mut shape = 0_i64;
        for _ in 0..run_count {
            shape = shape.wrapping_add(reader.zigzag()?);
            let labels = usize::try_from(shape).ok().and_then(|shape| shapes.get(shape));
            let labels = labels.ok_or(ChunkError::OutOfBounds { what: "shape" })?;
            found.starts.push(labels.start);
            let start = found.runs.last().map_or(0, |run: &Run| run.labels.end);
            if start as usize > SEGMENT_PAIRS {
                return Err(ChunkError::OutOfBounds { what: "label pairs of a segment" });
            }
            found.runs.push(Run { series: 0..0, labels: start..start + (labels.end - labels.start) });
        }
        let mut next = 0;
        for run in 0..run_count {
            let length = reader.count("run length", (series - next) as usize)? as u32;
            if length == 0 {
                return Err(ChunkError::OutOfBounds { what: "run length" });
            }
            found.runs[run].series = next..next + length;
            next += length;
            let shape = found.starts[run] as usize;
            for label in &found.labels[shape..shape + found.runs[run].labels.len()] {
                found.positions.push(found.counts[*label as usize]);
                found.counts[*label as usize] += length;
            }
        }
        if next != series || !reader.is_empty() {
            return Err(ChunkError::OutOfBounds { what: "series of a segment" });
        }
        Ok(found)
    }

    pub(super) fn memory(&self) -> usize {
        self.runs.len() * size_of::<Run>()
            + (self.labels.len() + self.starts.len() + self.positions.len() + self.counts.len()) * size_of::<u32>()
    }
}

/// Value ids of one label, of the series that have it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) ids: Ids,
    /// Whether no id is less than the one before: so it is with the label that all series begin with.
    pub(super) ascends: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

impl Column {
    pub(super) fn get(&self, position: u32) -> Option<u32> {
        match &self.ids {
            Ids::Narrow(ids) => ids.get(position as usize).map(|id| u32::from(*id)),
            Ids::Wide(ids) => ids.get(position as usize).copied(),
        }
    }

    pub(super) fn encode(ids: &[u32], out: &mut Vec<u8>) {
        let mut previous = 0;
        for id in ids {
            push_zigzag(out, i64::from(*id) - previous);
            previous = i64::from(*id);
        }
    }

    fn decode(reader: &mut Reader<'_>, count: u32, value_count: u32) -> Result<Self, ChunkError> {
        if value_count <= 1 << 16 {
            let ids = decode_ids(reader, count, value_count, |id| id as u16)?;
            Ok(Self { ascends: ids.is_sorted(), ids: Ids::Narrow(ids) })
        } else {
            let ids = decode_ids(reader, count, value_count, |id| id)?;
            Ok(Self { ascends: ids.is_sorted(), ids: Ids::Wide(ids) })
        }
    }

    fn memory(&self) -> usize {
        match &self.ids {
            Ids::Narrow(ids) => ids.len() * 2,
            Ids::Wide(ids) => ids.len() * 4,
        }
    }
}

fn decode_ids<T>(
    reader: &mut Reader<'_>,
    count: u32,
    value_count: u32,
    narrow: impl Fn(u32) -> T,
) -> Result<Box<[T]>, ChunkError> {
    if count as usize > reader.rest().len() {
        return Err(ChunkError::Truncated);
    }
    let mut id = 0_i64;
    (0..count)
        .map(|_| {
            id = id.wrapping_add(reader.zigzag()?);
            if !(0..i64::from(value_count)).contains(&id) {
                return Err(ChunkError::OutOfBounds { what: "value id" });
            }
            Ok(narrow(id as u32))
        })
        .collect()
}

/// Columns of consecutive labels: those of the group's labels that a series of the segment has.
#[derive(Debug)]
pub(super) struct Columns {
    first_label: u32,
    columns: Vec<Column>,
}

impl Columns {
    /// Reads the columns of `labels`, whose value counts are given.
    pub(super) fn decode(
        payload: &[u8],
        labels: Range<u32>,
        shapes: &Shapes,
        value_count: impl Fn(u32) -> u32,
    ) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(payload);
        let first_label = labels.start;
        let columns = labels
            .map(|label| {
                let count = shapes.counts.get(label as usize).copied().unwrap_or(0);
                Column::decode(&mut reader, count, value_count(label))
            })
            .collect::<Result<_, _>>()?;
        if !reader.is_empty() {
            return Err(ChunkError::OutOfBounds { what: "length of columns" });
        }
        Ok(Self { first_label, columns })
    }

    /// The labels of this group.
    pub(super) fn labels(&self) -> Range<u32> {
        self.first_label..self.first_label + self.columns.len() as u32
    }

    /// The column of a label of this group.
    pub(super) fn of(&self, label: u32) -> Option<&Column> {
        self.columns.get(label.checked_sub(self.first_label)? as usize)
    }

    pub(super) fn memory(&self) -> usize {
        self.columns.iter().map(|column| column.memory() + size_of::<Column>()).sum()
    }
}
