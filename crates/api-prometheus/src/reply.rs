//! The envelope: `{"status":"success","data":…,"warnings":[…],"infos":[…]}`, and errors in it.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, Refusal};
use pharos_promql::{Annotations, QueryError};
use pharos_storage::StorageError;

use crate::json::push_string;

/// Annotations of one kind beyond this many are counted, not listed.
const ANNOTATIONS_MAX: usize = 10;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Refusal);

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if error.class() == ErrorClass::Internal {
            tracing::error!(error = error.full_message(), "a read failed");
        }
        Self(of_class(error.class(), error.full_message()))
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let class = error.class();
        if class == ErrorClass::Internal {
            tracing::error!(%error, "a query failed");
        }
        let message = match &error {
            QueryError::Storage(error) => error.full_message(),
            QueryError::Parse(_) | QueryError::Duration { .. } | QueryError::RangeType { .. } => {
                format!("invalid parameter \"query\": {error}")
            }
            other => other.to_string(),
        };
        // A sound query without an answer is `execution`, which shares its class with bad data.
        if class == ErrorClass::Invalid && !error.is_bad_data() {
            return Self(of_class(ErrorClass::Unsupported, message));
        }
        Self(of_class(class, message))
    }
}

/// After this time other queries may have ended.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Prometheus' own statuses: 422 where a query cannot be executed, 503 for time-outs. What is out for the moment is 503, too,
/// and says when to ask again.
fn of_class(class: ErrorClass, message: String) -> Refusal {
    let refusal = Refusal::new(class, message);
    match class {
        ErrorClass::LimitExceeded | ErrorClass::Unsupported => refusal.with_status(StatusCode::UNPROCESSABLE_ENTITY),
        ErrorClass::Unavailable => refusal.with_retry_after(Some(RETRY_AFTER)),
        _ => refusal,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.render(Dialect::Prometheus)
    }
}

/// A handler's result.
pub(crate) type Reply = Result<Response, ApiError>;

/// Success with `data` as JSON.
pub(crate) fn success(data: &impl serde::Serialize) -> Response {
    let mut body = begin_success();
    // Our own data types serialize without errors.
    let _ = serde_json::to_writer(&mut body, data);
    end_success(body, &[])
}

/// The beginning of a success, up to the data.
pub(crate) fn begin_success() -> Vec<u8> {
    br#"{"status":"success","data":"#.to_vec()
}

/// The answer whose body is what [`begin_success`] gave and the data.
pub(crate) fn end_success(mut body: Vec<u8>, warnings: &[&str]) -> Response {
    push_texts(&mut body, "warnings", warnings.iter().copied(), 0);
    body.push(b'}');
    json(Body::from(body))
}

/// Success with `data` in pieces: `head` opens the object, `tail` closes it.
pub(crate) fn success_pieces(
    head: Vec<u8>,
    pieces: impl Iterator<Item = Vec<u8>> + Send + 'static,
    tail: Vec<u8>,
) -> Response {
    let mut first = br#"{"status":"success","data":{"#.to_vec();
    first.extend(head);
    let all = std::iter::once(first).chain(pieces).chain(std::iter::once(tail));
    json(Body::from_stream(stream::iter(all.map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece))))))
}

/// What follows `data`'s last member: its end, the annotations, the end of the envelope.
pub(crate) fn query_tail<'a>(
    stats: Option<serde_json::Value>,
    annotations: &'a Annotations,
    extra: impl Iterator<Item = &'a str>,
) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(stats) = stats {
        out.extend_from_slice(b",\"stats\":");
        let _ = serde_json::to_writer(&mut out, &stats);
    }
    out.push(b'}');
    push_annotations(&mut out, "warnings", &annotations.warnings, extra);
    push_annotations(&mut out, "infos", &annotations.infos, std::iter::empty());
    out.push(b'}');
    out
}

fn push_annotations<'a>(
    out: &mut Vec<u8>,
    key: &str,
    texts: &'a BTreeSet<String>,
    extra: impl Iterator<Item = &'a str>,
) {
    let omitted = texts.len().saturating_sub(ANNOTATIONS_MAX);
    let listed = texts.iter().map(String::as_str).take(ANNOTATIONS_MAX).chain(extra);
    push_texts(out, key, listed, omitted);
}

fn push_texts<'a>(out: &mut Vec<u8>, key: &str, texts: impl Iterator<Item = &'a str>, omitted: usize) {
    let mut separator = format!(",\"{key}\":[");
    for text in texts {
        out.extend_from_slice(separator.as_bytes());
        push_string(out, text);
        ",".clone_into(&mut separator);
    }
    if omitted > 0 {
        let kind = key.trim_end_matches('s');
        out.push(b',');
        push_string(out, &format!("{omitted} more {kind} annotations omitted"));
    }
    if separator == "," {
        out.push(b']');
    }
}

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use pharos_base::{BudgetBound, BudgetExceeded};

    use super::*;

    /// What the query itself asks too much of stays refused; what others hold comes back.
    #[test]
    fn a_common_budget_that_is_used_up_is_asked_again() {
        for (bound, status, retry_after) in [
            (BudgetBound::Own, StatusCode::UNPROCESSABLE_ENTITY, None),
            (BudgetBound::Share, StatusCode::SERVICE_UNAVAILABLE, Some("1")),
            (BudgetBound::Common, StatusCode::SERVICE_UNAVAILABLE, Some("1")),
        ] {
            let exceeded = BudgetExceeded { limit_bytes: 1, bound };
            for error in [ApiError::from(QueryError::Memory(exceeded)), StorageError::Memory(exceeded).into()] {
                let response = error.into_response();
                let told = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
                assert_eq!((response.status(), told), (status, retry_after));
            }
        }
    }
}
