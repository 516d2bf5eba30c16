//! Traces by id.
//!
//! Protobuf for who accepts it, as Grafana does, otherwise JSON: OTLP's, with ids in hexadecimal. A trace is read and
//! encoded part by part; the encoded answer is held, and counts in the memory of the read.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use pharos_base::{ErrorClass, Reservation};
use pharos_http::{QueryKind, Refusal};
use pharos_ingest::otlp::{Otlp, each_message};
use pharos_model::{Attribute, AttributeValue, SpanGroup, TenantId, TraceId};
use pharos_storage::{ReadContext, StorageError, TraceLookup, TracePart};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::json;

use crate::call::{Caller, OfTrace, bad, refuse};
use crate::params::Params;
use crate::routes::TempoApi;

/// Spans of a trace that are held decoded at a time.
const PART_SPANS: NonZeroUsize = NonZeroUsize::new(4_096).expect("more than none");
/// About the size of one piece of an answer.
const PIECE_BYTES: usize = 1 << 20;
/// Numbers of the fields of `tempopb.TraceByIDResponse`. The status of a whole trace is left out: 0 is "complete".
const RESPONSE_TRACE: u32 = 1;
const RESPONSE_METRICS: u32 = 2;
const RESPONSE_STATUS: u32 = 3;
const RESPONSE_MESSAGE: u32 = 4;
const STATUS_PARTIAL: u64 = 1;
/// Where the bare trace, which has no place for a message, tells what is missing: on its first span, as Jaeger does.
const WARNINGS: &str = "@jaeger@warnings";
const PROTOBUF: &str = "application/protobuf";

type Pairs = Query<Vec<(String, String)>>;

/// Which answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// The bare trace.
    V1,
    /// The trace within `TraceByIDResponse`.
    V2,
}

/// The bare trace.
pub(crate) async fn v1(
    state: State<Arc<TempoApi>>,
    caller: Caller,
    Path(OfTrace { trace_id: id }): Path<OfTrace>,
    query: Pairs,
    headers: HeaderMap,
) -> Response {
    trace(state, caller, (&id, query, headers), Version::V1).await
}

/// The trace, with what may be said about it.
pub(crate) async fn v2(
    state: State<Arc<TempoApi>>,
    caller: Caller,
    Path(OfTrace { trace_id: id }): Path<OfTrace>,
    query: Pairs,
    headers: HeaderMap,
) -> Response {
    trace(state, caller, (&id, query, headers), Version::V2).await
}

