//! Quantiles of lists of floats.

use std::cmp::Ordering;

/// Lists up to this length are sorted: that costs no more than to find one rank.
const SORTED_VALUES_MAX: usize = 32;

/// The φ-quantile by linear interpolation between ranks; NaN counts as the smallest value. Reorders `values`.
pub(super) fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    let rank = phi * (values.len() - 1) as f64;
    let weight = rank - rank.floor();
    let (low, high) = at_rank(rank.floor().max(0.0) as usize, values);
    low * (1.0 - weight) + high * weight
}

/// The value of a rank and the next one; of the last rank the same twice.
fn at_rank(rank: usize, values: &mut [f64]) -> (f64, f64) {
    let order = |a: &f64, b: &f64| nan_first(*a, *b);
    if values.len() <= SORTED_VALUES_MAX {
        values.sort_unstable_by(order);
        return (values[rank], values[(rank + 1).min(values.len() - 1)]);
    }
    let (_, low, above) = values.select_nth_unstable_by(rank, order);
    (*low, above.iter().copied().min_by(order).unwrap_or(*low))
}

/// Ascending, NaN before everything.
pub(super) fn nan_first(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_between_values_are_interpolated() {
        for (phi, values, expected) in [
            (0.5, vec![3.0, 1.0, 2.0], 2.0),
            (0.5, vec![1.0, 2.0], 1.5),
            (0.0, vec![4.0, 9.0], 4.0),
            (1.0, vec![4.0, 9.0], 9.0),
            (-0.1, vec![4.0], f64::NEG_INFINITY),
            (1.1, vec![4.0], f64::INFINITY),
            (0.9, vec![f64::NAN, 1.0, 2.0], 1.8),
        ] {
            assert!((quantile(phi, &mut values.clone()) - expected).abs() < 1e-12 || expected.is_infinite(), "{phi}");
        }
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan());
    }

    #[test]
    fn ranks_of_long_lists_are_those_of_the_sorted_list() {
        let value = |at: usize| match at * 7_919 % 1_013 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            number => (number % 400) as f64 - 150.5,
        };
        for len in [33, 34, 100, 5_000] {
            let mut sorted: Vec<f64> = (0..len).map(value).collect();
            sorted.sort_by(|a, b| nan_first(*a, *b));
            for rank in [0, 1, len / 3, len / 2, len - 2, len - 1] {
                let (low, high) = at_rank(rank, &mut (0..len).map(value).collect::<Vec<_>>());
                let expected = (sorted[rank], sorted[(rank + 1).min(len - 1)]);
                assert_eq!(
                    (low.to_bits(), high.to_bits()),
                    (expected.0.to_bits(), expected.1.to_bits()),
                    "{rank}/{len}"
                );
            }
        }
    }
}
