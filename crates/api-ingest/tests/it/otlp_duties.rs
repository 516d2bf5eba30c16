//! What the OpenTelemetry protocol asks of a server, duty by duty, and where each has its test; those that none of the others
//! names are below. What becomes of metrics has a table of its own in `pharos_ingest::otlp::duties`.
//!
//! | duty | test |
//! |---|---|
//! | paths of both signals, and of those that are not stored | `otlp_http::metrics_arrive_under_every_path`, `hints` |
//! | protobuf and JSON, answered alike; gzip and zstd | `otlp_http::spans_arrive_in_every_form_and_encoding`, `grpc::spans_and_points_arrive_compressed_or_not` |
//! | answers compressed as the client asks | `grpc::answers_are_compressed_as_the_client_asks`; over HTTP by the server around the doors |
//! | JSON: ids in hexadecimal, integers as text or number, unknown fields | `pharos_ingest::otlp::json::tests` |
//! | JSON: keys in lowerCamelCase alone | `keys_are_in_lower_camel_case` |
//! | a limit on inflated size: 413, RESOURCE_EXHAUSTED, not to be repeated | `otlp_http::the_body_limit_counts_inflated_bytes`, `grpc::messages_over_the_limit_are_resource_exhausted_without_retry` |
//! | success, of an empty request as well | `otlp_http::an_empty_request_is_a_success` |
//! | partial success, exactly counted | `partial_success_counts_what_was_refused` of both |
//! | nothing rejected and a message is a warning | `a_warning_alone_rejects_nothing` |
//! | attributes that meet under one label are counted in our own metrics | `own_metrics_count_attributes_that_meet` |
//! | errors are `google.rpc.Status` in the encoding of the request | `every_refusal_is_a_status_in_the_encoding_of_the_request` |
//! | what may pass later, and only that, is retryable and says when | `every_refusal_is_a_status_in_the_encoding_of_the_request`, `refusals_over_grpc_say_whether_to_come_again` |
//! | failures of ours are never INTERNAL | `refuse`, `state` (unit tests), `full_disk` (end to end) |
//! | 405 and 415 | `other_methods_are_405`, `otlp_http::what_is_not_spoken_is_415_and_logs_are_not_found` |
//! | CORS, before authentication | `pharos_http`, `pharos` (doors) |
//! | gRPC: 64 MiB, more than tonic's own 4 | `large_messages_arrive_over_grpc` |
//! | gRPC: pings, age of connections | `pharos_http` (connections) |

use axum::body::Body;
use http::{Method, StatusCode};
use pharos_base::ByteSize;
use pharos_gateway::{LimitSettings, Principal, Scope};
use pharos_ingest::IngestSettings;
use pharos_proto::rpc;
use prost::Message;
use serde_json::{Value, json};

use crate::fixture::{
    Answer, Doors, doors, doors_for, doors_to_a_full_disk, doors_within, post, principal, small_bodies,
};
use crate::otlp_http::{TRACE, spans};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const TRACES_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

async fn traces(doors: &Doors, content_type: &str, encoding: &str, body: impl Into<Body>) -> Answer {
    let request = post("/v1/traces").header("content-type", content_type);
    doors.send(if encoding.is_empty() { request } else { request.header("content-encoding", encoding) }, body).await
}

/// Doors that have just been used as much as their limit allows.
async fn doors_used_up() -> Doors {
    let limits: LimitSettings = serde_json::from_value(json!({"spans_per_second": 1, "burst": "1s"})).unwrap();
    let doors = doors_within(&limits);
    let first = traces(&doors, PROTOBUF, "", spans(&[1, 2, 3]).encode_to_vec()).await;
    assert_eq!(first.status, StatusCode::OK);
    doors
}

/// Every way to be refused: the doors, the encoding, a body in protobuf and one in JSON; and the answer: HTTP status, gRPC
/// code, whether it is to be repeated.
async fn refusals() -> Vec<(Doors, &'static str, [Vec<u8>; 2], (u16, tonic::Code, bool))> {
    use tonic::Code as C;
    let sound = || [spans(&[1]).encode_to_vec(), serde_json::to_vec(&spans(&[1])).unwrap()];
    let writer = |scope, tenant| doors_for(principal(scope, tenant), IngestSettings::default());
    let small = doors_for(Principal::anonymous(), small_bodies(ByteSize(10)));
    vec![
        (doors(), "", [b"\x0a\xff".to_vec(), b"{".to_vec()], (400, C::InvalidArgument, false)),
        (doors(), "gzip", sound(), (400, C::InvalidArgument, false)),
        (writer(Scope::MetricsWrite, "*"), "", sound(), (403, C::PermissionDenied, false)),
        (small, "", sound(), (413, C::ResourceExhausted, false)),
        (doors_used_up().await, "", sound(), (429, C::ResourceExhausted, true)),
        (doors_to_a_full_disk(), "", sound(), (503, C::Unavailable, true)),
    ]
}

