//! The same questions over gRPC, answered in streams of bounded messages.
//!
//! Owns the translation of requests and answers; what is asked runs as it does for HTTP: in the pool, listed, within
//! the same limits. An answer is cut into messages while it is sent, at the pace of its client. Whoever cancels the call or
//! lets its deadline pass cancels the query.
//!
//! Messages: `proto/pharos/query/v1/query.proto`.

mod answer;
mod batches;
mod status;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::middleware::from_fn_with_state;
use futures::{Stream, stream};
use pharos_base::{CancelToken, ErrorClass, Reservation};
use pharos_gateway::{Principal, Scope, hold_reader_body};
use pharos_http::{Asked, QueryKind, Refusal};
use pharos_model::{Matcher, TimeRange};
use pharos_promql::QueryOptions;
use pharos_proto::query::v1 as pb;
use pharos_proto::query::v1::query_service_server::{QueryService, QueryServiceServer};
use pharos_storage::{LabelQuery, ReadContext, StorageError};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use self::answer::{label_set, query_messages};
use self::batches::batches;
use self::status::{bad, deadline_of, status_of};
use crate::call::Caller;
use crate::evaluate::{Question, TRUNCATED, evaluate};
use crate::listed::{self, listing_time};
use crate::params::parse_selectors;
use crate::reply::ApiError;
use crate::routes::PrometheusApi;

/// Selectors of one request.
const SELECTORS_MAX: usize = 10_000;

/// The query service. The routes have no fallback, so that they merge with others.
#[must_use]
pub fn grpc_routes(api: PrometheusApi) -> Routes {
    let bodies = Arc::new(api.bodies.clone());
    let service = QueryServiceServer::new(Door { api: Arc::new(api) })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(bodies.limit().len_max());
    let router = axum::Router::new().route_service("/pharos.query.v1.QueryService/{method}", service);
    Routes::from(router.route_layer(from_fn_with_state(bodies, hold_reader_body)))
}

struct Door {
    api: Arc<PrometheusApi>,
}

/// The messages of an answer.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn streamed<T: 'static>(messages: impl Iterator<Item = T> + Send + 'static) -> Response<Messages<T>> {
    Response::new(Box::pin(stream::iter(messages.map(Ok))))
}

/// A call: who asks, until when, what.
struct Call<T> {
    caller: Caller,
    deadline: Option<Instant>,
    message: T,
}

impl<T> Call<T> {
    fn of(request: Request<T>) -> Result<Self, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let Some(principal) = extensions.get::<Principal>() else {
            return Err(status_of(&Refusal::new(ErrorClass::Unauthenticated, "no credential")));
        };
        let tenant = principal.require(Scope::MetricsRead).and_then(|()| principal.tenant_for(None));
        let tenant = tenant.map_err(|error| status_of(&Refusal::new(error.class(), error.to_string())))?;
        let caller = Caller::of(tenant, &extensions, &headers);
        Ok(Self { caller, deadline: deadline_of(&headers)?, message })
    }
}

impl Door {
    async fn query(
        &self,
        call: Call<Question>,
        options: Option<pb::QueryOptions>,
    ) -> Result<Response<Messages<pb::QueryResponse>>, Status> {
        let wanted = options.unwrap_or_default();
        let level = wanted.stats();
        let options = QueryOptions {
            lookback_ms: wanted.lookback.map(lookback_ms).transpose()?,
            no_cache: wanted.no_cache,
            step_counts: level == pb::StatsLevel::Steps,
            cancel: call.deadline.map_or_else(CancelToken::new, CancelToken::with_deadline),
            ..QueryOptions::default()
        };
        let limit = limit(wanted.series_max);
        let evaluated = evaluate(&self.api, &call.caller, call.message, options, limit).await.map_err(failed)?;
        Ok(streamed(query_messages(evaluated, level)))
    }

