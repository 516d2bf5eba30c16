//! Refusals as gRPC says them, and the deadline of a call.

use std::time::{Duration, Instant};

use http::HeaderMap;
use pharos_base::{Clock, ErrorClass, SystemClock};
use pharos_http::{Refusal, error_type, grpc_code};
use pharos_proto::rpc;
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Code, Status};

/// Who names the reasons of [`rpc::ErrorInfo`].
const DOMAIN: &str = "pharos";

/// A refusal with its details.
pub(super) fn status_of(refusal: &Refusal) -> Status {
    let code = match refusal.class() {
        // The question is understood and these data have no answer to it. UNIMPLEMENTED would say that there is no such method.
        ErrorClass::Unsupported => Code::FailedPrecondition,
        class => grpc_code(class),
    };
    let reason = error_type(refusal.class()).to_uppercase();
    let info = rpc::ErrorInfo { reason, domain: DOMAIN.to_owned(), ..rpc::ErrorInfo::default() };
    let mut details = vec![rpc::Any::pack(rpc::ErrorInfo::NAME, &info)];
    if let Some(after) = refusal.retry_after() {
        details.push(rpc::Any::pack(rpc::RetryInfo::NAME, &rpc::RetryInfo::after(after)));
    }
    let status = rpc::Status { code: code as i32, message: refusal.message().to_owned(), details };
    Status::with_details(code, refusal.message(), Bytes::from(status.encode_to_vec()))
}

/// A wrong request.
pub(super) fn bad(message: &str) -> Status {
    status_of(&Refusal::new(ErrorClass::Invalid, message))
}

/// When a call that just arrived has to be answered: `grpc-timeout`, at most 8 digits and a unit.
pub(super) fn deadline_of(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(timeout).ok_or_else(|| bad("grpc-timeout: it is no timeout"))?;
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
