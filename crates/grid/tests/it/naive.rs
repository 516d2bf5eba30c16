//! Each function told window by window, without any memory of the last one.

use pharos_grid::{Extrapolation, RangeFunction, is_change, known_start, mean, restarted, sum};
use pharos_model::is_stale_nan;

/// A sample: instant, value, start timestamp.
pub(crate) type Point = (i64, f64, i64);

/// The function of the samples in `(after, end]`.
pub(crate) fn evaluate(function: RangeFunction, samples: &[Point], after_ms: i64, end_ms: i64) -> Option<f64> {
    use RangeFunction as F;
    let mut inside = samples.iter().copied().filter(|(time, ..)| after_ms < *time && *time <= end_ms);
    if function == F::Last {
        return inside.next_back().map(|(_, value, _)| value).filter(|value| !is_stale_nan(*value));
    }
    let window: Vec<Point> = inside.filter(|(_, value, _)| !is_stale_nan(*value)).collect();
    let values: Vec<f64> = window.iter().map(|(_, value, _)| *value).collect();
    let (last, count) = (*values.last()?, values.len());
    let range_s = (end_ms - after_ms) as f64 / 1000.0;
    match function {
        F::Rate => increase(&window, after_ms, end_ms, Some(range_s), true),
        F::Increase => increase(&window, after_ms, end_ms, None, true),
        F::Delta => increase(&window, after_ms, end_ms, None, false),
        F::Irate if count > 1 => {
            let (before, now) = (window[count - 2], window[count - 1]);
            let change = if is_reset(&before, &now) { now.1 } else { now.1 - before.1 };
            Some(change / ((now.0 - before.0) as f64 / 1000.0))
        }
        F::Idelta if count > 1 => Some(last - values[count - 2]),
        F::Irate | F::Idelta => None,
        F::SumOverTime => Some(sum(&values)),
        F::AvgOverTime => Some(mean(&values)),
        F::MinOverTime => Some(best(&values, |value, best| value < best)),
        F::MaxOverTime => Some(best(&values, |value, best| value > best)),
        F::CountOverTime => Some(count as f64),
        F::Last | F::LastOverTime => Some(last),
        F::Changes => Some(values.windows(2).filter(|pair| is_change(pair[0], pair[1])).count() as f64),
        F::Resets => Some(window.windows(2).filter(|pair| is_reset(&pair[0], &pair[1])).count() as f64),
    }
}

fn best(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = values[0];
    for value in values {
        if beats(*value, best) || best.is_nan() {
            best = *value;
        }
    }
    best
}

fn is_reset(before: &Point, now: &Point) -> bool {
    now.1 < before.1 || restarted(before.2, before.0, now.2, now.0)
}

fn increase(window: &[Point], after_ms: i64, end_ms: i64, range_s: Option<f64>, is_counter: bool) -> Option<f64> {
    let (first, last) = (window[0], window[window.len() - 1]);
    let start = known_start(first.2, first.0, after_ms).filter(|_| is_counter);
    if window.len() < 2 && start.is_none() {
        return None;
    }
    let mut change = last.1 - first.1;
    for pair in window.windows(2).filter(|pair| is_counter && is_reset(&pair[0], &pair[1])) {
        change += pair[0].1;
    }
    if start.is_some() {
        change += first.1;
    }
    let extrapolation = Extrapolation {
        first_ms: start.unwrap_or(first.0),
        last_ms: last.0,
        mean_gap: Extrapolation::mean_gap(first.0, last.0, window.len()),
        counter: is_counter.then_some((first.1, change)),
        from_start: start.is_some(),
        single: window.len() == 1,
    };
    let factor = extrapolation.factor(after_ms, end_ms);
    Some(change * range_s.map_or(factor, |range_s| factor / range_s))
}
