//! The requests of Grafana's Prometheus and Jaeger datasources, replayed as they are sent.
//!
//! Answers are compared with golden files after what differs from run to run (times, versions) is replaced.

use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use pharos_testkit::{Pharos, assert_golden};
use prost::Message;
use serde_json::Value;

use crate::otlp::{now_ms, one_span, push_remote_write, remote_write};

/// Data around a base time that is a whole minute, so that offsets from it are stable.
struct Fixture {
    pharos: Pharos,
    base_ms: i64,
}

async fn fixture() -> Fixture {
    let pharos = Pharos::builder().start().await;
    let base_ms = (now_ms() - 600_000) / 60_000 * 60_000;
    for (job, factor) in [("api", 1.0), ("web", 2.0)] {
        let samples: Vec<_> = (0..20).map(|step| (base_ms - 300_000 + step * 15_000, step as f64 * factor)).collect();
        let message = remote_write("http_requests_total", &[("job", job), ("instance", "a:1")], &samples);
        assert_eq!(push_remote_write(&pharos, "/api/v1/write", message).await.0, 204);
    }
    let body = checkout(base_ms).encode_to_vec();
    let (status, _) = pharos.post("/v1/traces", "application/x-protobuf", body).await;
    assert_eq!(status, 200);
    Fixture { pharos, base_ms }
}

/// A trace of two services, with an error.
fn checkout(base_ms: i64) -> ExportTraceServiceRequest {
    let start = u64::try_from(base_ms).unwrap() * 1_000_000;
    let mut root = one_span("shop", 0xaa, 0);
    let mut child = one_span("payment", 0xaa, 0);
    let text = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    };
    root.resource_spans[0].scope_spans[0].spans = vec![Span {
        trace_id: vec![0xaa; 16],
        span_id: vec![1; 8],
        name: "POST /checkout".to_owned(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 250_000_000,
        attributes: vec![text("http.request.method", "POST")],
        ..Span::default()
    }];
    child.resource_spans[0].scope_spans[0].spans = vec![Span {
        trace_id: vec![0xaa; 16],
        span_id: vec![2; 8],
        parent_span_id: vec![1; 8],
        name: "charge".to_owned(),
        kind: 3,
        start_time_unix_nano: start + 10_000_000,
        end_time_unix_nano: start + 200_000_000,
        status: Some(Status { code: StatusCode::Error as i32, message: "declined".to_owned() }),
        ..Span::default()
    }];
    root.resource_spans.extend(child.resource_spans);
    root
}

impl Fixture {
    /// Replaces times by their distance from the base: in whole seconds, milliseconds or microseconds.
    fn stable(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.stable(item)).collect(),
            Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), self.stable(value))).collect(),
            Value::Number(number) => {
                let Some(float) = number.as_f64() else { return value.clone() };
                for (unit, name) in [(1e-3, "s"), (1.0, "ms"), (1e3, "us")] {
                    let distance = float - self.base_ms as f64 * unit;
                    if distance.abs() < 1_200_000.0 * unit {
                        return Value::String(format!("base{distance:+}{name}"));
                    }
                }
                value.clone()
            }
            other => other.clone(),
        }
    }

    fn compare(&self, name: &str, status: u16, answer: &Value) {
        let text = serde_json::to_string_pretty(&self.stable(answer)).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/grafana/{name}.json"));
        assert_golden(&path, &format!("HTTP {status}\n{text}\n"));
    }

    /// As Grafana's backend sends queries: a form by POST.
    async fn form(&self, name: &str, path: &str, form: &str) {
        let (status, answer) = self.pharos.post(path, "application/x-www-form-urlencoded", form.to_owned()).await;
        self.compare(name, status, &answer);
    }

    async fn get(&self, name: &str, path: &str) {
        let (status, answer) = self.pharos.get(path).await;
        self.compare(name, status, &answer);
    }
}

