//! The routers behind the ports: which doors each port has, and the layers around them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use pharos_api_jaeger::{JaegerApi, JaegerUi};
use pharos_api_prometheus::PrometheusApi;
use pharos_api_tempo::TempoApi;
use pharos_base::{Clock, ErrorClass};
use pharos_gateway::{Authenticator, Quotas, authenticate_request, session_routes};
use pharos_http::{
    Dialect, HEALTH_SERVICE, HttpMetrics, QueryPool, Refusal, count_requests, grpc_health, grpc_reflection,
};
use pharos_ingest::Ingestor;
use pharos_model::Matcher;
use pharos_sampling::TailSampler;
use pharos_storage::{MetricStore, TraceStore};
use prometheus_client::registry::Registry;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::reload::Reloader;
use crate::self_metrics;
use crate::settings::Cors;

/// What the doors are made of.
pub(crate) struct Doors {
    pub(crate) ingestor: Arc<Ingestor>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) metrics: Arc<dyn MetricStore>,
    pub(crate) traces: Arc<dyn TraceStore>,
    /// Stands before `traces` where tail sampling is on.
    pub(crate) sampler: Option<Arc<TailSampler>>,
    pub(crate) prometheus: PrometheusApi,
    pub(crate) pool: QueryPool,
    pub(crate) query_timeout: Duration,
    pub(crate) query_memory_bytes_max: u64,
    pub(crate) jaeger: Arc<pharos_api_jaeger::Settings>,
    /// Jaeger's own page, if one is configured.
    pub(crate) jaeger_ui: Option<JaegerUi>,
    pub(crate) authenticator: Arc<Authenticator>,
    /// Pages of other sites, and their origins in the older spelling.
    pub(crate) cors: (Cors, Option<Matcher>),
    pub(crate) reloader: Reloader,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) http_metrics: Arc<HttpMetrics>,
}

/// The services for writers, as reflection names them.
const OTLP_SERVICES: [&str; 3] = [
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "opentelemetry.proto.collector.trace.v1.TraceService",
];

/// One router for each port.
pub(crate) struct Routers {
    pub(crate) main: Router,
    pub(crate) otlp_grpc: Router,
    pub(crate) otlp_http: Router,
    pub(crate) jaeger: Router,
    pub(crate) jaeger_grpc: Router,
}

/// Builds all routers.
pub(crate) fn routers(doors: &Doors) -> Routers {
    let ingest = pharos_api_ingest::DoorState::new(
        Arc::clone(&doors.ingestor),
        Arc::clone(&doors.quotas),
        doors.registry.lock().sub_registry_with_prefix("pharos"),
    );
    let jaeger = JaegerApi {
        store: Arc::clone(&doors.traces),
        pool: doors.pool.clone(),
        clock: Arc::clone(&doors.clock),
        timeout: doors.query_timeout,
        memory: doors.prometheus.engine.memory().clone(),
        memory_bytes_max: doors.query_memory_bytes_max,
        bodies: doors.prometheus.bodies.clone(),
        settings: Arc::clone(&doors.jaeger),
        monitor: doors.jaeger.monitor.enabled.then(|| doors.prometheus.engine.clone()),
    };
    let tempo = TempoApi {
        store: Arc::clone(&doors.traces),
        pool: doors.pool.clone(),
        clock: Arc::clone(&doors.clock),
        timeout: doors.query_timeout,
        memory: doors.prometheus.engine.memory().clone(),
        memory_bytes_max: doors.query_memory_bytes_max,
    };
    let ingest_http = pharos_api_ingest::http_router(ingest.clone());
    let ingest_grpc = pharos_api_ingest::grpc_routes(ingest).into_axum_router();
    let jaeger_grpc = pharos_api_jaeger::grpc_routes(jaeger.clone()).into_axum_router();
    let jaeger_http = pharos_api_jaeger::router(jaeger);
    let prometheus_grpc = pharos_api_prometheus::grpc_routes(doors.prometheus.clone()).into_axum_router();
    let prometheus = pharos_api_prometheus::router(doors.prometheus.clone());
    let session = session_routes(Arc::clone(&doors.authenticator));
    let main = Router::new()
        .merge(ingest_http.clone())
        .merge(ingest_grpc.clone())
        .merge(prometheus.clone())
        .merge(jaeger_http.clone())
        .merge(jaeger_grpc.clone())
        .merge(pharos_api_tempo::router(tempo))
        .merge(prometheus_grpc.clone())
        .merge(operation_routes(doors))
        .merge(session.clone())
        .merge(pharos_web::router());
    let queries = pharos_api_jaeger::GRPC_SERVICES;
    let main = main.merge(about(&[&OTLP_SERVICES[..], &queries].concat()));
    let main = main.layer(middleware::from_fn(pharos_api_ingest::hint_exports));
    let cors = cors(&doors.cors.0, doors.cors.1.clone());
    let around = |router: Router| wrap(router, &doors.authenticator, cors.clone(), &doors.http_metrics);
    let jaeger = jaeger_http.clone().merge(prometheus).merge(session);
    // The page stands outside of the guard: it holds no data, and what it asks for is guarded.
    let (main, jaeger) = match doors.jaeger_ui.clone() {
        None => (around(main), around(jaeger.merge(pharos_web::router()))),
        Some(ui) => {
            let public = |router| wrap_public(router, &doors.http_metrics);
            let main = around(main).merge(public(ui.clone().beside_others()));
            (main, around(jaeger).fallback_service(public(ui.at_root())))
        }
    };
    Routers {
        main,
        otlp_grpc: around(ingest_grpc.merge(about(&OTLP_SERVICES)).merge(pharos_api_ingest::otlp_grpc_hints())),
        otlp_http: around(ingest_http.merge(pharos_api_ingest::otlp_hints())),
        jaeger,
        jaeger_grpc: around(jaeger_grpc.merge(jaeger_http).merge(prometheus_grpc).merge(about(&queries))),
    }
}

