//! Trace ids as clients write them, and as API v1 shows them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use pharos_model::TraceId;

/// 16 bytes in base64, padded.
const BASE64_LETTERS_MAX: usize = 24;

/// Reads 1 to 32 hexadecimal digits, an odd number of them too, or base64 of 8 or 16 bytes in either alphabet,
/// padded or not. What can be read as hexadecimal is.
pub(crate) fn parse_trace_id(text: &str) -> Option<TraceId> {
    if let Ok(id) = text.parse() {
        return Some(id);
    }
    if text.len() > BASE64_LETTERS_MAX {
        return None;
    }
    let decoded =
        [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|form| form.decode(text).ok())?;
    let mut id = [0; 16];
    id.get_mut(16_usize.checked_sub(decoded.len())?..)?.copy_from_slice(&decoded);
    matches!(decoded.len(), 8 | 16).then_some(TraceId(id))
}

/// API v1 shows ids of 64 bits in 16 digits.
pub(crate) fn short_trace_id(id: TraceId) -> String {
    let text = id.to_string();
    match text.strip_prefix("0000000000000000") {
        Some(low) => low.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_come_in_hex_and_base64() {
        let id = parse_trace_id("0102030405060708090a0b0c0d0e0f10").unwrap();
        for same in [
            "0102030405060708090A0B0C0D0E0F10",
            "102030405060708090a0b0c0d0e0f10",
            "AQIDBAUGBwgJCgsMDQ4PEA==",
            "AQIDBAUGBwgJCgsMDQ4PEA",
        ] {
            assert_eq!(parse_trace_id(same), Some(id), "{same}");
        }
        let slashes = parse_trace_id("fbffbffbffbffbffbffbffbffbffbffb").unwrap();
        for same in ["+/+/+/+/+/+/+/+/+/+/+w==", "-_-_-_-_-_-_-_-_-_-_-w==", "-_-_-_-_-_-_-_-_-_-_-w"] {
            assert_eq!(parse_trace_id(same), Some(slashes), "{same}");
        }
        assert_eq!(parse_trace_id("AQIDBAUGBwg=").unwrap(), parse_trace_id("102030405060708").unwrap());
        assert_eq!(parse_trace_id("abc").unwrap().to_string(), "00000000000000000000000000000abc");
        for wrong in ["", "xyz!", "AQID", &"f".repeat(33), &"Z".repeat(25)] {
            assert_eq!(parse_trace_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_of_64_bits_are_short() {
        assert_eq!(short_trace_id(parse_trace_id("abc").unwrap()), "0000000000000abc");
        let long = "10000000000000abc";
        assert_eq!(short_trace_id(parse_trace_id(long).unwrap()), format!("{long:0>32}"));
    }
}
