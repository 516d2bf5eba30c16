//! Wrong, broken and hostile input: a clear answer, and the server and its other data live on.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use pharos_testkit::Pharos;
use prost::Message;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use crate::otlp::{now_ms, one_span, push_remote_write, remote_write};

/// One request with its headers.
struct Attempt<'a> {
    path: &'a str,
    content_type: &'a str,
    encoding: Option<&'a str>,
    body: Vec<u8>,
}

async fn send(pharos: &Pharos, attempt: Attempt<'_>) -> (u16, String) {
    let mut request = pharos
        .client()
        .post(pharos.url(attempt.path))
        .bearer_auth(pharos.token())
        .header("content-type", attempt.content_type);
    if let Some(encoding) = attempt.encoding {
        request = request.header("content-encoding", encoding);
    }
    let answer = request.body(attempt.body).send().await.expect("the connection lives on");
    let status = answer.status().as_u16();
    (status, String::from_utf8_lossy(&answer.bytes().await.expect("the answer is whole")).into_owned())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A good sample and a good span are still taken.
async fn assert_alive(pharos: &Pharos) {
    let message = remote_write("alive", &[], &[(now_ms(), 1.0)]);
    assert_eq!(push_remote_write(pharos, "/api/v1/write", message).await.0, 204);
    let span = one_span("alive", 1, 1_000).encode_to_vec();
    let attempt = Attempt { path: "/v1/traces", content_type: "application/x-protobuf", encoding: None, body: span };
    assert_eq!(send(pharos, attempt).await.0, 200);
}

#[tokio::test]
async fn unknown_content_types_and_encodings_are_415() {
    let pharos = Pharos::builder().start().await;
    let protobuf = "application/x-protobuf";
    for (path, content_type, encoding) in [
        ("/v1/traces", "text/plain", None),
        ("/v1/metrics", "application/xml", None),
        ("/v1/traces", protobuf, Some("br")),
        ("/api/v1/write", "application/json", Some("snappy")),
        ("/api/v1/write", protobuf, Some("gzip")),
        ("/api/v1/write", protobuf, Some("deflate")),
        ("/api/v1/write", "application/x-protobuf;proto=some.Other", Some("snappy")),
    ] {
        let (status, answer) = send(&pharos, Attempt { path, content_type, encoding, body: Vec::new() }).await;
        assert_eq!(status, 415, "{path} {content_type} {encoding:?}: {answer}");
    }
    assert_alive(&pharos).await;
}

#[tokio::test]
async fn bodies_cut_short_are_400() {
    let pharos = Pharos::builder().start().await;
    let samples = remote_write("cut", &[("a", &"x".repeat(500))], &[(now_ms(), 1.0)]);
    let snappy = snap::raw::Encoder::new().compress_vec(&samples).unwrap();
    let zstd = zstd::encode_all(&samples[..], 1).unwrap();
    let span = one_span("cut", 2, 1_000).encode_to_vec();
    let zipped = gzip(&span);
    let (protobuf, json) = ("application/x-protobuf", "application/json");
    for (path, content_type, encoding, body) in [
        ("/api/v1/write", protobuf, Some("snappy"), snappy[..snappy.len() / 2].to_vec()),
        ("/api/v1/write", protobuf, Some("zstd"), zstd[..zstd.len() / 2].to_vec()),
        ("/api/v1/write", protobuf, None, samples[..samples.len() / 2].to_vec()),
        ("/v1/traces", protobuf, Some("gzip"), zipped[..zipped.len() / 2].to_vec()),
        ("/v1/traces", protobuf, None, span[..span.len() / 2].to_vec()),
        ("/v1/traces", json, None, br#"{"resourceSpans":[{"scopeSpans":"#.to_vec()),
        ("/v1/metrics", json, None, b"nonsense".to_vec()),
        ("/v1/metrics", protobuf, None, vec![0xff; 64]),
    ] {
        let (status, answer) = send(&pharos, Attempt { path, content_type, encoding, body }).await;
        assert_eq!(status, 400, "{path} {content_type} {encoding:?}: {answer}");
    }
    assert_eq!(pharos.query("cut", now_ms() as f64 / 1_000.0).await.as_array().map(Vec::len), Some(0));
    assert_alive(&pharos).await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_413_counted_while_inflating() {
    let pharos = Pharos::builder().option("--ingest-limits-body-max", "1MiB").start().await;
    let zeros = vec![0_u8; 8 << 20];
    let (protobuf, small) = ("application/x-protobuf", 100 << 10);
    for (path, encoding, body) in [
        ("/v1/traces", Some("gzip"), gzip(&zeros)),
        ("/v1/metrics", Some("zstd"), zstd::encode_all(&zeros[..], 1).unwrap()),
        ("/api/v1/write", Some("snappy"), snap::raw::Encoder::new().compress_vec(&zeros).unwrap()),
        ("/api/v1/write", Some("zstd"), zstd::encode_all(&zeros[..], 1).unwrap()),
        ("/api/v1/write", None, zeros.clone()),
    ] {
        assert!(encoding.is_none() || body.len() < 5 * small, "the body itself is small");
        let (status, answer) = send(&pharos, Attempt { path, content_type: protobuf, encoding, body }).await;
        assert_eq!(status, 413, "{path} {encoding:?}: {answer}");
        assert!(answer.contains("1MiB") || answer.contains("1048576"), "the limit is named: {answer}");
    }
    assert_alive(&pharos).await;
}

#[tokio::test]
async fn grpc_refusals_have_their_codes() {
    let pharos = Pharos::builder().option("--ingest-limits-body-max", "1MiB").start().await;
    let endpoint = format!("http://{}", pharos.otlp_grpc_address());
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    let mut client = TraceServiceClient::new(channel);
    let anonymous = client.export(one_span("shop", 3, 1_000)).await.unwrap_err();
    assert_eq!(anonymous.code(), Code::Unauthenticated);
    let authorized = |message: ExportTraceServiceRequest| {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", pharos.token());
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        request
    };
    let mut large = one_span("shop", 3, 1_000);
    large.resource_spans[0].scope_spans[0].spans[0].name = "x".repeat(2 << 20);
    let refused = client.export(authorized(large)).await.unwrap_err();
    assert!(matches!(refused.code(), Code::ResourceExhausted | Code::OutOfRange), "{refused}");
    client.export(authorized(one_span("shop", 3, 1_000))).await.unwrap();
}

#[tokio::test]
async fn samples_too_old_or_too_new_are_told_and_the_rest_is_kept() {
    let pharos = Pharos::builder().option("--retention-metrics", "1d").start().await;
    let now = now_ms();
    let samples = [(now - 3 * 86_400_000, 1.0), (now - 1_000, 2.0), (now + 3_600_000, 3.0)];
    let message = remote_write("mixed", &[], &samples);
    let (status, answer) = push_remote_write(&pharos, "/api/v1/write", message).await;
    assert_eq!(status, 400, "a sender that is told 400 drops the batch instead of repeating it: {answer}");
    assert!(answer.contains("retention") || answer.contains("old"), "{answer}");
    assert_eq!(pharos.query("mixed", now as f64 / 1_000.0).await[0]["value"][1], "2");
    assert_eq!(
        pharos.query("count_over_time(mixed[10d])", (now + 7_200_000) as f64 / 1_000.0).await[0]["value"][1],
        "1"
    );

    let spans = ExportTraceServiceRequest {
        resource_spans: [one_span("s", 4, 1_000), one_span("s", 5, 30 * 86_400_000), one_span("s", 6, -3_600_000)]
            .into_iter()
            .flat_map(|message| message.resource_spans)
            .collect(),
    };
    let body = spans.encode_to_vec();
    let attempt = Attempt { path: "/v1/traces", content_type: "application/x-protobuf", encoding: None, body };
    let (status, _) = send(&pharos, attempt).await;
    assert_eq!(status, 200);
    assert_eq!(pharos.get(&format!("/api/traces/{}", "04".repeat(16))).await.0, 200);
    assert_eq!(pharos.get(&format!("/api/traces/{}", "05".repeat(16))).await.0, 404);
}

#[tokio::test]
async fn partial_success_counts_what_was_refused() {
    let pharos = Pharos::builder().start().await;
    let now_ns = now_ms() * 1_000_000;
    let point = |offset_s: i64| serde_json::json!({"asDouble": 1.0, "timeUnixNano": (now_ns + offset_s * 1_000_000_000).to_string()});
    let metric =
        |name: &str, offset_s: i64| serde_json::json!({"name": name, "gauge": {"dataPoints": [point(offset_s)]}});
    let body = serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        metric("good", 0), metric("future", 3_600), metric("", 0)]}]}]});
    let (status, answer) = pharos.post("/v1/metrics", "application/json", body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let refused = &answer["partialSuccess"]["rejectedDataPoints"];
    assert_eq!(refused.as_str().map_or_else(|| refused.as_i64(), |text| text.parse().ok()), Some(2), "{answer}");
    assert!(answer["partialSuccess"]["errorMessage"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    assert_eq!(pharos.query("good", now_ms() as f64 / 1_000.0).await[0]["value"][1], "1");
}

#[tokio::test]
async fn logs_are_refused_in_words() {
    let pharos = Pharos::builder().start().await;
    let (status, answer) = pharos.post("/v1/logs", "application/json", "{}").await;
    assert!((400..=501).contains(&status) && answer.to_string().contains("not supported"), "{status} {answer}");
}

#[tokio::test]
async fn label_rules_are_told_and_the_rest_is_kept() {
    let pharos = Pharos::builder().start().await;
    let many: Vec<(String, String)> = (0..200).map(|n| (format!("l{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let long = "v".repeat(100_000);
    // Two messages joined are one message with the series of both.
    let mut body = remote_write("too_many", &many, &[(now_ms(), 1.0)]);
    body.extend(remote_write("too_long", &[("a", &long)], &[(now_ms(), 1.0)]));
    body.extend(remote_write("good", &[("a", "1")], &[(now_ms(), 1.0)]));
    let (status, answer) = push_remote_write(&pharos, "/api/v1/write", body).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("label"), "{answer}");
    let names = pharos.get("/api/v1/label/__name__/values").await.1;
    assert_eq!(names["data"], serde_json::json!(["good"]));
}
