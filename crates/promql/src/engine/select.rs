//! Selectors: from the store's raw series to cells and windows.

use std::sync::Arc;

use pharos_grid::is_absent;
use pharos_model::{HistogramSample, Labels, StepRange, TimeRange, is_stale_nan};
use pharos_storage::RawSeries;

use super::QueryError;
use super::counts::Looked;
use super::eval::Evaluator;
use super::histogram;
use super::leaf::{Leaf, LeafItem, cells};
use super::ledger::Lease;
use super::plan::{Range, RangeSource, Selector, TimeShift};
use super::series::{Cell, Series, SeriesIter};
use crate::ast::EdgeMode;

/// The samples of one series that windows are cut from: ascending, no stale markers.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) labels: Labels,
    pub(super) drop_name: bool,
    pub(super) times_ms: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// Start timestamps, 0 where unknown; empty if none is known or none is wanted.
    pub(super) starts_ms: Vec<i64>,
    pub(super) histograms: Vec<HistogramSample>,
    pub(super) histogram_starts_ms: Vec<i64>,
    lease: Lease,
}

/// Series of samples one by one; an error ends them.
pub(super) type SamplesIter<'a> = Box<dyn Iterator<Item = Result<Samples, QueryError>> + 'a>;

impl Evaluator<'_> {
    /// What an instant selector needs to read for `steps`.
    fn instant_range(&self, time: TimeShift, steps: StepRange, after_ms: i64) -> TimeRange {
        let first = time.apply(steps.start_ms).saturating_sub(self.lookback_ms).saturating_add(1);
        let last = time.apply(last_step(steps));
        TimeRange::inclusive(first, last.saturating_add(after_ms))
    }

    /// An instant selector: at each step the newest sample within the lookback, unless it is a stale marker.
    pub(super) fn select<'a>(&'a self, selector: &'a Selector, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        match selector.edge {
            Some(EdgeMode::Smoothed) => return self.select_smoothed(selector, steps),
            Some(EdgeMode::Anchored) | None => {}
        }
        let leaf = Leaf::of_selector(selector, self.lookback_ms);
        let mut kernel = leaf.kernel(steps);
        let mut grid = Vec::new();
        Ok(Box::new(self.leaf(leaf, steps)?.filter_map(move |item| {
            let (raw, lease) = match item {
                Ok(LeafItem::Grid(series)) => {
                    return Some(Series::new(series.labels, false, cells(&series.values, steps), &self.ledger));
                }
                Ok(LeafItem::Raw(raw, lease)) => (raw, lease),
                Err(error) => return Some(Err(error)),
            };
            if !raw.histograms.is_empty() {
                return self.newest_of(raw, lease, selector, steps, &|picked, _| picked.cell);
            }
            let evaluated = match kernel.evaluate(raw.floats(), &mut grid, || self.context.check()) {
                Ok(evaluated) => evaluated,
                Err(interrupted) => return Some(Err(interrupted.into())),
            };
            drop(lease);
            self.count_looked_at(selector.scope, evaluated.queryable, || {
                grid.iter().map(|value| Looked::afresh(usize::from(!is_absent(*value)))).collect()
            });
            (evaluated.present > 0).then(|| Series::new(raw.labels, false, cells(&grid, steps), &self.ledger))
        })))
    }

    /// Like [`Self::select`], but the cell is made by `map` from the sample picked.
    pub(super) fn newest<'a>(
        &'a self,
        selector: &'a Selector,
        steps: StepRange,
        map: impl Fn(Picked, i64) -> Cell + 'a,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let range = self.instant_range(selector.time, steps, 0);
        let series = self.raw(&selector.matchers, range, selector.hints)?;
        Ok(Box::new(series.filter_map(move |series| match series {
            Ok((raw, lease)) => self.newest_of(raw, lease, selector, steps, &map),
            Err(error) => Some(Err(error)),
        })))
    }

    fn newest_of(
        &self,
        raw: RawSeries,
        lease: Lease,
        selector: &Selector,
        steps: StepRange,
        map: &impl Fn(Picked, i64) -> Cell,
    ) -> Option<Result<Series, QueryError>> {
        let mut cursor = Cursor::new(&raw);
        let cells: Vec<Cell> = steps
            .iter()
            .map(|step| {
                let at = selector.time.apply(step);
                let after = at.saturating_sub(self.lookback_ms);
                cursor.newest(at, after).map_or(Cell::Empty, |picked| map(picked, step))
            })
            .collect();
        drop(lease);
        if cells.iter().all(Cell::is_empty) {
            return None;
        }
        let present = cells.iter().filter(|cell| !cell.is_empty()).count();
        self.count_looked_at(selector.scope, present as u64, || {
            cells.iter().map(|cell| Looked::afresh(usize::from(!cell.is_empty()))).collect()
        });
        Some(Series::new(raw.labels, false, cells, &self.ledger))
    }

    /// `smoothed` instant selector: the value between the neighbours of the evaluation time.
    fn select_smoothed<'a>(&'a self, selector: &'a Selector, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let range = self.instant_range(selector.time, steps, self.lookback_ms);
        let series = self.raw(&selector.matchers, range, selector.hints)?;
        Ok(Box::new(series.filter_map(move |series| {
            let samples = match series {
                Ok((raw, lease)) => of_raw(raw, lease, false),
                Err(error) => return Some(Err(error)),
            };
            let cells = super::edges::smoothed_cells(self, &samples, selector, steps);
            let is_empty = cells.iter().all(Cell::is_empty);
            (!is_empty).then(|| Series::new(samples.labels, false, cells, &self.ledger))
        })))
    }

    /// The samples that the windows of a range vector are cut from.
    pub(super) fn samples<'a>(&'a self, range: &'a Range, steps: StepRange) -> Result<SamplesIter<'a>, QueryError> {
        let (first, last) = (range.time.apply(steps.start_ms), range.time.apply(last_step(steps)));
        let after_first = first.saturating_sub(range.length_ms);
        match &range.source {
            RangeSource::Samples(matchers) => {
                let before = if range.edge.is_some() { self.lookback_ms } else { 0 };
                let after = if range.edge == Some(EdgeMode::Smoothed) { self.lookback_ms } else { 0 };
                let read = TimeRange::inclusive(
                    after_first.saturating_sub(before).saturating_add(1),
                    last.saturating_add(after),
                );
                let starts = self.settings.use_start_timestamps;
                let series = self.raw(matchers, read, range.hints)?;
                Ok(Box::new(series.map(move |series| series.map(|(raw, lease)| of_raw(raw, lease, starts)))))
            }
            RangeSource::Subquery { node, step_ms, .. } => {
                let first_step = after_first.div_euclid(*step_ms).saturating_add(1).saturating_mul(*step_ms);
                let inner = StepRange { start_ms: first_step, end_ms: last, step_ms: *step_ms };
                self.check_steps(inner)?;
                if inner.is_empty() {
                    return Ok(Box::new(std::iter::empty()));
                }
                self.place_subquery(range, steps, inner);
                let input = self.vector(node, inner)?;
                // Without delayed removal two series may have lost different names; windows need them joined.
                Ok(Box::new(input.map(move |series| self.samples_of(&series?, inner))))
            }
        }
    }

    pub(super) fn check_steps(&self, steps: StepRange) -> Result<(), QueryError> {
        let limit = self.settings.steps_max;
        if steps.len() > limit { Err(QueryError::TooManySteps { steps: steps.len(), limit }) } else { Ok(()) }
    }

    fn samples_of(&self, series: &Series, steps: StepRange) -> Result<Samples, QueryError> {
        let mut samples = Samples {
            labels: series.labels.clone(),
            drop_name: series.drop_name,
            times_ms: Vec::new(),
            values: Vec::new(),
            starts_ms: Vec::new(),
            histograms: Vec::new(),
            histogram_starts_ms: Vec::new(),
            lease: self.ledger.hold(0, series.cells.len() * 16)?,
        };
        for (step, cell) in steps.iter().zip(&series.cells) {
            match cell {
                Cell::Empty => {}
                Cell::Float(value) => {
                    samples.times_ms.push(step);
                    samples.values.push(*value);
                }
                Cell::Histogram(histogram) => {
                    // Resets between the inner samples are not those between the steps.
                    let histogram = histogram::with_unknown_resets(Arc::clone(histogram));
                    samples.histograms.push(HistogramSample { timestamp_ms: step, histogram });
                }
            }
        }
        Ok(samples)
    }
}

