//! For how many spans one counts that was sampled where it was made.

/// All thresholds lie below this: 56 bits.
const THRESHOLDS: u64 = 1 << 56;
/// Digits of a threshold.
const DIGITS_MAX: usize = 14;

/// The adjusted count that a trace state records: 1 where it records none or nonsense.
///
/// Source: OpenTelemetry, the page on probability sampling in trace state: the member `ot` has `th:` and up to 14 hexadecimal digits of
/// a rejection threshold, trailing zeros left out; spans with a randomness below it were left out.
pub(crate) fn adjusted_count(trace_state: &str) -> f64 {
    threshold(trace_state).map_or(1.0, |threshold| THRESHOLDS as f64 / (THRESHOLDS - threshold) as f64)
}

fn threshold(trace_state: &str) -> Option<u64> {
    let member = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="))?;
    let digits = member.split(';').find_map(|part| part.strip_prefix("th:"))?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(digits, 16).ok()?;
    Some(value << (4 * (DIGITS_MAX - digits.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_the_specification_writes_them() {
        for (state, expected) in [
            ("", 1.0),
            ("ot=th:8", 2.0),
            ("ot=th:c", 4.0),
            ("ot=th:0", 1.0),
            ("vendor=x, ot=rv:abcdef01234567;th:f", 16.0),
            ("ot=th:", 1.0),
            ("ot=th:xyz", 1.0),
            ("ot=th:123456789012345", 1.0),
            ("not=th:8", 1.0),
            ("ot=rv:8", 1.0),
        ] {
            assert_eq!(adjusted_count(state), expected, "{state:?}");
        }
        assert_eq!(adjusted_count("ot=th:ffffffffffffff"), THRESHOLDS as f64);
    }
}
