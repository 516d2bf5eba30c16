//! Prometheus remote write, 1.0 and 2.0, under the paths of Prometheus, Mimir and VictoriaMetrics.
//!
//! Everything is stored that can be; if anything was refused the answer is 400 and says what: senders drop
//! a batch at 400, so one stale sample does not make vmagent repeat it for ever. (vmagent answers its first
//! 400 by falling back from zstd to snappy; that costs it one repetition, which changes nothing here.)

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, Refusal};
use pharos_ingest::remote_write::RemoteWriteVersion;
use pharos_ingest::{Encoding, IngestReport};

use crate::body;
use crate::metrics::{Protocol, Signal};
use crate::refuse::unsupported_media;
use crate::state::{DoorState, tenant};

pub(crate) fn router() -> Router<DoorState> {
    let door = post(write).get(probe);
    let tenant_door = post(write_for_tenant).get(probe);
    Router::new()
        .route("/api/v1/write", door.clone())
        .route("/api/v1/push", door.clone())
        .route("/prometheus/api/v1/write", door)
        .route("/insert/{tenant}/prometheus/api/v1/write", tenant_door.clone())
        .route("/insert/{tenant}/prometheus", tenant_door)
}

async fn write(State(state): State<DoorState>, request: Request) -> Response {
    answer(accept(&state, None, request).await)
}

async fn write_for_tenant(State(state): State<DoorState>, Path(tenant): Path<String>, request: Request) -> Response {
    answer(accept(&state, Some(&tenant), request).await)
}

/// Older vmagents ask with GET whether VictoriaMetrics' protocol (zstd) is spoken before they send.
async fn probe(request: Request) -> Response {
    if request.uri().query().is_some_and(|query| query.starts_with("get_vm_proto_version")) {
        return "1".into_response();
    }
    Refusal::new(ErrorClass::Invalid, "remote write is sent with POST")
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .render(Dialect::Plain)
}

async fn accept(state: &DoorState, url_tenant: Option<&str>, request: Request) -> Result<IngestReport, Refusal> {
    let (parts, body) = request.into_parts();
    let tenant = tenant(&parts.extensions, url_tenant, Signal::Metrics)?;
    let version = version(&parts.headers)?;
    let encoding = encoding(&parts.headers)?;
    let body = body::read(&parts, body, state.body_bytes_max(), state.bodies()).await?;
    let accept = move |ingestor: &pharos_ingest::Ingestor, body| {
        let decoded = ingestor.decode_remote_write(body, encoding, version)?;
        Ok(ingestor.append_metrics(&tenant, decoded))
    };
    state.ingest(Protocol::RemoteWrite, Signal::Metrics, body, accept).await
}

/// The version, from the content type; without one it is 1.0.
fn version(headers: &HeaderMap) -> Result<RemoteWriteVersion, Refusal> {
    let (media, parameters) = body::content_type(headers);
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(unsupported_media(format!("content type {media:?} is not supported; send application/x-protobuf")));
    }
    let proto = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    match proto {
        None => Ok(RemoteWriteVersion::V1),
        Some(name) => [RemoteWriteVersion::V1, RemoteWriteVersion::V2]
            .into_iter()
            .find(|version| version.message_name() == name)
            .ok_or_else(|| {
                unsupported_media(format!(
                    "message {name:?} is not supported; send prometheus.WriteRequest or io.prometheus.write.v2.Request"
                ))
            }),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let Some(name) = body::content_encoding(headers) else { return Ok(None) };
    match Encoding::from_header(Some(name)) {
        Some(encoding @ (Encoding::Snappy | Encoding::Zstd | Encoding::Identity)) => Ok(Some(encoding)),
        _ => Err(unsupported_media(format!("content encoding {name:?} is not supported; send snappy or zstd"))),
    }
}

fn answer(outcome: Result<IngestReport, Refusal>) -> Response {
    let (mut response, report) = match outcome {
        Ok(report) if report.rejections.is_empty() => (StatusCode::NO_CONTENT.into_response(), report),
        Ok(report) => {
            let message = format!("{}; the rest of the request is stored", report.message());
            (Refusal::new(ErrorClass::Invalid, message).render(Dialect::Plain), report)
        }
        Err(refusal) => (refusal.render(Dialect::Plain), IngestReport::default()),
    };
    for (name, count) in [
        ("x-prometheus-remote-write-samples-written", report.items),
        ("x-prometheus-remote-write-histograms-written", report.histograms),
        ("x-prometheus-remote-write-exemplars-written", report.exemplars),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    response
}
