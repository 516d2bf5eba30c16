//! A stock page in a folder, asked for as browsers do.

use std::fs;
use std::path::Path;

use axum::body::to_bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, ETAG, IF_NONE_MATCH};
use tower::ServiceExt;

use super::*;

/// The parts of a page that servers fill in, as both generations of the UI have them.
const TEMPLATE: &str = r#"<!doctype html>
<html><head>
<base href="/" data-inject-target="BASE_URL" />
<script>
  // Important! Do not alter the following line; Jaeger looks for that exact pattern.
  // JAEGER_CONFIG_JS

  function getJaegerUiConfig() {
    const DEFAULT_CONFIG = null;
    const JAEGER_CONFIG = DEFAULT_CONFIG;
    return JAEGER_CONFIG;
  }
  const JAEGER_STORAGE_CAPABILITIES = DEFAULT_STORAGE_CAPABILITIES;
  const JAEGER_BACKEND_CAPABILITIES = DEFAULT_BACKEND_CAPABILITIES;
  JAEGER_VERSION=DEFAULT_VERSION;
</script></head></html>
"#;

/// A folder with a UI, and beside it what must not be served.
fn fixture() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let ui = root.path().join("ui");
    fs::create_dir_all(ui.join("static")).unwrap();
    fs::write(ui.join("index.html"), TEMPLATE).unwrap();
    fs::write(ui.join("favicon.ico"), "icon").unwrap();
    fs::write(ui.join("static/index-C0iGkf4p.js"), "let x = 1;").unwrap();
    fs::write(ui.join("static/logo.svg"), "<svg/>").unwrap();
    fs::write(ui.join("static/.hidden"), "hidden").unwrap();
    fs::write(root.path().join("secret.txt"), "secret").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.path().join("secret.txt"), ui.join("static/leak.txt")).unwrap();
    root
}

fn opened(root: &Path, config: Option<&str>) -> Result<JaegerUi, UiError> {
    let settings = Settings {
        ui_dir: Some(root.join("ui")),
        ui_config: config.map(|name| root.join(name)),
        ..Settings::default()
    };
    let build =
        UiBuild { git_commit: "abc".to_owned(), git_version: "v1.2.3</script>".to_owned(), build_date: String::new() };
    JaegerUi::open(&settings, &build, UiCapabilities { metrics_storage: true }).map(Option::unwrap)
}

async fn send(router: &Router, method: Method, path: &str, headers: HeaderMap) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    *request.headers_mut() = headers;
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(router: &Router, path: &str) -> (StatusCode, HeaderMap, String) {
    send(router, Method::GET, path, HeaderMap::new()).await
}

