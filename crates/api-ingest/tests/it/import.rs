//! Imports as curl and VictoriaMetrics' tools send them.

use axum::body::{Body, Bytes};
use http::StatusCode;
use pharos_gateway::Scope;
use pharos_ingest::IngestSettings;

use crate::fixture::{
    Answer, Doors, Moody, NOW_MS, doors, doors_for, doors_to, doors_to_a_full_disk, gzip, post, principal,
};

const LINE: &str =
    r#"{"metric":{"__name__":"up","job":"a"},"values":[1,2.5],"timestamps":[1699999998000,1699999999000]}"#;

async fn send(doors: &Doors, path: &str, body: impl Into<Body>) -> Answer {
    doors.send(post(path), body).await
}

#[tokio::test]
async fn both_formats_arrive_below_every_path() {
    for (prefix, tenant) in [("", "0"), ("/prometheus", "0"), ("/insert/7:3/prometheus", "7:3")] {
        let doors = doors();
        let answer =
            send(&doors, &format!("{prefix}/api/v1/import/prometheus"), "# TYPE up gauge\nup{job=\"a\"} 1\n").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()), "{prefix}");
        assert_eq!(send(&doors, &format!("{prefix}/api/v1/import"), LINE).await.status, StatusCode::NO_CONTENT);
        let expected =
            ["up{job=\"a\"} 1@1699999998000", "up{job=\"a\"} 1@1700000000000", "up{job=\"a\"} 2.5@1699999999000"];
        assert_eq!(doors.stored(tenant), expected, "{prefix}");
        assert!(doors.own_metrics().contains("ingest_samples_total{protocol=\"import\"} 3"), "{}", doors.own_metrics());
    }
}

#[tokio::test]
async fn query_arguments_give_labels_and_the_instant() {
    let doors = doors();
    let path = "/api/v1/import/prometheus?extra_label=dc%3Dx%20y&extra_label=job=b&timestamp=1699999000000&other=1";
    assert_eq!(send(&doors, path, "up{job=\"a\"} 1").await.status, StatusCode::NO_CONTENT);
    assert_eq!(doors.stored("0"), ["up{dc=\"x y\", job=\"b\"} 1@1699999000000"]);
    for (query, part) in
        [("timestamp=noon", "noon"), ("extra_label=x", "is not name=value"), ("extra_label==x", "name=value")]
    {
        let answer = send(&doors, &format!("/api/v1/import/prometheus?{query}"), "up 2").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    assert_eq!(doors.stored("0").len(), 1);
}

#[tokio::test]
async fn compressed_bodies_arrive_and_unknown_encodings_are_told() {
    for (encoding, body) in [("gzip", gzip(LINE.as_bytes())), ("zstd", zstd::encode_all(LINE.as_bytes(), 1).unwrap())] {
        let doors = doors();
        let answer = doors.send(post("/api/v1/import").header("content-encoding", encoding), body.clone()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{encoding}");
        assert_eq!(doors.stored("0").len(), 2);
        let cut =
            doors.send(post("/api/v1/import").header("content-encoding", encoding), body[..body.len() - 5].to_vec());
        assert_eq!(cut.await.status, StatusCode::BAD_REQUEST, "{encoding}");
    }
    let answer = doors().send(post("/api/v1/import").header("content-encoding", "br"), LINE).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn what_cannot_be_taken_is_named_and_the_rest_is_kept() {
    let doors = doors();
    let old_ms = NOW_MS - 31 * 86_400_000;
    let answer = send(&doors, "/api/v1/import/prometheus", format!("a 1\nb one\nc 1 {old_ms}\nd 2\ne\n")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    for part in ["line 2: \"one\" is no number (2 lines", "1 refused (too_old)", "the rest is stored (2 samples)"] {
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    assert_eq!(doors.stored("0"), ["a 1@1700000000000", "d 2@1700000000000"]);
}

#[tokio::test]
async fn a_body_larger_than_the_limit_of_one_request_is_read_in_blocks() {
    let mut settings = IngestSettings::default();
    settings.limits.body_max = pharos_base::ByteSize::mib(1);
    settings.limits.bodies_max = pharos_base::ByteSize::mib(4);
    let doors = doors_for(pharos_gateway::Principal::anonymous(), settings);
    let line = |number: usize| format!("m{{pad=\"{:x>1000}\"}} 1 {}\n", "", NOW_MS - number as i64);
    let pieces = (0..6).map(move |piece| (0..1_000).map(|at| line(piece * 1_000 + at)).collect::<String>());
    let body =
        Body::from_stream(futures::stream::iter(pieces.map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)))));
    let answer = send(&doors, "/api/v1/import/prometheus", body).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(doors.stored("0").len(), 6_000);
}

#[tokio::test]
async fn who_may_not_write_and_a_full_disk_are_told() {
    let reader = doors_for(principal(Scope::MetricsRead, "*"), IngestSettings::default());
    assert_eq!(send(&reader, "/api/v1/import", LINE).await.status, StatusCode::FORBIDDEN);
    let other = doors_for(principal(Scope::MetricsWrite, "7"), IngestSettings::default());
    assert_eq!(send(&other, "/insert/8/prometheus/api/v1/import", LINE).await.status, StatusCode::FORBIDDEN);
    let answer = send(&doors_to_a_full_disk(), "/api/v1/import", LINE).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "7"));
}

