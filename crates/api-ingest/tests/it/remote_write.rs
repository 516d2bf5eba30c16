//! Remote write as Prometheus and vmagent send it.

use http::StatusCode;
use pharos_base::ByteSize;
use pharos_gateway::{Principal, Scope};
use pharos_ingest::IngestSettings;
use pharos_proto::remote_write::{v1, v2};
use prost::Message;

use crate::fixture::{
    Answer, Doors, NOW_MS, doors, doors_for, doors_to_a_full_disk, gzip, post, principal, small_bodies, snappy,
};

fn series(name: &str, timestamps: &[i64]) -> v1::TimeSeries {
    v1::TimeSeries {
        labels: vec![v1::Label { name: "__name__".into(), value: name.into() }],
        samples: timestamps.iter().map(|&timestamp| v1::Sample { value: 1.0, timestamp }).collect(),
        ..v1::TimeSeries::default()
    }
}

fn request(series: Vec<v1::TimeSeries>) -> Vec<u8> {
    v1::WriteRequest { timeseries: series, metadata: Vec::new() }.encode_to_vec()
}

fn up() -> Vec<u8> {
    request(vec![series("up", &[NOW_MS])])
}

async fn write(doors: &Doors, path: &str, encoding: &str, body: Vec<u8>) -> Answer {
    let request = post(path).header("content-type", "application/x-protobuf").header("content-encoding", encoding);
    doors.send(request, body).await
}

const UP: &str = "up 1@1700000000000";

#[tokio::test]
async fn every_encoding_arrives() {
    let zstd = |plain: &[u8]| zstd::encode_all(plain, 1).unwrap();
    for (encoding, body) in [
        ("snappy", snappy(&up())),
        ("zstd", zstd(&up())),
        ("identity", up()),
        ("zstd", snappy(&up())),
        ("", snappy(&up())),
    ] {
        let doors = doors();
        let answer = write(&doors, "/api/v1/write", encoding, body).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, String::new()), "{encoding}");
        assert_eq!(answer.header("x-prometheus-remote-write-samples-written"), "1");
        assert_eq!(doors.stored("0"), [UP], "{encoding}");
    }
}

#[tokio::test]
async fn every_path_leads_to_its_tenant() {
    for (path, tenant) in [
        ("/api/v1/write", "0"),
        ("/api/v1/push", "0"),
        ("/prometheus/api/v1/write", "0"),
        ("/insert/0/prometheus/api/v1/write", "0"),
        ("/insert/7:3/prometheus/api/v1/write", "7:3"),
    ] {
        let doors = doors();
        assert_eq!(write(&doors, path, "snappy", snappy(&up())).await.status, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(doors.stored(tenant), [UP], "{path}");
    }
}

#[tokio::test]
async fn a_principal_writes_only_where_it_may() {
    let other_tenant = doors_for(principal(Scope::MetricsWrite, "7"), IngestSettings::default());
    let answer = write(&other_tenant, "/insert/8/prometheus/api/v1/write", "snappy", snappy(&up())).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(write(&other_tenant, "/api/v1/write", "snappy", snappy(&up())).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        (other_tenant.stored("7").len(), other_tenant.stored("8").len(), other_tenant.stored("0").len()),
        (1, 0, 0)
    );
    let reader = doors_for(principal(Scope::MetricsRead, "*"), IngestSettings::default());
    let answer = write(&reader, "/api/v1/write", "snappy", snappy(&up())).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("metrics:write"), "{}", answer.text());
}

