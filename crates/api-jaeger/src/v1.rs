//! Handlers of API v1.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use pharos_model::{SpanKind, TimeRangeNs, TraceId};
use pharos_storage::{OperationQuery, TraceLookup};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use serde_json::json;

use crate::call::Caller;
use crate::filter::kind_of;
use crate::params::{Params, parse_trace_id};
use crate::rendering::{Rendering, Traces};
use crate::routes::JaegerApi;
use crate::v1_json::TraceJson;

const LOOKBACK_DEFAULT_MS: u64 = 86_400_000;
const NS_PER_MS: u64 = 1_000_000;

type Api = State<Arc<JaegerApi>>;

#[derive(Serialize)]
struct Envelope<D, E> {
    data: D,
    total: usize,
    limit: usize,
    offset: usize,
    errors: E,
}

/// The envelope around a list.
fn envelope(data: impl Serialize, total: usize) -> Response {
    let envelope = Envelope { data, total, limit: 0, offset: 0, errors: () };
    // Our own types have text keys only, so they serialize.
    let body = serde_json::to_vec(&envelope).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Turns a result of a handler's steps into its answer.
fn respond(result: Result<Response, Response>) -> Response {
    result.unwrap_or_else(|refusal| refusal)
}

/// Lists services.
pub(crate) async fn services(State(api): Api, caller: Caller) -> Response {
    let (store, tenant) = (Arc::clone(&api.store), caller.tenant.clone());
    let found = api.pool.run(move |_| store.services(&tenant)).await;
    respond(caller.unwrap(found).map(|found| envelope(&found, found.len())))
}

/// Lists the names of a service's operations.
pub(crate) async fn operation_names(State(api): Api, caller: Caller, Path(service): Path<String>) -> Response {
    respond(list_operations(&api, &caller, service, None).await.map(|found| {
        let names: BTreeSet<_> = found.iter().map(|operation| operation.name.as_str()).collect();
        envelope(&names, names.len())
    }))
}

/// Lists a service's operations with their kinds.
pub(crate) async fn operations(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let Some(service) = params.get("service") else { return caller.bad("parameter 'service' is required") };
    let kind = match params.get("spanKind").map(|word| kind_of(word).ok_or(word)) {
        Some(Err(word)) => return caller.bad(format!("spanKind: {word:?} is no kind of span")),
        Some(Ok(kind)) => Some(kind),
        None => None,
    };
    respond(list_operations(&api, &caller, service.to_owned(), kind).await.map(|found| {
        let listed: Vec<_> = found.iter().map(|found| json!({"name": found.name, "spanKind": found.kind})).collect();
        envelope(&listed, listed.len())
    }))
}

async fn list_operations(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    service: String,
    kind: Option<SpanKind>,
) -> Result<Vec<pharos_storage::Operation>, Response> {
    let (store, tenant) = (Arc::clone(&api.store), caller.tenant.clone());
    let query = OperationQuery { service, kind };
    caller.unwrap(api.pool.run(move |_| store.operations(&tenant, &query)).await)
}

/// Finds traces, or reads those whose ids are given.
pub(crate) async fn find(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let by_id: Vec<_> = params.all("traceID").filter(|id| !id.is_empty()).map(str::to_owned).collect();
    respond(if by_id.is_empty() {
        search(&api, &caller, &params).await
    } else {
        read_many(&api, &caller, &params, &by_id).await
    })
}

async fn search(api: &Arc<JaegerApi>, caller: &Caller, params: &Params) -> Result<Response, Response> {
    let now_ns = u64::try_from(api.clock.unix_ns()).unwrap_or(0);
    let query = params.v1_query(now_ns).map_err(|message| caller.bad(message))?;
    let pretty = is_pretty(params);
    let found = caller.read(api, move |api, tenant, context| {
        let found = api.store.find(tenant, &query, context)?;
        let ids: Vec<_> = found.hits.iter().map(|hit| hit.trace_id).collect();
        let warnings: Vec<_> = found.warnings.into_iter().map(|text| json!({"msg": text})).collect();
        let rendering = Rendering::new(context);
        let traces = Traces::new(&rendering, api.store.traces(tenant, &lookups(&ids, None), context)?);
        rendering.finish(&answer(&traces, (!warnings.is_empty()).then_some(warnings)), pretty)
    });
    found.await.map(IntoResponse::into_response)
}

async fn read_many(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    params: &Params,
    ids: &[String],
) -> Result<Response, Response> {
    let parse = |id: &String| parse_trace_id(id).ok_or_else(|| caller.bad(format!("cannot parse trace id {id:?}")));
    let ids = ids.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let range = params.read_range("start", "end").map_err(|message| caller.bad(message))?;
    let pretty = is_pretty(params);
    let found = caller.read(api, move |api, tenant, context| {
        let rendering = Rendering::new(context);
        let traces = Traces::new(&rendering, api.store.traces(tenant, &lookups(&ids, range), context)?);
        rendering.finish(&answer(&traces, Absent { ids: &ids, traces: &traces }), pretty)
    });
    found.await.map(IntoResponse::into_response)
}

/// Reads one trace.
pub(crate) async fn trace(
    State(api): Api,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::parse(query.as_deref());
    respond(read_one(&api, &caller, &params, &id).await)
}

async fn read_one(api: &Arc<JaegerApi>, caller: &Caller, params: &Params, id: &str) -> Result<Response, Response> {
    let id = parse_trace_id(id).ok_or_else(|| caller.bad(format!("cannot parse trace id {id:?}")))?;
    let range = params.read_range("start", "end").map_err(|message| caller.bad(message))?;
    let pretty = is_pretty(params);
    let found = caller.read(api, move |api, tenant, context| {
        let rendering = Rendering::new(context);
        let traces = Traces::new(&rendering, api.store.traces(tenant, &lookups(&[id], range), context)?);
        if traces.is_empty() { Ok(None) } else { rendering.finish(&answer(&traces, ()), pretty).map(Some) }
    });
    found.await?.map(IntoResponse::into_response).ok_or_else(|| caller.not_found("trace not found"))
}

fn lookups(ids: &[TraceId], range: Option<TimeRangeNs>) -> Vec<TraceLookup> {
    ids.iter().map(|&trace_id| TraceLookup { trace_id, range }).collect()
}

fn is_pretty(params: &Params) -> bool {
    params.get("prettyPrint").is_some_and(|value| value != "false")
}

/// The envelope around traces.
fn answer<'a, E: Serialize>(traces: &'a Traces<'a>, errors: E) -> Envelope<TracesJson<'a>, E> {
    Envelope { data: TracesJson(traces), total: 0, limit: 0, offset: 0, errors }
}

/// Traces as a list.
pub(crate) struct TracesJson<'a>(pub(crate) &'a Traces<'a>);

impl Serialize for TracesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        while let Some(trace) = self.0.next()? {
            list.serialize_element(&TraceJson::from(&trace))?;
        }
        list.end()
    }
}

