//! `query`, `query_range`, `format_query`, `parse_query`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pharos_base::{CancelToken, ErrorClass, Interrupted};
use pharos_http::Refusal;
use pharos_model::StepRange;
use pharos_promql::ast::Expr;
use pharos_promql::engine::QueryStats;
use pharos_promql::{Engine, QueryError, QueryOptions, QueryResult, Value, parse, pretty};
use serde_json::json;

use crate::call::Caller;
use crate::json::{result_head, result_pieces};
use crate::params::Params;
use crate::reply::{ApiError, Reply, query_tail, success, success_pieces};
use crate::routes::PrometheusApi;
use crate::tree::tree_json;

const TRUNCATED: &str = "results truncated due to limit";
/// Some 30 KiB for each level of the deepest tree that the parser lets through.
const TREE_STACK_BYTES: usize = 16 << 20;

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(Refusal::new(ErrorClass::Invalid, message))
}

fn options(params: &Params) -> Result<QueryOptions, ApiError> {
    let lookback_ms = params.duration_ms("lookback_delta")?;
    if lookback_ms.is_some_and(|ms| ms <= 0) {
        return Err(bad("invalid parameter \"lookback_delta\": it must be positive"));
    }
    // As VictoriaMetrics calls it.
    let no_cache = params.flag("nocache")?;
    let timeout_ms = params.duration_ms("timeout")?;
    let timeout = timeout_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(QueryOptions { lookback_ms, timeout, no_cache, ..QueryOptions::default() })
}

/// Evaluates a query at one instant.
pub(crate) async fn instant(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let query = params.query().to_owned();
    let at_ms = params.time_ms("time")?.unwrap_or_else(|| api.clock.unix_ms());
    let template = options(&params)?;
    evaluate(&api, &params, None, move |engine, cancel| {
        engine.instant(&caller.tenant, &query, at_ms, &QueryOptions { cancel, ..template.clone() })
    })
    .await
}

/// Evaluates a query at every step of a range.
pub(crate) async fn range(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let query = params.query().to_owned();
    let start_ms = params.required_time_ms("start")?;
    let end_ms = params.required_time_ms("end")?;
    let step_ms = params.required_duration_ms("step")?;
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
    let template = options(&params)?;
    evaluate(&api, &params, Some(steps), move |engine, cancel| {
        engine.range(&caller.tenant, &query, steps, &QueryOptions { cancel, ..template.clone() })
    })
    .await
}

/// Runs a query in the pool and writes its answer.
async fn evaluate(
    api: &Arc<PrometheusApi>,
    params: &Params,
    steps: Option<StepRange>,
    run: impl Fn(&Engine, CancelToken) -> Result<QueryResult, QueryError> + Send + 'static,
) -> Reply {
    // Before the work, so that a bad limit costs nothing.
    let limit = params.limit()?;
    let (inner, asked) = (Arc::clone(api), api.clock.monotonic());
    let work = move |cancel| (inner.clock.monotonic() - asked, run(&inner.engine, cancel));
    let kind = (params.query(), steps.map(|steps| (steps.len(), steps.step_ms)));
    let timed_out = |(_, result): &(Duration, Result<_, QueryError>)| {
        matches!(result, Err(QueryError::Interrupted(Interrupted::DeadlineExceeded)))
    };
    let (queued, result) = api.pool.run_short(&kind, work, timed_out).await?;
    let mut result = result?;
    let truncated = truncate(&mut result.value, limit);
    let stats = params.get("stats").map(|_| stats_json(&result.stats, queued));
    let tail = query_tail(stats, &result.annotations, truncated.then_some(TRUNCATED));
    Ok(success_pieces(result_head(&result.value), result_pieces(result.value), tail))
}

/// Prints a query as people read it best.
pub(crate) async fn format(State(api): State<Arc<PrometheusApi>>, _caller: Caller, params: Params) -> Reply {
    with_tree(&api, &params, |expr| success(&pretty(expr)))
}

/// The tree of a query, for user interfaces.
pub(crate) async fn tree(State(api): State<Arc<PrometheusApi>>, _caller: Caller, params: Params) -> Reply {
    with_tree(&api, &params, |expr| success(&tree_json(expr)))
}

/// Answers from the tree of parameter `query`, on a stack that suits the deepest one.
fn with_tree(api: &PrometheusApi, params: &Params, answer: impl FnOnce(&Expr) -> Response + Send) -> Reply {
    let expr = parsed(api, params)?;
    pharos_base::run_with_stack("query-tree", TREE_STACK_BYTES, || answer(&expr))
        .map_err(|error| ApiError(Refusal::new(ErrorClass::Internal, format!("no thread for the query: {error}"))))
}

/// The expression of parameter `query`.
pub(crate) fn parsed(api: &PrometheusApi, params: &Params) -> Result<Expr, ApiError> {
    parse(params.query(), api.engine.settings().parser)
        .map_err(|error| bad(format!("invalid parameter \"query\": {error}")))
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

/// Times in seconds; `stats=all` adds nothing, because per-step counts are behind a flag upstream and absent here.
fn stats_json(stats: &QueryStats, queued: Duration) -> serde_json::Value {
    let (prepare, evaluate) = (stats.prepare_duration.as_secs_f64(), stats.evaluate_duration.as_secs_f64());
    json!({
        "timings": {
            "evalTotalTime": prepare + evaluate,
            "resultSortTime": 0.0,
            "queryPreparationTime": prepare,
            "innerEvalTime": evaluate,
            "execQueueTime": queued.as_secs_f64(),
            "execTotalTime": queued.as_secs_f64() + prepare + evaluate,
        },
        "samples": {
            "totalQueryableSamples": stats.samples_queryable,
            "samplesRead": stats.samples_read,
            "peakSamples": stats.samples_peak,
        },
    })
}
