//! Steps that cannot have a value: their windows lie before the first sample of all sources, or after the last one.
//!
//! A range that begins before its series did, or reaches into the future, costs no more than the part of it that has
//! samples.

use pharos_grid::ABSENT;
use pharos_model::{StepRange, TimeRange};
use pharos_storage::GridPlan;

use crate::source::Source;

/// A plan without such steps.
#[derive(Debug)]
pub(crate) struct Narrowed {
    pub(crate) plan: GridPlan,
    /// How many steps were left out at either end.
    before: usize,
    after: usize,
}

impl Narrowed {
    /// For series of these sources. A plan of which nothing would be left stays as it is.
    pub(crate) fn new(plan: &GridPlan, sources: &[Source]) -> Self {
        let extents = sources.iter().map(Source::extent).filter(|extent| !extent.is_empty());
        let whole = extents.reduce(|a, b| TimeRange::new(a.start_ms.min(b.start_ms), a.end_ms.max(b.end_ms)));
        let steps = plan.steps;
        let (first, behind) = whole.map_or((0, steps.len()), |extent| within(plan, extent));
        if first >= behind {
            return Self { plan: plan.clone(), before: 0, after: 0 };
        }
        let narrow = StepRange { start_ms: steps.at(first), end_ms: steps.at(behind - 1), step_ms: steps.step_ms };
        let plan = GridPlan { matchers: plan.matchers.clone(), steps: narrow, ..*plan };
        Self { plan, before: first, after: steps.len() - behind }
    }

    /// Values of the steps that are left as values of all.
    pub(crate) fn widen(&self, values: &[f64]) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.before + values.len() + self.after);
        all.resize(self.before, ABSENT);
        all.extend_from_slice(values);
        all.resize(self.before + values.len() + self.after, ABSENT);
        all
    }
}

/// From the first step whose window ends within the extent or later, to behind the last whose window begins before its
/// end.
fn within(plan: &GridPlan, extent: TimeRange) -> (usize, usize) {
    let GridPlan { steps, offset_ms, window_ms, .. } = plan;
    // How many steps are before an instant.
    let before = |at_ms: i64| {
        let distance = i128::from(at_ms) - i128::from(steps.start_ms);
        let count = (distance + i128::from(steps.step_ms) - 1).div_euclid(i128::from(steps.step_ms));
        usize::try_from(count.max(0)).map_or(steps.len(), |count| count.min(steps.len()))
    };
    let first_end_ms = extent.start_ms.saturating_add(*offset_ms);
    let last_begin_ms = extent.end_ms.saturating_sub(1).saturating_add(*offset_ms).saturating_add(*window_ms);
    (before(first_end_ms), before(last_begin_ms))
}

#[cfg(test)]
mod tests {
    use pharos_storage::RangeFunction;

    use super::*;

    #[test]
    fn steps_that_stay_are_those_whose_windows_meet_the_extent() {
        for (start_ms, step_ms, count) in [(-50, 7, 40), (0, 10, 1), (90, 100, 3), (-300, 1, 700)] {
            for offset_ms in [-13, 0, 21] {
                for window_ms in [1, 10, 45] {
                    let steps = StepRange { start_ms, end_ms: start_ms + (count - 1) * step_ms + step_ms / 2, step_ms };
                    let function = RangeFunction::Rate;
                    let plan = GridPlan { matchers: vec![], function, window_ms, steps, offset_ms, starts_raw: false };
                    for extent in [TimeRange::inclusive(5, 5), TimeRange::inclusive(-20, 80)] {
                        let meets = |at_ms: i64| {
                            let end_ms = at_ms - offset_ms;
                            end_ms - window_ms < extent.end_ms - 1 && extent.start_ms <= end_ms
                        };
                        let (first, behind) = within(&plan, extent);
                        let found: Vec<i64> = (first..behind).map(|at| steps.at(at)).collect();
                        let expected: Vec<i64> = steps.iter().filter(|at_ms| meets(*at_ms)).collect();
                        assert_eq!(found, expected, "{plan:?} {extent:?}");
                    }
                }
            }
        }
    }
}
