//! Recording in a W3C trace state how probable it was that a span was kept. Reading it is `pharos_model`'s.

use pharos_model::{SAMPLING_THRESHOLDS, sampling_threshold, trace_state_member};

/// Longest member that is extended, bytes; the specification's limit.
const MEMBER_BYTES_MAX: usize = 256;

/// The threshold at which this share is kept.
pub(crate) fn threshold_of(share: f64) -> u64 {
    ((1.0 - share).clamp(0.0, 1.0) * SAMPLING_THRESHOLDS as f64).round() as u64
}

/// Records a threshold in a trace state, unless it records a higher one, or has no room for it.
pub(crate) fn record(trace_state: &mut String, new: u64) {
    if new == 0 || new >= SAMPLING_THRESHOLDS || sampling_threshold(trace_state).is_some_and(|old| old >= new) {
        return;
    }
    let digits = format!("{new:014x}");
    let mut value = format!("th:{}", digits.trim_end_matches('0'));
    let own = trace_state_member(trace_state, "ot").unwrap_or("");
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
        assert_eq!(sampling_threshold("ot=th:c"), Some(threshold_of(0.25)));
        assert_eq!(sampling_threshold("ot=th:zz"), None);
        assert_eq!(sampling_threshold(&recorded("", 0.01)), Some(threshold_of(0.01)));
    }
}
