use axum::Router;
use axum::body::{Body, to_bytes};
use http::StatusCode;
use http::header::SET_COOKIE;
use pharos_base::{Clock, SystemClock};
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::{AuthSettings, Identities, NewToken, Scope, TokenFile, session_routes};

struct Fixture {
    _folder: tempfile::TempDir,
    router: Router,
    token: String,
    authenticator: Arc<Authenticator>,
}

/// A gateway in front of a handler that tells who came; its token may query tenant 7.
fn fixture() -> Fixture {
    fixture_of(&[Scope::MetricsRead], "{}", |authenticator| authenticator)
}

/// The same, of a token with these scopes and rules.
fn fixture_of(scopes: &[Scope], rules: &str, more: impl FnOnce(Authenticator) -> Authenticator) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let token_file = TokenFile::at(folder.path().join("tokens.json"));
    let new = NewToken {
        rules: serde_json::from_str(rules).unwrap(),
        ..NewToken::new("reader", scopes, "7".parse().unwrap(), SystemClock.unix_ms() / 1_000)
    };
    let (secret, _) = token_file.add(new).unwrap();
    let settings = AuthSettings::with_tokens(token_file);
    let authenticator = Arc::new(more(Authenticator::open(settings, SystemClock::shared()).unwrap()));
    let who = |principal: axum::Extension<Principal>| async move { principal.tenant_for(None).unwrap().to_string() };
    let router = Router::new()
        .fallback(who)
        .merge(session_routes(Arc::clone(&authenticator)))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&authenticator), authenticate_request));
    Fixture { _folder: folder, router, token: secret.reveal().to_owned(), authenticator }
}

impl Fixture {
    async fn call(&self, request: http::request::Builder, body: &str) -> (StatusCode, HeaderMap, String) {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        (parts.status, parts.headers, text)
    }

    /// Logs in from an address.
    async fn log_in(&self, token: &str, from: &str) -> (StatusCode, HeaderMap) {
        let login = Request::builder().method("POST").uri("/auth/login").header("content-type", "application/json");
        let form = json!({"token": token}).to_string();
        let (status, headers, _) = self.call(login.extension(peer(from)), &form).await;
        (status, headers)
    }

    /// Requests turned away for a reason so far.
    fn refusals(&self, reason: &str) -> u64 {
        self.authenticator.refusals().find(|(name, _)| *name == reason).unwrap().1
    }

    fn with_token(&self, path: &str) -> http::request::Builder {
        Request::builder().uri(path).header("authorization", format!("Bearer {}", self.token))
    }
}

fn peer(address: &str) -> pharos_http::PeerAddress {
    pharos_http::PeerAddress(format!("{address}:5").parse().unwrap())
}

