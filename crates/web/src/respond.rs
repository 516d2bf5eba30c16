//! Requests to answers: which file, which headers, whether the browser has it already.
//!
//! Invariants
//! - R1 A path whose first segment belongs to an API is never answered with the page: a client that asks for JSON at a
//!   wrong path must see 404, not 200 and HTML.
//! - R2 Every answer carries the security headers.
//! - R3 Each coding of a file has an entity tag of its own (RFC 9110, 8.8.3.3).

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY as CSP_NAME,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::assets::{self, Asset};
use crate::links;

/// What the page may do: load its own files and talk to its own server, nothing else. No inline script or style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (CSP_NAME, CONTENT_SECURITY_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// First segments that belong to other doors (R1). The web crate answers 404 below them when nobody else did.
const API_SEGMENTS: [&str; 18] = [
    "api",
    "v1",
    "v2",
    "auth",
    "-",
    "metrics",
    "federate",
    "prometheus",
    "jaeger",
    "select",
    "insert",
    "opentelemetry",
    "kpi",
    "snapshot",
    "debug",
    "health",
    "ready",
    "version",
];

/// Seconds that a file with a hashed name may be kept: a year, the most that caches honour.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Keep, but ask each time whether it is still current.
const REVALIDATE: &str = "no-cache";

const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Pharos</title>\
     <h1>The UI is not in this build</h1><p>Pharos runs and its APIs answer, but it was compiled from a checkout \
     without <code>ui/dist</code>. Run <code>npm ci</code> and <code>npm run build</code> in <code>ui/</code>, then \
     build again.</p></html>";

/// The UI as a router of one fallback: it answers only what no route of the router it is merged into does.
///
/// Serves the page at `/` and `/index.html`, its files, and redirects links of Prometheus' and Jaeger's own pages. A
/// path of one segment without a dot gets the page, so that a mistyped address shows something useful.
pub fn router() -> Router {
    Router::new().fallback(|request: Request| async move {
        answer(request.method(), request.uri().path(), request.uri().query(), request.headers())
    })
}

fn answer(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Response {
    let mut response = if is_api(path) {
        // As Go's servers say it, whose clients may look for it.
        text(StatusCode::NOT_FOUND, "404 page not found\n")
    } else if method == Method::GET || method == Method::HEAD {
        get(path, query, headers)
    } else {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "the UI is read with GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

fn get(path: &str, query: Option<&str>, headers: &HeaderMap) -> Response {
    let name = path.trim_start_matches('/');
    if let Some(asset) = assets::find(name) {
        return file(asset, headers);
    }
    if let Some(target) = links::moved(path, query) {
        return redirect(&target);
    }
    if name.contains(['/', '.']) && name != "index.html" {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    match assets::find("index.html") {
        Some(page) => file(page, headers),
        None => placeholder(),
    }
}

fn is_api(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    API_SEGMENTS.contains(&first)
}

fn file(asset: &Asset, headers: &HeaderMap) -> Response {
    let packed = if accepts_gzip(headers) { asset.gzip() } else { None };
    let tag = if packed.is_some() { format!("\"{}-gz\"", asset.hash) } else { format!("\"{}\"", asset.hash) };
    let known = is_known(headers, &tag);
    let body = packed.unwrap_or(&asset.body);

    let mut response = Response::new(if known { Body::empty() } else { Body::from(body.clone()) });
    let out = response.headers_mut();
    out.insert(VARY, HeaderValue::from_static("accept-encoding"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static(if asset.immutable { IMMUTABLE } else { REVALIDATE }));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        out.insert(ETAG, value);
    }
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    out.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    out.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if packed.is_some() {
        out.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// `If-None-Match` compares weakly: `W/` is ignored, `*` fits anything (RFC 9110, 13.1.2).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Does the client take gzip? `q=0` means no; an unnamed coding counts when `*` is given (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for value in headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
        for entry in value.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                return !refused;
            }
            any |= coding == "*" && !refused;
        }
    }
    any
}

fn redirect(target: &str) -> Response {
    let mut response = text(StatusCode::FOUND, "moved\n");
    if let Ok(value) = HeaderValue::from_str(target) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn placeholder() -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, PLACEHOLDER);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod unit {
    use super::*;

    fn accepts(text: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
        accepts_gzip(&headers)
    }

    #[test]
    fn gzip_is_sent_only_where_it_is_wanted() {
        assert!(accepts("gzip, deflate, br, zstd"));
        assert!(accepts("br;q=1.0, GZIP;q=0.8"));
        assert!(accepts("*"));
        assert!(!accepts("br"));
        assert!(!accepts("gzip;q=0, *"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_build_without_the_ui_says_what_to_do() {
        let response = placeholder();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(PLACEHOLDER.contains("npm run build"));
    }
}
