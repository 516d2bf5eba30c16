//! Numbers and instants as Prometheus writes them.

use std::io::Write;

/// Appends a sample value: shortest digits, an exponent below 1e-6 and from 1e21 on; `NaN`, `+Inf`, `-Inf`.
pub(crate) fn push_float(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        push_exponent_form(out, value);
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Go's form: at least two digits of exponent, always signed.
fn push_exponent_form(out: &mut Vec<u8>, value: f64) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

/// Appends an instant in seconds with up to three decimals.
pub(crate) fn push_seconds(out: &mut Vec<u8>, unix_ms: i64) {
    if unix_ms < 0 {
        out.push(b'-');
    }
    let magnitude = unix_ms.unsigned_abs();
    let _ = write!(out, "{}", magnitude / 1_000);
    let fraction = magnitude % 1_000;
    if fraction != 0 {
        let _ = write!(out, ".{fraction:03}");
    }
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
}