#[tokio::test]
async fn every_refusal_is_a_status_in_the_encoding_of_the_request() {
    for (doors, encoding, [protobuf, json], (status, code, is_retryable)) in refusals().await {
        let answer = traces(&doors, PROTOBUF, encoding, protobuf).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, PROTOBUF));
        let told = rpc::Status::decode(&*answer.body).unwrap();
        assert_eq!((told.code, told.message.is_empty()), (code as i32, false), "{status}");
        assert_eq!(answer.header("retry-after").parse::<u32>().is_ok(), is_retryable, "{status}");

        let answer = traces(&doors, JSON, encoding, json).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, JSON));
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(told["code"], code as i32, "{status}");
        assert!(!told["message"].as_str().unwrap().is_empty(), "{status}");
        assert_eq!(answer.header("retry-after").parse::<u32>().is_ok(), is_retryable, "{status}");
        assert!(doors.spans("0", TRACE).len() <= 3, "nothing of it is stored");
    }
}

#[tokio::test]
async fn refusals_over_grpc_say_whether_to_come_again() {
    for (doors, encoding, [message, _], (_, code, is_retryable)) in refusals().await {
        let (flag, encoding) = if encoding.is_empty() { (0, "identity") } else { (1, encoding) };
        let framed = [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
        let request = post(TRACES_EXPORT).header("content-type", "application/grpc").header("grpc-encoding", encoding);
        let answer = doors.send(request.version(http::Version::HTTP_2), framed).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, (code as i32).to_string().as_str()));
        assert!(!answer.header("grpc-message").is_empty(), "{code:?}");
        assert_eq!(answer.header("grpc-status-details-bin").is_empty(), !is_retryable, "RetryInfo: {code:?}");
    }
}

#[tokio::test]
async fn a_warning_alone_rejects_nothing() {
    let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"idle","gauge":{"dataPoints":[]}}]}]}]}"#;
    let answer = doors().send(post("/v1/metrics").header("content-type", JSON), body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(told["partialSuccess"]["rejectedDataPoints"], "0");
    assert!(told["partialSuccess"]["errorMessage"].as_str().unwrap().contains("\"idle\" has no data points"), "{told}");
}

/// Others are fields nobody knows, and ignored as such.
#[tokio::test]
async fn keys_are_in_lower_camel_case() {
    let doors = doors();
    let camel = serde_json::to_string(&spans(&[1])).unwrap();
    let snake = camel.replace("resourceSpans", "resource_spans");
    assert_ne!(camel, snake);
    for (body, stored) in [(snake, 0), (camel, 1)] {
        assert_eq!(traces(&doors, JSON, "", body).await.status, StatusCode::OK);
        assert_eq!(doors.spans("0", TRACE).len(), stored);
    }
}

#[tokio::test]
async fn other_methods_are_405() {
    for path in ["/v1/traces", "/v1/metrics"] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let request = http::Request::builder().method(method).uri(path).header("content-type", PROTOBUF);
            assert_eq!(doors().send(request, "").await.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}

#[tokio::test]
async fn large_messages_arrive_over_grpc() {
    let doors = doors();
    let mut request = spans(&[1, 2, 3, 4, 5]);
    for span in &mut request.resource_spans[0].scope_spans[0].spans {
        span.name = "x".repeat(1 << 20);
    }
    let message = request.encode_to_vec();
    assert!(message.len() > 4 << 20, "more than tonic takes by itself");
    let framed = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let request = post(TRACES_EXPORT).header("content-type", "application/grpc").version(http::Version::HTTP_2);
    assert_eq!(doors.send(request, framed).await.status, StatusCode::OK);
    assert_eq!(doors.spans("0", TRACE).len(), 5);
}

#[tokio::test]
async fn own_metrics_count_attributes_that_meet() {
    let doors = doors();
    let attribute = |key: &str| json!({"key": key, "value": {"stringValue": "v"}});
    let point =
        json!({"timeUnixNano": "1700000000000000000", "asInt": 1, "attributes": [attribute("a.b"), attribute("a_b")]});
    let metrics = json!([{"name": "m", "gauge": {"dataPoints": [point]}}]);
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    let answer = doors.send(post("/v1/metrics").header("content-type", JSON), body.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let own = doors.own_metrics();
    let counted = r#"ingest_otlp_translation_warnings_total{category="joined_attributes"} 1"#;
    assert!(own.contains(counted), "{own}");
}
