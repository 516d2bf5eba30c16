//! Metrics of the doors themselves.
//!
//! A gRPC call is answered with HTTP status 200 whatever becomes of it: its code comes in a header, or after the body. One
//! that failed is counted under the name of that code, and one whose client did not wait for the end as `CANCELLED`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use hyper::body::{Frame, SizeHint};
use pharos_base::{Clock, SystemClock};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteCode {
    route: String,
    code: Code,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Code {
    /// An HTTP status.
    Http(u16),
    /// A gRPC call that failed.
    Grpc(tonic::Code),
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Http(status) => EncodeLabelValue::encode(status, encoder),
            Self::Grpc(code) => EncodeLabelValue::encode(&grpc_name(*code), encoder),
        }
    }
}

/// A code as gRPC's own documents write it.
fn grpc_name(code: tonic::Code) -> &'static str {
    use tonic::Code as C;
    match code {
        C::Ok => "OK",
        C::Cancelled => "CANCELLED",
        C::Unknown => "UNKNOWN",
        C::InvalidArgument => "INVALID_ARGUMENT",
        C::DeadlineExceeded => "DEADLINE_EXCEEDED",
        C::NotFound => "NOT_FOUND",
        C::AlreadyExists => "ALREADY_EXISTS",
        C::PermissionDenied => "PERMISSION_DENIED",
        C::ResourceExhausted => "RESOURCE_EXHAUSTED",
        C::FailedPrecondition => "FAILED_PRECONDITION",
        C::Aborted => "ABORTED",
        C::OutOfRange => "OUT_OF_RANGE",
        C::Unimplemented => "UNIMPLEMENTED",
        C::Internal => "INTERNAL",
        C::Unavailable => "UNAVAILABLE",
        C::DataLoss => "DATA_LOSS",
        C::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// Counts requests by route and status, and measures how long they take.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RouteCode, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

fn latency_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0])
}

impl HttpMetrics {
    /// Metrics that show in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latency_buckets),
            in_flight: Gauge::default(),
        };
        registry.register(
            "pharos_http_requests",
            "Requests answered, by route and status; a gRPC call that failed, by its code",
            metrics.requests.clone(),
        );
        registry.register("pharos_http_request_seconds", "Time to answer, by route", metrics.seconds.clone());
        registry.register("pharos_http_requests_in_flight", "Requests under way", metrics.in_flight.clone());
        Arc::new(metrics)
    }

    fn observe(&self, route: &str, code: Code, begun: Instant) {
        let seconds = (SystemClock.monotonic() - begun).as_secs_f64();
        self.seconds.get_or_create(&Route { route: route.to_owned() }).observe(seconds);
        self.requests.get_or_create(&RouteCode { route: route.to_owned(), code }).inc();
    }
}

struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Middleware around the whole router. Paths that match no route count as `other`, so that strangers
/// cannot grow the number of series.
pub async fn count_requests(State(metrics): State<Arc<HttpMetrics>>, request: Request, next: Next) -> Response {
    let begun = SystemClock.monotonic();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |p| p.as_str().to_owned());
    metrics.in_flight.inc();
    let in_flight = InFlight(metrics.in_flight.clone());
    let response = next.run(request).await;
    if !is_grpc(&response) {
        metrics.observe(&route, Code::Http(response.status().as_u16()), begun);
        return response;
    }
    let (parts, body) = response.into_parts();
    let call = Call { metrics, route, begun, code: grpc_code(&parts.headers), _in_flight: in_flight };
    Response::from_parts(parts, Body::new(Counted { body, call }))
}

fn is_grpc(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    response.status() == StatusCode::OK && content_type.starts_with("application/grpc")
}

/// What headers or trailers say of the call, in the terms of the metrics.
fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(tonic::Status::GRPC_STATUS).map(|value| tonic::Code::from_bytes(value.as_bytes()))?;
    Some(if code == tonic::Code::Ok { Code::Http(StatusCode::OK.as_u16()) } else { Code::Grpc(code) })
}

/// A gRPC call whose answer is under way; counted when it is dropped.
struct Call {
    metrics: Arc<HttpMetrics>,
    route: String,
    begun: Instant,
    /// As soon as the answer says so.
    code: Option<Code>,
    _in_flight: InFlight,
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Grpc(tonic::Code::Cancelled));
        self.metrics.observe(&self.route, code, self.begun);
    }
}

/// The answer of a gRPC call, whose trailers are read as they pass.
struct Counted {
    body: Body,
    call: Call,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(code) = frame.trailers_ref().and_then(grpc_code)
        {
            self.call.code = Some(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use http_body_util::{BodyExt, Full};
    use prometheus_client::encoding::text::encode;
    use tower::ServiceExt;

    /// An answer with `status` where gRPC puts it: in the headers without a body, else in trailers.
    fn grpc(header: Option<&'static str>, trailer: Option<&'static str>) -> Response {
        let trailers = async move {
            trailer.map(|code| Ok(HeaderMap::from_iter([(tonic::Status::GRPC_STATUS, code.parse().unwrap())])))
        };
        let body = Body::new(Full::new(Bytes::from_static(b"\0\0\0\0\0")).with_trailers(trailers));
        let response = Response::builder().header(CONTENT_TYPE, "application/grpc");
        let response = header
            .map(|code| ("grpc-status", code))
            .into_iter()
            .fold(response, |response, (name, value)| response.header(name, value));
        response.body(body).unwrap()
    }

    #[tokio::test]
    async fn grpc_calls_are_counted_under_their_code_at_their_end() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let router = Router::new()
            .route("/plain", get(|| async { StatusCode::IM_A_TEAPOT }))
            .route("/fine", get(|| async { grpc(None, Some("0")) }))
            .route("/header", get(|| async { grpc(Some("3"), None) }))
            .route("/trailer", get(|| async { grpc(None, Some("8")) }))
            .route("/left", get(|| async { grpc(None, Some("0")) }))
            .layer(axum::middleware::from_fn_with_state(metrics, count_requests));
        for path in ["/plain", "/fine", "/header", "/trailer", "/left", "/nowhere"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let mut body = router.clone().oneshot(request).await.unwrap().into_body();
            if path == "/left" {
                body.frame().await.unwrap().unwrap();
            } else {
                body.collect().await.unwrap();
            }
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for (route, code) in [
            ("/plain", "418"),
            ("/fine", "200"),
            ("/header", "INVALID_ARGUMENT"),
            ("/trailer", "RESOURCE_EXHAUSTED"),
            ("/left", "CANCELLED"),
            ("other", "404"),
        ] {
            let line = format!("pharos_http_requests_total{{route=\"{route}\",code=\"{code}\"}} 1\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(text.contains("pharos_http_requests_in_flight 0\n"));
    }
}
