//! Durations as Go writes them: `1.2s`, `100ms`, `1h15m`.

/// Unit and its nanoseconds; longer suffixes before those they end with.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Nanoseconds of a duration such as `1h2.5s`; `None` for anything else, also if negative or over 292 years.
pub(crate) fn parse_go_duration(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let (mut total_ns, mut begun) = (0.0, false);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total_ns += number * factor;
        rest = &rest[letters..];
        begun = true;
    }
    (begun && total_ns < 9.2e18).then_some(total_ns.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_forms_are_read_and_others_refused() {
        for (text, ns) in [
            ("1.2s", Some(1_200_000_000)),
            ("100ms", Some(100_000_000)),
            ("500us", Some(500_000)),
            ("500\u{b5}s", Some(500_000)),
            ("1h15m", Some(4_500_000_000_000)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("5 s", None),
            ("5d", None),
            ("99999999h", None),
            (".s", None),
        ] {
            assert_eq!(parse_go_duration(text), ns, "{text}");
        }
    }
}
