//! Which buckets a query may use: whole ones, that no edge of a window cuts.

use std::ops::Range;

use pharos_model::TimeRange;
use pharos_storage::GridPlan;

use super::Resolution;

/// A query whose windows cut more buckets reads samples: it would decode most chunks for their sake.
const CUT_MAX: usize = 4;
/// Fewer buckets are not worth a look at another file.
const BUCKETS_MIN: i64 = 2;

/// Buckets of one resolution for one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(super) resolution: Resolution,
    /// By number, ascending, disjoint, none empty.
    pub(super) buckets: Vec<Range<i64>>,
    /// The rest of the query's range.
    pub(super) gaps: Vec<TimeRange>,
    /// Where windows leave buckets out between them.
    pub(super) sparse: Option<Sparse>,
}

/// Windows of whole buckets that are shorter than the distance of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "units stand last")]
pub(super) struct Sparse {
    /// Where the first window ends.
    first_ms: i64,
    step_ms: i64,
    window_ms: i64,
}

impl Sparse {
    fn of(plan: &GridPlan) -> Option<Self> {
        let (first_ms, step_ms, window_ms) =
            (plan.steps.start_ms.checked_sub(plan.offset_ms)?, plan.steps.step_ms, plan.window_ms);
        (plan.steps.len() > 1 && window_ms < step_ms).then_some(Self { first_ms, step_ms, window_ms })
    }

    /// Whether a bucket that ends at this instant lies in a window.
    pub(super) fn has(self, end_ms: i64) -> bool {
        self.first_ms.wrapping_sub(end_ms).rem_euclid(self.step_ms) < self.window_ms
    }
}

impl Coverage {
    /// The buckets that a plan may use in `range`, which is what retention leaves of the plan's; `None` if that is not worth it.
    pub(crate) fn of(plan: &GridPlan, range: TimeRange, resolution: Resolution) -> Option<Self> {
        let length = resolution.ms();
        // Whole buckets of the range: from the first that begins in it to the last that ends in it.
        let first = resolution.bucket_of(range.start_ms.saturating_sub(1)) + 1;
        let end = range.end_ms.saturating_sub(1).div_euclid(length);
        let cut = cut_buckets(plan, resolution)?;
        let sparse = if cut.is_empty() { Sparse::of(plan) } else { None };
        if range.is_empty() || end.saturating_sub(first) < BUCKETS_MIN {
            return None;
        }
        let mut buckets = Vec::new();
        let mut from = first;
        for bucket in cut.into_iter().filter(|bucket| (first..end).contains(bucket)).chain([end]) {
            if from < bucket {
                buckets.push(from..bucket);
            }
            from = bucket + 1;
        }
        let mut gaps = Vec::new();
        let mut from_ms = range.start_ms;
        for covered in &buckets {
            gaps.push(TimeRange::new(from_ms, covered.start * length + 1));
            from_ms = covered.end * length + 1;
        }
        gaps.push(TimeRange::new(from_ms, range.end_ms));
        gaps.retain(|gap| !gap.is_empty());
        (!buckets.is_empty()).then_some(Self { resolution, buckets, gaps, sparse })
    }
}

/// Buckets that a window's edge lies within, ascending; `None` if there are too many.
fn cut_buckets(plan: &GridPlan, resolution: Resolution) -> Option<Vec<i64>> {
    let length = resolution.ms();
    let is_aligned = |ms: i64| ms.rem_euclid(length) == 0;
    let first_ms = plan.steps.start_ms.checked_sub(plan.offset_ms)?;
    let steps = plan.steps.len();
    let mut cut = Vec::new();
    if is_aligned(first_ms) && is_aligned(plan.window_ms) && (steps == 1 || is_aligned(plan.steps.step_ms)) {
        return Some(cut);
    }
    for step in 0..steps {
        let end_ms = plan.steps.at(step).checked_sub(plan.offset_ms)?;
        for edge_ms in [end_ms.checked_sub(plan.window_ms)?, end_ms] {
            let bucket = resolution.bucket_of(edge_ms);
            if !is_aligned(edge_ms) && !cut.contains(&bucket) {
                cut.push(bucket);
            }
        }
        if cut.len() > CUT_MAX {
            return None;
        }
    }
    cut.sort_unstable();
    Some(cut)
}

