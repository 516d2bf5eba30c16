//! Deleting series: `delete_series` and `clean_tombstones` below `/api/v1/admin/tsdb`, in the shape of Prometheus, and
//! `/delete/{tenant}/prometheus/api/v1/admin/tsdb/delete_series` as VictoriaMetrics' cluster has it.
//!
//! Only POST and PUT: nothing that follows links or fills a cache may delete. An answer of 204 means that the
//! deletion is durable and no query sees the samples any more.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use http::request::Parts;
use pharos_base::ErrorClass;
use pharos_gateway::{Principal, Scope};
use pharos_http::{Dialect, Refusal};
use pharos_model::TenantId;
use pharos_storage::{MetricStore, StorageError};

use crate::admin::Operator;
use crate::labels::range;
use crate::params::Params;
use crate::reply::{ApiError, Reply};
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

/// The tenant whose series an operator may delete.
pub(crate) struct OperatedTenant(TenantId);

impl<S: Send + Sync> FromRequestParts<S> for OperatedTenant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path = RawPathParams::from_request_parts(parts, state).await.ok();
        let url_tenant = path.as_ref().and_then(|path| path.iter().find(|(name, _)| *name == "tenant"));
        let refuse = |class, message: String| Refusal::new(class, message).render(Dialect::Prometheus);
        let Some(principal) = parts.extensions.get::<Principal>() else {
            return Err(refuse(ErrorClass::Unauthenticated, "no credential".to_owned()));
        };
        let tenant = principal
            .require(Scope::Admin)
            .and_then(|()| principal.tenant_for(url_tenant.map(|(_, value)| value)))
            .map_err(|error| refuse(error.class(), error.to_string()))?;
        Ok(Self(tenant))
    }
}

async fn delete_series(
    State(api): State<Arc<PrometheusApi>>,
    OperatedTenant(tenant): OperatedTenant,
    params: Params,
) -> Reply {
    let sets = params.matcher_sets()?;
    if sets.is_empty() {
        return Err(ApiError(Refusal::new(ErrorClass::Invalid, "no match[] parameter provided")));
    }
    let range = range(&params)?;
    tracing::info!(%tenant, ?sets, ?range, "series are deleted");
    work(&api, move |store| store.delete(&tenant, &sets, range)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn clean_tombstones(State(api): State<Arc<PrometheusApi>>, _operator: Operator) -> Reply {
    work(&api, |store| store.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Runs a task of the store; it ends whether or not its client stays.
async fn work(
    api: &Arc<PrometheusApi>,
    task: impl FnOnce(&dyn MetricStore) -> Result<(), StorageError> + Send + 'static,
) -> Result<(), ApiError> {
    let store = Arc::clone(&api.store);
    Ok(api.pool.run(move |_| task(store.as_ref())).await??)
}

#[cfg(test)]
mod tests;
