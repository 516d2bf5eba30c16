//! Selectors: from the store's raw series to cells and windows.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_model::{Histogram, HistogramSample, Labels, Matcher, StepRange, TimeRange, is_stale_nan};
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, RawSeries};

use super::QueryError;
use super::eval::Evaluator;
use super::histogram;
use super::ledger::Lease;
use super::plan::{Hints, Range, RangeSource, Selector, TimeShift};
use super::series::{Cell, Series, SeriesIter, histogram_bytes};
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
    _lease: Lease,
}

/// The histogram before the first one read, by series.
type Earlier = HashMap<Labels, Arc<Histogram>>;

/// Series of samples one by one; an error ends them.
pub(super) type SamplesIter<'a> = Box<dyn Iterator<Item = Result<Samples, QueryError>> + 'a>;

impl Evaluator<'_> {
    /// Streams raw series of the store, booked and counted.
    fn raw<'a>(
        &'a self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: Hints,
    ) -> Result<impl Iterator<Item = Result<(RawSeries, Lease), QueryError>> + 'a, QueryError> {
        let plan = LeafPlan::Raw(RawPlan { matchers: matchers.to_vec(), range });
        let stream = self.store.leaf(self.tenant, &plan, &self.context)?;
        let mut earlier: Option<Earlier> = None;
        Ok(stream.map(move |series| {
            self.context.check()?;
            let LeafSeries::Raw(mut series) = series? else {
                return Err(QueryError::execution("the store answered a raw plan with a grid"));
            };
            self.ledger.count_read(series.sample_count());
            if hints != Hints::AsStored && !series.histograms.is_empty() {
                let earlier = match &earlier {
                    Some(earlier) => earlier,
                    None => earlier.insert(self.earlier(&plan, range)?),
                };
                let previous = earlier.get(&series.labels).cloned();
                histogram::with_derived_resets(previous, &mut series.histograms, hints == Hints::Detected);
            }
            let histograms: usize =
                series.histograms.iter().map(|sample| histogram_bytes(&sample.histogram) + 16).sum();
            let floats =
                series.timestamps_ms.len() * 16 + (series.start_ms.len() + series.histogram_start_ms.len()) * 8;
            let lease = self.ledger.hold(series.timestamps_ms.len() + histograms / 16, floats + histograms)?;
            Ok((series, lease))
        }))
    }

    /// The newest histogram of each series within the lookback before `range`: the first sample's reset hint depends
    /// on it. Read only if there are histograms at all.
    fn earlier(&self, plan: &LeafPlan, range: TimeRange) -> Result<Earlier, QueryError> {
        let LeafPlan::Raw(plan) = plan else { return Ok(Earlier::default()) };
        let before = TimeRange::new(range.start_ms.saturating_sub(self.lookback_ms), range.start_ms);
        let plan = LeafPlan::Raw(RawPlan { matchers: plan.matchers.clone(), range: before });
        let mut newest = Earlier::default();
        for series in self.store.leaf(self.tenant, &plan, &self.context)? {
            self.context.check()?;
            if let LeafSeries::Raw(series) = series?
                && let Some(last) = series.histograms.last()
            {
                newest.insert(series.labels, Arc::clone(&last.histogram));
            }
        }
        Ok(newest)
    }

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
        self.newest(selector, steps, |picked, _| picked.cell)
    }

    /// Like [`Self::select`], but the cell is made by `map` from the sample picked.
    pub(super) fn newest<'a>(
        &'a self,
        selector: &'a Selector,
        steps: StepRange,
        map: impl Fn(Picked, i64) -> Cell + 'a,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let range = self.instant_range(selector.time, steps, 0);
        let lookback_ms = self.lookback_ms;
        let series = self.raw(&selector.matchers, range, selector.hints)?;
        Ok(Box::new(series.filter_map(move |series| {
            let (raw, lease) = match series {
                Ok(series) => series,
                Err(error) => return Some(Err(error)),
            };
            let mut cursor = Cursor::new(&raw);
            let cells: Vec<Cell> = steps
                .iter()
                .map(|step| {
                    let at = selector.time.apply(step);
                    cursor.newest(at, at.saturating_sub(lookback_ms)).map_or(Cell::Empty, |picked| map(picked, step))
                })
                .collect();
            drop(lease);
            if cells.iter().all(Cell::is_empty) {
                return None;
            }
            self.ledger.count_queryable(cells.iter().filter(|cell| !cell.is_empty()).count());
            Some(Series::new(raw.labels, false, cells, &self.ledger))
        })))
    }

    /// `smoothed` instant selector: the value between the neighbours of the evaluation time.
    fn select_smoothed<'a>(&'a self, selector: &'a Selector, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let range = self.instant_range(selector.time, steps, self.lookback_ms);
        let series = self.raw(&selector.matchers, range, selector.hints)?;
        Ok(Box::new(series.filter_map(move |series| {
            let (raw, _lease) = match series {
                Ok(series) => series,
                Err(error) => return Some(Err(error)),
            };
            let cells = super::edges::smoothed_cells(self, &raw, selector, steps);
            let is_empty = cells.iter().all(Cell::is_empty);
            (!is_empty).then(|| Series::new(raw.labels, false, cells, &self.ledger))
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
            RangeSource::Subquery { node, step_ms } => {
                let first_step = after_first.div_euclid(*step_ms).saturating_add(1).saturating_mul(*step_ms);
                let inner = StepRange { start_ms: first_step, end_ms: last, step_ms: *step_ms };
                self.check_steps(inner)?;
                if inner.is_empty() {
                    return Ok(Box::new(std::iter::empty()));
                }
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
            _lease: self.ledger.hold(0, series.cells.len() * 16)?,
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

fn of_raw(mut raw: RawSeries, lease: Lease, with_starts: bool) -> Samples {
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
        _lease: lease,
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
