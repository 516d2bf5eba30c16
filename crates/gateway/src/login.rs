//! Browsers log in with a token, get a cookie, and log out.
//!
//! A session stands for the token that was shown, of the file or of an issuer, and ends with it. Both routes that tell something about
//! a credential judge its rules, and what they turn away is counted and told like any other refusal; that nobody is logged in is none.
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

use crate::authenticate::{AuthError, Authenticator, SESSION_COOKIE};
use crate::layer::refuse;
use crate::presented::Presented;
use crate::principal::Principal;
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
    match judged(&authenticator, &presented, authenticator.shown(&form.token).await) {
        Ok((_, shown)) => {
            let (cookie, lasts_s) = authenticator.open_session(shown);
            cookie_answer(&authenticator, cookie.reveal(), lasts_s, &presented)
        }
        Err(error) => refuse(&error, Dialect::Plain),
    }
}

/// What was shown, if the rules of its credential let it be used from there.
fn judged<T>(
    authenticator: &Authenticator,
    presented: &Presented<'_>,
    shown: Result<(Principal, T), AuthError>,
) -> Result<(Principal, T), AuthError> {
    let client = presented.client(authenticator.trusted_networks());
    let refused = |who: &str, error: AuthError| {
        if error != AuthError::Missing {
            authenticator.audit().refused(presented, client, who, &error);
        }
        error
    };
    let (principal, shown) = shown.map_err(|error| refused("", error))?;
    let permission = principal.require_session(client, presented.path, presented.method);
    permission.map_err(|error| refused(principal.name(), error.into()))?;
    Ok((principal, shown))
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
    let presented = Presented::of(&parts);
    let shown = authenticator.authenticate(&presented).await.map(|principal| (principal, ()));
    match judged(&authenticator, &presented, shown) {
        Ok((principal, ())) => {
            let scopes: Vec<_> = principal.scopes().iter().map(|scope| scope.as_str()).collect();
            let auth = if authenticator.is_enabled() { "on" } else { "off" };
            let tenant = principal.tenants().to_string();
            Json(json!({"name": principal.name(), "scopes": scopes, "tenant": tenant, "auth": auth})).into_response()
        }
        Err(error) => refuse(&error, Dialect::Plain),
    }
}
