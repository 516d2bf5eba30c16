//! Spans as messages of Jaeger's own model.

use pharos_model::{Resource, Scope, SpanEvent, SpanGroup, TenantId};
use pharos_proto::jaeger::api_v2::{KeyValue, Log, Process, Span, SpanRef, SpanRefType, SpansResponseChunk, ValueType};
use pharos_storage::{ReadContext, StorageError, TraceStore};
use prost::Message;
use prost_types::{Duration, Timestamp};

use crate::adjust::Adjusting;
use crate::grpc_messages::{MESSAGE_BYTES_MAX, each_piece};
use crate::grpc_stream::Outlet;
use crate::told::Found;
use crate::v1_model::{self, Reference, Tag, TagValue};

/// As many spans as Jaeger sends in one message.
const CHUNK_SPANS_MAX: usize = 10;
const NS_PER_S: u64 = 1_000_000_000;

/// Streams traces; says how many messages there were.
pub(crate) fn send_spans(
    store: &dyn TraceStore,
    tenant: &TenantId,
    found: Found,
    adjusting: Option<Adjusting>,
    (context, outlet): (&ReadContext, &Outlet<SpansResponseChunk>),
) -> Result<usize, StorageError> {
    let mut sent = 0;
    each_piece(store, tenant, found, adjusting, context, |groups| {
        each_chunk(&groups, |chunk| {
            sent += 1;
            outlet.send(chunk)
        })
    })?;
    Ok(sent)
}

/// Hands spans of one trace to `send`, a few in a message, none of them empty or too large for clients (but for a span
/// that is so alone).
fn each_chunk<E>(groups: &[SpanGroup], mut send: impl FnMut(SpansResponseChunk) -> Result<(), E>) -> Result<(), E> {
    let (mut chunk, mut chunk_bytes) = (SpansResponseChunk::default(), 0);
    for group in groups {
        let process = process(&group.resource);
        for span in &group.spans {
            let span = span_message(span, &group.scope, process.clone());
            // Tag and length of one span take less than 16 bytes.
            let span_bytes = span.encoded_len() + 16;
            let is_full = chunk.spans.len() == CHUNK_SPANS_MAX || chunk_bytes + span_bytes > MESSAGE_BYTES_MAX;
            if is_full && !chunk.spans.is_empty() {
                send(std::mem::take(&mut chunk))?;
                chunk_bytes = 0;
            }
            chunk_bytes += span_bytes;
            chunk.spans.push(span);
        }
    }
    if chunk.spans.is_empty() { Ok(()) } else { send(chunk) }
}

fn process(resource: &Resource) -> Process {
    Process {
        service_name: v1_model::process_name(resource).to_owned(),
        tags: v1_model::process_tags(resource).map(key_value).collect(),
    }
}

fn span_message(span: &pharos_model::Span, scope: &Scope, process: Process) -> Span {
    let log = |event: &SpanEvent| Log {
        timestamp: Some(timestamp(event.time_ns)),
        fields: v1_model::log_fields(event).map(key_value).collect(),
    };
    Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        operation_name: span.name.clone(),
        references: v1_model::references(span).map(|of| reference(&of)).collect(),
        flags: v1_model::flags(span),
        start_time: Some(timestamp(span.start_ns)),
        duration: Some(duration(span.duration_ns())),
        tags: v1_model::tags(span, scope).map(key_value).collect(),
        logs: span.events.iter().map(log).collect(),
        process: Some(process),
        process_id: String::new(),
        warnings: v1_model::warnings(span).into_iter().map(Into::into).collect(),
    }
}

fn reference(reference: &Reference) -> SpanRef {
    let ref_type = if reference.is_child { SpanRefType::ChildOf } else { SpanRefType::FollowsFrom };
    SpanRef {
        trace_id: reference.trace_id.0.to_vec(),
        span_id: reference.span_id.0.to_vec(),
        ref_type: ref_type.into(),
    }
}

fn key_value(Tag { key, value }: Tag<'_>) -> KeyValue {
    let empty = KeyValue { key: key.to_owned(), ..KeyValue::default() };
    match value {
        TagValue::Text(text) => KeyValue { v_type: ValueType::String.into(), v_str: text.into_owned(), ..empty },
        TagValue::Bool(truth) => KeyValue { v_type: ValueType::Bool.into(), v_bool: truth, ..empty },
        TagValue::Int(number) => KeyValue { v_type: ValueType::Int64.into(), v_int64: number, ..empty },
        TagValue::Double(number) => KeyValue { v_type: ValueType::Float64.into(), v_float64: number, ..empty },
        TagValue::Binary(bytes) => KeyValue { v_type: ValueType::Binary.into(), v_binary: bytes.to_vec(), ..empty },
    }
}

/// Whole seconds and the nanoseconds behind them; both fit, as `u64` nanoseconds are 584 years.
fn split(ns: u64) -> (i64, i32) {
    let (seconds, nanos) = (ns / NS_PER_S, ns % NS_PER_S);
    (i64::try_from(seconds).unwrap_or(i64::MAX), i32::try_from(nanos).unwrap_or(i32::MAX))
}

fn timestamp(ns: u64) -> Timestamp {
    let (seconds, nanos) = split(ns);
    Timestamp { seconds, nanos }
}

fn duration(ns: u64) -> Duration {
    let (seconds, nanos) = split(ns);
    Duration { seconds, nanos }
}
