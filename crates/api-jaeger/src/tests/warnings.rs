//! What a search or a read says beside what it found reaches the user in every dialect.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_proto::jaeger::api_v2::query_service_client::QueryServiceClient as V2;
use pharos_proto::jaeger::api_v3::query_service_client::QueryServiceClient as V3;
use pharos_proto::jaeger::storage_v2::trace_reader_client::TraceReaderClient;
use pharos_proto::jaeger::{api_v2, api_v3, storage_v2};

use super::*;
use crate::grpc_tests::{Server, all, at};

const SEARCH: &str = "older traces may be missing";
const TRACE: &str = "spans are missing";

/// The API over a store whose answers come with these.
fn api() -> JaegerApi {
    let store = Arc::new(MemoryTraceStore::new());
    store.append(&TenantId::default(), batch(), BatchId::random()).wait().unwrap().unwrap();
    store.warn(&[SEARCH], &[TRACE]);
    JaegerApi { store, ..api_over(SpanBatch::default()) }
}

fn over_http() -> Router {
    router(api()).layer(axum::Extension(Principal::anonymous()))
}

const WINDOW: &str = "query.startTimeMin=2023-11-14T00:00:00Z&query.startTimeMax=2023-11-15T00:00:00Z";

#[tokio::test]
async fn v1_tells_of_searches_in_errors_and_of_traces_in_their_warnings() {
    let found = get(&over_http(), "/api/traces?service=shop&start=1699999000000000&end=1700000000000000").await.1;
    assert_eq!(found["errors"], json!([{"msg": SEARCH}]));
    assert_eq!(found["data"][0]["warnings"], json!([TRACE]));
    let nothing = get(&over_http(), "/api/traces?service=none&start=1699999000000000&end=1700000000000000").await;
    assert_eq!((nothing.0, &nothing.1["errors"][0]["msg"]), (StatusCode::OK, &json!(SEARCH)));
    assert_eq!(get(&over_http(), "/api/traces/ab").await.1["data"][0]["warnings"], json!([TRACE]));
}

/// Of the first span.
fn otlp_warnings(resource_spans: &Value) -> Vec<String> {
    let attributes = resource_spans[0]["scopeSpans"][0]["spans"][0]["attributes"].as_array().unwrap();
    let told = attributes.iter().find(|attribute| attribute["key"] == "@jaeger@warnings").unwrap();
    let texts = told["value"]["arrayValue"]["values"].as_array().unwrap();
    texts.iter().map(|text| text["stringValue"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn v3_tells_on_the_first_span_beside_summaries_and_in_what_is_not_found() {
    for raw in ["", "&query.rawTraces=true"] {
        let (_, found) = get(&over_http(), &format!("/api/v3/traces?{WINDOW}{raw}")).await;
        assert_eq!(otlp_warnings(&found["result"]["resourceSpans"]), [SEARCH, TRACE], "{raw}");
    }
    let (_, read) = get(&over_http(), "/api/v3/traces/ab").await;
    assert_eq!(otlp_warnings(&read["result"]["resourceSpans"]), [TRACE]);
    let (status, nothing) = get(&over_http(), &format!("/api/v3/traces?{WINDOW}&query.serviceName=none")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(nothing["error"]["message"], format!("No traces found; {SEARCH}"));
    let (_, summaries) = get(&over_http(), &format!("/api/v3/trace-summaries?{WINDOW}")).await;
    let of_trace = format!("trace {:032x}: {TRACE}", 0xab);
    assert_eq!(summaries["warnings"], json!([SEARCH, of_trace]));
    let silent = router(api_over(batch())).layer(axum::Extension(Principal::anonymous()));
    let (_, summaries) = get(&silent, &format!("/api/v3/trace-summaries?{WINDOW}")).await;
    assert_eq!(summaries.as_object().unwrap().keys().collect::<Vec<_>>(), ["summaries"]);
}

fn told(messages: &[TracesData]) -> Vec<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let spans = messages.iter().flat_map(|message| &message.resource_spans).flat_map(|group| &group.scope_spans);
    let attributes = spans.flat_map(|scope| &scope.spans).flat_map(|span| &span.attributes);
    let warnings = attributes.filter(|attribute| attribute.key == "@jaeger@warnings");
    let text = |value: &opentelemetry_proto::tonic::common::v1::AnyValue| match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    let values = warnings.flat_map(|warning| match warning.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::ArrayValue(list)) => list.values.iter().map(text).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    });
    values.collect()
}

#[tokio::test]
async fn over_grpc_the_first_span_tells() {
    let server = Server::start(api(), Some(Principal::anonymous())).await;
    for raw_traces in [false, true] {
        let query = api_v3::TraceQueryParameters {
            start_time_min: at(START_NS),
            start_time_max: at(START_NS + 1_000_000_000),
            raw_traces,
            ..Default::default()
        };
        let request = api_v3::FindTracesRequest { query: Some(query) };
        let found = V3::new(server.channel.clone()).find_traces(request).await.unwrap().into_inner();
        assert_eq!(told(&all(found).await.unwrap()), [SEARCH, TRACE]);
        let query = api_v2::TraceQueryParameters {
            service_name: "shop".to_owned(),
            start_time_min: at(START_NS),
            start_time_max: at(START_NS + 1_000_000_000),
            raw_traces,
            ..Default::default()
        };
        let request = api_v2::FindTracesRequest { query: Some(query) };
        let found = V2::new(server.channel.clone()).find_traces(request).await.unwrap().into_inner();
        let chunks = all(found).await.unwrap();
        let warnings: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.spans).flat_map(|span| &span.warnings).collect();
        assert_eq!(warnings, [SEARCH, TRACE]);
    }
    let query = storage_v2::TraceQueryParameters {
        start_time_min: at(START_NS),
        start_time_max: at(START_NS + 1_000_000_000),
        ..Default::default()
    };
    let request = storage_v2::FindTracesRequest { query: Some(query) };
    let found = TraceReaderClient::new(server.channel.clone()).find_traces(request).await.unwrap().into_inner();
    assert_eq!(told(&all(found).await.unwrap()), [SEARCH, TRACE]);
    let lookup =
        storage_v2::GetTraceParams { trace_id: TraceId(0xab_u128.to_be_bytes()).0.to_vec(), ..Default::default() };
    let request = storage_v2::GetTracesRequest { query: vec![lookup] };
    let read = TraceReaderClient::new(server.channel.clone()).get_traces(request).await.unwrap().into_inner();
    assert_eq!(told(&all(read).await.unwrap()), [TRACE]);
}

#[tokio::test]
async fn calls_between_services_have_the_bounds_of_a_read() {
    let mut api = api_over(batch());
    let paths = [
        "/api/dependencies?endTs=1700000000000&lookback=86400000".to_owned(),
        format!("/api/v3/dependencies?{}", "startTime=2023-11-14T00:00:00Z&endTime=2023-11-15T00:00:00Z"),
    ];
    for path in &paths {
        let guarded = router(api.clone()).layer(axum::Extension(Principal::anonymous()));
        assert_eq!(get(&guarded, path).await.0, StatusCode::OK, "{path}");
    }
    api.memory_bytes_max = 100;
    for path in &paths {
        let guarded = router(api.clone()).layer(axum::Extension(Principal::anonymous()));
        let (status, body) = get(&guarded, path).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {body}");
    }
    api.memory_bytes_max = 1 << 30;
    api.timeout = Duration::ZERO;
    for path in &paths {
        let guarded = router(api.clone()).layer(axum::Extension(Principal::anonymous()));
        assert!(get(&guarded, path).await.0.is_server_error(), "{path}");
    }
}
