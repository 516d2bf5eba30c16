//! Label sets by series number, for walks in ascending order.
//!
//! Neighbours share most of their labels: only the bytes from the first pair that differs on are built anew.

use std::ops::Range;
use std::sync::Arc;

use pharos_model::push_encoded_pair;

use super::PartIndex;
use super::reader::Reader;
use super::segment::{Columns, Shapes};
use super::values::Values;
use crate::TsdbError;

/// Builds the label bytes of one series after the other; allocates nothing per series.
#[derive(Debug, Default)]
pub(crate) struct LabelCursor {
    /// The series whose labels are ready.
    number: Option<u32>,
    encoded: Vec<u8>,
    segment: Option<OpenSegment>,
    /// For each label the block of values used last.
    values: Vec<Option<OpenValues>>,
}

#[derive(Debug)]
struct OpenSegment {
    series: Range<u32>,
    shapes: Arc<Shapes>,
    /// Groups of columns loaded so far, with their labels.
    groups: Vec<(Range<u32>, Arc<Columns>)>,
    run: usize,
    /// Series of the run, in numbers of the part.
    run_series: Range<u32>,
    run_columns: Vec<RunColumn>,
}

/// Where a label's values of the current run are.
#[derive(Debug)]
struct RunColumn {
    label: u32,
    group: usize,
    position: u32,
    /// The symbol built last, and where its pair ends in the label bytes; valid as long as the pairs before it are.
    symbol: Option<u32>,
    end: usize,
}

#[derive(Debug)]
struct OpenValues {
    symbols: Range<u32>,
    values: Arc<Values>,
}

impl LabelCursor {
    /// Makes the labels of series `number` ready for [`LabelCursor::get`].
    pub(crate) fn seek(&mut self, index: &PartIndex, number: u32) -> Result<(), TsdbError> {
        self.number = None;
        let reader = index.reader()?;
        if self.segment.as_ref().is_none_or(|segment| !segment.series.contains(&number)) {
            let Some(segment) = OpenSegment::load(reader, number)? else { return Ok(()) };
            self.segment = Some(segment);
        }
        self.values.resize_with(reader.toc.labels.len(), || None);
        let Some(segment) = &mut self.segment else { return Ok(()) };
        if !segment.run_series.contains(&number) {
            segment.enter_run(reader, number)?;
        }
        let (mut end, mut same) = (0, true);
        for column in &mut segment.run_columns {
            let label = &reader.toc.labels[column.label as usize];
            let position = column.position + (number - segment.run_series.start);
            let found = segment.groups[column.group].1.of(column.label).and_then(|ids| ids.get(position));
            let symbol = label.symbols.start + found.expect("a column is as long as its shapes say");
            same &= column.symbol == Some(symbol);
            if same {
                end = column.end;
                continue;
            }
            // Nothing stays that an error below would leave half true.
            column.symbol = None;
            self.encoded.truncate(end);
            let open = &mut self.values[column.label as usize];
            let open = match open {
                Some(open) if open.symbols.contains(&symbol) => open,
                _ => open.insert(OpenValues::load(reader, symbol)?),
            };
            let value = open.values.get((symbol - open.symbols.start) as usize);
            push_encoded_pair(&mut self.encoded, &label.name, value);
            end = self.encoded.len();
            (column.symbol, column.end) = (Some(symbol), end);
        }
        self.encoded.truncate(end);
        self.number = Some(number);
        Ok(())
    }

    /// Label bytes of the series sought last.
    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        (self.number == Some(number)).then_some(self.encoded.as_slice())
    }
}

impl OpenSegment {
    fn load(reader: &Reader, number: u32) -> Result<Option<Self>, TsdbError> {
        let Some(segment) = reader.toc.segment_of(number).map(|segment| &reader.toc.segments[segment]) else {
            return Ok(None);
        };
        Ok(Some(Self {
            series: segment.series.clone(),
            shapes: reader.shapes(segment)?,
            groups: Vec::new(),
            run: 0,
            run_series: 0..0,
            run_columns: Vec::new(),
        }))
    }

    fn enter_run(&mut self, reader: &Reader, number: u32) -> Result<(), TsdbError> {
        let within = number - self.series.start;
        let next = self.run + 1;
        let follows = self.shapes.runs.get(next).is_some_and(|run| run.series.contains(&within));
        self.run = if follows { next } else { self.shapes.run_of(within).unwrap_or(0) };
        let series = &self.shapes.runs[self.run].series;
        self.run_series = self.series.start + series.start..self.series.start + series.end;
        self.run_columns.clear();
        let shapes = Arc::clone(&self.shapes);
        for (label, position) in shapes.labels_of(self.run) {
            let group = match self.groups.iter().position(|(labels, _)| labels.contains(&label)) {
                Some(group) => group,
                None => self.load_group(reader, label)?,
            };
            self.run_columns.push(RunColumn { label, group, position, symbol: None, end: 0 });
        }
        Ok(())
    }

    fn load_group(&mut self, reader: &Reader, label: u32) -> Result<usize, TsdbError> {
        let segment = reader.toc.segment_of(self.series.start).map(|segment| &reader.toc.segments[segment]);
        let segment = segment.expect("the segment is open");
        let columns = reader.columns(segment, &self.shapes, label)?;
        self.groups.push((columns.labels(), columns));
        Ok(self.groups.len() - 1)
    }
}

impl OpenValues {
    fn load(reader: &Reader, symbol: u32) -> Result<Self, TsdbError> {
        let block = reader.toc.values_of(symbol);
        Ok(Self { symbols: reader.toc.values[block].symbols.clone(), values: reader.values(block)? })
    }
}
