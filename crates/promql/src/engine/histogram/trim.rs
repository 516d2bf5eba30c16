//! Trimming: only the observations below or above a value are kept.
//!
//! Buckets wholly on one side stay or go; the one that holds the value is split, and so is what it adds to the sum,
//! which is estimated afresh from the middles of what is left. Where a bucket has no bound, nothing is known of its
//! observations, and unless the bucket can be taken to begin at zero, they stay or go together.

use pharos_model::{BucketSide, Histogram};

use super::arithmetic::compact;
use super::buckets::{Bounded, Kind, negative, positive, zero};

/// A value that splits observations, and the side that is kept.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: f64,
    keep_below: bool,
    is_linear: bool,
}

/// What is left of a bucket: how many observations, and what each stands for in the sum.
type Left = (f64, f64);

/// Only the observations below (`keep_below`) or above `at`.
pub(in crate::engine) fn trimmed(histogram: &Histogram, at: f64, keep_below: bool) -> Histogram {
    let mut result = histogram.clone();
    result.is_integer = false;
    let cut = Cut { at, keep_below, is_linear: histogram.has_custom_buckets() };
    let (mut count, mut sum, mut was_cut) = (0.0, 0.0, false);
    let mut keep = |old: f64, (kept, value): Left| {
        count += kept;
        sum += value * kept;
        was_cut |= kept != old;
        kept
    };
    let mut keep_side = |buckets: &[Bounded], side: &mut BucketSide| {
        let mut any = false;
        for (bucket, count) in buckets.iter().zip(&mut side.counts).filter(|(bucket, _)| bucket.count != 0.0) {
            any = true;
            *count = keep(bucket.count, cut.bucket(bucket));
        }
        any
    };
    let has_positive = keep_side(&positive(histogram), &mut result.positive);
    let has_negative = keep_side(&negative(histogram), &mut result.negative);
    if histogram.zero_count > 0.0 {
        let mut zero = zero(histogram);
        match (has_negative, has_positive) {
            (false, true) => zero.lower = 0.0,
            (true, false) => zero.upper = 0.0,
            _ => {}
        }
        result.zero_count = keep(zero.count, cut.zero_bucket(&zero));
    }
    if was_cut {
        (result.count, result.sum) = (count, sum);
        compact(&mut result);
    }
    result
}

impl Cut {
    fn bucket(self, bucket: &Bounded) -> Left {
        let Bounded { lower, upper, count, .. } = *bucket;
        let is_positive = matches!(bucket.kind, Kind::Positive(_));
        let (is_whole, is_split) =
            if self.keep_below { (upper <= self.at, lower < self.at) } else { (lower >= self.at, upper > self.at) };
        if is_whole {
            return (count, self.middle(lower, upper, is_positive));
        }
        if !is_split {
            return (0.0, 0.0);
        }
        if lower.is_infinite() || upper.is_infinite() {
            return self.open_bucket(bucket);
        }
        let below = count * self.share_below(bucket, is_positive);
        if self.keep_below {
            (below, self.middle(lower, self.at, is_positive))
        } else {
            (count - below, self.middle(self.at, upper, is_positive))
        }
    }

    fn share_below(self, bucket: &Bounded, is_positive: bool) -> f64 {
        let (lower, upper, at) = (bucket.lower, bucket.upper, self.at);
        if self.is_linear {
            return (at - lower) / (upper - lower);
        }
        let (log_lower, log_upper, log_at) = (lower.abs().log2(), upper.abs().log2(), at.abs().log2());
        if is_positive {
            (log_at - log_lower) / (log_upper - log_lower)
        } else {
            1.0 - (log_at - log_upper) / (log_lower - log_upper)
        }
    }

    /// A bucket without a bound, with the cut inside.
    fn open_bucket(self, bucket: &Bounded) -> Left {
        let Bounded { lower, upper, count, .. } = *bucket;
        let at = self.at;
        if lower == f64::NEG_INFINITY {
            let begins_at_zero = upper > 0.0 && upper.is_finite();
            return match self.keep_below {
                true if at > 0.0 && begins_at_zero => (count * at / upper, at / 2.0),
                true if upper <= 0.0 => (count, at),
                false if at >= 0.0 && begins_at_zero => (count * (1.0 - at / upper), f64::midpoint(at, upper)),
                _ => (0.0, 0.0),
            };
        }
        if self.keep_below { (0.0, 0.0) } else { (count, at) }
    }

    fn zero_bucket(self, bucket: &Bounded) -> Left {
        let Bounded { lower, upper, count, .. } = *bucket;
        let (whole, at) = ((count, f64::midpoint(lower, upper)), self.at);
        match self.keep_below {
            true if at <= lower => (0.0, 0.0),
            true if at >= upper => whole,
            true => (count * ((at - lower) / (upper - lower)), f64::midpoint(lower, at)),
            false if at <= lower => whole,
            false if at >= upper => (0.0, 0.0),
            false => (count * ((upper - at) / (upper - lower)), f64::midpoint(at, upper)),
        }
    }

    /// What observations between two values stand for.
    fn middle(self, lower: f64, upper: f64, is_positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => return 0.0,
            (true, false) => return if upper > 0.0 { upper / 2.0 } else { upper },
            (false, true) => return lower,
            (false, false) => {}
        }
        if self.is_linear {
            return f64::midpoint(lower, upper);
        }
        let root = (lower * upper).abs().sqrt();
        if is_positive { root } else { -root }
    }
}
