//! Bodies made to break a server: it refuses them by their names, in bounded memory, and lives on.
//!
//! Each is sent while its memory is watched; the ceiling stands above what the server held before.

use std::io::Read;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use pharos_testkit::Pharos;
use reqwest::Client;

use crate::otlp::{now_ms, one_span, push_remote_write, remote_write};

/// What bombs inflate to.
const BOMB_BYTES: usize = 10 << 30;
/// What one member or frame of a bomb inflates to.
const PART_BYTES: usize = 64 << 20;
/// Largest body of the server under attack.
const BODY_MAX: &str = "16MiB";
/// How far memory may rise above what was held before, for bodies that are refused.
const RISE_BYTES_MAX: u64 = 150 << 20;

const PROTOBUF: &str = "application/x-protobuf";

async fn start() -> Pharos {
    let pharos = Pharos::builder().option("--ingest-limits-body-max", BODY_MAX).start().await;
    assert_alive(&pharos).await;
    pharos
}

async fn assert_alive(pharos: &Pharos) {
    let message = remote_write("alive", &[], &[(now_ms(), 1.0)]);
    assert_eq!(push_remote_write(pharos, "/api/v1/write", message).await.0, 204, "{}", pharos.log());
    let span = prost::Message::encode_to_vec(&one_span("alive", 1, 1_000));
    let (status, answer) = pharos.post("/v1/traces", PROTOBUF, span).await;
    assert_eq!(status, 200, "{answer}");
}

/// A field of `/proc/PID/status`, bytes.
fn memory(pharos: &Pharos, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pharos.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Memory of a server around what is done to it.
struct Watch<'a> {
    pharos: &'a Pharos,
    before: u64,
}

impl<'a> Watch<'a> {
    fn new(pharos: &'a Pharos) -> Self {
        // The peak is counted from here.
        std::fs::write(format!("/proc/{}/clear_refs", pharos.id()), "5").unwrap();
        Self { pharos, before: memory(pharos, "VmRSS") }
    }

    async fn end(self, what: &str, rise_max: u64) {
        let rise = memory(self.pharos, "VmHWM").saturating_sub(self.before);
        assert!(rise <= rise_max, "{what}: memory rose by {} MiB", rise >> 20);
        assert_alive(self.pharos).await;
    }
}

/// Zeros that inflate to [`BOMB_BYTES`]: many small members, one after the other.
fn gzip_bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        std::io::copy(&mut std::io::repeat(0).take(PART_BYTES as u64), &mut encoder).unwrap();
        encoder.finish().unwrap().repeat(BOMB_BYTES / PART_BYTES)
    })
}

fn zstd_bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(PART_BYTES as u64), &mut encoder).unwrap();
        encoder.finish().unwrap().repeat(BOMB_BYTES / PART_BYTES)
    })
}

/// A snappy block that says it has 4 GiB, the most that it can say.
fn snappy_bomb() -> Vec<u8> {
    let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    bomb.resize(bomb.len() + (1 << 20), 0xfe);
    bomb
}

/// A zstd frame that asks for a window of 2^31 bytes.
fn zstd_of_a_huge_window() -> Vec<u8> {
    // Magic; a header without content size or checksum; a window of 2^(10 + 21) bytes; one last raw block of 4 bytes.
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[0x21, 0x00, 0x00], b"aaaa"].concat()
}

async fn send(pharos: &Pharos, path: &str, content_type: &str, encoding: &str, body: Vec<u8>) -> (u16, String) {
    let request =
        pharos.client().post(pharos.url(path)).bearer_auth(pharos.token()).header("content-type", content_type);
    let request = if encoding.is_empty() { request } else { request.header("content-encoding", encoding) };
    let answer = request.body(body).send().await.expect("the server answers");
    let status = answer.status().as_u16();
    (status, String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned())
}

/// A message of a length, as a field.
fn field(number: u8, message: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut field);
    [&field[..], message].concat()
}

/// As many bytes as a body may have, but for its frames, of one piece again and again.
fn repeated(piece: &[u8]) -> Vec<u8> {
    piece.repeat((15 << 20) / piece.len())
}