/// The traces that were asked for and are not there; known once all are read, so to be serialized after them.
struct Absent<'a> {
    ids: &'a [TraceId],
    traces: &'a Traces<'a>,
}

impl Serialize for Absent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let absent = self.ids.iter().filter(|id| !self.traces.has_seen(**id));
        let errors: Vec<_> = absent.map(|id| json!({"msg": "trace not found", "traceID": id.to_string()})).collect();
        (!errors.is_empty()).then_some(errors).serialize(serializer)
    }
}

/// Lists calls between services.
pub(crate) async fn dependencies(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let range = match dependency_range(&api, &params) {
        Ok(range) => range,
        Err(message) => return caller.bad(message),
    };
    let service = params.get("service").map(str::to_owned);
    let (store, tenant) = (Arc::clone(&api.store), caller.tenant.clone());
    let found = api.pool.run(move |_| store.dependencies(&tenant, range)).await;
    respond(caller.unwrap(found).map(|links| {
        let wanted = links
            .iter()
            .filter(|link| service.as_deref().is_none_or(|service| link.parent == service || link.child == service));
        let listed: Vec<_> = wanted
            .map(|link| json!({"parent": link.parent, "child": link.child, "callCount": link.call_count}))
            .collect();
        envelope(&listed, 0)
    }))
}

/// `endTs` and `lookback`, both in milliseconds.
fn dependency_range(api: &JaegerApi, params: &Params) -> Result<TimeRangeNs, String> {
    let end_ms = params.ms("endTs")?.unwrap_or_else(|| u64::try_from(api.clock.unix_ms()).unwrap_or(0));
    let lookback_ms = params.ms("lookback")?.unwrap_or(LOOKBACK_DEFAULT_MS);
    let start_ms = end_ms.saturating_sub(lookback_ms);
    Ok(TimeRangeNs::inclusive(start_ms.saturating_mul(NS_PER_MS), end_ms.saturating_mul(NS_PER_MS)))
}
