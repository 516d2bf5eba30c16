//! The monitor from outside, over HTTP and gRPC, on metrics of two kinds: as Pharos makes them and as a collector does.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use pharos_gateway::Principal;
use pharos_model::{
    BatchBuilder, BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, LabelsBuilder, Sample, SpanBatch, TenantId,
};
use pharos_promql::{Engine, EngineSettings};
use pharos_proto::jaeger::metrics as pb;
use pharos_proto::jaeger::metrics::metrics_query_service_client::MetricsQueryServiceClient;
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};
use prost_types::Duration;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt;

use crate::grpc_tests::Server;
use crate::tests::{NOW_MS, api_over};
use crate::{JaegerApi, MonitorSettings, Settings, router};

const MINUTE_MS: i64 = 60_000;

/// Twenty minutes of a shop with native durations (10 calls a minute, 1 of them failing, 5 of 2 ms and 5 of 4 ms) and of a
/// bank with classic ones (6 calls a minute, none failing), which a collector sent.
fn store() -> Arc<dyn MetricStore> {
    let (mut batch, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    let minutes = || (0..=20).map(|minute| (NOW_MS - (20 - minute) * MINUTE_MS, minute as f64));
    let mut series = |batch: &mut BatchBuilder, metric: &str, more: &[(&str, &str)]| {
        labels.push("__name__", metric);
        labels.push("span_kind", "SPAN_KIND_SERVER");
        for (name, value) in more {
            labels.push(name, value);
        }
        batch.finish_series(&mut labels).unwrap();
    };
    let calls = "traces_span_metrics_calls_total";
    for (service, status, by_minute) in
        [("shop", "STATUS_CODE_UNSET", 9.0), ("shop", "STATUS_CODE_ERROR", 1.0), ("bank", "STATUS_CODE_UNSET", 6.0)]
    {
        minutes().for_each(|(at, n)| batch.push_sample(Sample { timestamp_ms: at, value: n * by_minute }, 0));
        series(&mut batch, calls, &[("service_name", service), ("span_name", "GET /"), ("status_code", status)]);
    }
    let duration = "traces_span_metrics_duration_milliseconds";
    for (at, n) in minutes() {
        let positive = BucketSide { spans: vec![BucketSpan { offset: 0, length: 2 }], counts: vec![5.0 * n, 5.0 * n] };
        let histogram = Histogram {
            count: 10.0 * n,
            sum: 30.0 * n,
            positive,
            custom_bounds: vec![2.0, 4.0],
            ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
        };
        batch.push_histogram(at, histogram, 0);
    }
    series(
        &mut batch,
        duration,
        &[("service_name", "shop"), ("span_name", "GET /"), ("status_code", "STATUS_CODE_UNSET")],
    );
    for (le, by_minute) in [("10", 3.0), ("20", 6.0), ("+Inf", 6.0)] {
        minutes().for_each(|(at, n)| batch.push_sample(Sample { timestamp_ms: at, value: n * by_minute }, 0));
        series(
            &mut batch,
            &format!("{duration}_bucket"),
            &[("service_name", "bank"), ("span_name", "GET /"), ("le", le)],
        );
    }
    let store = MemoryMetricStore::new();
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    Arc::new(store)
}

fn api() -> JaegerApi {
    let engine = Engine::new(store(), EngineSettings::default());
    JaegerApi { monitor: Some(engine), ..api_over(SpanBatch::default()) }
}

async fn get(api: JaegerApi, path: &str) -> (StatusCode, Value) {
    let router = router(api).layer(axum::Extension(Principal::anonymous()));
    let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 24).await.unwrap());
    (status, serde_json::from_slice(&body).unwrap())
}

/// One point, five minutes of rate.
const AT_ONE_INSTANT: &str = "lookback=0&step=60000&ratePer=300000";

