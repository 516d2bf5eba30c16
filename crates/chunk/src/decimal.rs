//! Doubles as decimals: most values that instruments report are short decimals, `mantissa / 10^exponent`.
//!
//! The division is correctly rounded, so "the quotient has the same bits" is an exact test and decoding
//! is one conversion and one division. Values computed from decimals (0.1 + 0.2) miss by a few units in
//! the last place; with a tolerance these distances are kept as a second integer column.

/// Powers of ten up to here are tried; all are exact doubles.
pub(crate) const EXPONENT_MAX: usize = 14;
/// Farther from a decimal than this, in units of the last place, a value is an exception.
pub(crate) const ULPS_MAX: i64 = 64;

pub(crate) const POWERS: [f64; EXPONENT_MAX + 1] =
    [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];

/// Mantissas above do not hold every integer.
const MANTISSA_MAX: f64 = 9_007_199_254_740_992.0;

/// A column split into decimals and exceptions.
#[derive(Debug, Default)]
pub(crate) struct Decimals {
    pub(crate) exponent: usize,
    /// One per value; exceptions repeat their predecessor.
    pub(crate) mantissas: Vec<i64>,
    /// Distances in units of the last place; empty if all are 0.
    pub(crate) ulps: Vec<i64>,
    /// Positions of values that are no such decimal.
    pub(crate) exceptions: Vec<usize>,
}

impl Decimals {
    /// Splits `values`, allowing each to miss its decimal by `ulps_max`.
    pub(crate) fn of(values: &[f64], ulps_max: i64) -> Self {
        let mut exponent = 0;
        for value in values {
            if mantissa(*value, exponent, ulps_max).is_none()
                && let Some(found) = (exponent + 1..=EXPONENT_MAX).find(|e| mantissa(*value, *e, ulps_max).is_some())
            {
                exponent = found;
            }
        }
        let mut decimals = Self { exponent, mantissas: Vec::with_capacity(values.len()), ..Self::default() };
        for (position, value) in values.iter().enumerate() {
            let (mantissa, ulps) = mantissa(*value, exponent, ulps_max).unwrap_or_else(|| {
                decimals.exceptions.push(position);
                (decimals.mantissas.last().copied().unwrap_or(0), 0)
            });
            decimals.mantissas.push(mantissa);
            if ulps_max > 0 {
                decimals.ulps.push(ulps);
            }
        }
        // Leading exceptions take the first decimal, so that they cost no residual.
        let leading = decimals.exceptions.iter().enumerate().take_while(|(index, position)| index == *position).count();
        if let Some(first) = decimals.mantissas.get(leading).copied() {
            decimals.mantissas[..leading].fill(first);
        }
        decimals
    }
}

/// The mantissa and the distance in units of the last place, if that is at most `ulps_max`.
fn mantissa(value: f64, exponent: usize, ulps_max: i64) -> Option<(i64, i64)> {
    let scaled = value * POWERS[exponent];
    if scaled.is_nan() || scaled.abs() >= MANTISSA_MAX {
        return None;
    }
    let mantissa = scaled.round_ties_even() as i64;
    let distance = (value.to_bits() as i64).wrapping_sub(value_of(mantissa, exponent).to_bits() as i64);
    (distance.checked_abs()? <= ulps_max).then_some((mantissa, distance))
}

/// The double nearest to `mantissa / 10^exponent`.
pub(crate) fn value_of(mantissa: i64, exponent: usize) -> f64 {
    mantissa as f64 / POWERS[exponent]
}
