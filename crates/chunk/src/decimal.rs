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

/// Values for which no exponent is found before the search is given up: a column with more has none.
const FAILURES_MAX: usize = 16;

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
        let mut decimals = Self { mantissas: Vec::with_capacity(values.len()), ..Self::default() };
        let mut failures = FAILURES_MAX;
        loop {
            decimals.take_fitting(values, ulps_max);
            let position = decimals.mantissas.len();
            let Some(value) = values.get(position) else { break };
            let mut found = None;
            if failures > 0 && value.is_finite() {
                let larger = (decimals.exponent + 1..=EXPONENT_MAX)
                    .find_map(|e| mantissa(*value, e, ulps_max).map(|fitting| (e, fitting)));
                match larger {
                    Some((exponent, fitting)) if decimals.rescale(exponent) => found = Some(fitting),
                    _ => failures -= 1,
                }
            }
            let (mantissa, ulps) = found.unwrap_or_else(|| {
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

    /// Goes on with the values behind, as far as they fit the exponent.
    fn take_fitting(&mut self, values: &[f64], ulps_max: i64) {
        let rest = &values[self.mantissas.len()..];
        if ulps_max > 0 {
            for value in rest {
                let Some((mantissa, ulps)) = mantissa(*value, self.exponent, ulps_max) else { return };
                self.mantissas.push(mantissa);
                self.ulps.push(ulps);
            }
        } else if self.exponent == 0 {
            self.mantissas.extend(rest.iter().map_while(|value| integer(*value)));
        } else {
            let exponent = self.exponent;
            self.mantissas.extend(rest.iter().map_while(|value| Some(mantissa(*value, exponent, 0)?.0)));
        }
    }

    /// Goes on with a larger exponent, if no mantissa becomes too large. The quotients stay what they are:
    /// both terms are multiplied, and neither is rounded.
    fn rescale(&mut self, exponent: usize) -> bool {
        let factor = POWERS[exponent - self.exponent];
        let most = self.mantissas.iter().map(|mantissa| mantissa.unsigned_abs()).max().unwrap_or(0);
        if most as f64 * factor >= MANTISSA_MAX {
            return false;
        }
        let factor = factor as i64;
        self.mantissas.iter_mut().for_each(|mantissa| *mantissa *= factor);
        self.exponent = exponent;
        true
    }

    /// The greatest common divisor of all distances from the first mantissa, at least 1.
    pub(crate) fn divisor(&self) -> u64 {
        let Some(first) = self.mantissas.first() else { return 1 };
        let mut divisor = 0;
        for mantissa in &self.mantissas {
            let distance = mantissa.abs_diff(*first);
            if distance != 0 {
                // In this order it is one division where nothing changes.
                divisor = gcd(distance, divisor);
                if divisor == 1 {
                    break;
                }
            }
        }
        divisor.max(1)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The mantissa and the distance in units of the last place, if that is at most `ulps_max`.
fn mantissa(value: f64, exponent: usize, ulps_max: i64) -> Option<(i64, i64)> {
    let scaled = value * POWERS[exponent];
    if scaled.is_nan() || scaled.abs() >= MANTISSA_MAX {
        return None;
    }
    let mantissa = nearest(scaled);
    let distance = (value.to_bits() as i64).wrapping_sub(value_of(mantissa, exponent).to_bits() as i64);
    (distance.checked_abs()? <= ulps_max).then_some((mantissa, distance))
}

/// The value as an integer, if it is one.
fn integer(value: f64) -> Option<i64> {
    let integer = value as i64;
    ((integer as f64).to_bits() == value.to_bits() && value.abs() < MANTISSA_MAX).then_some(integer)
}

/// The nearest integer. Without SSE 4.1, which not every machine has, rounding is a call: adding a number
/// whose last place is 1 rounds too, and the integer then stands in the low bits.
fn nearest(scaled: f64) -> i64 {
    const LAST_PLACE_ONE: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const EXACT_MAX: f64 = 2_251_799_813_685_248.0; // 2^51
    if scaled.abs() < EXACT_MAX {
        (scaled + LAST_PLACE_ONE).to_bits() as i64 - LAST_PLACE_ONE.to_bits() as i64
    } else {
        scaled.round_ties_even() as i64
    }
}

/// The double nearest to `mantissa / 10^exponent`.
pub(crate) fn value_of(mantissa: i64, exponent: usize) -> f64 {
    mantissa as f64 / POWERS[exponent]
}
