//! Deleting series: `delete_series` and `clean_tombstones` below `/api/v1/admin/tsdb`, in the shape of Prometheus, and
//! `/delete/{tenant}/prometheus/api/v1/admin/tsdb/delete_series` as VictoriaMetrics' cluster has it. Deleting a trace:
//! `/api/v1/admin/traces/delete?trace_id=`, beside them.
//!
//! Only POST, PUT and, for a trace, DELETE: nothing that follows links or fills a cache may delete. An answer of 204 means
//! that the deletion is durable and no query sees the samples or spans any more.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use http::StatusCode;
use pharos_model::TraceId;

use crate::admin::upkeep;
use crate::call::{OperatedTenant, Operator};
use crate::labels::range;
use crate::params::{Params, invalid};
use crate::reply::Reply;
use crate::routes::PrometheusApi;

pub(crate) fn router() -> Router<Arc<PrometheusApi>> {
    let mut router = Router::new();
    for prefix in ["", "/prometheus"] {
        let below = |name: &str| format!("{prefix}/api/v1/admin/tsdb/{name}");
        router = router
            .route(&below("delete_series"), post(delete_series).put(delete_series))
            .route(&below("clean_tombstones"), post(clean_tombstones).put(clean_tombstones));
    }
    router
        .route("/delete/{tenant}/prometheus/api/v1/admin/tsdb/delete_series", post(delete_series).put(delete_series))
        .route("/api/v1/admin/traces/delete", post(delete_trace).put(delete_trace).delete(delete_trace))
}

async fn delete_series(
    State(api): State<Arc<PrometheusApi>>,
    OperatedTenant(tenant): OperatedTenant,
    params: Params,
) -> Reply {
    let sets = params.required_matcher_sets()?;
    let range = range(&params)?;
    tracing::info!(%tenant, ?sets, ?range, "series are deleted");
    upkeep(&api, move |stores| stores.metrics.delete(&tenant, &sets, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn clean_tombstones(State(api): State<Arc<PrometheusApi>>, _operator: Operator) -> Reply {
    upkeep(&api, |stores| stores.metrics.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `trace_id` is 1 to 32 hexadecimal digits. A trace that is not there is as good as deleted.
async fn delete_trace(
    State(api): State<Arc<PrometheusApi>>,
    OperatedTenant(tenant): OperatedTenant,
    params: Params,
) -> Reply {
    let trace_id: TraceId =
        params.get("trace_id").unwrap_or_default().parse().map_err(|error| invalid("trace_id", error))?;
    tracing::info!(%tenant, %trace_id, "a trace is deleted");
    upkeep(&api, move |stores| stores.delete_trace(&tenant, trace_id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests;
