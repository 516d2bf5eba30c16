//! How many samples selectors looked at: in all, and step by step where the caller wants to know.
//!
//! As Prometheus counts: what is the same at every step counts at each of them, though it is evaluated once; of a subquery
//! count the results that windows are made of. A histogram counts as one sample.

use hashbrown::HashMap;
use pharos_model::StepRange;

use super::StepCounts;
use super::eval::Evaluator;
use super::plan::{Range, RangeSource, TimeShift};
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
    /// At the last one: within a subquery that is the query.
    Last,
    /// Within the subquery of this number, of whose results windows are made: they count, not what they are made of.
    /// What is read for them counts where it is first needed.
    Within(u32),
}

impl Scope {
    /// The same but for the number of the subquery: two that are alike have two.
    pub(super) fn of_any_subquery(self) -> Self {
        if let Self::Within(_) = self { Self::Within(0) } else { self }
    }
}

/// The counts of a query under way.
#[derive(Debug)]
pub(super) struct StepBooks {
    pub(super) counts: StepCounts,
    /// For the steps of each subquery, at which step of the query counts what they read; `None`: at none, as no window
    /// has their results.
    places: HashMap<u32, Vec<Option<usize>>>,
}

impl StepBooks {
    pub(super) fn new(steps: usize) -> Self {
        Self { counts: StepCounts { queryable: vec![0; steps], read: vec![0; steps] }, places: HashMap::default() }
    }

    /// At which step of the query counts what is read at step `at` of an evaluation in this scope.
    fn place(&self, scope: Scope, at: usize) -> Option<usize> {
        match scope {
            Scope::Each => Some(at),
            Scope::Every => Some(0),
            Scope::Last => self.counts.read.len().checked_sub(1),
            Scope::Within(number) => self.places.get(&number)?.get(at).copied().flatten(),
        }
    }
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
        let repeated = match scope {
            Scope::Each | Scope::Last => 1,
            Scope::Every => self.steps.len() as u64,
            Scope::Within(_) => 0,
        };
        self.ledger.count_queryable(queryable.saturating_mul(repeated));
        let Some(books) = &self.step_counts else { return };
        let mut books = books.borrow_mut();
        for (at, looked) in each().iter().enumerate() {
            match scope {
                // Where one instant serves all steps it is read at the first.
                Scope::Every => books.counts.queryable.iter_mut().for_each(|count| *count += looked.queryable),
                Scope::Each | Scope::Last => {
                    if let Some(place) = books.place(scope, at)
                        && let Some(count) = books.counts.queryable.get_mut(place)
                    {
                        *count += looked.queryable;
                    }
                }
                Scope::Within(_) => {}
            }
            if let Some(place) = books.place(scope, at)
                && let Some(count) = books.counts.read.get_mut(place)
            {
                *count += looked.read;
            }
        }
    }

    /// Counts `queryable` samples that the windows of a series look at.
    pub(super) fn count_windows(&self, range: &Range, queryable: u64, samples: &Samples, steps: StepRange) {
        // Results of a subquery are not read: what they are made of was.
        let is_read = !matches!(range.source, RangeSource::Subquery { .. });
        self.count_looked_at(range.scope, queryable, || {
            let mut looked = in_windows(samples, range.time, range.length_ms, steps);
            looked.iter_mut().filter(|_| !is_read).for_each(|looked| looked.read = 0);
            looked
        });
    }

    /// Finds out at which steps of the query counts what the steps `inner` of a subquery read, whose windows are made at
    /// `steps`: at the first whose window has them.
    pub(super) fn place_subquery(&self, range: &Range, steps: StepRange, inner: StepRange) {
        let (Some(books), RangeSource::Subquery { number, .. }) = (&self.step_counts, &range.source) else { return };
        let mut books = books.borrow_mut();
        let place = |step_ms: i64| {
            if steps.len() <= 1 {
                return books.place(range.scope, 0);
            }
            // When the result of this step is asked for.
            let wanted_ms = step_ms.saturating_add(range.time.offset_ms);
            let behind_ms = wanted_ms.saturating_sub(steps.start_ms).max(0);
            let at = (behind_ms.unsigned_abs().div_ceil(steps.step_ms.unsigned_abs()) as usize).min(steps.len() - 1);
            let is_between = wanted_ms <= steps.at(at).saturating_sub(range.length_ms);
            if is_between { None } else { books.place(range.scope, at) }
        };
        let places = inner.iter().map(place).collect();
        books.places.insert(*number, places);
    }
}

/// What the windows of a range vector look at, step by step.
fn in_windows(samples: &Samples, time: TimeShift, range_ms: i64, steps: StepRange) -> Vec<Looked> {
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
