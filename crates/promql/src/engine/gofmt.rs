//! Floats as text, the two ways that PromQL's users know from Go.

/// Go's `strconv.FormatFloat(value, 'f', -1, 64)`: the shortest digits, never an exponent.
#[must_use]
pub fn go_f(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{value}")
    }
}

/// Go's `%g`: the shortest digits, an exponent below 1e-4 and from 1e6 on.
#[must_use]
pub fn go_g(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() || magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        return go_f(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, f, g) in [
            (1.0, "1", "1"),
            (-0.0, "-0", "-0"),
            (0.1, "0.1", "0.1"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1_234_567.0, "1234567", "1.234567e+06"),
            (0.00001, "0.00001", "1e-05"),
            (f64::NAN, "NaN", "NaN"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
        ] {
            assert_eq!(go_f(value), f);
            assert_eq!(go_g(value), g);
        }
    }
}
