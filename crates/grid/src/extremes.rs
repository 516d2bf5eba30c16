//! `min_over_time` and `max_over_time`.

use crate::ABSENT;
use crate::geometry::Geometry;

/// The smallest or largest value of each window by a queue of candidates: each sample enters and leaves it once.
///
/// Of equal values the earliest wins, and NaN only where there is nothing else (then the latest), as in a walk over
/// the window.
pub(crate) fn extremes(
    geometry: &Geometry,
    values: &[f64],
    candidates: &mut Vec<u32>,
    beats: impl Fn(f64, f64) -> bool,
    out: &mut Vec<f64>,
) {
    candidates.clear();
    // Candidates before `first` have left the window.
    let (mut first, mut seen) = (0, 0);
    out.extend(geometry.bounds().iter().map(|bounds| {
        for at in seen.max(bounds.low)..bounds.high {
            let value = values[at as usize];
            if value.is_nan() {
                continue;
            }
            while candidates.len() > first && candidates.last().is_some_and(|last| beats(value, values[*last as usize]))
            {
                candidates.pop();
            }
            candidates.push(at);
        }
        seen = bounds.high;
        while candidates.get(first).is_some_and(|candidate| *candidate < bounds.low) {
            first += 1;
        }
        match candidates.get(first) {
            _ if bounds.len() == 0 => ABSENT,
            Some(best) => values[*best as usize],
            None => values[bounds.high as usize - 1],
        }
    }));
}
