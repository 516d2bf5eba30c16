//! Bounds of exponential buckets, to the bit as Prometheus has them: an answer shows them, and histograms of different
//! resolutions must agree on those they share.
//!
//! Prometheus tabulates the bounds between ½ and 1 of each schema from 0 to 8 and scales them by powers of two. In the table,
//! every second bound is that of the next coarser schema and the others are their predecessor times a factor near 2^(2^−schema),
//! so that a bound may be a unit in the last place away from the power itself.

use std::sync::LazyLock;

/// The finest schema.
const FINEST: usize = 8;

/// What takes a bound to the next, by schema. The first lies one unit in the last place below √2, as in Prometheus.
#[expect(clippy::approx_constant, reason = "the one below √2 is meant")]
const FACTORS: [f64; FINEST + 1] = [
    2.0,
    1.414_213_562_373_095,
    1.189_207_115_002_721,
    1.090_507_732_665_257_7,
    1.044_273_782_427_413_8,
    1.021_897_148_654_116_6,
    1.010_889_286_051_700_5,
    1.005_429_901_112_802_7,
    1.002_711_275_050_202_5,
];

static FRACTIONS: LazyLock<Vec<Vec<f64>>> = LazyLock::new(|| {
    let mut table = vec![vec![0.5]];
    for factor in &FACTORS[1..] {
        let coarser = &table[table.len() - 1];
        table.push(coarser.iter().flat_map(|bound| [*bound, bound * factor]).collect());
    }
    table
});

/// The upper bound of exponential bucket `index`, about 2^(index · 2^−schema). Schemas finer than the finest count as it.
#[must_use]
pub fn exponential_bound(schema: i32, index: i32) -> f64 {
    let (fraction, exponent) = match usize::try_from(schema) {
        Ok(schema) => {
            let fractions = &FRACTIONS[schema.min(FINEST)];
            let count = fractions.len().cast_signed() as i64;
            let index = i64::from(index);
            // The remainder is below the count, so that it fits.
            (fractions[index.rem_euclid(count) as usize], index.div_euclid(count) + 1)
        }
        Err(_) => (0.5, (i64::from(index) << schema.unsigned_abs().min(31)) + 1),
    };
    // The bucket that reaches to the largest double ends there.
    if fraction == 0.5 && exponent == 1025 { f64::MAX } else { scaled(fraction, exponent) }
}

/// `fraction` · 2^`exponent`, rounded once, for fractions from ½ to 1.
fn scaled(fraction: f64, exponent: i64) -> f64 {
    /// Added to small exponents, so that only the last multiplication meets a subnormal number.
    const LIFT: i64 = 128;
    match exponent {
        1025.. => f64::INFINITY,
        -1000..=1024 => (2.0 * fraction) * power_of_two(exponent - 1),
        -1100..-1000 => (2.0 * fraction) * power_of_two(exponent - 1 + LIFT) * power_of_two(-LIFT),
        _ => 0.0,
    }
}

/// 2^`exponent` for exponents of normal numbers.
fn power_of_two(exponent: i64) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent));
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: i32, index: i32, expected: f64) {
        assert_eq!(exponential_bound(schema, index).to_bits(), expected.to_bits(), "schema {schema}, bucket {index}");
    }

    /// As Debian's Prometheus 2.42 shows them.
    #[test]
    fn bounds_are_those_of_prometheus_to_the_bit() {
        check(1, 1, std::f64::consts::SQRT_2.next_down());
        check(3, -2, 0.840_896_415_253_714_4);
        check(3, -3, 0.771_105_412_703_970_4);
        check(3, 6, 1.681_792_830_507_428_8);
        check(3, 1, 1.090_507_732_665_257_7);
        check(0, 10, 1024.0);
        check(-4, 2, 4_294_967_296.0);
        check(-1, -3, 0.015_625);
    }

    #[test]
    fn bounds_end_where_doubles_end() {
        check(0, 1023, 2_f64.powi(1023));
        check(0, 1024, f64::MAX);
        check(0, 1025, f64::INFINITY);
        check(8, 1024 << 8, f64::MAX);
        check(-4, 64, f64::MAX);
        check(0, -1022, f64::MIN_POSITIVE);
        check(0, -1074, f64::from_bits(1));
        check(0, -1075, 0.0);
        check(0, i32::MIN, 0.0);
        check(-4, i32::MAX, f64::INFINITY);
        check(2, -4 * 1074, f64::from_bits(1));
    }

    /// A bound of one schema is every second one of the next.
    #[test]
    fn schemas_share_their_bounds() {
        for schema in 0..8 {
            for index in -600..600 {
                check(schema + 1, 2 * index, exponential_bound(schema, index));
            }
        }
    }
}
