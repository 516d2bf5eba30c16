//! What both servers are given: the recorded samples of `tests/data`, and generated series of the kinds that no exporter of
//! that age tells: native histograms, stale markers, infinities.

use std::path::Path;

use pharos_proto::remote_write::v1::histogram::{Count, ResetHint, ZeroCount};
use pharos_proto::remote_write::v1::{BucketSpan, Histogram, Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

/// Time of a request's samples; Prometheus refuses what is an hour older than its newest.
const SLICE_MS: i64 = 600_000;
/// Series of a request.
const SERIES_MAX: usize = 500;
/// Between two samples of a generated series. Their instants lie on the same fraction of a second as recorded ones.
const INTERVAL_MS: i64 = 5_000;
/// What Prometheus writes where a series ends.
const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

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
fn labels(text: &str) -> Vec<Label> {
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

/// Small whole numbers that look random and never change: the whole of a fixture is known before it is made.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn series(text: &str) -> TimeSeries {
    TimeSeries { labels: labels(text), ..TimeSeries::default() }
}

fn generated(instants: &[i64]) -> Vec<TimeSeries> {
    let mut all = Vec::new();
    for (job, seed) in [("cart", 1), ("search", 2), ("billing", 3)] {
        for path in ["/", "/items"] {
            all.extend(classic_histogram(job, path, instants, &mut Dice(seed * 100 + path.len() as u64)));
        }
        for (instance, schema) in [("a", 3), ("b", if job == "cart" { 1 } else { 3 })] {
            let native = |name: &str, shape: Shape, number: u64| {
                let series = series(&format!("{name}{{instance=\"{instance}\",job=\"{job}\"}}"));
                let dice = Dice(seed * 1_000 + number * 10 + u64::from(instance == "a"));
                native(series, Shape { schema, ..shape }, instants, dice)
            };
            let signed = Shape { negative: true, resets: false, ..Shape::COUNTER };
            all.push(native("gen_latency_seconds", Shape::COUNTER, 1));
            all.push(native("gen_temperature_celsius", signed, 2));
            all.push(native("gen_queue_gauge", Shape { gauge: true, floats: true, ..signed }, 3));
        }
    }
    all.extend((-4..=8).map(|schema| every_bound(schema, &instants[instants.len() - 60..])));
    all.extend(odd_values(instants));
    all
}

/// A native histogram that shows many bounds of its schema, and a zero bucket that reaches into another.
fn every_bound(schema: i32, instants: &[i64]) -> TimeSeries {
    let reach = if schema < 0 { 300 >> (4 - schema).min(8) } else { 300 };
    let length = 2 * reach + 1;
    let spans = vec![BucketSpan { offset: -reach, length: length.unsigned_abs() }];
    let mut made = series(&format!("gen_bounds{{schema=\"{schema}\"}}"));
    let histogram = |&timestamp: &i64| Histogram {
        count: Some(Count::CountInt(2 * u64::from(length.unsigned_abs()) + 3)),
        zero_count: Some(ZeroCount::ZeroCountInt(3)),
        sum: 1.0,
        schema,
        zero_threshold: if schema > 4 { 0.7 } else { 0.0 },
        positive_spans: spans.clone(),
        negative_spans: spans.clone(),
        positive_deltas: std::iter::once(1).chain(std::iter::repeat_n(0, length as usize - 1)).collect(),
        negative_deltas: std::iter::once(1).chain(std::iter::repeat_n(0, length as usize - 1)).collect(),
        timestamp,
        ..Histogram::default()
    };
    made.histograms = instants.iter().map(histogram).collect();
    made
}

/// `_bucket`, `_sum` and `_count` of one classic histogram, with a restart of the counting process in the middle.
fn classic_histogram(job: &str, path: &str, instants: &[i64], dice: &mut Dice) -> Vec<TimeSeries> {
    const BOUNDS: [&str; 8] = ["0.005", "0.01", "0.05", "0.1", "0.5", "1", "2.5", "+Inf"];
    let one =
        |suffix: &str, le: &str| series(&format!("gen_duration_seconds_{suffix}{{job=\"{job}\"{le},path=\"{path}\"}}"));
    let mut buckets: Vec<_> = BOUNDS.iter().map(|le| one("bucket", &format!(",le=\"{le}\""))).collect();
    let (mut sum, mut count) = (one("sum", ""), one("count", ""));
    let (mut counts, mut total) = ([0_u64; BOUNDS.len()], 0_u64);
    for (index, &timestamp) in instants.iter().enumerate() {
        if index == instants.len() / 2 {
            (counts, total) = ([0; BOUNDS.len()], 0);
        }
        for bucket in &mut counts {
            let seen = dice.below(9);
            *bucket += seen;
            total += seen * dice.below(7);
        }
        let mut below = 0;
        for (bucket, seen) in buckets.iter_mut().zip(counts) {
            below += seen;
            bucket.samples.push(Sample { timestamp, value: below as f64 });
        }
        count.samples.push(Sample { timestamp, value: below as f64 });
        // A power of two below: every partial sum is exact.
        sum.samples.push(Sample { timestamp, value: total as f64 / 16.0 });
    }
    buckets.extend([sum, count]);
    buckets
}

#[derive(Clone, Copy)]
struct Shape {
    schema: i32,
    /// Whether there are observations below zero.
    negative: bool,
    gauge: bool,
    /// Counts as floats, as recording rules make them.
    floats: bool,
    /// Whether counting starts again in the middle.
    resets: bool,
}

impl Shape {
    const COUNTER: Self = Self { schema: 3, negative: false, gauge: false, floats: false, resets: true };
}

/// A native histogram of six buckets in two spans, and as many below zero if asked for.
fn native(mut series: TimeSeries, shape: Shape, instants: &[i64], mut dice: Dice) -> TimeSeries {
    const BUCKETS: usize = 6;
    let spans = || vec![BucketSpan { offset: -2, length: 4 }, BucketSpan { offset: 3, length: 2 }];
    let (mut above, mut below, mut zero, mut total) = ([1_u64; BUCKETS], [1_u64; BUCKETS], 1, 3_u64);
    for (index, &timestamp) in instants.iter().enumerate() {
        if shape.gauge || (shape.resets && index == instants.len() / 2) {
            (above, below, zero, total) = ([1; BUCKETS], [1; BUCKETS], 0, 1);
        }
        for count in above.iter_mut().chain(if shape.negative { below.as_mut_slice() } else { &mut [] }) {
            *count += dice.below(6);
        }
        zero += dice.below(3);
        total += dice.below(40);
        let below = if shape.negative { below.as_slice() } else { &[] };
        let count = above.iter().chain(below).sum::<u64>() + zero;
        let negative_spans = if shape.negative { spans() } else { Vec::new() };
        let hint = if shape.gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        let mut histogram = Histogram {
            sum: total as f64 / 8.0,
            schema: shape.schema,
            zero_threshold: 0.001,
            positive_spans: spans(),
            negative_spans,
            reset_hint: hint as i32,
            timestamp,
            ..Histogram::default()
        };
        if shape.floats {
            let halves = |counts: &[u64]| counts.iter().map(|&count| count as f64 / 2.0).collect();
            histogram.count = Some(Count::CountFloat(count as f64 / 2.0));
            histogram.zero_count = Some(ZeroCount::ZeroCountFloat(zero as f64 / 2.0));
            histogram.positive_counts = halves(&above);
            histogram.negative_counts = halves(below);
        } else {
            histogram.count = Some(Count::CountInt(count));
            histogram.zero_count = Some(ZeroCount::ZeroCountInt(zero));
            histogram.positive_deltas = deltas(&above);
            histogram.negative_deltas = deltas(below);
        }
        series.histograms.push(histogram);
    }
    series
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    counts.iter().map(|&count| count.cast_signed() - std::mem::replace(&mut before, count.cast_signed())).collect()
}

/// Values and gaps that real exporters rarely have: infinities, NaN, stale markers, a counter that restarts all the time.
fn odd_values(instants: &[i64]) -> Vec<TimeSeries> {
    let stale = f64::from_bits(STALE_NAN_BITS);
    let values: [(&str, &dyn Fn(usize) -> Option<f64>); 6] = [
        ("gen_odd{kind=\"nan\"}", &|i| Some(if i % 7 == 3 { f64::NAN } else { (i % 50) as f64 })),
        ("gen_odd{kind=\"infinite\"}", &|i| Some([f64::INFINITY, f64::NEG_INFINITY, 1.5, -2.25, 0.0][(i / 20) % 5])),
        ("gen_flapping{kind=\"stale\"}", &|i| match i % 30 {
            0..20 => Some((i % 11) as f64),
            20 => Some(stale),
            _ => None,
        }),
        ("gen_flapping{kind=\"sparse\"}", &|i| (i % 80 < 2).then_some(i as f64)),
        ("gen_restarts_total{kind=\"often\"}", &|i| Some((i % 13) as f64)),
        ("gen_restarts_total{kind=\"tiny\"}", &|i| Some(i as f64 * 1e-9)),
    ];
    let made = values.iter().map(|(text, value)| {
        let sample = |(index, &timestamp): (usize, &i64)| value(index).map(|value| Sample { timestamp, value });
        let mut made = series(text);
        made.samples = instants.iter().enumerate().filter_map(sample).collect();
        made
    });
    made.collect()
}
