//! Handlers of API v3.

use std::sync::{Arc, OnceLock};

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use pharos_http::QueryKind;
use pharos_ingest::otlp::Otlp;
use pharos_model::TenantId;
use pharos_storage::{ReadContext, StorageError, Trace, TraceLookup, TracePart, TraceStream, TraceSummary};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use serde_json::{Map, Value, json};

use crate::adjust::{Adjusting, tell_on_first_span};
use crate::call::{Caller, OfTrace};
use crate::filter_tree::{LEVELS, OPERATORS};
use crate::grpc_messages::PART_SPANS;
use crate::params::Params;
use crate::rendering::{Rendered, Rendering, Traces};
use crate::routes::JaegerApi;
use crate::told::{Found, told_with_traces};
use crate::trace_id::parse_trace_id;

/// Jaeger's words.
const NOT_FOUND: &str = "No traces found";

type Api = State<Arc<JaegerApi>>;

/// The end of a handler's steps: an answer there is, or a refusal.
fn respond(caller: &Caller, result: Result<Option<Response>, Response>) -> Response {
    result.map_or_else(|refusal| refusal, |found| found.unwrap_or_else(|| caller.not_found(NOT_FOUND)))
}

/// Renders a short answer.
async fn list(
    api: &Arc<JaegerApi>,
    caller: &Caller,
    read: impl FnOnce(&JaegerApi, &TenantId, &ReadContext) -> Result<Value, StorageError> + Send + 'static,
) -> Response {
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        rendering.finish(&read(api, tenant, rendering.context)?, false).map(Some)
    };
    respond(caller, caller.render(api, (QueryKind::TraceLists, None), render).await)
}

/// What searches can ask.
pub(crate) async fn capabilities(_: Caller) -> Response {
    let filter = json!({"levels": LEVELS, "operators": OPERATORS});
    let search = json!({"withoutServiceName": true, "sameSpanConjunction": true, "filter": filter});
    Json(json!({"search": search})).into_response()
}

/// Lists services.
pub(crate) async fn services(State(api): Api, caller: Caller) -> Response {
    list(&api, &caller, |api, tenant, _| Ok(json!({"services": api.store.services(tenant)?}))).await
}

/// Lists a service's operations. Those without a kind are shown as internal ones.
pub(crate) async fn operations(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let query = match Params::parse(query.as_deref()).v3_operations() {
        Ok(query) => query,
        Err(message) => return caller.bad(message),
    };
    list(&api, &caller, move |api, tenant, _| {
        let shown = |kind: &'static str| if kind.is_empty() { "internal" } else { kind };
        let found = api.store.operations(tenant, &query)?;
        let listed = found.iter().map(|found| json!({"name": found.name, "spanKind": shown(found.kind)}));
        Ok(json!({"operations": listed.collect::<Vec<_>>()}))
    })
    .await
}

/// Lists calls between services.
pub(crate) async fn dependencies(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let range = match Params::parse(query.as_deref()).v3_dependencies() {
        Ok(range) => range,
        Err(message) => return caller.bad(message),
    };
    list(&api, &caller, move |api, tenant, context| {
        let (links, _held) = api.dependencies(tenant, range, context)?;
        let listed = links
            .iter()
            .map(|link| json!({"parent": link.parent, "child": link.child, "callCount": link.call_count.to_string()}));
        Ok(json!({"dependencies": listed.collect::<Vec<_>>()}))
    })
    .await
}

/// Reads one trace.
pub(crate) async fn trace(
    State(api): Api,
    caller: Caller,
    Path(OfTrace { trace_id: id }): Path<OfTrace>,
    RawQuery(query): RawQuery,
) -> Response {
    let params = Params::parse(query.as_deref());
    let asked = parse_trace_id(&id)
        .ok_or_else(|| format!("malformed parameter trace_id: {id:?} is no trace id"))
        .and_then(|id| Ok((id, params.v3_range()?, params.v3_raw(["rawTraces", "raw_traces"])?)));
    let (trace_id, range, is_raw) = match asked {
        Ok(asked) => asked,
        Err(message) => return caller.bad(message),
    };
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        render(api, tenant, vec![TraceLookup { trace_id, range }].into(), api.adjusting_unless(is_raw), rendering)
    };
    respond(&caller, caller.render(&api, (QueryKind::TraceRead, range), render).await)
}

/// Finds traces.
pub(crate) async fn find(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let asked = (QueryKind::TraceSearch, params.v3_search_range().ok());
    let told = Arc::new(OnceLock::new());
    let telling = Arc::clone(&told);
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        let (query, is_raw) = params.v3_query().map_err(|message| StorageError::Invalid { message })?;
        let found = api.search(tenant, &query, rendering.context)?;
        if found.lookups.is_empty() && !found.warnings.is_empty() {
            telling.get_or_init(|| format!("{NOT_FOUND}; {}", found.warnings.join("; ")));
        }
        render(api, tenant, found, api.adjusting_unless(is_raw), rendering)
    };
    match caller.render(&api, asked, render).await {
        Ok(None) => caller.not_found(told.get().map_or(NOT_FOUND, String::as_str)),
        answer => respond(&caller, answer),
    }
}

/// Reads and renders traces, if there are any.
fn render(
    api: &JaegerApi,
    tenant: &TenantId,
    found: Found,
    adjusting: Option<Adjusting>,
    rendering: &Rendering<'_>,
) -> Result<Option<Rendered>, StorageError> {
    let Found { lookups, warnings } = found;
    let stream: TraceStream = if adjusting.is_some() {
        api.store.traces(tenant, &lookups, rendering.context)?
    } else {
        // As they are stored they may come part by part: the answer is one list of groups.
        Box::new(api.store.trace_parts(tenant, &lookups, PART_SPANS, rendering.context)?.map(|part| {
            let TracePart { trace_id, groups, warnings, .. } = part?;
            Ok(Trace { trace_id, groups, warnings })
        }))
    };
    let traces = Traces::new(rendering, told_with_traces(stream, warnings), adjusting);
    if traces.is_empty() {
        return Ok(None);
    }
    let answer = Answer { result: TracesData { resource_spans: ResourceSpans(&traces) } };
    rendering.finish(&answer, false).map(Some)
}

#[derive(Serialize)]
struct Answer<'a> {
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
        while let Some(mut trace) = self.0.next()? {
            // OTLP has no place for warnings about a trace.
            tell_on_first_span(&mut trace.groups, trace.warnings);
            trace.groups.iter().try_for_each(|group| list.serialize_element(&Otlp(group)))?;
        }
        list.end()
    }
}

/// Finds traces and tells them in short.
pub(crate) async fn summaries(State(api): Api, caller: Caller, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let asked = (QueryKind::TraceSearch, params.v3_search_range().ok());
    let render = move |api: &JaegerApi, tenant: &_, rendering: &Rendering<'_>| {
        let (query, _) = params.v3_query().map_err(|message| StorageError::Invalid { message })?;
        let Found { lookups, mut warnings } = api.search(tenant, &query, rendering.context)?;
        let found = api.store.summaries(tenant, &lookups, rendering.context)?;
        for summary in &found {
            warnings.extend(summary.warnings.iter().map(|warning| format!("trace {}: {warning}", summary.trace_id)));
        }
        rendering.finish(&Summaries { summaries: SummaryList(&found), warnings }, false).map(Some)
    };
    respond(&caller, caller.render(&api, asked, render).await)
}

#[derive(Serialize)]
struct Summaries<'a> {
    summaries: SummaryList<'a>,
    /// Jaeger has none: clients skip what they do not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
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
