//! `read`: remote read, by which other servers fetch raw series.
//!
//! Owns the protocol: request, choice of the answer's form, limits. Two forms exist: all samples in one snappy
//! block, or frames of chunks in Prometheus' encoding, series by series in the order of their labels. The store hands
//! series out in no order, so frames are held, compressed, until all are there; what is held counts against the
//! memory of a query.
//!
//! Source: Prometheus' remote read API; `ReadHints` are hints and are not needed here.

mod chunks;
mod frames;
mod samples;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, QueryKind, Refusal};
use pharos_model::{MatchOp, Matcher, TenantId, TimeRange};
use pharos_proto::remote_read::label_matcher::MatcherType;
use pharos_proto::remote_read::read_request::ResponseType;
use pharos_proto::remote_read::{Query, ReadRequest};
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, RawSeries, ReadContext, StorageError};
use prost::Message;

use crate::call::Caller;
use crate::listed;
use crate::reply::ApiError;
use crate::routes::PrometheusApi;

/// Largest request, compressed and plain, bytes; upstream's limit.
const REQUEST_BYTES_MAX: usize = 32 << 20;
/// Reads at a time; more wait. Upstream's `--storage.remote.read-concurrent-limit`.
pub(crate) const READS_MAX: usize = 10;
/// Longest wait for a place.
const READ_WAIT_MAX: Duration = Duration::from_mins(1);
/// Largest frame of the streamed form, bytes; upstream's `--storage.remote.read-max-bytes-in-frame`.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;
/// Queries one request may bundle.
const QUERIES_MAX: usize = 1_000;
/// Queries of a request that the listing of queries shows.
const QUERIES_SHOWN_MAX: usize = 10;

/// The answer's body.
enum Answer {
    /// One snappy block.
    Samples(Vec<u8>),
    /// Frames, in order.
    Chunks(Vec<Bytes>),
}

/// Answers a remote read request.
pub(crate) async fn read(State(api): State<Arc<PrometheusApi>>, caller: Caller, request: Request) -> Response {
    match answer(&api, &caller, request).await {
        Ok(Answer::Samples(block)) => {
            ([(CONTENT_TYPE, "application/x-protobuf"), (CONTENT_ENCODING, "snappy")], block).into_response()
        }
        Ok(Answer::Chunks(frames)) => {
            let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            let body = Body::from_stream(stream::iter(frames.into_iter().map(Ok::<_, std::convert::Infallible>)));
            ([(CONTENT_TYPE, content_type)], body).into_response()
        }
        Err(error) => error.0.render(Dialect::Plain),
    }
}

async fn answer(api: &Arc<PrometheusApi>, caller: &Caller, request: Request) -> Result<Answer, ApiError> {
    let body = to_bytes(request.into_body(), REQUEST_BYTES_MAX).await;
    let body = body.map_err(|error| bad(format!("cannot read the body: {error} (limit {REQUEST_BYTES_MAX} bytes)")))?;
    let request = decode(&body)?;
    let form = response_type(&request)?;
    let waiting = tokio::time::timeout(READ_WAIT_MAX, api.gates.reads.acquire()).await;
    let _place = waiting.ok().and_then(Result::ok).ok_or_else(|| {
        let message = format!("{READS_MAX} remote reads are under way already; try again");
        ApiError(Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(Duration::from_secs(1))))
    })?;
    let asked = caller.asks(QueryKind::Read, &text(&request)?, time(&request));
    let tenant = caller.tenant.clone();
    let work = move |api: &PrometheusApi, context: &ReadContext| -> Result<Answer, ApiError> {
        let reader = Reader { api, tenant: &tenant, context };
        match form {
            ResponseType::Samples => samples::answer(&reader, &request.queries).map(Answer::Samples),
            ResponseType::StreamedXorChunks => frames::answer(&reader, &request.queries).map(Answer::Chunks),
        }
    };
    listed::read(api, asked, work).await
}

