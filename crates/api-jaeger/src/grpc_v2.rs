//! `jaeger.api_v2.QueryService`, for clients that know only Jaeger's own model of spans.

use std::collections::BTreeSet;
use std::sync::Arc;

use pharos_proto::jaeger::api_v2::query_service_server::{QueryService, QueryServiceServer};
use pharos_proto::jaeger::api_v2::{
    ArchiveTraceRequest, ArchiveTraceResponse, DependencyLink, FindTracesRequest, GetDependenciesRequest,
    GetDependenciesResponse, GetOperationsRequest, GetOperationsResponse, GetServicesRequest, GetServicesResponse,
    GetTraceRequest, Operation, SpansResponseChunk,
};
use pharos_storage::TraceLookup;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Request, Response, Status};

use crate::grpc_call::opened;
use crate::grpc_params::{dependency_range, lookup_range, operations};
use crate::grpc_stream::{Failure, Messages};
use crate::grpc_v2_model::send_spans;
use crate::grpc_v2_params::{query, trace_id};
use crate::routes::JaegerApi;

/// The service, without a fallback.
pub(crate) fn routes(api: &Arc<JaegerApi>) -> axum::Router {
    let query = QueryServiceServer::new(Query { api: Arc::clone(api) })
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd)
        .max_decoding_message_size(api.bodies.limit().len_max());
    axum::Router::new().route_service("/jaeger.api_v2.QueryService/{method}", query)
}

struct Query {
    api: Arc<JaegerApi>,
}

#[tonic::async_trait]
impl QueryService for Query {
    type GetTraceStream = Messages<SpansResponseChunk>;
    type FindTracesStream = Messages<SpansResponseChunk>;

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<Self::GetTraceStream>, Status> {
        let (asker, request) = opened(request)?;
        let trace_id = trace_id(&request.trace_id).map_err(Status::invalid_argument)?;
        let range = lookup_range(request.start_time, request.end_time).map_err(Status::invalid_argument)?;
        let adjusting = self.api.adjusting_unless(request.raw_traces);
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            let lookup = TraceLookup { trace_id, range };
            match send_spans(api.store.as_ref(), tenant, vec![lookup].into(), adjusting, (context, outlet))? {
                0 => Err(Failure::Absent("trace not found")),
                _ => Ok(()),
            }
        });
        read.await
    }

    async fn archive_trace(
        &self,
        request: Request<ArchiveTraceRequest>,
    ) -> Result<Response<ArchiveTraceResponse>, Status> {
        let (_, request) = opened(request)?;
        trace_id(&request.trace_id).map_err(Status::invalid_argument)?;
        Err(Status::unimplemented("archive span storage was not configured"))
    }

    async fn find_traces(
        &self,
        request: Request<FindTracesRequest>,
    ) -> Result<Response<Self::FindTracesStream>, Status> {
        let (asker, request) = opened(request)?;
        let is_raw = request.query.as_ref().is_some_and(|query| query.raw_traces);
        let adjusting = self.api.adjusting_unless(is_raw);
        let query = query(request.query).map_err(Status::invalid_argument)?;
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            let found = api.search(tenant, &query, context)?;
            send_spans(api.store.as_ref(), tenant, found, adjusting, (context, outlet))?;
            Ok(())
        });
        read.await
    }

    async fn get_services(
        &self,
        request: Request<GetServicesRequest>,
    ) -> Result<Response<GetServicesResponse>, Status> {
        let (asker, _) = opened(request)?;
        let services = asker.read(&self.api, |api, tenant, _| api.store.services(tenant)).await?;
        Ok(Response::new(GetServicesResponse { services }))
    }

    async fn get_operations(
        &self,
        request: Request<GetOperationsRequest>,
    ) -> Result<Response<GetOperationsResponse>, Status> {
        let (asker, GetOperationsRequest { service, span_kind }) = opened(request)?;
        let query = operations(service, &span_kind).map_err(Status::invalid_argument)?;
        let found = asker.read(&self.api, move |api, tenant, _| api.store.operations(tenant, &query)).await?;
        let names: BTreeSet<_> = found.iter().map(|found| found.name.clone()).collect();
        let listed = found.into_iter().map(|found| Operation { name: found.name, span_kind: found.kind.to_owned() });
        let (operation_names, operations) = (names.into_iter().collect(), listed.collect());
        Ok(Response::new(GetOperationsResponse { operation_names, operations }))
    }

    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<GetDependenciesResponse>, Status> {
        let (asker, GetDependenciesRequest { start_time, end_time }) = opened(request)?;
        let range = dependency_range(start_time, end_time).map_err(Status::invalid_argument)?;
        let read = move |api: &JaegerApi, tenant: &_, context: &_| api.dependencies(tenant, range, context);
        let (links, _held) = asker.read(&self.api, read).await?;
        let listed = links.into_iter().map(|link| DependencyLink {
            parent: link.parent,
            child: link.child,
            call_count: link.call_count,
            source: String::new(),
        });
        Ok(Response::new(GetDependenciesResponse { dependencies: listed.collect() }))
    }
}
