//! `status/active_queries`, `status/top_queries`: queries under way and those that took most of late, as VictoriaMetrics
//! tells them; and the end of one by an operator.
//!
//! A caller sees the queries of its tenant. One with the admin scope that reaches every tenant and names none sees all.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use pharos_base::ErrorClass;
use pharos_http::{Queries, Refusal, RunningQuery, TopQuery};
use pharos_model::TenantId;
use serde_json::{Map, Value, json};

use crate::call::{Overseer, QueryOperator};
use crate::params::Params;
use crate::reply::{ApiError, Reply};
use crate::routes::PrometheusApi;

const TOP_DEFAULT: usize = 20;
const TOP_MAX: usize = 1_000;
const AGE_MAX_DEFAULT_MS: i64 = 600_000;

pub(crate) fn router(prefix: &str) -> Router<Arc<PrometheusApi>> {
    let at = |path: &str| format!("{prefix}/api/v1/status/{path}");
    Router::new()
        .route(&at("active_queries"), get(active))
        .route(&at("active_queries/{id}"), delete(cancel))
        .route(&at("active_queries/{id}/cancel"), post(cancel))
        .route(&at("top_queries"), get(top))
}

/// Queries under way, the oldest first.
async fn active(State(api): State<Arc<PrometheusApi>>, overseer: Overseer) -> Response {
    let running = api.pool.queries().running(overseer.tenant.as_ref());
    let listed: Vec<Value> = running.iter().map(|query| active_json(query)).collect();
    json_response(&json!({"status": "ok", "data": listed}))
}

/// VictoriaMetrics' members, then ours.
fn active_json(query: &RunningQuery) -> Value {
    let (asked, load) = (query.asked(), query.load());
    let (start_ms, end_ms, step_ms) = asked.steps.unwrap_or_default();
    let mut entry = json!({
        "duration": format!("{:.3}s", query.running_for().as_secs_f64()),
        "id": query.id_text(),
        "remote_addr": asked.remote_address,
    });
    push(
        &mut entry,
        account(&asked.tenant)
            .map(|(account, project)| json!({"account_id": account.to_string(), "project_id": project.to_string()})),
    );
    push(
        &mut entry,
        Some(json!({
            "query": asked.text,
            "start": start_ms,
            "end": end_ms,
            "step": step_ms,
            "kind": asked.kind.as_str(),
            "tenant": asked.tenant,
            "principal": &*asked.principal,
            "state": if query.is_waiting() { "waiting" } else { "running" },
            "queue_duration": format!("{:.3}s", query.queued_for().as_secs_f64()),
            "memory_bytes": load.memory_bytes,
            "memory_bytes_peak": load.memory_bytes_peak,
            "samples_held": load.samples_held,
            "samples_read": load.samples_read,
            "series_read": load.series_read,
        })),
    );
    entry
}

fn push(entry: &mut Value, more: Option<Value>) {
    if let (Some(entry), Some(Value::Object(more))) = (entry.as_object_mut(), more) {
        entry.extend(more);
    }
}

/// Account and project, where the tenant is named by them.
fn account(tenant: &TenantId) -> Option<(u32, u32)> {
    let (account, project) = tenant.as_str().split_once(':').unwrap_or((tenant.as_str(), "0"));
    Some((account.parse().ok()?, project.parse().ok()?))
}

/// Ends one query; its client is told who did it.
async fn cancel(
    State(api): State<Arc<PrometheusApi>>,
    operator: QueryOperator,
    Path(path): Path<std::collections::HashMap<String, String>>,
) -> Reply {
    let shown = path.get("id").map_or("", String::as_str);
    let refuse = |class, message: String| ApiError(Refusal::new(class, message));
    let id = u64::from_str_radix(shown, 16)
        .map_err(|_| refuse(ErrorClass::Invalid, format!("invalid parameter \"id\": {shown:?} is no id of a query")))?;
    if !api.pool.queries().cancel(id, operator.tenant.as_ref(), &operator.name) {
        return Err(refuse(ErrorClass::NotFound, format!("no query {shown} is under way; it may have ended")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The queries that took most of late.
async fn top(State(api): State<Arc<PrometheusApi>>, overseer: Overseer, params: Params) -> Reply {
    let bad = |message: String| ApiError(Refusal::new(ErrorClass::Invalid, message));
    let count = match params.integer("topN")? {
        None => TOP_DEFAULT,
        Some(count) => usize::try_from(count)
            .ok()
            .filter(|count| (1..=TOP_MAX).contains(count))
            .ok_or_else(|| bad(format!("invalid parameter \"topN\": it must be between 1 and {TOP_MAX}")))?,
    };
    let age_max_ms = params.duration_ms("maxLifetime")?.unwrap_or(AGE_MAX_DEFAULT_MS);
    let age_max_ms = u64::try_from(age_max_ms)
        .map_err(|_| bad("invalid parameter \"maxLifetime\": it must not be negative".to_owned()))?;
    let (queries, age_max) = (api.pool.queries().clone(), Duration::from_millis(age_max_ms));
    // Some milliseconds of sorting: not on an async worker.
    let ranked = tokio::task::spawn_blocking(move || top_json(&queries, &overseer, count, age_max)).await;
    let ranked = ranked.map_err(|_| ApiError(Refusal::new(ErrorClass::Internal, "a listing panicked; see the log")))?;
    Ok(json_response(&ranked))
}

fn top_json(queries: &Queries, overseer: &Overseer, count: usize, age_max: Duration) -> Value {
    let top = queries.top(overseer.tenant.as_ref(), count, age_max);
    let list = |queries: &[TopQuery], own: &dyn Fn(&TopQuery) -> Value| -> Vec<Value> {
        queries.iter().map(|query| ranked_json(query, own(query))).collect()
    };
    json!({
        "topN": count.to_string(),
        "maxLifetime": format!("{}s", age_max.as_secs_f64()),
        "search.queryStats.lastQueriesCount": top.run_count,
        "search.queryStats.minQueryDuration": "0s",
        "search.queryStats.minQueryMemoryUsage": "0",
        "topByCount": list(&top.by_count, &|_| json!({})),
        "topByAvgDuration":
            list(&top.by_duration_mean, &|query| json!({"avgDurationSeconds": seconds(query.duration_mean())})),
        "topBySumDuration":
            list(&top.by_duration_sum, &|query| json!({"sumDurationSeconds": seconds(query.duration_sum)})),
        "topByAvgMemoryUsage":
            list(&top.by_memory_mean, &|query| json!({"avgMemoryBytes": query.memory_bytes_mean()})),
        "topBySumSamplesRead":
            list(&top.by_samples_sum, &|query| json!({"sumSamplesRead": query.samples_read_sum})),
    })
}

/// A query in a ranking: whose it is, what it asks, its measure, how often it ran.
fn ranked_json(query: &TopQuery, measure: Value) -> Value {
    let mut entry = Value::Object(Map::new());
    push(
        &mut entry,
        account(query.tenant()).map(|(account, project)| json!({"accountID": account, "projectID": project})),
    );
    push(&mut entry, Some(json!({"query": query.text(), "timeRangeSeconds": query.range_seconds()})));
    push(&mut entry, Some(measure));
    push(
        &mut entry,
        Some(json!({
            "count": query.count, "multiTenant": false, "kind": query.kind().as_str(), "tenant": query.tenant(),
        })),
    );
    entry
}

/// Microseconds are as fine as anyone reads them.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn json_response(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests;