/// Calls a gRPC service with a message that no client would make; answers its code.
async fn call(pharos: &Pharos, signal: &str, encoding: &str, frame: Vec<u8>) -> String {
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let path = match signal {
        "traces" => "opentelemetry.proto.collector.trace.v1.TraceService/Export",
        _ => "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    };
    let answer = client
        .post(format!("http://{}/{path}", pharos.otlp_grpc_address()))
        .bearer_auth(pharos.token())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(frame)
        .send()
        .await
        .expect("the server answers");
    answer.headers().get("grpc-status").map_or_else(String::new, |code| code.to_str().unwrap().to_owned())
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[tokio::test]
async fn ten_gigabytes_in_a_few_megabytes() {
    let pharos = start().await;
    for (path, encoding, body) in [
        ("/v1/traces", "gzip", gzip_bomb()),
        ("/v1/traces", "zstd", zstd_bomb()),
        ("/v1/metrics", "gzip", gzip_bomb()),
        ("/v1/metrics", "zstd", zstd_bomb()),
        ("/api/v1/write", "zstd", zstd_bomb()),
    ] {
        let watch = Watch::new(&pharos);
        let (status, answer) = send(&pharos, path, PROTOBUF, encoding, body.to_vec()).await;
        assert_eq!(status, 413, "{path} {encoding}: {answer}");
        assert!(answer.contains(BODY_MAX), "the limit is named: {answer}");
        watch.end(&format!("{path} {encoding}"), RISE_BYTES_MAX).await;
    }
    let watch = Watch::new(&pharos);
    let (status, answer) = send(&pharos, "/api/v1/write", PROTOBUF, "snappy", snappy_bomb()).await;
    assert!(matches!(status, 400 | 413), "{status} {answer}");
    watch.end("remote write, snappy", RISE_BYTES_MAX).await;
}

#[tokio::test]
async fn ten_gigabytes_over_grpc() {
    let pharos = start().await;
    for (signal, encoding, bomb) in
        [("traces", "gzip", gzip_bomb()), ("metrics", "zstd", zstd_bomb()), ("traces", "zstd", zstd_bomb())]
    {
        let watch = Watch::new(&pharos);
        let code = call(&pharos, signal, encoding, framed(1, bomb)).await;
        assert_eq!(code, "8", "{signal} {encoding}: RESOURCE_EXHAUSTED");
        watch.end(&format!("grpc {signal} {encoding}"), RISE_BYTES_MAX).await;
    }
}

#[tokio::test]
async fn ten_gigabytes_for_an_import() {
    let pharos = start().await;
    for (encoding, bomb) in [("gzip", gzip_bomb()), ("zstd", zstd_bomb())] {
        let watch = Watch::new(&pharos);
        let (status, answer) = send(&pharos, "/api/v1/import/prometheus", "text/plain", encoding, bomb.to_vec()).await;
        assert!(matches!(status, 400 | 413), "{encoding}: {status} {answer}");
        watch.end(&format!("import {encoding}"), RISE_BYTES_MAX).await;
    }
}

#[tokio::test]
async fn lengths_and_depths_that_nothing_can_have() {
    let pharos = start().await;
    let deep_json = [b"{\"resourceSpans\":".to_vec(), b"[".repeat(1_000_000)].concat();
    let deep_value = format!(
        "{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[{{\"key\":\"a\",\"value\":{}",
        "{\"arrayValue\":{\"values\":[".repeat(100_000)
    );
    // Field 1, and a length of 2^63 or of 2 GiB.
    let huge = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec();
    let large = b"\x0a\xff\xff\xff\xff\x07".to_vec();
    for (path, content_type, encoding, body) in [
        ("/v1/traces", "application/json", "", deep_json.clone()),
        ("/v1/metrics", "application/json", "", deep_json),
        ("/v1/traces", "application/json", "", deep_value.into_bytes()),
        ("/v1/traces", PROTOBUF, "", huge.clone()),
        ("/v1/metrics", PROTOBUF, "", huge.clone()),
        ("/v1/metrics", PROTOBUF, "", large),
        ("/api/v1/write", PROTOBUF, "", huge.clone()),
        ("/v1/traces", PROTOBUF, "zstd", zstd_of_a_huge_window()),
        ("/api/v1/write", PROTOBUF, "zstd", zstd_of_a_huge_window()),
    ] {
        let watch = Watch::new(&pharos);
        let (status, answer) = send(&pharos, path, content_type, encoding, body).await;
        assert_eq!(status, 400, "{path} {content_type} {encoding}: {answer}");
        watch.end(&format!("{path} {content_type} {encoding}"), RISE_BYTES_MAX).await;
    }
    let watch = Watch::new(&pharos);
    assert_eq!(call(&pharos, "traces", "identity", framed(0, &huge)).await, "3", "INVALID_ARGUMENT");
    let promised = [&[0][..], &u32::MAX.to_be_bytes(), b"x"].concat();
    assert_eq!(call(&pharos, "metrics", "identity", promised).await, "8", "a length over the limit");
    watch.end("grpc lengths", RISE_BYTES_MAX).await;
}

/// Bodies of a few kilobytes that fit every limit of a body, and are made of what is small there and large in memory.
#[tokio::test]
async fn small_things_that_are_large_in_memory() {
    const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let builder = Pharos::builder().option("--ingest-limits-body-max", BODY_MAX);
    let pharos = builder.option("--ingest-limits-decoded-max", "32MiB").start().await;
    assert_alive(&pharos).await;
    let mut now = Vec::new();
    prost::encoding::encode_varint(now_ms().try_into().unwrap(), &mut now);
    // A sample and a histogram of 1.0 have their instant in fields 2 and 15.
    let (at_2, at_15) = ([&[2 << 3][..], &now].concat(), [&[15 << 3][..], &now].concat());
    let name = field(1, &[field(1, b"__name__"), field(2, b"hostile")].concat());
    let series = |fields: Vec<u8>| field(1, &[name.clone(), fields].concat());
    let described = |at: u32| {
        let mut references = vec![1];
        prost::encoding::encode_varint(at.into(), &mut references);
        field(5, &[field(1, &references), field(5, &[1 << 3, 1, 3 << 3, 2])].concat())
    };
    let families = 100_000..200_000_u32;
    let symbols = [field(4, b""), field(4, b"__name__"), field(4, &[b'h'; 2048])].concat();
    let named = families.clone().flat_map(|family| field(4, family.to_string().as_bytes())).collect::<Vec<_>>();
    let helped = (3..3 + families.len() as u32).flat_map(described).collect::<Vec<_>>();
    let spans = field(11, &[]);
    for (what, content_type, body, status, limit) in [
        ("histograms", PROTOBUF, series(repeated(&field(4, &at_15))), 413, "decoded_max"),
        ("exemplars", PROTOBUF, series(repeated(&field(3, &[&[3 << 3][..], &now].concat()))), 413, "decoded_max"),
        ("samples", PROTOBUF, series(repeated(&field(2, &at_2))), 413, "decoded_max"),
        ("deltas", PROTOBUF, series(field(4, &field(12, &repeated(&[0])))), 400, "histogram_buckets_max"),
        ("spans", PROTOBUF, series(field(4, &repeated(&spans))), 400, "histogram_buckets_max"),
        (
            "bounds",
            PROTOBUF,
            series(field(4, &[&[0x82, 1][..], &field(0, &repeated(&[0; 8]))[1..]].concat())),
            400,
            "histogram_buckets_max",
        ),
        ("metadata", PROTOBUF, repeated(&field(3, &field(2, b"m"))), 413, "decoded_max"),
        ("symbols", V2, repeated(&field(4, b"")), 413, "decoded_max"),
        ("help", V2, [symbols, named, helped].concat(), 413, "decoded_max"),
    ] {
        let body = zstd::encode_all(&body[..], 1).unwrap();
        assert!(body.len() < 2 << 20, "{what}: {} bytes", body.len());
        let watch = Watch::new(&pharos);
        let (answered, answer) = send(&pharos, "/api/v1/write", content_type, "zstd", body).await;
        assert_eq!(answered, status, "{what}: {answer}");
        assert!(answer.contains(limit), "{what}: {answer}");
        watch.end(what, RISE_BYTES_MAX).await;
    }
    for list in ["bucketCounts", "explicitBounds"] {
        let numbers = String::from_utf8(repeated(b"0,")).unwrap();
        let body = format!(
            "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"name\":\"h\",\"histogram\":{{\"dataPoints\":[{{\"{list}\":[{numbers}0]}}]}}}}]}}]}}]}}"
        );
        let body = zstd::encode_all(body.as_bytes(), 1).unwrap();
        let watch = Watch::new(&pharos);
        let (answered, answer) = send(&pharos, "/v1/metrics", "application/json", "zstd", body).await;
        assert_eq!(answered, 413, "{list}: {answer}");
        assert!(answer.contains("decoded_max"), "{list}: {answer}");
        watch.end(list, RISE_BYTES_MAX).await;
    }
}

#[tokio::test]
async fn a_million_labels_on_one_series() {
    let pharos = start().await;
    let names: Vec<String> = (0..1_000_000).map(|at| format!("l{at}")).collect();
    let labels: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let message = remote_write("many", &labels, &[(now_ms(), 1.0)]);
    let watch = Watch::new(&pharos);
    let (status, answer) = push_remote_write(&pharos, "/api/v1/write", message).await;
    assert!(matches!(status, 400 | 413), "{status} {answer}");
    watch.end("remote write", RISE_BYTES_MAX).await;
    let text: String = names.iter().flat_map(|name| [name.as_str(), "=\"1\","]).collect();
    let watch = Watch::new(&pharos);
    let body = format!("many{{{text}}} 1\n").into_bytes();
    let (status, answer) = send(&pharos, "/api/v1/import/prometheus", "text/plain", "", body).await;
    assert!(matches!(status, 400 | 413), "{status} {answer}");
    watch.end("import", RISE_BYTES_MAX).await;
}

#[tokio::test]
async fn a_million_series_for_a_tenant_that_may_have_a_thousand() {
    /// What a request takes while it is read: the bytes of its million series, twice.
    const READING_BYTES_MAX: u64 = 768 << 20;
    let pharos = Pharos::builder().option("--limits-series-active", "1000").start().await;
    let at = now_ms();
    let message: Vec<u8> =
        (0..1_000_000).flat_map(|series| remote_write("many", &[("s", &format!("{series}"))], &[(at, 1.0)])).collect();
    let watch = Watch::new(&pharos);
    let (status, answer) = push_remote_write(&pharos, "/api/v1/write", message).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("limits.series_active") && answer.contains("999000 refused"), "{answer}");
    let rise = memory(&pharos, "VmHWM").saturating_sub(watch.before);
    assert!(rise <= READING_BYTES_MAX, "memory rose by {} MiB", rise >> 20);
    let span = prost::Message::encode_to_vec(&one_span("alive", 1, 1_000));
    assert_eq!(pharos.post("/v1/traces", PROTOBUF, span).await.0, 200, "it lives on");
}
