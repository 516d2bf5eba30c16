//! Hints for exporters that are set up wrongly: the path, the port or the protocol is not the one they mean.
//!
//! An answer comes in the dialect of the request, as exporters log what they can read of it. It is always one that they
//! do not send again.

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, Refusal};

use crate::body::content_type;

const PATHS: &str = "no such path: OTLP/HTTP is sent to /v1/metrics and /v1/traces. OTEL_EXPORTER_OTLP_ENDPOINT gets them appended, \
    but a per-signal variable such as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is and must end in /v1/traces";
const PROFILES: &str = "profiles are not supported: this server stores metrics and traces; send them elsewhere";
const SERVICES: &str = "no such service: over gRPC this server takes metrics (MetricsService/Export) and traces (TraceService/Export) of \
    opentelemetry.proto.collector, v1";
const HTTP_HERE: &str = "this port serves OTLP over HTTP: send gRPC to the port of OTLP/gRPC (4317, if not set otherwise), or set \
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf";
const GRPC_HERE: &str = "this port serves OTLP over gRPC: send OTLP/HTTP to its own port (4318, if not set otherwise), to /v1/metrics and \
    /v1/traces, or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc";

/// Prefixes under which OTLP/HTTP is served.
pub(crate) const PREFIXES: [&str; 4] = ["/prometheus/api/v1/otlp", "/api/v1/otlp", "/opentelemetry", ""];

/// The fallback of a port that serves OTLP/HTTP alone: says where exports go. Merge it into
/// [`http_router`](crate::http_router) where no other router brings a fallback.
pub fn otlp_hints() -> Router {
    Router::new().fallback(async |request: Request| {
        let message =
            if is_grpc(request.headers()) { HTTP_HERE } else { about_path(request.uri().path()).unwrap_or(PATHS) };
        refuse(message, request.headers())
    })
}

/// The fallback of a port that serves OTLP/gRPC alone, for [`grpc_routes`](crate::grpc_routes).
pub fn otlp_grpc_hints() -> Router {
    Router::new().fallback(async |request: Request| {
        let message = if is_grpc(request.headers()) { SERVICES } else { GRPC_HERE };
        refuse(message, request.headers())
    })
}

/// A layer of a port that serves much else: answers exports to paths that are nearly right.
pub async fn hint_exports(request: Request, next: Next) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let message = if request.method() != Method::POST {
        None
    } else if is_grpc(headers) {
        is_unknown_export(path).then_some(SERVICES)
    } else if dialect(headers) == Dialect::Plain {
        None
    } else {
        about_path(path)
    };
    match message {
        Some(message) => refuse(message, headers),
        None => next.run(request).await,
    }
}

/// Whether a gRPC method is one of OTLP's that this server has never heard of.
fn is_unknown_export(path: &str) -> bool {
    let Some(service) = path.strip_prefix("/opentelemetry.proto.collector.") else { return false };
    !["metrics.v1.", "trace.v1.", "logs.v1."].iter().any(|known| service.starts_with(known))
}

/// What is wrong with a path that is nearly one of OTLP/HTTP; `None` for others, and where nothing is.
fn about_path(path: &str) -> Option<&'static str> {
    let bare = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path);
    let trimmed = bare.trim_end_matches('/');
    if trimmed.starts_with("/v1development/") || trimmed == "/v1/profiles" {
        return Some(PROFILES);
    }
    let signals = ["/v1/metrics", "/v1/traces", "/v1/logs"];
    let is_twice =
        signals.iter().any(|signal| trimmed.strip_prefix(signal).is_some_and(|rest| signals.contains(&rest)));
    let is_slashed = bare != trimmed && signals.contains(&trimmed);
    let is_near = ["", "/v1", "/v1/metric", "/v1/trace", "/v1/log", "/v1/span", "/v1/spans"].contains(&trimmed);
    (is_twice || is_slashed || is_near).then_some(PATHS)
}

fn refuse(message: &'static str, headers: &HeaderMap) -> Response {
    let dialect = dialect(headers);
    let class = if dialect == Dialect::Grpc { ErrorClass::Unsupported } else { ErrorClass::NotFound };
    // 404, as 5xx and 429 make exporters send the batch again.
    Refusal::new(class, message).with_status(StatusCode::NOT_FOUND).render(dialect)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn dialect(headers: &HeaderMap) -> Dialect {
    let (media, _) = content_type(headers);
    if is_grpc(headers) {
        Dialect::Grpc
    } else if media.eq_ignore_ascii_case("application/x-protobuf") {
        Dialect::OtlpProtobuf
    } else if media.eq_ignore_ascii_case("application/json") {
        Dialect::OtlpJson
    } else {
        Dialect::Plain
    }
}
