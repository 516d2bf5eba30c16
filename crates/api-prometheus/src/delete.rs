//! Deleting series: `delete_series` and `clean_tombstones` below `/api/v1/admin/tsdb`, in the shape of Prometheus, and
//! `/delete/{tenant}/prometheus/api/v1/admin/tsdb/delete_series` as VictoriaMetrics' cluster has it.
//!
//! Only POST and PUT: nothing that follows links or fills a cache may delete. An answer of 204 means that the
//! deletion is durable and no query sees the samples any more.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use http::StatusCode;

use crate::admin::upkeep;
use crate::call::{OperatedTenant, Operator};
use crate::labels::range;
use crate::params::Params;
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
    router.route("/delete/{tenant}/prometheus/api/v1/admin/tsdb/delete_series", post(delete_series).put(delete_series))
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

#[cfg(test)]
mod tests;