#[cfg(test)]
mod tests {
    use pharos_grid::RangeFunction;
    use pharos_model::StepRange;

    use super::*;

    const HOUR: i64 = 3_600_000;
    const FIVE: i64 = 300_000;

    fn one(range: Range<i64>) -> Vec<Range<i64>> {
        std::iter::once(range).collect()
    }

    fn coverage(window_ms: i64, steps: (i64, i64, i64), offset_ms: i64, resolution: Resolution) -> Option<Coverage> {
        let (start_ms, end_ms, step_ms) = steps;
        let steps = StepRange { start_ms, end_ms, step_ms };
        let function = RangeFunction::Increase;
        let plan = GridPlan { matchers: Vec::new(), function, window_ms, steps, offset_ms, starts_raw: false };
        Coverage::of(&plan, plan.read_range(), resolution)
    }

    #[test]
    fn whole_hours_at_every_hour_are_covered_without_gaps() {
        let found = coverage(HOUR, (10 * HOUR, 20 * HOUR, HOUR), 0, Resolution::Hour).unwrap();
        assert_eq!((found.buckets.as_slice(), found.gaps.as_slice()), (one(9..20).as_slice(), [].as_slice()));
        let found = coverage(2 * HOUR, (10 * HOUR + FIVE, 20 * HOUR, HOUR), FIVE, Resolution::Hour).unwrap();
        assert_eq!(found.buckets, one(8..19), "shifted by its offset");
    }

    #[test]
    fn other_windows_steps_and_starts_are_not() {
        for (window, start, step, offset) in [
            (HOUR + 1, 10 * HOUR, HOUR, 0),
            (HOUR, 10 * HOUR + 1, HOUR, 0),
            (HOUR, 10 * HOUR, HOUR / 2, 0),
            (HOUR, 10 * HOUR, HOUR, 7),
        ] {
            assert_eq!(coverage(window, (start, 20 * HOUR, step), offset, Resolution::Hour), None);
        }
        assert!(coverage(HOUR, (10 * HOUR, 20 * HOUR, HOUR / 2), 0, Resolution::FiveMinutes).is_some());
        assert!(coverage(FIVE, (10 * HOUR, 20 * HOUR, HOUR), 0, Resolution::FiveMinutes).is_some());
        assert_eq!(coverage(FIVE, (10 * HOUR, 20 * HOUR, HOUR), 0, Resolution::Hour), None);
    }

    #[test]
    fn a_single_long_window_is_covered_but_for_its_ends() {
        let at_ms = 100 * HOUR + 7;
        let found = coverage(48 * HOUR, (at_ms, at_ms, 1), 0, Resolution::Hour).unwrap();
        assert_eq!(found.buckets, one(53..100));
        let ends = [TimeRange::new(52 * HOUR + 8, 53 * HOUR + 1), TimeRange::new(100 * HOUR + 1, at_ms + 1)];
        assert_eq!(found.gaps, ends);
    }

    #[test]
    fn retention_leaves_whole_buckets_only() {
        let steps = StepRange { start_ms: 10 * HOUR, end_ms: 20 * HOUR, step_ms: HOUR };
        let function = RangeFunction::Increase;
        let plan = GridPlan { matchers: Vec::new(), function, window_ms: HOUR, steps, offset_ms: 0, starts_raw: false };
        let of = |start_ms: i64| {
            let range = TimeRange::new(start_ms, plan.read_range().end_ms);
            Coverage::of(&plan, range, Resolution::Hour).unwrap()
        };
        assert_eq!(of(12 * HOUR + 1).buckets, one(12..20));
        assert_eq!(of(12 * HOUR + 1).gaps, []);
        assert_eq!(of(12 * HOUR + 2).buckets, one(13..20));
        assert_eq!(of(12 * HOUR).gaps, [TimeRange::new(12 * HOUR, 12 * HOUR + 1)]);
        assert_eq!(Coverage::of(&plan, TimeRange::new(5, 5), Resolution::Hour), None);
    }
}
