//! Writing the index of a part: label sets in ascending order in, the bytes of the file out.
//!
//! Values get ids as they come; when all are known they are ordered and the columns are rewritten. Held
//! meanwhile: 4 bytes for each label pair, and each distinct value once.

use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use pharos_model::iter_encoded;
use std::hash::BuildHasher;

use super::segment::{Column, SEGMENT_PAIRS, SEGMENT_SERIES, Shapes};
use super::toc::{Label, Segment, Toc, ValuesBlock};
use super::values::{self, BLOCK_TEXT_BYTES, ValuesBuilder};
use super::{INDEX_MAGIC, INDEX_VERSION};
use crate::part::block::{self, BlockAt, Packing};
use crate::part::toc::DataToc;

const VALUES_ZSTD: Packing = Packing::Zstd(12);
const COLUMNS_ZSTD: Packing = Packing::Zstd(9);
const TOC_ZSTD: Packing = Packing::Zstd(9);
/// Columns are grouped until a block has this many bytes before compression.
const GROUP_BYTES: usize = 32 << 10;

/// An index being built.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    series_count: u32,
    /// In order of appearance, which is what numbers mean until the end.
    labels: Vec<LabelColumn>,
    numbers: HashMap<Box<str>, u32>,
    shapes: Vec<Box<[u32]>>,
    shape_numbers: HashMap<Box<[u32]>, u32>,
    runs: Vec<ShapeRun>,
    /// Label numbers of the series being added.
    current: Vec<u32>,
}

/// The shape of a run of series, and how many they are.
type ShapeRun = (u32, u32);

/// One label: its distinct values, and the value of each series that has it.
#[derive(Debug, Default)]
struct LabelColumn {
    name: Box<str>,
    text: String,
    ends: Vec<usize>,
    table: HashTable<u32>,
    ids: Vec<u32>,
}

impl LabelColumn {
    fn value(&self, id: u32) -> &str {
        let id = id as usize;
        &self.text[if id == 0 { 0 } else { self.ends[id - 1] }..self.ends[id]]
    }

    fn push(&mut self, value: &str) {
        let id = match self.ids.last() {
            // Sorted series repeat their neighbour's values.
            Some(last) if self.value(*last) == value => *last,
            _ => self.intern(value),
        };
        self.ids.push(id);
    }

    fn intern(&mut self, value: &str) -> u32 {
        let hash = |value: &str| FixedState::default().hash_one(value);
        let hashed = hash(value);
        if let Some(id) = self.table.find(hashed, |id| self.value(*id) == value) {
            return *id;
        }
        let id = self.ends.len() as u32;
        self.text.push_str(value);
        self.ends.push(self.text.len());
        let Self { text, ends, table, .. } = self;
        table.insert_unique(hashed, id, |id| {
            let id = *id as usize;
            hash(&text[if id == 0 { 0 } else { ends[id - 1] }..ends[id]])
        });
        id
    }

    /// Gives the values their final ids; answers the old ids in the new order.
    fn order(&mut self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by(|a, b| values::order(self.value(*a), self.value(*b)));
        let mut ranks = vec![0; order.len()];
        for (rank, id) in order.iter().enumerate() {
            ranks[*id as usize] = rank as u32;
        }
        self.ids.iter_mut().for_each(|id| *id = ranks[*id as usize]);
        order
    }
}

impl IndexWriter {
    /// Adds the next series; label bytes ascend from call to call.
    pub(crate) fn add_series(&mut self, labels: &[u8]) {
        self.current.clear();
        for (name, value) in iter_encoded(labels) {
            let number = self.label(name);
            self.labels[number as usize].push(value);
            self.current.push(number);
        }
        let same = |run: &&mut ShapeRun| *self.shapes[run.0 as usize] == *self.current;
        if let Some((_, length)) = self.runs.last_mut().filter(same) {
            *length += 1;
        } else {
            let shape = self.shape();
            self.runs.push((shape, 1));
        }
        self.series_count += 1;
    }

    fn label(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.labels.len() as u32;
        self.numbers.insert(name.into(), number);
        self.labels.push(LabelColumn { name: name.into(), ..LabelColumn::default() });
        number
    }

    fn shape(&mut self) -> u32 {
        if let Some(shape) = self.shape_numbers.get(self.current.as_slice()) {
            return *shape;
        }
        let (shape, labels) = (self.shapes.len() as u32, Box::<[u32]>::from(self.current.as_slice()));
        self.shapes.push(labels.clone());
        self.shape_numbers.insert(labels, shape);
        shape
    }

    /// Series so far.
    pub(crate) fn series_count(&self) -> u32 {
        self.series_count
    }

    /// The bytes of the file.
    pub(crate) fn finish(self, data: &DataToc) -> Vec<u8> {
        let mut file = Vec::new();
        let toc = self.write_blocks(&mut file);
        let offset = file.len() as u64;
        let len = block::write(&toc.encode(data), TOC_ZSTD, &mut file);
        file.extend_from_slice(&offset.to_le_bytes());
        file.extend_from_slice(&len.to_le_bytes());
        file.extend_from_slice(&INDEX_VERSION.to_le_bytes());
        file.extend_from_slice(&INDEX_MAGIC);
        file
    }

    /// Writes everything that the table of contents points to.
    pub(super) fn write_blocks(mut self, file: &mut Vec<u8>) -> Toc {
        self.order_labels();
        let mut toc = Toc { series_count: self.series_count, ..Toc::default() };
        self.write_values(file, &mut toc);
        self.write_segments(file, &mut toc);
        toc
    }

