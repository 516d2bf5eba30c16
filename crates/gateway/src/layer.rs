//! The gateway as middleware, and the routes of login and of nginx' `auth_request`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use pharos_base::ErrorClass;
use pharos_http::{Connection, Dialect, Refusal, discard_body};
use serde::Deserialize;
use serde_json::json;

use crate::authenticate::{AuthError, Authenticator, SESSION_COOKIE};
use crate::presented::Presented;
use crate::principal::Principal;
use crate::routes::{Access, Reach, Route};
use crate::session::SESSION_SECONDS;

/// The header in which a sender names its tenant, as Grafana's products do.
#[must_use]
pub fn tenant_header() -> HeaderName {
    HeaderName::from_static("x-scope-orgid")
}

/// Middleware around the whole router: authenticates before anything reads the body, checks the scope of
/// the path, and leaves the [`Principal`] in the request's extensions.
pub async fn authenticate_request(
    State(authenticator): State<Arc<Authenticator>>,
    request: Request,
    next: Next,
) -> Response {
    // A browser's preflight carries no credential, and its answer none of our data.
    if request.method() == Method::OPTIONS {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    if let Err(error) = authenticator.check_host(&parts.uri, &parts.headers) {
        return Refusal::new(error.class(), error.to_string()).render(Dialect::of(parts.uri.path(), &parts.headers));
    }
    match admit(&authenticator, &Presented::of(&parts)).await {
        Ok(principal) => {
            if let Some(principal) = principal {
                if let Some(connection) = parts.extensions.get::<Connection>() {
                    connection.admit();
                }
                parts.extensions.insert(principal);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            let path = parts.uri.path();
            tracing::debug!(path, reason = ?error.to_string(), "request refused");
            let refused = Refusal::new(error.class(), error.to_string()).render(Dialect::of(path, &parts.headers));
            discard_body(parts.version, &parts.headers, body).await;
            refused
        }
    }
}

async fn admit(authenticator: &Authenticator, presented: &Presented<'_>) -> Result<Option<Principal>, AuthError> {
    let Presented { method, path, headers, peer: client, .. } = *presented;
    let route = Route::of(path);
    if route.access == Access::Public {
        return Ok(None);
    }
    let principal = authenticator.authenticate(presented).await?;
    if authenticator.trusts_the_browser(headers) && !is_same_site(&route, method, headers) {
        return Err(AuthError::OtherSite);
    }
    match route.access {
        Access::Scope(scope) => principal.require(scope)?,
        Access::AnyOf(scopes) => principal.require_any(scopes)?,
        Access::Public | Access::Authenticated => {}
    }
    if route.reach == Reach::AllTenants {
        principal.require_all_tenants()?;
    }
    principal.require_permission(client, path, method)?;
    // Bytes that are no text are no tenant either; the principal says so.
    let asked = headers.get(tenant_header()).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let url = route.tenant.map(|tenant| percent_decode_str(tenant).decode_utf8_lossy());
    Ok(Some(principal.asking_for(url.as_deref(), asked.as_deref())?))
}

/// A cookie proves nothing about who made the browser send it: a request that changes something must
/// come from our own pages.
fn is_same_site(route: &Route<'_>, method: &Method, headers: &HeaderMap) -> bool {
    let reads = !route.changes && matches!(*method, Method::GET | Method::HEAD);
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    reads || matches!(site, None | Some("same-origin" | "none"))
}

/// `/auth/login`, `/auth/logout`, `/auth/session` for the UI and `/auth/verify` for nginx.
pub fn session_routes(authenticator: Arc<Authenticator>) -> Router {
    Router::new()
        .route("/auth/login", post(log_in))
        .route("/auth/logout", post(log_out))
        .route("/auth/session", get(session))
        .route("/auth/verify", get(verify))
        .with_state(authenticator)
}

#[derive(Deserialize)]
struct LogIn {
    token: String,
}

async fn log_in(
    State(authenticator): State<Arc<Authenticator>>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
    Json(form): Json<LogIn>,
) -> Response {
    match authenticator.log_in(&form.token) {
        Ok(cookie) => cookie_answer(cookie.reveal(), SESSION_SECONDS, is_encrypted(connection, &headers)),
        Err(error) => Refusal::new(error.class(), error.to_string()).render(Dialect::Plain),
    }
}

async fn log_out(
    State(authenticator): State<Arc<Authenticator>>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
) -> Response {
    authenticator.log_out(&headers);
    cookie_answer("", 0, is_encrypted(connection, &headers))
}

/// Whether the browser came by TLS, to us or to a proxy that says so.
fn is_encrypted(connection: Option<Extension<Connection>>, headers: &HeaderMap) -> bool {
    connection.is_some_and(|connection| connection.over_tls())
        || headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https")
}

fn cookie_answer(value: &str, seconds: i64, is_encrypted: bool) -> Response {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let cookie = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

async fn session(State(authenticator): State<Arc<Authenticator>>, parts: Parts) -> Response {
    match authenticator.authenticate(&Presented::of(&parts)).await {
        Ok(principal) => {
            let scopes: Vec<_> = principal.scopes().iter().map(|scope| scope.as_str()).collect();
            let auth = if authenticator.is_enabled() { "on" } else { "off" };
            let tenant = principal.tenants().to_string();
            Json(json!({"name": principal.name(), "scopes": scopes, "tenant": tenant, "auth": auth})).into_response()
        }
        Err(error) => Refusal::new(error.class(), error.to_string()).render(Dialect::Plain),
    }
}

/// Answers nginx' `auth_request`: 204, 401 or 403 for the request that nginx describes in
/// `X-Original-URI` and `X-Original-Method`.
async fn verify(State(authenticator): State<Arc<Authenticator>>, parts: Parts) -> Response {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(uri) = text("x-original-uri") else {
        let message = "nginx must pass the header X-Original-URI: proxy_set_header X-Original-URI $request_uri";
        return Refusal::new(ErrorClass::Invalid, message).render(Dialect::Plain);
    };
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    if !is_plain(path) {
        let message = "this path is written so that another server may read it differently";
        return Refusal::new(ErrorClass::Forbidden, message).render(Dialect::Plain);
    }
    let method = text("x-original-method").and_then(|method| method.parse().ok()).unwrap_or(Method::GET);
    let asked = Presented { method: &method, path, ..Presented::of(&parts) };
    match admit(&authenticator, &asked).await {
        Ok(principal) => {
            let name = principal.as_ref().map_or("", Principal::name);
            let tenant = principal.as_ref().map_or(String::new(), |principal| principal.tenants().to_string());
            let mut answer = StatusCode::NO_CONTENT.into_response();
            for (header, value) in [("x-pharos-principal", name), ("x-pharos-tenant", tenant.as_str())] {
                if let Ok(value) = HeaderValue::from_str(value) {
                    answer.headers_mut().insert(HeaderName::from_static(header), value);
                }
            }
            answer
        }
        Err(error) => Refusal::new(error.class(), error.to_string()).render(Dialect::Plain),
    }
}

/// Whether every server reads a path alike: nothing in it is removed, joined or decoded on the way. What is
/// guarded behind nginx may decode a path that Pharos compares as it stands.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let ambiguous = ["//", "/./", "/../", "\\", "%2e", "%2f", "%5c", "%25", "%00"];
    path.starts_with('/')
        && !ambiguous.iter().any(|part| lower.contains(part))
        && !lower.ends_with("/..")
        && !lower.ends_with("/.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use pharos_base::{Clock, SystemClock};
    use tower::ServiceExt;

    use crate::{AuthSettings, NewToken, Scope, TokenFile};

    struct Fixture {
        _folder: tempfile::TempDir,
        router: Router,
        token: String,
    }

    /// A gateway in front of a handler that tells who came; its token may query tenant 7.
    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let token_file = TokenFile::at(folder.path().join("tokens.json"));
        let new = NewToken {
            name: "reader".to_owned(),
            scopes: vec![Scope::MetricsRead],
            tenant: "7".parse().unwrap(),
            created_at: SystemClock.unix_ms() / 1_000,
            expires_at: None,
        };
        let (secret, _) = token_file.add(new).unwrap();
        let settings = AuthSettings { enabled: true, loopback_only: false, token_file };
        let authenticator = Arc::new(Authenticator::open(settings, SystemClock::shared()).unwrap());
        let who =
            |principal: axum::Extension<Principal>| async move { principal.tenant_for(None).unwrap().to_string() };
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
        let settings = AuthSettings { enabled: false, loopback_only: true, token_file };
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

    #[tokio::test]
    async fn nginx_is_told_about_the_original_request() {
        let fixture = fixture();
        let verify = |original: &str| fixture.with_token("/auth/verify").header("x-original-uri", original);
        let (status, headers, _) = fixture.call(verify("/api/v1/query?query=up"), "").await;
        assert_eq!((status, headers["x-pharos-principal"].to_str().unwrap()), (StatusCode::NO_CONTENT, "reader"));
        assert_eq!(fixture.call(verify("/v1/traces"), "").await.0, StatusCode::FORBIDDEN);
        for trick in ["/assets/../v1/traces", "/assets/%2e%2e/v1/traces", "/trace/..%2fx", "//x", "/assets/.."] {
            assert_eq!(fixture.call(verify(trick), "").await.0, StatusCode::FORBIDDEN, "{trick}");
        }
        let anonymous = Request::builder().uri("/auth/verify").header("x-original-uri", "/api/v1/query");
        let preflight = anonymous.header("x-original-method", "OPTIONS");
        assert_eq!(fixture.call(preflight, "").await.0, StatusCode::UNAUTHORIZED);
        let anonymous = Request::builder().uri("/auth/verify").header("x-original-uri", "/api/v1/query");
        assert_eq!(fixture.call(anonymous, "").await.0, StatusCode::UNAUTHORIZED);
    }
}
