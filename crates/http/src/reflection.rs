//! gRPC's reflection: tells clients such as `grpcurl` what services a port has, and their messages.

use axum::Router;
use pharos_proto::DESCRIPTORS;
use tonic_reflection::server::Builder;

/// Reflection, in its versions v1 and v1alpha, of a port with these services. Without a fallback, to be merged with others.
///
/// # Panics
/// If the descriptors of `pharos-proto`, which are a part of the program, cannot be read.
pub fn grpc_reflection<'a>(services: impl IntoIterator<Item = &'a str>) -> Router {
    const READABLE: &str = "generated descriptors can be read";
    let services: Vec<&str> = services.into_iter().collect();
    let builder = || {
        let builder = Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    Router::new()
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", builder().build_v1().expect(READABLE))
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", builder().build_v1alpha().expect(READABLE))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use tonic::transport::Endpoint;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    use super::*;
    use crate::{ListenerSettings, bind, serve};

    #[tokio::test]
    async fn a_port_tells_its_services_and_every_message() {
        let listener = bind("127.0.0.1:0", "test").await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = grpc_reflection(["jaeger.api_v3.QueryService"]);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, router, ListenerSettings::default(), CancellationToken::new()));
        let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
        let mut ask = async |question| {
            let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
            let mut answers =
                client.server_reflection_info(tonic::codegen::tokio_stream::once(request)).await.unwrap().into_inner();
            answers.message().await.unwrap().unwrap().message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(listed) = ask(MessageRequest::ListServices(String::new())).await
        else {
            panic!("a list of services");
        };
        let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["jaeger.api_v3.QueryService"]);
        for symbol in [
            "jaeger.api_v3.QueryService",
            "jaeger.api_v3.TraceQueryParameters",
            "jaeger.expression.v1.Call",
            "opentelemetry.proto.trace.v1.TracesData",
            "google.protobuf.Timestamp",
        ] {
            let told = ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await;
            let MessageResponse::FileDescriptorResponse(file) = told else { panic!("the file of {symbol}") };
            assert!(!file.file_descriptor_proto.is_empty(), "{symbol}");
        }
    }
}
