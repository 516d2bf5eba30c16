//! Limits of a tenant, as senders of each protocol meet them.

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use pharos_gateway::LimitSettings;
use prost::Message;
use serde_json::json;

use crate::fixture::{Doors, doors_within, post};
use crate::otlp_http::{TRACE, spans};

fn doors(limits: serde_json::Value) -> Doors {
    doors_within(&serde_json::from_value::<LimitSettings>(limits).unwrap())
}

fn line(name: &str, samples: usize) -> String {
    let line = |at| format!("{name} {at} {}", 1_700_000_000_000_i64 - at as i64);
    (0..samples).map(line).collect::<Vec<_>>().join("\n")
}

/// A body that nobody may read.
fn untouchable() -> Body {
    Body::from_stream(futures::stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, std::io::Error>>> {
        panic!("the body of a request over its limit was read")
    }))
}

#[tokio::test]
async fn whoever_took_too_much_is_told_before_the_body_is_read() {
    let doors = doors(json!({"spans_per_second": 1, "burst": "1s"}));
    let traces = || post("/v1/traces").header("content-type", "application/x-protobuf");
    let ids: Vec<u8> = (1..=5).collect();
    assert_eq!(doors.send(traces(), spans(&ids).encode_to_vec()).await.status, StatusCode::OK);
    assert_eq!(doors.spans("0", TRACE).len(), 5, "what goes beyond is let in once, and owed");

    let http = traces().version(http::Version::HTTP_2);
    let refused = doors.send(http, untouchable()).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "4"));
    assert!(
        refused.text().contains("spans_per_second = 1") && refused.text().contains("tenant 0"),
        "{}",
        refused.text()
    );

    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let grpc = post(path).header("content-type", "application/grpc").version(http::Version::HTTP_2);
    let refused = doors.send(grpc, untouchable()).await;
    assert_eq!(refused.header("grpc-status"), "8");
    assert!(!refused.header("grpc-status-details-bin").is_empty(), "RetryInfo");
    assert!(doors.own_metrics().contains("ingest_turned_away_requests_total{limit=\"spans_per_second\"} 2"));

    let metrics = post("/api/v1/import/prometheus");
    assert_eq!(doors.send(metrics, line("other", 1)).await.status, StatusCode::NO_CONTENT, "samples are not spans");
}

#[tokio::test]
async fn an_import_beyond_its_rate_says_how_far_it_came() {
    let doors = doors(json!({"samples_per_second": 1, "burst": "1s"}));
    let block = Bytes::from(line("x", 12_000));
    let body = Body::from_stream(futures::stream::iter((0..40).map(move |_| Ok::<_, std::io::Error>(block.clone()))));
    let refused = doors.send(post("/api/v1/import/prometheus"), body).await;
    assert_eq!(refused.status.as_u16(), 429, "{}", refused.text());
    assert!(refused.text().contains("samples before are stored"), "{}", refused.text());
}

#[tokio::test]
async fn a_tenant_may_have_smaller_bodies_than_the_server() {
    let doors = doors(json!({"body_max": "1KiB"}));
    let traces = || post("/v1/traces").header("content-type", "application/x-protobuf");
    let ids: Vec<u8> = (1..=100).collect();
    let large = spans(&ids).encode_to_vec();
    let zipped = zstd::encode_all(&large[..], 1).unwrap();
    assert!(large.len() > 1024 && zipped.len() < 1024);
    assert_eq!(doors.send(traces(), large).await.status.as_u16(), 413);
    let refused = doors.send(traces().header("content-encoding", "zstd"), zipped).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (413, ""), "it will never pass");
    assert!(refused.text().contains("1KiB"), "{}", refused.text());
    assert_eq!(doors.send(traces(), spans(&[1]).encode_to_vec()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_tenant_may_have_fewer_and_shorter_labels_than_the_server_allows() {
    let doors = doors(json!({"labels_max": 2, "label_value_bytes_max": 5}));
    let at = 1_700_000_000_000_i64;
    let body = format!("good{{a=\"1\"}} 1 {at}\nmany{{a=\"1\",b=\"2\"}} 2 {at}\nlong{{a=\"123456\"}} 3 {at}\n");
    let answer = doors.send(post("/api/v1/import/prometheus"), body).await;
    assert_eq!(answer.status.as_u16(), 400);
    assert!(answer.text().contains("2 refused") && answer.text().contains("labels_max = 2"), "{}", answer.text());
    assert_eq!(doors.stored("0"), [format!("good{{a=\"1\"}} 1@{at}")]);
}

#[tokio::test]
async fn a_tenant_may_have_smaller_spans_than_the_server_allows() {
    let doors = doors(json!({"span_attributes_max": 0}));
    let mut request = spans(&[1, 2]);
    request.resource_spans[0].scope_spans[0].spans[1]
        .attributes
        .push(opentelemetry_proto::tonic::common::v1::KeyValue::default());
    let traces = post("/v1/traces").header("content-type", "application/x-protobuf");
    let answer = doors.send(traces, request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().contains("span_attributes_max = 0"), "{}", answer.text());
    assert_eq!(doors.spans("0", TRACE), ["span 1"]);
}
