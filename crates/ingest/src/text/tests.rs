//! Both formats line by line, whole bodies in pieces of every size, and hostile text.

use std::io::Write;

use pharos_model::{Labels, MetricKind, stale_nan};
use pharos_storage::RejectReason;
use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;

fn options() -> TextOptions {
    TextOptions { timestamp_ms: NOW_MS, extra_labels: Vec::new() }
}

/// Feeds a body in pieces; answers the samples as `series bits@ms` and the import.
fn import(mut import: TextImport, body: &[u8], piece: usize) -> (Vec<String>, Vec<DecodedMetrics>, BadLines) {
    let limits = Limits::default();
    let mut batches = Vec::new();
    for piece in body.chunks(piece) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            batches.extend(import.feed(&mut piece, &limits, TimeWindow::ALL).unwrap());
        }
    }
    batches.extend(import.finish(&limits, TimeWindow::ALL).unwrap());
    let mut lines = Vec::new();
    for DecodedMetrics { batch, .. } in &batches {
        for run in &batch.series {
            let labels = Labels::from_encoded(batch.encoded_labels(run)).unwrap();
            for sample in &batch.samples[run.samples.clone()] {
                lines.push(format!("{labels} {}@{}", sample.value, sample.timestamp_ms));
            }
        }
    }
    let bad = import.bad_lines().clone();
    (lines, batches, bad)
}

fn exposition(text: &str) -> (Vec<String>, Vec<DecodedMetrics>, BadLines) {
    import(TextImport::new(TextFormat::Exposition, Encoding::Identity, options()).unwrap(), text.as_bytes(), 7)
}

fn json(text: &str) -> (Vec<String>, Vec<DecodedMetrics>, BadLines) {
    import(TextImport::new(TextFormat::JsonLines, Encoding::Identity, options()).unwrap(), text.as_bytes(), 7)
}

#[test]
fn every_form_of_a_sample_is_read() {
    for (line, expected) in [
        ("up 1", "up 1@1700000000000"),
        ("up 1 1699999999000", "up 1@1699999999000"),
        ("up{} 1 1699999999.5", "up 1@1699999999500"),
        ("up { job = \"a\" , } 1e3", "up{job=\"a\"} 1000@1700000000000"),
        ("up{job=\"a\",zone=\"z\"}\t+Inf\t-5", "up{job=\"a\", zone=\"z\"} inf@-5000"),
        ("up{path=\"c:\\\\d\\\"e\\nf\\g\"} -0", "up{path=\"c:\\\\d\\\"e\\nf\\\\g\"} -0@1700000000000"),
        ("{\"my.metric\",\"label.x\"=\"v\"} NaN", "my.metric{label.x=\"v\"} NaN@1700000000000"),
        ("up{a=\"} 2\"} 1\r", "up{a=\"} 2\"} 1@1700000000000"),
    ] {
        let (samples, _, bad) = exposition(line);
        assert_eq!((samples, bad), (vec![expected.to_owned()], BadLines::default()), "{line}");
    }
}

#[test]
fn a_bad_line_is_named_and_the_others_are_kept() {
    for (line, part) in [
        ("up", "value is missing"),
        ("up one", "\"one\" is no number"),
        ("up 1 soon", "no timestamp"),
        ("up 1 1699999999000 2", "unexpected \"2\""),
        ("up{job=\"a} 1", "does not end"),
        ("up{job} 1", "has no value"),
        ("up{job=\"a\" zone=\"b\"} 1", "expected a comma"),
        ("{job=\"a\",=\"b\"} 1", "label name is missing"),
        ("my.metric 1", "no number"),
        ("<html>", "metric name is missing"),
    ] {
        let (samples, _, bad) = exposition(&format!("first 1\n\n# c\n{line}\nlast 2\n"));
        assert_eq!(samples, ["first 1@1700000000000", "last 2@1700000000000"], "{line}");
        let first = bad.first.unwrap();
        assert_eq!((bad.count, first.number), (1, 4), "{line}");
        assert!(first.reason.contains(part), "{line}: {}", first.reason);
    }
    let (samples, _, bad) = import(
        TextImport::new(TextFormat::Exposition, Encoding::Identity, options()).unwrap(),
        b"a 1\n\xff\xfe 1\nb 2",
        1,
    );
    assert_eq!((samples.len(), bad.count, bad.first.unwrap().number), (2, 1, 2));
}

