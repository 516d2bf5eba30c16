//! API v3 over gRPC: the same questions as over HTTP, answered in OTLP's own messages.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_http::{Refusal, grpc_code};
use pharos_model::TenantId;
use pharos_proto::health::v1::health_server::HealthServer;
use pharos_proto::jaeger::api_v3::query_service_server::{QueryService, QueryServiceServer};
use pharos_proto::jaeger::api_v3::{
    DependenciesResponse, Dependency, FindTraceSummariesRequest, FindTraceSummariesResponse, FindTracesRequest,
    GetDependenciesRequest, GetOperationsRequest, GetOperationsResponse, GetServicesRequest, GetServicesResponse,
    GetTraceRequest, Operation, ServiceSummary, TraceSummary,
};
use pharos_storage::{ReadContext, StorageError, TraceLookup, TraceStore};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::call::{refusal_of, tenant_of};
use crate::grpc_health::Healthy;
use crate::grpc_params::{dependencies, lookup, operations, query};
use crate::grpc_stream::{Failure, Messages, Outlet, run};
use crate::otlp_proto::each_message;
use crate::routes::JaegerApi;

/// Largest message of a stream. Clients take 4 MiB unless they are told otherwise.
const MESSAGE_BYTES_MAX: usize = 3_584 << 10;

/// Jaeger's query service and gRPC's health check. The routes have no fallback, so that they merge with others.
#[must_use]
pub fn grpc_routes(api: JaegerApi) -> Routes {
    let query = QueryServiceServer::new(Query { api: Arc::new(api) })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd);
    let router = axum::Router::new()
        .route_service("/jaeger.api_v3.QueryService/{method}", query)
        .route_service("/grpc.health.v1.Health/{method}", HealthServer::new(Healthy));
    Routes::from(router)
}

/// A refusal as gRPC says it.
pub(crate) fn status_of(refusal: &Refusal) -> Status {
    Status::new(grpc_code(refusal.class()), refusal.message())
}

struct Query {
    api: Arc<JaegerApi>,
}

impl Query {
    /// Runs a read with one answer.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn TraceStore) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = Arc::clone(&self.api.store);
        let done = self.api.pool.run(move |_| read(store.as_ref())).await.map_err(|refusal| status_of(&refusal))?;
        done.map_err(|error| status_of(&refusal_of(&error)))
    }
}

/// The tenant of a call, and what it asks.
fn opened<T>(request: Request<T>) -> Result<(TenantId, T), Status> {
    let tenant = tenant_of(request.extensions()).map_err(|refusal| status_of(&refusal))?;
    Ok((tenant, request.into_inner()))
}

/// Streams traces; says how many there were.
fn send_traces(
    store: &dyn TraceStore,
    tenant: &TenantId,
    lookups: &[TraceLookup],
    context: &ReadContext,
    outlet: &Outlet<TracesData>,
) -> Result<usize, StorageError> {
    let mut sent = 0;
    for trace in store.traces(tenant, lookups, context)? {
        each_message(trace?, MESSAGE_BYTES_MAX, |message| outlet.send(message))?;
        sent += 1;
    }
    Ok(sent)
}

#[tonic::async_trait]
impl QueryService for Query {
    type GetTraceStream = Messages<TracesData>;
    type FindTracesStream = Messages<TracesData>;
    type FindTraceSummariesStream = Messages<FindTraceSummariesResponse>;

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<Self::GetTraceStream>, Status> {
        let (tenant, request) = opened(request)?;
        let lookup = lookup(&request).map_err(Status::invalid_argument)?;
        let read = move |api: &JaegerApi, context: &ReadContext, outlet: &Outlet<_>| {
            match send_traces(api.store.as_ref(), &tenant, &[lookup], context, outlet)? {
                // Jaeger's clients look for these words.
                0 => Err(Failure::Absent("trace not found")),
                _ => Ok(()),
            }
        };
        run(Arc::clone(&self.api), read).await.map(Response::new)
    }

