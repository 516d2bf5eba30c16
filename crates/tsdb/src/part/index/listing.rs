//! Label names and values of a part, of all series or of selected ones, and how many series have them.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::PartIndex;
use super::reader::Reader;
use super::select::IdSet;
use super::toc::Segment;
use crate::TsdbError;

impl PartIndex {
    /// Calls `each` with every label name of the selected series (`None`: of all), ascending, as long as it
    /// answers true. Reads at most the shapes of the segments that hold them.
    pub(crate) fn label_names(
        &self,
        selected: Option<&RoaringBitmap>,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), TsdbError> {
        let reader = self.reader()?;
        let Some(selected) = selected else {
            _ = reader.toc.labels.iter().all(|label| each(&label.name));
            return Ok(());
        };
        let mut found = IdSet::new(reader.toc.labels.len() as u32);
        for segment in &reader.toc.segments {
            if !any_in(selected, segment.series.clone()) {
                continue;
            }
            let shapes = reader.shapes(segment)?;
            for (run, series) in shapes.runs.iter().map(|run| &run.series).enumerate() {
                let series = segment.series.start + series.start..segment.series.start + series.end;
                if shapes.labels_of(run).any(|(label, _)| !found.contains(label)) && any_in(selected, series) {
                    shapes.labels_of(run).for_each(|(label, _)| found.insert(label));
                }
            }
        }
        _ = found.iter().all(|label| each(&reader.toc.labels[label as usize].name));
        Ok(())
    }

    /// Calls `each` with every value of a label on the selected series (`None`: on any), in no order that means
    /// something outside, as long as it answers true. Stops looking when all values are found.
    pub(crate) fn label_values(
        &self,
        name: &str,
        selected: Option<&RoaringBitmap>,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), TsdbError> {
        let reader = self.reader()?;
        let Some(label) = reader.toc.label(name) else { return Ok(()) };
        let Some(selected) = selected else {
            return reader.for_each_value(label, |_, value| each(value));
        };
        let value_count = reader.toc.labels[label as usize].symbols.len() as u32;
        let mut found = IdSet::new(value_count);
        for segment in &reader.toc.segments {
            if found.count == value_count || !any_in(selected, segment.series.clone()) {
                continue;
            }
            let shapes = reader.shapes(segment)?;
            let mut columns = None;
            for (run, series) in shapes.runs.iter().map(|run| &run.series).enumerate() {
                let Some(position) = shapes.position(run, label).filter(|_| found.count < value_count) else {
                    continue;
                };
                let first = segment.series.start + series.start;
                let mut numbers = selected.range(first..segment.series.start + series.end).peekable();
                if numbers.peek().is_none() {
                    continue;
                }
                let columns = match &columns {
                    Some(columns) => columns,
                    None => columns.insert(reader.columns(segment, &shapes, label)?),
                };
                if let Some(column) = columns.of(label) {
                    numbers
                        .filter_map(|number| column.get(position + (number - first)))
                        .for_each(|id| found.insert(id));
                }
            }
        }
        reader.for_each_value(label, |id, value| !found.contains(id) || each(value))
    }

    /// Calls `each` with every name and value of a label that selected series have, and with how many of them do.
    pub(crate) fn count_values(
        &self,
        selected: &RoaringBitmap,
        mut each: impl FnMut(&str, &str, u64),
    ) -> Result<(), TsdbError> {
        let reader = self.reader()?;
        for (label, name) in (0..).zip(&reader.toc.labels) {
            let mut counts = vec![0_u32; name.symbols.len()];
            for segment in reader.toc.segments.iter().filter(|segment| any_in(selected, segment.series.clone())) {
                count_ids(reader, segment, label, selected, &mut counts)?;
            }
            reader.for_each_value(label, |id, value| {
                match counts[id as usize] {
                    0 => {}
                    count => each(&name.name, value, u64::from(count)),
                }
                true
            })?;
        }
        Ok(())
    }
}

fn count_ids(
    reader: &Reader,
    segment: &Segment,
    label: u32,
    selected: &RoaringBitmap,
    counts: &mut [u32],
) -> Result<(), TsdbError> {
    let shapes = reader.shapes(segment)?;
    if shapes.counts[label as usize] == 0 {
        return Ok(());
    }
    let columns = reader.columns(segment, &shapes, label)?;
    let Some(column) = columns.of(label) else { return Ok(()) };
    for (run, series) in shapes.runs.iter().map(|run| &run.series).enumerate() {
        let Some(position) = shapes.position(run, label) else { continue };
        let first = segment.series.start + series.start;
        let numbers = selected.range(first..segment.series.start + series.end);
        let ids = numbers.filter_map(|number| column.get(position + (number - first)));
        ids.for_each(|id| counts[id as usize] += 1);
    }
    Ok(())
}

fn any_in(selected: &RoaringBitmap, series: Range<u32>) -> bool {
    selected.range(series).next().is_some()
}
