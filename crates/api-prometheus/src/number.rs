//! Numbers and instants as Prometheus writes them.

use std::io::Write;

/// Integers below this print digit by digit; all of them are exact.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Of fractions of this magnitude `zmij` writes no exponent, and neither does Go.
const NEVER_EXPONENTIAL: std::ops::Range<f64> = 1e-4..1e15;

/// Appends a sample value: shortest digits, an exponent below 1e-6 and from 1e21 on; `NaN`, `+Inf`, `-Inf`.
///
/// Answers consist of these, so that hardly any passes `fmt`.
pub(crate) fn push_float(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if magnitude < INTEGER_MAX && magnitude.trunc() == magnitude {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        push_integer(out, magnitude as u64);
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        // Of two shortest texts equally near, `zmij` takes the even one, as Go does; `fmt` does not.
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        if NEVER_EXPONENTIAL.contains(&magnitude) {
            out.extend_from_slice(text.as_bytes());
        } else {
            push_shortest(out, text, (1e-6..1e21).contains(&magnitude));
        }
    }
}

/// Writes what `zmij` wrote with an exponent only where `plain` is false, and then in Go's form.
fn push_shortest(out: &mut Vec<u8>, text: &str, plain: bool) {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    };
    if !plain {
        // At least two digits of exponent, always signed.
        let (sign, exponent) = exponent.split_at(1);
        let _ = write!(out, "{mantissa}e{sign}{exponent:0>2}");
        return;
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let zeros = |count: i32| std::iter::repeat_n(b'0', usize::try_from(count).unwrap_or(0));
    out.extend_from_slice(sign.as_bytes());
    let digits = mantissa.bytes().filter(|byte| *byte != b'.');
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(zeros(-exponent - 1));
        out.extend(digits);
    } else {
        // Beyond 1e16 there are no digits behind the point.
        let behind = mantissa.split_once('.').map_or(0, |(_, behind)| behind.len() as i32);
        out.extend(digits);
        out.extend(zeros(exponent - behind));
    }
}

fn push_integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends an instant in seconds with up to three decimals.
pub(crate) fn push_seconds(out: &mut Vec<u8>, unix_ms: i64) {
    if unix_ms < 0 {
        out.push(b'-');
    }
    let magnitude = unix_ms.unsigned_abs();
    push_integer(out, magnitude / 1_000);
    let fraction = magnitude % 1_000;
    if fraction != 0 {
        out.extend_from_slice(&[b'.', digit(fraction / 100), digit(fraction / 10), digit(fraction)]);
    }
}

/// The last decimal digit of `value`.
fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_print_as_prometheus_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (100_000_000.0, "100000000"),
            (1e20, "100000000000000000000"),
            (-1.234_567e19, "-12345670000000000000"),
            (12_345_678_901_234_568.0, "12345678901234568"),
            (f64::from_bits(0x431b_551a_6ccf_e8c1), "1923349088565808.2"),
            (-0.000_012_5, "-0.0000125"),
            (0.000_001_25, "0.00000125"),
            (1e21, "1e+21"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-07"),
            (-2.5e-300, "-2.5e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|out| push_float(out, value)), expected);
        }
    }

    #[test]
    fn instants_print_in_seconds() {
        for (ms, expected) in [(0, "0"), (1_500, "1.500"), (1_700_000_000_007, "1700000000.007"), (-1_001, "-1.001")] {
            assert_eq!(text(|out| push_seconds(out, ms)), expected);
        }
    }

    /// What a bit pattern prints as reads back as the same bits.
    #[test]
    fn values_survive_their_text() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..20_000_u64 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Every other number has an exponent near 0, where values of real series lie.
            let exponent = if round % 2 == 0 { bits & (0x7ff << 52) } else { (990 + bits % 100) << 52 };
            let value = f64::from_bits((bits >> 12) | exponent);
            for value in [value, (value * 1e3).round() / 1e3] {
                let text = text(|out| push_float(out, value));
                if value.is_finite() {
                    assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
                    // As long as the standard library's, which takes another of two equally near texts.
                    let plain = value == 0.0 || (1e-6..1e21).contains(&value.abs());
                    assert_eq!(text.contains('e'), !plain, "{text}");
                    assert!(!plain || text.len() == format!("{value}").len(), "{text} {value}");
                }
            }
        }
    }
}