fn failures(doors: &Doors) -> Vec<String> {
    let own = doors.own_metrics();
    own.lines().filter(|line| line.contains("failed_requests_total{")).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_busy_store_is_waited_for() {
    let doors = doors_to(IngestSettings::default(), Moody { takes: 1.into(), busy: 30.into(), ..Moody::default() });
    let answer = send(&doors, "/api/v1/import", LINE).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(doors.stored("0").len(), 2);
    assert!(failures(&doors).is_empty());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_busy_store_ends_and_counts_as_one_failure() {
    let doors =
        doors_to(IngestSettings::default(), Moody { takes: 1.into(), busy: u64::MAX.into(), ..Moody::default() });
    let answer = send(&doors, "/api/v1/import", LINE).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "7"));
    assert!(answer.text().contains("no space left on device"), "{}", answer.text());
    assert_eq!(failures(&doors), [r#"ingest_failed_requests_total{protocol="import",reason="unavailable"} 1"#]);
}

/// More than a block: a batch of its own.
fn long_lines(count: usize) -> String {
    let line = |number: usize| format!("m{{pad=\"{:x>1000}\"}} 1 {}\n", "", NOW_MS - number as i64);
    (0..count).map(line).collect()
}

#[tokio::test]
async fn what_is_stored_when_an_import_fails_halfway_is_told() {
    let doors = doors_to(IngestSettings::default(), Moody { takes: 1.into(), busy: 0.into(), ..Moody::default() });
    let answer = send(&doors, "/api/v1/import/prometheus", long_lines(6_000)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "7"));
    let stored = doors.stored("0").len();
    assert!(stored > 100, "{stored}");
    assert!(
        answer.text().contains(&format!("; {stored} samples before are stored, and may be sent again")),
        "{}",
        answer.text()
    );
    assert_eq!(failures(&doors).len(), 1);
}

#[tokio::test]
async fn a_block_that_is_too_large_is_413_though_some_are_stored() {
    let mut settings = IngestSettings::default();
    settings.limits.label_bytes_max = pharos_base::ByteSize::mib(1);
    let doors = doors_for(pharos_gateway::Principal::anonymous(), settings);
    // A megabyte of comments, so that the block after it is full of labels.
    let body = ["up 1\n", &"#\n".repeat(1 << 19), &long_lines(2_000)].concat();
    let answer = send(&doors, "/api/v1/import/prometheus", body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text());
    assert!(answer.text().contains("1 samples before are stored"), "{}", answer.text());
    assert_eq!(doors.stored("0"), ["up 1@1700000000000"]);
}

#[tokio::test]
async fn what_is_remembered_is_told() {
    let doors = doors();
    let own = doors.own_metrics();
    for name in ["otlp_streams_memory_bytes", "remote_write_memory_bytes", "remote_write_memory_series"] {
        assert!(own.contains(&format!("\ningest_{name} 0\n")), "{own}");
    }
}
