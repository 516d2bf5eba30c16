//! `POST /api/transform`: traces as OTLP has them, in the form of API v1. Nothing is stored; pages use it to show files.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use pharos_base::ByteSize;
use pharos_http::QueryKind;
use pharos_ingest::otlp::{WireForm, decode_traces};
use pharos_ingest::{IngestError, Limits};
use pharos_model::{SpanBatch, SpanGroup, TraceId};
use pharos_storage::{StorageError, Trace};
use serde_json::json;

use crate::call::Caller;
use crate::params::Params;
use crate::rendering::{Rendering, Traces};
use crate::routes::JaegerApi;
use crate::v1::{Api, finish_traces, respond};

/// What a body may take decoded, as a multiple of its own size. Of small fields there are many to a byte of JSON, but
/// spans have ids.
const DECODED_RATIO_MAX: u64 = 8;
/// What any body may take decoded.
const DECODED_BYTES_MIN: u64 = 1 << 20;

/// Reads a request in OTLP's JSON, which [`pharos_gateway::hold_reader_body`] holds.
pub(crate) async fn transform(State(api): Api, caller: Caller, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let pretty = Params::parse(query.as_deref()).v1_pretty();
    let render = move |_: &JaegerApi, _: &_, rendering: &Rendering<'_>| {
        let decoded_bytes_max = body.len() as u64 * DECODED_RATIO_MAX + DECODED_BYTES_MIN;
        let _decoded = rendering.context.memory.reserve(decoded_bytes_max)?;
        let limits = Limits { decoded_max: ByteSize(decoded_bytes_max), ..Limits::default() };
        let decoded = decode_traces(&body, WireForm::Json, &limits).map_err(|error| unreadable(&error))?;
        drop(body);
        let traces = by_trace(decoded.batch);
        let refused: Vec<_> = decoded.rejections.iter().map(|refused| json!({"msg": refused.message})).collect();
        let traces = Traces::new(rendering, Box::new(traces.into_iter().map(Ok)), None);
        let errors = (!refused.is_empty()).then_some(refused);
        finish_traces(rendering, &traces, &errors, pretty).map(Some)
    };
    respond(&caller, caller.render(&api, (QueryKind::TraceLists, None), render).await)
}

fn unreadable(error: &IngestError) -> StorageError {
    StorageError::Invalid { message: format!("cannot unmarshal OTLP : {error}") }
}

/// Spans by trace, traces in the order of their first spans.
fn by_trace(batch: SpanBatch) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Vec::new();
    let mut numbers: HashMap<TraceId, usize> = HashMap::new();
    for SpanGroup { resource, scope, spans } in batch.groups {
        // The traces that have a group of this resource and scope already.
        let mut begun = std::collections::HashSet::new();
        for span in spans {
            let number = *numbers.entry(span.trace_id).or_insert_with(|| {
                traces.push(Trace { trace_id: span.trace_id, groups: Vec::new(), warnings: Vec::new() });
                traces.len() - 1
            });
            let groups = &mut traces[number].groups;
            if begun.insert(number) {
                groups.push(SpanGroup { resource: resource.clone(), scope: scope.clone(), spans: Vec::new() });
            }
            if let Some(group) = groups.last_mut() {
                group.spans.push(span);
            }
        }
    }
    traces
}
