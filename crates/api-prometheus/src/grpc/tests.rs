//! The query service from outside: a real client on loopback, over the in-memory store.

use std::collections::BTreeMap;

use pharos_http::{ListenerSettings, bind, serve};
use pharos_model::{BatchBuilder, BucketSide, BucketSpan, Histogram, LabelsBuilder, ResetHint, Sample, TenantId};
use pharos_proto::query::v1::query_service_client::QueryServiceClient;
use pharos_proto::rpc;
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{BatchId, MetricStore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use tower::ServiceExt;

use super::*;
use crate::testing::{NOW_MS, StallingStore, api, many_series, settled};

/// Series whose labels take some 2 KiB each.
const WIDE_SERIES: usize = 900;

struct Server {
    client: QueryServiceClient<Channel>,
    api: PrometheusApi,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn over(store: Arc<dyn MetricStore>, principal: Option<Principal>) -> Self {
        let listener = bind("127.0.0.1:0", "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = api(store);
        let router = grpc_routes(api.clone()).into_axum_router();
        let router = match principal {
            Some(principal) => router.layer(axum::Extension(principal)),
            None => router,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, router, ListenerSettings::default(), CancellationToken::new()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { client: QueryServiceClient::new(channel), api, _tasks: tasks }
    }

    async fn start() -> Self {
        Self::over(store(), Some(Principal::anonymous())).await
    }

    async fn instant(&self, request: pb::QueryInstantRequest) -> Result<Vec<pb::QueryResponse>, Status> {
        all(self.client.clone().query_instant(request).await?.into_inner()).await
    }

    async fn range(&self, request: pb::QueryRangeRequest) -> Result<Vec<pb::QueryResponse>, Status> {
        all(self.client.clone().query_range(request).await?.into_inner()).await
    }
}

async fn all<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// A histogram that uses every field.
fn custom() -> Histogram {
    let spans = vec![BucketSpan { offset: 0, length: 1 }, BucketSpan { offset: 1, length: 1 }];
    let positive = BucketSide { spans, counts: vec![2.0, 3.0] };
    Histogram { count: 5.0, sum: 7.5, custom_bounds: vec![0.5, 1.0], positive, ..Histogram::empty(-53) }
}

fn exponential() -> Histogram {
    let side = |offset, counts: &[f64]| BucketSide {
        spans: vec![BucketSpan { offset, length: counts.len() as u32 }],
        counts: counts.to_vec(),
    };
    Histogram {
        reset_hint: ResetHint::Gauge,
        zero_threshold: 0.001,
        zero_count: 1.0,
        count: 10.0,
        sum: -3.25,
        positive: side(-2, &[1.0, 2.0]),
        negative: side(3, &[6.0]),
        ..Histogram::empty(2)
    }
}

/// A counter and a gauge histogram of 5 samples, a histogram with custom buckets, and many wide series.
fn store() -> Arc<MemoryMetricStore> {
    let store = Arc::new(MemoryMetricStore::new());
    let (mut batch, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
    let mut finish = |batch: &mut BatchBuilder, pairs: &[(&str, &str)]| {
        for (name, value) in pairs {
            labels.push(name, value);
        }
        batch.finish_series(&mut labels).unwrap();
    };
    let times = (0..5).map(|step| NOW_MS - 60_000 + step * 15_000);
    for (step, timestamp_ms) in times.clone().enumerate() {
        batch.push_sample(Sample { timestamp_ms, value: step as f64 }, 0);
    }
    finish(&mut batch, &[("__name__", "requests_total"), ("job", "api")]);
    for timestamp_ms in times {
        batch.push_histogram(timestamp_ms, exponential(), 0);
    }
    finish(&mut batch, &[("__name__", "latency")]);
    batch.push_histogram(NOW_MS, custom(), 0);
    finish(&mut batch, &[("__name__", "sizes")]);
    for index in 0..WIDE_SERIES {
        batch.push_sample(Sample { timestamp_ms: NOW_MS, value: 1.0 }, 0);
        let wide = format!("{index:0>2000}");
        finish(&mut batch, &[("__name__", "wide"), ("text", &wide)]);
    }
    store.append(&TenantId::default(), batch.build(), BatchId::random()).wait().unwrap().unwrap();
    store
}

fn label(name: &str, value: &str) -> pb::Label {
    pb::Label { name: name.to_owned(), value: value.to_owned() }
}

fn instant(query: &str) -> pb::QueryInstantRequest {
    pb::QueryInstantRequest { query: query.to_owned(), ..pb::QueryInstantRequest::default() }
}

fn last_minute(query: &str) -> pb::QueryRangeRequest {
    let (start_unix_ms, end_unix_ms) = (NOW_MS - 60_000, NOW_MS);
    pb::QueryRangeRequest { query: query.to_owned(), start_unix_ms, end_unix_ms, step_ms: 15_000, options: None }
}

#[tokio::test]
async fn a_small_answer_is_one_message() {
    let server = Server::start().await;
    let answer = server.instant(instant("requests_total")).await.unwrap();
    let series = pb::Series {
        labels: vec![label("__name__", "requests_total"), label("job", "api")],
        float_times_unix_ms: vec![NOW_MS],
        float_values: vec![4.0],
        ..pb::Series::default()
    };
    let expected = pb::QueryResponse {
        value_type: pb::ValueType::Vector as i32,
        series: vec![series],
        end: Some(pb::End::default()),
        ..pb::QueryResponse::default()
    };
    assert_eq!(answer, [expected]);
    let answer = server.instant(pb::QueryInstantRequest { time_unix_ms: Some(7), ..instant("1 + 1") }).await.unwrap();
    assert_eq!(answer[0].scalar, Some(pb::Scalar { time_unix_ms: 7, value: 2.0 }));
    let answer = server.instant(instant("\"a text\"")).await.unwrap();
    assert_eq!(answer[0].text, Some(pb::Text { time_unix_ms: NOW_MS, value: "a text".to_owned() }));
    let answer = server.instant(instant("nothing")).await.unwrap();
    assert_eq!((answer.len(), answer[0].value_type(), &answer[0].series[..]), (1, pb::ValueType::Vector, &[][..]));
}

#[tokio::test]
async fn a_range_answers_matrices_and_histograms_whole() {
    let server = Server::start().await;
    let answer = server.range(last_minute("requests_total")).await.unwrap();
    assert_eq!(answer[0].value_type(), pb::ValueType::Matrix);
    assert_eq!(answer[0].series[0].float_values, [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(answer[0].series[0].float_times_unix_ms[4], NOW_MS);
    let answer = server.range(last_minute("latency")).await.unwrap();
    assert_eq!(answer[0].series[0].histograms.len(), 5);
    let span = |offset, length| pb::BucketSpan { offset, length };
    let expected = pb::Histogram {
        time_unix_ms: NOW_MS,
        count: 10.0,
        sum: -3.25,
        schema: 2,
        zero_threshold: 0.001,
        zero_count: 1.0,
        positive_spans: vec![span(-2, 2)],
        positive_counts: vec![1.0, 2.0],
        negative_spans: vec![span(3, 1)],
        negative_counts: vec![6.0],
        custom_bounds: Vec::new(),
        reset_hint: pb::ResetHint::Gauge as i32,
    };
    assert_eq!(answer[0].series[0].histograms[4], expected);
    let answer = server.instant(instant("sizes")).await.unwrap();
    let found = &answer[0].series[0].histograms[0];
    assert_eq!(
        (found.schema, &found.custom_bounds[..], &found.positive_counts[..]),
        (-53, &[0.5, 1.0][..], &[2.0, 3.0][..])
    );
}

#[tokio::test]
async fn annotations_and_statistics_come_at_the_end() {
    let server = Server::start().await;
    let options = pb::QueryOptions { stats: pb::StatsLevel::Total as i32, ..pb::QueryOptions::default() };
    let request = pb::QueryRangeRequest { options: Some(options), ..last_minute("rate(latency[30s])") };
    let end = server.range(request).await.unwrap().pop().unwrap().end.unwrap();
    assert!(end.warnings[0].contains("this native histogram metric is not a counter"), "{:?}", end.warnings);
    let stats = end.stats.unwrap();
    assert_eq!((stats.series_read, stats.samples_read), (1, 5));
    assert!(stats.evaluate_duration.is_some() && stats.samples_queryable_per_step.is_empty());
    let options = pb::QueryOptions { stats: pb::StatsLevel::Steps as i32, ..pb::QueryOptions::default() };
    let request = pb::QueryRangeRequest { options: Some(options), ..last_minute("requests_total") };
    let stats = server.range(request).await.unwrap().pop().unwrap().end.unwrap().stats.unwrap();
    assert_eq!((&stats.samples_queryable_per_step[..], stats.samples_queryable), (&[1; 5][..], 5));
    assert_eq!(stats.samples_read_per_step.iter().sum::<u64>(), 5);
    let limited = pb::QueryOptions { series_max: 2, ..pb::QueryOptions::default() };
    let request = pb::QueryInstantRequest { options: Some(limited), ..instant("wide") };
    let answer = server.instant(request).await.unwrap().pop().unwrap();
    assert_eq!((answer.series.len(), answer.end.unwrap().warnings), (2, vec![TRUNCATED.to_owned()]));
}

#[tokio::test]
async fn large_answers_come_in_messages_that_every_client_takes() {
    let server = Server::start().await;
    let answer = server.instant(instant("wide")).await.unwrap();
    assert!(answer.len() > 1 && answer.iter().all(|message| message.encoded_len() <= 1 << 20));
    assert_eq!(answer.iter().map(|message| message.series.len()).sum::<usize>(), WIDE_SERIES);
    let types: Vec<_> = answer.iter().map(pb::QueryResponse::value_type).collect();
    assert_eq!((types[0], types[1]), (pb::ValueType::Vector, pb::ValueType::Unspecified));
    assert!(answer.split_last().unwrap().1.iter().all(|message| message.end.is_none()));
    let selectors = vec!["wide".to_owned()];
    let request = pb::SeriesRequest { selectors: selectors.clone(), ..pb::SeriesRequest::default() };
    let answer = all(server.client.clone().series(request).await.unwrap().into_inner()).await.unwrap();
    assert!(answer.len() > 1 && answer.last().unwrap().end.is_some());
    let found: BTreeMap<_, _> =
        answer.iter().flat_map(|message| &message.series).map(|set| (&set.labels[1].value, set)).collect();
    assert_eq!(found.len(), WIDE_SERIES);
    let name = "text".to_owned();
    let request = pb::LabelValuesRequest { name, selectors, ..pb::LabelValuesRequest::default() };
    let answer = all(server.client.clone().label_values(request).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(
        (answer.len() > 1, answer.iter().map(|message| message.values.len()).sum::<usize>()),
        (true, WIDE_SERIES)
    );
}

#[tokio::test]
async fn labels_are_listed_up_to_a_limit() {
    let server = Server::start().await;
    let request = pb::LabelsRequest { start_unix_ms: Some(NOW_MS), ..pb::LabelsRequest::default() };
    let answer = all(server.client.clone().labels(request).await.unwrap().into_inner()).await.unwrap();
    assert_eq!((answer.len(), &answer[0].names[..]), (1, &["__name__", "job", "text"].map(str::to_owned)[..]));
    let request = pb::LabelsRequest { names_max: 1, selectors: vec!["{job=\"api\"}".to_owned()], ..Default::default() };
    let answer = all(server.client.clone().labels(request).await.unwrap().into_inner()).await.unwrap();
    let warned = pb::End { warnings: vec![TRUNCATED.to_owned()], ..pb::End::default() };
    assert_eq!(answer, [pb::LabelsResponse { names: vec!["__name__".to_owned()], end: Some(warned) }]);
}

/// The code of a failed call, its message, and the reason in its details.
fn told(status: &Status) -> (Code, &str, String) {
    let details = rpc::Status::decode(status.details()).unwrap();
    assert_eq!((details.code, details.message.as_str()), (status.code() as i32, status.message()));
    let info = rpc::ErrorInfo::decode(details.details[0].value.as_slice()).unwrap();
    assert_eq!(
        (details.details[0].type_url.as_str(), info.domain.as_str()),
        ("type.googleapis.com/google.rpc.ErrorInfo", "pharos")
    );
    (status.code(), status.message(), info.reason)
}

#[tokio::test]
async fn failures_have_a_code_and_a_reason() {
    let server = Server::start().await;
    let error = server.instant(instant("sum(")).await.unwrap_err();
    let (code, message, reason) = told(&error);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "BAD_DATA"));
    assert!(message.contains("parse error"), "{message}");
    let error = server.instant(instant("label_replace(wide, \"text\", \"\", \"text\", \".*\")")).await.unwrap_err();
    let (code, _, reason) = told(&error);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "EXECUTION"));
    let backwards = pb::QueryRangeRequest { end_unix_ms: 0, ..last_minute("up") };
    let no_step = pb::QueryRangeRequest { step_ms: 0, ..last_minute("up") };
    let fine = pb::QueryRangeRequest { step_ms: 1, ..last_minute("up") };
    let lookback = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let options = Some(pb::QueryOptions { lookback, ..pb::QueryOptions::default() });
    let ahead = pb::QueryRangeRequest { options, ..last_minute("up") };
    for wrong in [backwards, no_step, fine, ahead] {
        assert_eq!(told(&server.range(wrong).await.unwrap_err()).0, Code::InvalidArgument);
    }
    let request = pb::SeriesRequest::default();
    assert_eq!(told(&server.client.clone().series(request).await.unwrap_err()).0, Code::InvalidArgument);
    let request = pb::LabelsRequest { selectors: vec!["{}".to_owned()], ..pb::LabelsRequest::default() };
    assert_eq!(told(&server.client.clone().labels(request).await.unwrap_err()).0, Code::InvalidArgument);
    let request = instant(&"1+".repeat(1 << 20));
    let refused = server.instant(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("the message is larger than query.body_max = 1MiB"), "{refused}");
}

#[tokio::test]
async fn only_who_may_read_metrics_is_answered_and_for_its_tenant_only() {
    let nobody = Server::over(store(), None).await;
    assert_eq!(nobody.instant(instant("1")).await.unwrap_err().code(), Code::Unauthenticated);
    let of = |scope, tenants: &str| Some(Principal::new("grafana", &[scope], tenants.parse().unwrap()));
    let writer = Server::over(store(), of(Scope::MetricsWrite, "*")).await;
    assert_eq!(writer.instant(instant("1")).await.unwrap_err().code(), Code::PermissionDenied);
    let other = Server::over(store(), of(Scope::MetricsRead, "9")).await;
    assert_eq!(other.instant(instant("requests_total")).await.unwrap()[0].series, []);
}

#[tokio::test]
async fn a_deadline_ends_the_query_and_so_does_a_client_that_leaves() {
    let server = Server::over(Arc::new(StallingStore::default()), Some(Principal::anonymous())).await;
    // As bytes: the client of this test would not wait for what the server says.
    let message = instant("up").encode_to_vec();
    let framed = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let request = http::Request::post("/pharos.query.v1.QueryService/QueryInstant")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "20m")
        .body(axum::body::Body::from(framed))
        .unwrap();
    let router = grpc_routes(server.api.clone()).into_axum_router().layer(axum::Extension(Principal::anonymous()));
    let answer = router.oneshot(request).await.unwrap();
    let error = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(told(&error), (Code::DeadlineExceeded, "query timed out in query execution", "TIMEOUT".to_owned()));
    let mut wrong = Request::new(instant("up"));
    wrong.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(server.client.clone().query_instant(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    let (mut client, queries) = (server.client.clone(), server.api.pool.queries().clone());
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.query_range(last_minute("up")).await.map(drop) });
    while queries.running(None).is_empty() {
        tokio::task::yield_now().await;
    }
    let listed = queries.running(None);
    assert_eq!((listed[0].asked().kind, listed[0].asked().text.as_str()), (QueryKind::Range, "up"));
    drop(listed);
    calls.abort_all();
    settled(&server.api).await;
}

#[tokio::test]
async fn a_client_that_leaves_amid_its_answer_leaves_nothing_behind() {
    let server = Server::over(many_series(), Some(Principal::anonymous())).await;
    let options = pb::QueryOptions {
        lookback: Some(prost_types::Duration { seconds: 1_800, nanos: 0 }),
        no_cache: true,
        ..pb::QueryOptions::default()
    };
    let request = pb::QueryRangeRequest {
        end_unix_ms: NOW_MS + 1_500_000,
        step_ms: 1_000,
        start_unix_ms: NOW_MS,
        options: Some(options),
        ..last_minute("up")
    };
    let mut messages = server.client.clone().query_range(request).await.unwrap().into_inner();
    assert!(messages.message().await.unwrap().is_some_and(|first| first.end.is_none()));
    assert!(server.api.engine.memory_used_bytes() > 20 << 20, "{}", server.api.engine.memory_used_bytes());
    drop(messages);
    settled(&server.api).await;
}

#[tokio::test]
async fn a_query_that_an_operator_ends_says_so() {
    let server = Server::over(Arc::new(StallingStore::default()), Some(Principal::anonymous())).await;
    let (mut client, queries) = (server.client.clone(), server.api.pool.queries().clone());
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.query_instant(instant("up")).await.map(drop) });
    while queries.running(None).is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(queries.cancel(queries.running(None)[0].id(), None, "root"));
    let error = calls.join_next().await.unwrap().unwrap().unwrap_err();
    let message = "query was canceled by \"root\"";
    assert_eq!(told(&error), (Code::Cancelled, message, "CANCELED".to_owned()));
}
