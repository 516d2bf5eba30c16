//! A span's W3C trace state, and what OpenTelemetry's sampling records in its member `ot`.
//!
//! Sources: W3C Trace Context, 3.3 (a list of `key=value` members, parted by commas, with spaces and tabs around them that mean
//! nothing; empty members are allowed, a key stands once, the first counts); OpenTelemetry, the page on probability sampling in
//! trace state (`ot=` and parts `name:value`, parted by semicolons). `th` is a rejection threshold of 56 bits in up to 14 hexadecimal
//! digits, trailing zeros left out: what has a randomness below it was left out. `rv` is a randomness of exactly 14 digits; without
//! it the last 56 bits of the trace id are.

use crate::TraceId;

/// Thresholds and randomness of sampling lie below this: 56 bits.
pub const SAMPLING_THRESHOLDS: u64 = 1 << 56;
/// Digits of a threshold at most, and of a randomness.
const DIGITS: usize = 14;

/// The value of member `key`.
#[must_use]
pub fn trace_state_member<'a>(trace_state: &'a str, key: &str) -> Option<&'a str> {
    trace_state.split(',').find_map(|member| {
        let (found, value) = member.trim_matches([' ', '\t']).split_once('=')?;
        (found == key).then_some(value)
    })
}

/// The threshold by which a span was sampled where it was made; `None` if its trace state records none or nonsense.
#[must_use]
pub fn sampling_threshold(trace_state: &str) -> Option<u64> {
    let digits = part(trace_state, "th")?;
    if digits.len() > DIGITS {
        return None;
    }
    Some(hexadecimal(digits)? << (4 * (DIGITS - digits.len())))
}

/// The randomness of a trace, by which it is sampled.
#[must_use]
pub fn sampling_randomness(trace_id: TraceId, trace_state: &str) -> u64 {
    let explicit = part(trace_state, "rv").filter(|digits| digits.len() == DIGITS).and_then(hexadecimal);
    explicit.unwrap_or_else(|| {
        let mut last = [0; 8];
        last.copy_from_slice(&trace_id.0[8..]);
        u64::from_be_bytes(last) & (SAMPLING_THRESHOLDS - 1)
    })
}

/// For how many spans one counts that was sampled where it was made: 1 where its trace state records nothing.
#[must_use]
pub fn adjusted_count(trace_state: &str) -> f64 {
    let kept = |threshold| (SAMPLING_THRESHOLDS - threshold) as f64;
    sampling_threshold(trace_state).map_or(1.0, |threshold| SAMPLING_THRESHOLDS as f64 / kept(threshold))
}

/// A part of the member `ot`.
fn part<'a>(trace_state: &'a str, name: &str) -> Option<&'a str> {
    let parts = trace_state_member(trace_state, "ot")?.split(';');
    parts.into_iter().find_map(|part| part.strip_prefix(name)?.strip_prefix(':'))
}

/// Digits alone: no sign.
fn hexadecimal(digits: &str) -> Option<u64> {
    let are_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_as_w3c_writes_them() {
        for (state, expected) in [
            ("ot=th:8", Some("th:8")),
            ("a=1,ot=th:8", Some("th:8")),
            ("a=1, \tot=th:8 \t,b=2", Some("th:8")),
            (",, ot=th:8,", Some("th:8")),
            ("ot=th:8,ot=th:c", Some("th:8")),
            ("ot=a=b", Some("a=b")),
            ("ot=", Some("")),
            ("", None),
            ("ot", None),
            ("OT=th:8", None),
            ("not=th:8", None),
            ("tenant@ot=th:8", None),
            ("ot =th:8", None),
            ("a=ot=th:8", None),
        ] {
            assert_eq!(trace_state_member(state, "ot"), expected, "{state:?}");
        }
    }

    #[test]
    fn thresholds_are_read_as_the_specification_writes_them() {
        for (state, expected) in [
            ("", 1.0),
            ("ot=th:8", 2.0),
            ("ot=th:c", 4.0),
            ("ot=th:0", 1.0),
            ("vendor=x, ot=rv:abcdef01234567;th:f", 16.0),
            ("ot=th:c;rv:abcdef01234567", 4.0),
            ("ot=th:80000000000000", 2.0),
            ("ot=th:", 1.0),
            ("ot=th:xyz", 1.0),
            ("ot=th:+8", 1.0),
            ("ot=th:-8", 1.0),
            ("ot=th: 8", 1.0),
            ("ot=th:123456789012345", 1.0),
            ("ot=xth:8", 1.0),
            ("ot=the:8", 1.0),
            ("ot=rv:8", 1.0),
            ("not=th:8", 1.0),
        ] {
            assert_eq!(adjusted_count(state), expected, "{state:?}");
        }
        assert_eq!(adjusted_count("ot=th:ffffffffffffff"), SAMPLING_THRESHOLDS as f64);
        assert_eq!(sampling_threshold("ot=th:4"), Some(SAMPLING_THRESHOLDS / 4));
    }

    #[test]
    fn randomness_is_the_traces_own() {
        let id = TraceId([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7]);
        for (state, expected) in [
            ("", 0x01_0203_0405_0607),
            ("ot=rv:00000000000009", 9),
            ("ot=th:8;rv:ffffffffffffff", SAMPLING_THRESHOLDS - 1),
            ("ot=rv:9", 0x01_0203_0405_0607),
            ("ot=rv:+0000000000009", 0x01_0203_0405_0607),
            ("ot=rv:000000000000009", 0x01_0203_0405_0607),
        ] {
            assert_eq!(sampling_randomness(id, state), expected, "{state:?}");
        }
    }
}
