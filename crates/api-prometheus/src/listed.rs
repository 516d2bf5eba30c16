//! Reads of the store as queries that are listed while they run.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pharos_base::{CancelToken, Clock, Interrupted, MemoryBudget, SystemClock};
use pharos_http::{Asked, QueryLoad, Refusal, RunningQuery, Watched};
use pharos_model::TimeRange;
use pharos_promql::engine::QueryWatch;
use pharos_storage::{ReadContext, ReadMeter, StorageError};

use crate::reply::ApiError;
use crate::routes::PrometheusApi;

/// A read of the store under way.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) query: Arc<RunningQuery>,
    holds: Arc<Holds>,
}

/// What a read holds.
struct Holds {
    memory: MemoryBudget,
    meter: ReadMeter,
    refusal: Mutex<Option<Duration>>,
}

impl Watched for Holds {
    fn load(&self) -> QueryLoad {
        let counts = self.meter.counts();
        QueryLoad {
            memory_bytes: self.memory.used_bytes(),
            memory_bytes_peak: self.memory.peak_bytes(),
            samples_held: 0,
            samples_read: counts.samples,
            series_read: counts.series,
            refusal: *self.refusal.lock(),
        }
    }
}

/// What an expression under evaluation holds.
pub(crate) struct EngineHolds(pub(crate) QueryWatch);

impl Watched for EngineHolds {
    fn load(&self) -> QueryLoad {
        let load = self.0.load();
        QueryLoad {
            memory_bytes: load.memory_bytes,
            memory_bytes_peak: load.memory_bytes_peak,
            samples_held: load.samples_held,
            samples_read: load.samples_read,
            series_read: load.series_read,
            refusal: load.refusal,
        }
    }
}

impl Listed {
    /// Announces a read.
    pub(crate) fn begin(api: &PrometheusApi, asked: Asked) -> Self {
        let memory = api.engine.memory_of_one(&asked.tenant, asked.limits.memory_bytes_max);
        let holds = Arc::new(Holds { memory, meter: ReadMeter::default(), refusal: Mutex::default() });
        Self { query: api.pool.queries().begin(asked, Arc::clone(&holds) as Arc<dyn Watched>), holds }
    }

    /// Reads within bounds, and notes how long a failure took to end.
    fn bounded<T, E>(
        &self,
        api: &PrometheusApi,
        cancel: &CancelToken,
        read: impl FnOnce(&PrometheusApi, &ReadContext) -> Result<T, E>,
    ) -> Result<T, E> {
        let (context, begun_at) = (self.context(api, cancel), SystemClock.monotonic());
        read(api, &context).inspect_err(|_| {
            let now = SystemClock.monotonic();
            let crossed_at = context.crossed_at(now).map(|at| at.max(begun_at));
            *self.holds.refusal.lock() = crossed_at.map(|at| now.saturating_duration_since(at));
        })
    }

    /// The bounds of the read. Who takes series raw counts them in its meter.
    pub(crate) fn context(&self, api: &PrometheusApi, cancel: &CancelToken) -> ReadContext {
        let (memory, meter) = (self.holds.memory.clone(), self.holds.meter.clone());
        let series_max = api.settings.listed_series_max;
        let series_max = self.query.asked().limits.series_max.map_or(series_max, |own| own.min(series_max));
        // As long as a query.
        let cancel = cancel.with_deadline_at(api.clock.monotonic() + api.engine.settings().timeout);
        ReadContext { cancel, memory, meter, series_max }
    }
}

/// Runs a read on a thread of its own.
pub(crate) async fn read<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    api: &Arc<PrometheusApi>,
    asked: Asked,
    read: impl FnOnce(&PrometheusApi, &ReadContext) -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    let listed = Listed::begin(api, asked);
    let (inner, own) = (Arc::clone(api), listed.clone());
    let work = move |cancel| own.bounded(&inner, &cancel, read);
    let done = api.pool.run_query(&listed.query, work).await;
    ended(&listed.query, done)
}

/// Runs a read where it is if it is short; `kind` is what tells long ones apart.
pub(crate) async fn read_short<T: Send + 'static>(
    api: &Arc<PrometheusApi>,
    asked: Asked,
    kind: &impl Hash,
    read: impl Fn(&PrometheusApi, &ReadContext) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let listed = Listed::begin(api, asked);
    let (inner, own) = (Arc::clone(api), listed.clone());
    let work = move |cancel| own.bounded(&inner, &cancel, &read);
    let done = api.pool.run_short(&listed.query, kind, work, timed_out).await;
    ended(&listed.query, done)
}

/// Whether a read ended for its deadline only.
fn timed_out<T>(result: &Result<T, StorageError>) -> bool {
    matches!(result, Err(StorageError::Interrupted(Interrupted::DeadlineExceeded)))
}

/// Ends the listing of a query whose work is done.
pub(crate) fn ended<T, E: Into<ApiError>>(
    query: &RunningQuery,
    done: Result<Result<T, E>, Refusal>,
) -> Result<T, ApiError> {
    let result = done.map_err(ApiError::from).and_then(|result| result.map_err(Into::into));
    query.finish(result.as_ref().err().map(|error| error.0.class()));
    result.map_err(|error| ApiError(query.explain(error.0)))
}

/// The time of a listing as [`Asked::steps`] has it; `None` where it is all of time.
pub(crate) fn listing_time(range: TimeRange) -> Option<(i64, i64, i64)> {
    let is_bounded = range.start_ms > i64::MIN || range.end_ms < i64::MAX;
    is_bounded.then(|| (range.start_ms, range.end_ms.saturating_sub(1), 0))
}
