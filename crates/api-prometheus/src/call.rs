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
        let path = RawPathParams::from_request_parts(parts, state).await.ok();
        let url_tenant = path.as_ref().and_then(|path| path.iter().find(|(name, _)| *name == "tenant"));
        let refuse = |class, message: String| Refusal::new(class, message).render(Dialect::Prometheus);
        let Some(principal) = parts.extensions.get::<Principal>() else {
            return Err(refuse(ErrorClass::Unauthenticated, "no credential".to_owned()));
        };
        let tenant = principal
            .require(Scope::MetricsRead)
            .and_then(|()| principal.tenant_for(url_tenant.map(|(_, value)| value)))
            .map_err(|error| refuse(error.class(), error.to_string()))?;
        Ok(Self { tenant })
    }
}
