//! `status/*` and the listings of what a server that scrapes and evaluates rules would have.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use pharos_base::ErrorClass;
use pharos_http::Refusal;
use pharos_promql::functions;
use pharos_storage::CardinalityEntry;
use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::params::Params;
use crate::reply::{ApiError, Reply, success};
use crate::routes::PrometheusApi;

const TOP_DEFAULT: usize = 10;
const TOP_MAX: usize = 10_000;

/// What was built. Grafana reads `version` to pick features; Prometheus' API level is told apart.
pub(crate) async fn build_info(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Response {
    success(&build_json(&api))
}

/// `/version`: the same without the envelope.
pub(crate) async fn version(State(api): State<Arc<PrometheusApi>>) -> Json<Value> {
    Json(build_json(&api))
}

fn build_json(api: &PrometheusApi) -> Value {
    json!({
        "version": "3.14.0",
        "revision": api.build.revision,
        "branch": format!("pharos-{}", api.build.version),
        "buildUser": "pharos",
        "buildDate": "",
        "goVersion": "",
        "application": "pharos",
        "applicationVersion": api.build.version,
    })
}

/// How this process is doing.
pub(crate) async fn runtime_info(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Response {
    let time = |unix_ms: i64| Timestamp::from_millisecond(unix_ms).map_or(String::new(), |time| time.to_string());
    let cwd = std::env::current_dir().map_or(String::new(), |path| path.display().to_string());
    success(&json!({
        "startTime": time(api.started_at_ms),
        "CWD": cwd,
        "serverTime": time(api.clock.unix_ms()),
        "reloadConfigSuccess": true,
        "lastConfigTime": time(api.started_at_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": pharos_base::available_cores(),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": api.settings.retention,
    }))
}

/// Flags are settings here; they stand in the configuration, not in the API.
pub(crate) async fn flags(_caller: Caller) -> Response {
    success(&Map::new())
}

/// No Prometheus configuration is loaded.
pub(crate) async fn config(_caller: Caller) -> Response {
    success(&json!({"yaml": ""}))
}

/// Where the tenant's series come from.
pub(crate) async fn tsdb(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let bad = |message: String| ApiError(Refusal::new(ErrorClass::Invalid, message));
    let top = params.integer("limit")?.map_or(Ok(TOP_DEFAULT), usize::try_from).unwrap_or(0);
    if top == 0 {
        return Err(bad("invalid parameter \"limit\": limit must be a positive number".to_owned()));
    }
    if top > TOP_MAX {
        return Err(bad(format!("invalid parameter \"limit\": limit must not exceed {TOP_MAX}")));
    }
    let inner = Arc::clone(&api);
    let found = api.pool.run(move |_| inner.store.cardinality(&caller.tenant, top)).await??;
    let list = |entries: &[CardinalityEntry]| -> Vec<Value> {
        entries.iter().map(|entry| json!({"name": entry.name, "value": entry.value})).collect()
    };
    Ok(success(&json!({
        "headStats": {
            "numSeries": found.series,
            "numLabelPairs": found.label_pairs,
            "chunkCount": found.chunks,
            "minTime": found.min_time_ms,
            "maxTime": found.max_time_ms,
        },
        "seriesCountByMetricName": list(&found.series_by_metric),
        "labelValueCountByLabelName": list(&found.values_by_label),
        "memoryInBytesByLabelName": list(&found.bytes_by_label),
        "seriesCountByLabelValuePair": list(&found.series_by_pair),
    })))
}

/// The log is replayed before the port opens, so it is always done.
pub(crate) async fn wal_replay(_caller: Caller) -> Response {
    success(&json!({"min": 0, "max": 0, "current": 0}))
}

/// Which parts of the language are on.
pub(crate) async fn features(State(api): State<Arc<PrometheusApi>>, _caller: Caller) -> Response {
    let parser = api.engine.settings().parser;
    let functions: Map<String, Value> = functions::FUNCTIONS
        .iter()
        .map(|function| (function.name.to_owned(), json!(!function.experimental || parser.experimental_functions)))
        .collect();
    success(&json!({
        "api": {"exclude_alerts": false, "label_values_match": true, "query_stats": true},
        "otlp_receiver": {"delta_conversion": false, "native_delta_ingestion": false},
        "promql": {
            "duration_expr": parser.duration_expressions,
            "anchored": parser.extended_range_selectors,
            "smoothed": parser.extended_range_selectors,
            "fill": parser.binop_fill_modifiers,
            "per_step_stats": api.settings.per_step_stats,
        },
        "promql_functions": functions,
    }))
}

/// Nothing is scraped.
pub(crate) async fn targets(_caller: Caller) -> Response {
    success(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}))
}

/// Nothing is scraped.
pub(crate) async fn scrape_pools(_caller: Caller) -> Response {
    success(&json!({"scrapePools": []}))
}

/// Nothing is scraped, so no pool has a configuration.
pub(crate) async fn scrape_pool_config(_caller: Caller, params: Params) -> Reply {
    let (class, message) = match params.get("scrapePool") {
        None => (ErrorClass::Invalid, "no scrapePool parameter provided".to_owned()),
        Some(pool) => (ErrorClass::NotFound, format!("scrape pool {pool:?} not found")),
    };
    Err(ApiError(Refusal::new(class, message)))
}

/// No rules are evaluated.
pub(crate) async fn rules(_caller: Caller) -> Response {
    success(&json!({"groups": []}))
}

/// No rules are evaluated.
pub(crate) async fn alerts(_caller: Caller) -> Response {
    success(&json!({"alerts": []}))
}

/// No alerts are sent.
pub(crate) async fn alertmanagers(_caller: Caller) -> Response {
    success(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

/// A listing without entries.
pub(crate) async fn empty_list(_caller: Caller) -> Response {
    success(&json!([]))
}
