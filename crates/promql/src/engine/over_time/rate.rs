//! Counters and differences: `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`.

use pharos_grid::{Extrapolation, is_change, known_start, restarted};

use super::Context;
use crate::engine::annotations::Note;
use crate::engine::histogram;
use crate::engine::series::Cell;
use crate::engine::window::Window;

/// Whether float number `at` of the window begins a new count.
fn is_reset(window: &Window<'_>, at: usize) -> bool {
    window.values[at] < window.values[at - 1]
        || (!window.starts_ms.is_empty()
            && restarted(window.start_ms(at - 1), window.times_ms[at - 1], window.start_ms(at), window.times_ms[at]))
}

/// Whether histogram number `at` of the window begins a new count.
pub(in crate::engine) fn is_histogram_reset(window: &Window<'_>, at: usize) -> bool {
    is_start_reset(window, at)
        || histogram::is_reset(&window.histograms[at - 1].histogram, &window.histograms[at].histogram)
}

/// Whether the start timestamp of histogram number `at` says that it begins a new count.
pub(in crate::engine) fn is_start_reset(window: &Window<'_>, at: usize) -> bool {
    !window.histogram_starts_ms.is_empty()
        && restarted(
            window.histogram_start_ms(at - 1),
            window.histograms[at - 1].timestamp_ms,
            window.histogram_start_ms(at),
            window.histograms[at].timestamp_ms,
        )
}

/// `rate`, `increase` and `delta` of a window with histograms; of floats alone they are a kernel's.
pub(super) fn extrapolated(context: &Context<'_>, window: &Window<'_>, is_counter: bool, is_rate: bool) -> Cell {
    if !window.values.is_empty() {
        context.note(&Note::MixedFloatsHistograms { metric: window.labels.metric_name() });
        return Cell::Empty;
    }
    histogram_extrapolated(context, window, is_counter, is_rate)
}

fn histogram_extrapolated(context: &Context<'_>, window: &Window<'_>, is_counter: bool, is_rate: bool) -> Cell {
    let samples = window.histograms;
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let start =
        is_counter.then(|| known_start(window.histogram_start_ms(0), first.timestamp_ms, window.after_ms)).flatten();
    let change = if samples.len() > 1 {
        if is_counter {
            note_histogram_overlap(context, window);
        }
        histogram::increase(context, window, is_counter).and_then(|mut change| {
            if start.is_some() {
                histogram::add_first(context, window, &mut change)?;
            }
            Some(change)
        })
    } else {
        // A counter that is known to have started inside the window counted all of it there.
        start.map(|_| (*first.histogram).clone())
    };
    let Some(mut change) = change else { return Cell::Empty };
    let extrapolation = Extrapolation {
        first_ms: start.unwrap_or(first.timestamp_ms),
        last_ms: last.timestamp_ms,
        mean_gap: Extrapolation::mean_gap(first.timestamp_ms, last.timestamp_ms, samples.len()),
        counter: is_counter.then_some((first.histogram.count, change.count)),
        from_start: start.is_some(),
        single: samples.len() == 1,
    };
    let factor = extrapolation.factor(window.after_ms, window.end_ms);
    let factor = if is_rate { factor / (window.range_ms as f64 / 1000.0) } else { factor };
    histogram::scale(&mut change, factor);
    Cell::histogram(change)
}

/// Warns where a float claims to have started before the previous one was taken.
pub(super) fn note_overlap(context: &Context<'_>, window: &Window<'_>) {
    note_overlap_of(context, window, window.starts_ms, |at| window.times_ms[at]);
}

/// Warns where a histogram claims to have started before the previous one was taken.
fn note_histogram_overlap(context: &Context<'_>, window: &Window<'_>) {
    note_overlap_of(context, window, window.histogram_starts_ms, |at| window.histograms[at].timestamp_ms);
}

fn note_overlap_of(context: &Context<'_>, window: &Window<'_>, starts_ms: &[i64], time: impl Fn(usize) -> i64) {
    let overlaps = (1..starts_ms.len())
        .any(|at| starts_ms[at] != 0 && starts_ms[at] < time(at - 1) && starts_ms[at] != starts_ms[at - 1]);
    if overlaps {
        context.note(&Note::OverlappingStart { metric: window.labels.metric_name() });
    }
}

