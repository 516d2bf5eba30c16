//! The deadline of a gRPC call.

use std::time::{Duration, Instant};

use http::HeaderMap;
use pharos_base::{Clock, ErrorClass, SystemClock};

use crate::Refusal;

/// When a call that just arrived has to be answered: `grpc-timeout`, at most 8 digits and a unit.
///
/// # Errors
/// A refusal if the header is there and is no timeout.
pub fn grpc_deadline(headers: &HeaderMap) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(timeout);
    let timeout = timeout.ok_or_else(|| Refusal::new(ErrorClass::Invalid, "grpc-timeout: it is no timeout"))?;
    Ok(SystemClock.monotonic().checked_add(timeout))
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units() {
        for (text, expected) in [
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("123456789S", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1ä", None),
        ] {
            assert_eq!(timeout(text), expected, "{text:?}");
        }
    }
}