    /// A listing of texts: the first `limit`, and what is known at their end.
    async fn list(
        &self,
        call: Call<(QueryKind, String)>,
        query: ListingQuery,
        read: impl Fn(&PrometheusApi, &LabelQuery, &ReadContext) -> Result<Vec<String>, StorageError> + Send + 'static,
    ) -> Result<(Vec<String>, pb::End), Status> {
        let (limit, range) = (query.limit, query.range);
        let (kind, text) = call.message;
        let asked = Asked { deadline: call.deadline, ..call.caller.asks(kind, &text, listing_time(range)) };
        let query = LabelQuery {
            matcher_sets: query.matcher_sets,
            range,
            // One more than asked for tells whether something was left out.
            limit: limit.map_or(usize::MAX, |limit| limit.saturating_add(1)),
        };
        let work = move |api: &PrometheusApi, context: &ReadContext| read(api, &query, context);
        let mut found = listed::read_short(&self.api, asked, &text, work).await.map_err(failed)?;
        let truncated = limit.is_some_and(|limit| found.len() > limit);
        found.truncate(limit.unwrap_or(usize::MAX));
        Ok((found, end_of_listing(truncated)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn failed(error: ApiError) -> Status {
    status_of(&error.0)
}

/// 0 means none.
fn limit(most: u64) -> Option<usize> {
    (most > 0).then(|| usize::try_from(most).unwrap_or(usize::MAX))
}

fn lookback_ms(lookback: prost_types::Duration) -> Result<i64, Status> {
    let lookback = Duration::try_from(lookback).ok().and_then(|lookback| i64::try_from(lookback.as_millis()).ok());
    lookback.filter(|ms| *ms > 0).ok_or_else(|| bad("options.lookback: it must be at least a millisecond"))
}

fn end_of_listing(truncated: bool) -> pb::End {
    let warnings = truncated.then(|| TRUNCATED.to_owned()).into_iter().collect();
    pb::End { warnings, ..pb::End::default() }
}

/// Which series a listing is about.
struct ListingQuery {
    matcher_sets: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: Option<usize>,
}

impl ListingQuery {
    fn new(selectors: &[String], start_ms: Option<i64>, end_ms: Option<i64>, most: u64) -> Result<Self, Status> {
        if selectors.len() > SELECTORS_MAX {
            let message = format!("selectors: {}, more than {SELECTORS_MAX}: ask for less at a time", selectors.len());
            return Err(bad(&message));
        }
        let matcher_sets = parse_selectors(selectors.iter().map(String::as_str));
        let matcher_sets = matcher_sets.map_err(|error| bad(&format!("selectors: {error}")))?;
        if matcher_sets.iter().any(|matchers| matchers.iter().all(Matcher::matches_empty)) {
            return Err(bad("selectors: each must contain at least one non-empty matcher"));
        }
        let (start_ms, end_ms) = (start_ms.unwrap_or(i64::MIN), end_ms.unwrap_or(i64::MAX));
        if end_ms < start_ms {
            return Err(bad("end_unix_ms: it must not be before start_unix_ms"));
        }
        Ok(Self { matcher_sets, range: TimeRange::inclusive(start_ms, end_ms), limit: limit(most) })
    }
}

#[tonic::async_trait]
impl QueryService for Door {
    type QueryInstantStream = Messages<pb::QueryResponse>;
    type QueryRangeStream = Messages<pb::QueryResponse>;
    type LabelsStream = Messages<pb::LabelsResponse>;
    type LabelValuesStream = Messages<pb::LabelValuesResponse>;
    type SeriesStream = Messages<pb::SeriesResponse>;

    async fn query_instant(
        &self,
        request: Request<pb::QueryInstantRequest>,
    ) -> Result<Response<Self::QueryInstantStream>, Status> {
        let Call { caller, deadline, message } = Call::of(request)?;
        let at_ms = message.time_unix_ms.unwrap_or_else(|| self.api.clock.unix_ms());
        let question = Question::instant(&message.query, at_ms);
        self.query(Call { caller, deadline, message: question }, message.options).await
    }

    async fn query_range(
        &self,
        request: Request<pb::QueryRangeRequest>,
    ) -> Result<Response<Self::QueryRangeStream>, Status> {
        let Call { caller, deadline, message } = Call::of(request)?;
        let (start_ms, end_ms) = (message.start_unix_ms, message.end_unix_ms);
        let question = Question::range(&self.api, &message.query, start_ms, end_ms, message.step_ms).map_err(failed)?;
        self.query(Call { caller, deadline, message: question }, message.options).await
    }

    async fn labels(&self, request: Request<pb::LabelsRequest>) -> Result<Response<Self::LabelsStream>, Status> {
        let Call { caller, deadline, message } = Call::of(request)?;
        let query =
            ListingQuery::new(&message.selectors, message.start_unix_ms, message.end_unix_ms, message.names_max)?;
        let asked = (QueryKind::Labels, format!("label_names({})", message.selectors.join(", ")));
        let tenant = caller.tenant.clone();
        let read = move |api: &PrometheusApi, query: &LabelQuery, context: &ReadContext| {
            api.store.label_names(&tenant, query, context)
        };
        let (names, end) = self.list(Call { caller, deadline, message: asked }, query, read).await?;
        let frame = |names, end| pb::LabelsResponse { names, end };
        Ok(streamed(batches(names.into_iter(), String::len, end, frame)))
    }

    async fn label_values(
        &self,
        request: Request<pb::LabelValuesRequest>,
    ) -> Result<Response<Self::LabelValuesStream>, Status> {
        let Call { caller, deadline, message } = Call::of(request)?;
        if message.name.is_empty() {
            return Err(bad("name: it must name a label"));
        }
        let query =
            ListingQuery::new(&message.selectors, message.start_unix_ms, message.end_unix_ms, message.values_max)?;
        let shown = message.selectors.iter().chain([&message.name]).map(String::as_str).collect::<Vec<_>>().join(", ");
        let asked = (QueryKind::LabelValues, format!("label_values({shown})"));
        let (tenant, name) = (caller.tenant.clone(), message.name);
        let read = move |api: &PrometheusApi, query: &LabelQuery, context: &ReadContext| {
            api.store.label_values(&tenant, &name, query, context)
        };
        let (values, end) = self.list(Call { caller, deadline, message: asked }, query, read).await?;
        let frame = |values, end| pb::LabelValuesResponse { values, end };
        Ok(streamed(batches(values.into_iter(), String::len, end, frame)))
    }

    async fn series(&self, request: Request<pb::SeriesRequest>) -> Result<Response<Self::SeriesStream>, Status> {
        let Call { caller, deadline, message } = Call::of(request)?;
        if message.selectors.is_empty() {
            return Err(bad("selectors: at least one is needed"));
        }
        let query =
            ListingQuery::new(&message.selectors, message.start_unix_ms, message.end_unix_ms, message.series_max)?;
        let asked = caller.asks(QueryKind::Series, &message.selectors.join(", "), listing_time(query.range));
        let asked = Asked { deadline, ..asked };
        let work = move |api: &PrometheusApi, context: &ReadContext| series(api, &caller, &query, context);
        let Found { sets, held, truncated } = listed::read(&self.api, asked, work).await.map_err(failed)?;
        // Their memory counts until the last message has left or the client has gone.
        let sets = sets.into_iter().inspect(move |_| _ = &held);
        let frame = |series, end| pb::SeriesResponse { series, end };
        Ok(streamed(batches(sets, pb::LabelSet::encoded_len, end_of_listing(truncated), frame)))
    }
}

/// Label sets of series and the memory they take, and whether the limit left something out.
struct Found {
    sets: Vec<pb::LabelSet>,
    held: Reservation,
    truncated: bool,
}

/// The series found, within the memory of a query.
fn series(
    api: &PrometheusApi,
    caller: &Caller,
    query: &ListingQuery,
    context: &ReadContext,
) -> Result<Found, StorageError> {
    let mut found = api.store.series(&caller.tenant, &query.matcher_sets, query.range, context)?;
    let (mut sets, mut held) = (Vec::new(), context.memory.reserve(0)?);
    for labels in found.by_ref().take(query.limit.unwrap_or(usize::MAX)) {
        let set = label_set(&labels?);
        held.grow(answer::label_bytes(&set.labels))?;
        sets.push(set);
    }
    Ok(Found { sets, held, truncated: found.next().transpose()?.is_some() })
}
