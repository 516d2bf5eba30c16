//! Spans in over OTLP, rates, quantiles, exemplars and the graph of services out over PromQL.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use pharos_testkit::Pharos;
use prost::Message;
use serde_json::Value;

use crate::otlp::now_ms;

const TRACES: u8 = 10;

fn pair(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn span(trace: u8, id: u8, parent: u8, kind: SpanKind, ms: u64) -> Span {
    let end_time_unix_nano = u64::try_from(now_ms()).unwrap() * 1_000_000;
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: "POST /orders".to_owned(),
        kind: kind.into(),
        start_time_unix_nano: end_time_unix_nano - ms * 1_000_000,
        end_time_unix_nano,
        ..Span::default()
    }
}

fn of_service(service: &str, spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource { attributes: vec![pair("service.name", service)], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// A user calls web, which calls shop, which asks its database; every other time the shop fails.
fn trace(number: u8) -> ExportTraceServiceRequest {
    let mut served = span(number, 3, 2, SpanKind::Server, 100);
    if number.is_multiple_of(2) {
        served.status = Some(Status { code: StatusCode::Error.into(), message: "out of stock".to_owned() });
        served.attributes.push(pair("exception.type", "OutOfStock"));
    }
    let mut asks = span(number, 4, 3, SpanKind::Client, 7);
    asks.attributes.extend([pair("db.system", "postgresql"), pair("db.name", "orders")]);
    let web = vec![span(number, 1, 0, SpanKind::Server, 300), span(number, 2, 1, SpanKind::Client, 200)];
    ExportTraceServiceRequest { resource_spans: vec![of_service("web", web), of_service("shop", vec![served, asks])] }
}

pub(crate) async fn send(pharos: &Pharos) -> Vec<ExportTraceServiceRequest> {
    let mut sent = Vec::new();
    for number in 1..=TRACES {
        let request = trace(number);
        let (status, answer) = pharos.post("/v1/traces", "application/x-protobuf", request.encode_to_vec()).await;
        assert_eq!(status, 200, "{answer}");
        sent.push(request);
    }
    sent
}

async fn ask(pharos: &Pharos, query: &str) -> Value {
    pharos.query(query, now_ms() as f64 / 1_000.0).await
}

/// The value of an answer with one series.
async fn value(pharos: &Pharos, query: &str) -> Option<f64> {
    let answer = ask(pharos, query).await;
    assert!(answer.as_array().unwrap().len() <= 1, "{query}: {answer}");
    answer[0]["value"][1].as_str().map(|text| text.parse().unwrap())
}

/// Asks until the answer is this: counts come at the next flush.
pub(crate) async fn wait_for(pharos: &Pharos, query: &str, expected: f64) {
    for _ in 0..100 {
        if value(pharos, query).await == Some(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{query} is {:?}, not {expected}", ask(pharos, query).await);
}

fn builder() -> pharos_testkit::PharosBuilder {
    Pharos::builder().option("--span-metrics-flush-interval", "1s")
}

#[tokio::test]
async fn spans_become_rates_quantiles_exemplars_and_a_graph() {
    let pharos = builder().start().await;
    let sent = send(&pharos).await;
    wait_for(&pharos, "sum(traces_span_metrics_calls_total)", 40.0).await;

    let shop = r#"service="shop",span_kind="SPAN_KIND_SERVER""#;
    let errors = format!(r#"increase(traces_spanmetrics_calls_total{{{shop},status_code="STATUS_CODE_ERROR"}}[5m])"#);
    assert!(value(&pharos, &errors).await.unwrap() >= 5.0, "the first spans of a series are in its rate");
    let share =
        "sum(traces_spanmetrics_calls_total{status_code='STATUS_CODE_ERROR'}) / sum(traces_spanmetrics_calls_total)";
    assert_eq!(value(&pharos, share).await, Some(5.0 / 40.0));
    let quantile = |metric: &str, service: &str| {
        format!(
            "histogram_quantile(0.5, sum by (le) (rate({metric}_bucket{{{service}=\"shop\",span_kind=\"SPAN_KIND_SERVER\"}}[5m])))"
        )
    };
    let ms = value(&pharos, &quantile("traces_span_metrics_duration_milliseconds", "service_name")).await.unwrap();
    let s = value(&pharos, &quantile("traces_spanmetrics_latency", "service")).await.unwrap();
    assert!((64.0..=100.0).contains(&ms) && (ms / 1_000.0 - s).abs() < 1e-9, "{ms} ms, {s} s");

    // Tempo's size is that of the message.
    let spans = sent.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans[0].spans);
    let bytes: usize = spans.map(Message::encoded_len).sum();
    assert_eq!(value(&pharos, "sum(traces_spanmetrics_size_total)").await, Some(bytes as f64));

    let mut edges: Vec<_> = ask(&pharos, "traces_service_graph_request_total").await.as_array().unwrap().clone();
    edges.sort_by_key(|edge| edge["metric"]["server"].to_string());
    let edges: Vec<_> = edges
        .iter()
        .map(|edge| ["client", "server", "connection_type"].map(|name| edge["metric"][name].as_str().unwrap_or("")))
        .collect();
    assert_eq!(edges, [["shop", "orders", "database"], ["web", "shop", ""], ["user", "web", "virtual_node"]]);
    let between = r#"client="web",server="shop""#;
    for (query, expected) in [
        (format!("traces_service_graph_request_total{{{between}}}"), 10.0),
        (format!("traces_service_graph_request_failed_total{{{between}}}"), 5.0),
        (format!("traces_service_graph_request_server_seconds_sum{{{between}}}"), 1.0),
        (format!("traces_service_graph_request_client_seconds_bucket{{{between},le=\"0.1\"}}"), 0.0),
        (format!("traces_service_graph_request_client_seconds_bucket{{{between},le=\"0.2\"}}"), 10.0),
    ] {
        assert_eq!(value(&pharos, &query).await, Some(expected), "{query}");
    }
    exemplars(&pharos, &quantile("traces_spanmetrics_latency", "service")).await;
    let (_, metrics) = pharos.get("/metrics").await;
    for line in
        ["pharos_spanmetrics_spans_total 40", "pharos_spanmetrics_flush_failures_total 0", "pharos_spanmetrics_edges 3"]
    {
        assert!(metrics.as_str().unwrap().contains(line), "{line} is not in\n{metrics}");
    }
}

/// An exemplar of a bucket leads to a trace that the server has.
async fn exemplars(pharos: &Pharos, query: &str) {
    let (start, end) = ((now_ms() / 1_000 - 60).to_string(), (now_ms() / 1_000 + 1).to_string());
    let form = [("query", query), ("start", &start), ("end", &end)];
    let url = reqwest::Url::parse_with_params("http://x/api/v1/query_exemplars", &form).unwrap();
    let (status, answer) = pharos.get(&format!("{}?{}", url.path(), url.query().unwrap())).await;
    assert_eq!(status, 200, "{answer}");
    let series = &answer["data"][0];
    assert_eq!(
        (&series["seriesLabels"]["service"], &series["seriesLabels"]["le"]),
        (&"shop".into(), &"0.1".into()),
        "{answer}"
    );
    let exemplar = &series["exemplars"][0];
    assert_eq!((&exemplar["value"], exemplar["labels"]["span_id"].as_str().unwrap().len()), (&"0.1".into(), 16));
    let trace_id = exemplar["labels"]["trace_id"].as_str().unwrap();
    let (status, trace) = pharos.get(&format!("/api/traces/{trace_id}")).await;
    assert_eq!((status, trace["data"][0]["spans"].as_array().map(Vec::len)), (200, Some(4)), "{trace}");
}

/// An orderly stop brings all counts to the store. After a start, counters begin again: that is a reset, and no call is lost.
#[tokio::test]
async fn counters_survive_a_restart_as_a_reset() {
    let mut pharos = Pharos::builder().option("--span-metrics-flush-interval", "1h").start().await;
    send(&pharos).await;
    assert!(pharos.stop().await.success());
    pharos.restart().await;
    assert_eq!(value(&pharos, "sum(traces_span_metrics_calls_total)").await, Some(40.0));
    send(&pharos).await;
    assert!(pharos.stop().await.success());
    pharos.restart().await;
    assert_eq!(value(&pharos, "sum(traces_spanmetrics_calls_total)").await, Some(40.0));
    assert_eq!(value(&pharos, "max(resets(traces_spanmetrics_calls_total[5m]))").await, Some(1.0));
    assert_eq!(value(&pharos, "max(resets(traces_spanmetrics_latency_bucket{le='+Inf'}[5m]))").await, Some(1.0));
}

#[tokio::test]
async fn each_can_be_turned_off() {
    let pharos = builder().option("--span-metrics-enabled", "false").start().await;
    send(&pharos).await;
    wait_for(&pharos, "sum(traces_service_graph_request_total)", 30.0).await;
    assert_eq!(value(&pharos, "sum(traces_span_metrics_calls_total)").await, None);
}
