//! Sums, means, counts, last values and places in each window.

use crate::ABSENT;
use crate::geometry::Geometry;
use crate::sums::{Mean, Sum};

/// Memory that is used again for each series.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) candidates: Vec<u32>,
    pub(crate) prefixes: Vec<f64>,
}

/// Long windows over many steps make even one series costly: the caller is asked each time this many samples were
/// added up, some milliseconds.
const CHECK_SAMPLES: u64 = 1 << 20;

/// The compensated sum.
#[must_use]
pub fn sum(values: &[f64]) -> f64 {
    let mut sum = Sum::default();
    for value in values {
        sum.add(*value);
    }
    sum.value()
}

/// The mean of at least one value.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::starting_at(values[0]);
    for value in &values[1..] {
        mean.add(*value);
    }
    mean.value()
}

/// The smaller; NaN loses against anything.
#[must_use]
#[inline]
pub fn lesser(best: f64, value: f64) -> f64 {
    if value < best || best.is_nan() { value } else { best }
}

/// The larger; NaN loses against anything.
#[must_use]
#[inline]
pub fn greater(best: f64, value: f64) -> f64 {
    if value > best || best.is_nan() { value } else { best }
}

/// NaN after NaN is no change.
#[must_use]
#[inline]
pub fn is_change(previous: f64, current: f64) -> bool {
    current != previous && !(current.is_nan() && previous.is_nan())
}

/// `sum_over_time` or `avg_over_time`.
pub(crate) trait Adding: Copy {
    fn walk(self, values: &[f64]) -> f64;
    fn of_sum(self, sum: f64, count: usize) -> f64;
}

#[derive(Clone, Copy)]
pub(crate) struct Total;
#[derive(Clone, Copy)]
pub(crate) struct Average;

impl Adding for Total {
    fn walk(self, values: &[f64]) -> f64 {
        sum(values)
    }

    fn of_sum(self, sum: f64, _: usize) -> f64 {
        sum
    }
}

impl Adding for Average {
    fn walk(self, values: &[f64]) -> f64 {
        mean(values)
    }

    fn of_sum(self, sum: f64, count: usize) -> f64 {
        sum / count as f64
    }
}

pub(crate) fn sums<E>(
    geometry: &Geometry,
    values: &[f64],
    prefixes: &mut Vec<f64>,
    adding: impl Adding,
    out: &mut Vec<f64>,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    // Where windows hardly overlap, prefixes cost more than they spare.
    let worthwhile = geometry.queryable > values.len() as u64;
    if worthwhile && exact_prefixes(values, prefixes) {
        out.extend(geometry.bounds().iter().map(|bounds| match bounds.len() {
            0 => ABSENT,
            count => adding.of_sum(prefixes[bounds.high as usize] - prefixes[bounds.low as usize], count),
        }));
        return Ok(());
    }
    let mut added = 0;
    for bounds in geometry.bounds() {
        let window = &values[bounds.low as usize..bounds.high as usize];
        out.push(if window.is_empty() { ABSENT } else { adding.walk(window) });
        added += window.len() as u64;
        if added >= CHECK_SAMPLES {
            check()?;
            added = 0;
        }
    }
    Ok(())
}

/// Largest integer up to which every sum of integers is exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Prefix sums where these are exact: all values are integers and even the sum of their magnitudes is exact in a
/// double. Then the difference of two prefixes is what a compensated sum yields.
fn exact_prefixes(values: &[f64], prefixes: &mut Vec<f64>) -> bool {
    prefixes.clear();
    prefixes.push(0.0);
    let (mut total, mut magnitude) = (0.0, 0.0);
    for value in values {
        magnitude += value.abs();
        total += value;
        // At the limit itself the magnitude may have been rounded to it. NaN and infinities leave as well; −0 must stay −0 in a sum of its own.
        let is_exact = magnitude < EXACT_MAX && value.trunc() == *value && (*value != 0.0 || value.is_sign_positive());
        if !is_exact {
            return false;
        }
        prefixes.push(total);
    }
    true
}

pub(crate) fn counts(geometry: &Geometry, out: &mut Vec<f64>) {
    out.extend(geometry.bounds().iter().map(|bounds| match bounds.len() {
        0 => ABSENT,
        count => count as f64,
    }));
}

pub(crate) fn last(geometry: &Geometry, values: &[f64], out: &mut Vec<f64>) {
    let newest = geometry.bounds().iter();
    out.extend(newest.map(|bounds| if bounds.len() == 0 { ABSENT } else { values[bounds.high as usize - 1] }));
}

pub(crate) fn changes(geometry: &Geometry, values: &[f64], places_at: &mut Vec<u32>, out: &mut Vec<f64>) {
    places_at.clear();
    places_at.extend((1..values.len()).filter(|at| is_change(values[at - 1], values[*at])).map(|at| at as u32));
    places(geometry, places_at, out);
}

/// How many of the ascending indexes lie in each window, its first sample left out: that one has no predecessor.
pub(crate) fn places(geometry: &Geometry, at: &[u32], out: &mut Vec<f64>) {
    let (mut next_in, mut next_out) = (0, 0);
    out.extend(geometry.bounds().iter().map(|bounds| {
        if bounds.len() == 0 {
            return ABSENT;
        }
        while at.get(next_in).is_some_and(|place| *place < bounds.high) {
            next_in += 1;
        }
        while next_out < next_in && at[next_out] <= bounds.low {
            next_out += 1;
        }
        (next_in - next_out) as f64
    }));
}
