use axum::Router;
use axum::body::{Body, to_bytes};
use http::StatusCode;
use http::header::SET_COOKIE;
use pharos_base::{Clock, SystemClock};
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::{AuthSettings, NewToken, Scope, TokenFile, session_routes};

struct Fixture {
    _folder: tempfile::TempDir,
    router: Router,
    token: String,
}

/// A gateway in front of a handler that tells who came; its token may query tenant 7.
fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let token_file = TokenFile::at(folder.path().join("tokens.json"));
    let new = NewToken::new("reader", &[Scope::MetricsRead], "7".parse().unwrap(), SystemClock.unix_ms() / 1_000);
    let (secret, _) = token_file.add(new).unwrap();
    let settings = AuthSettings::with_tokens(token_file);
    let authenticator = Arc::new(Authenticator::open(settings, SystemClock::shared()).unwrap());
    let who = |principal: axum::Extension<Principal>| async move { principal.tenant_for(None).unwrap().to_string() };
    let router = Router::new()
        .fallback(who)
        .merge(session_routes(Arc::clone(&authenticator)))
        .layer(axum::middleware::from_fn_with_state(authenticator, authenticate_request));
    Fixture { _folder: folder, router, token: secret.reveal().to_owned() }
}

impl Fixture {
    async fn call(&self, request: http::request::Builder, body: &str) -> (StatusCode, HeaderMap, String) {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    fn with_token(&self, path: &str) -> http::request::Builder {
        Request::builder().uri(path).header("authorization", format!("Bearer {}", self.token))
    }
}

#[tokio::test]
async fn a_token_opens_what_its_scope_and_tenant_allow_and_nothing_else() {
    let fixture = fixture();
    let (status, _, body) = fixture.call(fixture.with_token("/api/v1/query"), "").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "7"));
    let (status, _, body) = fixture.call(fixture.with_token("/api/v1/write").method("POST"), "").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("metrics:write"), "{body}");
    let other = fixture.with_token("/api/v1/query").header(tenant_header(), "8");
    assert_eq!(fixture.call(other, "").await.0, StatusCode::FORBIDDEN);
    let (status, headers, _) = fixture.call(Request::builder().uri("/api/v1/query"), "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn a_browser_session_reads_but_other_sites_cannot_make_it_write() {
    let fixture = fixture();
    let form = json!({"token": fixture.token}).to_string();
    let login = Request::builder().method("POST").uri("/auth/login").header("content-type", "application/json");
    let (status, headers, _) = fixture.call(login, &form).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let cookie = headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert!(headers[SET_COOKIE].to_str().unwrap().contains("HttpOnly; SameSite=Strict"));
    let with_cookie = |site: &str| {
        let request = Request::builder().method("POST").uri("/api/v1/query").header("cookie", &cookie);
        request.header("sec-fetch-site", site)
    };
    assert_eq!(fixture.call(with_cookie("same-origin"), "").await.0, StatusCode::OK);
    assert_eq!(fixture.call(with_cookie("cross-site"), "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn without_authentication_other_sites_and_other_names_are_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = TokenFile::at(folder.path().join("tokens.json"));
    let settings = AuthSettings { enabled: false, loopback_only: true, ..AuthSettings::with_tokens(token_file) };
    let authenticator = Arc::new(Authenticator::open(settings, SystemClock::shared()).unwrap());
    let router = Router::new()
        .fallback(|| async { "in" })
        .layer(axum::middleware::from_fn_with_state(authenticator, authenticate_request));
    let call = async |method: &str, host: &str, site: &str| {
        let request = Request::builder().method(method).uri("/-/flush").header("host", host);
        let request = request.header("sec-fetch-site", site).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(call("POST", "localhost:9090", "same-origin").await, StatusCode::OK);
    assert_eq!(call("POST", "[::1]:9090", "none").await, StatusCode::OK);
    assert_eq!(call("POST", "127.0.0.1:9090", "cross-site").await, StatusCode::FORBIDDEN);
    assert_eq!(call("GET", "evil.example:9090", "same-origin").await, StatusCode::FORBIDDEN);
}

/// What nginx gets for a request of `method` to `original`, and for whom.
async fn verified(
    fixture: &Fixture,
    request: http::request::Builder,
    method: &str,
    original: &str,
) -> (u16, String, String) {
    let request = request.uri("/auth/verify").header("x-original-uri", original).header("x-original-method", method);
    let (status, headers, _) = fixture.call(request, "").await;
    assert!(matches!(status.as_u16(), 204 | 401 | 403), "nginx makes 500 of {status}");
    let text = |name: &str| headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    (status.as_u16(), text("x-pharos-principal"), text("x-pharos-tenant"))
}

#[tokio::test]
async fn nginx_is_told_about_the_original_request() {
    let fixture = fixture();
    let own = || fixture.with_token("/");
    let good = verified(&fixture, own(), "GET", "/api/v1/query?query=up").await;
    assert_eq!(good, (204, "reader".to_owned(), "7".to_owned()));
    let status = async |request, method: &str, original: &str| verified(&fixture, request, method, original).await.0;
    for (method, original, expected) in [
        ("POST", "/v1/traces", 403),
        ("GET", "/select/7/prometheus/api/v1/query", 204),
        ("GET", "/select/8/prometheus/api/v1/query", 403),
        ("GET", "/select/%37/prometheus/api/v1/query", 204),
        ("GET", "/select/not%20one/prometheus/api/v1/query", 403),
        ("not a method", "/api/v1/query", 403),
        ("GET", "/assets/../v1/traces", 403),
        ("GET", "/assets/%2e%2e/v1/traces", 403),
        ("GET", "/trace/..%2fx", 403),
        ("GET", "//x", 403),
        ("GET", "/assets/..", 403),
    ] {
        assert_eq!(status(own(), method, original).await, expected, "{method} {original}");
    }
    let other = own().header(tenant_header(), "8");
    assert_eq!(status(other, "GET", "/api/v1/query").await, 403);
    let no_tenant = own().header(tenant_header(), "no tenant");
    assert_eq!(status(no_tenant, "GET", "/api/v1/query").await, 403, "400 would be 500 to nginx");
    assert_eq!(status(Request::builder(), "GET", "/api/v1/query").await, 401);
    for header in ["x-original-uri", "x-original-method"] {
        let lacking = fixture.with_token("/auth/verify").header(header, "/api/v1/query");
        assert_eq!(fixture.call(lacking, "").await.0, StatusCode::FORBIDDEN, "only {header}");
    }
}

#[tokio::test]
async fn a_preflight_passes_nginx_and_nothing_else_without_a_credential() {
    let fixture = fixture();
    let preflight = || {
        let from = Request::builder().header("origin", "https://app.example");
        from.header("access-control-request-method", "POST")
    };
    assert_eq!(verified(&fixture, preflight(), "OPTIONS", "/v1/traces").await.0, 204);
    assert_eq!(verified(&fixture, preflight(), "POST", "/v1/traces").await.0, 401);
    assert_eq!(verified(&fixture, Request::builder(), "OPTIONS", "/v1/traces").await.0, 401);
}

#[tokio::test]
async fn a_refusal_says_what_is_wrong_with_the_credential() {
    let fixture = fixture();
    let challenge = async |request| {
        let (status, headers, _) = fixture.call(request, "").await;
        (status.as_u16(), headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned()))
    };
    let wrong = Request::builder().uri("/api/v1/query").header("authorization", "Bearer wrong");
    let (status, words) = challenge(wrong).await;
    assert!(status == 401 && words.as_deref().is_some_and(|words| words.contains("invalid_token")), "{words:?}");
    let (status, words) = challenge(fixture.with_token("/v1/traces")).await;
    assert!(status == 403 && words.as_deref().is_some_and(|words| words.contains("insufficient_scope")), "{words:?}");
    let (status, words) = challenge(Request::builder().uri("/api/v1/query")).await;
    assert!(status == 401 && words.as_deref() == Some("Bearer realm=\"pharos\""), "{words:?}");
}

#[tokio::test]
async fn two_tenant_headers_are_refused() {
    let fixture = fixture();
    let request = fixture.with_token("/api/v1/query").header(tenant_header(), "7").header(tenant_header(), "8");
    assert_eq!(fixture.call(request, "").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_cookie_is_secure_only_by_tls_that_somebody_trusted_vouches_for() {
    let fixture = fixture();
    let form = json!({"token": fixture.token}).to_string();
    for (peer, expected) in [("127.0.0.1:5", true), ("192.0.2.1:5", false)] {
        let login = Request::builder().method("POST").uri("/auth/login").header("content-type", "application/json");
        let peer = pharos_http::PeerAddress(peer.parse().unwrap());
        let login = login.header("x-forwarded-proto", "https").extension(peer);
        let (status, headers, _) = fixture.call(login, &form).await;
        assert_eq!(
            (status, &headers["cache-control"]),
            (StatusCode::NO_CONTENT, &HeaderValue::from_static("no-store"))
        );
        assert_eq!(headers[SET_COOKIE].to_str().unwrap().contains("; Secure"), expected);
    }
}

#[test]
fn who_waits_for_an_issuers_keys_is_told_to_come_again() {
    let refused = refuse(&AuthError::Jwt(crate::JwtError::KeysUnavailable), Dialect::Plain);
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert!(!refuse(&AuthError::Missing, Dialect::Plain).headers().contains_key("retry-after"));
}
