//! Handlers of API v1.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use pharos_base::ErrorClass;
use pharos_http::{QueryKind, Refusal};
use pharos_model::{TimeRangeNs, TraceId};
use pharos_storage::{Operation, OperationQuery, ReadContext, StorageError, TraceLookup, TraceQuery};
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::json;

use crate::call::{Caller, OfService, OfTrace};
use crate::filter::kind_of;
use crate::json_text::JsonText;
use crate::params::Params;
use crate::rendering::{Rendered, Rendering, Traces};
use crate::routes::JaegerApi;
use crate::trace_id::{parse_trace_id, short_trace_id};
use crate::v1_json::write_trace;
use crate::v1_params::TracesQuestion;

pub(crate) type Api = State<Arc<JaegerApi>>;

/// The envelope around lists; Jaeger counts those of names only.
#[derive(Serialize)]
struct Envelope<D> {
    data: D,
    total: usize,
    limit: usize,
    offset: usize,
    errors: (),
}

impl<D: Serialize> Envelope<D> {
    fn new(data: D, total: usize) -> Self {
        Self { data, total, limit: 0, offset: 0, errors: () }
    }
}

/// The end of a handler's steps: an answer there is, or a refusal.
pub(crate) fn respond(caller: &Caller, result: Result<Option<Response>, Response>) -> Response {
    result.map_or_else(|refusal| refusal, |found| found.unwrap_or_else(|| caller.not_found("trace not found")))
}

/// Renders a short answer.
async fn list<D: Serialize + Send + 'static>(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    params: &Params,
    read: impl FnOnce(&JaegerApi, &ReadContext) -> Result<Envelope<D>, StorageError> + Send + 'static,
) -> Response {
    let pretty = params.v1_pretty();
    let render = move |api: &JaegerApi, _: &_, rendering: &Rendering<'_>| {
        rendering.finish(&read(api, rendering.context)?, pretty).map(Some)
    };
    respond(caller, caller.render(api, (QueryKind::TraceLists, None), render).await)
}

/// Lists services.
pub(crate) async fn services(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let tenant = caller.tenant.clone();
    let read = move |api: &JaegerApi, _: &ReadContext| {
        let found = api.store.services(&tenant)?;
        let total = found.len();
        Ok(Envelope::new(found, total))
    };
    list(&api, &caller, &Params::parse(query.as_deref()), read).await
}

/// Lists the names of a service's operations.
pub(crate) async fn operation_names(
    State(api): Api,
    caller: Caller,
    Path(OfService { service }): Path<OfService>,
    RawQuery(query): RawQuery,
) -> Response {
    let wanted = OperationQuery { service, kind: None };
    list_operations(&api, &caller, &Params::parse(query.as_deref()), wanted, |found| {
        let names: BTreeSet<_> = found.into_iter().map(|operation| operation.name).collect();
        let total = names.len();
        Envelope::new(names, total)
    })
    .await
}

/// Lists a service's operations with their kinds.
pub(crate) async fn operations(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let Some(service) = params.get("service") else { return caller.bad("parameter 'service' is required") };
    let kind = match params.get("spanKind").map(|word| kind_of(word).ok_or(word)) {
        Some(Err(word)) => {
            return caller.bad(format!("unable to parse param 'spanKind': {word:?} is no kind of span"));
        }
        Some(Ok(kind)) => Some(kind),
        None => None,
    };
    let wanted = OperationQuery { service: service.to_owned(), kind };
    list_operations(&api, &caller, &params, wanted, |found| {
        let total = found.len();
        let listed = found.into_iter().map(|found| json!({"name": found.name, "spanKind": found.kind}));
        Envelope::new(listed.collect::<Vec<_>>(), total)
    })
    .await
}

async fn list_operations<D: Serialize + Send + 'static>(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    params: &Params,
    wanted: OperationQuery,
    show: impl FnOnce(Vec<Operation>) -> Envelope<D> + Send + 'static,
) -> Response {
    let tenant = caller.tenant.clone();
    list(api, caller, params, move |api, _| api.store.operations(&tenant, &wanted).map(show)).await
}

/// Lists calls between services.
pub(crate) async fn dependencies(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let range = match params.v1_dependencies(u64::try_from(api.clock.unix_ms()).unwrap_or(0)) {
        Ok(range) => range,
        Err(message) => return caller.bad(message),
    };
    let (service, tenant) = (params.get("service").map(str::to_owned), caller.tenant.clone());
    let read = move |api: &JaegerApi, context: &ReadContext| {
        let (mut links, _held) = api.dependencies(&tenant, range, context)?;
        if let Some(service) = service {
            links.retain(|link| link.parent == service || link.child == service);
        }
        let listed =
            links.iter().map(|link| json!({"parent": link.parent, "child": link.child, "callCount": link.call_count}));
        Ok(Envelope::new(listed.collect::<Vec<_>>(), 0))
    };
    list(&api, &caller, &params, read).await
}

/// How traces are shown.
#[derive(Clone, Copy)]
struct Shown {
    pretty: bool,
    /// As they came.
    raw: bool,
}

impl Shown {
    fn of(params: &Params) -> Result<Self, String> {
        Ok(Self { pretty: params.v1_pretty(), raw: params.v1_raw()? })
    }
}

