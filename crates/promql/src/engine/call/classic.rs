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

/// Sorts the buckets and joins equal bounds; whether they are complete: the last one unbounded.
fn in_order(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|later, earlier| {
        let same = later.upper == earlier.upper;
        if same {
            earlier.count += later.count;
        }
        same
    });
    buckets.last().is_some_and(|last| last.upper == f64::INFINITY)
}

/// Makes cumulative counts rise.
fn repair(buckets: &mut [Bucket]) -> Option<Repair> {
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

/// The φ-quantile; tells how counts that fall had to be repaired, if it had to look at them.
pub(super) fn quantile(phi: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Repair>) {
    if phi.is_nan() {
        return (f64::NAN, None);
    }
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if !in_order(buckets) {
        return (f64::NAN, None);
    }
    let repair = repair(buckets);
    (quantile_in(phi, buckets), repair)
}

/// The φ-quantile of complete buckets with rising counts.
fn quantile_in(phi: f64, buckets: &[Bucket]) -> f64 {
    let last = buckets.len() - 1;
    let total = buckets[last].count;
    if last == 0 || total == 0.0 {
        return f64::NAN;
    }
    let rank = phi * total;
    // NaN reaches no rank: it is as if it were less.
    let reaches = |bucket: &Bucket| bucket.count >= rank;
    let at = buckets[..last].partition_point(|bucket| !reaches(bucket));
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

/// The share of observations between `lower` and `upper`; counts are taken as they are, falling or not.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !in_order(buckets) {
        return f64::NAN;
    }
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64| {
        let rank = rank(value, buckets);
        if rank > total { total } else { rank }
    };
    (rank(upper) - rank(lower)) / total
}

/// How many observations lie below `value`, by linear interpolation within a bucket.
fn rank(value: f64, buckets: &[Bucket]) -> f64 {
    let (mut below, mut lower) = (0.0, if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY });
    for bucket in buckets {
        if lower >= value {
            return below;
        }
        if bucket.upper > value {
            if lower == f64::NEG_INFINITY {
                return bucket.count;
            }
            return below + (bucket.count - below) * (value - lower) / (bucket.upper - lower);
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
            assert_eq!(quantile(phi, &mut list.clone()), (expected, None), "{phi}");
        }
        assert!(quantile(0.5, &mut list[..2].to_vec()).0.is_nan(), "without the unbounded bucket");
        assert_eq!(quantile(0.1, &mut buckets(&[(-1.0, 10.0), (f64::INFINITY, 20.0)])).0, -1.0);
    }

    #[test]
    fn falling_counts_are_levelled_and_told() {
        let mut list = buckets(&[(f64::INFINITY, 9.0), (1.0, 10.0), (2.0, 8.0), (2.0, 1.5)]);
        assert_eq!(quantile(2.0, &mut list.clone()).1, None, "not looked at");
        let repair = quantile(0.5, &mut list).1.unwrap();
        assert_eq!(list, buckets(&[(1.0, 10.0), (2.0, 10.0), (f64::INFINITY, 10.0)]));
        assert_eq!((repair.first_bound, repair.last_bound, repair.largest_drop), (2.0, f64::INFINITY, 1.0));
    }

    #[test]
    fn fractions_are_differences_of_ranks() {
        let mut list = buckets(&[(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)]);
        assert_eq!(fraction(0.0, 1.5, &mut list), 0.5);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &mut list), 1.0);
        assert_eq!(fraction(2.0, 1.0, &mut list), 0.0);
        assert_eq!(fraction(0.0, 1.0, &mut buckets(&[(f64::INFINITY, 40.0)])), 0.0);
        assert_eq!(fraction(0.0, 2.0, &mut buckets(&[(1.0, 20.0), (2.0, 10.0), (f64::INFINITY, 40.0)])), 0.25);
    }
}
