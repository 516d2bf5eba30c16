//! Bodies of readers from outside.

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::routing::post;
use futures::StreamExt;
use tower::ServiceExt;

use super::*;
use crate::{Scope, TenantAccess};

const KIB: usize = 1 << 10;
const LIMIT: BodyLimit = BodyLimit { name: "query.body_max", bytes_max: 64 << 10 };

/// Two bodies of [`LIMIT`] fit.
fn bodies() -> ReaderBodies {
    ReaderBodies::new(BodyBudget::new("query.bodies_max", 128 << 10), LIMIT, Duration::from_mins(2))
}

/// Answers how long the body was.
fn router(bodies: &ReaderBodies) -> Router {
    let length = async |body: Bytes| body.len().to_string();
    let layer = axum::middleware::from_fn_with_state(Arc::new(bodies.clone()), hold_reader_body);
    Router::new()
        .route("/api/v1/query", post(length).get(length))
        .route("/api/v1/read", post(length))
        .route("/select/{tenant}/prometheus/api/v1/query", post(length))
        .route("/pharos.query.v1.QueryService/Series", post(length))
        .route_layer(layer)
        .layer(axum::extract::DefaultBodyLimit::disable())
}

fn request(path: &str, tenant: &str, body: impl Into<Body>) -> Request {
    let mut request = Request::post(path).body(body.into()).unwrap();
    request.extensions_mut().insert(Principal::new(
        "reader",
        &[Scope::MetricsRead],
        tenant.parse::<TenantAccess>().unwrap(),
    ));
    request
}

async fn ask(bodies: &ReaderBodies, request: Request) -> (u16, Option<String>, String) {
    let response = router(bodies).oneshot(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let told =
        headers.get("grpc-message").map(|told| percent_decode_str(told.to_str().unwrap()).decode_utf8_lossy().into());
    let after = headers.get("retry-after").map(|after| after.to_str().unwrap().to_owned());
    (status, after, told.unwrap_or(text))
}

/// A body that begins with `front` and never ends.
fn endless(front: Vec<u8>) -> Body {
    let begun = futures::stream::iter([Ok::<_, std::io::Error>(front)]);
    Body::from_stream(begun.chain(futures::stream::pending()))
}

/// A gRPC call whose message claims to be that long.
fn call(length: u32) -> Request {
    let framed = [&[0][..], &length.to_be_bytes(), &[7; 10]].concat();
    let mut request = request("/pharos.query.v1.QueryService/Series", "0", endless(framed));
    *request.version_mut() = http::Version::HTTP_2;
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request
}

#[tokio::test]
async fn a_body_arrives_and_is_given_back() {
    let bodies = bodies();
    let found = ask(&bodies, request("/api/v1/query", "0", vec![7; 64 * KIB])).await;
    assert_eq!((found.0, found.2.as_str(), bodies.held_bytes()), (200, "65536", 0));
    let none = Request::get("/api/v1/query").body(Body::empty()).unwrap();
    assert_eq!(ask(&bodies, none).await.2, "0");
    let mut nobodys = request("/api/v1/query", "0", vec![7; 100]);
    nobodys.extensions_mut().remove::<Principal>();
    assert_eq!(ask(&bodies, nobodys).await.2, "0", "who was not let in has no body");
}

#[tokio::test]
async fn a_body_above_its_limit_is_refused_before_it_is_read() {
    let bodies = bodies();
    let large = || request("/api/v1/query", "0", vec![7; 64 * KIB + 1]);
    let (status, after, told) = ask(&bodies, large()).await;
    assert_eq!((status, after), (413, None));
    assert!(told.contains("query.body_max = 64KiB") && told.contains("raise it") && told.starts_with('{'), "{told}");
    let mut declared = request("/api/v1/read", "0", endless(vec![7]));
    *declared.version_mut() = http::Version::HTTP_2;
    declared.headers_mut().insert(CONTENT_LENGTH, "16777216".parse().unwrap());
    let (status, _, told) = ask(&bodies, declared).await;
    assert!(status == 413 && told.starts_with("the body is larger than query.body_max"), "{status} {told}");
    let (_, _, told) = ask(&bodies, call(64 << 20)).await;
    assert!(told.contains("the message is larger than query.body_max = 64KiB"), "{told}");
    let mut own = large();
    own.extensions_mut().insert(QueryLimits { body_bytes_max: Some(KIB as u64), ..QueryLimits::default() });
    let (status, _, told) = ask(&bodies, own).await;
    assert!(status == 413 && told.contains("limits.body_max = 1KiB"), "{status} {told}");
    assert_eq!(bodies.held_bytes(), 0);
}

/// However many bodies a tenant begins, another's are taken.
#[tokio::test]
async fn bodies_of_all_readers_have_a_common_limit_and_tenants_share_it() {
    let bodies = bodies();
    let slow = |tenant: &str| router(&bodies).oneshot(request("/api/v1/query", tenant, endless(vec![7; KIB])));
    let mut first = tokio::task::JoinSet::new();
    first.spawn(slow("greedy"));
    while bodies.held_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    let path = "/select/greedy/prometheus/api/v1/query";
    let (status, after, told) = ask(&bodies, request(path, "greedy", vec![7; KIB])).await;
    assert_eq!((status, after.as_deref()), (503, Some("1")), "{told}");
    assert!(told.contains("tenant greedy") && told.contains("query.bodies_max = 128KiB"), "{told}");
    let (status, _, told) = ask(&bodies, request("/api/v1/query", "other", vec![7; 64 * KIB])).await;
    assert_eq!((status, told.as_str()), (200, "65536"));
    first.shutdown().await;
    assert_eq!(bodies.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let bodies = bodies();
    let mut endless = request("/api/v1/query", "0", endless(vec![7; KIB]));
    *endless.version_mut() = http::Version::HTTP_2;
    let (status, _, told) = ask(&bodies, endless).await;
    assert!(status == 503 && told.contains("query.timeout"), "{status} {told}");
    assert_eq!(bodies.held_bytes(), 0);
}
