//! Durations as Go reads and writes them: `1.2s`, `100ms`, `1h15m`, to the nanosecond and with Go's messages, which
//! people who know Jaeger know.
//!
//! Source: `time.ParseDuration` and `Duration.String` of Go's standard library.

use std::fmt::Write;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const UNITS: [(&str, u64); 8] =
    [("ns", 1), ("us", US), ("\u{b5}s", US), ("\u{3bc}s", US), ("ms", MS), ("s", S), ("m", 60 * S), ("h", 3_600 * S)];
/// One more than the longest duration, which is some 292 years; as a negative one it still fits.
const NS_MAX: u64 = 1 << 63;

/// Nanoseconds of a duration such as `-1h2.5s`.
///
/// # Errors
/// Go's words for what is wrong.
pub(crate) fn parse_go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total_ns: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let whole: u64 = if whole.is_empty() { Some(0) } else { whole.parse().ok() }
            .filter(|whole| *whole <= NS_MAX)
            .ok_or_else(invalid)?;
        let letters = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let (_, unit_ns) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text)))?;
        let ns = part_ns(whole, fraction, *unit_ns).ok_or_else(invalid)?;
        total_ns = total_ns.checked_add(ns).filter(|ns| *ns <= NS_MAX).ok_or_else(invalid)?;
        rest = after;
    }
    if is_negative {
        return Ok(0_i64.wrapping_sub_unsigned(total_ns));
    }
    i64::try_from(total_ns).map_err(|_| invalid())
}

/// The digits at the beginning of a text, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Nanoseconds of one number with its unit; `None` above [`NS_MAX`].
fn part_ns(whole: u64, fraction: &str, unit_ns: u64) -> Option<u64> {
    let mut ns = whole.checked_mul(unit_ns).filter(|ns| *ns <= NS_MAX)?;
    // As many digits of the fraction as fit are looked at, as Go does.
    let (mut value, mut scale) = (0_u64, 1.0_f64);
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        let next = value.checked_mul(10).filter(|_| value <= (NS_MAX - 1) / 10).map(|tens| tens + digit);
        let Some(next) = next.filter(|next| *next <= NS_MAX) else { break };
        value = next;
        scale *= 10.0;
    }
    if value > 0 {
        ns += (value as f64 * (unit_ns as f64 / scale)) as u64;
    }
    (ns <= NS_MAX).then_some(ns)
}

/// As Go's messages quote: what is not ASCII byte by byte.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            _ => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// A duration as Go writes it: `1h2m3.5s`, `1.5ms`, `0s`.
pub(crate) fn render_go_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < S {
        let (unit, unit_ns) = match ns {
            0..US => ("ns", 1),
            US..MS => ("\u{b5}s", US),
            _ => ("ms", MS),
        };
        return format!("{sign}{}{unit}", decimal(ns, unit_ns));
    }
    let (hours, minutes, rest) = (ns / (3_600 * S), ns / (60 * S) % 60, ns % (60 * S));
    let seconds = decimal(rest, S);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `ns` in units, without zeros at the end of the fraction.
fn decimal(ns: u64, unit_ns: u64) -> String {
    let (whole, rest) = (ns / unit_ns, ns % unit_ns);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit_ns.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_forms_are_read_to_the_nanosecond() {
        for (text, ns) in [
            ("0", 0),
            ("-0", 0),
            ("1.2s", 1_200_000_000),
            ("100ms", 100_000_000),
            ("500us", 500_000),
            ("500\u{b5}s", 500_000),
            ("500\u{3bc}s", 500_000),
            ("1h15m", 4_500_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("+5s", 5_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.9ns", 1),
            ("0.100000000000000000000h", 360_000_000_000),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("9223372036.854775807s", i64::MAX),
            ("2540400h10m10.000000000s", 9_145_440_610_000_000_000),
        ] {
            assert_eq!(parse_go_duration(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn others_are_refused_in_gos_words() {
        for (text, words) in [
            ("", r#"time: invalid duration """#),
            ("-", r#"time: invalid duration "-""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("5d", r#"time: unknown unit "d" in duration "5d""#),
            ("5 s", r#"time: unknown unit " s" in duration "5 s""#),
            (".s", r#"time: invalid duration ".s""#),
            ("s", r#"time: invalid duration "s""#),
            ("+-5s", r#"time: invalid duration "+-5s""#),
            ("1\u{e9}", r#"time: unknown unit "\xc3\xa9" in duration "1\xc3\xa9""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("99999999h", r#"time: invalid duration "99999999h""#),
            ("99999999999999999999s", r#"time: invalid duration "99999999999999999999s""#),
            ("9223372036854775809", r#"time: invalid duration "9223372036854775809""#),
            ("9223372036854775808", r#"time: missing unit in duration "9223372036854775808""#),
            ("2540401h10m10s1000000h", r#"time: invalid duration "2540401h10m10s1000000h""#),
        ] {
            assert_eq!(parse_go_duration(text), Err(words.to_owned()), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (-2_200_000, "-2.2ms"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (245_000_000_000, "4m5s"),
            (3_600_000_000_000, "1h0m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(render_go_duration(ns), text);
        }
    }
}