#[test]
fn metadata_and_exemplars_come_along() {
    let text = "# HELP rpc_total Calls,\\n all of them.\n# TYPE rpc_total counter\n# just a comment\n\
        rpc_total{a=\"b\"} 5 1699999999000 # {trace_id=\"abc\"} 0.5 1699999998.25\n# TYPE temp gauge\n# UNIT temp celsius\n";
    let (_, batches, bad) = exposition(text);
    assert_eq!(bad, BadLines::default());
    let batch = &batches[0].batch;
    assert_eq!((batch.exemplars.len(), batch.exemplars[0].timestamp_ms), (1, 1_699_999_998_250));
    let told: Vec<_> = batch
        .metadata
        .iter()
        .map(|one| (one.metric.as_str(), one.kind, one.help.as_str(), one.unit.as_str()))
        .collect();
    assert_eq!(
        told,
        [("rpc_total", MetricKind::Counter, "Calls,\n all of them.", ""), ("temp", MetricKind::Gauge, "", "celsius")]
    );
}

#[test]
fn json_lines_are_read_to_the_bit() {
    let line = r#"{"metric":{"__name__":"m","a":"b\n"},"values":[1,-0,null,"Infinity","-Infinity",null,1e-320,18446744073709551615],"timestamps":[1,2,3,4,5,6,7,8],"nans":[[5,"7ff0000000000002"]],"else":{}}"#;
    let (_, batches, bad) = json(line);
    assert_eq!(bad, BadLines::default());
    let bits: Vec<_> = batches[0].batch.samples.iter().map(|sample| sample.value.to_bits()).collect();
    let expected = [
        1.0,
        -0.0,
        f64::from_bits(ORDINARY_NAN_BITS),
        f64::INFINITY,
        f64::NEG_INFINITY,
        stale_nan(),
        1e-320,
        18_446_744_073_709_551_615.0,
    ];
    assert_eq!(bits, expected.map(f64::to_bits));
    for (line, part) in [
        (r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[]}"#, "1 values for 0 timestamps"),
        (r#"{"metric":{"__name__":"m"},"values":["x"],"timestamps":[1]}"#, "Infinity"),
        (r#"{"values":[1],"timestamps":[1]}"#, "metric"),
        (r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[1],"nans":[[0,"7ff0000000000002"]]}"#, "no NaN"),
        ("{", "JSON"),
    ] {
        let (samples, _, bad) =
            json(&format!("{line}\n{}", r#"{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}"#));
        assert_eq!((samples.len(), bad.count), (1, 1), "{line}");
        assert!(bad.first.unwrap().reason.contains(part), "{line}");
    }
}

#[test]
fn extra_labels_replace_and_rules_are_kept() {
    let options =
        TextOptions { extra_labels: vec![("job".into(), "x".into()), ("dc".into(), "y".into())], ..options() };
    let reader = TextImport::new(TextFormat::Exposition, Encoding::Identity, options).unwrap();
    let (samples, batches, bad) = import(reader, b"up{job=\"a\"} 1\nup{zone=\"1\",zone=\"2\"} 2\n{zone=\"1\"} 3", 100);
    assert_eq!(samples, ["up{dc=\"y\", job=\"x\"} 1@1700000000000"]);
    assert_eq!(bad, BadLines::default());
    assert_eq!(batches[0].rejections.len(), 1);
    assert_eq!((batches[0].rejections[0].reason, batches[0].rejections[0].count), (RejectReason::InvalidLabels, 2));
}

#[test]
fn batches_are_bounded_and_bodies_are_not() {
    let line = |number: u32| format!("m{{n=\"{:0>90}\"}} {number}\n", number % 10);
    let text: String = (0..40_000).map(line).collect::<Vec<_>>().concat();
    let gzip = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    };
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (encoding, body) in
        [(Encoding::Identity, text.clone().into_bytes()), (Encoding::Gzip, gzip), (Encoding::Zstd, zstd)]
    {
        for piece in [5_000, 1 << 20] {
            let reader = TextImport::new(TextFormat::Exposition, encoding, options()).unwrap();
            let (samples, batches, bad) = import(reader, &body, piece);
            assert_eq!((samples.len(), bad.count), (40_000, 0), "{encoding} in pieces of {piece}");
            assert!(batches.iter().all(|one| one.batch.samples.len() <= BATCH_SAMPLES_MAX));
            assert!(batches.len() > 1, "{encoding} in pieces of {piece}");
        }
        if encoding != Encoding::Identity {
            let mut reader = TextImport::new(TextFormat::Exposition, encoding, options()).unwrap();
            let mut cut = Bytes::copy_from_slice(&body[..body.len() - 9]);
            while !cut.is_empty() {
                reader.feed(&mut cut, &Limits::default(), TimeWindow::ALL).unwrap();
            }
            assert!(reader.finish(&Limits::default(), TimeWindow::ALL).is_err(), "{encoding}: a cut body is told");
        }
    }
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_memory() {
    let bomb = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(&vec![b'a'; 3 * LINE_BYTES_MAX]).unwrap();
        writer.finish().unwrap()
    };
    // Of zstd one piece alone inflates to all of it, and more.
    let of_zstd = zstd::encode_all(&vec![b'a'; 10 * LINE_BYTES_MAX][..], 1).unwrap();
    for (encoding, bomb) in [(Encoding::Gzip, bomb), (Encoding::Zstd, of_zstd)] {
        let mut reader = TextImport::new(TextFormat::JsonLines, encoding, options()).unwrap();
        let mut body = Bytes::from(bomb);
        let error = loop {
            assert!(!body.is_empty(), "{encoding}: refused before the end");
            if let Err(error) = reader.feed(&mut body, &Limits::default(), TimeWindow::ALL) {
                break error;
            }
        };
        assert!(error.to_string().contains("line 1: longer than"), "{encoding}: {error}");
        assert!(reader.memory_bytes() < 3 * LINE_BYTES_MAX, "{encoding}: {}", reader.memory_bytes());
    }
}

proptest! {
    #[test]
    fn hostile_text_never_panics(text in "[ -~\\n]{0,200}|([a-z{}\"=\\\\,# 0-9.\\n]{0,120})", piece in 1_usize..50) {
        for format in [TextFormat::Exposition, TextFormat::JsonLines] {
            let reader = TextImport::new(format, Encoding::Identity, options()).unwrap();
            import(reader, text.as_bytes(), piece);
        }
    }

    #[test]
    fn hostile_bodies_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let mut reader = TextImport::new(TextFormat::Exposition, encoding, options()).unwrap();
            let mut body = Bytes::from(bytes.clone());
            while !body.is_empty() && reader.feed(&mut body, &Limits::default(), TimeWindow::ALL).is_ok() {}
            let _ = reader.finish(&Limits::default(), TimeWindow::ALL);
        }
    }
}

#[test]
fn open_metrics_counts_in_seconds_and_ends_with_eof() {
    let read = |text: &str| {
        let reader = TextImport::new(TextFormat::OpenMetrics, Encoding::Identity, options()).unwrap();
        let (lines, _, bad) = import(reader, text.as_bytes(), 7);
        (lines, bad.first.map(|line| (line.number, line.reason)))
    };
    let (lines, bad) = read("a_total 1 1.5 # {trace_id=\"x\"} 1 1.25\na_created 1.25\nb 2 9000000000\n# EOF\n");
    assert_eq!(lines, ["a_total 1@1500", "a_created 1.25@1700000000000", "b 2@9000000000000"]);
    assert_eq!(bad, None);
    let (lines, bad) = read("a 1 1\n");
    assert_eq!((lines.len(), bad.as_ref().map(|(number, _)| *number)), (1, Some(2)));
    assert!(bad.unwrap().1.contains("# EOF"));
    assert!(read("# EOF\na 1 1\n").1.unwrap().1.contains("nothing may follow"));
    assert!(read("a 1 noon\n# EOF\n").1.unwrap().1.contains("no timestamp in seconds"));
}

#[test]
fn bare_infinities_of_older_exporters_are_read_and_labels_are_left_alone() {
    let line =
        r#"{"metric":{"__name__":"m","l":"NaN \"-Infinity"},"values":[1,+Inf,-Infinity,NaN],"timestamps":[1,2,3,4]}"#;
    let (lines, _, bad) = json(line);
    assert_eq!(bad, BadLines::default());
    let values: Vec<_> = lines.iter().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(values, ["1@1", "inf@2", "-inf@3", "NaN@4"]);
    assert!(lines[0].contains(r#"NaN \"-Infinity"#), "{}", lines[0]);
    assert!(json(r#"{"metric":{"__name__":"m"},"values":[Infinite],"timestamps":[1]}"#).2.first.is_some());
}
