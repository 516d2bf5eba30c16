//! Quantiles and fractions of classic histograms: cumulative counts in series of a label `le`.

/// A bucket: all observations up to a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) upper: f64,
    /// Cumulative.
    pub(super) count: f64,
}

/// How buckets were repaired because cumulative counts fell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Repair {
    pub(super) first_bound: f64,
    pub(super) last_bound: f64,
    pub(super) largest_drop: f64,
}

/// Relative differences up to this are rounding, not falling counts.
const TOLERANCE: f64 = 1e-12;

/// Sorts the buckets, joins equal bounds and makes the counts rise. Call before asking anything.
pub(super) fn prepare(buckets: &mut Vec<Bucket>) -> Option<Repair> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|later, earlier| {
        let same = later.upper == earlier.upper;
        if same {
            earlier.count += later.count;
        }
        same
    });
    let mut repair: Option<Repair> = None;
    let mut previous = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if bucket.count < previous && !almost_equal(bucket.count, previous) {
            let drop = previous - bucket.count;
            let repair = repair.get_or_insert(Repair {
                first_bound: bucket.upper,
                last_bound: bucket.upper,
                largest_drop: drop,
            });
            repair.last_bound = bucket.upper;
            repair.largest_drop = repair.largest_drop.max(drop);
        }
        // Tiny differences in either direction are levelled as well, so that they cannot shift a rank.
        if bucket.count < previous || almost_equal(bucket.count, previous) {
            bucket.count = previous;
        }
        previous = bucket.count;
    }
    repair
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (difference, magnitude) = ((a - b).abs(), a.abs() + b.abs());
    if a == 0.0 || b == 0.0 || magnitude < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / magnitude.min(f64::MAX) < TOLERANCE
}

/// Whether the buckets are enough to say anything: at least two, the last one unbounded.
fn is_complete(buckets: &[Bucket]) -> bool {
    buckets.len() >= 2 && buckets.last().is_some_and(|last| last.upper == f64::INFINITY)
}

/// The φ-quantile of prepared buckets.
pub(super) fn quantile(phi: f64, buckets: &[Bucket]) -> f64 {
    if phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    if !is_complete(buckets) {
        return f64::NAN;
    }
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || total.is_nan() {
        return f64::NAN;
    }
    let rank = phi * total;
    let last = buckets.len() - 1;
    let at = buckets[..last].iter().position(|bucket| bucket.count >= rank).unwrap_or(last);
    if at == last {
        return buckets[last - 1].upper;
    }
    let Bucket { upper, count } = buckets[at];
    if at == 0 && upper <= 0.0 {
        return upper;
    }
    let (lower, below) = if at == 0 { (0.0, 0.0) } else { (buckets[at - 1].upper, buckets[at - 1].count) };
    lower + (upper - lower) * ((rank - below) / (count - below))
}

/// The share of observations between `lower` and `upper`, of prepared buckets.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    if !is_complete(buckets) {
        return f64::NAN;
    }
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || total.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets) - rank(lower, buckets)) / total
}

/// How many observations lie below `value`, by linear interpolation within a bucket.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let (mut below, mut lower) = (0.0, if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY });
    for bucket in buckets {
        if value < bucket.upper || value == f64::INFINITY && bucket.upper == f64::INFINITY {
            if value <= lower {
                return below;
            }
            if value == f64::INFINITY {
                return bucket.count;
            }
            if lower.is_infinite() || bucket.upper.is_infinite() {
                return below;
            }
            return below + (bucket.count - below) * ((value - lower) / (bucket.upper - lower));
        }
        (below, lower) = (bucket.count, bucket.upper);
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[(f64, f64)]) -> Vec<Bucket> {
        counts.iter().map(|(upper, count)| Bucket { upper: *upper, count: *count }).collect()
    }

    #[test]
    fn quantiles_are_interpolated_within_a_bucket() {
        let list = buckets(&[(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)]);
        for (phi, expected) in [(0.125, 0.5), (0.5, 1.5), (0.9, 2.0), (0.0, 0.0)] {
            assert_eq!(quantile(phi, &list), expected, "{phi}");
        }
        assert!(quantile(0.5, &list[..2]).is_nan(), "without the unbounded bucket");
        assert_eq!(quantile(0.1, &buckets(&[(-1.0, 10.0), (f64::INFINITY, 20.0)])), -1.0);
    }

    #[test]
    fn falling_counts_are_levelled_and_told() {
        let mut list = buckets(&[(f64::INFINITY, 9.0), (1.0, 10.0), (2.0, 8.0), (2.0, 1.5)]);
        let repair = prepare(&mut list).unwrap();
        assert_eq!(list, buckets(&[(1.0, 10.0), (2.0, 10.0), (f64::INFINITY, 10.0)]));
        assert_eq!((repair.first_bound, repair.last_bound, repair.largest_drop), (2.0, f64::INFINITY, 1.0));
    }

    #[test]
    fn fractions_are_differences_of_ranks() {
        let list = buckets(&[(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)]);
        assert_eq!(fraction(0.0, 1.5, &list), 0.5);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &list), 1.0);
        assert_eq!(fraction(2.0, 1.0, &list), 0.0);
    }
}