/// `irate` and `idelta`: the last two samples.
pub(super) fn instant(context: &Context<'_>, window: &Window<'_>, is_rate: bool) -> Cell {
    let (floats, histograms) = (window.values.len(), window.histograms.len());
    let newest_float = window.times_ms.last();
    let last_histogram_at = |back: usize| histograms.checked_sub(back).map(|at| window.histograms[at].timestamp_ms);
    let last_float_at = |back: usize| floats.checked_sub(back).map(|at| window.times_ms[at]);
    if floats + histograms < 2 {
        return Cell::Empty;
    }
    // The two newest of both kinds.
    let newest_is_float = newest_float > last_histogram_at(1).as_ref();
    let second_is_float =
        if newest_is_float { last_float_at(2) > last_histogram_at(1) } else { last_float_at(1) > last_histogram_at(2) };
    match (newest_is_float, second_is_float) {
        (true, true) => {
            let at = floats - 1;
            let (previous, current) = (window.values[at - 1], window.values[at]);
            let interval_ms = window.times_ms[at] - window.times_ms[at - 1];
            let reset = is_rate && is_reset(window, at);
            let change = if reset { current } else { current - previous };
            instant_value(change, interval_ms, is_rate)
        }
        (false, false) => {
            let (previous, current) = (&window.histograms[histograms - 2], &window.histograms[histograms - 1]);
            let interval_ms = current.timestamp_ms - previous.timestamp_ms;
            let reset = is_rate && is_histogram_reset(window, histograms - 1);
            histogram::last_change(context, window, &previous.histogram, &current.histogram, is_rate, reset).map_or(
                Cell::Empty,
                |mut change| {
                    if is_rate {
                        histogram::scale(&mut change, 1000.0 / interval_ms as f64);
                    }
                    Cell::histogram(change)
                },
            )
        }
        _ => {
            context.note(&Note::MixedFloatsHistograms { metric: window.labels.metric_name() });
            Cell::Empty
        }
    }
}

fn instant_value(change: f64, interval_ms: i64, is_rate: bool) -> Cell {
    if interval_ms == 0 {
        return Cell::Empty;
    }
    Cell::Float(if is_rate { change / (interval_ms as f64 / 1000.0) } else { change })
}

/// A sample of either kind, for walks in the order of time.
enum Either {
    Float(usize),
    Histogram(usize),
}

fn in_order(window: &Window<'_>) -> impl Iterator<Item = Either> {
    let (mut float, mut histogram) = (0, 0);
    std::iter::from_fn(move || {
        let float_ms = window.times_ms.get(float);
        let histogram_ms = window.histograms.get(histogram).map(|sample| sample.timestamp_ms);
        match (float_ms, histogram_ms) {
            (None, None) => None,
            (Some(float_ms), other) if other.is_none_or(|other| *float_ms < other) => {
                float += 1;
                Some(Either::Float(float - 1))
            }
            _ => {
                histogram += 1;
                Some(Either::Histogram(histogram - 1))
            }
        }
    })
}

/// Counts neighbours that differ by the tests given; a change of kind always counts.
fn count_pairs(window: &Window<'_>, floats: impl Fn(usize) -> bool, histograms: impl Fn(usize) -> bool) -> Cell {
    let mut count = 0_u64;
    let mut previous: Option<Either> = None;
    for current in in_order(window) {
        let differs = match (&previous, &current) {
            (None, _) => false,
            (Some(Either::Float(_)), Either::Float(at)) => floats(*at),
            (Some(Either::Histogram(_)), Either::Histogram(at)) => histograms(*at),
            _ => true,
        };
        count += u64::from(differs);
        previous = Some(current);
    }
    Cell::Float(count as f64)
}

pub(super) fn changes(window: &Window<'_>) -> Cell {
    count_pairs(
        window,
        |at| is_change(window.values[at - 1], window.values[at]),
        |at| !histogram::equals(&window.histograms[at - 1].histogram, &window.histograms[at].histogram),
    )
}

pub(super) fn resets(window: &Window<'_>) -> Cell {
    count_pairs(window, |at| is_reset(window, at), |at| is_histogram_reset(window, at))
}
