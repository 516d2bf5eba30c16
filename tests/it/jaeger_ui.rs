//! A stock Jaeger UI from a folder, on the real binary: where it stands, and that its data stay guarded.

use std::fs;

use pharos_testkit::Pharos;

const PAGE: &str = "<html><head><base href=\"/\" data-inject-target=\"BASE_URL\" /><script>\n\
    const JAEGER_BACKEND_CAPABILITIES = DEFAULT_BACKEND_CAPABILITIES;\n</script></head></html>";

async fn get(pharos: &Pharos, url: String) -> (u16, String) {
    let response = pharos.client().get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_stock_jaeger_ui_stands_on_its_port_and_beside_our_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("static")).unwrap();
    fs::write(folder.path().join("index.html"), PAGE).unwrap();
    fs::write(folder.path().join("static/app.js"), "let x = 1;").unwrap();
    let pharos = Pharos::builder().option("--jaeger-api-ui-dir", &folder.path().to_string_lossy()).start().await;
    let on_its_port = |path: &str| format!("http://{}{path}", pharos.jaeger_address());

    for (url, base) in [
        (on_its_port("/"), "/"),
        (on_its_port("/search?service=shop"), "/"),
        (on_its_port("/trace/00ab"), "/"),
        (pharos.url("/jaeger/"), "/jaeger/"),
        (pharos.url("/jaeger"), "/jaeger/"),
        (pharos.url("/jaeger/search"), "/jaeger/"),
    ] {
        let (status, page) = get(&pharos, url.clone()).await;
        assert_eq!(status, 200, "{url}");
        assert!(page.contains(&format!("<base href=\"{base}\"")), "{url}: {page}");
        assert!(page.contains("\"searchWithoutServiceName\":true"), "{url}: {page}");
    }
    for url in [on_its_port("/static/app.js"), pharos.url("/jaeger/static/app.js")] {
        assert_eq!(get(&pharos, url).await, (200, "let x = 1;".to_owned()));
    }
    for url in [on_its_port("/api/services"), pharos.url("/jaeger/api/services"), pharos.url("/api/services")] {
        assert_eq!(get(&pharos, url.clone()).await.0, 401, "{url}: the page is open, its data are not");
        let response = pharos.client().get(&url).bearer_auth(pharos.token()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
    }
    for url in [on_its_port("/api/nothing"), pharos.url("/jaeger/api/nothing")] {
        let (status, body) = get(&pharos, url.clone()).await;
        assert_eq!((status, body.as_str()), (404, "404 page not found\n"), "{url}");
    }
    let (status, page) = get(&pharos, pharos.url("/")).await;
    assert!(status == 200 && !page.contains("BASE_URL"), "the root of the main port is ours: {page}");
}
