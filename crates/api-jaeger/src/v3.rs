//! Handlers of API v3.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use pharos_base::ErrorClass;
use pharos_http::Refusal;
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{OperationQuery, ReadContext, StorageError, Trace, TraceLookup, TraceSummary};
use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::filter::kind_of;
use crate::otlp_json::traces_data;
use crate::params::{Params, optional_rfc3339_ns, parse_trace_id};
use crate::routes::JaegerApi;
use crate::v1::read;

type Api = State<Arc<JaegerApi>>;

fn respond(result: Result<Value, Response>) -> Response {
    result.map_or_else(|refusal| refusal, |value| Json(value).into_response())
}

fn not_found(caller: &Caller) -> Response {
    caller.refuse(&Refusal::new(ErrorClass::NotFound, "No traces found"))
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
    respond(read_one(&api, &caller, &params, &id).await)
}

async fn read_one(api: &Arc<JaegerApi>, caller: &Caller, params: &Params, id: &str) -> Result<Value, Response> {
    let id = parse_trace_id(id).ok_or_else(|| caller.bad(format!("cannot parse trace id {id:?}")))?;
    let time = |names: &[&str]| optional_rfc3339_ns(params, names).map_err(|message| caller.bad(message));
    let (start_ns, end_ns) = (time(&["startTime", "start_time"])?, time(&["endTime", "end_time"])?);
    let range = (start_ns.is_some() || end_ns.is_some())
        .then(|| TimeRangeNs::inclusive(start_ns.unwrap_or(0), end_ns.unwrap_or(u64::MAX - 1)));
    let traces = read(api, caller, &[id], range).await?;
    result_of(&traces).ok_or_else(|| not_found(caller))
}

fn result_of(traces: &[Trace]) -> Option<Value> {
    (!traces.is_empty()).then(|| json!({"result": traces_data(traces)}))
}

/// Finds traces.
pub(crate) async fn find(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let found = search(&api, &caller, &params, |api, tenant, lookups, context| {
        api.store.traces(tenant, lookups, context)?.collect::<Result<Vec<_>, _>>()
    });
    respond(found.await.and_then(|traces| result_of(&traces).ok_or_else(|| not_found(&caller))))
}

/// Finds traces and tells them in short.
pub(crate) async fn summaries(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let found =
        search(&api, &caller, &params, |api, tenant, lookups, context| api.store.summaries(tenant, lookups, context));
    let listed = |found: Vec<TraceSummary>| json!({"summaries": found.iter().map(summary).collect::<Vec<_>>()});
    respond(found.await.map(listed))
}

/// Reads what a search found.
type Read<T> = fn(&JaegerApi, &TenantId, &[TraceLookup], &ReadContext) -> Result<Vec<T>, StorageError>;

async fn search<T: Send + 'static>(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    params: &Params,
    read: Read<T>,
) -> Result<Vec<T>, Response> {
    let query = params.v3_query().map_err(|message| caller.bad(message))?;
    let (inner, tenant) = (Arc::clone(api), caller.tenant.clone());
    let work = move |cancel| {
        let context = inner.context(&cancel);
        let lookups = inner.search(&tenant, &query, &context)?;
        read(&inner, &tenant, &lookups, &context)
    };
    caller.unwrap(api.pool.run(work).await)
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
