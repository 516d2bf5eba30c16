//! What a histogram says about its observations: quantiles, fractions, mean, variance, text; and trimming.

use std::fmt::Write as _;

use pharos_model::Histogram;

use super::buckets::{Bounded, Kind, all, side};
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

/// All buckets, the zero bucket cut to the side on which there are observations.
fn one_sided(histogram: &Histogram) -> Vec<Bounded> {
    let mut buckets = all(histogram);
    let (negative, positive) = (!histogram.negative.counts.is_empty(), !histogram.positive.counts.is_empty());
    for bucket in buckets.iter_mut().filter(|bucket| bucket.kind == Kind::Zero) {
        match (negative, positive) {
            (false, true) => bucket.lower = 0.0,
            (true, false) => bucket.upper = 0.0,
            _ => {}
        }
    }
    buckets
}

/// The φ-quantile.
///
/// Source: Prometheus, `histogram_quantile`: linear in the zero bucket and in custom buckets, on a logarithmic scale
/// in exponential ones.
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
    let buckets = one_sided(histogram);
    let has_nan = histogram.sum.is_nan();
    let from_below = has_nan || phi < 0.5;
    let mut rank = if from_below { phi * histogram.count } else { (1.0 - phi) * histogram.count };
    let (mut seen, mut found) = (0.0, None);
    let order: Box<dyn Iterator<Item = &Bounded>> =
        if from_below { Box::new(buckets.iter()) } else { Box::new(buckets.iter().rev()) };
    for bucket in order {
        seen += bucket.count;
        found = Some(*bucket);
        if seen >= rank {
            break;
        }
    }
    let Some(bucket) = found else { return (f64::NAN, has_nan.then_some(Remark::Result)) };
    seen = seen.min(histogram.count);
    if seen < rank {
        return if has_nan { (f64::NAN, Some(Remark::Result)) } else { (bucket.upper, None) };
    }
    let total: f64 = buckets.iter().map(|bucket| bucket.count).sum();
    let remark = (has_nan && total < histogram.count).then_some(Remark::Skew);
    let mut bucket = bucket;
    if histogram.has_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, remark);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, remark);
        }
    }
    rank = if from_below { rank - (seen - bucket.count) } else { seen - rank };
    (interpolate(&bucket, rank / bucket.count, histogram.has_custom_buckets()), remark)
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

/// The share of a bucket's observations below `value`, which lies inside it.
fn share_below(bucket: &Bounded, value: f64, is_custom: bool) -> f64 {
    let Bounded { lower, upper, .. } = *bucket;
    if is_custom || (lower <= 0.0 && upper >= 0.0) {
        if lower == f64::NEG_INFINITY {
            // Without a lower bound nothing is known but that the observations are not above the upper one.
            return if upper > 0.0 { (value / upper).max(0.0) } else { 1.0 };
        }
        if upper == f64::INFINITY {
            return 0.0;
        }
        return (value - lower) / (upper - lower);
    }
    let (log_lower, log_upper, log_value) = (lower.abs().log2(), upper.abs().log2(), value.abs().log2());
    if value > 0.0 {
        (log_value - log_lower) / (log_upper - log_lower)
    } else {
        1.0 - (log_value - log_upper) / (log_lower - log_upper)
    }
}

/// The share of the observations between two values.
pub(in crate::engine) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, Option<Remark>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    let buckets = one_sided(histogram);
    let total: f64 = buckets.iter().map(|bucket| bucket.count).sum();
    let has_nan = histogram.sum.is_nan() && total < histogram.count;
    let remark = has_nan.then_some(Remark::Fraction);
    if lower >= upper {
        return (0.0, remark);
    }
    let is_custom = histogram.has_custom_buckets();
    let rank = |value: f64| {
        let mut below = 0.0;
        for bucket in &buckets {
            if bucket.lower >= value {
                return below;
            }
            if bucket.upper > value {
                return below + bucket.count * share_below(bucket, value, is_custom);
            }
            below += bucket.count;
        }
        if has_nan { below } else { histogram.count }
    };
    ((rank(upper).min(histogram.count) - rank(lower).min(histogram.count)) / histogram.count, remark)
}

pub(in crate::engine) fn mean(histogram: &Histogram) -> f64 {
    histogram.sum / histogram.count
}

/// Population variance, each bucket represented by one value.
pub(in crate::engine) fn variance(histogram: &Histogram) -> f64 {
    let mean = mean(histogram);
    let mut squares = Sum::default();
    for bucket in all(histogram) {
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

/// Only the observations below (`keep_below`) or above a value; a bucket that holds it is split.
pub(in crate::engine) fn trimmed(histogram: &Histogram, at: f64, keep_below: bool) -> Histogram {
    let mut result = histogram.clone();
    result.is_integer = false;
    if at.is_nan() {
        return result;
    }
    let is_custom = histogram.has_custom_buckets();
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    let (mut count, mut sum) = (Sum::default(), Sum::default());
    let mut was_cut = false;
    result.zero_count = 0.0;
    for bucket in one_sided(histogram) {
        let nowhere = bucket.lower == f64::NEG_INFINITY && bucket.upper == f64::INFINITY;
        let below = if nowhere {
            // Nothing is known of these observations: only a limit at infinity surely keeps them.
            f64::from(u8::from(if keep_below { at == f64::INFINITY } else { at != f64::NEG_INFINITY }))
        } else if bucket.upper <= at {
            1.0
        } else if bucket.lower >= at {
            0.0
        } else {
            share_below(&bucket, at, is_custom)
        };
        let share = if keep_below { below } else { 1.0 - below };
        was_cut |= share < 1.0;
        let kept = bucket.count * share;
        if kept == 0.0 {
            continue;
        }
        count.add(kept);
        let part = if keep_below {
            Bounded { upper: bucket.upper.min(at), ..bucket }
        } else {
            Bounded { lower: bucket.lower.max(at), ..bucket }
        };
        sum.add(kept * middle(&part, is_custom));
        match bucket.kind {
            Kind::Negative(index) => negative.push((index, kept)),
            Kind::Zero => result.zero_count = kept,
            Kind::Positive(index) => positive.push((index, kept)),
        }
    }
    negative.reverse();
    (result.positive, result.negative) = (side(&positive), side(&negative));
    if was_cut {
        (result.count, result.sum) = (count.value(), sum.value());
    }
    result
}

fn middle(part: &Bounded, is_custom: bool) -> f64 {
    let Bounded { lower, upper, kind, .. } = *part;
    if is_custom || kind == Kind::Zero {
        return match (lower.is_infinite(), upper.is_infinite()) {
            (true, _) if upper > 0.0 => upper / 2.0,
            (true, _) => upper,
            (_, true) => lower,
            _ => f64::midpoint(lower, upper),
        };
    }
    let root = (lower.abs() * upper.abs()).sqrt();
    if upper <= 0.0 { -root } else { root }
}

/// The text that `count_values` puts into its label.
pub(in crate::engine) fn text(histogram: &Histogram) -> String {
    let mut text = format!("{{count:{}, sum:{}", go_g(histogram.count), go_g(histogram.sum));
    for bucket in all(histogram) {
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