/// What a port tells over gRPC about these services of its own: their health and their messages.
fn about(services: &[&str]) -> Router {
    grpc_health(services.iter().copied()).merge(grpc_reflection(services.iter().copied().chain([HEALTH_SERVICE])))
}

/// The layers around every router; a request passes them from the last to the first.
fn wrap(
    router: Router,
    authenticator: &Arc<Authenticator>,
    cors: CorsLayer,
    http_metrics: &Arc<HttpMetrics>,
) -> Router {
    router
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n") })
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(Arc::clone(authenticator), authenticate_request))
        .layer(middleware::from_fn(pharos_api_ingest::say_what_was_written))
        .layer(cors)
        .layer(middleware::from_fn_with_state(Arc::clone(http_metrics), count_requests))
}

/// The layers around pages that everyone may see.
fn wrap_public(router: Router, http_metrics: &Arc<HttpMetrics>) -> Router {
    router
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(Arc::clone(http_metrics), count_requests))
}

/// Request headers that every sender and page may need.
const CORS_HEADERS: [HeaderName; 9] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ORIGIN,
    HeaderName::from_static("x-scope-orgid"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// Pages of the sites that the settings name may push and query with a token of their own; the session cookie is never
/// accepted from them, and no answer allows credentials of the browser.
fn cors(settings: &Cors, older: Option<Matcher>) -> CorsLayer {
    let named = settings.clone();
    let is_allowed = move |origin: &HeaderValue| {
        origin
            .to_str()
            .is_ok_and(|origin| named.allows(origin) || older.as_ref().is_some_and(|pattern| pattern.matches(origin)))
    };
    let headers = if settings.headers.iter().any(|name| name == "*") {
        AllowHeaders::mirror_request()
    } else {
        let own = settings.headers.iter().filter_map(|name| name.parse().ok());
        AllowHeaders::list(CORS_HEADERS.into_iter().chain(own))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| is_allowed(origin)))
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
        .allow_headers(headers)
        .expose_headers([header::DATE, header::RETRY_AFTER])
        .max_age(settings.max_age.0)
}

#[derive(Clone)]
struct Operation {
    metrics: Arc<dyn MetricStore>,
    traces: Arc<dyn TraceStore>,
    sampler: Option<Arc<TailSampler>>,
    reloader: Reloader,
    registry: Arc<Mutex<Registry>>,
}

