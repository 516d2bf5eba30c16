//! Prometheus remote write, 1.0 and 2.0, under the paths of Prometheus, Mimir and VictoriaMetrics.
//!
//! Everything is stored that can be; if anything was refused the answer says what, and is one at which senders drop the
//! batch, so that one stale sample does not make them repeat it for ever:
//! - 400 to Prometheus and whoever keeps to its specification;
//! - 409 to vmagent: at 400 it takes it that zstd is not understood, sends the batch again and packs with snappy for the rest of
//!   its life.
//!
//! What can never be taken is told alike: 413 to others is 409 to vmagent, which repeats 413 for ever (and with it stops the queue
//! behind), and a body that meets a fault of ours is 409 to all. Only what is wrong with the packing is 400 and 415 to vmagent,
//! too: it shall pack otherwise. It is known by the version of VictoriaMetrics' protocol that it names, and where it has fallen
//! back to snappy, or knows no other (before 1.88), by its `User-Agent`.
//!
//! Every answer below these paths has the headers of what was written, be it one of [`say_what_was_written`] because somebody
//! before this door refused: senders of 2.0 take an answer without them for one that lost data.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pharos_base::ErrorClass;
use pharos_http::{Dialect, Refusal};
use pharos_ingest::remote_write::RemoteWriteVersion;
use pharos_ingest::{Encoding, IngestReport, Ingestor};
use pharos_model::TenantId;

use crate::body;
use crate::metrics::{Protocol, Signal};
use crate::refuse::unsupported_media;
use crate::state::{Decoded, DoorState};

/// What was written, in the order of the counts.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];
const VICTORIA_VERSION: &str = "x-victoriametrics-remote-write-version";

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
    let is_vmagent = is_vmagent(request.headers());
    answer(accept(&state, None, request).await, is_vmagent)
}

async fn write_for_tenant(State(state): State<DoorState>, Path(tenant): Path<String>, request: Request) -> Response {
    let is_vmagent = is_vmagent(request.headers());
    answer(accept(&state, Some(&tenant), request).await, is_vmagent)
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
    let admission = state.admit(&parts, url_tenant, Signal::Metrics)?;
    check_victoria_version(&parts.headers)?;
    let version = version(&parts.headers)?;
    let encoding = encoding(&parts.headers)?;
    if let Some(attempt) = parts.headers.get("retry-attempt") {
        tracing::debug!(?attempt, path = parts.uri.path(), "a batch comes again");
    }
    let body = body::read(parts, body, admission.body_bytes_max(), state.share(&admission)).await?;
    let body_max = admission.body_max();
    let decode = move |ingestor: &Ingestor, tenant: &TenantId, body| {
        ingestor.decode_remote_write(tenant, body, encoding, version, body_max).map(Decoded::RemoteWrite)
    };
    Box::pin(state.ingest(Protocol::RemoteWrite, admission, body, decode)).await
}

/// Whether the sender is vmagent, whose drop rules are its own.
fn is_vmagent(headers: &HeaderMap) -> bool {
    let is_named = |name: &HeaderValue| name.as_bytes().starts_with(b"vmagent");
    headers.contains_key(VICTORIA_VERSION) || headers.get(USER_AGENT).is_some_and(is_named)
}

/// Checks the version of VictoriaMetrics' protocol, of which there is one.
fn check_victoria_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(VICTORIA_VERSION).map(HeaderValue::as_bytes) {
        None | Some(b"1") => Ok(()),
        Some(other) => Err(unsupported_media(format!(
            "version {:?} of X-VictoriaMetrics-Remote-Write-Version is not supported; send 1",
            String::from_utf8_lossy(other)
        ))),
    }
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

fn answer(outcome: Result<IngestReport, Refusal>, is_vmagent: bool) -> Response {
    let report = match outcome {
        Ok(report) => report,
        Err(refusal) => {
            let mut response = refusal.render(Dialect::Plain);
            if is_vmagent && response.status() == StatusCode::PAYLOAD_TOO_LARGE {
                *response.status_mut() = StatusCode::CONFLICT;
            }
            return with_written(response, [0; 3]);
        }
    };
    let duplicates = report.duplicates;
    let written = [
        report.items + duplicates.samples,
        report.histograms + duplicates.histograms,
        report.exemplars + duplicates.exemplars,
    ];
    if report.rejections.is_empty() {
        return with_written(StatusCode::NO_CONTENT.into_response(), written);
    }
    let message = format!("{}; the rest of the request is stored", report.message());
    let status = if is_vmagent { StatusCode::CONFLICT } else { StatusCode::BAD_REQUEST };
    let refusal = Refusal::new(ErrorClass::Invalid, message).with_status(status);
    with_written(refusal.render(Dialect::Plain), written)
}

fn with_written(mut response: Response, written: [u64; 3]) -> Response {
    for (name, count) in WRITTEN.into_iter().zip(written) {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
    }
    response
}

/// Middleware around everything: answers below the paths of remote write say what was written, nothing where they say nothing
/// themselves.
pub async fn say_what_was_written(request: Request, next: Next) -> Response {
    let is_ours = is_door(request.uri().path());
    let response = next.run(request).await;
    if is_ours && !response.headers().contains_key(WRITTEN[0]) { with_written(response, [0; 3]) } else { response }
}

/// Whether remote write is sent to this path.
fn is_door(path: &str) -> bool {
    let below = path.strip_prefix("/insert/").and_then(|rest| Some(rest.split_once('/')?.1));
    matches!(path, "/api/v1/write" | "/api/v1/push" | "/prometheus/api/v1/write")
        || matches!(below, Some("prometheus" | "prometheus/api/v1/write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_known_by_their_path() {
        for path in ["/api/v1/write", "/api/v1/push", "/insert/7:1/prometheus/api/v1/write", "/insert/7/prometheus"] {
            assert!(is_door(path), "{path}");
        }
        for path in ["/api/v1/query", "/insert/7/prometheus/api/v1/import", "/insert/prometheus", "/"] {
            assert!(!is_door(path), "{path}");
        }
    }

    /// Many bodies may be waited for: what waits with each is bounded, the work on a body that has come is not part of it.
    #[test]
    fn a_body_that_is_waited_for_takes_little_memory() {
        fn size_of_answer<F: Future>(_: impl Fn(State<DoorState>, Request) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size_of_answer(write) <= 2 << 10, "{}", size_of_answer(write));
    }
}
