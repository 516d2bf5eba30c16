//! Series of the kinds that no exporter of that age tells: native histograms, stale markers, infinities, odd texts.

use pharos_proto::remote_write::v1::histogram::{Count, ResetHint, ZeroCount};
use pharos_proto::remote_write::v1::{BucketSpan, Histogram, Label, Sample, TimeSeries};

use super::fixture::labels;

/// What Prometheus writes where a series ends.
const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

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

/// All generated series, with samples at some or all of `instants`.
pub(super) fn generated(instants: &[i64]) -> Vec<TimeSeries> {
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
            let signed = Shape { negative: true, ..Shape::COUNTER };
            all.push(native("gen_latency_seconds", Shape::COUNTER, 1));
            all.push(native("gen_temperature_celsius", signed, 2));
            all.push(native("gen_queue_gauge", Shape { gauge: true, ..signed }, 3));
        }
    }
    all.extend((-4..=8).map(|schema| every_bound(schema, &instants[instants.len() - 60..])));
    all.extend(odd_values(instants));
    all.extend(texts(&instants[instants.len() - 400..]));
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
    /// Whether there are observations below zero; if not, counting starts again in the middle.
    negative: bool,
    /// A gauge, whose counts are floats, as recording rules make them.
    gauge: bool,
}

impl Shape {
    const COUNTER: Self = Self { schema: 3, negative: false, gauge: false };
}

/// A native histogram of six buckets in two spans, and as many below zero if asked for.
fn native(mut series: TimeSeries, shape: Shape, instants: &[i64], mut dice: Dice) -> TimeSeries {
    const BUCKETS: usize = 6;
    let spans = || vec![BucketSpan { offset: -2, length: 4 }, BucketSpan { offset: 3, length: 2 }];
    let (mut above, mut below, mut zero, mut total) = ([1_u64; BUCKETS], [1_u64; BUCKETS], 1, 3_u64);
    for (index, &timestamp) in instants.iter().enumerate() {
        if shape.gauge || (!shape.negative && index == instants.len() / 2) {
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
        if shape.gauge {
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

/// Label values on which dialects of regular expressions part.
fn texts(instants: &[i64]) -> Vec<TimeSeries> {
    let texts = [
        "größe", "GRÖSSE", "groesse", "٣", "3", "a.b", "a+b", "aaa", "a b", "a\tb", "a\u{a0}b", "\u{212a}", "k", "ſ",
        "s", "_", "日本", "a-b", "{}",
    ];
    let one = |(number, text): (usize, &&str)| {
        let mut made = series("gen_text");
        made.labels.push(Label { name: "text".to_owned(), value: (*text).to_owned() });
        made.samples = instants.iter().map(|&timestamp| Sample { timestamp, value: number as f64 }).collect();
        made
    };
    texts.iter().enumerate().map(one).collect()
}

type ValueAt<'a> = &'a dyn Fn(usize) -> Option<f64>;

/// Values and gaps that real exporters rarely have: infinities, NaN, stale markers, a counter that restarts all the time.
fn odd_values(instants: &[i64]) -> Vec<TimeSeries> {
    let stale = f64::from_bits(STALE_NAN_BITS);
    let values: [(&str, ValueAt<'_>); 6] = [
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
