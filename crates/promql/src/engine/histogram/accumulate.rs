//! Sums and means of many histograms, compensated number by number as sums of floats are.

use pharos_model::{BucketSide, Histogram, ResetHint};

use super::arithmetic::{Incompatible, divided, join_hints, scale};
use super::buckets::{Buckets, common_bounds, list, reconcile_zero, side, to_schema, with_bounds};
use pharos_grid::Sum;

/// A running sum or mean.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(in crate::engine) struct Accumulator {
    total: Histogram,
    /// What the additions lost, in the buckets of `total`.
    lost: Histogram,
    count: f64,
    is_mean: bool,
    /// The sum would overflow: `total` is the mean itself.
    is_incremental: bool,
    saw_reset: bool,
    saw_no_reset: bool,
}

impl Accumulator {
    pub(in crate::engine) fn starting_at(first: &Histogram, is_mean: bool) -> Self {
        let mut total = first.clone();
        total.is_integer = false;
        let lost = Histogram {
            zero_threshold: total.zero_threshold,
            custom_bounds: total.custom_bounds.clone(),
            ..Histogram::empty(total.schema)
        };
        let mut this =
            Self { total, lost, count: 1.0, is_mean, is_incremental: false, saw_reset: false, saw_no_reset: false };
        this.see_hint(first);
        this
    }

    fn see_hint(&mut self, histogram: &Histogram) {
        self.saw_reset |= histogram.reset_hint == ResetHint::Reset;
        self.saw_no_reset |= histogram.reset_hint == ResetHint::NotReset;
    }

    /// Whether some samples say "reset" and others "no reset".
    pub(in crate::engine) fn has_conflicting_resets(&self) -> bool {
        self.saw_reset && self.saw_no_reset
    }

    /// Adds one more; `true` if custom bounds had to be reconciled.
    pub(in crate::engine) fn add(&mut self, next: &Histogram) -> Result<bool, Incompatible> {
        if self.total.has_custom_buckets() != next.has_custom_buckets() {
            return Err(Incompatible);
        }
        self.see_hint(next);
        self.count += 1.0;
        let mut next = next.clone();
        let reconciled = self.align(&mut next);
        join_hints(&mut self.total, &next);
        if self.is_mean && !self.is_incremental {
            let (total, lost) = added(&self.total, &self.lost, &next);
            if !overflows(&total) {
                (self.total, self.lost) = (total, lost);
                return Ok(reconciled);
            }
            self.is_incremental = true;
            self.total = divided(&self.total, self.count - 1.0);
            self.lost = divided(&self.lost, self.count - 1.0);
        }
        if self.is_incremental {
            let keep = (self.count - 1.0) / self.count;
            scale(&mut self.total, keep);
            scale(&mut self.lost, keep);
            next = divided(&next, self.count);
        }
        (self.total, self.lost) = added(&self.total, &self.lost, &next);
        Ok(reconciled)
    }

    /// The sum or mean, empty buckets left out.
    pub(in crate::engine) fn finish(self) -> Histogram {
        let by = if self.is_mean && !self.is_incremental { self.count } else { 1.0 };
        let (total, lost) = (&self.total, &self.lost);
        let settled = |total: f64, lost: f64| total / by + lost / by;
        let settled_side =
            |total: &BucketSide, lost: &BucketSide| side(&super::buckets::joined(&list(total), &list(lost), settled));
        Histogram {
            count: settled(total.count, lost.count),
            sum: settled(total.sum, lost.sum),
            zero_count: settled(total.zero_count, lost.zero_count),
            positive: settled_side(&total.positive, &lost.positive),
            negative: settled_side(&total.negative, &lost.negative),
            ..total.clone()
        }
    }

    /// Gives all three the same buckets.
    fn align(&mut self, next: &mut Histogram) -> bool {
        if self.total.has_custom_buckets() {
            if self.total.custom_bounds == next.custom_bounds {
                return false;
            }
            let bounds = common_bounds(&self.total.custom_bounds, &next.custom_bounds);
            for histogram in [&mut self.total, &mut self.lost, next] {
                with_bounds(histogram, &bounds);
            }
            return true;
        }
        reconcile_zero(&mut self.total, next);
        reconcile_zero(&mut self.total, &mut self.lost);
        reconcile_zero(&mut self.total, next);
        let schema = self.total.schema.min(next.schema);
        for histogram in [&mut self.total, &mut self.lost, next] {
            to_schema(histogram, schema);
        }
        false
    }
}

fn overflows(histogram: &Histogram) -> bool {
    let numbers = [histogram.count, histogram.sum, histogram.zero_count];
    let counts = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    numbers.iter().chain(counts).any(|number| number.is_infinite())
}

/// Total and loss after adding `next`.
fn added(total: &Histogram, lost: &Histogram, next: &Histogram) -> (Histogram, Histogram) {
    let add = |total: f64, lost: f64, next: f64| {
        let mut sum = Sum { total, lost };
        sum.add(next);
        (sum.total, sum.lost)
    };
    let add_sides = |total: &BucketSide, lost: &BucketSide, next: &BucketSide| {
        let (total, lost, next) = (list(total), list(lost), list(next));
        let mut indexes: Vec<i32> = [&total, &lost, &next].into_iter().flatten().map(|(index, _)| *index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let (mut totals, mut losses): (Buckets, Buckets) = (Vec::new(), Vec::new());
        for index in indexes {
            let (sum, loss) = add(count_at(&total, index), count_at(&lost, index), count_at(&next, index));
            totals.push((index, sum));
            losses.push((index, loss));
        }
        (side(&totals), side(&losses))
    };
    let (mut new_total, mut new_lost) = (total.clone(), lost.clone());
    (new_total.count, new_lost.count) = add(total.count, lost.count, next.count);
    (new_total.sum, new_lost.sum) = add(total.sum, lost.sum, next.sum);
    (new_total.zero_count, new_lost.zero_count) = add(total.zero_count, lost.zero_count, next.zero_count);
    (new_total.positive, new_lost.positive) = add_sides(&total.positive, &lost.positive, &next.positive);
    (new_total.negative, new_lost.negative) = add_sides(&total.negative, &lost.negative, &next.negative);
    (new_total, new_lost)
}

fn count_at(buckets: &[(i32, f64)], index: i32) -> f64 {
    buckets.binary_search_by_key(&index, |(index, _)| *index).map_or(0.0, |at| buckets[at].1)
}
