//! Quantiles of lists of floats.

use std::cmp::Ordering;

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
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    let rank = phi * (values.len() - 1) as f64;
    let low = rank.floor().max(0.0) as usize;
    let high = (low + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[low] * (1.0 - weight) + values[high] * weight
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
}
