//! The member `ot` of a W3C trace state: how probable it was that a span was kept.
//!
//! Source: OpenTelemetry, the page on probability sampling in trace state. A threshold of 56 bits is written in hexadecimal without
//! trailing zeros; a span is kept where its randomness (`rv`, else the last 56 bits of the trace id) is not below it.

use pharos_model::TraceId;

/// Thresholds and randomness lie below this.
pub(crate) const THRESHOLDS: u64 = 1 << 56;
const DIGITS: usize = 14;
/// Longest member that is extended, bytes; the specification's limit.
const MEMBER_BYTES_MAX: usize = 256;

/// The value of member `key`.
pub(crate) fn member<'a>(trace_state: &'a str, key: &str) -> Option<&'a str> {
    trace_state.split(',').find_map(|member| {
        let (found, value) = member.trim().split_once('=')?;
        (found == key).then_some(value)
    })
}

fn part<'a>(trace_state: &'a str, name: &str) -> Option<&'a str> {
    member(trace_state, "ot")?.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix(':'))
}

/// The randomness of a trace.
pub(crate) fn randomness(trace_id: TraceId, trace_state: &str) -> u64 {
    let explicit = part(trace_state, "rv").filter(|digits| digits.len() == DIGITS);
    let explicit = explicit.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    explicit.unwrap_or_else(|| {
        let mut last = [0; 8];
        last.copy_from_slice(&trace_id.0[8..]);
        u64::from_be_bytes(last) & (THRESHOLDS - 1)
    })
}

/// The threshold that a trace state records.
pub(crate) fn threshold(trace_state: &str) -> Option<u64> {
    let digits = part(trace_state, "th")?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some(u64::from_str_radix(digits, 16).ok()? << (4 * (DIGITS - digits.len())))
}

/// The threshold at which this share is kept.
pub(crate) fn threshold_of(share: f64) -> u64 {
    ((1.0 - share).clamp(0.0, 1.0) * THRESHOLDS as f64).round() as u64
}

/// Records a threshold in a trace state, unless it records a higher one, or has no room for it.
pub(crate) fn record(trace_state: &mut String, new: u64) {
    if new == 0 || new >= THRESHOLDS || threshold(trace_state).is_some_and(|old| old >= new) {
        return;
    }
    let digits = format!("{new:014x}");
    let mut value = format!("th:{}", digits.trim_end_matches('0'));
    let own = member(trace_state, "ot").unwrap_or("");
    for part in own.split(';').filter(|part| !part.is_empty() && !part.starts_with("th:")) {
        value.push(';');
        value.push_str(part);
    }
    if value.len() > MEMBER_BYTES_MAX {
        return;
    }
    // A member that changes comes first.
    let mut state = format!("ot={value}");
    for member in trace_state.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        if !member.starts_with("ot=") {
            state.push(',');
            state.push_str(member);
        }
    }
    *trace_state = state;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_written_as_the_specification_does() {
        let recorded = |state: &str, share: f64| {
            let mut state = state.to_owned();
            record(&mut state, threshold_of(share));
            state
        };
        assert_eq!(recorded("", 0.5), "ot=th:8");
        assert_eq!(recorded("", 1.0), "");
        assert_eq!(recorded("", 0.0), "", "nothing is kept");
        assert_eq!(recorded("a=b,ot=rv:0123456789abcd;th:4, c=d", 0.25), "ot=th:c;rv:0123456789abcd,a=b,c=d");
        assert_eq!(recorded("ot=th:c", 0.5), "ot=th:c", "what was kept before was rarer");
        assert_eq!(threshold("ot=th:c"), Some(threshold_of(0.25)));
        assert_eq!(threshold("ot=th:zz"), None);
        assert_eq!(threshold(&recorded("", 0.01)), Some(threshold_of(0.01)));
    }

    #[test]
    fn randomness_is_the_traces_own() {
        let id = TraceId([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(randomness(id, ""), 0x01_0203_0405_0607);
        assert_eq!(randomness(id, "ot=rv:00000000000009"), 9);
        assert_eq!(randomness(id, "ot=rv:9"), 0x01_0203_0405_0607, "too short to be one");
    }
}
