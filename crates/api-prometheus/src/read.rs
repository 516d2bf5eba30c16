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
mod request;
mod samples;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, QueryKind, Refusal};
use pharos_model::{TenantId, TimeRange};
use pharos_proto::remote_read::Query;
use pharos_proto::remote_read::read_request::ResponseType;
use pharos_storage::{LeafPlan, LeafSeries, RawPlan, RawSeries, ReadContext, StorageError};

use self::request::{matchers, response_type, text, time};
use crate::call::Caller;
use crate::listed;
use crate::params::HeldBytes;
use crate::reply::ApiError;
use crate::routes::PrometheusApi;

/// Reads at a time; more wait. Upstream's `--storage.remote.read-concurrent-limit`.
pub(crate) const READS_MAX: usize = 10;
/// Longest wait for a place.
const READ_WAIT_MAX: Duration = Duration::from_mins(1);
/// Largest frame of the streamed form, bytes; upstream's `--storage.remote.read-max-bytes-in-frame`.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;

/// The answer's body.
enum Answer {
    /// One snappy block.
    Samples(Vec<u8>),
    /// Frames, in order.
    Chunks(Vec<Bytes>),
}

/// Answers a remote read request.
pub(crate) async fn read(State(api): State<Arc<PrometheusApi>>, caller: Caller, body: HeldBytes) -> Response {
    match answer(&api, &caller, body.0).await {
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

/// The place comes first: what is decoded is large, and so is what is read.
async fn answer(api: &Arc<PrometheusApi>, caller: &Caller, body: Bytes) -> Result<Answer, ApiError> {
    let waiting = tokio::time::timeout(READ_WAIT_MAX, api.gates.reads.acquire()).await;
    let _place = waiting.ok().and_then(Result::ok).ok_or_else(|| {
        let message = format!("remote reads under way: {READS_MAX} at most; ask again, or for more at a time");
        ApiError(Refusal::new(ErrorClass::Unavailable, message).with_retry_after(Some(Duration::from_secs(1))))
    })?;
    let request = request::read(body, api.bodies.limit().of_request(&caller.limits)).await?;
    let form = response_type(&request)?;
    let asked = caller.asks(QueryKind::Read, &text(&request), time(&request));
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

#[cfg(test)]
mod tests;
