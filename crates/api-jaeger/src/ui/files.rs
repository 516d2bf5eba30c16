//! Files of a folder: found by path, sent with their type and a tag, or told to be known already.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use pharos_base::full_message;

use super::text;

/// Larger files are not part of a UI.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Shortest hash that bundlers put into names; fewer characters are taken for a word.
const NAME_HASH_CHARS: usize = 8;
/// A year, the most that caches honour.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Keep, but ask each time whether it is still current.
const REVALIDATE: &str = "no-cache";

/// A file that may be sent.
pub(super) struct File {
    path: PathBuf,
    /// Changes with the file.
    tag: String,
}

/// The file at a percent-encoded path below `dir`, which has no links left in it; `None` for folders, files that are
/// hidden or too large, and whatever lies elsewhere.
pub(super) async fn find(dir: &Path, path: &str) -> Option<File> {
    let path = percent_encoding::percent_decode_str(path.trim_start_matches('/')).decode_utf8().ok()?;
    // Hidden are also `.` and `..`; the other marks separate or name drives on some systems.
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['\\', ':', '\0']);
    if !path.split('/').all(is_name) {
        return None;
    }
    let path = tokio::fs::canonicalize(dir.join(&*path)).await.ok()?;
    if !path.starts_with(dir) {
        return None;
    }
    let found = tokio::fs::metadata(&path).await.ok()?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return None;
    }
    let changed_ns = found.modified().ok()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    // Weak, for it may be compressed on its way.
    Some(File { path, tag: format!("W/\"{:x}-{changed_ns:x}\"", found.len()) })
}

impl File {
    /// Whether it is the file at `path`.
    pub(super) fn is(&self, path: &Path) -> bool {
        self.path == path
    }

    /// The file, or word that the client's copy is still current.
    pub(super) async fn answer(&self, headers: &HeaderMap) -> Response {
        let is_known = self.is_known(headers);
        let body = if is_known { Ok(Vec::new()) } else { tokio::fs::read(&self.path).await };
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, error = full_message(&error), "cannot read a file of Jaeger UI");
                return text(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read; see the server's log\n");
            }
        };
        let mut response = Response::new(Body::from(body));
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let caching = if has_hash(name) { IMMUTABLE } else { REVALIDATE };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let told = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        told.flat_map(|list| list.split(',')).any(|tag| tag.trim() == self.tag || tag.trim() == "*")
    }
}

/// Media type by extension.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "eot" => "application/vnd.ms-fontobject",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

/// Does the name end in a bundler's `-HASH.ext` or `.HASH.ext`? Such a file never changes under its name. A hash has
/// digits, or letters of both cases; words have neither.
fn has_hash(name: &str) -> bool {
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    // A hash may itself hold the mark that separates it.
    let starts = stem.match_indices(['-', '.']).map(|(at, _)| &stem[at + 1..]);
    starts.into_iter().any(|hash| {
        let has = |test: fn(&u8) -> bool| hash.as_bytes().iter().any(test);
        hash.len() >= NAME_HASH_CHARS
            && hash.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && (has(u8::is_ascii_digit) || (has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)))
            && hash.len() <= 64
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn only_names_with_a_hash_never_change() {
        for name in ["index-C0iGkf4p.js", "index-cND-a_bY.css", "main.9a3b2c1d.chunk.js", "logo-0f00baaa.svg"] {
            let expected = name != "main.9a3b2c1d.chunk.js";
            assert_eq!(has_hash(name), expected, "{name}");
        }
        for name in ["favicon.ico", "jaeger-logo.svg", "react-production.js", "index.html", "a.js"] {
            assert!(!has_hash(name), "{name}");
        }
    }
}