fn operation_routes(doors: &Doors) -> Router {
    let state = Operation {
        metrics: Arc::clone(&doors.metrics),
        traces: Arc::clone(&doors.traces),
        sampler: doors.sampler.clone(),
        reloader: doors.reloader.clone(),
        registry: Arc::clone(&doors.registry),
    };
    Router::new()
        .route("/-/healthy", get(|| async { "Pharos Server is Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/flush", post(flush))
        .route("/-/compact", post(compact))
        .route("/-/reload", post(reload))
        .route("/metrics", get(own_metrics))
        .with_state(state)
}

/// Ready means that writes are taken; a store that is read-only answers queries and is not ready.
async fn ready(State(operation): State<Operation>) -> Response {
    // Stores may take a lock that is held while the disk is slow.
    let ask = move || {
        let read_only = |is_read_only: bool, which| {
            let why = "takes no writes at the moment (see the log); queries are answered";
            is_read_only.then(|| format!("{which} {why}"))
        };
        let sampler = || Some(format!("no spans are taken: {}", operation.sampler.as_ref()?.refusal()?));
        read_only(operation.metrics.stats().read_only, "the metrics store")
            .or_else(|| read_only(operation.traces.stats().read_only, "the trace store"))
            .or_else(sampler)
    };
    match tokio::task::spawn_blocking(ask).await {
        Ok(None) => "Pharos Server is Ready.\n".into_response(),
        Ok(Some(message)) => Refusal::new(ErrorClass::Unavailable, message).render(Dialect::Plain),
        Err(_) => Refusal::new(ErrorClass::Internal, "a store panicked; see the log").render(Dialect::Plain),
    }
}

async fn flush(State(operation): State<Operation>) -> Response {
    both_stores(operation, |metrics| metrics.flush(), |traces| traces.flush()).await
}

async fn compact(State(operation): State<Operation>) -> Response {
    both_stores(operation, |metrics| metrics.compact(), |traces| traces.compact()).await
}

async fn both_stores(
    operation: Operation,
    on_metrics: fn(&dyn MetricStore) -> Result<(), pharos_storage::StorageError>,
    on_traces: fn(&dyn TraceStore) -> Result<(), pharos_storage::StorageError>,
) -> Response {
    let work = move || on_metrics(operation.metrics.as_ref()).and_then(|()| on_traces(operation.traces.as_ref()));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => "done\n".into_response(),
        Ok(Err(error)) => {
            tracing::error!(error = error.full_message(), "maintenance failed");
            Refusal::new(error.class(), error.full_message()).render(Dialect::Plain)
        }
        Err(_) => Refusal::new(ErrorClass::Internal, "a store panicked; see the log").render(Dialect::Plain),
    }
}

async fn reload(State(operation): State<Operation>) -> Response {
    match tokio::task::spawn_blocking(move || operation.reloader.reload()).await {
        Ok(reloaded) if reloaded.has_failed => {
            Refusal::new(ErrorClass::Internal, reloaded.lines.join("; ")).render(Dialect::Plain)
        }
        Ok(reloaded) => (reloaded.lines.join("\n") + "\n").into_response(),
        Err(_) => {
            Refusal::new(ErrorClass::Internal, "reading settings again panicked; see the log").render(Dialect::Plain)
        }
    }
}

async fn own_metrics(State(operation): State<Operation>) -> Response {
    match tokio::task::spawn_blocking(move || self_metrics::text(&operation.registry)).await {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => Refusal::new(ErrorClass::Internal, "cannot write metrics; see the log").render(Dialect::Plain),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use pharos_model::MatchOp;

    use tower::ServiceExt;

    use super::*;

    async fn ask(layer: CorsLayer, request: axum::http::request::Builder) -> axum::http::HeaderMap {
        let router = Router::new().route("/", get(|| async {})).layer(layer);
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().headers().clone()
    }

    fn settings(origins: &[&str], headers: &[&str]) -> Cors {
        let texts = |of: &[&str]| of.iter().map(|&text| text.to_owned()).collect();
        Cors { origins: texts(origins), headers: texts(headers), ..Cors::default() }
    }

    #[tokio::test]
    async fn pages_of_other_sites_read_what_the_settings_let_them() {
        let older = Matcher::new(MatchOp::Regex, "origin", "https://(a|b)[.]example").unwrap();
        for (origins, older, origin, is_allowed) in [
            (&[][..], None, "https://any.example", false),
            (&["*"], None, "https://any.example", true),
            (&["https://a.example"], None, "https://a.example", true),
            (&["https://c.example"], Some(&older), "https://b.example", true),
            (&[], Some(&older), "https://a.example.evil", false),
        ] {
            let request = Request::get("/").header(header::ORIGIN, origin);
            let answer = ask(cors(&settings(origins, &[]), older.cloned()), request).await;
            let allowed = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
            assert_eq!(allowed, is_allowed.then_some(origin), "{origins:?} {origin}");
            assert!(!answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
            let exposed = answer[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
            assert!(exposed.contains("retry-after"), "exporters in browsers must see when to come again: {exposed}");
        }
    }

    #[tokio::test]
    async fn a_preflight_says_which_headers_may_be_sent_and_for_how_long() {
        let preflight = || {
            Request::options("/")
                .header(header::ORIGIN, "https://a.example")
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "traceparent,x-mine")
        };
        let answer = ask(cors(&settings(&["https://a.example"], &["X-Mine"]), None), preflight()).await;
        let headers = answer[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
        assert!(headers.contains("traceparent") && headers.contains("x-mine"), "{headers}");
        assert_eq!(answer[header::ACCESS_CONTROL_MAX_AGE], "600");
        let answer = ask(cors(&settings(&["https://a.example"], &["*"]), None), preflight()).await;
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_HEADERS], "traceparent,x-mine");
    }
}
