//! The router as a browser, a script and a monitoring client meet it.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::{CONTENT_SECURITY_POLICY, assets, router};

async fn ask_with(method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn ask(path: &str) -> Response {
    ask_with(Method::GET, path, &[]).await
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn body(response: Response) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// Some script of the bundle whose name carries a hash.
fn hashed_script() -> String {
    let path = assets::paths().find(|path| path.starts_with("assets/index-") && path.strip_suffix(".js").is_some());
    format!("/{}", path.expect("ui/dist is committed"))
}

#[tokio::test]
async fn the_page_is_served_at_the_root_and_under_its_name() {
    for path in ["/", "/index.html", "/whatever"] {
        let response = ask(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
        assert_eq!(header(&response, "cache-control"), "no-cache");
        let html = String::from_utf8(body(response).await).unwrap();
        assert!(html.contains("<div id=\"app\">"), "{path}");
    }
}

#[tokio::test]
async fn every_file_the_page_names_exists_and_its_url_is_relative() {
    let html = String::from_utf8(body(ask("/").await).await).unwrap();
    let mut named = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            let url = rest.split('"').next().unwrap();
            let path = url.strip_prefix("./").unwrap_or_else(|| panic!("{url} is not relative"));
            assert_eq!(ask(&format!("/{path}")).await.status(), StatusCode::OK, "{url}");
            named += 1;
        }
    }
    assert!(named >= 4, "icon, theme, script and style are named, found {named}");
}

#[tokio::test]
async fn a2_hashed_assets_are_kept_for_ever_and_others_asked_for_again() {
    let hashed = ask(&hashed_script()).await;
    assert_eq!(header(&hashed, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(header(&hashed, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header(&ask("/favicon.svg").await, "cache-control"), "no-cache");
    assert_eq!(header(&ask("/assets/theme.js").await, "cache-control"), "no-cache");
}

#[tokio::test]
async fn r3_a_known_entity_tag_is_answered_without_a_body() {
    let path = hashed_script();
    let plain = header(&ask(&path).await, "etag").to_owned();
    let packed = header(&ask_with(Method::GET, &path, &[("accept-encoding", "gzip")]).await, "etag").to_owned();
    assert_ne!(plain, packed);

    for known in [plain.clone(), format!("\"other\", W/{plain}"), "*".to_owned()] {
        let response = ask_with(Method::GET, &path, &[("if-none-match", &known)]).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header(&response, "etag"), plain);
        assert!(body(response).await.is_empty());
    }
    let other = ask_with(Method::GET, &path, &[("if-none-match", &packed)]).await;
    assert_eq!(other.status(), StatusCode::OK);
}

#[tokio::test]
async fn gzip_decodes_to_the_same_bytes() {
    use std::io::Read as _;

    let path = hashed_script();
    let plain = body(ask(&path).await).await;
    let response = ask_with(Method::GET, &path, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(header(&response, "content-encoding"), "gzip");
    assert_eq!(header(&response, "vary"), "accept-encoding");
    let length: usize = header(&response, "content-length").parse().unwrap();
    let packed = body(response).await;
    assert_eq!(packed.len(), length);
    assert!(packed.len() * 2 < plain.len());
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut decoded).unwrap();
    assert_eq!(decoded, plain);
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let path = hashed_script();
    let length = body(ask(&path).await).await.len();
    let response = ask_with(Method::HEAD, &path, &[]).await;
    assert_eq!(header(&response, "content-length"), length.to_string());
    assert!(body(response).await.is_empty());
}

#[tokio::test]
async fn r2_every_answer_carries_the_security_headers() {
    for path in ["/", "/assets/theme.js", "/assets/none.js", "/api/none", "/graph?g0.expr=up"] {
        let response = ask(path).await;
        assert_eq!(header(&response, "content-security-policy"), CONTENT_SECURITY_POLICY, "{path}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&response, "x-frame-options"), "DENY", "{path}");
    }
    assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
}

#[tokio::test]
async fn r1_paths_of_the_apis_never_get_the_page() {
    for path in
        ["/api", "/api/v1/none", "/api/traces/x/y", "/v1/logs", "/auth/none", "/-/none", "/metrics", "/federate"]
    {
        let response = ask(path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&response, "content-type"), "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn missing_files_and_deep_paths_are_not_found() {
    for path in ["/assets/none.js", "/robots.txt", "/a/b", "/../Cargo.toml", "/assets/../index.html", "/%2e%2e/x"] {
        assert_eq!(ask(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    let response = ask_with(Method::POST, "/", &[]).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&response, "allow"), "GET, HEAD");
}

#[tokio::test]
async fn links_of_the_replaced_pages_are_moved_behind_the_hash() {
    let response = ask("/trace/0af7651916cd43dd8448eb211c80319c").await;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(header(&response, "location"), "../#/trace/0af7651916cd43dd8448eb211c80319c");
    let response = ask("/graph?g0.expr=rate(up%5B5m%5D)").await;
    assert_eq!(header(&response, "location"), "./#/graph?g0.expr=rate(up%5B5m%5D)");
}

#[tokio::test]
async fn merged_into_another_router_it_shadows_no_route() {
    let whole = Router::new().route("/api/services", get(|| async { "services" })).merge(router());
    let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
    let api = whole.clone().oneshot(request("/api/services")).await.unwrap();
    assert_eq!(body(api).await, b"services");
    let page = whole.oneshot(request("/")).await.unwrap();
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
}
