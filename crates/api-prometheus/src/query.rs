//! `query`, `query_range`, `format_query`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use pharos_base::{CancelToken, ErrorClass};
use pharos_http::Refusal;
use pharos_model::StepRange;
use pharos_promql::engine::QueryStats;
use pharos_promql::{QueryOptions, QueryResult, Value, parse, pretty};
use serde_json::json;

use crate::call::Caller;
use crate::json::{result_head, result_pieces};
use crate::params::Params;
use crate::reply::{ApiError, Reply, query_tail, success, success_pieces};
use crate::routes::PrometheusApi;

const TRUNCATED: &str = "results truncated due to limit";

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(Refusal::new(ErrorClass::Invalid, message))
}

fn options(params: &Params, cancel: CancelToken) -> Result<QueryOptions, ApiError> {
    let lookback_ms = params.duration_ms("lookback_delta")?;
    if lookback_ms.is_some_and(|ms| ms <= 0) {
        return Err(bad("invalid parameter \"lookback_delta\": it must be positive"));
    }
    let timeout_ms = params.duration_ms("timeout")?;
    let timeout = timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(QueryOptions { lookback_ms, timeout, cancel })
}

/// Evaluates a query at one instant.
pub(crate) async fn instant(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let query = Params::required("query", params.get("query"))?.to_owned();
    let at_ms = params.time_ms("time")?.unwrap_or_else(|| api.clock.unix_ms());
    let options_template = options(&params, CancelToken::new())?;
    let engine = api.engine.clone();
    let result = api
        .pool
        .run(move |cancel| engine.instant(&caller.tenant, &query, at_ms, &QueryOptions { cancel, ..options_template }))
        .await??;
    answer(result, &params)
}

/// Evaluates a query at every step of a range.
pub(crate) async fn range(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let query = Params::required("query", params.get("query"))?.to_owned();
    let start_ms = Params::required("start", params.time_ms("start")?)?;
    let end_ms = Params::required("end", params.time_ms("end")?)?;
    let step_ms = Params::required("step", params.duration_ms("step")?)?;
    if end_ms < start_ms {
        return Err(bad("invalid parameter \"end\": end timestamp must not be before start time"));
    }
    if step_ms <= 0 {
        return Err(bad(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    let steps = StepRange { start_ms, end_ms, step_ms };
    let most = api.settings.points_per_series_max;
    if steps.len() > most.saturating_add(1) {
        return Err(bad(format!(
            "exceeded maximum resolution of {most} points per timeseries. Try decreasing the query resolution (?step=XX)"
        )));
    }
    let options_template = options(&params, CancelToken::new())?;
    let engine = api.engine.clone();
    let result = api
        .pool
        .run(move |cancel| engine.range(&caller.tenant, &query, steps, &QueryOptions { cancel, ..options_template }))
        .await??;
    answer(result, &params)
}

/// Prints a query as people read it best.
pub(crate) async fn format(State(api): State<Arc<PrometheusApi>>, _caller: Caller, params: Params) -> Reply {
    let query = Params::required("query", params.get("query"))?;
    let parsed = parse(query, api.engine.settings().parser);
    let expr = parsed.map_err(|error| bad(format!("invalid parameter \"query\": {error}")))?;
    Ok(success(&pretty(&expr)))
}

fn answer(mut result: QueryResult, params: &Params) -> Reply {
    let truncated = truncate(&mut result.value, params.limit()?);
    let stats = params.get("stats").map(|_| stats_json(&result.stats));
    let tail = query_tail(stats, &result.annotations, truncated.then_some(TRUNCATED));
    Ok(success_pieces(result_head(&result.value), result_pieces(result.value), tail))
}

fn truncate(value: &mut Value, limit: Option<usize>) -> bool {
    let Some(limit) = limit else { return false };
    match value {
        Value::Vector(samples) if samples.len() > limit => samples.truncate(limit),
        Value::Matrix(series) if series.len() > limit => series.truncate(limit),
        _ => return false,
    }
    true
}

fn stats_json(stats: &QueryStats) -> serde_json::Value {
    let (prepare, evaluate) = (stats.prepare_duration.as_secs_f64(), stats.evaluate_duration.as_secs_f64());
    json!({
        "timings": {
            "evalTotalTime": evaluate,
            "resultSortTime": 0.0,
            "queryPreparationTime": prepare,
            "innerEvalTime": evaluate,
            "execQueueTime": 0.0,
            "execTotalTime": prepare + evaluate,
        },
        "samples": {
            "totalQueryableSamples": stats.samples_queryable,
            "samplesRead": stats.samples_read,
            "peakSamples": stats.samples_peak,
        },
    })
}
