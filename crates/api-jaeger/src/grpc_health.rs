//! gRPC's health check: whoever reaches this port is answered, so what is here is well.

use pharos_proto::health::v1::health_check_response::ServingStatus;
use pharos_proto::health::v1::health_server::Health;
use pharos_proto::health::v1::{HealthCheckRequest, HealthCheckResponse};
use tonic::{Request, Response, Status};

use crate::grpc_stream::Messages;

/// The services here, and those that every port with them has, too; beside the server as a whole their health is told.
pub(crate) const SERVICES: [&str; 9] = [
    "grpc.health.v1.Health",
    "jaeger.api_v2.QueryService",
    "jaeger.api_v2.metrics.MetricsQueryService",
    "jaeger.api_v3.Capabilities",
    "jaeger.api_v3.QueryService",
    "jaeger.storage.v2.Capabilities",
    "jaeger.storage.v2.DependencyReader",
    "jaeger.storage.v2.TraceReader",
    "pharos.query.v1.QueryService",
];

/// The health of this server.
pub(crate) struct Healthy;

#[tonic::async_trait]
impl Health for Healthy {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let asked = request.into_inner().service;
        if asked.is_empty() || SERVICES.contains(&asked.as_str()) {
            return Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving as i32 }));
        }
        Err(Status::not_found(format!("there is no service {asked:?} here")))
    }

    type WatchStream = Messages<HealthCheckResponse>;

    /// Not offered: the answer never changes while the process lives, and a stream that never ends would hold
    /// up every stop. Clients take this code for "healthy", as gRPC's definition of the service says.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("health does not change while the server runs; call Check"))
    }
}
