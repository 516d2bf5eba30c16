//! API v3 over gRPC: the same questions as over HTTP, answered in OTLP's own messages; and the routes of all services.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_gateway::hold_reader_body;
use pharos_proto::jaeger::api_v3::capabilities_server::{Capabilities, CapabilitiesServer};
use pharos_proto::jaeger::api_v3::query_service_server::{QueryService, QueryServiceServer};
use pharos_proto::jaeger::api_v3::{
    DependenciesResponse, Dependency, FilterCapabilities, FindTraceSummariesRequest, FindTraceSummariesResponse,
    FindTracesRequest, GetCapabilitiesRequest, GetCapabilitiesResponse, GetDependenciesRequest, GetOperationsRequest,
    GetOperationsResponse, GetServicesRequest, GetServicesResponse, GetTraceRequest, Operation, SearchCapabilities,
    ServiceSummary, TraceQueryParameters, TraceSummary,
};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::filter_tree::{LEVELS, OPERATORS};
use crate::grpc_call::{asked_query, opened};
use crate::grpc_messages::{count, send_batches, send_traces};
use crate::grpc_params::{bounded, dependency_range, lookup, operations, query};
use crate::grpc_stream::{Failure, Messages};
use crate::routes::JaegerApi;
use crate::{grpc_storage, grpc_v2, monitor};

/// All of Jaeger's services. The routes have no fallback, so that they merge with others.
#[must_use]
pub fn grpc_routes(api: JaegerApi) -> Routes {
    let api = Arc::new(api);
    let query = QueryServiceServer::new(Query { api: Arc::clone(&api) })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(api.bodies.limit().len_max());
    let router = axum::Router::new()
        .route_service("/jaeger.api_v3.QueryService/{method}", query)
        .route_service("/jaeger.api_v3.Capabilities/{method}", CapabilitiesServer::new(Offer))
        .merge(grpc_storage::routes(&api))
        .merge(grpc_v2::routes(&api))
        .merge(monitor::grpc_routes(&api));
    Routes::from(router.route_layer(from_fn_with_state(Arc::new(api.bodies.clone()), hold_reader_body)))
}

/// The services behind [`grpc_routes`], and `pharos.query.v1.QueryService`, which stands beside them on every port.
pub const GRPC_SERVICES: [&str; 8] = [
    "jaeger.api_v2.QueryService",
    "jaeger.api_v2.metrics.MetricsQueryService",
    "jaeger.api_v3.Capabilities",
    "jaeger.api_v3.QueryService",
    "jaeger.storage.v2.Capabilities",
    "jaeger.storage.v2.DependencyReader",
    "jaeger.storage.v2.TraceReader",
    "pharos.query.v1.QueryService",
];

struct Query {
    api: Arc<JaegerApi>,
}

fn bounded_search(query: Option<&TraceQueryParameters>) -> Result<(), Status> {
    query.map_or(Ok(()), |query| bounded("query.attributes", query.attributes.len(), query.filter.as_ref()))
}

#[tonic::async_trait]
impl QueryService for Query {
    type GetTraceStream = Messages<TracesData>;
    type FindTracesStream = Messages<TracesData>;
    type FindTraceSummariesStream = Messages<FindTraceSummariesResponse>;

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<Self::GetTraceStream>, Status> {
        let (asker, request) = opened(request)?;
        let lookup = lookup(&request).map_err(Status::invalid_argument)?;
        let adjusting = self.api.adjusting_unless(request.raw_traces);
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            match send_traces(api.store.as_ref(), tenant, vec![lookup].into(), adjusting, (context, outlet))? {
                // Jaeger's clients look for these words.
                0 => Err(Failure::Absent("trace not found")),
                _ => Ok(()),
            }
        });
        read.await
    }

    async fn find_traces(
        &self,
        request: Request<FindTracesRequest>,
    ) -> Result<Response<Self::FindTracesStream>, Status> {
        let (asker, request) = opened(request)?;
        bounded_search(request.query.as_ref())?;
        let is_raw = request.query.as_ref().is_some_and(|query| query.raw_traces);
        let adjusting = self.api.adjusting_unless(is_raw);
        let read = asker.stream(&self.api, move |api, tenant, context, outlet| {
            let query = asked_query(query(request.query))?;
            let found = api.search(tenant, &query, context)?;
            send_traces(api.store.as_ref(), tenant, found, adjusting, (context, outlet))?;
            Ok(())
        });
        read.await
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
            let message = |summaries| FindTraceSummariesResponse { summaries };
            send_batches(summaries.into_iter().map(summary), message, outlet)?;
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
        let listed = found.into_iter().map(|found| Operation { name: found.name, span_kind: found.kind.to_owned() });
        Ok(Response::new(GetOperationsResponse { operations: listed.collect() }))
    }

    async fn get_dependencies(
        &self,
        request: Request<GetDependenciesRequest>,
    ) -> Result<Response<DependenciesResponse>, Status> {
        let (asker, GetDependenciesRequest { start_time, end_time }) = opened(request)?;
        let range = dependency_range(start_time, end_time).map_err(Status::invalid_argument)?;
        let read = move |api: &JaegerApi, tenant: &_, context: &_| api.dependencies(tenant, range, context);
        let (links, _held) = asker.read(&self.api, read).await?;
        let listed = links.into_iter().map(|link| Dependency {
            parent: link.parent,
            child: link.child,
            call_count: link.call_count,
        });
        Ok(Response::new(DependenciesResponse { dependencies: listed.collect() }))
    }
}

/// What searches can ask.
struct Offer;

#[tonic::async_trait]
impl Capabilities for Offer {
    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        let filter = FilterCapabilities {
            levels: LEVELS.map(str::to_owned).to_vec(),
            operators: OPERATORS.map(str::to_owned).to_vec(),
        };
        let search = SearchCapabilities {
            without_service_name: true,
            same_span_conjunction: true,
            filter: Some(filter),
            ..SearchCapabilities::default()
        };
        Ok(Response::new(GetCapabilitiesResponse { search: Some(search) }))
    }
}

fn summary(summary: pharos_storage::TraceSummary) -> TraceSummary {
    let services = summary.services.into_iter().map(|service| ServiceSummary {
        name: service.service,
        span_count: count(service.spans),
        error_span_count: count(service.errors),
    });
    TraceSummary {
        trace_id: summary.trace_id.to_string(),
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
