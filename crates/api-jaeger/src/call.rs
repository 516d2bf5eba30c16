//! Who calls, for which tenant; and how a failed read is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use http::request::Parts;
use http::{Extensions, StatusCode};
use pharos_base::ErrorClass;
use pharos_gateway::{Principal, Scope};
use pharos_http::{Asked, Dialect, QueryKind, QueryLimits, Refusal, remote_address};
use pharos_model::{TenantId, TimeRangeNs};
use pharos_storage::StorageError;
use serde::Deserialize;

use crate::listed;
use crate::rendering::{Rendered, Rendering};
use crate::routes::JaegerApi;

/// After this time other queries may have ended.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const NS_PER_MS: u64 = 1_000_000;

/// What a path names beside its tenant: a trace.
#[derive(Debug, Deserialize)]
pub(crate) struct OfTrace {
    pub(crate) trace_id: String,
}

/// What a path names beside its tenant: a service.
#[derive(Debug, Deserialize)]
pub(crate) struct OfService {
    pub(crate) service: String,
}

/// Who sent a request, the tenant whose traces they may read, and the dialect of its errors.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) dialect: Dialect,
    /// The name of the credential.
    principal: Arc<str>,
    remote_address: String,
    /// What their tenant or credential may.
    limits: QueryLimits,
    /// Path and parameters, as the listing of queries shows them.
    asked: String,
}

impl Caller {
    /// Renders a refusal as this caller reads it.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Response {
        let refusal = refusal.clone();
        match refusal.class() {
            // Not 429: to ask the same again is of no use.
            ErrorClass::LimitExceeded => refusal.with_status(StatusCode::UNPROCESSABLE_ENTITY),
            _ => refusal,
        }
        .render(self.dialect)
    }

    /// Renders a wrong parameter.
    pub(crate) fn bad(&self, message: impl Into<String>) -> Response {
        self.refuse(&Refusal::new(ErrorClass::Invalid, message))
    }

    /// Renders that nothing was found; each API has its words for it.
    pub(crate) fn not_found(&self, message: &str) -> Response {
        self.refuse(&Refusal::new(ErrorClass::NotFound, message))
    }

    /// Runs a read on the query pool, within its bounds: `render` serializes while it reads. `None` if there is nothing.
    ///
    /// # Errors
    /// The answer that says why there is no result.
    pub(crate) async fn render(
        &self,
        api: &Arc<JaegerApi>,
        (kind, range): (QueryKind, Option<TimeRangeNs>),
        render: impl FnOnce(&JaegerApi, &TenantId, &Rendering<'_>) -> Result<Option<Rendered>, StorageError>
        + Send
        + 'static,
    ) -> Result<Option<Response>, Response> {
        let (shared, tenant) = (Arc::clone(api), self.tenant.clone());
        let render = move |rendering: &Rendering<'_>| render(&shared, &tenant, rendering);
        listed::render(api, self.asks(kind, range), render).await.map_err(|refusal| self.refuse(&refusal))
    }

    /// A question of theirs, as the listing of queries shows it.
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

/// A failed read as a refusal; failures that are ours are logged here, once.
pub(crate) fn refusal_of(error: &StorageError) -> Refusal {
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

/// The tenant of which the sender of a request may read what `scope` says: the one that its path names, else its own.
pub(crate) fn tenant_of(extensions: &Extensions, scope: Scope, named: Option<&str>) -> Result<TenantId, Refusal> {
    let Some(principal) = extensions.get::<Principal>() else {
        return Err(Refusal::new(ErrorClass::Unauthenticated, "no credential"));
    };
    principal
        .require(scope)
        .and_then(|()| principal.tenant_for(named))
        .map_err(|error| Refusal::new(error.class(), error.to_string()))
}

impl Caller {
    async fn of<S: Send + Sync>(parts: &mut Parts, state: &S, scope: Scope) -> Result<Self, Response> {
        let path = RawPathParams::from_request_parts(parts, state).await.ok();
        let named = path.as_ref().and_then(|path| path.iter().find(|(name, _)| *name == "tenant"));
        let dialect = Dialect::of(parts.uri.path(), &parts.headers);
        let tenant = tenant_of(&parts.extensions, scope, named.map(|(_, tenant)| tenant));
        let tenant = tenant.map_err(|refusal| refusal.render(dialect))?;
        Ok(Self {
            tenant,
            dialect,
            principal: Arc::from(parts.extensions.get::<Principal>().map_or("", Principal::name)),
            remote_address: remote_address(&parts.extensions, &parts.headers),
            limits: QueryLimits::of(&parts.extensions),
            asked: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        Self::of(parts, state, Scope::TracesRead).await
    }
}

/// Who sent a request for metrics.
#[derive(Debug, Clone)]
pub(crate) struct MetricsCaller(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for MetricsCaller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        Caller::of(parts, state, Scope::MetricsRead).await.map(Self)
    }
}
