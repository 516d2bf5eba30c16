//! What a histogram says about its observations: quantiles, fractions, mean, variance, text.

use std::fmt::Write as _;

use pharos_model::Histogram;

use super::buckets::{Bounded, Kind, all, negative, positive, zero};
use crate::engine::gofmt::go_g;
use pharos_grid::Sum;

/// What must be said about an answer where there are observations of NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Remark {
    /// They make the answer NaN.
    Result,
    /// They count as if they were larger than all others.
    Skew,
    /// They belong to no fraction.
    Fraction,
}

/// Cuts a bucket around zero to the side on which there are observations.
fn one_sided(histogram: &Histogram, bucket: &mut Bounded) {
    match (histogram.negative.counts.is_empty(), histogram.positive.counts.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// The φ-quantile.
///
/// Source: Prometheus, `histogram_quantile`: linear in the zero bucket and in custom buckets, on a logarithmic scale
/// in exponential ones. The order of the tests matters for histograms whose count is not that of their buckets.
pub(in crate::engine) fn quantile(phi: f64, histogram: &Histogram) -> (f64, Option<Remark>) {
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || phi.is_nan() {
        return (f64::NAN, None);
    }
    let is_custom = histogram.has_custom_buckets();
    let has_nan = histogram.sum.is_nan();
    let from_below = has_nan || phi < 0.5;
    let rank = if from_below { phi * histogram.count } else { (1.0 - phi) * histogram.count };
    let mut buckets = all(histogram);
    if !from_below {
        buckets.reverse();
    }
    let mut seen = 0.0;
    let reached = buckets.iter().position(|bucket| {
        seen += bucket.count;
        bucket.count != 0.0 && seen >= rank
    });
    // Without any bucket nothing is known but where there is nothing: at 0.
    let nothing = Bounded { lower: 0.0, upper: 0.0, count: 0.0, kind: Kind::Zero };
    let mut bucket = reached.map_or(buckets.last(), |at| buckets.get(at)).copied().unwrap_or(nothing);
    if is_custom && bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return (bucket.upper, None);
        }
        bucket.lower = 0.0;
    } else if is_custom && bucket.upper == f64::INFINITY {
        return (bucket.lower, None);
    } else if !is_custom && bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(histogram, &mut bucket);
    }
    seen = seen.min(histogram.count);
    if seen < rank {
        return if has_nan { (f64::NAN, Some(Remark::Result)) } else { (bucket.upper, None) };
    }
    let inside = if from_below { rank - (seen - bucket.count) } else { seen - rank };
    let behind = &buckets[reached.map_or(buckets.len(), |at| at + 1)..];
    let total = behind.iter().fold(seen, |total, bucket| total + bucket.count);
    let remark = (has_nan && total < histogram.count).then_some(Remark::Skew);
    (interpolate(&bucket, inside / bucket.count, is_custom), remark)
}

/// The value that lies `share` of the observations into the bucket.
fn interpolate(bucket: &Bounded, share: f64, is_custom: bool) -> f64 {
    let Bounded { lower, upper, .. } = *bucket;
    if is_custom || (lower <= 0.0 && upper >= 0.0) {
        return lower + (upper - lower) * share;
    }
    let (log_lower, log_upper) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 {
        (log_lower + (log_upper - log_lower) * share).exp2()
    } else {
        -(log_upper + (log_lower - log_upper) * (1.0 - share)).exp2()
    }
}

/// How many observations lie below `value`, which is inside `bucket`; `below` lie below the bucket.
fn rank_inside(below: f64, bucket: &Bounded, value: f64, is_linear: bool) -> f64 {
    let Bounded { lower, upper, count, .. } = *bucket;
    if is_linear {
        // Without a lower bound nothing is known of where they lie: all count as lower.
        return if lower == f64::NEG_INFINITY { count } else { below + count * (value - lower) / (upper - lower) };
    }
    let (log_lower, log_upper, log_value) = (lower.abs().log2(), upper.abs().log2(), value.abs().log2());
    let share = if value > 0.0 {
        (log_value - log_lower) / (log_upper - log_lower)
    } else {
        1.0 - (log_value - log_upper) / (log_lower - log_upper)
    };
    below + count * share
}

/// The share of the observations between two values.
pub(in crate::engine) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, Option<Remark>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let mut buckets = all(histogram);
    let (mut count, mut remark) = (histogram.count, None);
    if histogram.sum.is_nan() {
        // Observations of NaN are counted but lie in no bucket.
        count = buckets.iter().fold(0.0, |total, bucket| total + bucket.count);
        remark = (count < histogram.count).then_some(Remark::Fraction);
    }
    for bucket in buckets.iter_mut().filter(|bucket| bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        one_sided(histogram, bucket);
    }
    let rank = |value: f64| {
        let mut below = 0.0;
        for bucket in &buckets {
            if bucket.lower >= value {
                return below;
            }
            if bucket.upper > value {
                let holds_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
                return rank_inside(below, bucket, value, histogram.has_custom_buckets() || holds_zero);
            }
            below += bucket.count;
        }
        count
    };
    ((rank(upper).min(count) - rank(lower).min(count)) / histogram.count, remark)
}

pub(in crate::engine) fn mean(histogram: &Histogram) -> f64 {
    histogram.sum / histogram.count
}

/// Population variance, each bucket represented by one value.
pub(in crate::engine) fn variance(histogram: &Histogram) -> f64 {
    let mean = mean(histogram);
    let mut squares = Sum::default();
    for bucket in all(histogram).into_iter().filter(|bucket| bucket.count != 0.0) {
        let distance = representative(&bucket, histogram) - mean;
        squares.add(bucket.count * distance * distance);
    }
    squares.value() / histogram.count
}

/// Middle of a custom bucket, 0 for the zero bucket, geometric mean of an exponential one.
fn representative(bucket: &Bounded, histogram: &Histogram) -> f64 {
    if histogram.has_custom_buckets() {
        return f64::midpoint(bucket.lower, bucket.upper);
    }
    match bucket.kind {
        Kind::Zero => 0.0,
        Kind::Positive(_) => (bucket.lower * bucket.upper).sqrt(),
        Kind::Negative(_) => -(bucket.lower * bucket.upper).sqrt(),
    }
}

/// The text that `count_values` puts into its label.
pub(in crate::engine) fn text(histogram: &Histogram) -> String {
    let mut text = format!("{{count:{}, sum:{}", go_g(histogram.count), go_g(histogram.sum));
    let negative = negative(histogram).into_iter().rev();
    let buckets = negative.chain([zero(histogram)]).chain(positive(histogram));
    for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
        let (open, close) = match bucket.kind {
            Kind::Negative(_) => ('[', ')'),
            Kind::Zero => ('[', ']'),
            Kind::Positive(0) if histogram.has_custom_buckets() => ('[', ']'),
            Kind::Positive(_) => ('(', ']'),
        };
        let (lower, upper, count) = (go_g(bucket.lower), go_g(bucket.upper), go_g(bucket.count));
        let _ = write!(text, ", {open}{lower},{upper}{close}:{count}");
    }
    text.push('}');
    text
}