#[tokio::test]
async fn the_page_is_filled_and_stands_for_every_path_of_the_ui() {
    let root = fixture();
    let router = opened(root.path(), None).unwrap().at_root();
    let (status, headers, page) = get(&router, "/").await;
    assert_eq!(
        (status, &headers[CONTENT_TYPE]),
        (StatusCode::OK, &HeaderValue::from_static("text/html; charset=utf-8"))
    );
    assert_eq!(headers[CACHE_CONTROL], "no-cache");
    let expected = TEMPLATE
        .replace(
            "= DEFAULT_BACKEND_CAPABILITIES;",
            r#"= {"archiveStorage":false,"metricsStorage":true,"searchWithoutServiceName":true,"aiAssistant":false};"#,
        )
        .replace("= DEFAULT_STORAGE_CAPABILITIES;", r#"= {"archiveStorage":false,"metricsStorage":true};"#)
        .replace(
            "JAEGER_VERSION=DEFAULT_VERSION;",
            r#"JAEGER_VERSION = {"gitCommit":"abc","gitVersion":"v1.2.3\u003c/script>","buildDate":""};"#,
        );
    assert_eq!(page, expected, "nothing else is touched");
    for path in
        ["/index.html", "/search?service=shop", "/trace/00ab", "/trace/00ab?uiFind=x", "/dependencies", "/what.ever"]
    {
        let (status, _, body) = get(&router, path).await;
        assert_eq!((status, &body), (StatusCode::OK, &page), "{path}");
    }
    fs::write(root.path().join("ui/index.html"), "a new build").unwrap();
    assert_eq!(get(&router, "/").await.2, "a new build");
}

#[tokio::test]
async fn beside_other_pages_it_stands_below_jaeger() {
    let root = fixture();
    let router = opened(root.path(), None).unwrap().beside_others();
    for path in ["/jaeger/", "/jaeger/search"] {
        let (status, _, page) = get(&router, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(page.contains(r#"<base href="/jaeger/" data-inject-target="BASE_URL" />"#), "{path}: {page}");
    }
    assert_eq!(get(&router, "/jaeger/static/logo.svg").await.2, "<svg/>");
    let (status, headers, _) = get(&router, "/jaeger?service=shop").await;
    assert_eq!(
        (status, &headers[LOCATION]),
        (StatusCode::TEMPORARY_REDIRECT, &HeaderValue::from_static("jaeger/?service=shop"))
    );
    assert_eq!(get(&router, "/jaeger/api/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&router, "/").await.0, StatusCode::NOT_FOUND, "the root is somebody else's");
}

#[tokio::test]
async fn files_have_their_types_and_are_kept_by_browsers() {
    let root = fixture();
    let router = opened(root.path(), None).unwrap().at_root();
    for (path, kind, caching, content) in [
        (
            "/static/index-C0iGkf4p.js",
            "text/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
            "let x = 1;",
        ),
        ("/static/logo.svg", "image/svg+xml", "no-cache", "<svg/>"),
        ("/favicon.ico", "image/x-icon", "no-cache", "icon"),
        ("/static/%6Cogo.svg", "image/svg+xml", "no-cache", "<svg/>"),
    ] {
        let (status, headers, body) = get(&router, path).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, content), "{path}");
        assert_eq!(
            (&headers[CONTENT_TYPE], &headers[CACHE_CONTROL]),
            (&HeaderValue::from_static(kind), &HeaderValue::from_static(caching)),
            "{path}"
        );
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!headers.contains_key(CONTENT_ENCODING));
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, headers[ETAG].clone())]);
        let (status, _, body) = send(&router, Method::GET, path, known).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
    }
    let (status, headers, body) = send(&router, Method::HEAD, "/static/logo.svg", HeaderMap::new()).await;
    assert_eq!(
        (status, body.as_str(), &headers[CONTENT_TYPE]),
        (StatusCode::OK, "", &HeaderValue::from_static("image/svg+xml"))
    );
    assert_eq!(send(&router, Method::POST, "/search", HeaderMap::new()).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn u1_nothing_outside_of_the_folder_is_served() {
    let root = fixture();
    let router = opened(root.path(), None).unwrap().at_root();
    for path in [
        "/../secret.txt",
        "/static/../../secret.txt",
        "/static/%2e%2e/%2e%2e/secret.txt",
        "/static/..%2f..%2fsecret.txt",
        "/static/..%5c..%5csecret.txt",
        "/static/leak.txt",
        "/static/.hidden",
        "/static/%00",
        "/static/%ff",
        "/static//logo.svg",
        "//etc/passwd",
        "/static",
        "/static/",
        "/static/missing.js",
    ] {
        let (status, _, body) = get(&router, path).await;
        let is_page = status == StatusCode::OK && body.starts_with("<!doctype html>");
        let is_absent = status == StatusCode::NOT_FOUND && body == "404 page not found\n";
        assert!(is_page || is_absent, "{path}: {status} {body}");
        assert_eq!(is_absent, path.starts_with("/static/"), "{path}: what looks like a file is no page");
    }
}

#[tokio::test]
async fn u2_wrong_paths_of_the_apis_are_not_the_page() {
    let root = fixture();
    let router = opened(root.path(), None).unwrap().at_root();
    for path in ["/api", "/api/", "/api/nothing", "/api/v3/nothing", "//api/x"] {
        let (status, headers, body) = get(&router, path).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, "404 page not found\n"), "{path}");
        assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn a_configuration_is_an_object_or_a_script() {
    let root = fixture();
    fs::write(root.path().join("ui.json"), r#"{"menu": [{"label": "</script>"}]}"#).unwrap();
    fs::write(root.path().join("ui.js"), "\nfunction UIConfig ( ) {\n  return {menu: []};\n}\n").unwrap();
    let page = |ui: JaegerUi| async move { get(&ui.at_root(), "/").await.2 };
    let filled = page(opened(root.path(), Some("ui.json")).unwrap()).await;
    assert!(filled.contains(r#"const JAEGER_CONFIG = {"menu":[{"label":"\u003c/script>"}]};"#), "{filled}");
    assert!(filled.contains("// JAEGER_CONFIG_JS"));
    let filled = page(opened(root.path(), Some("ui.js")).unwrap()).await;
    let expected = "exact pattern.\nfunction UIConfig ( ) {\n  return {menu: []};\n}\n  function getJaegerUiConfig() {";
    assert!(filled.contains(expected), "{filled}");
    assert!(filled.contains("const JAEGER_CONFIG = DEFAULT_CONFIG;"));
}

#[test]
fn what_cannot_be_served_is_told_at_the_start() {
    let root = fixture();
    fs::write(root.path().join("list.json"), "[]").unwrap();
    fs::write(root.path().join("other.js"), "function Config() {}").unwrap();
    fs::write(root.path().join("ui.yaml"), "menu: []").unwrap();
    for (config, fault) in [
        ("absent.json", "cannot read"),
        ("list.json", "is no JSON object"),
        ("other.js", "must define function UIConfig()"),
        ("ui.yaml", "must be a .json or a .js file"),
    ] {
        let told = opened(root.path(), Some(config)).unwrap_err().to_string();
        assert!(told.contains(fault) && told.contains(config), "{told}");
    }
    let elsewhere = Settings { ui_dir: Some(root.path().to_owned()), ..Settings::default() };
    let build = UiBuild { git_commit: String::new(), git_version: String::new(), build_date: String::new() };
    let capabilities = UiCapabilities { metrics_storage: false };
    let told = JaegerUi::open(&elsewhere, &build, capabilities).unwrap_err().to_string();
    assert!(told.contains("index.html") && told.contains("jaeger_api.ui_dir"), "{told}");
    assert!(JaegerUi::open(&Settings::default(), &build, capabilities).unwrap().is_none());
    let lonely = Settings { ui_config: Some("ui.json".into()), ..Settings::default() };
    assert!(lonely.check().unwrap_err().starts_with("ui_config: needs ui_dir"));
}