async fn trace(
    State(api): State<Arc<TempoApi>>,
    caller: Caller,
    (id, Query(query), headers): (&str, Pairs, HeaderMap),
    version: Version,
) -> Response {
    let Ok(trace_id) = id.parse::<TraceId>() else {
        return bad(format!("invalid trace id {id:?}: expected up to 32 hexadecimal digits"));
    };
    let range = match Params(query).range() {
        Ok(range) => range,
        Err(message) => return bad(message),
    };
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = if accepted.contains(PROTOBUF) { Form::Protobuf } else { Form::Json };
    let lookup = TraceLookup { trace_id, range };
    let read = move |api: &TempoApi, tenant: &TenantId, context: &ReadContext| {
        encoded(api, tenant, lookup, (form, version), context)
    };
    match caller.read(&api, (QueryKind::TraceRead, range), read).await {
        Ok(Some(encoded)) => encoded.answer(form, version),
        Ok(None) => refuse(Refusal::new(ErrorClass::NotFound, "trace not found")),
        Err(refusal) => refusal,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// The groups of a trace: fields of `tempopb.Trace`, or elements of a JSON list.
struct Encoded {
    pieces: Vec<Bytes>,
    /// What the reader should know.
    warnings: Vec<String>,
    _held: Reservation,
}

fn encoded(
    api: &TempoApi,
    tenant: &TenantId,
    lookup: TraceLookup,
    (form, version): (Form, Version),
    context: &ReadContext,
) -> Result<Option<Encoded>, StorageError> {
    let mut warnings = Vec::new();
    let (mut pieces, mut held, mut is_found, mut is_first) = (Vec::new(), context.memory.reserve(0)?, false, true);
    for part in api.store.trace_parts(tenant, &[lookup], PART_SPANS, context)? {
        is_found = true;
        let mut part = part?;
        if version == Version::V1 {
            tell_on_first_span(&mut part);
        }
        warnings.append(&mut part.warnings);
        let mut hold = |piece: Vec<u8>| {
            context.check()?;
            held.grow(piece.len() as u64)?;
            pieces.push(Bytes::from(piece));
            Ok::<_, StorageError>(())
        };
        match form {
            Form::Protobuf => each_message(part.groups, PIECE_BYTES, |message| hold(message.encode_to_vec()))?,
            Form::Json => {
                for group in &part.groups {
                    hold(element(group, &mut is_first)?)?;
                }
            }
        }
    }
    Ok(is_found.then_some(Encoded { pieces, warnings, _held: held }))
}

fn tell_on_first_span(part: &mut TracePart) {
    let first = part.groups.iter_mut().flat_map(|group| &mut group.spans).next();
    if let (Some(span), false) = (first, part.warnings.is_empty()) {
        let warnings = part.warnings.iter().cloned().map(AttributeValue::String).collect();
        span.attributes.push(Attribute { key: WARNINGS.to_owned(), value: AttributeValue::Array(warnings) });
    }
}

/// A group as an element of a list; the first has no comma before it.
fn element(group: &SpanGroup, is_first: &mut bool) -> Result<Vec<u8>, StorageError> {
    let mut json = if std::mem::take(is_first) { Vec::new() } else { vec![b','] };
    serde_json::to_writer(&mut json, &Otlp(group))
        .map_err(|error| StorageError::Internal { action: "rendering a trace", source: error.into() })?;
    Ok(json)
}

impl Encoded {
    fn answer(self, form: Form, version: Version) -> Response {
        let message = self.warnings.join("; ");
        let length: usize = self.pieces.iter().map(Bytes::len).sum();
        let (head, tail) = match (form, version) {
            (Form::Protobuf, Version::V1) => (Vec::new(), Vec::new()),
            (Form::Protobuf, Version::V2) => {
                let (mut head, mut tail) = (Vec::new(), Vec::new());
                encode_key(RESPONSE_TRACE, WireType::LengthDelimited, &mut head);
                encode_varint(length as u64, &mut head);
                encode_key(RESPONSE_METRICS, WireType::LengthDelimited, &mut tail);
                encode_varint(0, &mut tail);
                if !message.is_empty() {
                    encode_key(RESPONSE_STATUS, WireType::Varint, &mut tail);
                    encode_varint(STATUS_PARTIAL, &mut tail);
                    prost::encoding::string::encode(RESPONSE_MESSAGE, &message, &mut tail);
                }
                (head, tail)
            }
            (Form::Json, Version::V1) => (br#"{"batches":["#.to_vec(), b"]}".to_vec()),
            (Form::Json, Version::V2) => {
                let told = if message.is_empty() {
                    String::new()
                } else {
                    format!(",\"status\":\"PARTIAL\",\"message\":{}", json!(message))
                };
                let tail = format!("]}},\"metrics\":{{}}{told}}}");
                (br#"{"trace":{"resourceSpans":["#.to_vec(), tail.into_bytes())
            }
        };
        let content_type = if form == Form::Protobuf { PROTOBUF } else { "application/json" };
        // The memory is held until the last piece is sent.
        let Self { pieces, _held: held, .. } = self;
        let pieces = std::iter::once(Bytes::from(head)).chain(pieces).chain([Bytes::from(tail)]);
        let pieces = pieces.filter(|piece| !piece.is_empty()).map(move |piece| {
            let _held = &held;
            Ok::<_, std::convert::Infallible>(piece)
        });
        let mut response = Body::from_stream(stream::iter(pieces)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}
