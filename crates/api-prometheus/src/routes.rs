//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use pharos_base::Clock;
use pharos_http::QueryPool;
use pharos_promql::Engine;
use pharos_storage::{MetricStore, TraceStore};

use crate::{active, admin, delete, exemplars, export, federate, labels, metadata, query, read, search, status};

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
}

/// All routes: below `/api/v1`, `/prometheus/api/v1` and `/select/{tenant}/prometheus/api/v1`, `/federate` beside each,
/// `/version`, and the operator's `/snapshot` and `delete_series`.
pub fn router(api: PrometheusApi) -> Router {
    let api = Arc::new(api);
    let below = |prefix: &str| api_routes(prefix).with_state(Arc::clone(&api));
    let version = Router::new().route("/version", get(status::version)).with_state(Arc::clone(&api));
    Router::new()
        .merge(version)
        .merge(admin::router().with_state(Arc::clone(&api)))
        .merge(delete::router().with_state(Arc::clone(&api)))
        .merge(below(""))
        .merge(below("/prometheus"))
        .merge(below("/select/{tenant}/prometheus"))
}

fn api_routes(prefix: &str) -> Router<Arc<PrometheusApi>> {
    let routes: [(&str, MethodRouter<Arc<PrometheusApi>>); 28] = [
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
        ("targets/metadata", get(status::empty_list)),
        ("targets", get(status::targets)),
        ("scrape_pools", get(status::scrape_pools)),
        ("scrape_pools/config", get(status::scrape_pool_config)),
        ("rules", get(status::rules)),
        ("alerts", get(status::alerts)),
        ("alertmanagers", get(status::alertmanagers)),
        ("status/buildinfo", get(status::build_info)),
        ("status/runtimeinfo", get(status::runtime_info)),
        ("status/flags", get(status::flags)),
        ("status/tsdb", get(status::tsdb)),
        ("status/walreplay", get(status::wal_replay)),
        ("features", get(status::features)),
        ("notifications", get(status::empty_list)),
        ("status/config", get(status::config)),
    ];
    let mut router = Router::new();
    for (path, handler) in routes {
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
