//! What the samples of real exporters take on disk once they are compacted.

use std::path::Path;

use pharos_model::{BatchBuilder, LabelsBuilder, METRIC_NAME, Sample, TenantId};
use pharos_storage::conformance::metrics::read_all;
use pharos_storage::{BatchId, MetricStore};
use tempfile::TempDir;

use crate::support::{files, open};

/// Series of one append.
const BATCH_SERIES: usize = 100;

struct Series {
    text: String,
    samples: Vec<Sample>,
}

fn real_series(every: usize) -> Vec<Series> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/node-exporter-5s.bin.zst");
    let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let (mut at, mut all) = (0, Vec::new());
    let take = |at: &mut usize, length: usize| {
        *at += length;
        &bytes[*at - length..*at]
    };
    while at < bytes.len() {
        let length = u32::from_le_bytes(take(&mut at, 4).try_into().unwrap()) as usize;
        let text = String::from_utf8(take(&mut at, length).to_vec()).unwrap();
        let count = u32::from_le_bytes(take(&mut at, 4).try_into().unwrap()) as usize;
        let instants = take(&mut at, count * 8).as_chunks().0;
        let values = take(&mut at, count * 8).as_chunks().0;
        let samples = instants.iter().zip(values).step_by(every).map(|(timestamp_ms, value)| Sample {
            timestamp_ms: i64::from_le_bytes(*timestamp_ms),
            value: f64::from_le_bytes(*value),
        });
        all.push(Series { text, samples: samples.collect() });
    }
    all
}

/// Reads `name{a="b",…}`.
fn push_labels(text: &str, labels: &mut LabelsBuilder) {
    let (name, mut rest) = text.split_once('{').unwrap_or((text, "}"));
    labels.push(METRIC_NAME, name);
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => value.push(if let (_, 'n') = chars.next().unwrap() { '\n' } else { '\\' }),
                (_, plain) => value.push(plain),
            }
        };
        labels.push(label.trim_start_matches(','), &value);
        rest = &quoted[end + 1..];
    }
}

/// Stores, compacts and checks every bit; answers the bytes a sample takes in `data` and in all else.
fn bytes_each(every: usize) -> (f64, f64) {
    let dir = TempDir::new().unwrap();
    let (store, tenant) = (open(dir.path()), TenantId::default());
    let all = real_series(every);
    for some in all.chunks(BATCH_SERIES) {
        let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        for series in some {
            series.samples.iter().for_each(|sample| builder.push_sample(*sample, 0));
            push_labels(&series.text, &mut labels);
            builder.finish_series(&mut labels).unwrap();
        }
        store.append(&tenant, builder.build(), BatchId::random()).wait().unwrap().unwrap();
    }
    store.compact().unwrap();
    assert_eq!(store.stats().parts, 1);
    check_bits(&store, &all);
    let samples: usize = all.iter().map(|series| series.samples.len()).sum();
    let (mut data, mut rest) = (0, 0);
    for path in files(&dir.path().join("tenants")) {
        let length = std::fs::metadata(&path).unwrap().len();
        *(if path.ends_with("data") { &mut data } else { &mut rest }) += length;
    }
    let each = |bytes: u64| bytes as f64 / samples as f64;
    eprintln!("{samples} samples: {:.4} bytes each in data, {:.4} in all else", each(data), each(rest));
    (each(data), each(rest))
}

fn check_bits(store: &pharos_tsdb::Tsdb, all: &[Series]) {
    let found = read_all(store, &TenantId::default(), crate::support::all_series(), pharos_model::TimeRange::ALL);
    assert_eq!(found.len(), all.len());
    for series in all {
        let mut builder = LabelsBuilder::default();
        push_labels(&series.text, &mut builder);
        let one = &found[&builder.build().unwrap()];
        assert_eq!(one.timestamps_ms, series.samples.iter().map(|sample| sample.timestamp_ms).collect::<Vec<_>>());
        let bits: Vec<u64> = one.values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, series.samples.iter().map(|sample| sample.value.to_bits()).collect::<Vec<_>>());
    }
}

#[test]
fn real_samples_every_5_s_take_a_sixth_of_a_byte() {
    let (data, rest) = bytes_each(1);
    assert!(data < 0.168, "{data:.4} bytes a sample in data");
    assert!(rest < 0.0085, "{rest:.4} bytes a sample in all else");
}

#[test]
fn real_samples_every_15_s_take_a_fifth_of_a_byte() {
    let (data, rest) = bytes_each(3);
    assert!(data < 0.207, "{data:.4} bytes a sample in data");
    assert!(rest < 0.025, "{rest:.4} bytes a sample in all else");
}
