//! Calls over gRPC: for which tenant, until when; reads with one answer and with many.

use std::fmt;
use std::sync::Arc;

use pharos_gateway::{Principal, Scope};
use pharos_http::{Asked, QueryKind, QueryLimits, Refusal, grpc_code, grpc_deadline, remote_address};
use pharos_model::TenantId;
use pharos_storage::{ReadContext, StorageError, TraceQuery};
use tonic::{Request, Response, Status};

use crate::call::{refusal_of, tenant_of};
use crate::grpc_stream::{Failure, Messages, Outlet, run};
use crate::listed::Listed;
use crate::routes::JaegerApi;

/// Of a request's text this much is made, which is more than is kept.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// A refusal as gRPC says it.
pub(crate) fn status_of(refusal: &Refusal) -> Status {
    Status::new(grpc_code(refusal.class()), refusal.message())
}

/// Who asks what, and until when they wait.
#[derive(Debug)]
pub(crate) struct Asker(Asked);

/// The sender of a call about traces, and what it asks.
pub(crate) fn opened<T: fmt::Debug>(request: Request<T>) -> Result<(Asker, T), Status> {
    opened_for(request, Scope::TracesRead)
}

/// The sender of a call about what `scope` says, and what it asks.
pub(crate) fn opened_for<T: fmt::Debug>(request: Request<T>, scope: Scope) -> Result<(Asker, T), Status> {
    let tenant = tenant_of(request.extensions(), scope, None).map_err(|refusal| status_of(&refusal))?;
    let (metadata, extensions, message) = request.into_parts();
    let headers = metadata.into_headers();
    let deadline = grpc_deadline(&headers).map_err(|refusal| status_of(&refusal))?;
    let asked = Asked {
        kind: kind_of_message::<T>(scope),
        text: in_short(&message),
        steps: None,
        tenant,
        principal: Arc::from(extensions.get::<Principal>().map_or("", Principal::name)),
        remote_address: remote_address(&extensions, &headers),
        deadline,
        limits: QueryLimits::of(&extensions),
    };
    Ok((Asker(asked), message))
}

/// A search as it was read. Searches are read within their job, as their patterns are compiled there.
pub(crate) fn asked_query(read: Result<TraceQuery, String>) -> Result<TraceQuery, StorageError> {
    read.map_err(|message| StorageError::Invalid { message })
}

/// What a message of this type asks for, as the listing of queries tells it.
fn kind_of_message<T>(scope: Scope) -> QueryKind {
    let name = std::any::type_name::<T>();
    match scope {
        Scope::MetricsRead => QueryKind::Range,
        _ if name.contains("::Find") => QueryKind::TraceSearch,
        _ if name.contains("::GetTrace") => QueryKind::TraceRead,
        _ => QueryKind::TraceLists,
    }
}

/// A message as text, as far as the listing of queries keeps it: a filter may be megabytes long.
fn in_short(message: &impl fmt::Debug) -> String {
    struct Beginning(String);
    impl fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.push_str(text);
            if self.0.len() > TEXT_BYTES_MAX { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut beginning = Beginning(String::new());
    // An error says that it is long enough.
    let _ = fmt::write(&mut beginning, format_args!("{message:?}"));
    Asked::cut(&beginning.0)
}

impl Asker {
    /// Runs a read with one answer.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        api: &Arc<JaegerApi>,
        read: impl FnOnce(&JaegerApi, &TenantId, &ReadContext) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Status> {
        let (shared, tenant) = (Arc::clone(api), self.0.tenant.clone());
        let read = move |context: &ReadContext| {
            context.check()?;
            read(&shared, &tenant, context)
        };
        let listed = Listed::begin(api, self.0);
        let done = listed.run(Arc::clone(api), read, |error: StorageError| refusal_of(&error)).await;
        done.map_err(|refusal| status_of(&refusal))
    }

    /// Runs a read that sends its answer message by message.
    pub(crate) async fn stream<T: Send + 'static>(
        self,
        api: &Arc<JaegerApi>,
        read: impl FnOnce(&JaegerApi, &TenantId, &ReadContext, &Outlet<T>) -> Result<(), Failure> + Send + 'static,
    ) -> Result<Response<Messages<T>>, Status> {
        let tenant = self.0.tenant.clone();
        let read = move |api: &JaegerApi, context: &ReadContext, outlet: &Outlet<T>| {
            context.check()?;
            read(api, &tenant, context, outlet)
        };
        run(Arc::clone(api), self.0, read).await.map(Response::new)
    }
}