impl Samples {
    /// What they are booked with, once the samples themselves are gone.
    pub(super) fn into_lease(self) -> Lease {
        self.lease
    }
}

pub(super) fn of_raw(mut raw: RawSeries, lease: Lease, with_starts: bool) -> Samples {
    if !with_starts {
        raw.start_ms.clear();
        raw.histogram_start_ms.clear();
    }
    if raw.values.iter().any(|value| is_stale_nan(*value)) {
        let keep: Vec<bool> = raw.values.iter().map(|value| !is_stale_nan(*value)).collect();
        retain(&mut raw.timestamps_ms, &keep);
        retain(&mut raw.start_ms, &keep);
        retain(&mut raw.values, &keep);
    }
    if raw.histograms.iter().any(|sample| sample.histogram.is_stale()) {
        let keep: Vec<bool> = raw.histograms.iter().map(|sample| !sample.histogram.is_stale()).collect();
        retain(&mut raw.histogram_start_ms, &keep);
        retain(&mut raw.histograms, &keep);
    }
    Samples {
        labels: raw.labels,
        drop_name: false,
        times_ms: raw.timestamps_ms,
        values: raw.values,
        starts_ms: raw.start_ms,
        histograms: raw.histograms,
        histogram_starts_ms: raw.histogram_start_ms,
        lease,
    }
}

