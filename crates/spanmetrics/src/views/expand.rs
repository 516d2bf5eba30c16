//! Samples of a view from those of its source.
//!
//! Exact: a classic bucket counts what the buckets of the native histogram up to its bound count, and both bounds are
//! inclusive above. Histograms with other than custom buckets have no classic buckets and no sum or count here: they are
//! not ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use pharos_model::{Histogram, HistogramSample, Labels, LabelsBuilder, stale_nan};
use pharos_storage::RawSeries;

use super::table::{Selection, Shape, bound_text};

/// The series of a view that come from one series of its source, made one after the other.
pub(super) struct Expanded {
    selection: Arc<Selection>,
    source: RawSeries,
    /// The only series, where there are no buckets.
    single: Option<RawSeries>,
    /// Bounds of buckets still to come, descending; the last one to come is infinite.
    bounds: Vec<f64>,
    /// How far the buckets of each histogram have been counted.
    cursors: Vec<Cursor>,
}

impl Expanded {
    pub(super) fn new(selection: &Arc<Selection>, source: RawSeries) -> Self {
        let selection = Arc::clone(selection);
        let mut expanded = Self { selection, source, single: None, bounds: Vec::new(), cursors: Vec::new() };
        let divisor = expanded.selection.view.divisor;
        match expanded.selection.view.shape {
            Shape::Bucket => {
                expanded.bounds = expanded.all_bounds();
                expanded.cursors = vec![Cursor::default(); expanded.source.histograms.len()];
            }
            Shape::Sum => expanded.single = Some(expanded.column(None, |_, histogram| Some(histogram.sum / divisor))),
            Shape::Count => expanded.single = Some(expanded.column(None, |_, histogram| Some(histogram.count))),
            Shape::Native => expanded.single = Some(expanded.in_unit(divisor)),
            Shape::Same => {
                let labels = expanded.labels(None);
                expanded.single = Some(RawSeries { labels, ..std::mem::take(&mut expanded.source) });
            }
        }
        expanded
    }

    /// Every bound that any of the histograms has, descending.
    fn all_bounds(&self) -> Vec<f64> {
        let mut last_seen: &[f64] = &[];
        let mut bounds: BTreeSet<u64> = BTreeSet::new();
        for sample in self.source.histograms.iter().filter(|sample| sample.histogram.has_custom_buckets()) {
            let own = sample.histogram.custom_bounds.as_slice();
            // Most have the bounds of the one before.
            if last_seen != own {
                bounds.extend(own.iter().map(|bound| ordered(*bound)));
                last_seen = own;
            }
            bounds.insert(ordered(f64::INFINITY));
        }
        bounds.into_iter().rev().map(unordered).collect()
    }

    fn next_bucket(&mut self) -> Option<RawSeries> {
        loop {
            let bound = self.bounds.pop()?;
            let text = bound_text(bound / self.selection.view.divisor);
            if !self.selection.takes_bound(&text) {
                continue;
            }
            let mut cursors = std::mem::take(&mut self.cursors);
            let column = self.column(Some(&text), |index, histogram| cursors[index].count_up_to(histogram, bound));
            self.cursors = cursors;
            if !column.timestamps_ms.is_empty() {
                return Some(column);
            }
        }
    }

    fn labels(&self, bound: Option<&str>) -> Labels {
        self.selection.view.labels(&self.source.labels, bound, &mut LabelsBuilder::default())
    }

    /// One value for each histogram with custom buckets that `value` has one for.
    fn column(&self, bound: Option<&str>, mut value: impl FnMut(usize, &Histogram) -> Option<f64>) -> RawSeries {
        let source = &self.source;
        let mut column = RawSeries { labels: self.labels(bound), ..RawSeries::default() };
        column.timestamps_ms.reserve_exact(source.histograms.len());
        column.values.reserve_exact(source.histograms.len());
        for (index, HistogramSample { timestamp_ms, histogram }) in source.histograms.iter().enumerate() {
            let found = match histogram.is_stale() {
                true => Some(stale_nan()),
                false if histogram.has_custom_buckets() => value(index, histogram),
                false => None,
            };
            if let Some(found) = found {
                column.timestamps_ms.push(*timestamp_ms);
                column.values.push(found);
                column.start_ms.extend(source.histogram_start_ms.get(index));
            }
        }
        column
    }

    /// The histograms with bounds and sums in another unit.
    fn in_unit(&self, divisor: f64) -> RawSeries {
        let source = &self.source;
        let mut column = RawSeries { labels: self.labels(None), ..RawSeries::default() };
        for (index, HistogramSample { timestamp_ms, histogram }) in source.histograms.iter().enumerate() {
            let histogram = match histogram.is_stale() {
                true => Arc::clone(histogram),
                false if histogram.has_custom_buckets() => {
                    let mut scaled = Histogram::clone(histogram);
                    scaled.sum /= divisor;
                    scaled.custom_bounds.iter_mut().for_each(|bound| *bound /= divisor);
                    Arc::new(scaled)
                }
                false => continue,
            };
            column.histograms.push(HistogramSample { timestamp_ms: *timestamp_ms, histogram });
            column.histogram_start_ms.extend(source.histogram_start_ms.get(index));
        }
        column
    }
}

impl Iterator for Expanded {
    type Item = RawSeries;

    fn next(&mut self) -> Option<RawSeries> {
        let single = self.single.take().filter(|series| series.sample_count() > 0);
        single.or_else(|| self.next_bucket())
    }
}

/// How far the buckets of one histogram have been counted: bounds are asked for in ascending order.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// Bounds passed.
    bounds: usize,
    /// The span that comes next, how much of it is passed, and the index of the bucket that comes next.
    span: usize,
    in_span: u32,
    next_bucket: i64,
    /// Counts passed, and what they add up to.
    counts: usize,
    total: f64,
}

impl Cursor {
    /// What the buckets up to `bound` count; `None` if that is no bound of the histogram.
    fn count_up_to(&mut self, histogram: &Histogram, bound: f64) -> Option<f64> {
        if bound == f64::INFINITY {
            return Some(histogram.count);
        }
        let bounds = &histogram.custom_bounds;
        while bounds.get(self.bounds).is_some_and(|own| *own < bound) {
            self.bounds += 1;
        }
        if bounds.get(self.bounds) != Some(&bound) {
            return None;
        }
        let side = &histogram.positive;
        while let Some(span) = side.spans.get(self.span) {
            if self.in_span == span.length {
                self.span += 1;
                self.in_span = 0;
                continue;
            }
            let gap = if self.in_span == 0 { i64::from(span.offset) } else { 0 };
            if self.next_bucket + gap > self.bounds as i64 {
                break;
            }
            self.next_bucket += gap + 1;
            self.in_span += 1;
            self.total += side.counts.get(self.counts).copied().unwrap_or(0.0);
            self.counts += 1;
        }
        Some(self.total)
    }
}

/// Bits in the order of the doubles.
fn ordered(bound: f64) -> u64 {
    let bits = bound.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}
