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

/// Replicas of one tenant are told apart by labels of its own, from a reload on.
#[tokio::test]
async fn pairs_of_replicas_are_recognised_by_what_their_tenant_says_and_read_again_at_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pharos.yaml");
    let write = |text: &str| std::fs::write(&config, text).unwrap();
    write("tenants: [{tenant: a, ha: {replica_label: pod, cluster_label: job}}]\n");
    let pharos = Pharos::builder().option("--config", config.to_str().unwrap()).start().await;
    let push = async |tenant: &str, name: &str, pod: &str| {
        let body = remote_write(name, &[("job", "j"), ("pod", pod)], &[(now_ms(), 1.0)]);
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let request = pharos.client().post(pharos.url("/api/v1/write")).bearer_auth(pharos.token());
        let answer = request.header("x-scope-orgid", tenant).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 204, "{}", answer.text().await.unwrap());
    };
    let pods = async |tenant: &str, name: &str| {
        let url = pharos.url(&format!("/api/v1/series?match[]={name}"));
        let request = pharos.client().get(url).bearer_auth(pharos.token()).header("x-scope-orgid", tenant);
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        let pod = |series: &serde_json::Value| series["pod"].as_str().unwrap_or("none").to_owned();
        answer["data"].as_array().unwrap().iter().map(pod).collect::<Vec<_>>()
    };
    for tenant in ["a", "b"] {
        push(tenant, "first", "1").await;
        push(tenant, "first", "2").await;
    }
    assert_eq!(
        (pods("a", "first").await, pods("b", "first").await),
        (vec!["none".into()], vec!["1".into(), "2".into()])
    );

    write("ingest: {ha: {replica_label: pod, cluster_label: job}}\ntenants: [{tenant: a, ha: {replica_label: ''}}]\n");
    reload(&pharos).await;
    for tenant in ["a", "b"] {
        push(tenant, "second", "1").await;
        push(tenant, "second", "2").await;
    }
    assert_eq!(
        (pods("a", "second").await, pods("b", "second").await),
        (vec!["1".into(), "2".into()], vec!["none".into()])
    );

    write("tenants: [{tenant: a, ha: {failover: 0s}}]\n");
    let (status, answer) = pharos.post("/-/reload", "text/plain", "").await;
    assert!(status >= 400 && answer.to_string().contains("tenants: a: ha.failover"), "{status} {answer}");
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
