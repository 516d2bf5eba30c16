//! Handlers of API v3.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{OperationQuery, ReadContext, StorageError, TraceLookup, TraceSummary};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::filter::kind_of;
use crate::otlp_json::Otlp;
use crate::params::{Params, optional_rfc3339_ns, parse_trace_id};
use crate::rendering::{Rendered, Rendering, Traces};
use crate::routes::JaegerApi;

/// Jaeger's words.
const NOT_FOUND: &str = "No traces found";

type Api = State<Arc<JaegerApi>>;

fn respond(result: Result<Value, Response>) -> Response {
    result.map_or_else(|refusal| refusal, |value| Json(value).into_response())
}

/// Lists services.
pub(crate) async fn services(State(api): Api, caller: Caller) -> Response {
    let (store, tenant) = (Arc::clone(&api.store), caller.tenant.clone());
    let found = api.pool.run(move |_| store.services(&tenant)).await;
    respond(caller.unwrap(found).map(|found| json!({"services": found})))
}

/// Lists a service's operations.
pub(crate) async fn operations(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let Some(service) = params.get("service") else { return caller.bad("parameter 'service' is required") };
    let kind = match params.any(&["spanKind", "span_kind"]).map(|word| kind_of(word).ok_or(word)) {
        Some(Err(word)) => return caller.bad(format!("spanKind: {word:?} is no kind of span")),
        Some(Ok(kind)) => Some(kind),
        None => None,
    };
    let query = OperationQuery { service: service.to_owned(), kind };
    let (store, tenant) = (Arc::clone(&api.store), caller.tenant.clone());
    let found = api.pool.run(move |_| store.operations(&tenant, &query)).await;
    respond(caller.unwrap(found).map(|found| {
        let listed: Vec<_> = found.iter().map(|found| json!({"name": found.name, "spanKind": found.kind})).collect();
        json!({"operations": listed})
    }))
}

/// Reads one trace.
pub(crate) async fn trace(
    State(api): Api,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::parse(query.as_deref());
    read_one(&api, &caller, &params, &id).await.unwrap_or_else(|refusal| refusal)
}

async fn read_one(api: &Arc<JaegerApi>, caller: &Caller, params: &Params, id: &str) -> Result<Response, Response> {
    let id = parse_trace_id(id).ok_or_else(|| caller.bad(format!("cannot parse trace id {id:?}")))?;
    let time = |names: &[&str]| optional_rfc3339_ns(params, names).map_err(|message| caller.bad(message));
    let (start_ns, end_ns) = (time(&["startTime", "start_time"])?, time(&["endTime", "end_time"])?);
    let range = (start_ns.is_some() || end_ns.is_some())
        .then(|| TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1)));
    let found = caller
        .read(api, move |api, tenant, context| render(api, tenant, &[TraceLookup { trace_id: id, range }], context));
    found.await?.map(IntoResponse::into_response).ok_or_else(|| caller.not_found(NOT_FOUND))
}

/// Finds traces.
pub(crate) async fn find(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let query = match params.v3_query() {
        Ok(query) => query,
        Err(message) => return caller.bad(message),
    };
    let found = caller.read(&api, move |api, tenant, context| {
        let lookups = api.search(tenant, &query, context)?;
        render(api, tenant, &lookups, context)
    });
    match found.await {
        Ok(Some(rendered)) => rendered.into_response(),
        Ok(None) => caller.not_found(NOT_FOUND),
        Err(refusal) => refusal,
    }
}

/// Reads and renders traces, if there are any.
fn render(
    api: &JaegerApi,
    tenant: &TenantId,
    lookups: &[TraceLookup],
    context: &ReadContext,
) -> Result<Option<Rendered>, StorageError> {
    let rendering = Rendering::new(context);
    let traces = Traces::new(&rendering, api.store.traces(tenant, lookups, context)?);
    if traces.is_empty() {
        return Ok(None);
    }
    let answer = Found { result: TracesData { resource_spans: ResourceSpans(&traces) } };
    rendering.finish(&answer, false).map(Some)
}

#[derive(Serialize)]
struct Found<'a> {
    result: TracesData<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TracesData<'a> {
    resource_spans: ResourceSpans<'a>,
}

/// The groups of all traces as one list.
struct ResourceSpans<'a>(&'a Traces<'a>);

impl Serialize for ResourceSpans<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        while let Some(trace) = self.0.next()? {
            trace.groups.iter().try_for_each(|group| list.serialize_element(&Otlp(group)))?;
        }
        list.end()
    }
}

/// Finds traces and tells them in short.
pub(crate) async fn summaries(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let query = match params.v3_query() {
        Ok(query) => query,
        Err(message) => return caller.bad(message),
    };
    let found = caller.read(&api, move |api, tenant, context| {
        let lookups = api.search(tenant, &query, context)?;
        let found = api.store.summaries(tenant, &lookups, context)?;
        Rendering::new(context).finish(&Summaries { summaries: SummaryList(&found) }, false)
    });
    found.await.map_or_else(|refusal| refusal, IntoResponse::into_response)
}

#[derive(Serialize)]
struct Summaries<'a> {
    summaries: SummaryList<'a>,
}

struct SummaryList<'a>(&'a [TraceSummary]);

impl Serialize for SummaryList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(summary))
    }
}

fn summary(summary: &TraceSummary) -> Value {
    let services = summary.services.iter().map(|service| {
        let mut object = Map::from_iter([("name".to_owned(), json!(service.service))]);
        put(&mut object, "spanCount", service.spans);
        put(&mut object, "errorSpanCount", service.errors);
        Value::Object(object)
    });
    let mut object = Map::from_iter([("traceId".to_owned(), json!(summary.trace_id.to_string()))]);
    for (key, text) in [("rootServiceName", &summary.root_service), ("rootOperationName", &summary.root_operation)] {
        if !text.is_empty() {
            object.insert(key.to_owned(), json!(text));
        }
    }
    object.insert("minStartTimeUnixNano".to_owned(), json!(summary.start_ns.to_string()));
    object.insert("maxEndTimeUnixNano".to_owned(), json!(summary.end_ns.to_string()));
    put(&mut object, "spanCount", summary.span_count);
    put(&mut object, "errorSpanCount", summary.error_count);
    put(&mut object, "orphanSpanCount", summary.orphan_count);
    object.insert("services".to_owned(), services.collect());
    Value::Object(object)
}

/// Sets a member unless it is zero.
fn put(object: &mut Map<String, Value>, key: &str, number: u64) {
    if number != 0 {
        object.insert(key.to_owned(), json!(number));
    }
}

/// Lists calls between services.
pub(crate) async fn dependencies(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let time = |names: [&str; 2]| optional_rfc3339_ns(&params, &names);
    let (start_ns, end_ns) = match (time(["startTime", "start_time"]), time(["endTime", "end_time"])) {
        (Ok(start_ns), Ok(end_ns)) => (start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1)),
        (Err(message), _) | (_, Err(message)) => return caller.bad(message),
    };
    let (store, tenant) = (Arc::clone(&api.store), caller.tenant.clone());
    let range = TimeRangeNs::inclusive(start_ns, end_ns);
    let found = api.pool.run(move |_| store.dependencies(&tenant, range)).await;
    respond(caller.unwrap(found).map(|links| {
        let listed = links
            .iter()
            .map(|link| json!({"parent": link.parent, "child": link.child, "callCount": link.call_count.to_string()}));
        json!({"dependencies": listed.collect::<Vec<_>>()})
    }))
}
