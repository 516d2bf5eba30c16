//! Queries under way, seen and ended through the API.

use axum::body::{Body, to_bytes};
use http::Request;
use pharos_gateway::{Principal, Scope};
use pharos_http::{Asked, QueryKind};
use pharos_storage::memory::MemoryMetricStore;
use pharos_storage::{ReadContext, StorageError};
use tower::ServiceExt;

use super::*;
use crate::listed;
use crate::testing::{api, fixture};

fn idle_api() -> Arc<PrometheusApi> {
    Arc::new(api(Arc::new(MemoryMetricStore::new())))
}

fn asked(tenant: &str) -> Asked {
    Asked {
        kind: QueryKind::Range,
        text: "rate(\"x\"[5m])".to_owned(),
        steps: Some((1_000, 61_000, 15_000)),
        tenant: tenant.parse().unwrap(),
        principal: Arc::from("grafana"),
        remote_address: "10.0.0.9:4711".to_owned(),
        deadline: None,
        limits: pharos_http::QueryLimits::default(),
    }
}

/// A read that goes on until it is told to stop.
async fn endless(api: Arc<PrometheusApi>, tenant: &'static str) -> Result<(), ApiError> {
    let read = |_: &PrometheusApi, context: &ReadContext| -> Result<(), StorageError> {
        loop {
            context.check()?;
            std::thread::yield_now();
        }
    };
    listed::read(&api, asked(tenant), read).await
}

async fn ask(api: &PrometheusApi, caller: &Principal, method: &str, path: &str) -> (u16, Value) {
    let router = crate::router(api.clone()).layer(axum::Extension(caller.clone()));
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn caller(scopes: &[Scope], tenants: &str) -> Principal {
    Principal::new("root", scopes, tenants.parse().unwrap())
}

const LIST: &str = "/api/v1/status/active_queries";

#[tokio::test]
async fn each_tenant_sees_its_own_queries_and_an_operator_of_all_sees_all() {
    let api = idle_api();
    let mut tasks = tokio::task::JoinSet::new();
    for tenant in ["7", "team-a"] {
        tasks.spawn(endless(Arc::clone(&api), tenant));
    }
    while api.pool.queries().running(None).iter().filter(|query| !query.is_waiting()).count() < 2 {
        tokio::task::yield_now().await;
    }
    let tenants = |answer: &Value| -> Vec<String> {
        let listed = answer["data"].as_array().unwrap().iter();
        let mut tenants: Vec<_> = listed.map(|query| query["tenant"].as_str().unwrap().to_owned()).collect();
        tenants.sort();
        tenants
    };
    let (operator, reader) = (Principal::anonymous(), caller(&[Scope::MetricsRead], "team-a"));
    let (_, all) = ask(&api, &operator, "GET", LIST).await;
    assert_eq!(tenants(&all), ["7", "team-a"]);
    assert_eq!(tenants(&ask(&api, &reader, "GET", LIST).await.1), ["team-a"]);
    let (_, one) = ask(&api, &operator, "GET", &format!("/select/7/prometheus{LIST}")).await;
    let entry = &one["data"][0];
    assert_eq!((&one["status"], tenants(&one)), (&json!("ok"), vec!["7".to_owned()]));
    for (member, value) in [
        ("account_id", json!("7")),
        ("project_id", json!("0")),
        ("query", json!("rate(\"x\"[5m])")),
        ("start", json!(1_000)),
        ("end", json!(61_000)),
        ("step", json!(15_000)),
        ("remote_addr", json!("10.0.0.9:4711")),
        ("principal", json!("grafana")),
        ("state", json!("running")),
        ("kind", json!("range")),
        ("memory_bytes", json!(0)),
    ] {
        assert_eq!(entry[member], value, "{member}");
    }
    assert!(entry["duration"].as_str().unwrap().ends_with('s') && entry["id"].as_str().unwrap().len() == 16);
    for query in api.pool.queries().running(None) {
        assert!(api.pool.queries().cancel(query.id(), None, "the end of the test"));
    }
    assert_eq!(tasks.join_all().await.len(), 2);
}

#[tokio::test]
async fn an_operator_ends_a_query_and_its_client_is_told_who_did() {
    let api = idle_api();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(endless(Arc::clone(&api), "7"));
    while api.pool.queries().running(None).is_empty() {
        tokio::task::yield_now().await;
    }
    let path = format!("{LIST}/{}", api.pool.queries().running(None)[0].id_text());
    let (own, other) = (caller(&[Scope::Admin], "7"), caller(&[Scope::Admin], "8"));
    let reader = caller(&[Scope::MetricsRead], "7");
    assert_eq!(ask(&api, &reader, "DELETE", &path).await.0, 403);
    let (status, answer) = ask(&api, &other, "DELETE", &path).await;
    assert_eq!((status, &answer["errorType"]), (404, &json!("not_found")), "another tenant's query is not there");
    assert_eq!(ask(&api, &own, "DELETE", &format!("{LIST}/no-id")).await.0, 400);
    assert_eq!(ask(&api, &own, "POST", &format!("{path}/cancel")).await.0, 204);
    let error = tasks.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.0.message(), "query was canceled by \"root\"");
    assert_eq!(error.into_response().status().as_u16(), 499);
    assert_eq!(ask(&api, &own, "DELETE", &path).await.0, 404, "it has ended");
}

#[tokio::test]
async fn queries_that_ended_are_ranked() {
    let fixture = fixture();
    let query = "query_range?query=requests_total&start=1699999940&end=1700000000&step=15";
    for path in [query, query, "query?query=sum(requests_total)", "labels", "query?query=(("] {
        fixture.get(&format!("/api/v1/{path}")).await;
    }
    let (_, top) = fixture.get("/api/v1/status/top_queries?topN=1&maxLifetime=5m").await;
    assert_eq!((&top["topN"], &top["maxLifetime"]), (&json!("1"), &json!("300s")));
    let most = json!([{"accountID": 0, "projectID": 0, "query": "requests_total", "timeRangeSeconds": 60,
        "count": 2, "multiTenant": false, "kind": "range", "tenant": "0"}]);
    assert_eq!(top["topByCount"], most);
    assert_eq!(top["topBySumSamplesRead"][0]["query"], "requests_total");
    for (list, measure) in [
        ("topByAvgDuration", "avgDurationSeconds"),
        ("topBySumDuration", "sumDurationSeconds"),
        ("topByAvgMemoryUsage", "avgMemoryBytes"),
    ] {
        assert!(top[list][0][measure].is_number() && top[list].as_array().unwrap().len() == 1, "{list}");
    }
    let (_, all) = fixture.get("/api/v1/status/top_queries").await;
    let texts: Vec<_> = all["topByCount"].as_array().unwrap().iter().map(|query| &query["query"]).collect();
    assert_eq!(texts, ["requests_total", "((", "label_names()", "sum(requests_total)"]);
    let (_, other) = fixture.get("/select/9/prometheus/api/v1/status/top_queries").await;
    assert_eq!(other["topByCount"], json!([]));
    for wrong in ["topN=0", "topN=1001", "maxLifetime=-1", "maxLifetime=x"] {
        assert_eq!(
            fixture.get(&format!("/api/v1/status/top_queries?{wrong}")).await.0,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
}
