//! gRPC's health check: whoever reaches a port is answered, so what is on it is well.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use pharos_proto::health::v1::health_check_response::ServingStatus;
use pharos_proto::health::v1::health_server::{Health, HealthServer};
use pharos_proto::health::v1::{HealthCheckRequest, HealthCheckResponse};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// The service of the health check itself.
pub const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// The health of a port with these services, its own beside them. Without a fallback, to be merged with others.
pub fn grpc_health<'a>(services: impl IntoIterator<Item = &'a str>) -> Router {
    let services = services.into_iter().chain([HEALTH_SERVICE]).map(str::to_owned).collect();
    Router::new().route_service("/grpc.health.v1.Health/{method}", HealthServer::new(Healthy { services }))
}

/// Tells the health of services; that of the server as a whole by the empty name.
struct Healthy {
    services: Arc<[String]>,
}

#[tonic::async_trait]
impl Health for Healthy {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let asked = request.into_inner().service;
        if asked.is_empty() || self.services.contains(&asked) {
            return Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving as i32 }));
        }
        Err(Status::not_found(format!("there is no service {asked:?} here")))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Not offered: the answer never changes while the process lives, and a stream that never ends would hold
    /// up every stop. Clients take this code for "healthy", as gRPC's definition of the service says.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("health does not change while the server runs; call Check"))
    }
}
