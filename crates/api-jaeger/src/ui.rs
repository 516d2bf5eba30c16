//! A built Jaeger UI, served from a folder: its page with what the server knows filled in, its files, and the page again
//! for every path that is the UI's own business.
//!
//! It reads the folder with each request: a new build is seen at once. It holds no data, so it asks for no credential;
//! what the page then asks of the APIs does.
//!
//! Invariants
//! - U1 Nothing outside of the folder is served, whatever the path says and wherever links in the folder lead.
//! - U2 A path below `api/` is never answered with the page: who asks for JSON at a wrong path must see 404.

mod files;
mod page;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use pharos_base::full_message;

use crate::Settings;
use page::Page;

pub use page::{UiBuild, UiCapabilities};

const PAGE: &str = "index.html";
/// Where it stands beside other pages.
const BESIDE: &str = "/jaeger/";

/// Why the UI cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum UiError {
    /// There is no such folder, or no page in it.
    #[error("cannot read {path}: jaeger_api.ui_dir must be the folder of a built Jaeger UI")]
    Page { path: PathBuf, source: io::Error },
    /// The configuration cannot be read.
    #[error("cannot read {path}, which jaeger_api.ui_config names")]
    Config { path: PathBuf, source: io::Error },
    /// The configuration is none.
    #[error("jaeger_api.ui_config: {path} {fault}")]
    BadConfig { path: PathBuf, fault: String },
}

/// A UI in a folder.
#[derive(Debug, Clone)]
pub struct JaegerUi {
    /// With all links resolved (U1).
    dir: PathBuf,
    page: Arc<Page>,
}

impl JaegerUi {
    /// Opens the UI that the settings name, if they do.
    ///
    /// # Errors
    /// [`UiError`] if there is no page in the folder, or the configuration cannot be used.
    pub fn open(settings: &Settings, build: &UiBuild, capabilities: UiCapabilities) -> Result<Option<Self>, UiError> {
        let Some(dir) = &settings.ui_dir else { return Ok(None) };
        let readable = |path: PathBuf| {
            let read = std::fs::read_to_string(&path);
            read.map_err(|source| UiError::Page { path, source })
        };
        readable(dir.join(PAGE))?;
        let dir = dir.canonicalize().map_err(|source| UiError::Page { path: dir.clone(), source })?;
        let page = Page::new(settings.ui_config.as_deref(), build, capabilities)?;
        Ok(Some(Self { dir, page: Arc::new(page) }))
    }

    /// All paths that nothing else answers: for a port of Jaeger's own.
    pub fn at_root(self) -> Router {
        Router::new().fallback(move |request: Request| {
            let ui = self.clone();
            let request = request.into_parts().0;
            async move { ui.answer(&request, request.uri.path(), "/").await }
        })
    }

    /// Everything below `/jaeger/`: for a port with another page at its root.
    pub fn beside_others(self) -> Router {
        let below = move |request: Request| {
            let ui = self.clone();
            let request = request.into_parts().0;
            async move {
                let path = request.uri.path();
                ui.answer(&request, path.strip_prefix(BESIDE).unwrap_or(path), BESIDE).await
            }
        };
        Router::new()
            .route("/jaeger", any(async |request: Request| moved(request.uri().query())))
            .route("/jaeger/", any(below.clone()))
            .route("/jaeger/{*path}", any(below))
    }

    /// `path` is relative to where the UI stands, percent-encoded; `base` says where that is.
    async fn answer(&self, request: &Parts, path: &str, base: &str) -> Response {
        let mut response = if path.trim_start_matches('/').split('/').next() == Some("api") {
            text(StatusCode::NOT_FOUND, "404 page not found\n")
        } else if matches!(request.method, Method::GET | Method::HEAD) {
            self.get(request, path, base).await
        } else {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        };
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if request.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        response
    }

    async fn get(&self, request: &Parts, path: &str, base: &str) -> Response {
        match files::find(&self.dir, path).await {
            Some(file) if !file.is(&self.dir.join(PAGE)) => file.answer(&request.headers).await,
            // What looks like a file of the build and is not there must not come back as a page.
            None if path.trim_start_matches('/').starts_with("static/") => {
                text(StatusCode::NOT_FOUND, "404 page not found\n")
            }
            _ => self.page(base).await,
        }
    }

    async fn page(&self, base: &str) -> Response {
        let path: &Path = &self.dir.join(PAGE);
        let template = match tokio::fs::read_to_string(path).await {
            Ok(template) => template,
            Err(error) => {
                tracing::error!(path = %path.display(), error = full_message(&error), "cannot read the page of Jaeger UI");
                return text(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be read; see the server's log\n");
            }
        };
        let mut response = Response::new(Body::from(self.page.fill(&template, base)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// To the folder, in which the page's relative links make sense. The target is relative, so that a prefix that a proxy
/// took away stays.
fn moved(query: Option<&str>) -> Response {
    let target = query.map_or_else(|| "jaeger/".to_owned(), |query| format!("jaeger/?{query}"));
    let mut response = text(StatusCode::TEMPORARY_REDIRECT, "");
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

fn text(status: StatusCode, message: &'static str) -> Response {
    let mut response = Response::new(Body::from(message));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
