//! Functions of counters over thinned samples: where only the samples are left that decide, and how many there were.
//!
//! `increase` of a window looks at its first and its last sample, at those around a reset, and at how many samples
//! there are. A column without the others yields the same bits, if it keeps (invariant of whoever thins)
//! - the first and the last sample of every window that is evaluated,
//! - of every fall of the value both samples, and every NaN: between two samples that are kept nothing fell then,
//!   whatever lies between them,
//! - no stale marker.

use pharos_model::StepRange;

use crate::{ABSENT, Extrapolation, RangeFunction};

/// Thinned samples of one series.
#[derive(Debug, Clone, Copy)]
pub struct Thinned<'a> {
    /// Instants, strictly ascending, Unix milliseconds.
    pub times_ms: &'a [i64],
    /// One for each instant.
    pub values: &'a [f64],
    /// The place of each sample among all of the series; of samples inside of a window any place there.
    pub places: &'a [u64],
}

/// `rate`, `increase`, `delta` or `resets` over thinned samples, at the steps of a query.
#[derive(Debug, Clone, Copy)]
pub struct ThinnedKernel {
    function: RangeFunction,
    window_ms: i64,
    steps: StepRange,
    offset_ms: i64,
}

impl ThinnedKernel {
    /// As [`crate::Kernel::new`]; `None` for a function that needs the other samples too.
    #[must_use]
    pub fn new(function: RangeFunction, window_ms: i64, steps: StepRange, offset_ms: i64) -> Option<Self> {
        use RangeFunction as F;
        let decided = matches!(function, F::Rate | F::Increase | F::Delta | F::Resets);
        decided.then_some(Self { function, window_ms, steps, offset_ms })
    }

    /// Replaces `out` by one value per step; answers how many steps have one.
    pub fn evaluate(&self, thinned: Thinned<'_>, out: &mut Vec<f64>) -> usize {
        let Thinned { times_ms, values, places } = thinned;
        out.clear();
        let resets: Vec<usize> = (1..values.len()).filter(|at| values[*at] < values[at - 1]).collect();
        let (mut low, mut high, mut reset_low, mut reset_high) = (0, 0, 0, 0);
        out.extend(self.steps.iter().map(|step_ms| {
            let end_ms = step_ms.saturating_sub(self.offset_ms);
            let after_ms = end_ms.saturating_sub(self.window_ms);
            while times_ms.get(high).is_some_and(|time_ms| *time_ms <= end_ms) {
                high += 1;
            }
            while low < high && times_ms[low] <= after_ms {
                low += 1;
            }
            while resets.get(reset_high).is_some_and(|at| *at < high) {
                reset_high += 1;
            }
            // A reset at the first sample of the window happened before it.
            while reset_low < reset_high && resets[reset_low] <= low {
                reset_low += 1;
            }
            let resets = &resets[reset_low..reset_high];
            match self.function {
                RangeFunction::Resets if low == high => ABSENT,
                RangeFunction::Resets => resets.len() as f64,
                _ if high < low + 2 => ABSENT,
                _ => {
                    let (first, last) = (low, high - 1);
                    let mut change = values[last] - values[first];
                    if self.function != RangeFunction::Delta {
                        for at in resets {
                            change += values[at - 1];
                        }
                    }
                    let gaps = places[last].saturating_sub(places[first]) as usize;
                    let (first_ms, last_ms) = (times_ms[first], times_ms[last]);
                    let extrapolation = Extrapolation {
                        first_ms,
                        last_ms,
                        mean_gap: Extrapolation::mean_gap(first_ms, last_ms, gaps.saturating_add(1)),
                        counter: (self.function != RangeFunction::Delta).then_some((values[first], change)),
                        from_start: false,
                        single: false,
                    };
                    let factor = extrapolation.factor(after_ms, end_ms);
                    let divided = self.function == RangeFunction::Rate;
                    change * if divided { factor / (self.window_ms as f64 / 1000.0) } else { factor }
                }
            }
        }));
        out.iter().filter(|value| !crate::is_absent(**value)).count()
    }
}
