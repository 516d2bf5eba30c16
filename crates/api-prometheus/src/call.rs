//! Who calls, for which tenant.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use http::request::Parts;
use pharos_base::ErrorClass;
use pharos_gateway::{Principal, Scope};
use pharos_http::{Dialect, Refusal};
use pharos_model::TenantId;

/// The tenant whose data a request may read: extracted only with a principal that may.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        Ok(Self { tenant: tenant_of(parts, state, Scope::MetricsRead).await? })
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
        principal(parts)?.require(Scope::Admin).map_err(|error| refuse(error.class(), error.to_string()))?;
        Ok(Self)
    }
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
