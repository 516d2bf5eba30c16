//! OTLP over HTTP, in protobuf and JSON, under the paths of the collector, Prometheus and VictoriaMetrics.
//!
//! Source: OpenTelemetry protocol specification, "OTLP/HTTP".

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use pharos_base::{ByteSize, ErrorClass};
use pharos_http::{Dialect, Refusal};
use pharos_ingest::otlp::WireForm;
use pharos_ingest::{Encoding, IngestError, IngestReport, Ingestor};
use pharos_model::{LabelRewrite, TenantId};
use prost::Message;
use serde_json::json;

use crate::body;
use crate::hints;
use crate::metrics::{Protocol, Signal};
use crate::refuse::unsupported_media;
use crate::state::{Decoded, DoorState};

/// Why logs are turned away.
pub(crate) const LOGS_UNSUPPORTED: &str = "logs are not supported: this server stores metrics and traces; disable the logs exporter (OTEL_LOGS_EXPORTER=none) or send them elsewhere";

pub(crate) fn router() -> Router<DoorState> {
    let mut router = Router::new();
    for prefix in hints::PREFIXES {
        router = router
            .route(&format!("{prefix}/v1/metrics"), post(metrics))
            .route(&format!("{prefix}/v1/traces"), post(traces))
            .route(&format!("{prefix}/v1/logs"), post(logs));
    }
    router
        .route("/insert/{tenant}/opentelemetry/v1/metrics", post(metrics_for_tenant))
        .route("/insert/{tenant}/opentelemetry/v1/traces", post(traces_for_tenant))
}

async fn metrics(State(state): State<DoorState>, request: Request) -> Response {
    export(&state, Signal::Metrics, None, request).await
}

async fn metrics_for_tenant(State(state): State<DoorState>, Path(tenant): Path<String>, request: Request) -> Response {
    export(&state, Signal::Metrics, Some(&tenant), request).await
}

async fn traces(State(state): State<DoorState>, request: Request) -> Response {
    export(&state, Signal::Traces, None, request).await
}

async fn traces_for_tenant(State(state): State<DoorState>, Path(tenant): Path<String>, request: Request) -> Response {
    export(&state, Signal::Traces, Some(&tenant), request).await
}

async fn logs(request: Request) -> Response {
    // 404, as 5xx and 429 make exporters repeat the batch.
    Refusal::new(ErrorClass::Unsupported, LOGS_UNSUPPORTED)
        .with_status(http::StatusCode::NOT_FOUND)
        .render(dialect(wire_form(request.headers()).ok()))
}

async fn export(state: &DoorState, signal: Signal, url_tenant: Option<&str>, request: Request) -> Response {
    let form = wire_form(request.headers());
    let dialect = dialect(form.as_ref().ok().copied());
    let outcome = match form {
        Ok(form) => accept(state, signal, url_tenant, form, request).await.map(|report| (form, report)),
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok((form, report)) => success(signal, form, &report),
        Err(refusal) => refusal.render(dialect),
    }
}

async fn accept(
    state: &DoorState,
    signal: Signal,
    url_tenant: Option<&str>,
    form: WireForm,
    request: Request,
) -> Result<IngestReport, Refusal> {
    let (parts, body) = request.into_parts();
    let admission = state.admit(&parts, url_tenant, signal)?;
    let encoding = encoding(&parts.headers)?;
    let body = body::read(parts, body, admission.body_bytes_max(), state.share(&admission)).await?;
    let labels = admission.labels().cloned();
    let wire = Wire { signal, encoding, form, body_max: admission.body_max(), labels };
    let decode = move |ingestor: &Ingestor, tenant: &TenantId, body| wire.decode(ingestor, tenant, body);
    Box::pin(state.ingest(Protocol::OtlpHttp, admission, body, decode)).await
}

/// How a body of either signal is written.
pub(crate) struct Wire {
    pub signal: Signal,
    pub encoding: Encoding,
    pub form: WireForm,
    /// It is inflated to this at most.
    pub body_max: ByteSize,
    /// What the sender's credential says about labels.
    pub labels: Option<Arc<LabelRewrite>>,
}

impl Wire {
    /// Reads a body.
    pub(crate) fn decode(self, ingestor: &Ingestor, tenant: &TenantId, body: Bytes) -> Result<Decoded, IngestError> {
        let Self { signal, encoding, form, body_max, labels } = self;
        match signal {
            Signal::Metrics => {
                let sender = (tenant, labels.as_deref());
                ingestor.decode_otlp_metrics(sender, body, encoding, form, body_max).map(Decoded::Metrics)
            }
            Signal::Traces => ingestor.decode_otlp_traces(body, encoding, form, body_max).map(Decoded::Spans),
        }
    }
}

fn wire_form(headers: &HeaderMap) -> Result<WireForm, Refusal> {
    let (media, _) = body::content_type(headers);
    if media.eq_ignore_ascii_case("application/x-protobuf") {
        Ok(WireForm::Protobuf)
    } else if media.eq_ignore_ascii_case("application/json") {
        Ok(WireForm::Json)
    } else {
        Err(unsupported_media(format!(
            "content type {media:?} is not supported; send application/x-protobuf or application/json"
        )))
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let name = body::content_encoding(headers);
    match Encoding::from_header(name) {
        Some(encoding @ (Encoding::Identity | Encoding::Gzip | Encoding::Zstd)) => Ok(encoding),
        _ => Err(unsupported_media(format!(
            "content encoding {:?} is not supported; send gzip, zstd or none",
            name.unwrap_or("")
        ))),
    }
}

/// Errors come in the form of the request; one without a known form gets text that a person can read.
fn dialect(form: Option<WireForm>) -> Dialect {
    match form {
        Some(WireForm::Protobuf) => Dialect::OtlpProtobuf,
        Some(WireForm::Json) => Dialect::OtlpJson,
        None => Dialect::Plain,
    }
}

fn success(signal: Signal, form: WireForm, report: &IngestReport) -> Response {
    let (rejected, message) = (report.rejected(), report.message());
    match form {
        WireForm::Protobuf => {
            let bytes = match signal {
                Signal::Metrics => metrics_response(report).encode_to_vec(),
                Signal::Traces => traces_response(report).encode_to_vec(),
            };
            ([(CONTENT_TYPE, "application/x-protobuf")], bytes).into_response()
        }
        WireForm::Json => {
            let count_name = match signal {
                Signal::Metrics => "rejectedDataPoints",
                Signal::Traces => "rejectedSpans",
            };
            let body = if message.is_empty() {
                json!({})
            } else {
                // Protobuf's JSON mapping writes 64-bit integers as text.
                json!({"partialSuccess": {count_name: rejected.to_string(), "errorMessage": message}})
            };
            ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        }
    }
}

/// The answer to metrics; partial success is unset unless there is something to tell.
pub(crate) fn metrics_response(report: &IngestReport) -> ExportMetricsServiceResponse {
    let message = report.message();
    let partial = ExportMetricsPartialSuccess { rejected_data_points: count(report), error_message: message };
    ExportMetricsServiceResponse { partial_success: (!partial.error_message.is_empty()).then_some(partial) }
}

/// The answer to traces; partial success is unset unless there is something to tell.
pub(crate) fn traces_response(report: &IngestReport) -> ExportTraceServiceResponse {
    let message = report.message();
    let partial = ExportTracePartialSuccess { rejected_spans: count(report), error_message: message };
    ExportTraceServiceResponse { partial_success: (!partial.error_message.is_empty()).then_some(partial) }
}

fn count(report: &IngestReport) -> i64 {
    i64::try_from(report.rejected()).unwrap_or(i64::MAX)
}
