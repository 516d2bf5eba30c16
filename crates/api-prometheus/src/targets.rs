//! What a server that scrapes, evaluates rules and sends alerts would list: nothing of that is done here, so that all
//! listings are empty. Their parameters are checked nevertheless, for clients that rely on being told.

use axum::response::Response;
use pharos_base::ErrorClass;
use pharos_http::Refusal;
use pharos_promql::parse_selector;
use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::params::{Params, bad, invalid};
use crate::reply::{ApiError, Reply, success};

/// Nothing is scraped.
pub(crate) async fn targets(_caller: Caller) -> Response {
    success(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}))
}

/// Metadata that arrives is that of metrics, not of targets.
pub(crate) async fn metadata(_caller: Caller, params: Params) -> Reply {
    params.integer("limit").map_err(|_| bad("limit must be a number"))?;
    if let Some(text) = params.get("match_target") {
        parse_selector(text).map_err(|error| invalid("match_target", error))?;
    }
    Ok(success(&json!([])))
}

/// Nothing is scraped.
pub(crate) async fn scrape_pools(_caller: Caller) -> Response {
    success(&json!({"scrapePools": []}))
}

/// Nothing is scraped, so no pool has a configuration.
pub(crate) async fn scrape_pool_config(_caller: Caller, params: Params) -> Reply {
    Err(unknown_pool(&params)?)
}

/// Nothing is relabelled.
pub(crate) async fn relabel_steps(_caller: Caller, params: Params) -> Reply {
    let unknown = unknown_pool(&params)?;
    let labels = params.get("labels").ok_or_else(|| bad("no labels parameter provided"))?;
    let parsed: Result<Map<String, Value>, _> = serde_json::from_str(labels);
    parsed.map_err(|error| bad(format!("error parsing labels: {error}")))?;
    Err(unknown)
}

/// What is told of the pool that is asked for.
fn unknown_pool(params: &Params) -> Result<ApiError, ApiError> {
    let pool = params.get("scrapePool").ok_or_else(|| bad("no scrapePool parameter provided"))?;
    Ok(ApiError(Refusal::new(ErrorClass::NotFound, format!("scrape pool {pool:?} not found"))))
}

/// No rules are evaluated.
pub(crate) async fn rules(_caller: Caller, params: Params) -> Reply {
    if let Some(kind) = params.get("type").filter(|kind| !matches!(kind.to_lowercase().as_str(), "alert" | "record")) {
        return Err(invalid("type", format_args!("not supported value {kind:?}")).into());
    }
    params.flag("exclude_alerts")?;
    params.plain_matcher_sets().map_err(bad)?;
    let limit = params.integer("group_limit").ok().flatten().unwrap_or(1);
    if params.get("group_limit").is_some_and(|text| text.parse::<i64>().is_err()) || limit < 1 {
        return Err(invalid("group_limit", "group_limit must be a positive number").into());
    }
    if params.get("group_next_token").is_some() {
        let problem = if params.get("group_limit").is_none() {
            "group_limit needs to be paginated over the rules"
        } else {
            "invalid group_next_token. were rule groups changed?"
        };
        return Err(invalid("group_next_token", problem).into());
    }
    Ok(success(&json!({"groups": []})))
}

/// No rules are evaluated.
pub(crate) async fn alerts(_caller: Caller) -> Response {
    success(&json!({"alerts": []}))
}

/// No alerts are sent.
pub(crate) async fn alertmanagers(_caller: Caller) -> Response {
    success(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}