#[tokio::test]
async fn the_prometheus_datasource_gets_what_it_asks_for() {
    let fixture = fixture().await;
    let base_s = fixture.base_ms / 1_000;
    let (start, end) = (base_s - 300, base_s);
    fixture.form("prometheus-health", "/api/v1/query", &format!("query=1%2B1&time={base_s}")).await;
    let build = fixture.pharos.get("/api/v1/status/buildinfo").await.1;
    assert!(build["data"]["version"].as_str().is_some_and(|version| version.starts_with("3.")), "{build}");
    assert!(build["data"].get("features").is_none(), "a server with features is taken for Mimir");
    fixture.get("prometheus-rules", "/api/v1/rules").await;
    let probe = format!("/api/v1/query_exemplars?query=test&start={}&end={}", start * 1_000, end * 1_000);
    fixture.get("prometheus-exemplar-probe-in-ms", &probe).await;
    fixture.get("prometheus-labels", &format!("/api/v1/labels?start={start}&end={end}&limit=40000")).await;
    let matched = "match%5B%5D=http_requests_total%7Bjob%3D%22api%22%7D";
    fixture.get("prometheus-labels-matched", &format!("/api/v1/labels?{matched}&start={start}&end={end}")).await;
    let values = format!("/api/v1/label/__name__/values?start={start}&end={end}&limit=40000");
    fixture.get("prometheus-metric-names", &values).await;
    let everything = "match%5B%5D=%7B__name__%21%3D%22%22%7D";
    fixture.get("prometheus-series", &format!("/api/v1/series?{everything}&start={start}&end={end}&limit=40000")).await;
    let query = "query=sum+by+%28job%29+%28rate%28http_requests_total%5B1m%5D%29%29";
    fixture.form("prometheus-range", "/api/v1/query_range", &format!("{query}&start={start}&end={end}&step=60")).await;
    fixture.form("prometheus-instant", "/api/v1/query", &format!("query=http_requests_total&time={end}")).await;
    fixture.form("prometheus-error", "/api/v1/query", &format!("query=sum%28&time={end}")).await;
    fixture.get("prometheus-metadata", "/api/v1/metadata?limit=1000").await;
}

#[tokio::test]
async fn the_jaeger_datasource_gets_what_it_asks_for() {
    let fixture = fixture().await;
    fixture.get("jaeger-services", "/api/services").await;
    fixture.get("jaeger-operations", "/api/services/shop/operations").await;
    let (start_us, end_us) = ((fixture.base_ms - 60_000) * 1_000, (fixture.base_ms + 60_000) * 1_000);
    let window = format!("start={start_us}&end={end_us}&limit=20");
    fixture
        .get(
            "jaeger-search",
            &format!("/api/traces?service=shop&operation=POST%20%2Fcheckout&minDuration=100ms&{window}"),
        )
        .await;
    let tags = "tags=%7B%22error%22%3A%22true%22%7D";
    fixture.get("jaeger-search-tags", &format!("/api/traces?service=payment&{tags}&{window}")).await;
    let id = "aa".repeat(16);
    fixture.get("jaeger-trace", &format!("/api/traces/{id}")).await;
    let (start_ms, end_ms) = (fixture.base_ms - 60_000, fixture.base_ms + 60_000);
    fixture.get("jaeger-trace-in-ms", &format!("/api/traces/{id}?start={start_ms}&end={end_ms}")).await;
    fixture.get("jaeger-trace-absent", &format!("/api/traces/{}", "bb".repeat(16))).await;
    let end_ms = fixture.base_ms + 120_000;
    fixture.get("jaeger-dependencies", &format!("/api/dependencies?endTs={end_ms}&lookback=3600000")).await;
}

#[tokio::test]
async fn the_jaeger_datasource_gets_its_answers_packed_as_it_accepts_them() {
    let fixture = fixture().await;
    // One that leaves answers packed.
    let client = reqwest::Client::builder().no_gzip().build().unwrap();
    let url = fixture.pharos.url(&format!("/api/traces/{}", "aa".repeat(16)));
    // The datasource reads gzip, deflate and br; what it does not name it must not get.
    for (accepted, expected) in [("gzip, deflate, br", Some("gzip")), ("deflate", Some("deflate")), ("br", None)] {
        let request = client.get(&url).bearer_auth(fixture.pharos.token()).header("accept-encoding", accepted);
        let answer = request.send().await.unwrap();
        let coding = answer.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), coding.as_deref()), (200, expected), "{accepted}");
        let body = answer.bytes().await.unwrap();
        let body = match expected {
            Some("gzip") => unpacked(flate2::read::GzDecoder::new(&*body)),
            Some(_) => unpacked(flate2::read::ZlibDecoder::new(&*body)),
            None => body.to_vec(),
        };
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["data"][0]["spans"].as_array().unwrap().len(), 2, "{accepted}");
    }
}

fn unpacked(mut reader: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}
