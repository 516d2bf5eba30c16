//! Snapshots over HTTP: Prometheus' `/api/v1/admin/tsdb/snapshot`, and `/snapshot/create`, `/snapshot/list`,
//! `/snapshot/delete` and `/snapshot/delete_all` as VictoriaMetrics and its backup tools speak them.
//!
//! A snapshot holds all tenants, so these paths ask for the admin scope and know no tenant.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use pharos_base::{Clock, random_bytes};
use pharos_http::Dialect;
use pharos_model::{TenantId, TraceId};
use pharos_storage::{MetricStore, StorageError, TraceStore};
use serde_json::{Value, json};

use crate::call::Operator;
use crate::params::Params;
use crate::reply::{ApiError, Reply, success};
use crate::routes::PrometheusApi;

pub(crate) fn router() -> Router<Arc<PrometheusApi>> {
    Router::new()
        .route("/api/v1/admin/tsdb/snapshot", post(snapshot).put(snapshot))
        .route("/prometheus/api/v1/admin/tsdb/snapshot", post(snapshot).put(snapshot))
        .route("/snapshot/create", get(create).post(create))
        .route("/snapshot/list", get(list).post(list))
        .route("/snapshot/delete", get(delete).post(delete))
        .route("/snapshot/delete_all", get(delete_all).post(delete_all))
}

/// Prometheus': `skip_head=true` leaves out what is not in parts yet.
async fn snapshot(State(api): State<Arc<PrometheusApi>>, _operator: Operator, params: Params) -> Reply {
    let skip_head = params.flag("skip_head")?;
    let name = make(&api, !skip_head).await?;
    Ok(success(&json!({ "name": name })))
}

async fn create(State(api): State<Arc<PrometheusApi>>, _operator: Operator) -> Response {
    answer(make(&api, true).await.map(|name| json!({"status": "ok", "snapshot": name})))
}

async fn list(State(api): State<Arc<PrometheusApi>>, _operator: Operator) -> Response {
    let found = upkeep(&api, Stores::snapshots).await;
    answer(found.map(|names| json!({"status": "ok", "snapshots": names})))
}

async fn delete(State(api): State<Arc<PrometheusApi>>, _operator: Operator, params: Params) -> Response {
    let name = params.get("snapshot").unwrap_or("").to_owned();
    let deleted = upkeep(&api, move |stores| {
        if stores.delete(&name)? {
            return Ok(());
        }
        Err(StorageError::Invalid { message: format!("there is no snapshot {name:?}") })
    });
    answer(deleted.await.map(|()| json!({"status": "ok"})))
}

async fn delete_all(State(api): State<Arc<PrometheusApi>>, _operator: Operator) -> Response {
    let deleted = upkeep(&api, Stores::delete_all);
    answer(deleted.await.map(|()| json!({"status": "ok"})))
}

async fn make(api: &Arc<PrometheusApi>, head: bool) -> Result<String, ApiError> {
    let name = name(api.clock.as_ref());
    let called = name.clone();
    upkeep(api, move |stores| stores.create(&called, head)).await?;
    Ok(name)
}

/// Date and time, as VictoriaMetrics names snapshots, and something that no other has.
fn name(clock: &dyn Clock) -> String {
    let now = Timestamp::from_millisecond(clock.unix_ms()).unwrap_or_default();
    format!("{}-{:016X}", now.strftime("%Y%m%d%H%M%S"), u64::from_le_bytes(random_bytes()))
}

/// Runs a task of the stores, one at a time and beside the queries; it ends whether or not its client stays.
pub(crate) async fn upkeep<T: Send + 'static>(
    api: &Arc<PrometheusApi>,
    task: impl FnOnce(&Stores) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let stores = Stores { metrics: Arc::clone(&api.store), traces: api.traces.clone() };
    // What is done to the stores is nobody's: one queue for all.
    Ok(api.upkeep.run(&TenantId::default(), move |_| task(&stores)).await??)
}

/// A snapshot is one of each store, of the same name.
pub(crate) struct Stores {
    pub(crate) metrics: Arc<dyn MetricStore>,
    /// A store that knows no snapshots has none.
    traces: Option<Arc<dyn TraceStore>>,
}

impl Stores {
    fn create(&self, name: &str, head: bool) -> Result<(), StorageError> {
        self.metrics.create_snapshot(name, head)?;
        let traces = self.traces.as_ref().map_or(Ok(()), |traces| known(traces.create_snapshot(name)).map(|_| ()));
        if traces.is_err() {
            // Half a snapshot is none; should this fail, too, the first failure is what matters.
            let _ = self.metrics.delete_snapshot(name);
        }
        traces
    }

    /// Names of those that are whole: a crash between the two stores leaves half of one, which is none.
    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        let mut names = self.metrics.snapshots()?;
        if let Some(of_traces) = self.snapshots_of_traces()? {
            names.retain(|name| of_traces.contains(name));
        }
        Ok(names)
    }

    /// `None` if traces are kept elsewhere, or by a store that knows no snapshots.
    fn snapshots_of_traces(&self) -> Result<Option<Vec<String>>, StorageError> {
        self.traces.as_ref().map_or(Ok(None), |traces| known(traces.snapshots()))
    }

    /// Deletes all, halves too.
    fn delete_all(&self) -> Result<(), StorageError> {
        let of_traces = self.snapshots_of_traces()?.unwrap_or_default();
        for name in self.metrics.snapshots()?.iter().chain(&of_traces) {
            self.delete(name)?;
        }
        Ok(())
    }

    pub(crate) fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        let unsupported = || StorageError::Unsupported { what: "traces".to_owned() };
        self.traces.as_ref().ok_or_else(unsupported)?.delete_trace(tenant, trace_id)
    }

    fn delete(&self, name: &str) -> Result<bool, StorageError> {
        let is_deleted = self.metrics.delete_snapshot(name)?;
        let traces = self.traces.as_ref().map_or(Ok(None), |traces| known(traces.delete_snapshot(name)))?;
        Ok(is_deleted || traces == Some(true))
    }
}

/// Nothing instead of an error from a store that knows no snapshots.
fn known<T>(outcome: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match outcome {
        Err(StorageError::Unsupported { .. }) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// VictoriaMetrics' envelope.
fn answer(outcome: Result<Value, ApiError>) -> Response {
    let body = match outcome {
        Ok(body) => body,
        Err(ApiError(refusal)) => {
            let mut response = refusal.render(Dialect::Prometheus);
            *response.body_mut() = Body::from(json!({"status": "error", "msg": refusal.message()}).to_string());
            return response;
        }
    };
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests;