#[tokio::test]
async fn version_2_answers_with_true_counts() {
    let body = v2::Request {
        symbols: ["", "__name__", "up"].map(str::to_owned).to_vec(),
        timeseries: vec![
            v2::TimeSeries {
                labels_refs: vec![1, 2],
                samples: vec![v2::Sample { value: 1.0, timestamp: NOW_MS, start_timestamp: 0 }],
                ..v2::TimeSeries::default()
            },
            v2::TimeSeries {
                labels_refs: vec![1, 99],
                samples: vec![v2::Sample::default()],
                ..v2::TimeSeries::default()
            },
        ],
    };
    let doors = doors();
    let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let request = post("/api/v1/write").header("content-type", content_type).header("content-encoding", "snappy");
    let answer = doors.send(request, snappy(&body.encode_to_vec())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("symbol 99 of 3"), "{}", answer.text());
    let written = ["samples", "histograms", "exemplars"]
        .map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")).to_owned());
    assert_eq!(written, ["1", "0", "0"]);
    assert_eq!(doors.stored("0"), [UP]);
}

#[tokio::test]
async fn late_and_early_samples_are_told_and_the_rest_is_stored() {
    let doors = doors();
    let month_ms = 31 * 86_400_000;
    let body = request(vec![
        series("up", &[NOW_MS - month_ms, NOW_MS, NOW_MS + 601_000]),
        series("down", &[NOW_MS + 600_000]),
    ]);
    let answer = write(&doors, "/api/v1/write", "snappy", snappy(&body)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    for told in ["1 refused (too_old)", "1 refused (too_new)", "the rest of the request is stored"] {
        assert!(answer.text().contains(told), "{}", answer.text());
    }
    assert_eq!(doors.stored("0"), ["down 1@1700000600000", UP]);
    let own = doors.own_metrics();
    assert!(own.contains(r#"ingest_rejected_items_total{protocol="remote_write",reason="too_old"} 1"#), "{own}");
    assert!(own.contains(r#"ingest_samples_total{protocol="remote_write"} 2"#), "{own}");
}

#[tokio::test]
async fn what_is_not_spoken_is_415() {
    let doors = doors();
    for (content_type, encoding) in [
        ("application/json", "snappy"),
        ("application/x-protobuf;proto=foo.Bar", "snappy"),
        ("application/x-protobuf", "gzip"),
        ("application/x-protobuf", "deflate"),
    ] {
        let request = post("/api/v1/write").header("content-type", content_type).header("content-encoding", encoding);
        let answer = doors.send(request, gzip(&up())).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type} {encoding}");
    }
    let get = http::Request::builder().uri("/api/v1/write");
    assert_eq!(doors.send(get, "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let probe = http::Request::builder().uri("/api/v1/write?get_vm_proto_version=1");
    assert_eq!(doors.send(probe, "").await.text(), "1");
}

#[tokio::test]
async fn damaged_bodies_are_400_and_store_nothing() {
    let doors = doors();
    let plain = request(vec![series("up", &[NOW_MS]), series("down", &[NOW_MS])]);
    let packed = snappy(&plain);
    for (encoding, body) in [
        ("snappy", packed[..packed.len() - 2].to_vec()),
        ("snappy", b"\xff\xff\xff\xff\xff".to_vec()),
        ("identity", plain[..plain.len() - 1].to_vec()),
        ("zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0]),
    ] {
        let answer = write(&doors, "/api/v1/write", encoding, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{encoding}");
        assert!(!answer.text().is_empty());
    }
    assert!(doors.stored("0").is_empty());
    assert_eq!(write(&doors, "/api/v1/write", "snappy", snappy(&up())).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn large_bodies_are_413_whether_small_on_the_wire_or_not() {
    let doors = doors_for(Principal::anonymous(), small_bodies(ByteSize(1000)));
    let long = request(vec![series(&"x".repeat(2000), &[NOW_MS])]);
    for (encoding, body) in
        [("snappy", snappy(&long)), ("zstd", zstd::encode_all(&*long, 1).unwrap()), ("identity", long)]
    {
        let answer = write(&doors, "/api/v1/write", encoding, body).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
        assert!(answer.text().contains("ingest.limits.body_max"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_full_disk_is_503_with_the_time_to_come_back() {
    let answer = write(&doors_to_a_full_disk(), "/api/v1/write", "snappy", snappy(&up())).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "7"));
    assert!(answer.text().contains("no space left on device"), "{}", answer.text());
}
