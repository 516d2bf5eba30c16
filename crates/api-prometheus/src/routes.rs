//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use pharos_base::{Clock, ErrorClass};
use pharos_gateway::{ReaderBodies, hold_reader_body};
use pharos_http::{QueryPool, Refusal};
use pharos_promql::Engine;
use pharos_storage::{MetricStore, TraceStore};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::reply::ApiError;
use crate::{
    active, admin, delete, exemplars, export, features, federate, labels, metadata, notifications, openapi,
    own_metrics, query, read, search, status, targets,
};

/// Limits of the API, beside those of the engine.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Steps one range query may have; more is `bad_data`, as in Prometheus.
    pub points_per_series_max: usize,
    /// Series that `series` and label listings may touch.
    pub listed_series_max: u64,
    /// Whether `stats=all` counts samples step by step: such a query is evaluated without the cache and by hand.
    pub per_step_stats: bool,
    /// What retention is in force, for `status/runtimeinfo`.
    pub retention: String,
}

/// What `status/buildinfo` tells.
#[derive(Debug, Clone)]
pub struct BuildInfo {
    /// Pharos' version.
    pub version: &'static str,
    /// The commit it was built from, or "unknown".
    pub revision: &'static str,
}

/// What the handlers share.
#[derive(Clone)]
pub struct PrometheusApi {
    /// Evaluates queries.
    pub engine: Engine,
    /// Lists series, labels, exemplars and metadata.
    pub store: Arc<dyn MetricStore>,
    /// Of its snapshots there is one for each of the metrics'; none where traces are kept elsewhere.
    pub traces: Option<Arc<dyn TraceStore>>,
    /// Runs both, a bounded number at a time.
    pub pool: QueryPool,
    /// Runs snapshots and deletions, one at a time: they take long and shall hold up no query.
    pub upkeep: QueryPool,
    /// What "now" is.
    pub clock: Arc<dyn Clock>,
    /// Limits.
    pub settings: Arc<ApiSettings>,
    /// What `status/buildinfo` tells.
    pub build: BuildInfo,
    /// When the process started, Unix milliseconds.
    pub started_at_ms: i64,
    /// Writes this server's own metrics as OpenMetrics text; may block.
    pub own_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Bounds of what holds a connection without being a query.
    pub gates: Gates,
    /// Bounds of forms and messages that are being read.
    pub bodies: ReaderBodies,
    /// Cancelled when the server is about to stop: streams without an end end then.
    pub stop: CancellationToken,
}

/// How many at a time may do what is neither query nor upkeep.
#[derive(Debug, Clone)]
pub struct Gates {
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) listeners: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(read::READS_MAX)),
            listeners: Arc::new(Semaphore::new(notifications::LISTENERS_MAX)),
        }
    }
}

impl PrometheusApi {
    /// Asks a store for what takes no time but for the locks it needs, which may be held while the disk is slow.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let answer = tokio::task::spawn_blocking(question).await;
        answer.map_err(|_| Refusal::new(ErrorClass::Internal, "a store panicked; the log says more").into())
    }
}

/// All routes: below `/api/v1`, `/prometheus/api/v1` and `/select/{tenant}/prometheus/api/v1`, `/federate` beside each,
/// `/version`, and the operator's `/snapshot` and `delete_series`.
pub fn router(api: PrometheusApi) -> Router {
    let api = Arc::new(api);
    let below = |prefix: &str| api_routes(prefix).with_state(Arc::clone(&api));
    let version = Router::new().route("/version", get(status::version)).with_state(Arc::clone(&api));
    let bodies = Arc::new(api.bodies.clone());
    Router::new()
        .merge(version)
        .merge(admin::router().with_state(Arc::clone(&api)))
        .merge(delete::router().with_state(Arc::clone(&api)))
        .merge(below(""))
        .merge(below("/prometheus"))
        .merge(below("/select/{tenant}/prometheus"))
        .route_layer(from_fn_with_state(bodies, hold_reader_body))
}

/// What is served below each `/api/v1`, but for the listings of queries and exports. `openapi.yaml` describes it.
pub(crate) fn routes() -> [(&'static str, MethodRouter<Arc<PrometheusApi>>); 33] {
    [
        ("query", get(query::instant).post(query::instant)),
        ("query_range", get(query::range).post(query::range)),
        ("query_exemplars", get(exemplars::query).post(exemplars::query)),
        ("format_query", get(query::format).post(query::format)),
        ("parse_query", get(query::tree).post(query::tree)),
        ("read", post(read::read)),
        ("labels", get(labels::names).post(labels::names)),
        ("label/{name}/values", get(labels::values)),
        ("series", get(labels::series).post(labels::series)),
        ("metadata", get(metadata::metadata)),
        ("search/metric_names", get(search::metric_names).post(search::metric_names)),
        ("search/label_names", get(search::label_names).post(search::label_names)),
        ("search/label_values", get(search::label_values).post(search::label_values)),
        ("targets", get(targets::targets)),
        ("targets/metadata", get(targets::metadata)),
        ("targets/relabel_steps", get(targets::relabel_steps)),
        ("scrape_pools", get(targets::scrape_pools)),
        ("scrape_pools/config", get(targets::scrape_pool_config)),
        ("rules", get(targets::rules)),
        ("alerts", get(targets::alerts)),
        ("alertmanagers", get(targets::alertmanagers)),
        ("status/buildinfo", get(status::build_info)),
        ("status/runtimeinfo", get(status::runtime_info)),
        ("status/flags", get(status::flags)),
        ("status/tsdb", get(status::tsdb)),
        ("status/tsdb/blocks", get(status::blocks)),
        ("status/self_metrics", get(own_metrics::own_metrics)),
        ("status/walreplay", get(status::wal_replay)),
        ("features", get(features::features)),
        ("notifications", get(notifications::now)),
        ("notifications/live", get(notifications::live)),
        ("status/config", get(status::config)),
        ("openapi.yaml", get(openapi::openapi)),
    ]
}

fn api_routes(prefix: &str) -> Router<Arc<PrometheusApi>> {
    let mut router = Router::new();
    for (path, handler) in routes() {
        router = router.route(&format!("{prefix}/api/v1/{path}"), handler.options(nothing));
    }
    router
        .merge(active::router(prefix))
        .route(&format!("{prefix}/federate"), get(federate::federate))
        .route(&format!("{prefix}/api/v1/export"), get(export::export).post(export::export))
}

/// Asked for the methods of a path, upstream says nothing but yes; what browsers may do is told by the layer around.
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}
