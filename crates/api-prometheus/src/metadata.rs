//! `metadata`: kind, help and unit of metric families, from whatever door they came through.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Map, Value, json};

use crate::call::Caller;
use crate::params::Params;
use crate::reply::{Reply, success};
use crate::routes::PrometheusApi;

/// Lists metadata by metric name: `limit` families, all if it is absent or negative, and none for 0.
///
/// A family has one entry, the newest, so that `limit_per_metric` never leaves one out.
pub(crate) async fn metadata(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let metric = params.get("metric").map(str::to_owned);
    params.integer("limit_per_metric")?;
    let limit = params.integer("limit")?.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let inner = Arc::clone(&api);
    let tenant = caller.tenant.clone();
    let found =
        api.pool.run(&tenant, move |_| inner.store.metadata(&caller.tenant, metric.as_deref(), limit)).await??;
    let by_name: Map<String, Value> = found
        .into_iter()
        .map(|family| {
            let entry = json!([{"type": family.kind.as_str(), "unit": family.unit, "help": family.help}]);
            (family.metric, entry)
        })
        .collect();
    Ok(success(&by_name))
}