/// Finds traces, or reads those whose ids are given.
pub(crate) async fn find(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let now_ns = u64::try_from(api.clock.unix_ns()).unwrap_or(0);
    let question = params.v1_traces(now_ns).and_then(|question| Ok((question, Shown::of(&params)?)));
    let found = match question {
        Err(message) => return caller.bad(message),
        Ok((TracesQuestion::Search(query), shown)) => search(&api, &caller, query, shown).await,
        Ok((TracesQuestion::Read(ids, range), shown)) => read_many(&api, &caller, ids, range, shown).await,
    };
    respond(&caller, found)
}

async fn search(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    query: TraceQuery,
    shown: Shown,
) -> Result<Option<Response>, Response> {
    let asked = (QueryKind::TraceSearch, Some(query.start));
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        let found = api.store.find(tenant, &query, rendering.context)?;
        let ids: Vec<_> = found.hits.iter().map(|hit| hit.trace_id).collect();
        let warnings: Vec<_> = found.warnings.into_iter().map(|text| json!({"msg": text})).collect();
        let stream = api.store.traces(tenant, &lookups(&ids, None), rendering.context)?;
        let traces = Traces::new(rendering, stream, api.adjusting_unless(shown.raw));
        finish_traces(rendering, &traces, &(!warnings.is_empty()).then_some(warnings), shown.pretty).map(Some)
    };
    caller.render(api, asked, render).await
}

async fn read_many(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    mut ids: Vec<TraceId>,
    range: Option<TimeRangeNs>,
    shown: Shown,
) -> Result<Option<Response>, Response> {
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        let stream = api.store.traces(tenant, &lookups(&ids, range), rendering.context)?;
        let traces = Traces::new(rendering, stream, api.adjusting_unless(shown.raw));
        finish_traces(rendering, &traces, &Absent { ids: &ids, traces: &traces }, shown.pretty).map(Some)
    };
    caller.render(api, (QueryKind::TraceRead, range), render).await
}

/// What a path with a trace id and its parameters ask for.
fn one(id: &str, params: &Params) -> Result<(TraceId, Option<TimeRangeNs>, Shown), String> {
    let id = parse_trace_id(id).ok_or_else(|| format!("cannot parse trace id {id:?}"))?;
    Ok((id, params.v1_range()?, Shown::of(params)?))
}

/// Reads one trace.
pub(crate) async fn trace(
    State(api): Api,
    caller: Caller,
    Path(OfTrace { trace_id: id }): Path<OfTrace>,
    RawQuery(query): RawQuery,
) -> Response {
    let (id, range, shown) = match one(&id, &Params::parse(query.as_deref())) {
        Ok(asked) => asked,
        Err(message) => return caller.bad(message),
    };
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        let stream = api.store.traces(tenant, &lookups(&[id], range), rendering.context)?;
        let traces = Traces::new(rendering, stream, api.adjusting_unless(shown.raw));
        found(rendering, &traces, shown.pretty)
    };
    respond(&caller, caller.render(&api, (QueryKind::TraceRead, range), render).await)
}

/// Renders the traces, if there are any.
fn found(rendering: &Rendering<'_>, traces: &Traces<'_>, pretty: bool) -> Result<Option<Rendered>, StorageError> {
    if traces.is_empty() { Ok(None) } else { finish_traces(rendering, traces, &(), pretty).map(Some) }
}

/// There is no archive: every trace is kept as long as retention says. What is asked for must make sense all the same.
pub(crate) async fn archive(
    caller: Caller,
    Path(OfTrace { trace_id: id }): Path<OfTrace>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(message) = one(&id, &Params::parse(query.as_deref())) {
        return caller.bad(message);
    }
    let refusal = Refusal::new(ErrorClass::Unsupported, "archive span storage was not configured");
    caller.refuse(&refusal.with_status(StatusCode::NOT_IMPLEMENTED))
}

fn lookups(ids: &[TraceId], range: Option<TimeRangeNs>) -> Vec<TraceLookup> {
    ids.iter().map(|&trace_id| TraceLookup { trace_id, range }).collect()
}

/// Writes traces in their envelope, as they are read; `errors` are serialized once all are.
pub(crate) fn finish_traces(
    rendering: &Rendering<'_>,
    traces: &Traces<'_>,
    errors: &impl Serialize,
    pretty: bool,
) -> Result<Rendered, StorageError> {
    rendering.finish_written(pretty, |out| {
        out.put(br#"{"data":["#);
        let mut is_first = true;
        while let Some(trace) = traces.read()? {
            out.separate(&mut is_first);
            write_trace(out, &trace);
            if out.has_failed() {
                break;
            }
        }
        // Jaeger counts lists of names only.
        out.put(br#"],"total":0,"limit":0,"offset":0,"errors":"#);
        out.value(errors);
        out.put(b"}");
        Ok(())
    })
}

/// The traces that were asked for and are not there; known once all are read, so to be serialized after them.
struct Absent<'a> {
    ids: &'a [TraceId],
    traces: &'a Traces<'a>,
}

impl Serialize for Absent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let absent = self.ids.iter().filter(|id| !self.traces.has_seen(**id));
        let errors: Vec<_> =
            absent.map(|id| json!({"msg": "trace not found", "traceID": short_trace_id(*id)})).collect();
        (!errors.is_empty()).then_some(errors).serialize(serializer)
    }
}
