//! Reads are listed, share the memory of all queries, and stream their answer once it is large.

use futures::StreamExt;
use http::header::RETRY_AFTER;
use pharos_base::ErrorClass;
use pharos_http::{Asked, QueryKind};
use pharos_storage::{StorageError, Trace};

use super::*;
use crate::listed;
use crate::rendering::{HELD_BYTES_MAX, Traces};
use crate::v1::finish_traces;

fn guarded(api: &JaegerApi) -> Router {
    router(api.clone()).layer(axum::Extension(Principal::anonymous()))
}

#[tokio::test]
async fn reads_are_remembered_by_kind_with_their_path() {
    let api = api_over(batch());
    let (router, v3) =
        (guarded(&api), "query.startTimeMin=2023-11-14T00:00:00Z&query.startTimeMax=2023-11-15T00:00:00Z");
    for (path, kind, range_seconds) in [
        ("/api/services".to_owned(), QueryKind::TraceLists, 0),
        ("/api/traces/ab".to_owned(), QueryKind::TraceRead, 0),
        (
            "/api/traces?service=shop&start=1699999000000000&end=1700000000000000".to_owned(),
            QueryKind::TraceSearch,
            1_000,
        ),
        (format!("/jaeger/api/v3/trace-summaries?{v3}"), QueryKind::TraceSearch, 86_400),
    ] {
        assert_eq!(get(&router, &path).await.0, StatusCode::OK, "{path}");
        let top = api.pool.queries().top(None, 10, Duration::from_hours(1));
        let found = top.by_count.iter().find(|query| query.text() == path).unwrap();
        assert_eq!((found.kind(), found.range_seconds(), found.count), (kind, range_seconds, 1), "{path}");
    }
    assert!(api.pool.queries().running(None).is_empty());
}

#[tokio::test]
async fn reads_over_grpc_are_remembered_with_their_message() {
    use pharos_proto::jaeger::api_v3::query_service_client::QueryServiceClient;
    use pharos_proto::jaeger::api_v3::{GetServicesRequest, GetTraceRequest};

    let api = api_over(batch());
    let service = crate::grpc_routes(api.clone()).into_axum_router().layer(axum::Extension(Principal::anonymous()));
    let mut client = QueryServiceClient::new(service);
    client.get_services(GetServicesRequest::default()).await.unwrap();
    let request = GetTraceRequest { trace_id: "ab".to_owned(), ..GetTraceRequest::default() };
    let messages = client.get_trace(request).await.unwrap().into_inner();
    assert_eq!(messages.count().await, 1);
    let top = api.pool.queries().top(None, 10, Duration::from_hours(1));
    let mut found: Vec<_> = top.by_count.iter().map(|query| (query.kind(), query.text().to_owned())).collect();
    found.sort();
    assert_eq!(found[0].0, QueryKind::TraceRead);
    assert!(found[0].1.starts_with("GetTraceRequest { trace_id: \"ab\","), "{found:?}");
    assert_eq!((found[1].0, &*found[1].1), (QueryKind::TraceLists, "GetServicesRequest"));
    assert!(api.pool.queries().running(None).is_empty());
}

#[tokio::test]
async fn what_others_hold_of_the_common_memory_is_not_there() {
    let mut api = api_over(batch());
    api.memory = MemoryBudget::new(1 << 20);
    let router = guarded(&api);
    let held = api.memory.part(u64::MAX).reserve(1 << 20).unwrap();
    for path in ["/api/traces/ab", "/api/v3/traces/ab", "/api/services"] {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(response.headers()[RETRY_AFTER], "1", "{path}");
        let body: Value = serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap();
        assert!(body.to_string().contains("common memory budget of 1048576 bytes"), "{path}: {body}");
    }
    drop(held);
    assert_eq!(get(&router, "/api/traces/ab").await.0, StatusCode::OK);
    assert_eq!(api.memory.used_bytes(), 0);
}

/// Traces of some 100 KiB each, one after the other, then perhaps an error.
fn stream(count: usize, error: Option<StorageError>) -> pharos_storage::TraceStream {
    let group = |name: &str| SpanGroup {
        resource: Arc::default(),
        scope: Arc::default(),
        spans: vec![Span { name: name.to_owned(), ..Span::default() }],
    };
    let name = "n".repeat(100 << 10);
    let trace = move |_| Ok(Trace { trace_id: TraceId([1; 16]), groups: vec![group(&name)], warnings: Vec::new() });
    Box::new((0..count).map(trace).chain(error.map(Err)))
}

fn asked() -> Asked {
    Asked {
        kind: QueryKind::TraceSearch,
        text: "/api/traces".to_owned(),
        steps: None,
        tenant: TenantId::default(),
        principal: Arc::from("tester"),
        remote_address: String::new(),
        deadline: None,
        limits: pharos_http::QueryLimits::default(),
    }
}

/// What comes of an answer with that many traces.
async fn rendered(
    api: JaegerApi,
    count: usize,
    error: Option<StorageError>,
) -> Result<axum::response::Response, pharos_http::Refusal> {
    let api = Arc::new(api);
    let rendered = listed::render(&api, asked(), move |rendering| {
        let traces = Traces::new(rendering, stream(count, error), None);
        finish_traces(rendering, &traces, &(), false).map(Some)
    });
    Ok(rendered.await?.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_arrives_whole_and_takes_no_more_memory_than_is_held_of_it() {
    let mut api = api_over(batch());
    api.memory_bytes_max = HELD_BYTES_MAX as u64 + (1 << 20);
    let response = rendered(api.clone(), 200, None).await.unwrap();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(body.len() > 200 * (100 << 10) && body.len() > 4 * HELD_BYTES_MAX);
    let traces: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(traces["data"].as_array().unwrap().len(), 200);
    assert_eq!(api.memory.used_bytes(), 0);
    // Held until the end, less than that is refused.
    api.memory_bytes_max = HELD_BYTES_MAX as u64 / 2;
    assert_eq!(rendered(api, 200, None).await.unwrap_err().class(), ErrorClass::LimitExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_is_an_error_at_first_and_a_cut_connection_later() {
    let failure = || Some(StorageError::unavailable("the disk is gone"));
    let refusal = rendered(api_over(batch()), 10, failure()).await.unwrap_err();
    assert_eq!(refusal.class(), ErrorClass::Unavailable);
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(5)));
    let response = rendered(api_over(batch()), 100, failure()).await.unwrap();
    let pieces: Vec<_> = response.into_body().into_data_stream().collect().await;
    let (last, before) = pieces.split_last().unwrap();
    assert!(before.len() > 64 && before.iter().all(Result::is_ok));
    assert!(last.as_ref().unwrap_err().to_string().contains("the disk is gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_amid_a_large_answer_leaves_nothing_behind() {
    // There is one place in the pool: the second answer needs that of the first.
    let api = api_over(batch());
    for _ in 0..3 {
        let response = rendered(api.clone(), 1_000_000, None).await.unwrap();
        assert_eq!(api.pool.queries().running(None).len(), 1);
        drop(response);
    }
    assert_eq!(get(&guarded(&api), "/api/services").await.0, StatusCode::OK);
    assert_eq!(api.memory.used_bytes(), 0);
}
