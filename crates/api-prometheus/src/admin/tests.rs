//! Snapshots from outside, on a store on disk.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use pharos_base::SimClock;
use pharos_gateway::TenantAccess;
use pharos_http::QueryPool;
use pharos_promql::{Engine, EngineSettings};
use pharos_storage::memory::MemoryMetricStore;
use pharos_tsdb::{Components, Settings, Tsdb};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::{ApiSettings, BuildInfo};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) fn router_for(store: Arc<dyn MetricStore>, principal: Principal) -> Router {
    let api = PrometheusApi {
        engine: Engine::new(Arc::clone(&store), EngineSettings::default()),
        store,
        traces: None,
        pool: QueryPool::new(1, Duration::from_secs(10)),
        clock: SimClock::at_ms(NOW_MS),
        settings: Arc::new(ApiSettings {
            points_per_series_max: 11_000,
            listed_series_max: 1_000,
            retention: "30d".to_owned(),
        }),
        build: BuildInfo { version: "0.0.0", revision: "unknown" },
        started_at_ms: NOW_MS,
    };
    crate::router(api).layer(axum::Extension(principal))
}

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
