//! `query`, `query_range`, `format_query`, `parse_query`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pharos_base::{CancelToken, ErrorClass};
use pharos_http::Refusal;
use pharos_model::StepRange;
use pharos_promql::ast::Expr;
use pharos_promql::{QueryOptions, parse, pretty};
use serde_json::json;

use crate::call::Caller;
use crate::evaluate::{Evaluated, Question, TRUNCATED, evaluate};
use crate::json::{result_head, result_pieces};
use crate::params::Params;
use crate::reply::{ApiError, Reply, query_tail, success, success_pieces};
use crate::routes::PrometheusApi;
use crate::tree::tree_json;

/// Some 30 KiB for each level of the deepest tree that the parser lets through.
const TREE_STACK_BYTES: usize = 16 << 20;

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(Refusal::new(ErrorClass::Invalid, message))
}

fn options(api: &PrometheusApi, params: &Params) -> Result<QueryOptions, ApiError> {
    let lookback = params.duration_ms("lookback_delta");
    let lookback = lookback.map_err(|_| params.get("lookback_delta").unwrap_or(""));
    let lookback_ms = lookback.map_err(|text| {
        bad(format!("error parsing lookback delta duration: cannot parse {text:?} to a valid duration"))
    })?;
    // Upstream, too, takes its default for what is not positive.
    let lookback_ms = lookback_ms.filter(|ms| *ms > 0);
    // As VictoriaMetrics calls it.
    let no_cache = params.flag("nocache")?;
    let timeout = params.duration_ms("timeout")?.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    let deadline = timeout.and_then(|timeout| api.clock.monotonic().checked_add(timeout));
    let cancel = deadline.map_or_else(CancelToken::new, CancelToken::with_deadline);
    let step_counts = api.settings.per_step_stats && params.get("stats") == Some("all");
    Ok(QueryOptions { lookback_ms, cancel, no_cache, step_counts, ..QueryOptions::default() })
}

/// Evaluates a query at one instant.
pub(crate) async fn instant(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let at_ms = params.time_ms("time")?.unwrap_or_else(|| api.clock.unix_ms());
    let question = Question::instant(params.query(), at_ms);
    answer(&api, &caller, &params, question).await
}

/// Evaluates a query at every step of a range.
pub(crate) async fn range(State(api): State<Arc<PrometheusApi>>, caller: Caller, params: Params) -> Reply {
    let start_ms = params.required_time_ms("start")?;
    let end_ms = params.required_time_ms("end")?;
    let step_ms = params.required_duration_ms("step")?;
    let question = Question::range(&api, params.query(), start_ms, end_ms, step_ms)?;
    answer(&api, &caller, &params, question).await
}

async fn answer(api: &Arc<PrometheusApi>, caller: &Caller, params: &Params, question: Question) -> Reply {
    // Before the work, so that a bad limit costs nothing.
    let (limit, options) = (params.limit()?, options(api, params)?);
    let evaluated = evaluate(api, caller, question, options, limit).await?;
    let (stats, deprecated) = match params.get("stats") {
        None => (None, None),
        Some(level) => (Some(stats_json(&evaluated)), deprecated_level(level)),
    };
    let extra = [evaluated.truncated.then(|| TRUNCATED.to_owned()), deprecated];
    let tail = query_tail(stats, &evaluated.result.annotations, extra.iter().flatten().map(String::as_str));
    let (value, held) = (evaluated.result.value, evaluated.result.held);
    let head = result_head(&value);
    // Its memory counts until the last piece has left or the client has gone.
    let pieces = result_pieces(value).inspect(move |_| _ = &held);
    Ok(success_pieces(head, pieces, tail))
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

/// What is warned of where `stats` is neither of the values that will stay.
fn deprecated_level(level: &str) -> Option<String> {
    (!matches!(level, "true" | "all")).then(|| {
        let use_instead = "is deprecated and will be rejected in the next major release, use \"true\" or \"all\"";
        format!("value {} for parameter \"stats\" {use_instead}", pharos_promql::quote(level))
    })
}

/// Times in seconds; counts step by step where the engine was asked for them.
fn stats_json(evaluated: &Evaluated) -> serde_json::Value {
    let (stats, queued) = (&evaluated.result.stats, evaluated.queued.as_secs_f64());
    let (prepare, evaluate) = (stats.prepare_duration.as_secs_f64(), stats.evaluate_duration.as_secs_f64());
    let sort = stats.sort_duration.as_secs_f64();
    // Step by step it is counted what each step needs first, as Prometheus does; else what was read.
    let samples_read = stats.steps.as_ref().map_or(stats.samples_read, |counts| counts.read.iter().sum());
    let mut samples = json!({
        "totalQueryableSamples": stats.samples_queryable,
        "samplesRead": samples_read,
        "peakSamples": stats.samples_peak,
    });
    if let Some(counts) = &stats.steps {
        samples["totalQueryableSamplesPerStep"] = per_step(evaluated.steps, &counts.queryable);
        samples["samplesReadPerStep"] = per_step(evaluated.steps, &counts.read);
    }
    json!({
        "timings": {
            "evalTotalTime": prepare + evaluate + sort,
            "resultSortTime": sort,
            "queryPreparationTime": prepare,
            "innerEvalTime": evaluate,
            "execQueueTime": queued,
            "execTotalTime": queued + prepare + evaluate + sort,
        },
        "samples": samples,
    })
}

/// Pairs of seconds and count.
fn per_step(steps: StepRange, counts: &[u64]) -> serde_json::Value {
    steps.iter().zip(counts).map(|(at_ms, count)| json!([seconds(at_ms), count])).collect()
}

/// Whole seconds without a decimal point, as everywhere in this API.
fn seconds(at_ms: i64) -> serde_json::Value {
    if at_ms % 1_000 == 0 { json!(at_ms / 1_000) } else { json!(at_ms as f64 / 1_000.0) }
}
