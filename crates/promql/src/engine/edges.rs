//! `anchored` and `smoothed`: windows with values at their very edges instead of extrapolation.
//!
//! `anchored` takes the newest sample at or before an edge; `smoothed` interpolates between the neighbours of an
//! edge. Both look beyond the window by the lookback: `anchored` before it, `smoothed` on both sides.

use std::sync::Arc;

use pharos_model::{Histogram, HistogramSample, ResetHint, StepRange};

use super::QueryError;
use super::annotations::Note;
use super::counts::Looked;
use super::eval::Evaluator;
use super::histogram::{self, Incompatible, Joined};
use super::over_time::{Context, counts_over};
use super::pace::Pace;
use super::plan::{Range, Selector};
use super::select::Samples;
use super::series::Cell;
use super::window::{Bounds, Window};
use crate::ast::EdgeMode;
use crate::functions::FunctionId as F;

/// Where notes go.
type Say<'a> = &'a dyn Fn(&Note<'_>);

/// The cells of a range function with edges.
pub(super) fn cells(context: &Context<'_>, samples: &Samples, steps: StepRange) -> Result<Vec<Cell>, QueryError> {
    let range = context.range;
    let smoothed = range.edge == Some(EdgeMode::Smoothed);
    let lookback_ms = context.evaluator.lookback_ms;
    let (mut floats, mut histograms) = (Bounds::default(), Bounds::default());
    let mut cells = Vec::with_capacity(steps.len());
    let mut looked = Vec::with_capacity(steps.len());
    let mut pace = Pace::new(&context.evaluator.context);
    let mut before_ms = i64::MIN;
    for step in steps.iter() {
        let end_ms = range.time.apply(step);
        let after_ms = end_ms.saturating_sub(range.length_ms);
        let first_ms = after_ms.saturating_sub(lookback_ms);
        let last_ms = if smoothed { end_ms.saturating_add(lookback_ms) } else { end_ms };
        floats.advance(first_ms, last_ms, samples.times_ms.len(), |at| samples.times_ms[at]);
        histograms.advance(first_ms, last_ms, samples.histograms.len(), |at| samples.histograms[at].timestamp_ms);
        let (float_range, histogram_range) = (floats.low..floats.high, histograms.low..histograms.high);
        let window = Window {
            labels: &samples.labels,
            times_ms: &samples.times_ms[float_range.clone()],
            values: &samples.values[float_range.clone()],
            starts_ms: samples.starts_ms.get(float_range).unwrap_or_default(),
            histograms: &samples.histograms[histogram_range.clone()],
            histogram_starts_ms: samples.histogram_starts_ms.get(histogram_range).unwrap_or_default(),
            after_ms,
            end_ms,
            step_ms: step,
            range_ms: range.length_ms,
        };
        let queryable = window.values.len() + window.histograms.len();
        pace.spend(queryable)?;
        let fresh = window.times_ms.iter().rev().take_while(|time_ms| **time_ms > before_ms).count()
            + window.histograms.iter().rev().take_while(|sample| sample.timestamp_ms > before_ms).count();
        looked.push(Looked { queryable: queryable as u64, read: fresh as u64 });
        before_ms = last_ms;
        cells.push(if window.is_empty() { Cell::Empty } else { cell(context, &window, smoothed) });
    }
    let queryable = looked.iter().map(|looked| looked.queryable).sum();
    context.evaluator.count_looked_at(range.scope, queryable, || looked);
    Ok(cells)
}

fn cell(context: &Context<'_>, window: &Window<'_>, smoothed: bool) -> Cell {
    if matches!(context.function, F::Changes | F::Resets) {
        return anchored_count(context.function, window);
    }
    let is_counter = context.function != F::Delta;
    let per_second = (context.function == F::Rate).then(|| window.range_ms as f64 / 1000.0);
    match (window.values.is_empty(), window.histograms.is_empty()) {
        (false, true) => {
            let change = float_change(window, is_counter, smoothed);
            change.map(|change| change / per_second.unwrap_or(1.0)).into()
        }
        (true, false) => histogram_change(context, window, is_counter, smoothed).map_or(Cell::Empty, |mut change| {
            if let Some(seconds) = per_second {
                histogram::scale(&mut change, 1.0 / seconds);
            }
            Cell::histogram(change)
        }),
        _ => {
            context.note(&Note::MixedFloatsHistograms { metric: window.labels.metric_name() });
            Cell::Empty
        }
    }
}

/// Counts changes or resets from the newest sample at or before the window on.
fn anchored_count(function: F, window: &Window<'_>) -> Cell {
    let floats_before = window.times_ms.partition_point(|time| *time <= window.after_ms);
    let histograms_before = window.histograms.partition_point(|sample| sample.timestamp_ms <= window.after_ms);
    if floats_before == window.values.len() && histograms_before == window.histograms.len() {
        return Cell::Empty;
    }
    let float_anchor = floats_before.checked_sub(1).map(|at| window.times_ms[at]);
    let histogram_anchor = histograms_before.checked_sub(1).map(|at| window.histograms[at].timestamp_ms);
    let anchor_is_float = float_anchor > histogram_anchor;
    let first_float = if anchor_is_float { floats_before - 1 } else { floats_before };
    let first_histogram =
        if !anchor_is_float && histogram_anchor.is_some() { histograms_before - 1 } else { histograms_before };
    let anchored = Window {
        times_ms: &window.times_ms[first_float..],
        values: &window.values[first_float..],
        starts_ms: window.starts_ms.get(first_float..).unwrap_or_default(),
        histograms: &window.histograms[first_histogram..],
        histogram_starts_ms: window.histogram_starts_ms.get(first_histogram..).unwrap_or_default(),
        ..*window
    };
    counts_over(function, &anchored)
}

/// First and last sample that matter; `None` if all lie before the window.
fn relevant(count: usize, time: impl Fn(usize) -> i64, window: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = count.checked_sub(1)?;
    let after_start = (0..last).find(|at| time(*at) > window.after_ms).unwrap_or(last);
    let first = after_start.saturating_sub(1);
    if smoothed {
        last = (0..last).find(|at| time(*at) >= window.end_ms).unwrap_or(last);
    }
    (time(last) > window.after_ms).then_some((first, last))
}

/// How far `at_ms` lies between two instants, 0 to 1.
fn share(at_ms: i64, from_ms: i64, to_ms: i64) -> f64 {
    (at_ms - from_ms) as f64 / (to_ms - from_ms) as f64
}

/// The float at `at_ms` between samples `left` and `left + 1`; a counter that was reset starts from 0.
fn float_at(window: &Window<'_>, left: usize, at_ms: i64, is_counter: bool) -> f64 {
    let (mut from, to) = (window.values[left], window.values[left + 1]);
    if is_counter && to < from {
        from = 0.0;
    }
    from + (to - from) * share(at_ms, window.times_ms[left], window.times_ms[left + 1])
}

/// Values at both edges of the window, with the first and last sample that matter.
fn float_edges(window: &Window<'_>, is_counter: bool, smoothed: bool) -> Option<(f64, f64, usize, usize)> {
    let times = window.times_ms;
    let (first, last) = relevant(times.len(), |at| times[at], window, smoothed)?;
    let left = if smoothed && times[first] < window.after_ms {
        float_at(window, first, window.after_ms, is_counter)
    } else {
        window.values[first]
    };
    let right = if smoothed && last > 0 && times[last] > window.end_ms {
        float_at(window, last - 1, window.end_ms, is_counter)
    } else {
        window.values[last]
    };
    Some((left, right, first, last))
}

fn float_change(window: &Window<'_>, is_counter: bool, smoothed: bool) -> Option<f64> {
    let (left, right, first, last) = float_edges(window, is_counter, smoothed)?;
    if window.times_ms[first] > window.end_ms {
        return None;
    }
    let mut change = right - left;
    if is_counter {
        let mut previous = left;
        for at in first..=last {
            // Samples on the edges are already `left` and `right`.
            if window.times_ms[at] <= window.after_ms || window.times_ms[at] >= window.end_ms {
                continue;
            }
            if window.values[at] < previous {
                change += previous;
            }
            previous = window.values[at];
        }
        if right < previous {
            change += previous;
        }
    }
    Some(change)
}

/// Says where bucket bounds had to be reconciled.
fn noted(joined: Result<Joined, Incompatible>, operation: &'static str, note: Say<'_>) -> Result<(), Incompatible> {
    if joined?.bounds_reconciled {
        note(&Note::MismatchedCustomBuckets { operation });
    }
    Ok(())
}

/// The histogram at `at_ms` between two samples; after a reset it grows from nothing.
fn histogram_at(
    from: &HistogramSample,
    to: &HistogramSample,
    at_ms: i64,
    is_counter: bool,
    note: Say<'_>,
) -> Result<Histogram, Incompatible> {
    if at_ms == from.timestamp_ms {
        return Ok((*from.histogram).clone());
    }
    if at_ms == to.timestamp_ms {
        return Ok((*to.histogram).clone());
    }
    let share = share(at_ms, from.timestamp_ms, to.timestamp_ms);
    if is_counter && histogram::is_reset(&from.histogram, &to.histogram) {
        return Ok(histogram::scaled(&to.histogram, share));
    }
    let mut between = (*to.histogram).clone();
    noted(histogram::subtract(&mut between, &from.histogram), "subtraction", note)?;
    histogram::scale(&mut between, share);
    noted(histogram::add(&mut between, &from.histogram), "addition", note)?;
    Ok(between)
}

fn histogram_change(context: &Context<'_>, window: &Window<'_>, is_counter: bool, smoothed: bool) -> Option<Histogram> {
    let metric = window.labels.metric_name();
    let samples = window.histograms;
    let (first, last) = relevant(samples.len(), |at| samples[at].timestamp_ms, window, smoothed)?;
    if samples[first].timestamp_ms > window.end_ms {
        return None;
    }
    let custom = samples[first].histogram.has_custom_buckets();
    for sample in &samples[first..=last] {
        if sample.histogram.has_custom_buckets() != custom {
            context.note(&Note::MixedSchemas { metric });
            return None;
        }
        if is_counter && sample.histogram.reset_hint == ResetHint::Gauge {
            context.note(&Note::NotCounterHistogram { metric });
        }
    }
    let Ok(mut change) = change_between(context, window, (first, last), is_counter, smoothed) else {
        context.note(&Note::MixedSchemas { metric });
        return None;
    };
    change.reset_hint = ResetHint::Gauge;
    histogram::compact(&mut change);
    Some(change)
}

/// The change between both edges of the window, resets corrected for counters.
fn change_between(
    context: &Context<'_>,
    window: &Window<'_>,
    (first, last): (usize, usize),
    is_counter: bool,
    smoothed: bool,
) -> Result<Histogram, Incompatible> {
    let samples = window.histograms;
    let note: Say<'_> = &|note| context.note(note);
    let interpolated = smoothed && samples[first].timestamp_ms < window.after_ms;
    let left = if interpolated {
        histogram_at(&samples[first], &samples[first + 1], window.after_ms, is_counter, note)?
    } else {
        (*samples[first].histogram).clone()
    };
    let right = if smoothed && last > 0 && samples[last].timestamp_ms > window.end_ms {
        histogram_at(&samples[last - 1], &samples[last], window.end_ms, is_counter, note)?
    } else {
        (*samples[last].histogram).clone()
    };
    if !is_counter && (left.reset_hint != ResetHint::Gauge || right.reset_hint != ResetHint::Gauge) {
        note(&Note::NotGaugeHistogram { metric: window.labels.metric_name() });
    }
    let mut change = right.clone();
    change.is_integer = false;
    noted(histogram::subtract(&mut change, &left), "subtraction", note)?;
    if is_counter {
        let mut previous = &left;
        let mut from = first + 1;
        if interpolated && histogram::is_reset(&samples[first].histogram, &samples[first + 1].histogram) {
            // The value at the left edge already grows from that reset.
            previous = &samples[first + 1].histogram;
            from = first + 2;
        }
        let between = samples.get(from..last).into_iter().flatten().map(|sample| &*sample.histogram);
        // Beyond the last sample there is no edge left to compare.
        let edge = (from <= last).then_some(&right);
        for current in between.chain(edge) {
            if histogram::is_reset(previous, current) {
                noted(histogram::add(&mut change, previous), "addition", note)?;
            }
            previous = current;
        }
    }
    Ok(change)
}

/// The window of a bare range selector: a sample at each edge, those inside between them.
pub(super) fn bare(mut samples: Samples, range: &Range, end_ms: i64) -> Result<Samples, QueryError> {
    if !samples.histograms.is_empty() {
        let keyword = range.edge.map_or("", EdgeMode::keyword);
        return Err(QueryError::execution(format!("{keyword} modifier is not supported with histograms")));
    }
    let after_ms = end_ms.saturating_sub(range.length_ms);
    let window = Window {
        labels: &samples.labels,
        times_ms: &samples.times_ms,
        values: &samples.values,
        starts_ms: &[],
        histograms: &[],
        histogram_starts_ms: &[],
        after_ms,
        end_ms,
        step_ms: end_ms,
        range_ms: range.length_ms,
    };
    let edges = float_edges(&window, false, range.edge == Some(EdgeMode::Smoothed));
    let inside = |time_ms: i64| after_ms < time_ms && time_ms < end_ms;
    let (mut times, mut values) = (Vec::new(), Vec::new());
    if let Some((left, right, _, _)) = edges {
        let between = samples.times_ms.iter().zip(&samples.values).filter(|(time_ms, _)| inside(**time_ms));
        let between = between.map(|(time_ms, value)| (*time_ms, *value));
        (times, values) = std::iter::once((after_ms, left)).chain(between).chain([(end_ms, right)]).unzip();
    }
    (samples.times_ms, samples.values) = (times, values);
    samples.starts_ms.clear();
    Ok(samples)
}

/// An instant selector with `smoothed`: the sample at that instant, the value between its neighbours, or the newest
/// sample before it where none follows. Stale markers are not there.
pub(super) fn smoothed_cells(
    evaluator: &Evaluator<'_>,
    samples: &Samples,
    selector: &Selector,
    steps: StepRange,
) -> Vec<Cell> {
    let lookback_ms = evaluator.lookback_ms;
    let metric = samples.labels.metric_name();
    let note: Say<'_> = &|note| evaluator.note(selector.span, note);
    let (mut floats, mut histograms) = (Bounds::default(), Bounds::default());
    let cell = |step: i64| {
        let at_ms = selector.time.apply(step);
        let (after, until) = (at_ms.saturating_sub(lookback_ms), at_ms.saturating_add(lookback_ms));
        floats.advance(after, until, samples.times_ms.len(), |at| samples.times_ms[at]);
        histograms.advance(after, until, samples.histograms.len(), |at| samples.histograms[at].timestamp_ms);
        match (floats.len(), histograms.len()) {
            (0, 0) => Cell::Empty,
            (_, 0) => smoothed_float(samples, floats, at_ms).into(),
            (0, _) => smoothed_histogram(&samples.histograms[histograms.low..histograms.high], at_ms, note)
                .unwrap_or_else(|Incompatible| {
                    note(&Note::MixedSchemas { metric });
                    Cell::Empty
                }),
            _ => {
                note(&Note::MixedFloatsHistograms { metric });
                Cell::Empty
            }
        }
    };
    steps.iter().map(cell).collect()
}

fn smoothed_float(samples: &Samples, bounds: Bounds, at_ms: i64) -> Option<f64> {
    let times = &samples.times_ms[bounds.low..bounds.high];
    let values = &samples.values[bounds.low..bounds.high];
    let after = times.partition_point(|time| *time <= at_ms);
    let before = after.checked_sub(1)?;
    let from = values[before];
    match values.get(after) {
        Some(to) if times[before] < at_ms => Some(from + (to - from) * share(at_ms, times[before], times[after])),
        _ => Some(from),
    }
}

fn smoothed_histogram(samples: &[HistogramSample], at_ms: i64, note: Say<'_>) -> Result<Cell, Incompatible> {
    let after = samples.partition_point(|sample| sample.timestamp_ms <= at_ms);
    let Some(before) = after.checked_sub(1).map(|at| &samples[at]) else { return Ok(Cell::Empty) };
    if before.timestamp_ms == at_ms {
        return Ok(Cell::Histogram(Arc::clone(&before.histogram)));
    }
    let Some(next) = samples.get(after) else {
        return Ok(Cell::Histogram(histogram::with_unknown_resets(Arc::clone(&before.histogram))));
    };
    if before.histogram.has_custom_buckets() != next.histogram.has_custom_buckets() {
        return Err(Incompatible);
    }
    let gauges = [before, next].map(|sample| sample.histogram.reset_hint == ResetHint::Gauge);
    histogram_at(before, next, at_ms, gauges != [true, true], note).map(Cell::histogram)
}
