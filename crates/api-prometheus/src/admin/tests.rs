//! Snapshots from outside, on a store on disk.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use pharos_base::SystemClock;
use pharos_gateway::{Principal, Scope, TenantAccess};
use pharos_http::QueryPool;
use pharos_storage::memory::MemoryMetricStore;
use pharos_tracestore::SpanStore;
use pharos_tsdb::{Components, Settings, Tsdb};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::testing::{api, router_for};

async fn send(router: &Router, method: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn snapshots_are_made_listed_and_deleted_in_both_dialects() {
    let dir = TempDir::new().unwrap();
    let store = Tsdb::open(dir.path(), Settings::for_tests(), Components::default()).unwrap();
    let router = router_for(Arc::new(store), Principal::anonymous());
    let (status, made) = send(&router, "POST", "/api/v1/admin/tsdb/snapshot").await;
    assert_eq!((status, &made["status"]), (StatusCode::OK, &json!("success")));
    let first = made["data"]["name"].as_str().unwrap().to_owned();
    assert!(first.starts_with("20231114221320-") && first.len() == 31, "{first}");
    let (_, made) = send(&router, "PUT", "/prometheus/api/v1/admin/tsdb/snapshot?skip_head=true").await;
    let second = made["data"]["name"].as_str().unwrap().to_owned();
    let (_, made) = send(&router, "GET", "/snapshot/create").await;
    let third = made["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(made, json!({"status": "ok", "snapshot": third}));
    let mut all = [first.clone(), second, third];
    all.sort();
    assert_eq!(
        send(&router, "GET", "/snapshot/list").await,
        (StatusCode::OK, json!({"status": "ok", "snapshots": all}))
    );
    assert!(dir.path().join("snapshots").join(&first).join("tenants").is_dir());
    let gone = send(&router, "POST", &format!("/snapshot/delete?snapshot={first}")).await;
    assert_eq!(gone, (StatusCode::OK, json!({"status": "ok"})));
    assert_eq!(send(&router, "GET", "/snapshot/list").await.1["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(send(&router, "GET", "/snapshot/delete_all").await.0, StatusCode::OK);
    assert_eq!(send(&router, "GET", "/snapshot/list").await.1["snapshots"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let dir = TempDir::new().unwrap();
    let store: Arc<dyn MetricStore> =
        Arc::new(Tsdb::open(dir.path(), Settings::for_tests(), Components::default()).unwrap());
    let router = router_for(Arc::clone(&store), Principal::anonymous());
    for path in ["/snapshot/delete", "/snapshot/delete?snapshot=none", "/snapshot/delete?snapshot=../tenants"] {
        let (status, answer) = send(&router, "GET", path).await;
        assert_eq!((status, &answer["status"]), (StatusCode::BAD_REQUEST, &json!("error")), "{path}");
        assert!(answer["msg"].as_str().unwrap().contains("snapshot"), "{answer}");
    }
    assert!(dir.path().join("tenants").is_dir());
    let (status, answer) = send(&router, "POST", "/api/v1/admin/tsdb/snapshot?skip_head=maybe").await;
    assert_eq!((status, &answer["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")));
    assert_eq!(send(&router, "GET", "/api/v1/admin/tsdb/snapshot").await.0, StatusCode::METHOD_NOT_ALLOWED);
    // A store without snapshots says so; nobody but an operator gets that far.
    let memory = router_for(Arc::new(MemoryMetricStore::new()), Principal::anonymous());
    assert_eq!(send(&memory, "GET", "/snapshot/create").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let reader = Principal::new("r", &[Scope::MetricsRead, Scope::MetricsWrite], "*".parse::<TenantAccess>().unwrap());
    let reader = router_for(store, reader);
    for path in ["/snapshot/create", "/snapshot/list", "/snapshot/delete?snapshot=x", "/snapshot/delete_all"] {
        assert_eq!(send(&reader, "GET", path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(send(&reader, "POST", "/api/v1/admin/tsdb/snapshot").await.0, StatusCode::FORBIDDEN);
}

/// A crash between the two stores leaves half a snapshot: it is not told as one, and goes with the others.
#[tokio::test]
async fn half_a_snapshot_is_none() {
    let dir = TempDir::new().unwrap();
    let metrics = Arc::new(Tsdb::open(&dir.path().join("m"), Settings::for_tests(), Components::default()).unwrap());
    let components = pharos_tracestore::Components { clock: SystemClock::shared() };
    let traces = SpanStore::open(&dir.path().join("t"), pharos_tracestore::Settings::default(), components).unwrap();
    let traces = Arc::new(traces);
    let api = PrometheusApi { traces: Some(Arc::clone(&traces) as _), ..api(Arc::clone(&metrics) as _) };
    let router = crate::router(api).layer(axum::Extension(Principal::anonymous()));
    let (_, made) = send(&router, "GET", "/snapshot/create").await;
    let (of_metrics, of_traces) = (Arc::clone(&metrics), Arc::clone(&traces));
    let make_halves = move || {
        of_metrics.create_snapshot("of-metrics", true).unwrap();
        of_traces.create_snapshot("of-traces").unwrap();
    };
    tokio::task::spawn_blocking(make_halves).await.unwrap();
    assert_eq!(send(&router, "GET", "/snapshot/list").await.1["snapshots"], json!([made["snapshot"]]));
    assert_eq!(send(&router, "GET", "/snapshot/delete_all").await.0, StatusCode::OK);
    assert_eq!((metrics.snapshots().unwrap(), traces.snapshots().unwrap()), (vec![], vec![]));
}

/// Snapshots and deletions may take minutes: they wait for no query, and no query waits for them.
#[tokio::test]
async fn upkeep_and_queries_have_places_of_their_own() {
    let dir = TempDir::new().unwrap();
    let store = Tsdb::open(dir.path(), Settings::for_tests(), Components::default()).unwrap();
    let api = PrometheusApi { pool: QueryPool::new(1, Duration::ZERO), ..api(Arc::new(store)) };
    let (free, blocked) = std::sync::mpsc::sync_channel::<()>(1);
    let (pool, mut queries) = (api.pool.clone(), tokio::task::JoinSet::new());
    let (began, on_begin) = tokio::sync::oneshot::channel();
    queries.spawn(async move {
        let query = move |_| {
            began.send(()).unwrap();
            blocked.recv()
        };
        pool.run(&TenantId::default(), query).await
    });
    on_begin.await.unwrap();
    let router = crate::router(api).layer(axum::Extension(Principal::anonymous()));
    assert_eq!(send(&router, "GET", "/api/v1/query?query=1").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(send(&router, "POST", "/api/v1/admin/tsdb/snapshot").await.0, StatusCode::OK);
    assert_eq!(send(&router, "POST", "/api/v1/admin/tsdb/clean_tombstones").await.0, StatusCode::NO_CONTENT);
    free.send(()).unwrap();
    queries.join_next().await;
}
