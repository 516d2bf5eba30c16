//! Browsers log in with a token, get a cookie, and log out.
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`; it is `Secure` where the browser came by TLS, to us or to a proxy that is
//! trusted. No answer of these routes may be kept by anyone on the way.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use pharos_http::Dialect;
use serde::Deserialize;
use serde_json::json;

use crate::authenticate::{Authenticator, SESSION_COOKIE};
use crate::layer::refuse;
use crate::presented::Presented;
use crate::verify::verify;

/// A login is one token in JSON, bytes.
const LOGIN_BYTES_MAX: usize = 64 << 10;

/// `/auth/login`, `/auth/logout`, `/auth/session` for the UI and `/auth/verify` for nginx.
pub fn session_routes(authenticator: Arc<Authenticator>) -> Router {
    Router::new()
        .route("/auth/login", post(log_in).layer(DefaultBodyLimit::max(LOGIN_BYTES_MAX)))
        .route("/auth/logout", post(log_out))
        .route("/auth/session", get(session))
        .route("/auth/verify", get(verify))
        .layer(from_fn(keep_nothing))
        .with_state(authenticator)
}

async fn keep_nothing(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[derive(Deserialize)]
struct LogIn {
    token: String,
}

async fn log_in(State(authenticator): State<Arc<Authenticator>>, parts: Parts, Json(form): Json<LogIn>) -> Response {
    let presented = Presented::of(&parts);
    match authenticator.log_in(&form.token) {
        Ok(cookie) => cookie_answer(&authenticator, cookie.reveal(), authenticator.session_s(), &presented),
        Err(error) => {
            let client = presented.client(authenticator.trusted_networks());
            authenticator.audit().refused(&presented, client, "", &error);
            refuse(&error, Dialect::Plain)
        }
    }
}

async fn log_out(State(authenticator): State<Arc<Authenticator>>, parts: Parts) -> Response {
    authenticator.log_out(&parts.headers);
    cookie_answer(&authenticator, "", 0, &Presented::of(&parts))
}

fn cookie_answer(authenticator: &Authenticator, value: &str, seconds: i64, presented: &Presented<'_>) -> Response {
    let secure = if presented.is_encrypted(authenticator.trusted_networks()) { "; Secure" } else { "" };
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
        Err(error) => refuse(&error, Dialect::Plain),
    }
}
