//! Bodies before they are messages: what is compressed, what is text. Whatever is taken is sound and bounded, and the same
//! in whatever pieces it arrives.

use std::sync::Arc;

use bytes::Bytes;
use pharos_base::{ByteSize, SimClock};
use pharos_ingest::remote_write::RemoteWriteVersion;
use pharos_ingest::text::{BadLines, TextFormat, TextImport, TextOptions};
use pharos_ingest::{
    DecodedMetrics, Encoding, IngestComponents, IngestError, IngestSettings, Ingestor, Limits, TimeWindow, inflate,
};
use pharos_model::{Labels, TenantId};
use pharos_storage::memory::{MemoryMetricStore, MemoryTraceStore};

use crate::ingest;

/// Bytes that a body may inflate to.
const LIMIT_BYTES: u64 = 1 << 20;
const WINDOW: TimeWindow = TimeWindow { min_ms: 0, max_ms: 1_800_000_000_000 };
const NOW_MS: i64 = 1_700_000_000_000;
const ENCODINGS: [Encoding; 4] = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Snappy];

/// Compressed bodies, of OTLP, of remote write and of imports. Input: which encoding, and the body.
pub(crate) fn inflated(bytes: &[u8]) {
    let Some((encoding, body)) = bytes.split_first() else { return };
    let encoding = ENCODINGS[usize::from(encoding % 4)];
    let whole = inflate(Bytes::copy_from_slice(body), encoding, ByteSize(LIMIT_BYTES));
    match &whole {
        Ok(plain) => assert!(plain.len() as u64 <= LIMIT_BYTES),
        Err(IngestError::BodyTooLarge { .. } | IngestError::Inflate { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    // A smaller limit is kept as well, and nothing is lost at exactly the size.
    if let Ok(plain) = whole {
        let length = plain.len() as u64;
        let exact = inflate(Bytes::copy_from_slice(body), encoding, ByteSize(length)).expect("it fits");
        assert_eq!(exact, plain);
        if length > 0 {
            let short = inflate(Bytes::copy_from_slice(body), encoding, ByteSize(length - 1));
            assert!(matches!(short, Err(IngestError::BodyTooLarge { .. })));
        }
    }
    remote_write(body);
    // The way of imports, piece by piece.
    let (whole, pieces) =
        (import(TextFormat::JsonLines, encoding, body, usize::MAX), import(TextFormat::JsonLines, encoding, body, 7));
    assert_eq!(whole, pieces);
}

/// Bodies of remote write, which may be snappy where they say zstd and the other way round, and either where they say
/// nothing: what comes of it is what the plain body says, whatever was read into the same memory before.
fn remote_write(body: &[u8]) {
    use Encoding::{Gzip, Identity, Snappy, Zstd};
    let clock = SimClock::at_ms(NOW_MS);
    let (metrics, traces) = (Arc::new(MemoryMetricStore::default()), Arc::new(MemoryTraceStore::default()));
    let components = IngestComponents { metrics, traces, clock, metrics_retention: None };
    let ingestor = Ingestor::new(components, IngestSettings::default());
    let take = |body: &[u8], declared| {
        let (body, limit) = (Bytes::copy_from_slice(body), ByteSize(LIMIT_BYTES));
        let decoded = ingestor.decode_remote_write(&TenantId::default(), body, declared, RemoteWriteVersion::V1, limit);
        decoded.map_err(|error| error.to_string())
    };
    let plain = |encoding| inflate(Bytes::copy_from_slice(body), encoding, ByteSize(LIMIT_BYTES));
    for (declared, first, second) in [
        (Some(Snappy), Snappy, Some(Zstd)),
        (Some(Zstd), Zstd, Some(Snappy)),
        (Some(Gzip), Gzip, None),
        (Some(Identity), Identity, None),
        (None, Snappy, Some(Identity)),
    ] {
        let mut inflated = plain(first);
        let may_be_other = declared.is_none() || matches!(inflated, Err(IngestError::Inflate { .. }));
        if let (Err(_), true, Some(Ok(other))) = (&inflated, may_be_other, second.map(plain)) {
            inflated = Ok(other);
        }
        let expected = inflated.map_err(|error| error.to_string()).and_then(|plain| take(&plain, Some(Identity)));
        let found = take(body, declared);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{declared:?}");
        if let Ok(decoded) = found {
            assert!(
                decoded.batch.series.iter().all(|run| Labels::from_encoded(decoded.batch.encoded_labels(run)).is_ok())
            );
        }
    }
}

/// The exposition format, and OpenMetrics. Input: an odd number for OpenMetrics, else an even one; and the text.
pub(crate) fn exposition(bytes: &[u8]) {
    let Some((front, text)) = bytes.split_first() else { return };
    let format = if front % 2 == 1 { TextFormat::OpenMetrics } else { TextFormat::Exposition };
    in_pieces(format, text, usize::from(front >> 1) + 1);
}

/// JSON lines. Input: the size of the pieces, less one; and the text.
pub(crate) fn json_lines(bytes: &[u8]) {
    let Some((front, text)) = bytes.split_first() else { return };
    in_pieces(TextFormat::JsonLines, text, usize::from(*front) + 1);
}

fn in_pieces(format: TextFormat, text: &[u8], piece: usize) {
    let whole = import(format, Encoding::Identity, text, usize::MAX);
    assert_eq!(whole, import(format, Encoding::Identity, text, piece));
}

/// What an import found: its series with their samples, and the lines it could not read; `None` where it failed.
type Found = Option<(Vec<String>, BadLines)>;

/// # Panics
/// If what is found is unsound.
fn import(format: TextFormat, encoding: Encoding, body: &[u8], piece: usize) -> Found {
    let options = TextOptions { timestamp_ms: NOW_MS, extra_labels: vec![("a".to_owned(), "b".to_owned())] };
    let mut import = TextImport::new(format, encoding, options).ok()?;
    let (limits, mut found) = (Limits::default(), Vec::new());
    let mut inflated = 0;
    for piece in body.chunks(piece.min(body.len()).max(1)) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            let batches = import.feed(&mut piece, &limits, WINDOW).ok()?;
            inflated += batches.iter().map(|batch| batch.batch.memory_bytes()).sum::<usize>();
            if inflated > 16 * LIMIT_BYTES as usize {
                // A bomb, which imports take as far as it goes.
                return None;
            }
            describe(&batches, &mut found);
        }
    }
    let batches = import.finish(&limits, WINDOW).ok()?;
    describe(&batches, &mut found);
    Some((found, import.bad_lines().clone()))
}

fn describe(decoded: &[DecodedMetrics], found: &mut Vec<String>) {
    for (batch, run) in decoded.iter().flat_map(|one| one.batch.series.iter().map(|run| (&one.batch, run))) {
        let labels = Labels::from_encoded(batch.encoded_labels(run)).expect("labels are canonical");
        assert_eq!((labels.get("a"), labels.metric_name().is_empty()), (Some("b"), false));
        for sample in &batch.samples[run.samples.clone()] {
            assert!((WINDOW.min_ms..=WINDOW.max_ms).contains(&sample.timestamp_ms));
            found.push(format!("{labels} {:x}@{}", sample.value.to_bits(), sample.timestamp_ms));
        }
    }
}

/// Inputs to begin with.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let front = |front: u8, body: &[u8]| [&[front], body].concat();
    let mut found = Vec::new();
    for (place, text) in EXPOSITIONS.iter().enumerate() {
        found.push(("exposition", front(2 * place as u8, text.as_bytes())));
        found.push(("exposition", front(2 * place as u8 + 1, text.as_bytes())));
    }
    for (place, text) in LINES.iter().enumerate() {
        found.push(("json-lines", front(place as u8, text.as_bytes())));
        let plain = Bytes::copy_from_slice(text.as_bytes());
        found.push(("inflate", front(0, &plain)));
        for (number, encoding) in ENCODINGS.into_iter().enumerate().skip(1) {
            if let Some(packed) = pharos_ingest::deflate(&plain, encoding) {
                found.push(("inflate", front(number as u8, &packed)));
            }
        }
    }
    let message = ingest::remote_write_1_seed(&["__name__", "a", "b"]);
    found.push(("inflate", front(0, &message)));
    for (number, encoding) in ENCODINGS.into_iter().enumerate().skip(1) {
        if let Some(packed) = pharos_ingest::deflate(&message, encoding) {
            // As what it is, and as what it is not.
            found.extend([0, number].map(|number| ("inflate", front(number as u8, &packed))));
        }
    }
    found.extend(frames().into_iter().map(|frame| ("grpc-frame", frame)));
    found
}

