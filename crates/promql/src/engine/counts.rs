//! How many samples selectors looked at: in all, and step by step where the caller wants to know.
//!
//! As Prometheus counts: what is the same at every step counts at each of them, though it is evaluated once; what
//! a subquery's inner expression looks at counts at the last step.

use pharos_model::StepRange;

use super::StepCounts;
use super::eval::Evaluator;
use super::plan::TimeShift;
use super::select::Samples;
use super::window::Slider;

/// At which steps of the query counts what a selector looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// At its own.
    #[default]
    Each,
    /// At every one: evaluated once for all.
    Every,
    /// At the last one: within a subquery.
    Last,
}

/// Samples that one step looked at, and those of them that no step before had looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) queryable: u64,
    pub(super) read: u64,
}

impl Looked {
    /// Samples that are looked for afresh at each step.
    pub(super) fn afresh(samples: usize) -> Self {
        Self { queryable: samples as u64, read: samples as u64 }
    }
}

impl Evaluator<'_> {
    /// Counts `queryable` samples over all steps of a selector; `each` tells them step by step.
    pub(super) fn count_looked_at(&self, scope: Scope, queryable: u64, each: impl FnOnce() -> Vec<Looked>) {
        let repeated = if scope == Scope::Every { self.steps.len() as u64 } else { 1 };
        self.ledger.count_queryable(queryable.saturating_mul(repeated));
        let Some(counts) = &self.step_counts else { return };
        let mut counts = counts.borrow_mut();
        let StepCounts { queryable, read } = &mut *counts;
        let each = each();
        match scope {
            // Where one instant serves all steps it is read at the first.
            Scope::Every => {
                let whole: u64 = each.iter().map(|looked| looked.queryable).sum();
                for count in queryable.iter_mut().chain(read.first_mut()) {
                    *count += whole;
                }
            }
            Scope::Each => {
                for (at, looked) in each.iter().enumerate().take(queryable.len()) {
                    queryable[at] += looked.queryable;
                    read[at] += looked.read;
                }
            }
            Scope::Last => {
                if let (Some(queryable), Some(read)) = (queryable.last_mut(), read.last_mut()) {
                    *queryable += each.iter().map(|looked| looked.queryable).sum::<u64>();
                    *read += each.iter().map(|looked| looked.read).sum::<u64>();
                }
            }
        }
    }
}

/// What the windows of a range vector look at, step by step.
pub(super) fn in_windows(samples: &Samples, time: TimeShift, range_ms: i64, steps: StepRange) -> Vec<Looked> {
    let mut slider = Slider::new(samples, time, range_ms);
    let mut before_ms = i64::MIN;
    let looked = steps.iter().map(|step| {
        let window = slider.window(step);
        let new_from =
            |len: usize, time: &dyn Fn(usize) -> i64| (0..len).rev().take_while(|at| time(*at) > before_ms).count();
        let floats = new_from(window.times_ms.len(), &|at| window.times_ms[at]);
        let histograms = new_from(window.histograms.len(), &|at| window.histograms[at].timestamp_ms);
        before_ms = window.end_ms;
        let queryable = window.values.len() + window.histograms.len();
        Looked { queryable: queryable as u64, read: (floats + histograms) as u64 }
    });
    looked.collect()
}
