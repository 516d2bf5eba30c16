//! The evaluation of an expression, whatever door asked for it.

use std::sync::Arc;
use std::time::Duration;

use pharos_base::{ErrorClass, Interrupted};
use pharos_http::{Asked, QueryKind, QueryLimits, Refusal, Watched};
use pharos_model::StepRange;
use pharos_promql::engine::QueryWatch;
use pharos_promql::{QueryBounds, QueryError, QueryOptions, QueryResult, Value};

use crate::call::Caller;
use crate::listed::{EngineHolds, ended};
use crate::reply::ApiError;
use crate::routes::PrometheusApi;

/// What is warned of where a limit cut an answer.
pub(crate) const TRUNCATED: &str = "results truncated due to limit";

fn bad(message: impl Into<String>) -> ApiError {
    ApiError(Refusal::new(ErrorClass::Invalid, message))
}

/// An expression and when to evaluate it.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    query: String,
    steps: StepRange,
    is_instant: bool,
}

impl Question {
    /// At one instant.
    pub(crate) fn instant(query: &str, at_ms: i64) -> Self {
        Self { query: query.to_owned(), steps: StepRange::instant(at_ms), is_instant: true }
    }

    /// At every step of a range that is not too long.
    pub(crate) fn range(
        api: &PrometheusApi,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Self, ApiError> {
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
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
                with_commas(most)
            )));
        }
        Ok(Self { query: query.to_owned(), steps, is_instant: false })
    }
}

/// A number with a comma before each three digits.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// An answer, and what is known beside it.
pub(crate) struct Evaluated {
    pub(crate) result: QueryResult,
    /// The steps of [`pharos_promql::engine::StepCounts`].
    pub(crate) steps: StepRange,
    /// How long it waited for its turn.
    pub(crate) queued: Duration,
    /// Whether series were left out.
    pub(crate) truncated: bool,
}

/// Evaluates in the pool, listed; of the answer, the first `limit` series are kept. The deadline of `options.cancel` counts from
/// now on, the wait for a turn included.
pub(crate) async fn evaluate(
    api: &Arc<PrometheusApi>,
    caller: &Caller,
    question: Question,
    options: QueryOptions,
    limit: Option<usize>,
) -> Result<Evaluated, ApiError> {
    let Question { query, steps, is_instant } = question;
    let watch = QueryWatch::default();
    let kind = if is_instant { QueryKind::Instant } else { QueryKind::Range };
    // An instant has no steps.
    let step_ms = if is_instant { 0 } else { steps.step_ms };
    let asked = caller.asks(kind, &query, Some((steps.start_ms, steps.end_ms, step_ms)));
    let asked = Asked { deadline: options.cancel.deadline(), ..asked };
    let listed = api.pool.queries().begin(asked, Arc::new(EngineHolds(watch.clone())) as Arc<dyn Watched>);
    let QueryLimits { memory_bytes_max, samples_max, series_max, .. } = caller.limits;
    let bounds = QueryBounds { memory_bytes_max, samples_max, series_max };
    let options = QueryOptions { watch: Some(watch), bounds, ..options };
    let long_kind = (query.clone(), (!is_instant).then(|| (steps.len(), steps.step_ms)));
    let (engine, tenant) = (api.engine.clone(), caller.tenant.clone());
    let work = move |cancel| {
        let options = QueryOptions { cancel, ..options.clone() };
        if is_instant {
            engine.instant(&tenant, &query, steps.start_ms, &options)
        } else {
            engine.range(&tenant, &query, steps, &options)
        }
    };
    let timed_out =
        |result: &Result<_, QueryError>| matches!(result, Err(QueryError::Interrupted(Interrupted::DeadlineExceeded)));
    let done = api.pool.run_short(&listed, &long_kind, work, timed_out).await;
    if let Ok(Ok(result)) = &done {
        listed.note_cache(result.stats.cache.as_str());
    }
    let mut result = ended(&listed, done)?;
    let truncated = truncate(&mut result.value, limit);
    Ok(Evaluated { result, steps, queued: listed.queued_for(), truncated })
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
