//! Who calls, for which tenant; reads as listed queries; and how a failed one is answered: one line of text.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use parking_lot::Mutex;
use pharos_base::{CancelToken, Clock, ErrorClass, MemoryBudget, SystemClock};
use pharos_gateway::{Principal, Scope};
use pharos_http::{Asked, Dialect, QueryKind, QueryLimits, QueryLoad, Refusal, Watched, remote_address};
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::{ReadContext, StorageError};
use serde::Deserialize;

use crate::routes::TempoApi;

/// After this time other queries may have ended.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const NS_PER_MS: u64 = 1_000_000;

/// What a path names beside its tenant: a trace.
#[derive(Debug, Deserialize)]
pub(crate) struct OfTrace {
    pub(crate) trace_id: String,
}

/// What a path names beside its tenant: a tag.
#[derive(Debug, Deserialize)]
pub(crate) struct OfTag {
    pub(crate) tag: String,
}

/// Who sent a request, and the tenant whose traces they may read.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    tenant: TenantId,
    /// The name of the credential.
    principal: Arc<str>,
    remote_address: String,
    /// What their tenant or credential may.
    limits: QueryLimits,
    /// Path and parameters, as the listing of queries shows them.
    asked: String,
}

/// Renders a refusal as Tempo's clients read it.
pub(crate) fn refuse(refusal: Refusal) -> Response {
    match refusal.class() {
        // Not 429: to ask the same again is of no use.
        ErrorClass::LimitExceeded => refusal.with_status(StatusCode::UNPROCESSABLE_ENTITY),
        _ => refusal,
    }
    .render(Dialect::Plain)
}

/// Renders a wrong parameter.
pub(crate) fn bad(message: impl Into<String>) -> Response {
    refuse(Refusal::new(ErrorClass::Invalid, message))
}

impl Caller {
    /// Runs a read on the query pool, within its bounds and listed while it runs.
    ///
    /// # Errors
    /// The answer that says why there is no result.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        api: &Arc<TempoApi>,
        (kind, range): (QueryKind, Option<TimeRangeNs>),
        read: impl FnOnce(&TempoApi, &TenantId, &ReadContext) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Response> {
        let bytes_max = self.limits.memory_within(api.memory_bytes_max);
        let memory = api.memory.part_of(self.tenant.as_str(), bytes_max);
        let holds = Arc::new(Holds { memory, refusal: Mutex::default() });
        let query = api.pool.queries().begin(self.asks(kind, range), Arc::clone(&holds) as Arc<dyn Watched>);
        let (shared, tenant) = (Arc::clone(api), self.tenant.clone());
        let work = move |cancel: CancelToken| {
            let context = shared.context(&cancel, holds.memory.clone());
            let begun_at = SystemClock.monotonic();
            read(&shared, &tenant, &context).inspect_err(|_| {
                let now = SystemClock.monotonic();
                let crossed_at = context.crossed_at(now).map(|at| at.max(begun_at));
                *holds.refusal.lock() = crossed_at.map(|at| now.saturating_duration_since(at));
            })
        };
        let done = api.pool.run_query(&query, work).await;
        let result = done.and_then(|result| result.map_err(|error| refusal_of(&error)));
        query.finish(result.as_ref().err().map(Refusal::class));
        result.map_err(|refusal| refuse(query.explain(refusal)))
    }

    fn asks(&self, kind: QueryKind, range: Option<TimeRangeNs>) -> Asked {
        let ms = |ns: u64| (ns / NS_PER_MS).cast_signed();
        Asked {
            kind,
            text: Asked::cut(&self.asked),
            steps: range.map(|range| (ms(range.start_ns), ms(range.end_ns), 0)),
            tenant: self.tenant.clone(),
            principal: Arc::clone(&self.principal),
            remote_address: self.remote_address.clone(),
            deadline: None,
            limits: self.limits,
        }
    }
}

/// What a read holds.
struct Holds {
    memory: MemoryBudget,
    refusal: Mutex<Option<Duration>>,
}

impl Watched for Holds {
    fn load(&self) -> QueryLoad {
        QueryLoad {
            memory_bytes: self.memory.used_bytes(),
            memory_bytes_peak: self.memory.peak_bytes(),
            refusal: *self.refusal.lock(),
            ..QueryLoad::default()
        }
    }
}

/// A failed read as a refusal; failures that are ours are logged here, once.
fn refusal_of(error: &StorageError) -> Refusal {
    let class = error.class();
    if class == ErrorClass::Internal {
        tracing::error!(error = error.full_message(), "a read of traces failed");
    }
    let retry_after = match error {
        StorageError::Unavailable { retry_after, .. } => *retry_after,
        _ => (class == ErrorClass::Unavailable).then_some(RETRY_AFTER),
    };
    Refusal::new(class, error.full_message()).with_retry_after(retry_after)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path = RawPathParams::from_request_parts(parts, state).await.ok();
        let named = path.as_ref().and_then(|path| path.iter().find(|(name, _)| *name == "tenant"));
        let Some(principal) = parts.extensions.get::<Principal>() else {
            return Err(refuse(Refusal::new(ErrorClass::Unauthenticated, "no credential")));
        };
        let tenant = principal
            .require(Scope::TracesRead)
            .and_then(|()| principal.tenant_for(named.map(|(_, tenant)| tenant)))
            .map_err(|error| refuse(Refusal::new(error.class(), error.to_string())))?;
        Ok(Self {
            tenant,
            principal: Arc::from(principal.name()),
            remote_address: remote_address(&parts.extensions, &parts.headers),
            limits: QueryLimits::of(&parts.extensions),
            asked: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        })
    }
}