/// The selectors of a request, as people write them.
fn text(request: &ReadRequest) -> Result<String, ApiError> {
    let selector = |query| -> Result<String, ApiError> {
        let matchers: Vec<_> = matchers(query)?.iter().map(ToString::to_string).collect();
        Ok(format!("{{{}}}", matchers.join(",")))
    };
    let shown: Result<Vec<_>, _> = request.queries.iter().take(QUERIES_SHOWN_MAX).map(selector).collect();
    Ok(shown?.join(", "))
}

/// From the earliest to the latest instant that any query asks for.
fn time(request: &ReadRequest) -> Option<(i64, i64, i64)> {
    let start_ms = request.queries.iter().map(|query| query.start_timestamp_ms).min()?;
    let end_ms = request.queries.iter().map(|query| query.end_timestamp_ms).max()?;
    Some((start_ms, end_ms, 0))
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(Refusal::new(ErrorClass::Invalid, message))
}

fn decode(body: &[u8]) -> Result<ReadRequest, ApiError> {
    let plain_len =
        snap::raw::decompress_len(body).map_err(|error| bad(format!("the body is no snappy block: {error}")))?;
    if plain_len > REQUEST_BYTES_MAX {
        return Err(ApiError(
            Refusal::new(
                ErrorClass::Invalid,
                format!("the request has {plain_len} bytes, more than {REQUEST_BYTES_MAX}"),
            )
            .with_status(StatusCode::PAYLOAD_TOO_LARGE),
        ));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body);
    let plain = plain.map_err(|error| bad(format!("the body is no snappy block: {error}")))?;
    let request = ReadRequest::decode(plain.as_slice()).map_err(|error| bad(format!("not a ReadRequest: {error}")))?;
    if request.queries.len() > QUERIES_MAX {
        return Err(bad(format!("the request has {} queries, more than {QUERIES_MAX}", request.queries.len())));
    }
    Ok(request)
}

/// The first form in the client's list that we know; samples if it names none.
fn response_type(request: &ReadRequest) -> Result<ResponseType, ApiError> {
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

/// What the queries of one request share.
struct Reader<'a> {
    api: &'a PrometheusApi,
    tenant: &'a TenantId,
    context: &'a ReadContext,
}

impl Reader<'_> {
    /// Hands each series that `query` selects to `take`, in no order; those without samples are left out.
    fn each(&self, query: &Query, mut take: impl FnMut(RawSeries) -> Result<(), ApiError>) -> Result<(), ApiError> {
        if query.end_timestamp_ms < query.start_timestamp_ms {
            return Ok(());
        }
        let plan = LeafPlan::Raw(RawPlan {
            matchers: matchers(query)?,
            range: TimeRange::inclusive(query.start_timestamp_ms, query.end_timestamp_ms),
        });
        for series in self.api.store.leaf(self.tenant, &plan, self.context)? {
            self.context.check().map_err(StorageError::Interrupted)?;
            let LeafSeries::Raw(series) = series? else {
                return Err(StorageError::Unsupported { what: "an answer of another plan".to_owned() }.into());
            };
            self.context.meter.count(series.sample_count(), 0);
            if series.sample_count() > 0 {
                take(series)?;
            }
        }
        Ok(())
    }
}

fn matchers(query: &Query) -> Result<Vec<Matcher>, ApiError> {
    let mut matchers = Vec::with_capacity(query.matchers.len() + 1);
    for matcher in &query.matchers {
        let kind = MatcherType::try_from(matcher.r#type)
            .map_err(|_| bad(format!("unknown matcher type {}", matcher.r#type)))?;
        let op = match kind {
            MatcherType::Eq => MatchOp::Equal,
            MatcherType::Neq => MatchOp::NotEqual,
            MatcherType::Re => MatchOp::Regex,
            MatcherType::Nre => MatchOp::NotRegex,
        };
        let built = Matcher::new(op, &matcher.name, &matcher.value);
        matchers.push(built.map_err(|error| bad(format!("matcher of {:?}: {error}", matcher.name)))?);
    }
    if matchers.iter().all(Matcher::matches_empty) {
        // Everything may be asked for here; every series has a name.
        let named = Matcher::new(MatchOp::NotEqual, pharos_model::METRIC_NAME, "");
        matchers.push(named.map_err(|error| bad(error.to_string()))?);
    }
    Ok(matchers)
}

#[cfg(test)]
mod tests;