/// Bodies of gRPC calls: sound ones, some that say more or less than they have, and some over the limit.
fn frames() -> Vec<Vec<u8>> {
    let message = ingest::remote_write_1_seed(&["__name__"]);
    let mut found = Vec::new();
    for pieces in [0, 1, 2, 9, 255] {
        for (flag, more) in [(0, 0), (1, 0), (2, 0), (0, 1), (0, -1), (1, i64::from(u32::MAX) - 300)] {
            let length = (message.len() as i64 + more) as u32;
            let body = [&[flag][..], &length.to_be_bytes(), &message].concat();
            for limit in [0, 100, 255] {
                found.push([&[pieces, limit][..], &body].concat());
            }
        }
    }
    found.extend([1, 2, 5, 6].map(|cut| [&[3, 9][..], &[0, 0, 0, 0, 1, 7][..cut]].concat()));
    found.push(vec![3, 9, 0, 0, 0, 0, 0]);
    found
}

const EXPOSITIONS: [&str; 12] = [
    "# HELP up Whether it is up.\n# TYPE up gauge\nup 1\nup{job=\"a\"} 0 1699999999000\n",
    "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n",
    "# TYPE c_total counter\nc_total{a=\"x\"} 5 1699999999.5 # {trace_id=\"abc\"} 0.5 1699999999.4\nc_created 1699999000\n# EOF\n",
    "{\"my.metric\",\"label.x\"=\"v\"} NaN\n{\"é\"} +Inf\n",
    "up{path=\"c:\\\\d\\\"e\\nf\"} -0\nup{a=\"} 2\"} 1\r\n",
    "up { job = \"a\" , } 1e3\nup\t2\t-5\n\n \nup{} 1 1699999999.5",
    "# UNIT s_seconds seconds\n# TYPE s summary\ns{quantile=\"0.9\"} 1\ns_sum 1\ns_count 3\n",
    "up{a=\"b\"\nup{a=b} 1\nup 1 2 3\n1up 2\nup{a=\"b\",a=\"c\"} 1\nup -Inf\nup 0x1p3\n",
    "# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE t stateset\nt{t=\"on\"} 1\n",
    "up{a=\"\"} 1\nup{\"quoted name\"=\"x\"} 1\nup{a=\"\\x\"} 1\n",
    "up 99999999999999999999999999\nup 1e-400\nup nan\nup 1 99999999999999999999\n",
    "#\n# \n# HELP\n# TYPE up\n# TYPE up nonsense\n# EOF\nup 1\n",
];
const LINES: [&str; 12] = [
    "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"values\":[1,2.5,null],\"timestamps\":[1699999999000,1699999999001,1699999999002]}\n",
    "{\"metric\":{\"__name__\":\"up\"},\"values\":[\"NaN\",\"Infinity\",\"-Infinity\"],\"timestamps\":[1,2,3]}\n\n",
    "{\"timestamps\":[1],\"values\":[1],\"metric\":{\"__name__\":\"é\",\"a\":\"\\u00e9\\n\\\"\"},\"more\":{\"x\":[[],{}]}}",
    "{\"metric\":{},\"values\":[1],\"timestamps\":[1]}\n{\"metric\":{\"__name__\":\"up\"},\"values\":[1,2],\"timestamps\":[1]}\n",
    "not json\n{\"metric\":1}\n[]\n{\"metric\":{\"__name__\":\"ok\"},\"values\":[1e300],\"timestamps\":[1699999999000]}\n",
    "{\"metric\":{\"__name__\":\"up\",\"__name__\":\"down\"},\"values\":[0],\"timestamps\":[9223372036854775807]}\n",
    "{\"metric\":{\"__name__\":\"up\"},\"values\":[],\"timestamps\":[]}\r\n{}\n",
    "{\"metric\":{\"__name__\":\"up\",\"a\":\"\"},\"values\":[-0.0,1E5],\"timestamps\":[-1,1.5]}\n",
    "{\"metric\":{\"__name__\":\"up\"},\"values\":[[[[[[[[[[1]]]]]]]]]],\"timestamps\":[1]}\n",
    "{\"metric\":{\"__name__\":\"\\ud83d\\ude00\"},\"values\":[1],\"timestamps\":[1]}\n{\"metric\":{\"__name__\":\"\\ud83d\"}}\n",
    "   {\"metric\" : { \"__name__\" : \"up\" } , \"values\" : [ 1 ] , \"timestamps\" : [ 1699999999000 ] }   \n",
    "{\"metric\":{\"__name__\":\"up\"},\"values\":[1],\"timestamps\":[1]",
];
