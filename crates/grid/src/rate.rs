//! Counters and differences: `rate`, `increase`, `delta`, `irate`, `idelta`, `resets`.
//!
//! Source: PromQL, `rate`: up to 1.1 times the mean distance of samples counts as "the series goes on to the edge";
//! beyond that half a distance is added; a counter is not stretched to below zero.

use crate::geometry::{Bounds, Geometry, Stretch};
use crate::kernel::Floats;
use crate::{ABSENT, RangeFunction};

/// Whether a counter started anew between two samples, as far as start timestamps tell.
///
/// A start of 0, or not before its own sample, is unknown.
#[must_use]
pub fn restarted(previous_start_ms: i64, previous_ms: i64, start_ms: i64, time_ms: i64) -> bool {
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

/// The start of the first sample of a window if it lies inside.
#[must_use]
pub fn known_start(start_ms: i64, time_ms: i64, after_ms: i64) -> Option<i64> {
    (start_ms != 0 && start_ms > after_ms && start_ms < time_ms).then_some(start_ms)
}

/// What the extrapolation of an increase to its whole window needs to know of the samples inside.
#[derive(Debug, Clone, Copy)]
pub struct Extrapolation {
    /// The first sample, or the known start of the counter; Unix milliseconds.
    pub first_ms: i64,
    /// The last sample.
    pub last_ms: i64,
    /// Mean distance of the samples, seconds; irrelevant for a single one.
    pub mean_gap: f64,
    /// First value (or count) and the increase from it, for counters.
    pub counter: Option<(f64, f64)>,
    /// The first point is the known start of the counter: nothing came before it.
    pub from_start: bool,
    /// There is one sample and its start: nothing is known of what comes after.
    pub single: bool,
}

impl Extrapolation {
    /// Mean distance of `count` samples, seconds.
    #[must_use]
    pub fn mean_gap(first_ms: i64, last_ms: i64, count: usize) -> f64 {
        (last_ms - first_ms) as f64 / 1000.0 / (count - 1) as f64
    }

    /// The factor that stretches the increase between the samples to the window `(after_ms, end_ms]`.
    #[must_use]
    pub fn factor(&self, after_ms: i64, end_ms: i64) -> f64 {
        let interval = seconds(self.last_ms - self.first_ms);
        let threshold = self.mean_gap * 1.1;
        let mut to_start = seconds(self.first_ms - after_ms);
        let mut to_end = seconds(end_ms - self.last_ms);
        if to_start >= threshold {
            to_start = self.mean_gap / 2.0;
        }
        if let Some((first, increase)) = self.counter
            && increase > 0.0
            && first >= 0.0
        {
            to_start = to_start.min(interval * (first / increase));
        }
        if self.from_start {
            to_start = 0.0;
        }
        if to_end >= threshold {
            to_end = self.mean_gap / 2.0;
        }
        if self.single {
            to_end = 0.0;
        }
        (interval + to_start + to_end) / interval
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Below this a product of the comparison that spares the division may have lost its digits.
const SAFE_MIN: f64 = 1e-280;
/// More than the rounding errors of that comparison add up to.
const SAFE_MARGIN: f64 = 1.0 + 1e-9;

/// What depends on the instants of a window's samples but not on their values.
pub(crate) fn stretch(times: &[i64], bounds: Bounds, after_ms: i64, end_ms: i64, range_s: Option<f64>) -> Stretch {
    let (low, high) = (bounds.low as usize, bounds.high as usize);
    if high < low + 2 {
        return Stretch { factor: ABSENT, clamp_below: 0.0 };
    }
    let (first_ms, last_ms) = (times[low], times[high - 1]);
    let interval = seconds(last_ms - first_ms);
    let mean_gap = interval / (high - low - 1) as f64;
    let threshold = mean_gap * 1.1;
    let mut to_start = seconds(first_ms - after_ms);
    let mut to_end = seconds(end_ms - last_ms);
    if to_start >= threshold {
        to_start = mean_gap / 2.0;
    }
    if to_end >= threshold {
        to_end = mean_gap / 2.0;
    }
    let factor = (interval + to_start + to_end) / interval;
    let factor = range_s.map_or(factor, |range_s| factor / range_s);
    Stretch { factor, clamp_below: to_start / interval * SAFE_MARGIN }
}

/// Rates of a series without start timestamps. `resets` are the indexes at which the counter began anew.
pub(crate) fn rates(geometry: &Geometry, times: &[i64], values: &[f64], resets: &[u32], out: &mut Vec<f64>) {
    let (mut next_in, mut next_out) = (0, 0);
    out.extend(geometry.steps().enumerate().map(|(step, (bounds, stretch))| {
        let (low, high) = (bounds.low as usize, bounds.high as usize);
        if high < low + 2 {
            return ABSENT;
        }
        let first = values[low];
        let mut change = values[high - 1] - first;
        if !resets.is_empty() {
            while resets.get(next_in).is_some_and(|at| *at < bounds.high) {
                next_in += 1;
            }
            // A reset at the first sample of the window happened before it.
            while next_out < next_in && resets[next_out] <= bounds.low {
                next_out += 1;
            }
            for at in &resets[next_out..next_in] {
                change += values[*at as usize - 1];
            }
        }
        // Stretched below zero? The division that tells is spared where a comparison is sure of it.
        if change > 0.0 && first >= 0.0 && first <= (change * stretch.clamp_below).max(SAFE_MIN) {
            return clamped(geometry, times, bounds, step, first, change);
        }
        change * stretch.factor
    }));
}

#[cold]
fn clamped(geometry: &Geometry, times: &[i64], bounds: Bounds, step: usize, first: f64, change: f64) -> f64 {
    let (first_ms, last_ms) = (times[bounds.low as usize], times[bounds.high as usize - 1]);
    let extrapolation = Extrapolation {
        first_ms,
        last_ms,
        mean_gap: Extrapolation::mean_gap(first_ms, last_ms, bounds.len()),
        counter: Some((first, change)),
        from_start: false,
        single: false,
    };
    let (after_ms, end_ms) = geometry.window(step);
    let factor = extrapolation.factor(after_ms, end_ms);
    change * geometry.range_s().map_or(factor, |range_s| factor / range_s)
}

/// `delta`: no resets, and negative values are nothing special.
pub(crate) fn deltas(geometry: &Geometry, values: &[f64], out: &mut Vec<f64>) {
    out.extend(geometry.steps().map(|(bounds, stretch)| {
        if bounds.len() < 2 {
            return ABSENT;
        }
        (values[bounds.high as usize - 1] - values[bounds.low as usize]) * stretch.factor
    }));
}

/// Rates of a counter with start timestamps: `rate` and `increase`.
pub(crate) fn started_rates(geometry: &Geometry, floats: Floats<'_>, resets: &[u32], out: &mut Vec<f64>) {
    let (times, values) = (floats.times_ms, floats.values);
    for (step, (bounds, _)) in geometry.steps().enumerate() {
        let (low, high) = (bounds.low as usize, bounds.high as usize);
        let (after_ms, end_ms) = geometry.window(step);
        let start = times[low..high].first().and_then(|first| known_start(floats.starts_ms[low], *first, after_ms));
        if high == low || (high < low + 2 && start.is_none()) {
            out.push(ABSENT);
            continue;
        }
        let first = values[low];
        let from = resets.partition_point(|at| *at <= bounds.low);
        let to = resets.partition_point(|at| *at < bounds.high).max(from);
        let lost = resets[from..to].iter().map(|at| values[*at as usize - 1]);
        let mut change = lost.fold(values[high - 1] - first, |sum, lost| sum + lost);
        if start.is_some() {
            change += first;
        }
        let extrapolation = Extrapolation {
            first_ms: start.unwrap_or(times[low]),
            last_ms: times[high - 1],
            mean_gap: Extrapolation::mean_gap(times[low], times[high - 1], high - low),
            counter: Some((first, change)),
            from_start: start.is_some(),
            single: high - low == 1,
        };
        let factor = extrapolation.factor(after_ms, end_ms);
        out.push(change * geometry.range_s().map_or(factor, |range_s| factor / range_s));
    }
}

/// Whether sample number `at` begins a new count.
fn is_reset(floats: Floats<'_>, at: usize) -> bool {
    let (values, times, starts) = (floats.values, floats.times_ms, floats.starts_ms);
    values[at] < values[at - 1]
        || (!starts.is_empty() && restarted(starts[at - 1], times[at - 1], starts[at], times[at]))
}

/// Fills `resets` with the indexes at which the counter began anew.
pub(crate) fn find_resets(floats: Floats<'_>, resets: &mut Vec<u32>) {
    resets.clear();
    // A counter rarely falls: the first look only asks whether it does anywhere, which compares many at once.
    let pairs = floats.values.iter().zip(floats.values.iter().skip(1));
    if floats.starts_ms.is_empty() && !pairs.fold(false, |fell, (previous, value)| fell || (value < previous)) {
        return;
    }
    resets.extend((1..floats.values.len()).filter(|at| is_reset(floats, *at)).map(|at| at as u32));
}

/// `irate` and `idelta`: the last two samples.
pub(crate) fn instant(function: RangeFunction, geometry: &Geometry, floats: Floats<'_>, out: &mut Vec<f64>) {
    let is_rate = function == RangeFunction::Irate;
    out.extend(geometry.bounds().iter().map(|bounds| {
        if bounds.len() < 2 {
            return ABSENT;
        }
        let at = bounds.high as usize - 1;
        let (previous, current) = (floats.values[at - 1], floats.values[at]);
        let change = if is_rate && is_reset(floats, at) { current } else { current - previous };
        let interval_ms = floats.times_ms[at] - floats.times_ms[at - 1];
        if is_rate { change / seconds(interval_ms) } else { change }
    }));
}
