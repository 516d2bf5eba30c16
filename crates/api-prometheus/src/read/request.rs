//! A remote read's request: inflated and decoded within bounds, so that a small body never becomes a large message.
//!
//! What repeats is counted on the wire before anything is built of it, and patterns are compiled query by query, where the query runs.

use axum::body::Bytes;
use pharos_base::ErrorClass;
use pharos_gateway::BodyLimit;
use pharos_http::Refusal;
use pharos_model::{MatchOp, Matcher};
use pharos_promql::limits::PATTERNS_BYTES_MAX;
use pharos_proto::remote_read::label_matcher::MatcherType;
use pharos_proto::remote_read::read_request::ResponseType;
use pharos_proto::remote_read::{LabelMatcher, Query, ReadRequest, ReadRequestSize};
use prost::Message;

use crate::reply::ApiError;

/// Queries one request may bundle.
const QUERIES_MAX: usize = 1_000;
/// Matchers of all queries of a request.
const MATCHERS_MAX: usize = 10_000;
/// Bytes of the list of forms that the client reads; there are two forms.
const FORM_BYTES_MAX: usize = 100;
/// Queries of a request that the listing of queries shows.
const QUERIES_SHOWN_MAX: usize = 10;
/// Matchers of a query that it shows.
const MATCHERS_SHOWN_MAX: usize = 50;
/// A body that may inflate to more is decoded on a thread of its own, bytes.
const SMALL_BYTES_MAX: usize = 16 << 10;

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(Refusal::new(ErrorClass::Invalid, message))
}

/// Reads a request, away from other connections if it is large.
pub(super) async fn read(body: Bytes, limit: BodyLimit) -> Result<ReadRequest, ApiError> {
    let plain_len =
        snap::raw::decompress_len(&body).map_err(|error| bad(format!("the body is no snappy block: {error}")))?;
    if plain_len > limit.len_max() {
        return Err(ApiError(limit.refusal(&format!("the request, of {plain_len} bytes,"))));
    }
    if plain_len <= SMALL_BYTES_MAX {
        return decode(&body);
    }
    let decoded = tokio::task::spawn_blocking(move || decode(&body)).await;
    decoded.unwrap_or_else(|_| Err(ApiError(Refusal::new(ErrorClass::Internal, "reading the request panicked"))))
}

/// `body` inflates to a bounded length.
fn decode(body: &[u8]) -> Result<ReadRequest, ApiError> {
    let plain = snap::raw::Decoder::new().decompress_vec(body);
    let plain = plain.map_err(|error| bad(format!("the body is no snappy block: {error}")))?;
    check(ReadRequest::size(&plain))?;
    ReadRequest::decode(plain.as_slice()).map_err(|error| bad(format!("not a ReadRequest: {error}")))
}

fn check(size: ReadRequestSize) -> Result<(), ApiError> {
    let ReadRequestSize { queries, matchers, form_bytes } = size;
    for (count, what, max) in [
        (queries, "queries", QUERIES_MAX),
        (matchers, "matchers", MATCHERS_MAX),
        (form_bytes, "bytes of accepted response types", FORM_BYTES_MAX),
    ] {
        if count > max {
            return Err(bad(format!("the request has {count} {what}, a remote read has {max} at most: send several")));
        }
    }
    Ok(())
}

/// The first form in the client's list that we know; samples if it names none.
pub(super) fn response_type(request: &ReadRequest) -> Result<ResponseType, ApiError> {
    let wanted = &request.accepted_response_types;
    if wanted.is_empty() {
        return Ok(ResponseType::Samples);
    }
    wanted.iter().find_map(|form| ResponseType::try_from(*form).ok()).ok_or_else(|| {
        bad(format!(
            "none of the requested response types {wanted:?} is supported; send SAMPLES or STREAMED_XOR_CHUNKS"
        ))
    })
}

/// The selectors of a request, as people write them: as many as are shown. Their patterns are not compiled here.
pub(super) fn text(request: &ReadRequest) -> String {
    let selector = |query: &Query| -> String {
        let shown = query.matchers.iter().take(MATCHERS_SHOWN_MAX).map(|matcher| {
            let op = op(matcher).map_or("?", MatchOp::as_str);
            format!("{}{op}{:?}", matcher.name, matcher.value)
        });
        format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
    };
    let shown: Vec<_> = request.queries.iter().take(QUERIES_SHOWN_MAX).map(selector).collect();
    shown.join(", ")
}

/// From the earliest to the latest instant that any query asks for.
pub(super) fn time(request: &ReadRequest) -> Option<(i64, i64, i64)> {
    let start_ms = request.queries.iter().map(|query| query.start_timestamp_ms).min()?;
    let end_ms = request.queries.iter().map(|query| query.end_timestamp_ms).max()?;
    Some((start_ms, end_ms, 0))
}

fn op(matcher: &LabelMatcher) -> Option<MatchOp> {
    Some(match MatcherType::try_from(matcher.r#type).ok()? {
        MatcherType::Eq => MatchOp::Equal,
        MatcherType::Neq => MatchOp::NotEqual,
        MatcherType::Re => MatchOp::Regex,
        MatcherType::Nre => MatchOp::NotRegex,
    })
}

/// The matchers of one query; their patterns are bounded as those of a query in PromQL.
pub(super) fn matchers(query: &Query) -> Result<Vec<Matcher>, ApiError> {
    let (mut matchers, mut pattern_bytes) = (Vec::with_capacity(query.matchers.len() + 1), 0);
    for matcher in &query.matchers {
        let op = op(matcher).ok_or_else(|| bad(format!("unknown matcher type {}", matcher.r#type)))?;
        let built = Matcher::new(op, &matcher.name, &matcher.value);
        let built = built.map_err(|error| bad(format!("matcher of {:?}: {error}", matcher.name)))?;
        pattern_bytes += built.pattern_bytes();
        if pattern_bytes > PATTERNS_BYTES_MAX {
            let message = format!("patterns of the query are too large: at most {PATTERNS_BYTES_MAX} bytes compiled");
            return Err(bad(message));
        }
        matchers.push(built);
    }
    if matchers.iter().all(Matcher::matches_empty) {
        // Everything may be asked for here; every series has a name.
        let named = Matcher::new(MatchOp::NotEqual, pharos_model::METRIC_NAME, "");
        matchers.push(named.map_err(|error| bad(error.to_string()))?);
    }
    Ok(matchers)
}
