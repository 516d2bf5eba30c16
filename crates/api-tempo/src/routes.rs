//! Which path is answered by what.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use pharos_base::{CancelToken, Clock, ErrorClass, MemoryBudget};
use pharos_http::{Dialect, QueryPool, Refusal};
use pharos_storage::{ReadContext, TraceStore};

use crate::{search, tags, trace};

/// What the handlers share.
#[derive(Clone)]
pub struct TempoApi {
    /// Where the traces are.
    pub store: Arc<dyn TraceStore>,
    /// Runs reads, a bounded number at a time.
    pub pool: QueryPool,
    /// What "now" is.
    pub clock: Arc<dyn Clock>,
    /// Longest run of one read.
    pub timeout: Duration,
    /// What all reads and queries may hold in memory together.
    pub memory: MemoryBudget,
    /// What one read may hold in memory, bytes.
    pub memory_bytes_max: u64,
}

impl TempoApi {
    /// The bounds of one read.
    pub(crate) fn context(&self, cancel: &CancelToken, memory: MemoryBudget) -> ReadContext {
        let cancel = cancel.with_deadline_at(self.clock.monotonic() + self.timeout);
        ReadContext { cancel, memory, ..ReadContext::unlimited() }
    }
}

/// All routes, below `/tempo/api` and, of the tenant named there, `/select/{tenant}/tempo/api`.
pub fn router(api: TempoApi) -> Router {
    let api = Arc::new(api);
    let below = |prefix: &str| routes(prefix).with_state(Arc::clone(&api));
    Router::new().merge(below("/tempo/api")).merge(below("/select/{tenant}/tempo/api"))
}

fn routes(prefix: &str) -> Router<Arc<TempoApi>> {
    let at = |path: &str| format!("{prefix}/{path}");
    Router::new()
        .route(&at("echo"), get(|| async { "echo" }))
        .route(&at("status/buildinfo"), get(build_info))
        .route(&at("traces/{trace_id}"), get(trace::v1))
        .route(&at("v2/traces/{trace_id}"), get(trace::v2))
        .route(&at("search"), get(search::search))
        .route(&at("search/tags"), get(tags::names_v1))
        .route(&at("v2/search/tags"), get(tags::names_v2))
        .route(&at("search/tag/{tag}/values"), get(tags::values_v1))
        .route(&at("v2/search/tag/{tag}/values"), get(tags::values_v2))
        .route(&at("metrics/query_range"), get(metrics))
        .route(&at("metrics/query"), get(metrics))
}

/// Grafana takes what it may ask for from the version: below 2.2 no streams over gRPC, which are not here.
async fn build_info() -> Response {
    let body = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "revision": "", "branch": "", "goVersion": ""});
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn metrics() -> Response {
    let message = "metrics by TraceQL are not supported: metrics of spans are in the Prometheus API, \
                   traces_spanmetrics_calls_total and traces_spanmetrics_latency";
    Refusal::new(ErrorClass::Unsupported, message).with_status(http::StatusCode::NOT_IMPLEMENTED).render(Dialect::Plain)
}
