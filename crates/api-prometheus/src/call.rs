//! Who calls, for which tenant.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use http::request::Parts;
use http::{Extensions, HeaderMap};
use pharos_base::ErrorClass;
use pharos_gateway::{INSIDE_SCOPES, Principal, Scope};
use pharos_http::{Asked, Dialect, QueryKind, QueryLimits, Refusal, remote_address};
use pharos_model::TenantId;

/// Who asks, and the tenant whose data they may read: extracted only with a principal that may.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    /// The name of the credential.
    principal: Arc<str>,
    remote_address: String,
    /// What their tenant or credential may.
    pub(crate) limits: QueryLimits,
}

impl Caller {
    /// Who sent a request for the data of `tenant`.
    pub(crate) fn of(tenant: TenantId, extensions: &Extensions, headers: &HeaderMap) -> Self {
        let principal = Arc::from(extensions.get::<Principal>().map_or("", Principal::name));
        let limits = QueryLimits::of(extensions);
        Self { tenant, principal, remote_address: remote_address(extensions, headers), limits }
    }

    /// A question of theirs, as the listing of queries shows it; `steps` as in [`Asked::steps`].
    pub(crate) fn asks(&self, kind: QueryKind, text: &str, steps: Option<(i64, i64, i64)>) -> Asked {
        Asked {
            kind,
            text: Asked::cut(text),
            steps,
            tenant: self.tenant.clone(),
            principal: Arc::clone(&self.principal),
            remote_address: self.remote_address.clone(),
            deadline: None,
            limits: self.limits,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let tenant = tenant_of(parts, state, Scope::MetricsRead).await?;
        Ok(Self::of(tenant, &parts.extensions, &parts.headers))
    }
}

/// The tenant whose series an operator may delete.
pub(crate) struct OperatedTenant(pub(crate) TenantId);

impl<S: Send + Sync> FromRequestParts<S> for OperatedTenant {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        tenant_of(parts, state, Scope::Admin).await.map(Self)
    }
}

/// A caller who may operate the server, for what concerns all tenants.
pub(crate) struct Operator;

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let principal = principal(parts)?;
        let may = principal.require(Scope::Admin).and_then(|()| principal.require_all_tenants());
        may.map_err(|error| refuse(error.class(), error.to_string()))?;
        Ok(Self)
    }
}

/// A caller who may look into the server.
pub(crate) struct Insider;

impl<S: Send + Sync> FromRequestParts<S> for Insider {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let principal = principal(parts)?;
        let may = principal.require_any(INSIDE_SCOPES).and_then(|()| principal.require_all_tenants());
        may.map_err(|error| refuse(error.class(), error.to_string()))?;
        Ok(Self)
    }
}

/// Who looks at queries under way: those of a tenant, or of all.
pub(crate) struct Overseer {
    /// `None`: all.
    pub(crate) tenant: Option<TenantId>,
}

impl<S: Send + Sync> FromRequestParts<S> for Overseer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        Ok(Self { tenant: overseen(parts, state, Scope::MetricsRead).await? })
    }
}

/// Who ends queries under way.
pub(crate) struct QueryOperator {
    /// Whose queries; `None`: anyone's.
    pub(crate) tenant: Option<TenantId>,
    /// The name of the credential.
    pub(crate) name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for QueryOperator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let tenant = overseen(parts, state, Scope::Admin).await?;
        Ok(Self { tenant, name: principal(parts)?.name().to_owned() })
    }
}

/// The tenant as [`tenant_of`] has it, but none for an operator of all tenants who names none.
async fn overseen<S: Send + Sync>(parts: &mut Parts, state: &S, scope: Scope) -> Result<Option<TenantId>, Response> {
    let tenant = tenant_of(parts, state, scope).await?;
    let path = RawPathParams::from_request_parts(parts, state).await.ok();
    let is_named = path.is_some_and(|path| path.iter().any(|(name, _)| name == "tenant"));
    Ok((is_named || !principal(parts)?.oversees_all()).then_some(tenant))
}

/// The tenant of the path or else of the principal, who must have `scope` and be let into that tenant.
async fn tenant_of<S: Send + Sync>(parts: &mut Parts, state: &S, scope: Scope) -> Result<TenantId, Response> {
    let path = RawPathParams::from_request_parts(parts, state).await.ok();
    let named = path.as_ref().and_then(|path| path.iter().find(|(name, _)| *name == "tenant"));
    let principal = principal(parts)?;
    principal
        .require(scope)
        .and_then(|()| principal.tenant_for(named.map(|(_, value)| value)))
        .map_err(|error| refuse(error.class(), error.to_string()))
}

fn principal(parts: &Parts) -> Result<&Principal, Response> {
    parts.extensions.get().ok_or_else(|| refuse(ErrorClass::Unauthenticated, "no credential".to_owned()))
}

fn refuse(class: ErrorClass, message: String) -> Response {
    Refusal::new(class, message).render(Dialect::Prometheus)
}
