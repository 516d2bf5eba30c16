//! Reading a request's body, bounded while it arrives.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pharos_base::{ByteSize, ErrorClass};
use pharos_http::Refusal;
use pharos_ingest::IngestError;

use crate::refuse::refusal;

/// Reads the whole body, as it is encoded.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    let too_large = || refusal(&IngestError::BodyTooLarge { limit: ByteSize(bytes_max as u64) });
    let declared: Option<u64> = text(headers, CONTENT_LENGTH).and_then(|value| value.parse().ok());
    if declared.is_some_and(|declared| declared > bytes_max as u64) {
        return Err(too_large());
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Refusal::new(ErrorClass::Invalid, format!("request body ended early: {error}"))),
    }
}

/// The request's content encoding; `None` where it names none.
pub(crate) fn content_encoding(headers: &HeaderMap) -> Option<&str> {
    text(headers, CONTENT_ENCODING).map(str::trim).filter(|value| !value.is_empty())
}

/// The request's media type without parameters, and the parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> (&str, &str) {
    let value = text(headers, CONTENT_TYPE).unwrap_or("");
    let (media, parameters) = value.split_once(';').unwrap_or((value, ""));
    (media.trim(), parameters)
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    // Bytes that are no text are no value that is known, either.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
