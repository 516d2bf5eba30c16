//! Forms and selectors that are too large, and too many of them at a time: a refusal names the limit, its value and the way out.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use http::{Request, StatusCode};
use pharos_storage::memory::MemoryMetricStore;
use tower::ServiceExt;

use crate::testing::{api, fixture};
use crate::{PrometheusApi, router};

fn form(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).version(http::Version::HTTP_2);
    request.header("content-type", "application/x-www-form-urlencoded").body(body.into()).unwrap()
}

#[tokio::test]
async fn a_form_is_bounded_before_it_is_taken_apart() {
    let fixture = fixture();
    let large = format!("query=1&x={}", "a".repeat(1 << 20));
    let many = "a&".repeat(10_001);
    // Compiled each takes more than 160 KiB.
    let patterns = r#"match[]={a=~"\\pL{150}"}&"#.repeat(450);
    for (path, body, status, parts) in [
        ("/api/v1/query", large, 413, ["query.body_max = 1MiB", "raise it"]),
        ("/api/v1/series", many, 413, ["10001 parameters, more than 10000", "ask for less at a time"]),
        ("/api/v1/series", patterns, 400, ["at most 67108864 bytes compiled", "send fewer at a time"]),
    ] {
        let (found, told) = fixture.text(form(path, body)).await;
        assert_eq!(found.as_u16(), status, "{told}");
        assert!(told.starts_with('{') && parts.iter().all(|part| told.contains(part)), "{told}");
    }
    let selectors = r"match[]={a=~%22\\pL{150}%22}&".repeat(450);
    let (status, told) =
        fixture.text(Request::get(format!("/federate?{selectors}")).body(Body::empty()).unwrap()).await;
    assert!(status == StatusCode::BAD_REQUEST && told.contains("67108864 bytes compiled"), "{status} {told}");
    let some = format!("{}match[]=requests_total", "match[]=ended&".repeat(500));
    assert_eq!(fixture.text(form("/api/v1/series?start=0", some)).await.0, StatusCode::OK);
}

/// However many forms a tenant begins to send, another's are taken, and they are counted until they are answered.
#[tokio::test]
async fn forms_that_are_being_sent_share_a_budget() {
    let api: PrometheusApi = api(Arc::new(MemoryMetricStore::new()));
    let send = |tenant: &str, body: Body| {
        let principal = pharos_gateway::Principal::new(
            "reader",
            &[pharos_gateway::Scope::MetricsRead],
            tenant.parse::<pharos_gateway::TenantAccess>().unwrap(),
        );
        let router = router(api.clone()).layer(axum::Extension(principal));
        async move { router.oneshot(form("/api/v1/query", body)).await.unwrap() }
    };
    let half = Bytes::from(format!("query={}", " ".repeat(512 << 10)));
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let begun = stream::iter([Ok::<_, std::io::Error>(half.clone())]).chain(stream::pending());
        slow.spawn(send("greedy", Body::from_stream(begun)));
    }
    // Seven of them are half of what there is; the eighth is refused, as those of greedy would leave less to others.
    let refused = slow.join_next().await.unwrap().unwrap();
    assert_eq!((refused.status(), &refused.headers()["retry-after"]), (503.try_into().unwrap(), &"1".parse().unwrap()));
    let answered = send("other", Body::from("query=1")).await;
    assert_eq!(answered.status(), StatusCode::OK);
    slow.shutdown().await;
    assert_eq!(api.bodies.held_bytes(), 0);
}