fn retain<T>(list: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    list.retain(|_| flags.next().copied().unwrap_or(true));
}

pub(super) fn last_step(steps: StepRange) -> i64 {
    steps.at(steps.len().saturating_sub(1))
}

/// The sample an instant selector picked.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) cell: Cell,
    pub(super) time_ms: i64,
    /// Start timestamp; 0 if unknown.
    pub(super) start_ms: i64,
}

/// Walks a raw series forward.
struct Cursor<'a> {
    raw: &'a RawSeries,
    floats: usize,
    histograms: usize,
}

impl<'a> Cursor<'a> {
    fn new(raw: &'a RawSeries) -> Self {
        Self { raw, floats: 0, histograms: 0 }
    }

    /// The newest sample in `(after_ms, at_ms]` unless it is stale; `at_ms` must not fall between calls.
    fn newest(&mut self, at_ms: i64, after_ms: i64) -> Option<Picked> {
        let raw = self.raw;
        while raw.timestamps_ms.get(self.floats).is_some_and(|time| *time <= at_ms) {
            self.floats += 1;
        }
        while raw.histograms.get(self.histograms).is_some_and(|sample| sample.timestamp_ms <= at_ms) {
            self.histograms += 1;
        }
        let float = self.floats.checked_sub(1).map(|at| (raw.timestamps_ms[at], at));
        let histogram = self.histograms.checked_sub(1).map(|at| (raw.histograms[at].timestamp_ms, at));
        match (float, histogram) {
            (Some((time_ms, at)), other) if other.is_none_or(|(other_ms, _)| other_ms < time_ms) => {
                let value = raw.values[at];
                let start_ms = raw.start_ms.get(at).copied().unwrap_or(0);
                (time_ms > after_ms && !is_stale_nan(value)).then_some(Picked {
                    cell: Cell::Float(value),
                    time_ms,
                    start_ms,
                })
            }
            (_, Some((time_ms, at))) => {
                let histogram = &raw.histograms[at].histogram;
                let start_ms = raw.histogram_start_ms.get(at).copied().unwrap_or(0);
                (time_ms > after_ms && !histogram.is_stale()).then(|| Picked {
                    cell: Cell::Histogram(histogram.clone()),
                    time_ms,
                    start_ms,
                })
            }
            _ => None,
        }
    }
}
