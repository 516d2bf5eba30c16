//! Limits of tenants in the real server: of queries and series, read again at a reload; and how many tenants there may be.

use pharos_testkit::Pharos;

use crate::otlp::{now_ms, remote_write};

async fn reload(pharos: &Pharos) {
    let (status, answer) = pharos.post("/-/reload", "text/plain", "").await;
    assert_eq!(status, 200, "{answer}");
}

/// Pushes one series for a tenant.
async fn push(pharos: &Pharos, tenant: &str, name: &str) -> (u16, String) {
    let body = snap::raw::Encoder::new().compress_vec(&remote_write(name, &[], &[(now_ms(), 1.0)])).unwrap();
    let request = pharos.client().post(pharos.url("/api/v1/write")).bearer_auth(pharos.token());
    let answer = request.header("x-scope-orgid", tenant).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn limits_of_tenants_hold_and_are_read_again_at_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pharos.yaml");
    std::fs::write(&config, "limits: {query_series_max: 1, series_active: 2}\n").unwrap();
    let pharos = Pharos::builder().option("--config", config.to_str().unwrap()).start().await;
    assert_eq!(push(&pharos, "0", "a").await.0, 204);
    assert_eq!(push(&pharos, "0", "b").await.0, 204);
    let (status, told) = push(&pharos, "0", "c").await;
    assert_eq!(status, 400, "{told}");
    assert!(told.contains("tenant 0 has 2 active series") && told.contains("limits.series_active"), "{told}");
    assert_eq!(push(&pharos, "0", "a").await.0, 204, "known series go on");

    let all = "/api/v1/query?query=count(%7B__name__%3D~%22a%7Cb%22%7D)";
    let (status, answer) = pharos.get(all).await;
    assert_eq!(status, 422, "{answer}");
    let told = answer["error"].as_str().unwrap();
    assert!(told.contains("limit of 1") && told.contains("limits.query_series_max"), "{told}");
    let (status, answer) = pharos.get("/api/v1/query?query=a").await;
    assert_eq!(status, 200, "{answer}");

    std::fs::write(&config, "limits: {query_series_max: 1}\ntenants: [{tenant: '0', limits: {query_series_max: 2}}]\n")
        .unwrap();
    reload(&pharos).await;
    let (status, answer) = pharos.get(all).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(push(&pharos, "0", "c").await.0, 204);

    std::fs::write(&config, "limits: {no_such_limit: 1}\n").unwrap();
    let (status, answer) = pharos.post("/-/reload", "text/plain", "").await;
    assert!(status >= 400 && answer.to_string().contains("no_such_limit"), "{status} {answer}");
    assert_eq!(pharos.get(all).await.0, 200, "what cannot be used changes nothing");
}

#[tokio::test]
async fn names_that_are_made_up_make_no_tenants_beyond_the_limit() {
    let pharos = Pharos::builder().option("--tsdb-tenants-max", "2").start().await;
    assert_eq!(push(&pharos, "one", "a").await.0, 204);
    assert_eq!(push(&pharos, "two", "a").await.0, 204);
    for stranger in 0..50 {
        let (status, told) = push(&pharos, &format!("stranger{stranger}"), "a").await;
        assert_eq!(status, 429, "{told}");
        assert!(told.contains("tenants limit of 2") && told.contains("tsdb.tenants_max"), "{told}");
    }
    assert_eq!(push(&pharos, "one", "b").await.0, 204, "known tenants go on");
}
