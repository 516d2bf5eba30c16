//! OTLP over gRPC.
//!
//! tonic does the framing and decompression, bounded; the message itself stays bytes until the decoding
//! pool takes it, so that no large message is decoded on an async worker. HTTP and gRPC decode alike.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::{Buf, BufMut, Bytes};
use http::HeaderValue;
use pharos_http::Refusal;
use pharos_ingest::otlp::WireForm;
use pharos_ingest::{Encoding, IngestReport, Ingestor};
use prost::Message;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::metrics::{Protocol, Signal};
use crate::otlp_http::{LOGS_UNSUPPORTED, metrics_response, traces_response};
use crate::refuse::{grpc_status, unsupported_media};
use crate::state::{DoorState, labels, tenant};

const METRICS_EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const TRACES_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS_EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The doors over gRPC. The routes have no fallback, so that they merge with others into one router.
pub fn grpc_routes(state: DoorState) -> Routes {
    let router: Router = Router::new()
        .route(METRICS_EXPORT, post(export_metrics))
        .route(TRACES_EXPORT, post(export_traces))
        .route(LOGS_EXPORT, post(export_logs))
        .with_state(state);
    Routes::from(router)
}

async fn export_metrics(State(state): State<DoorState>, request: Request) -> axum::response::Response {
    export(state, Signal::Metrics, request).await
}

async fn export_traces(State(state): State<DoorState>, request: Request) -> axum::response::Response {
    export(state, Signal::Traces, request).await
}

async fn export_logs() -> axum::response::Response {
    Status::unimplemented(LOGS_UNSUPPORTED).into_http::<axum::body::Body>()
}

async fn export(state: DoorState, signal: Signal, request: Request) -> axum::response::Response {
    let (media, _) = crate::body::content_type(request.headers());
    if !media.starts_with("application/grpc") {
        let message = format!("content type {media:?} is not gRPC's; OTLP/HTTP is sent to /v1/metrics and /v1/traces");
        return unsupported_media(message).render(pharos_http::Dialect::Plain);
    }
    let bytes_max = state.body_bytes_max();
    let service = tower::service_fn(move |request: tonic::Request<Bytes>| {
        let state = state.clone();
        async move {
            let report = accept(&state, signal, request).await.map_err(|refusal| grpc_status(&refusal))?;
            let message = match signal {
                Signal::Metrics => metrics_response(&report).encode_to_vec(),
                Signal::Traces => traces_response(&report).encode_to_vec(),
            };
            Ok(tonic::Response::new(Bytes::from(message)))
        }
    });
    let response = Grpc::new(BytesCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(bytes_max)
        .unary(service, request)
        .await;
    correct_code(response).into_response()
}

async fn accept(state: &DoorState, signal: Signal, request: tonic::Request<Bytes>) -> Result<IngestReport, Refusal> {
    let tenant = tenant(request.extensions(), None, signal)?;
    let labels = labels(request.extensions());
    let body = state.bodies().hold(request.into_inner())?;
    let accept = move |ingestor: &Ingestor, body| match signal {
        Signal::Metrics => {
            let mut decoded = ingestor.decode_otlp_metrics(&tenant, body, Encoding::Identity, WireForm::Protobuf)?;
            ingestor.label_metrics(&mut decoded, labels.as_ref());
            Ok(ingestor.append_metrics(&tenant, decoded))
        }
        Signal::Traces => {
            let mut decoded = ingestor.decode_otlp_traces(body, Encoding::Identity, WireForm::Protobuf)?;
            ingestor.label_spans(&mut decoded, labels.as_ref());
            Ok(ingestor.append_spans(&tenant, decoded))
        }
    };
    state.ingest(Protocol::OtlpGrpc, signal, body, accept).await
}

/// tonic calls a message over the limit `OUT_OF_RANGE`, which OTLP clients send again for ever, and a
/// damaged one `INTERNAL`, which is our fault; OTLP has other codes for both.
fn correct_code(mut response: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let code = match status.code() {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Internal if is_framing(status.message()) => Code::InvalidArgument,
        _ => return response,
    };
    response.headers_mut().insert(Status::GRPC_STATUS, HeaderValue::from(code as i32));
    response
}

/// Whether tonic says this of a request that it cannot read.
fn is_framing(message: &str) -> bool {
    ["Error decompressing", "protocol error", "Unexpected EOF", "Missing request message"]
        .iter()
        .any(|start| message.starts_with(start))
}

/// Messages as bytes.
#[derive(Debug, Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
