//! `query_exemplars`: the exemplars of all series that an expression selects.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use pharos_base::ErrorClass;
use pharos_http::Refusal;
use pharos_model::Matcher;
use pharos_promql::ast::Expr;
use pharos_promql::parse;
use serde_json::json;

use crate::call::Caller;
use crate::labels::{AsObject, context, range};
use crate::number::push_float;
use crate::params::Params;
use crate::reply::{ApiError, Reply, success};
use crate::routes::PrometheusApi;

/// Lists exemplars.
pub(crate) async fn query(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let query = Params::required("query", params.get("query"))?;
    let parsed = parse(query, api.engine.settings().parser);
    let bad = |error| ApiError(Refusal::new(ErrorClass::Invalid, format!("invalid parameter \"query\": {error}")));
    let mut sets = Vec::new();
    collect_selectors(&parsed.map_err(bad)?, &mut sets);
    if sets.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (range, inner) = (range(&params)?, Arc::clone(&api));
    let work = move |cancel| inner.store.exemplars(&caller.tenant, &sets, range, &context(&inner, cancel));
    let found = api.pool.run(work).await??;
    let listed: Vec<_> = found
        .iter()
        .map(|series| {
            let exemplars = series.exemplars.iter().map(|exemplar| {
                let mut value = Vec::new();
                push_float(&mut value, exemplar.value);
                json!({
                    "labels": AsObject(&exemplar.labels),
                    "value": String::from_utf8_lossy(&value),
                    "timestamp": exemplar.timestamp_ms as f64 / 1_000.0,
                })
            });
            json!({"seriesLabels": AsObject(&series.labels), "exemplars": exemplars.collect::<Vec<_>>()})
        })
        .collect();
    Ok(success(&listed))
}

fn collect_selectors(expr: &Expr, sets: &mut Vec<Vec<Matcher>>) {
    match expr {
        Expr::VectorSelector(selector) => sets.push(selector.matchers.clone()),
        Expr::MatrixSelector(matrix) => sets.push(matrix.selector.matchers.clone()),
        other => other.for_each_child(|child| collect_selectors(child, sets)),
    }
}
