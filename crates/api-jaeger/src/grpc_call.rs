//! Calls over gRPC: for which tenant, until when; reads with one answer and with many.

use std::sync::Arc;
use std::time::Instant;

use pharos_gateway::Scope;
use pharos_http::{Refusal, grpc_code, grpc_deadline};
use pharos_model::TenantId;
use pharos_storage::{ReadContext, StorageError};
use tonic::{Request, Response, Status};

use crate::call::{refusal_of, tenant_of};
use crate::grpc_stream::{Failure, Messages, Outlet, run};
use crate::routes::JaegerApi;

/// Largest request: a filter of all the operators it may have fits several times.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 << 20;

/// A refusal as gRPC says it.
pub(crate) fn status_of(refusal: &Refusal) -> Status {
    Status::new(grpc_code(refusal.class()), refusal.message())
}

/// Who asks, and until when they wait.
#[derive(Debug)]
pub(crate) struct Asker {
    tenant: TenantId,
    deadline: Option<Instant>,
}

/// The sender of a call about traces, and what it asks.
pub(crate) fn opened<T>(request: Request<T>) -> Result<(Asker, T), Status> {
    opened_for(request, Scope::TracesRead)
}

/// The sender of a call about what `scope` says, and what it asks.
pub(crate) fn opened_for<T>(request: Request<T>, scope: Scope) -> Result<(Asker, T), Status> {
    let tenant = tenant_of(request.extensions(), scope).map_err(|refusal| status_of(&refusal))?;
    let (metadata, _, message) = request.into_parts();
    let deadline = grpc_deadline(&metadata.into_headers()).map_err(|refusal| status_of(&refusal))?;
    Ok((Asker { tenant, deadline }, message))
}

impl Asker {
    /// Runs a read with one answer.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        api: &Arc<JaegerApi>,
        read: impl FnOnce(&JaegerApi, &TenantId, &ReadContext) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Status> {
        let shared = Arc::clone(api);
        let ran = api.pool.run(move |cancel| {
            let cancel = self.deadline.map_or_else(|| cancel.clone(), |deadline| cancel.with_deadline_at(deadline));
            let context = shared.context(&cancel);
            context.check()?;
            read(&shared, &self.tenant, &context)
        });
        let done = ran.await.map_err(|refusal| status_of(&refusal))?;
        done.map_err(|error| status_of(&refusal_of(&error)))
    }

    /// Runs a read that sends its answer message by message.
    pub(crate) async fn stream<T: Send + 'static>(
        self,
        api: &Arc<JaegerApi>,
        read: impl FnOnce(&JaegerApi, &TenantId, &ReadContext, &Outlet<T>) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Response<Messages<T>>, Status> {
        let read = move |api: &JaegerApi, context: &ReadContext, outlet: &Outlet<T>| {
            context.check()?;
            read(api, &self.tenant, context, outlet)
        };
        run(Arc::clone(api), self.deadline, read).await.map(Response::new)
    }
}