    /// Numbers labels by name.
    fn order_labels(&mut self) {
        let mut order: Vec<u32> = (0..self.labels.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.labels[*a as usize].name.cmp(&self.labels[*b as usize].name));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        // Within a label set names ascend, so the numbers of a shape do too.
        self.shapes.iter_mut().flatten().for_each(|number| *number = ranks[*number as usize]);
        self.labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }

    fn write_values(&mut self, file: &mut Vec<u8>, toc: &mut Toc) {
        let (mut builder, mut next, mut first_value) = (ValuesBuilder::default(), 0_u32, None);
        for label in &mut self.labels {
            let order = label.order();
            toc.labels.push(Label { name: label.name.clone(), symbols: next..next + order.len() as u32 });
            for (id, old) in order.into_iter().enumerate() {
                let value = label.value(old);
                if builder.count == 0 {
                    first_value = (id > 0).then(|| Box::from(value));
                }
                builder.push(value);
                next += 1;
                if builder.text_bytes >= BLOCK_TEXT_BYTES {
                    end_values(&mut builder, next, first_value.take(), file, toc);
                }
            }
            label.text = String::new();
        }
        if builder.count > 0 {
            end_values(&mut builder, next, first_value, file, toc);
        }
    }

    fn write_segments(&self, file: &mut Vec<u8>, toc: &mut Toc) {
        let mut positions = vec![0; self.labels.len()];
        let segments = self.segments();
        let zoned = segments.len() > 1;
        let mut first = 0;
        for runs in segments {
            let series = first..first + runs.iter().map(|(_, length)| length).sum::<u32>();
            first = series.end;
            let ranges = self.column_ranges(&runs, &mut positions);
            let shapes = self.write_shapes(&runs, file);
            let groups = self.write_columns(&ranges, file);
            let zones = if zoned { self.zones(&ranges) } else { Vec::new() };
            toc.segments.push(Segment { series, shapes, groups, zones });
        }
    }

    /// The runs of each segment.
    fn segments(&self) -> Vec<Vec<ShapeRun>> {
        let (mut segments, mut runs) = (Vec::new(), Vec::new());
        let (mut series, mut pairs) = (0, 0);
        for (shape, length) in &self.runs {
            let labels = self.shapes[*shape as usize].len().max(1);
            let mut rest = *length;
            while rest > 0 {
                let room = (SEGMENT_SERIES - series).min((SEGMENT_PAIRS.saturating_sub(pairs) / labels) as u32);
                let room = if series == 0 { room.max(1) } else { room };
                let piece = rest.min(room);
                if piece > 0 {
                    runs.push((*shape, piece));
                    (series, pairs, rest) = (series + piece, pairs + piece as usize * labels, rest - piece);
                }
                if rest > 0 {
                    segments.push(std::mem::take(&mut runs));
                    (series, pairs) = (0, 0);
                }
            }
        }
        if !runs.is_empty() {
            segments.push(runs);
        }
        segments
    }

    /// For each label the part of its column that belongs to these runs.
    fn column_ranges(&self, runs: &[ShapeRun], positions: &mut [usize]) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = positions.iter().map(|position| *position..*position).collect();
        for (shape, length) in runs {
            for label in &self.shapes[*shape as usize] {
                ranges[*label as usize].end += *length as usize;
            }
        }
        positions.iter_mut().zip(&ranges).for_each(|(position, range)| *position = range.end);
        ranges
    }

    fn write_shapes(&self, runs: &[ShapeRun], file: &mut Vec<u8>) -> BlockAt {
        let (mut local, mut shapes): (HashMap<u32, u32>, Vec<Box<[u32]>>) = (HashMap::new(), Vec::new());
        let mut renumbered = Vec::with_capacity(runs.len());
        for (shape, length) in runs {
            let number = *local.entry(*shape).or_insert_with(|| {
                shapes.push(self.shapes[*shape as usize].clone());
                shapes.len() as u32 - 1
            });
            renumbered.push((number, *length));
        }
        write_block(&Shapes::encode(&shapes, &renumbered), COLUMNS_ZSTD, file)
    }

    fn write_columns(&self, ranges: &[Range<usize>], file: &mut Vec<u8>) -> Vec<(u32, BlockAt)> {
        let (mut groups, mut payload, mut first_label) = (Vec::new(), Vec::new(), 0);
        for (number, (label, range)) in self.labels.iter().zip(ranges).enumerate() {
            Column::encode(&label.ids[range.clone()], &mut payload);
            if payload.len() >= GROUP_BYTES {
                groups.push((first_label, write_block(&payload, COLUMNS_ZSTD, file)));
                payload.clear();
                first_label = number as u32 + 1;
            }
        }
        if first_label < self.labels.len() as u32 {
            groups.push((first_label, write_block(&payload, COLUMNS_ZSTD, file)));
        }
        groups
    }

    fn zones(&self, ranges: &[Range<usize>]) -> Vec<Range<u32>> {
        let zone = |ids: &[u32]| match (ids.iter().min(), ids.iter().max()) {
            (Some(min), Some(max)) => *min..*max + 1,
            _ => 0..0,
        };
        self.labels.iter().zip(ranges).map(|(label, range)| zone(&label.ids[range.clone()])).collect()
    }
}

fn end_values(builder: &mut ValuesBuilder, end: u32, first_value: Option<Box<str>>, file: &mut Vec<u8>, toc: &mut Toc) {
    let at = write_block(&builder.payload(), VALUES_ZSTD, file);
    toc.values.push(ValuesBlock { symbols: end - builder.count..end, first_value, at });
    *builder = ValuesBuilder::default();
}

fn write_block(payload: &[u8], packing: Packing, file: &mut Vec<u8>) -> BlockAt {
    let offset = file.len() as u64;
    BlockAt { offset, len: block::write(payload, packing, file) }
}
