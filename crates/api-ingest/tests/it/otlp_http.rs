//! OTLP over HTTP as SDKs and the collector send it.

use http::StatusCode;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use pharos_base::ByteSize;
use pharos_gateway::{Principal, Scope};
use pharos_ingest::IngestSettings;
use pharos_proto::rpc;
use prost::Message;
use serde_json::{Value, json};

use crate::fixture::{Answer, Doors, doors, doors_for, doors_to_a_full_disk, gzip, post, principal, small_bodies};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
pub(crate) const TRACE: &str = "5b8efff798038103d269b633813fc60c";

pub(crate) fn spans(ids: &[u8]) -> ExportTraceServiceRequest {
    let span = |id: &u8| Span {
        trace_id: (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect(),
        span_id: vec![*id; 8],
        name: format!("span {id}"),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_001_000_000_000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: ids.iter().map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn gauge(values: &[(&str, i64)]) -> String {
    let metric = |(name, ms): &(&str, i64)| json!({"name": name, "gauge": {"dataPoints": [{"timeUnixNano": format!("{ms}000000"), "asInt": "5"}]}});
    let metrics: Vec<_> = values.iter().map(metric).collect();
    json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).to_string()
}

async fn send(doors: &Doors, path: &str, content_type: &str, encoding: &str, body: Vec<u8>) -> Answer {
    let request = post(path).header("content-type", content_type);
    let request = if encoding.is_empty() { request } else { request.header("content-encoding", encoding) };
    doors.send(request, body).await
}

#[tokio::test]
async fn spans_arrive_in_every_form_and_encoding() {
    let protobuf = spans(&[1]).encode_to_vec();
    let json = serde_json::to_vec(&spans(&[1])).unwrap();
    for (content_type, plain) in [(PROTOBUF, protobuf), (JSON, json.clone()), ("application/json; charset=utf-8", json)]
    {
        for (encoding, body) in
            [("", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd::encode_all(&*plain, 1).unwrap())]
        {
            let doors = doors();
            let answer = send(&doors, "/v1/traces", content_type, encoding, body).await;
            assert_eq!(answer.status, StatusCode::OK, "{content_type} {encoding}: {}", answer.text());
            assert_eq!(answer.header("content-type"), content_type.split(';').next().unwrap());
            assert_eq!(answer.text(), if content_type == PROTOBUF { "" } else { "{}" });
            assert_eq!(doors.spans("0", TRACE), ["span 1"]);
        }
    }
}

#[tokio::test]
async fn metrics_arrive_under_every_path() {
    for (path, tenant) in [
        ("/v1/metrics", "0"),
        ("/api/v1/otlp/v1/metrics", "0"),
        ("/opentelemetry/v1/metrics", "0"),
        ("/insert/9/opentelemetry/v1/metrics", "9"),
    ] {
        let doors = doors();
        let answer = send(&doors, path, JSON, "", gauge(&[("queue.size", 1_700_000_000_000)]).into_bytes()).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "{}"), "{path}");
        assert_eq!(doors.stored(tenant), ["queue_size 5@1700000000000"]);
    }
}

#[tokio::test]
async fn an_empty_request_is_a_success() {
    let doors = doors();
    for path in ["/v1/traces", "/v1/metrics"] {
        assert_eq!(send(&doors, path, PROTOBUF, "", Vec::new()).await.status, StatusCode::OK);
        assert_eq!(send(&doors, path, JSON, "", b"{}".to_vec()).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn partial_success_counts_what_was_refused() {
    let doors = doors();
    let answer = send(&doors, "/v1/traces", PROTOBUF, "", spans(&[1, 0, 2, 0]).encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = ExportTraceServiceResponse::decode(&*answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    assert!(partial.error_message.contains("invalid_span"), "{}", partial.error_message);
    assert_eq!(doors.spans("0", TRACE).len(), 2);

    let body = gauge(&[("good", 1_700_000_000_000), ("old", 1_600_000_000_000), ("new", 1_700_000_700_000)]);
    let answer = send(&doors, "/v1/metrics", JSON, "", body.into_bytes()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(told["partialSuccess"]["rejectedDataPoints"], "2");
    assert!(told["partialSuccess"]["errorMessage"].as_str().unwrap().contains("too_new"), "{told}");
    assert_eq!(doors.stored("0"), ["good 5@1700000000000"]);
    assert!(ExportMetricsServiceResponse::decode(&b""[..]).unwrap().partial_success.is_none());
}

#[tokio::test]
async fn damaged_requests_are_400_in_the_form_of_the_request() {
    let doors = doors();
    let packed = gzip(&spans(&[1]).encode_to_vec());
    for (encoding, body) in
        [("", b"\x0a\xff".to_vec()), ("gzip", packed[..packed.len() - 4].to_vec()), ("zstd", b"nonsense".to_vec())]
    {
        let answer = send(&doors, "/v1/traces", PROTOBUF, encoding, body).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::BAD_REQUEST, PROTOBUF), "{encoding}");
        let status = rpc::Status::decode(&*answer.body).unwrap();
        assert_eq!(status.code, tonic::Code::InvalidArgument as i32);
        assert!(!status.message.is_empty());
    }
    for body in ["{", r#"{"resourceSpans": 5}"#, "[]"] {
        let answer = send(&doors, "/v1/traces", JSON, "", body.as_bytes().to_vec()).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::BAD_REQUEST, JSON), "{body}");
        let status: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(status["code"], tonic::Code::InvalidArgument as i32);
    }
    assert!(doors.spans("0", TRACE).is_empty());
}

#[tokio::test]
async fn what_is_not_spoken_is_415_and_logs_are_not_found() {
    let doors = doors();
    for (content_type, encoding) in [("text/plain", ""), ("", ""), (PROTOBUF, "snappy"), (JSON, "br")] {
        let answer = send(&doors, "/v1/traces", content_type, encoding, Vec::new()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type} {encoding}");
    }
    let answer = send(&doors, "/v1/logs", JSON, "", b"{}".to_vec()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().contains("OTEL_LOGS_EXPORTER=none"), "{}", answer.text());
    let answer = send(&doors, "/", PROTOBUF, "", Vec::new()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().contains("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), "{}", answer.text());
}

#[tokio::test]
async fn the_body_limit_counts_inflated_bytes() {
    let doors = doors_for(Principal::anonymous(), small_bodies(ByteSize(2000)));
    let bomb = vec![b' '; 100_000];
    for (encoding, body) in [("gzip", gzip(&bomb)), ("zstd", zstd::encode_all(&*bomb, 1).unwrap()), ("", bomb)] {
        let answer = send(&doors, "/v1/metrics", JSON, encoding, body).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
        let status: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(status["code"], tonic::Code::ResourceExhausted as i32);
    }
}

#[tokio::test]
async fn scopes_are_told_apart() {
    let doors = doors_for(principal(Scope::TracesWrite, "*"), IngestSettings::default());
    assert_eq!(send(&doors, "/v1/traces", JSON, "", b"{}".to_vec()).await.status, StatusCode::OK);
    assert_eq!(send(&doors, "/v1/metrics", JSON, "", b"{}".to_vec()).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_full_disk_is_503_with_the_time_to_come_back() {
    let answer = send(&doors_to_a_full_disk(), "/v1/traces", PROTOBUF, "", spans(&[1]).encode_to_vec()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "7"));
    assert_eq!(rpc::Status::decode(&*answer.body).unwrap().code, tonic::Code::Unavailable as i32);
}
