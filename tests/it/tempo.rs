//! Grafana's Tempo datasource against the real binary, behind tokens: what it sends, and the questions of its service graph.
//! Also what every gRPC port tells about itself.

use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use pharos_proto::health::v1::HealthCheckRequest;
use pharos_proto::health::v1::health_check_response::ServingStatus;
use pharos_proto::health::v1::health_client::HealthClient;
use pharos_testkit::Pharos;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Endpoint;

use crate::otlp::now_ms;
use crate::span_metrics::{send, wait_for};

/// The parts of `tempopb.TraceByIDResponse` that Grafana reads.
#[derive(Clone, PartialEq, Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(int32, tag = "3")]
    status: i32,
}

/// A server with traces and a datasource that may read traces alone.
struct Datasource {
    pharos: Pharos,
    token: String,
}

impl Datasource {
    async fn start() -> Self {
        let pharos = Pharos::builder().option("--span-metrics-flush-interval", "1s").start().await;
        let token = pharos.new_token("grafana", "traces:read", "0");
        crate::tokens::wait_for(&pharos, &token, "/tempo/api/echo", 200).await;
        send(&pharos).await;
        Self { pharos, token }
    }

    async fn ask(&self, path: &str, accept: &str) -> (u16, String, Vec<u8>) {
        let request = self.pharos.client().get(self.pharos.url(&format!("/tempo{path}")));
        let answer = request.bearer_auth(&self.token).header("accept", accept).send().await.unwrap();
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), content_type, answer.bytes().await.unwrap().to_vec())
    }

    async fn json(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params("http://any", params).unwrap();
        let path = format!("{path}?{}", url.query().unwrap_or_default());
        let (status, content_type, body) = self.ask(&path, "application/json").await;
        assert_eq!((status, &*content_type), (200, "application/json"), "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

fn spans_of(trace: &TracesData) -> Vec<&Span> {
    trace.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|scope| &scope.spans).collect()
}

#[tokio::test]
async fn grafanas_tempo_datasource_works_behind_a_token() {
    let tempo = Datasource::start().await;
    let (from, to) = ((now_ms() / 1_000 - 600).to_string(), (now_ms() / 1_000 + 1).to_string());
    let range = [("start", from.as_str()), ("end", to.as_str())];

    // "Save and test"; without a token there is nothing.
    assert_eq!(tempo.ask("/api/echo", "*/*").await.2, b"echo");
    assert!(tempo.json("/api/status/buildinfo", &[]).await["version"].is_string());
    let url = tempo.pharos.url("/tempo/api/search");
    assert_eq!(tempo.pharos.client().get(url).send().await.unwrap().status(), 401);

    // The query builder: scopes and names, then values for what is chosen, narrowed by what is there already.
    let scopes = tempo.json("/api/v2/search/tags", &[&range[..], &[("limit", "5000")]].concat()).await;
    let scope = |name: &str| {
        let found = scopes["scopes"].as_array().unwrap().iter().find(|scope| scope["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {scopes}"))["tags"].clone()
    };
    assert_eq!(scope("resource"), json!(["service.name"]));
    assert_eq!(scope("span"), json!(["db.name", "db.system", "exception.type"]));
    let flat = tempo.json("/api/search/tags", &range).await;
    assert!(flat["tagNames"].as_array().unwrap().contains(&json!("db.system")), "{flat}");
    let values = async |tag: &str, q: &str| {
        let q = [("q", q)];
        let params = [&range[..], if q[0].1.is_empty() { &[] } else { &q }].concat();
        tempo.json(&format!("/api/v2/search/tag/{tag}/values"), &params).await["tagValues"].clone()
    };
    let text = |value: &str| json!({"type": "string", "value": value});
    assert_eq!(values("resource.service.name", "").await, json!([text("shop"), text("web")]));
    let db = r#"{span.db.system="postgresql"}"#;
    assert_eq!(values("resource.service.name", db).await, json!([text("shop")]));
    assert_eq!(values("span.db.name", "{}").await, json!([text("orders")]));
    assert_eq!(values("name", "").await, json!([text("POST /orders")]));
    let flat = tempo.json("/api/search/tag/db.name/values", &range).await;
    assert_eq!(flat["tagValues"], json!(["orders"]));

    // A search, then a trace of it.
    let q = r#"{resource.service.name="shop" && status=error} | select(span.exception.type)"#;
    let params = [&range[..], &[("q", q), ("limit", "3"), ("spss", "3")]].concat();
    let found = tempo.json("/api/search", &params).await;
    let traces = found["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 3, "{found}");
    let first = &traces[0];
    assert_eq!((&first["rootServiceName"], &first["rootTraceName"]), (&json!("web"), &json!("POST /orders")));
    let span = &first["spanSets"][0]["spans"][0];
    assert!(span["attributes"].to_string().contains("OutOfStock"), "{span}");
    let id = first["traceID"].as_str().unwrap();

    let protobuf = "application/protobuf";
    let (status, content_type, body) = tempo.ask(&format!("/api/v2/traces/{id}"), protobuf).await;
    assert_eq!((status, &*content_type), (200, protobuf));
    let answer = TraceByIdResponse::decode(&body[..]).unwrap();
    let trace = answer.trace.unwrap();
    assert_eq!((answer.status, spans_of(&trace).len()), (0, 4));
    assert!(spans_of(&trace).iter().all(|span| hex::encode(&span.trace_id) == id));
    let path = format!("/api/traces/{id}?start={from}&end={to}");
    assert_eq!(TracesData::decode(&tempo.ask(&path, protobuf).await.2[..]).unwrap(), trace);
    let v2 = tempo.json(&format!("/api/v2/traces/{id}"), &[]).await["trace"]["resourceSpans"].clone();
    assert_eq!(tempo.json(&format!("/api/traces/{id}"), &[]).await["batches"], v2);
    assert_eq!(v2.as_array().unwrap().len(), trace.resource_spans.len());
    for version in ["", "v2/"] {
        assert_eq!(tempo.ask(&format!("/api/{version}traces/1234"), protobuf).await.0, 404);
    }
}

/// Grafana asks these of the Prometheus datasource that the Tempo datasource names.
#[tokio::test]
async fn the_service_graph_of_the_datasource_is_there() {
    let tempo = Datasource::start().await;
    let pharos = &tempo.pharos;
    wait_for(pharos, "sum(traces_spanmetrics_calls_total)", 40.0).await;
    let between = |series: &Value| {
        let name = |label: &str| series["metric"][label].as_str().unwrap_or_default().to_owned();
        (name("client"), name("server"))
    };
    let (web, shop) = ("web".to_owned(), "shop".to_owned());
    for metric in [
        "sum by (client, server, connection_type) (rate(traces_service_graph_request_server_seconds_sum[1h]))",
        "sum by (client, server, connection_type) (rate(traces_service_graph_request_total[1h]))",
        "sum by (client, server, connection_type) (rate(traces_service_graph_request_failed_total[1h]))",
        "histogram_quantile(0.9, sum by (client, server, le) (rate(traces_service_graph_request_server_seconds_bucket[1h])))",
    ] {
        let answer = pharos.query(metric, now_ms() as f64 / 1_000.0).await;
        let edge = answer.as_array().unwrap().iter().find(|series| between(series) == (web.clone(), shop.clone()));
        let value: f64 =
            edge.unwrap_or_else(|| panic!("{metric}: {answer}"))["value"][1].as_str().unwrap().parse().unwrap();
        assert!(value > 0.0, "{metric}: {answer}");
    }
    for query in [
        r#"topk(5, sum(rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[1h])) by (span_name))"#,
        r#"topk(5, sum(rate(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR",span_name=~"POST /orders"}[1h])) by (span_name))"#,
        r#"histogram_quantile(.9, sum(rate(traces_spanmetrics_latency_bucket{span_name=~"POST /orders"}[1h])) by (le))"#,
    ] {
        let answer = pharos.query(query, now_ms() as f64 / 1_000.0).await;
        let value: f64 = answer[0]["value"][1].as_str().unwrap_or_else(|| panic!("{query}: {answer}")).parse().unwrap();
        assert!(value > 0.0, "{query}: {answer}");
    }
    // The datasource's own token reads no metrics.
    let url = pharos.url("/api/v1/query?query=up");
    assert_eq!(pharos.client().get(url).bearer_auth(&tempo.token).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn every_grpc_port_tells_its_health_without_a_token() {
    let pharos = Pharos::builder().start().await;
    let (traces, jaeger) = ("opentelemetry.proto.collector.trace.v1.TraceService", "jaeger.storage.v2.TraceReader");
    let monitor = "jaeger.api_v2.metrics.MetricsQueryService";
    for (address, there, absent) in [
        (pharos.otlp_grpc_address(), vec!["", "grpc.health.v1.Health", traces], vec![jaeger]),
        (pharos.jaeger_grpc_address(), vec!["", jaeger, monitor], vec![traces]),
        (pharos.main_address(), vec!["", traces, jaeger, monitor], vec!["no.such.Service"]),
    ] {
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel);
        for service in there {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.check(request).await.unwrap_or_else(|error| panic!("{service:?}: {error}"));
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
        }
        for service in absent {
            let request = HealthCheckRequest { service: service.to_owned() };
            assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound, "{service:?}");
        }
        let watched = health.watch(HealthCheckRequest::default()).await;
        assert_eq!(watched.unwrap_err().code(), Code::Unimplemented);
    }
}
