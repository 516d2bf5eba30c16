//! Pharos as the remote storage of a stock Jaeger: traces, dependencies and what searches can do.
//!
//! Traces go out as they were stored; whoever asks adjusts them.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_model::TraceId;
use pharos_proto::jaeger::storage_v2::capabilities_server::{Capabilities, CapabilitiesServer};
use pharos_proto::jaeger::storage_v2::dependency_reader_server::{DependencyReader, DependencyReaderServer};
use pharos_proto::jaeger::storage_v2::trace_reader_server::{TraceReader, TraceReaderServer};
use pharos_proto::jaeger::storage_v2::{
    Dependency, FilterCapabilities, FindTraceIDsRequest, FindTraceIDsResponse, FindTraceSummariesRequest,
    FindTraceSummariesResponse, FindTracesRequest, FoundTraceId, GetCapabilitiesRequest, GetCapabilitiesResponse,
    GetDependenciesRequest, GetDependenciesResponse, GetOperationsRequest, GetOperationsResponse, GetServicesRequest,
    GetServicesResponse, GetTracesRequest, Operation, SearchCapabilities, ServiceSummary, TraceQueryParameters,
    TraceSummary,
};
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Request, Response, Status};

use crate::filter_tree::{LEVELS, OPERATORS};
use crate::grpc_call::{asked_query, opened};
use crate::grpc_messages::{count, send_batches, send_traces};
use crate::grpc_params::{bounded, dependency_range, operations};
use crate::grpc_storage_params::{lookups, query};
use crate::grpc_stream::Messages;
use crate::routes::JaegerApi;

/// Who counted the calls, as Jaeger asks.
const SOURCE: &str = "pharos";

/// The three services, without a fallback.
pub(crate) fn routes(api: &Arc<JaegerApi>) -> axum::Router {
    let storage = || Storage { api: Arc::clone(api) };
    macro_rules! compressed {
        ($server:expr) => {
            $server
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .send_compressed(Gzip)
                .send_compressed(Zstd)
                .max_decoding_message_size(api.bodies.limit().len_max())
        };
    }
    axum::Router::new()
        .route_service("/jaeger.storage.v2.TraceReader/{method}", compressed!(TraceReaderServer::new(storage())))
        .route_service(
            "/jaeger.storage.v2.DependencyReader/{method}",
            compressed!(DependencyReaderServer::new(storage())),
        )
        .route_service("/jaeger.storage.v2.Capabilities/{method}", compressed!(CapabilitiesServer::new(storage())))
}

struct Storage {
    api: Arc<JaegerApi>,
}

fn bounded_search(query: Option<&TraceQueryParameters>) -> Result<(), Status> {
    query.map_or(Ok(()), |query| bounded("query.attributes", query.attributes.len(), query.filter.as_ref()))
}

#[tonic::async_trait]
impl TraceReader for Storage {
    type GetTracesStream = Messages<TracesData>;
    type FindTracesStream = Messages<TracesData>;
    type FindTraceSummariesStream = Messages<FindTraceSummariesResponse>;

    async fn get_traces(&self, request: Request<GetTracesRequest>) -> Result<Response<Self::GetTracesStream>, Status> {
        let (asker, request) = opened(request)?;
        bounded("query", request.query.len(), None)?;
        let lookups = lookups(&request.query).map_err(Status::invalid_argument)?;
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            send_traces(api.store.as_ref(), tenant, lookups.into(), None, (context, outlet))?;
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
        let operation =
            |found: pharos_storage::Operation| Operation { name: found.name, span_kind: found.kind.to_owned() };
        Ok(Response::new(GetOperationsResponse { operations: found.into_iter().map(operation).collect() }))
    }

    async fn find_traces(
        &self,
        request: Request<FindTracesRequest>,
    ) -> Result<Response<Self::FindTracesStream>, Status> {
        let (asker, request) = opened(request)?;
        bounded_search(request.query.as_ref())?;
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            let query = asked_query(query(request.query))?;
            let found = api.search(tenant, &query, context)?;
            send_traces(api.store.as_ref(), tenant, found, None, (context, outlet))?;
            Ok(())
        });
        read.await
    }

    async fn find_trace_i_ds(
        &self,
        request: Request<FindTraceIDsRequest>,
    ) -> Result<Response<FindTraceIDsResponse>, Status> {
        let (asker, request) = opened(request)?;
        bounded_search(request.query.as_ref())?;
        let find = move |api: &JaegerApi, tenant: &_, context: &_| {
            api.search(tenant, &asked_query(query(request.query))?, context)
        };
        let found = asker.read(&self.api, find).await?;
        let trace_ids = found.lookups.iter().map(|found| FoundTraceId {
            trace_id: bytes(found.trace_id),
            // A time range would narrow what is read by id later; the ids alone are found as fast.
            start: None,
            end: None,
        });
        let trace_ids = trace_ids.collect();
        Ok(Response::new(FindTraceIDsResponse { trace_ids, next_page_token: String::new() }))
    }

    async fn find_trace_summaries(
        &self,
        request: Request<FindTraceSummariesRequest>,
    ) -> Result<Response<Self::FindTraceSummariesStream>, Status> {
        let (asker, request) = opened(request)?;
        bounded_search(request.query.as_ref())?;
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            let query = asked_query(query(request.query))?;
            let found = api.search(tenant, &query, context)?;
            let summaries = api.store.summaries(tenant, &found.lookups, context)?;
            let message = |summaries| FindTraceSummariesResponse { summaries, next_page_token: String::new() };
            send_batches(summaries.into_iter().map(summary), message, outlet)?;
            Ok(())
        });
        read.await
    }
}

#[tonic::async_trait]
impl DependencyReader for Storage {
    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<GetDependenciesResponse>, Status> {
        let (asker, GetDependenciesRequest { start_time, end_time }) = opened(request)?;
        let range = dependency_range(start_time, end_time).map_err(Status::invalid_argument)?;
        let read = move |api: &JaegerApi, tenant: &_, context: &_| api.dependencies(tenant, range, context);
        let (links, _held) = asker.read(&self.api, read).await?;
        let dependency = |link: pharos_storage::DependencyLink| Dependency {
            parent: link.parent,
            child: link.child,
            call_count: link.call_count,
            source: SOURCE.to_owned(),
        };
        Ok(Response::new(GetDependenciesResponse { dependencies: links.into_iter().map(dependency).collect() }))
    }
}

#[tonic::async_trait]
impl Capabilities for Storage {
    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        let filter = FilterCapabilities {
            levels: LEVELS.map(str::to_owned).to_vec(),
            operators: OPERATORS.map(str::to_owned).to_vec(),
        };
        let search =
            SearchCapabilities { without_service_name: true, same_span_conjunction: true, filter: Some(filter) };
        Ok(Response::new(GetCapabilitiesResponse { search: Some(search) }))
    }
}

fn bytes(id: TraceId) -> Vec<u8> {
    id.0.to_vec()
}

fn summary(summary: pharos_storage::TraceSummary) -> TraceSummary {
    let services = summary.services.into_iter().map(|service| ServiceSummary {
        name: service.service,
        span_count: count(service.spans),
        error_span_count: count(service.errors),
    });
    TraceSummary {
        trace_id: bytes(summary.trace_id),
        root_service_name: summary.root_service,
        root_operation_name: summary.root_operation,
        min_start_time_unix_nano: summary.start_ns,
        max_end_time_unix_nano: summary.end_ns,
        span_count: count(summary.span_count),
        error_span_count: count(summary.error_count),
        orphan_span_count: count(summary.orphan_count),
        services: services.collect(),
    }
}
