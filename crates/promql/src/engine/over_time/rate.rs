//! Counters and differences: `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`.

use super::Context;
use crate::engine::annotations::Note;
use crate::engine::histogram;
use crate::engine::series::Cell;
use crate::engine::window::Window;

/// Whether a counter started anew between two samples, as far as start timestamps tell.
///
/// A start of 0, or not before its own sample, is unknown.
pub(super) fn restarted(previous_start_ms: i64, previous_ms: i64, start_ms: i64, time_ms: i64) -> bool {
    if start_ms == 0 || start_ms >= time_ms {
        return false;
    }
    match start_ms.cmp(&previous_ms) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => {
            previous_start_ms != 0 && previous_start_ms <= previous_ms && previous_start_ms != start_ms
        }
    }
}

/// Whether float number `at` of the window begins a new count.
pub(super) fn is_reset(window: &Window<'_>, at: usize) -> bool {
    window.values[at] < window.values[at - 1]
        || (!window.starts_ms.is_empty()
            && restarted(window.start_ms(at - 1), window.times_ms[at - 1], window.start_ms(at), window.times_ms[at]))
}

/// Whether histogram number `at` of the window begins a new count.
pub(in crate::engine) fn is_histogram_reset(window: &Window<'_>, at: usize) -> bool {
    let (previous, current) = (&window.histograms[at - 1], &window.histograms[at]);
    (!window.histogram_starts_ms.is_empty()
        && restarted(
            window.histogram_start_ms(at - 1),
            previous.timestamp_ms,
            window.histogram_start_ms(at),
            current.timestamp_ms,
        ))
        || histogram::is_reset(&previous.histogram, &current.histogram)
}

/// What the extrapolation needs to know of the samples.
pub(super) struct Sampled {
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    /// Mean distance of the samples, seconds; irrelevant for a single one.
    pub(super) mean_gap: f64,
    /// First value (or count) and the increase from it, for counters.
    pub(super) counter: Option<(f64, f64)>,
    /// The first point is the known start of the counter: nothing came before it.
    pub(super) from_start: bool,
    /// There is one sample and its start: nothing is known of what comes after.
    pub(super) single: bool,
}

/// The factor that stretches the increase between the samples to the whole window.
///
/// Source: PromQL, `rate`: up to 1.1 times the mean distance of samples counts as "the series goes on to the edge";
/// beyond that half a distance is added; a counter is not stretched to below zero.
pub(super) fn stretch(sampled: &Sampled, after_ms: i64, end_ms: i64) -> f64 {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let interval = seconds(sampled.last_ms - sampled.first_ms);
    let mean_gap = sampled.mean_gap;
    let threshold = mean_gap * 1.1;
    let mut to_start = seconds(sampled.first_ms - after_ms);
    let mut to_end = seconds(end_ms - sampled.last_ms);
    if to_start >= threshold {
        to_start = mean_gap / 2.0;
    }
    if let Some((first, increase)) = sampled.counter
        && increase > 0.0
        && first >= 0.0
    {
        to_start = to_start.min(interval * (first / increase));
    }
    if sampled.from_start {
        to_start = 0.0;
    }
    if to_end >= threshold {
        to_end = mean_gap / 2.0;
    }
    if sampled.single {
        to_end = 0.0;
    }
    (interval + to_start + to_end) / interval
}

/// Mean distance of `count` samples, seconds.
fn mean_gap(first_ms: i64, last_ms: i64, count: usize) -> f64 {
    (last_ms - first_ms) as f64 / 1000.0 / (count - 1) as f64
}

/// The start of the first sample if it lies inside the window.
fn known_start(start_ms: i64, time_ms: i64, after_ms: i64) -> Option<i64> {
    (start_ms != 0 && start_ms > after_ms && start_ms < time_ms).then_some(start_ms)
}