async fn points(path: &str) -> Vec<(String, f64)> {
    let (status, body) = get(api(), &format!("/api/metrics/{path}&{AT_ONE_INSTANT}")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let metrics = body["metrics"].as_array().unwrap().iter();
    let told = metrics.map(|metric| {
        let value = metric["metricPoints"][0]["gaugeValue"]["doubleValue"].as_f64().unwrap();
        (
            metric["labels"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| l["value"].as_str().unwrap())
                .collect::<Vec<_>>()
                .join("/"),
            value,
        )
    });
    told.collect()
}

#[tokio::test]
async fn the_answer_is_a_metric_family_as_jaegers_ui_reads_it() {
    let path = format!("/api/metrics/calls?service=shop&groupByOperation=true&{AT_ONE_INSTANT}");
    let (status, body) = get(api(), &path).await;
    assert_eq!(status, StatusCode::OK);
    let point = json!({"gaugeValue": {"doubleValue": 10.0 / 60.0}, "timestamp": "2023-11-14T22:13:20Z"});
    let labels = json!([{"name": "operation", "value": "GET /"}, {"name": "service_name", "value": "shop"}]);
    let expected = json!({
        "name": "service_operation_call_rate",
        "type": "GAUGE",
        "help": "calls/sec, grouped by service & operation",
        "metrics": [{"labels": labels, "metricPoints": [point]}],
    });
    assert_eq!(body, expected);
    let (_, body) =
        get(api(), "/jaeger/api/metrics/calls?service=shop&lookback=600000&step=500&endTs=1700000000500").await;
    let points = body["metrics"][0]["metricPoints"].as_array().unwrap();
    assert_eq!((points.len(), &points[1200]["timestamp"]), (1201, &json!("2023-11-14T22:13:20.500Z")));
}

#[tokio::test]
async fn rates_and_quantiles_are_those_of_the_stored_metrics() {
    let near = |found: Vec<(String, f64)>, expected: &[(&str, f64)]| {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((service, value), (name, wanted)) in found.iter().zip(expected) {
            assert!(service == name && (value - wanted).abs() < 1e-9, "{found:?}, not {expected:?}");
        }
    };
    near(points("calls?service=shop&service=bank").await, &[("bank", 0.1), ("shop", 10.0 / 60.0)]);
    near(points("calls?service=shop,bank").await, &[("bank", 0.1), ("shop", 10.0 / 60.0)]);
    near(points("calls?service=sho.").await, &[]);
    near(points("calls?service=shop&spanKind=client").await, &[]);
    near(points("calls?service=shop&spanKind=client&spanKind=server").await, &[("shop", 10.0 / 60.0)]);
    // Nobody asked the bank in vain: a zero, not nothing.
    near(points("errors?service=shop&service=bank").await, &[("bank", 0.0), ("shop", 0.1)]);
    near(points("errors?service=nobody").await, &[]);
    // Native and classic durations side by side.
    near(points("latencies?quantile=0.5&service=shop&service=bank").await, &[("bank", 10.0), ("shop", 2.0)]);
    near(points("latencies?quantile=0.75&service=shop").await, &[("shop", 3.0)]);
    near(points("latencies?quantile=1&service=bank&groupByOperation=true").await, &[("GET //bank", 20.0)]);
}

#[tokio::test]
async fn mistakes_are_told_and_a_monitor_that_is_off_is_not_implemented() {
    for (path, words) in [
        ("calls", "unable to parse param 'service': please provide at least one service name"),
        ("calls?service=", "please provide at least one service name"),
        ("latencies?service=a", "unable to parse param 'quantile'"),
        ("latencies?service=a&quantile=1.5", "unable to parse param 'quantile'"),
        ("calls?service=a&step=0", "unable to parse param 'step': 0 is below 1"),
        ("calls?service=a&lookback=x", "unable to parse param 'lookback'"),
        ("calls?service=a&spanKind=x", "unsupported span kind: 'x'"),
        ("calls?service=a&groupByOperation=x", "unable to parse param 'groupByOperation'"),
        ("calls?service=a&step=1&lookback=100000000000", "steps, more than the limit"),
    ] {
        let (status, body) = get(api(), &format!("/api/metrics/{path}")).await;
        let message = body["errors"][0]["msg"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && message.contains(words), "{path}: {status} {message}");
    }
    let (status, body) = get(api_over(SpanBatch::default()), "/api/metrics/calls?service=a").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(body["errors"][0]["msg"], "metrics querying is currently disabled");
    let server = Server::with(SpanBatch::default()).await;
    let mut off = MetricsQueryServiceClient::new(server.channel.clone());
    let refused = off.get_call_rates(pb::GetCallRatesRequest::default());
    assert_eq!(refused.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn other_names_of_metrics_can_be_set() {
    let monitor = MonitorSettings { namespace: String::new(), normalize_calls: false, ..MonitorSettings::default() };
    assert_eq!(
        (monitor.calls_name(), monitor.duration_name()),
        ("calls".to_owned(), "duration_milliseconds".to_owned())
    );
    let settings = Settings { monitor, ..Settings::default() };
    let (_, body) = get(JaegerApi { settings: settings.into(), ..api() }, "/api/metrics/calls?service=shop").await;
    assert_eq!(body["metrics"], json!([]));
    let wrong = MonitorSettings { namespace: "a-b".to_owned(), ..MonitorSettings::default() };
    assert!(wrong.check().unwrap_err().starts_with("monitor.namespace"));
}

#[tokio::test]
async fn grpc_answers_the_same() {
    let server = Server::start(api(), Some(Principal::anonymous())).await;
    let mut client = MetricsQueryServiceClient::new(server.channel.clone());
    let base = || pb::MetricsQueryBaseRequest {
        service_names: vec!["shop".to_owned()],
        lookback: Some(Duration::default()),
        rate_per: Some(Duration { seconds: 300, nanos: 0 }),
        ..pb::MetricsQueryBaseRequest::default()
    };
    let latencies = pb::GetLatenciesRequest { base_request: Some(base()), quantile: 0.5 };
    let family = client.get_latencies(latencies).await.unwrap().into_inner().metrics.unwrap();
    assert_eq!(
        (family.name.as_str(), family.help.as_str()),
        ("service_latencies", "0.50th quantile latency, grouped by service")
    );
    let point = &family.metrics[0].metric_points[0];
    let value = pb::gauge_value::Value::DoubleValue(2.0);
    let gauge = pb::metric_point::Value::GaugeValue(pb::GaugeValue { value: Some(value) });
    assert_eq!((point.timestamp.unwrap().seconds, point.value), (NOW_MS / 1_000, Some(gauge)));

    let errors = pb::GetErrorRatesRequest { base_request: Some(base()) };
    let family = client.get_error_rates(errors).await.unwrap().into_inner().metrics.unwrap();
    assert_eq!((family.name.as_str(), family.metrics.len()), ("service_error_rate", 1));
    let client_side = pb::MetricsQueryBaseRequest { span_kinds: vec![pb::SpanKind::Client.into()], ..base() };
    let calls = pb::GetCallRatesRequest { base_request: Some(client_side) };
    assert!(client.get_call_rates(calls).await.unwrap().into_inner().metrics.unwrap().metrics.is_empty());
    let refused = client.get_call_rates(pb::GetCallRatesRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "please provide at least one service name")
    );
    let step = client.get_min_step_duration(pb::GetMinStepDurationRequest {}).await.unwrap().into_inner().min_step;
    assert_eq!(step.unwrap().nanos, 1_000_000);
}