/// The cookie that an answer sets, as browsers send it, and for how long, seconds.
fn cookie_of(headers: &HeaderMap) -> (String, i64) {
    let set = headers[SET_COOKIE].to_str().unwrap();
    let lasts = set.split("; ").find_map(|part| part.strip_prefix("Max-Age=")).unwrap();
    (set.split(';').next().unwrap().to_owned(), lasts.parse().unwrap())
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
        // Spelled so that a program behind nginx which decodes paths reads other words than we do.
        ("GET", "/select/%37/prometheus/api/v1/query", 403),
        ("GET", "/%73elect/8/prometheus/api/v1/query", 403),
        ("GET", "/s%65lect/8/prometheus/api/v1/query", 403),
        ("GET", "/api/v1/%61dmin/tsdb/delete_series?match[]=up", 403),
        ("GET", "/api/v%31/admin/tsdb/delete_series", 403),
        ("GET", "/assets/%7Euser", 403),
        ("GET", "/assets/%5f", 403),
        ("GET", "/assets/%2Dx", 403),
        ("GET", "/assets/%00", 403),
        ("GET", "/assets/%0a", 403),
        ("GET", "/assets/%2Fx", 403),
        ("GET", "/assets/%252fx", 403),
        ("GET", "/assets/%", 403),
        ("GET", "/assets/%6", 403),
        ("GET", "/assets/%zz", 403),
        ("GET", "/assets/%+1", 403),
        ("GET", "/api;x/v1/query", 403),
        // What has to be encoded is read alike by all.
        ("GET", "/api/v1/label/a%20b%C3%A9/values", 204),
        ("GET", "/select/7%3A0/prometheus/api/v1/query", 204),
        ("GET", "/select/8%3A0/prometheus/api/v1/query", 403),
        ("GET", "/select/not%20one/prometheus/api/v1/query", 403),
        ("GET", "/api/v1/query?query=%61%2F%25", 204),
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
    for (from, expected) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let login = Request::builder().method("POST").uri("/auth/login").header("content-type", "application/json");
        let login = login.header("x-forwarded-proto", "https").extension(peer(from));
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

#[tokio::test]
async fn nginx_is_told_that_a_denied_door_is_closed_under_all_its_names() {
    let fixture = fixture_of(
        &[Scope::MetricsRead, Scope::Admin],
        r#"{"deny": [{"paths": ["/api/v1/export", "/api/v1/admin/*"]}]}"#,
        |authenticator| authenticator,
    );
    for (method, path, expected) in [
        ("GET", "/api/v1/query", 204),
        ("GET", "/api/v1/export", 403),
        ("GET", "/api/v1/%65xport", 403),
        ("GET", "/prometheus/api/v1/export", 403),
        ("GET", "/select/7/prometheus/api/v1/export", 403),
        ("POST", "/api/v1/admin/tsdb/delete_series", 403),
        ("POST", "/prometheus/api/v1/admin/tsdb/delete_series", 403),
        ("POST", "/delete/7/prometheus/api/v1/admin/tsdb/delete_series", 403),
        ("POST", "/delete/7%3A0/prometheus/api/v1/admin/tsdb/delete_series", 403),
    ] {
        assert_eq!(verified(&fixture, fixture.with_token("/"), method, path).await.0, expected, "{path}");
        // What Pharos itself lets through is what it tells nginx, but for spellings that it reads as no door at all.
        let own = fixture.with_token(path).method(method);
        let found = fixture.call(own, "").await.0.as_u16();
        assert_eq!(found == 403, expected == 403, "{path}");
    }
}

#[tokio::test]
async fn who_shows_a_wrong_credential_to_a_session_is_counted_and_who_shows_none_is_not() {
    let fixture = fixture();
    let ask = async |header: &str, value: &str| {
        let request = Request::builder().uri("/auth/session").header(header, value);
        fixture.call(request, "").await.0.as_u16()
    };
    assert_eq!(ask("accept", "*/*").await, 401);
    assert!(fixture.authenticator.refusals().all(|(_, count)| count == 0), "nobody was refused");
    assert_eq!(ask("authorization", "Bearer wrong").await, 401);
    assert_eq!(fixture.refusals("unknown"), 1);
    assert_eq!(ask("cookie", "pharos_session=wrong").await, 401);
    assert_eq!(fixture.refusals("session_ended"), 1);
    assert_eq!(fixture.log_in("wrong", "192.0.2.1").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.refusals("unknown"), 2);
    assert_eq!(ask("authorization", &format!("Bearer {}", fixture.token)).await, 200);
}

#[tokio::test]
async fn a_token_of_one_network_tells_nothing_and_opens_no_session_elsewhere() {
    let rules = r#"{"allow": [{"networks": ["10.0.0.0/8"], "paths": ["/api/v1/query"]}], "deny": [{"networks": ["10.9.0.0/16"]}]}"#;
    let fixture = fixture_of(&[Scope::MetricsRead], rules, |authenticator| authenticator);
    let mut denied = 0;
    for (from, is_good) in [("10.1.2.3", true), ("192.0.2.1", false), ("10.9.1.1", false)] {
        let (status, headers) = fixture.log_in(&fixture.token, from).await;
        assert_eq!(status, if is_good { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN }, "login from {from}");
        assert_eq!(headers.contains_key(SET_COOKIE), is_good);
        let (status, _, body) = fixture.call(fixture.with_token("/auth/session").extension(peer(from)), "").await;
        assert_eq!(status, if is_good { StatusCode::OK } else { StatusCode::FORBIDDEN }, "session from {from}");
        assert_eq!(body.contains("reader"), is_good, "{body}");
        denied += if is_good { 0 } else { 2 };
        assert_eq!(fixture.refusals("rules"), denied);
    }
    let (cookie, _) = cookie_of(&fixture.log_in(&fixture.token, "10.1.2.3").await.1);
    for (from, expected) in [("10.1.2.3", 200), ("192.0.2.1", 403)] {
        let request = Request::builder().uri("/auth/session").header("cookie", &cookie).extension(peer(from));
        assert_eq!(fixture.call(request, "").await.0.as_u16(), expected, "a cookie that went elsewhere: {from}");
    }
}

#[tokio::test]
async fn another_sites_page_cannot_make_a_browser_send_the_password_it_knows() {
    use base64::Engine;
    let fixture = fixture();
    let password = base64::engine::general_purpose::STANDARD.encode(format!("grafana:{}", fixture.token));
    for (authorization, site, expected) in [
        (format!("Basic {password}"), Some("cross-site"), 403),
        (format!("Basic {password}"), Some("same-site"), 403),
        (format!("Basic {password}"), Some("same-origin"), 200),
        (format!("Basic {password}"), None, 200),
        (format!("Bearer {}", fixture.token), Some("cross-site"), 200),
    ] {
        let request = Request::builder().method("POST").uri("/api/v1/query").header("authorization", &authorization);
        let request = site.into_iter().fold(request, |request, site| request.header("sec-fetch-site", site));
        assert_eq!(fixture.call(request, "").await.0.as_u16(), expected, "{site:?} {authorization}");
    }
    assert_eq!(fixture.refusals("other_site"), 2);
}

/// An issuer with one secret, and what makes tokens of it that end after so many seconds.
fn web_tokens() -> (Identities, tempfile::TempDir, impl Fn(&str, i64) -> String) {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let folder = tempfile::tempdir().unwrap();
    let (secret, file) = ("x".repeat(32), folder.path().join("secret"));
    std::fs::write(&file, &secret).unwrap();
    let settings = json!({"jwt": [{
        "issuer": "https://idp.example.com", "audience": ["pharos"],
        "keys": {"secrets": [{"file": file, "algorithm": "HS256"}]}, "grant": {"tenant": "8", "scopes": ["metrics:read"]},
    }]});
    let identities = Identities::open(&serde_json::from_value(settings).unwrap(), SystemClock::shared()).unwrap();
    let make = move |name: &str, ends_in_s: i64| {
        let end_s = SystemClock.unix_ms() / 1_000 + ends_in_s;
        let claims = json!({"iss": "https://idp.example.com", "aud": "pharos", "sub": name, "exp": end_s});
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    (identities, folder, make)
}

#[tokio::test]
async fn a_web_token_opens_a_session_that_lasts_no_longer_than_it() {
    let (identities, keys, make) = web_tokens();
    let identities = Arc::new(identities);
    let shared = Arc::clone(&identities);
    let fixture = fixture_of(&[Scope::MetricsRead], "{}", move |authenticator| authenticator.with_identities(shared));
    let (status, headers) = fixture.log_in(&make("ann", 600), "192.0.2.1").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (cookie, lasts_s) = cookie_of(&headers);
    assert!((1..=600).contains(&lasts_s), "{lasts_s}");
    let ask = async |path: &str| {
        let (status, _, body) = fixture.call(Request::builder().uri(path).header("cookie", &cookie), "").await;
        (status.as_u16(), body)
    };
    assert_eq!(ask("/api/v1/query").await, (200, "8".to_owned()));
    let (status, session) = ask("/auth/session").await;
    assert!(status == 200 && session.contains("\"ann\""), "{session}");
    assert_eq!(ask("/v1/traces").await.0, 403, "its scopes are the token's");
    let (_, headers) = fixture.log_in(&make("ann", 999_999), "192.0.2.1").await;
    assert_eq!(cookie_of(&headers).1, 12 * 3_600, "and no longer than any session");
    // Within the leeway the token is still taken, and no session begins with it.
    let late = make("ann", -5);
    let with_late = Request::builder().uri("/api/v1/query").header("authorization", format!("Bearer {late}"));
    assert_eq!(fixture.call(with_late, "").await.0, StatusCode::OK);
    assert_eq!(fixture.log_in(&late, "192.0.2.1").await.0, StatusCode::UNAUTHORIZED);
    let forged = format!("{}x", make("ann", 600));
    assert_eq!(fixture.log_in(&forged, "192.0.2.1").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!((fixture.refusals("expired"), fixture.refusals("web_token")), (1, 1));
    // The issuer's key goes, and with it whoever came by it.
    std::fs::write(keys.path().join("secret"), "y".repeat(32)).unwrap();
    identities.reload().unwrap();
    assert_eq!(ask("/api/v1/query").await.0, 401);
}
