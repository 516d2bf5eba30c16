//! What both servers are given: the recorded samples of `tests/data`, and generated series.

use std::path::Path;

use pharos_proto::remote_write::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use super::generated::generated;

/// Time of a request's samples; Prometheus refuses what is an hour older than its newest.
const SLICE_MS: i64 = 600_000;
/// Series of a request.
const SERIES_MAX: usize = 500;
/// Between two samples of a generated series. Their instants lie on the same fraction of a second as recorded ones.
const INTERVAL_MS: i64 = 5_000;

/// All series, each with its samples in order of time.
pub(super) struct Fixture {
    series: Vec<TimeSeries>,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
}

impl Fixture {
    pub(super) fn build() -> Self {
        let mut series = recorded();
        let instants = || series.iter().flat_map(|one| &one.samples).map(|sample| sample.timestamp);
        let (first_ms, last_ms) = (instants().min().expect("not empty"), instants().max().expect("not empty"));
        series.extend(generated(&(first_ms..last_ms).step_by(INTERVAL_MS as usize).collect::<Vec<_>>()));
        Self { series, first_ms, last_ms }
    }

    pub(super) fn series_count(&self) -> usize {
        self.series.len()
    }

    pub(super) fn samples_count(&self) -> usize {
        self.series.iter().map(|one| one.samples.len() + one.histograms.len()).sum()
    }

    /// The instants of all samples.
    pub(super) fn instants(&self) -> impl Iterator<Item = i64> {
        let floats = self.series.iter().flat_map(|one| &one.samples).map(|sample| sample.timestamp);
        floats.chain(self.series.iter().flat_map(|one| &one.histograms).map(|histogram| histogram.timestamp))
    }

    /// Remote write 1.0 messages, compressed, in the order in which they must arrive.
    pub(super) fn messages(&self) -> impl Iterator<Item = Vec<u8>> {
        let slices = (self.first_ms..=self.last_ms).step_by(SLICE_MS as usize);
        slices.flat_map(|from_ms| {
            let inside = move |at_ms: i64| (from_ms..from_ms + SLICE_MS).contains(&at_ms);
            self.series.chunks(SERIES_MAX).map(move |some| {
                let cut = |one: &TimeSeries| TimeSeries {
                    labels: one.labels.clone(),
                    samples: one.samples.iter().filter(|sample| inside(sample.timestamp)).copied().collect(),
                    histograms: one.histograms.iter().filter(|one| inside(one.timestamp)).cloned().collect(),
                    exemplars: Vec::new(),
                };
                let timeseries =
                    some.iter().map(cut).filter(|one| !one.samples.is_empty() || !one.histograms.is_empty());
                let message = WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() };
                snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).expect("it fits in memory")
            })
        })
    }
}

/// The file of real exporters' samples, as its README describes it.
fn recorded() -> Vec<TimeSeries> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/node-exporter-5s.bin.zst");
    let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let (mut at, mut all) = (0, Vec::new());
    let take = |at: &mut usize, length: usize| {
        *at += length;
        &bytes[*at - length..*at]
    };
    while at < bytes.len() {
        let length = u32::from_le_bytes(take(&mut at, 4).try_into().unwrap()) as usize;
        let labels = labels(std::str::from_utf8(take(&mut at, length)).unwrap());
        let count = u32::from_le_bytes(take(&mut at, 4).try_into().unwrap()) as usize;
        let instants = take(&mut at, count * 8).as_chunks().0;
        let values = take(&mut at, count * 8).as_chunks().0;
        let sample = |(timestamp, value): (&[u8; 8], &[u8; 8])| Sample {
            timestamp: i64::from_le_bytes(*timestamp),
            value: f64::from_le_bytes(*value),
        };
        let samples = instants.iter().zip(values).map(sample).collect();
        all.push(TimeSeries { labels, samples, ..TimeSeries::default() });
    }
    all
}

/// Reads `name{a="b",…}`, whose labels are sorted.
pub(super) fn labels(text: &str) -> Vec<Label> {
    let (name, mut rest) = text.split_once('{').unwrap_or((text, "}"));
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let mut labels = vec![label("__name__", name)];
    while let Some((key, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (end, '"') => break end,
                (_, '\\') => value.push(if let (_, 'n') = chars.next().unwrap() { '\n' } else { '\\' }),
                (_, plain) => value.push(plain),
            }
        };
        labels.push(label(key.trim_start_matches(','), &value));
        rest = &quoted[end + 1..];
    }
    labels.sort_by(|one, other| one.name.cmp(&other.name));
    labels
}