    async fn find_traces(
        &self,
        request: Request<FindTracesRequest>,
    ) -> Result<Response<Self::FindTracesStream>, Status> {
        let (tenant, request) = opened(request)?;
        let query = query(request.query).map_err(Status::invalid_argument)?;
        let read = move |api: &JaegerApi, context: &ReadContext, outlet: &Outlet<_>| {
            let lookups = api.search(&tenant, &query, context)?;
            send_traces(api.store.as_ref(), &tenant, &lookups, context, outlet)?;
            Ok(())
        };
        run(Arc::clone(&self.api), read).await.map(Response::new)
    }

    async fn find_trace_summaries(
        &self,
        request: Request<FindTraceSummariesRequest>,
    ) -> Result<Response<Self::FindTraceSummariesStream>, Status> {
        let (tenant, request) = opened(request)?;
        let query = query(request.query).map_err(Status::invalid_argument)?;
        let read = move |api: &JaegerApi, context: &ReadContext, outlet: &Outlet<_>| {
            let lookups = api.search(&tenant, &query, context)?;
            let summaries = api.store.summaries(&tenant, &lookups, context)?;
            send_summaries(summaries.iter().map(summary), outlet)?;
            Ok(())
        };
        run(Arc::clone(&self.api), read).await.map(Response::new)
    }

    async fn get_services(
        &self,
        request: Request<GetServicesRequest>,
    ) -> Result<Response<GetServicesResponse>, Status> {
        let (tenant, _) = opened(request)?;
        let services = self.read(move |store| store.services(&tenant)).await?;
        Ok(Response::new(GetServicesResponse { services }))
    }

    async fn get_operations(
        &self,
        request: Request<GetOperationsRequest>,
    ) -> Result<Response<GetOperationsResponse>, Status> {
        let (tenant, request) = opened(request)?;
        let query = operations(request).map_err(Status::invalid_argument)?;
        let found = self.read(move |store| store.operations(&tenant, &query)).await?;
        let listed = found.into_iter().map(|found| Operation { name: found.name, span_kind: found.kind.to_owned() });
        Ok(Response::new(GetOperationsResponse { operations: listed.collect() }))
    }

    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<DependenciesResponse>, Status> {
        let (tenant, request) = opened(request)?;
        let range = dependencies(&request).map_err(Status::invalid_argument)?;
        let links = self.read(move |store| store.dependencies(&tenant, range)).await?;
        let listed = links.into_iter().map(|link| Dependency {
            parent: link.parent,
            child: link.child,
            call_count: link.call_count,
        });
        Ok(Response::new(DependenciesResponse { dependencies: listed.collect() }))
    }
}

/// Streams summaries in messages of at most [`MESSAGE_BYTES_MAX`].
fn send_summaries(
    summaries: impl Iterator<Item = TraceSummary>,
    outlet: &Outlet<FindTraceSummariesResponse>,
) -> Result<(), StorageError> {
    let (mut message, mut message_bytes) = (FindTraceSummariesResponse::default(), 0);
    for summary in summaries {
        // Tag and length of one summary take less than 16 bytes.
        let bytes = summary.encoded_len() + 16;
        if message_bytes > 0 && message_bytes + bytes > MESSAGE_BYTES_MAX {
            outlet.send(std::mem::take(&mut message))?;
            message_bytes = 0;
        }
        message_bytes += bytes;
        message.summaries.push(summary);
    }
    if message.summaries.is_empty() { Ok(()) } else { outlet.send(message) }
}

fn summary(summary: &pharos_storage::TraceSummary) -> TraceSummary {
    let services = summary.services.iter().map(|service| ServiceSummary {
        name: service.service.clone(),
        span_count: count(service.spans),
        error_span_count: count(service.errors),
    });
    TraceSummary {
        trace_id: summary.trace_id.to_string(),
        root_service_name: summary.root_service.clone(),
        root_operation_name: summary.root_operation.clone(),
        min_start_time_unix_nano: summary.start_ns,
        max_end_time_unix_nano: summary.end_ns,
        span_count: count(summary.span_count),
        error_span_count: count(summary.error_count),
        orphan_span_count: count(summary.orphan_count),
        services: services.collect(),
    }
}

/// The API counts in 32 bits.
fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
