//! Deletions from outside, on a store on disk.

use std::path::Path;

use axum::body::{Body, to_bytes};
use http::{Request, header};
use pharos_gateway::{Principal, Scope, TenantAccess};
use pharos_model::{METRIC_NAME, Span, SpanBatch, SpanGroup, TenantId};
use pharos_storage::conformance::metrics::{append, float_batch};
use pharos_storage::memory::{MemoryMetricStore, MemoryTraceStore};
use pharos_storage::{BatchId, MetricStore, ReadContext, TraceLookup, TraceStore};
use pharos_tsdb::{Components, Settings, Tsdb};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::testing::{NOW_MS, api, router_for};

async fn send(router: &Router, method: &str, path: &str, form: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let response = router.clone().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Labels of the series that are left, and of the samples of `up` their seconds.
async fn left(router: &Router) -> (Vec<String>, Vec<i64>) {
    let (_, names) = send(router, "GET", "/api/v1/label/__name__/values", "").await;
    let names = names["data"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    let query = format!("/api/v1/query?query=up[1h]&time={}", NOW_MS / 1000);
    let (_, found) = send(router, "GET", &query, "").await;
    let values = found["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    (names, values.iter().map(|pair| pair[0].as_i64().unwrap() - NOW_MS / 1000).collect())
}

async fn store(dir: &TempDir) -> Arc<dyn MetricStore> {
    let dir = dir.path().to_owned();
    tokio::task::spawn_blocking(move || filled(&dir)).await.unwrap()
}

fn filled(dir: &Path) -> Arc<dyn MetricStore> {
    let store = Tsdb::open(dir, Settings::for_tests(), Components::default()).unwrap();
    let samples: Vec<_> = (-3..=0).map(|second| (NOW_MS + second * 1000, second as f64)).collect();
    let series: Vec<_> = ["up", "down", "other"].map(|name| [(METRIC_NAME, name)]).to_vec();
    let all: Vec<_> = series.iter().map(|pairs| (pairs.as_slice(), samples.as_slice())).collect();
    append(&store, &TenantId::default(), float_batch(&all));
    append(&store, &"7".parse().unwrap(), float_batch(&all));
    Arc::new(store)
}

#[tokio::test]
async fn series_are_deleted_by_form_and_by_url_and_cleaned() {
    let dir = TempDir::new().unwrap();
    let router = router_for(store(&dir).await, Principal::anonymous());
    let path = "/api/v1/admin/tsdb/delete_series";
    let at = |second: i64| NOW_MS / 1000 + second;
    let range = format!("match[]=up&start={}&end={}", at(-2), at(-1));
    assert_eq!(send(&router, "POST", path, &range).await, (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(left(&router).await, (vec!["down".to_owned(), "other".into(), "up".into()], vec![-3, 0]));
    let url = format!("/prometheus{path}?match[]=%7B__name__%3D~%22d.%2B%22%7D&match[]=nosuch");
    assert_eq!(send(&router, "PUT", &url, "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(left(&router).await, (vec!["other".to_owned(), "up".into()], vec![-3, 0]));
    let cleaned = send(&router, "POST", "/api/v1/admin/tsdb/clean_tombstones", "").await;
    assert_eq!(cleaned, (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(left(&router).await, (vec!["other".to_owned(), "up".into()], vec![-3, 0]));
    // The other tenant has lost nothing so far, and loses what is its own only.
    let seven = Principal::new("7", &[Scope::Admin, Scope::MetricsRead], "7".parse::<TenantAccess>().unwrap());
    let own = TempDir::new().unwrap();
    let seven = router_for(store(&own).await, seven);
    assert_eq!(left(&seven).await.0.len(), 3);
    let cluster = |tenant: u8| format!("/delete/{tenant}/prometheus{path}?match[]=up");
    assert_eq!(send(&seven, "POST", &cluster(7), "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(left(&seven).await.0, ["down", "other"]);
    assert_eq!(send(&seven, "POST", &cluster(8), "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_trace_is_deleted_of_its_tenant_alone() {
    let traces = Arc::new(MemoryTraceStore::new());
    let id: TraceId = "abc".parse().unwrap();
    for tenant in [TenantId::default(), "7".parse().unwrap()] {
        let span = Span { trace_id: id, ..Span::default() };
        let group = SpanGroup { resource: Arc::default(), scope: Arc::default(), spans: vec![span] };
        let appended = traces.append(&tenant, SpanBatch { groups: vec![group] }, BatchId::random());
        assert_eq!(appended.wait().unwrap().unwrap().items, 1);
    }
    let router_of = |principal: Principal| {
        let metrics = Arc::new(MemoryMetricStore::new());
        let api = PrometheusApi { traces: Some(Arc::clone(&traces) as _), ..api(metrics) };
        crate::router(api).layer(axum::Extension(principal))
    };
    let is_there = |tenant: &str| {
        let lookup = TraceLookup { trace_id: id, range: None };
        let tenant = if tenant.is_empty() { TenantId::default() } else { tenant.parse().unwrap() };
        traces.traces(&tenant, &[lookup], &ReadContext::unlimited()).unwrap().count() == 1
    };
    let path = "/api/v1/admin/traces/delete?trace_id=";
    let router = router_of(Principal::anonymous());
    for wrong in ["", "xyz", "0123456789abcdef0123456789abcdef0"] {
        let (status, answer) = send(&router, "POST", &format!("{path}{wrong}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {answer}");
    }
    assert_eq!(send(&router, "GET", &format!("{path}abc"), "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    let reader = router_of(Principal::new("r", &[Scope::TracesRead, Scope::TracesWrite], "*".parse().unwrap()));
    assert_eq!(send(&reader, "DELETE", &format!("{path}abc"), "").await.0, StatusCode::FORBIDDEN);
    assert!(is_there("") && is_there("7"));
    for method in ["DELETE", "POST"] {
        assert_eq!(send(&router, method, &format!("{path}0abc"), "").await, (StatusCode::NO_CONTENT, Value::Null));
        assert!(!is_there("") && is_there("7"));
    }
    let metrics_only = router_for(Arc::new(MemoryMetricStore::new()), Principal::anonymous());
    assert!(!send(&metrics_only, "POST", &format!("{path}abc"), "").await.0.is_success());
}

#[tokio::test]
async fn what_cannot_be_deleted_is_refused_as_prometheus_does() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir).await;
    let router = router_for(Arc::clone(&store), Principal::anonymous());
    let path = "/api/v1/admin/tsdb/delete_series";
    for (form, part) in [
        ("", "no match[] parameter provided"),
        ("match[]={job=~\".*\"}", "must contain at least one non-empty matcher"),
        ("match[]=up{", "invalid parameter \"match[]\""),
        ("match[]=up&start=yesterday", "invalid parameter \"start\""),
        ("match[]=up&start=5&end=4", "end timestamp must not be before start time"),
    ] {
        let (status, answer) = send(&router, "POST", path, form).await;
        assert_eq!((status, &answer["errorType"]), (StatusCode::BAD_REQUEST, &"bad_data".into()), "{form}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    for name in ["delete_series?match[]=up", "clean_tombstones"] {
        let path = format!("/api/v1/admin/tsdb/{name}");
        assert_eq!(send(&router, "GET", &path, "").await.0, StatusCode::METHOD_NOT_ALLOWED, "{name}");
        let reader = Principal::new("r", &[Scope::MetricsRead, Scope::MetricsWrite], "*".parse().unwrap());
        let reader = router_for(Arc::clone(&store), reader);
        assert_eq!(send(&reader, "POST", &path, "").await.0, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(left(&router).await.1.len(), 4);
}
