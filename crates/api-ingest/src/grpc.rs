//! OTLP over gRPC.
//!
//! The framing is read here: a message counts against the budget of all bodies while it arrives, and stays bytes,
//! compressed if it came so, until the decoding pool takes it. HTTP and gRPC decode alike.
//!
//! Sources: "gRPC over HTTP2" (framing, `grpc-encoding`); OpenTelemetry protocol specification, "OTLP/gRPC".

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::{BufMut, BytesMut};
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::StreamBody;
use hyper::body::Frame;
use pharos_base::ErrorClass;
use pharos_http::{Dialect, Refusal};
use pharos_ingest::otlp::WireForm;
use pharos_ingest::{Encoding, IngestReport, Ingestor, deflate};
use pharos_model::TenantId;
use prost::Message;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::body::{self, GrpcMessage};
use crate::metrics::{Protocol, Signal};
use crate::otlp_http::{LOGS_UNSUPPORTED, Wire, metrics_response, traces_response};
use crate::refuse::unsupported_media;
use crate::state::DoorState;

const METRICS_EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const TRACES_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS_EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Shorter answers do not become shorter still: most are empty.
const COMPRESSED_BYTES_MIN: usize = 256;
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The doors over gRPC. The routes have no fallback, so that they merge with others into one router.
pub fn grpc_routes(state: DoorState) -> Routes {
    let router: Router = Router::new()
        .route(METRICS_EXPORT, post(export_metrics))
        .route(TRACES_EXPORT, post(export_traces))
        .route(LOGS_EXPORT, post(export_logs))
        .with_state(state);
    Routes::from(router)
}

async fn export_metrics(State(state): State<DoorState>, request: Request) -> Response {
    export(&state, Signal::Metrics, request).await
}

async fn export_traces(State(state): State<DoorState>, request: Request) -> Response {
    export(&state, Signal::Traces, request).await
}

async fn export_logs() -> Response {
    Status::unimplemented(LOGS_UNSUPPORTED).into_http::<Body>()
}

async fn export(state: &DoorState, signal: Signal, request: Request) -> Response {
    let (media, _) = body::content_type(request.headers());
    if !media.starts_with("application/grpc") {
        let message = format!("content type {media:?} is not gRPC's; OTLP/HTTP is sent to /v1/metrics and /v1/traces");
        return unsupported_media(message).render(Dialect::Plain);
    }
    let accepted = accepted_encoding(request.headers());
    let mut response = match accept(state, signal, request).await {
        Ok(report) => success(signal, &report, accepted),
        Err(refusal) => refusal.render(Dialect::Grpc),
    };
    response.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("gzip,zstd"));
    response
}

async fn accept(state: &DoorState, signal: Signal, request: Request) -> Result<IngestReport, Refusal> {
    let (parts, body) = request.into_parts();
    let admission = state.admit(&parts, None, signal)?;
    let declared = encoding(&parts.headers)?;
    let message = body::read_grpc(parts, body, admission.body_bytes_max(), state.share(&admission)).await?;
    let GrpcMessage { compressed, body } = message;
    let encoding = if compressed { declared } else { Encoding::Identity };
    if compressed && encoding == Encoding::Identity {
        let message = "protocol error: the message is compressed, and grpc-encoding does not say how";
        return Err(Refusal::new(ErrorClass::Invalid, message));
    }
    let labels = admission.labels().cloned();
    let wire = Wire { signal, encoding, form: WireForm::Protobuf, body_max: admission.body_max(), labels };
    let decode = move |ingestor: &Ingestor, tenant: &TenantId, body| wire.decode(ingestor, tenant, body);
    Box::pin(state.ingest(Protocol::OtlpGrpc, admission, body, decode)).await
}

/// What compressed messages of the call are compressed by.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let name = headers.get(GRPC_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    if let Some(encoding @ (Encoding::Identity | Encoding::Gzip | Encoding::Zstd)) = Encoding::from_header(name) {
        return Ok(encoding);
    }
    let message = format!("grpc-encoding {:?} is not supported; send gzip, zstd or none", name.unwrap_or(""));
    Err(Refusal::new(ErrorClass::Unsupported, message))
}

/// What the answer may be compressed by, as the client asks.
fn accepted_encoding(headers: &HeaderMap) -> Encoding {
    let names = headers.get_all(&GRPC_ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names: Vec<_> = names.flat_map(|names| names.split(',')).map(str::trim).collect();
    let wanted = [Encoding::Zstd, Encoding::Gzip].into_iter().find(|encoding| names.contains(&encoding.as_str()));
    wanted.unwrap_or(Encoding::Identity)
}

fn success(signal: Signal, report: &IngestReport, accepted: Encoding) -> Response {
    let plain = match signal {
        Signal::Metrics => metrics_response(report).encode_to_vec(),
        Signal::Traces => traces_response(report).encode_to_vec(),
    };
    let compressed = if plain.len() < COMPRESSED_BYTES_MIN { None } else { deflate(&plain, accepted) };
    let is_compressed = compressed.is_some();
    let message = compressed.unwrap_or(plain);
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(u8::from(is_compressed));
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(Code::Ok as i32))]);
    // A stream, whose length nobody knows ahead: with a Content-Length, proxies take the answer for whole without its trailers.
    let frames = [Frame::data(framed.freeze()), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if is_compressed {
        response.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static(accepted.as_str()));
    }
    response
}