pub(super) fn extrapolated(context: &Context<'_>, window: &Window<'_>, is_counter: bool, is_rate: bool) -> Cell {
    if !window.histograms.is_empty() && !window.values.is_empty() {
        context.note(&Note::MixedFloatsHistograms { metric: window.labels.metric_name() });
        return Cell::Empty;
    }
    if !window.histograms.is_empty() {
        return histogram_extrapolated(context, window, is_counter, is_rate);
    }
    if is_counter {
        note_overlap(context, window);
    }
    let increase = |window: &Window<'_>| {
        (1..window.values.len())
            .filter(|at| is_reset(window, *at))
            .map(|at| window.values[at - 1])
            .fold(window.values[window.values.len() - 1] - window.values[0], |sum, lost| sum + lost)
    };
    float_extrapolated(window, is_counter, is_rate, increase)
}

/// `increase` is only asked with at least one sample; for counters it corrects resets.
pub(super) fn float_extrapolated(
    window: &Window<'_>,
    is_counter: bool,
    is_rate: bool,
    increase: impl Fn(&Window<'_>) -> f64,
) -> Cell {
    let count = window.values.len();
    let Some(&first) = window.values.first() else { return Cell::Empty };
    let start = is_counter.then(|| known_start(window.start_ms(0), window.times_ms[0], window.after_ms)).flatten();
    if count < 2 && start.is_none() {
        return Cell::Empty;
    }
    let mut change = if is_counter { increase(window) } else { window.values[count - 1] - first };
    if start.is_some() {
        change += first;
    }
    let sampled = Sampled {
        first_ms: start.unwrap_or(window.times_ms[0]),
        last_ms: window.times_ms[count - 1],
        mean_gap: mean_gap(window.times_ms[0], window.times_ms[count - 1], count),
        counter: is_counter.then_some((first, change)),
        from_start: start.is_some(),
        single: count == 1,
    };
    let factor = stretch(&sampled, window.after_ms, window.end_ms);
    let factor = if is_rate { factor / (window.range_ms as f64 / 1000.0) } else { factor };
    Cell::Float(change * factor)
}

fn histogram_extrapolated(context: &Context<'_>, window: &Window<'_>, is_counter: bool, is_rate: bool) -> Cell {
    let samples = window.histograms;
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let start =
        is_counter.then(|| known_start(window.histogram_start_ms(0), first.timestamp_ms, window.after_ms)).flatten();
    if samples.len() < 2 && start.is_none() {
        return Cell::Empty;
    }
    let Some(mut change) = histogram::increase(context, window, is_counter, start.is_some()) else {
        return Cell::Empty;
    };
    let sampled = Sampled {
        first_ms: start.unwrap_or(first.timestamp_ms),
        last_ms: last.timestamp_ms,
        mean_gap: mean_gap(first.timestamp_ms, last.timestamp_ms, samples.len()),
        counter: is_counter.then_some((first.histogram.count, change.count)),
        from_start: start.is_some(),
        single: samples.len() == 1,
    };
    let factor = stretch(&sampled, window.after_ms, window.end_ms);
    let factor = if is_rate { factor / (window.range_ms as f64 / 1000.0) } else { factor };
    histogram::scale(&mut change, factor);
    Cell::histogram(change)
}

/// Warns where a sample claims to have started before the previous one was taken.
pub(super) fn note_overlap(context: &Context<'_>, window: &Window<'_>) {
    if window.starts_ms.is_empty() {
        return;
    }
    let overlaps = (1..window.times_ms.len()).any(|at| {
        let start_ms = window.start_ms(at);
        start_ms != 0 && start_ms < window.times_ms[at - 1] && start_ms != window.start_ms(at - 1)
    });
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

/// NaN after NaN is no change.
pub(super) fn is_change(previous: f64, current: f64) -> bool {
    current != previous && !(current.is_nan() && previous.is_nan())
}

pub(super) fn resets(window: &Window<'_>) -> Cell {
    count_pairs(window, |at| is_reset(window, at), |at| is_histogram_reset(window, at))
}
