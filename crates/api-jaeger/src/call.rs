//! Who calls, for which tenant; and how a failed read is answered.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::Extensions;
use http::request::Parts;
use pharos_base::ErrorClass;
use pharos_gateway::{Principal, Scope};
use pharos_http::{Dialect, Refusal};
use pharos_model::TenantId;
use pharos_storage::{ReadContext, StorageError};

use crate::routes::JaegerApi;

/// The tenant whose traces a request may read, and the dialect of its errors.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) dialect: Dialect,
}

impl Caller {
    /// Renders a refusal as this caller reads it.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Response {
        refusal.render(self.dialect)
    }

    /// Renders a wrong parameter.
    pub(crate) fn bad(&self, message: impl Into<String>) -> Response {
        self.refuse(&Refusal::new(ErrorClass::Invalid, message))
    }

    /// Renders that nothing was found; each API has its words for it.
    pub(crate) fn not_found(&self, message: &str) -> Response {
        self.refuse(&Refusal::new(ErrorClass::NotFound, message))
    }

    /// Runs a read on the query pool, within its bounds.
    ///
    /// # Errors
    /// The answer that says why there is no result.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        api: &Arc<JaegerApi>,
        read: impl FnOnce(&JaegerApi, &TenantId, &ReadContext) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Response> {
        let (shared, tenant) = (Arc::clone(api), self.tenant.clone());
        self.unwrap(api.pool.run(move |cancel| read(&shared, &tenant, &shared.context(&cancel))).await)
    }

    /// The result of a read on the pool, or the answer that says why there is none.
    pub(crate) fn unwrap<T>(&self, result: Result<Result<T, StorageError>, Refusal>) -> Result<T, Response> {
        match result {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(refusal) => Err(self.refuse(&refusal)),
        }
    }

    /// Renders a failed read.
    fn failed(&self, error: &StorageError) -> Response {
        self.refuse(&refusal_of(error))
    }
}

/// A failed read as a refusal; failures that are ours are logged here, once.
pub(crate) fn refusal_of(error: &StorageError) -> Refusal {
    if error.class() == ErrorClass::Internal {
        tracing::error!(error = error.full_message(), "a read of traces failed");
    }
    Refusal::new(error.class(), error.full_message())
}

/// The tenant whose traces the sender of a request may read.
pub(crate) fn tenant_of(extensions: &Extensions) -> Result<TenantId, Refusal> {
    let Some(principal) = extensions.get::<Principal>() else {
        return Err(Refusal::new(ErrorClass::Unauthenticated, "no credential"));
    };
    principal
        .require(Scope::TracesRead)
        .and_then(|()| principal.tenant_for(None))
        .map_err(|error| Refusal::new(error.class(), error.to_string()))
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let dialect = Dialect::of(parts.uri.path(), &parts.headers);
        let tenant = tenant_of(&parts.extensions).map_err(|refusal| refusal.render(dialect))?;
        Ok(Self { tenant, dialect })
    }
}
