//! Exports to the wrong path, port or protocol: every dialect on every kind of port.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::middleware::from_fn;
use http::{Request, StatusCode};
use pharos_api_ingest::{hint_exports, otlp_grpc_hints, otlp_hints};
use pharos_proto::rpc;
use prost::Message;
use tower::ServiceExt;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const GRPC: &str = "application/grpc+proto";
const TRACE_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PROFILES_EXPORT: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

/// A port with doors of its own, which answer all that is not hinted at.
fn others() -> Router {
    Router::new().fallback(async || StatusCode::IM_A_TEAPOT).layer(from_fn(hint_exports))
}

/// What an export is told, `None` where it is let through; in the dialect of its content type, or the test fails.
async fn told(router: Router, path: &str, content_type: &str) -> Option<String> {
    let request = Request::post(path).header("content-type", content_type).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    if response.status() == StatusCode::IM_A_TEAPOT {
        return None;
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    if content_type == GRPC {
        assert_eq!((parts.status, &parts.headers["grpc-status"]), (StatusCode::OK, &"12".parse().unwrap()), "{path}");
        let message = parts.headers["grpc-message"].to_str().unwrap();
        return Some(message.replace("%20", " "));
    }
    assert_eq!(parts.status, StatusCode::NOT_FOUND, "{path}");
    Some(match content_type {
        PROTOBUF => rpc::Status::decode(body).unwrap().message,
        JSON => serde_json::from_slice::<serde_json::Value>(&body).unwrap()["message"].as_str().unwrap().to_owned(),
        _ => String::from_utf8(body.to_vec()).unwrap(),
    })
}

#[tokio::test]
async fn exports_to_a_port_of_the_other_protocol_are_told_its_own() {
    for content_type in [PROTOBUF, JSON, "text/plain"] {
        let told = told(otlp_grpc_hints(), "/v1/traces", content_type).await.unwrap();
        assert!(told.contains("4318") && told.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "{told}");
    }
    let told = told(otlp_hints(), TRACE_EXPORT, GRPC).await.unwrap();
    assert!(told.contains("4317") && told.contains("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"), "{told}");
}

#[tokio::test]
async fn paths_that_are_nearly_right_are_told_the_right_ones() {
    let wrong = ["/", "/v1", "/v1/", "/v1/trace", "/v1/traces/", "/v1/traces/v1/traces", "/opentelemetry/v1/metric"];
    for path in wrong {
        for content_type in [PROTOBUF, JSON] {
            for router in [others(), otlp_hints()] {
                let told = told(router, path, content_type).await.unwrap();
                assert!(told.contains("/v1/metrics and /v1/traces"), "{path}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn signals_that_are_not_stored_are_named() {
    for router in [others(), otlp_hints()] {
        let told = told(router, "/v1development/profiles", PROTOBUF).await.unwrap();
        assert!(told.contains("profiles are not supported"), "{told}");
    }
    for router in [others(), otlp_grpc_hints()] {
        let told = told(router, PROFILES_EXPORT, GRPC).await.unwrap();
        assert!(told.contains("MetricsService/Export"), "{told}");
    }
}

#[tokio::test]
async fn what_is_no_export_or_a_right_one_is_let_through() {
    for (path, content_type) in [
        ("/", "application/x-www-form-urlencoded"),
        ("/v1/traces", PROTOBUF),
        ("/opentelemetry/v1/metrics", JSON),
        ("/api/v1/query", JSON),
        (TRACE_EXPORT, GRPC),
        ("/jaeger.api_v3.QueryService/GetTrace", GRPC),
    ] {
        assert_eq!(told(others(), path, content_type).await, None, "{path}");
    }
    let page = others().oneshot(Request::get("/").header("content-type", JSON).body(Body::empty()).unwrap());
    assert_eq!(page.await.unwrap().status(), StatusCode::IM_A_TEAPOT);
}
