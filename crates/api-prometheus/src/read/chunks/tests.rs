//! The encoder against a reader written from the format's description, and against bytes known by hand.

use std::sync::Arc;

use pharos_model::{BucketSpan, HistogramSample, Labels, ResetHint, stale_nan};

use super::*;

/// Reads bits from the highest down.
struct Bits<'a>(&'a [u8], usize);

impl Bits<'_> {
    fn take(&mut self, count: usize) -> u64 {
        (0..count).fold(0, |value, _| {
            let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
            self.1 += 1;
            value << 1 | u64::from(bit)
        })
    }

    fn unsigned_varint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(8);
            value |= (byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    /// The width behind a prefix of ones that ends in a zero or after `widths.len()` ones; 0 for no ones.
    fn width(&mut self, widths: &[usize]) -> usize {
        let mut ones = 0;
        while ones < widths.len() && self.take(1) == 1 {
            ones += 1;
        }
        if ones == 0 { 0 } else { widths[ones - 1] }
    }

    fn signed(&mut self, widths: &[usize]) -> i64 {
        let width = self.width(widths);
        let value = self.take(width);
        if width > 0 && width < 64 && value > 1 << (width - 1) { value as i64 - (1 << width) } else { value as i64 }
    }
}

const TIMES: [usize; 4] = [14, 17, 20, 64];
const LAYOUT: [usize; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

fn decode_floats(chunk: &[u8]) -> Vec<(i64, u64)> {
    let count = u16::from_be_bytes([chunk[0], chunk[1]]);
    let mut bits = Bits(&chunk[2..], 0);
    let (mut at_ms, mut value, mut delta, mut lead, mut trail) = (0, 0, 0_i64, 0, 0);
    let mut samples = Vec::new();
    for index in 0..count {
        match index {
            0 => {
                let zigzag = bits.unsigned_varint();
                at_ms = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                value = bits.take(64);
            }
            1 => delta = bits.unsigned_varint() as i64,
            _ => delta += bits.signed(&TIMES),
        }
        if index > 0 {
            at_ms += delta;
            if bits.take(1) == 1 {
                if bits.take(1) == 1 {
                    lead = bits.take(5) as usize;
                    let length = bits.take(6) as usize;
                    trail = 64 - lead - if length == 0 { 64 } else { length };
                }
                value ^= bits.take(64 - lead - trail) << trail;
            }
        }
        samples.push((at_ms, value));
    }
    samples
}

fn floats(samples: &[(i64, f64)]) -> RawSeries {
    RawSeries {
        timestamps_ms: samples.iter().map(|(at_ms, _)| *at_ms).collect(),
        values: samples.iter().map(|(_, value)| *value).collect(),
        ..RawSeries::default()
    }
}

fn check(samples: &[(i64, f64)]) {
    let chunks = encode(&floats(samples));
    let decoded: Vec<_> = chunks.iter().flat_map(|chunk| decode_floats(&chunk.data)).collect();
    assert_eq!(decoded, samples.iter().map(|(at_ms, value)| (*at_ms, value.to_bits())).collect::<Vec<_>>());
    assert!(chunks.windows(2).all(|pair| pair[0].max_time_ms < pair[1].min_time_ms));
}

#[test]
fn a_constant_series_has_the_bytes_of_the_format() {
    let chunk = &encode(&floats(&[(1_000, 1.0), (2_000, 1.0), (3_000, 1.0)]))[0];
    // Count; zigzag varint of 1000; the double 1; varint of the difference; then only zero bits.
    assert_eq!(chunk.data, [0, 3, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xe8, 0x07, 0]);
    assert_eq!((chunk.min_time_ms, chunk.max_time_ms, chunk.r#type), (1_000, 3_000, 1));
}

#[test]
fn all_widths_of_times_and_values_read_back() {
    check(&[(-5, 0.0)]);
    check(&[(0, f64::NAN), (1, stale_nan()), (2, -0.0), (3, f64::INFINITY)]);
    let mut random = 42_u64;
    for jitter_bits in [1, 12, 13, 14, 16, 17, 19, 20, 30, 44] {
        let mut at_ms = 1_700_000_000_000;
        let samples: Vec<_> = (0..400)
            .map(|index| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                at_ms += 1 + (random >> 20 & ((1 << jitter_bits) - 1)) as i64;
                let value = if index % 3 == 0 { f64::from_bits(random) } else { f64::from(index) * 0.1 };
                (at_ms, value)
            })
            .collect();
        check(&samples);
    }
    // The bounds of every width, where the encoding is not symmetric.
    for difference in [8_191, 8_192, 8_193, 65_535, 65_536, 65_537, 524_287, 524_288, 524_289] {
        let base = 1_000_000;
        check(&[(0, 1.0), (base, 1.0), (2 * base + difference, 2.0)]);
        check(&[(0, 1.0), (base, 1.0), (2 * base - difference, 2.0)]);
    }
}

#[test]
fn long_series_are_cut_and_histograms_stand_between_floats() {
    let samples: Vec<_> = (0..250).map(|index| (index * 10, 1.0)).collect();
    let counts: Vec<_> = encode(&floats(&samples)).iter().map(|chunk| decode_floats(&chunk.data).len()).collect();
    assert_eq!(counts, [CHUNK_SAMPLES_MAX, CHUNK_SAMPLES_MAX, 10]);
    let mut mixed = floats(&[(10, 1.0), (30, 2.0)]);
    mixed.labels = Labels::empty();
    mixed.histograms = vec![HistogramSample { timestamp_ms: 20, histogram: Arc::new(Histogram::stale()) }];
    let order: Vec<_> = encode(&mixed).iter().map(|chunk| (chunk.min_time_ms, chunk.r#type)).collect();
    assert_eq!(order, [(10, 1), (20, 3), (30, 1)]);
}

fn check_histogram(histogram: &Histogram, at_ms: i64) {
    let stale = Histogram::stale();
    let chunk = OpenChunk::new(at_ms, histogram, &stale).finish();
    assert_eq!(&chunk.data[..2], [0, 1]);
    let mut bits = Bits(&chunk.data[3..], 0);
    let mut found = Histogram { reset_hint: histogram.reset_hint, ..Histogram::empty(0) };
    found.zero_threshold = match bits.take(8) {
        0 => 0.0,
        255 => f64::from_bits(bits.take(64)),
        byte => 0.5 * (byte as f64 - 243.0).exp2(),
    };
    found.schema = bits.signed(&LAYOUT) as i32;
    for side in [&mut found.positive, &mut found.negative] {
        let width = bits.width(&LAYOUT);
        for _ in 0..bits.take(width) {
            let width = bits.width(&LAYOUT);
            let length = bits.take(width) as u32;
            side.spans.push(BucketSpan { length, offset: bits.signed(&LAYOUT) as i32 });
        }
    }
    if found.has_custom_buckets() {
        let width = bits.width(&LAYOUT);
        for _ in 0..bits.take(width) {
            assert_eq!(bits.take(1), 0);
            found.custom_bounds.push(f64::from_bits(bits.take(64)));
        }
    }
    assert_eq!(bits.signed(&LAYOUT), at_ms);
    found.count = f64::from_bits(bits.take(64));
    found.zero_count = f64::from_bits(bits.take(64));
    found.sum = f64::from_bits(bits.take(64));
    for side in [&mut found.positive, &mut found.negative] {
        let buckets: u32 = side.spans.iter().map(|span| span.length).sum();
        side.counts = (0..buckets).map(|_| f64::from_bits(bits.take(64))).collect();
    }
    assert!(found.bits_equal(histogram), "{found:?}");
}

#[test]
fn histograms_keep_layout_counts_and_reset_header() {
    let side = |offset, counts: &[f64]| BucketSide {
        spans: vec![BucketSpan { offset, length: counts.len() as u32 }, BucketSpan { offset: 40_000, length: 0 }],
        counts: counts.to_vec(),
    };
    let exponential = Histogram {
        count: 12.5,
        sum: -3.25,
        zero_count: 2.0,
        zero_threshold: (-128.0_f64).exp2(),
        positive: side(-300, &[1.0, 2.0, 4.5]),
        negative: side(5, &[3.0]),
        ..Histogram::empty(3)
    };
    check_histogram(&exponential, 1_700_000_000_000);
    check_histogram(&Histogram { zero_threshold: 0.001, ..exponential.clone() }, -7);
    let bounds = vec![0.1, 2.5, 1e9];
    let custom = Histogram { custom_bounds: bounds, positive: side(0, &[1.0, 0.0, 4.0]), ..Histogram::empty(-53) };
    check_histogram(&custom, 4);
    for (hint, header) in [
        (ResetHint::Unknown, 0),
        (ResetHint::Reset, 0b1000_0000),
        (ResetHint::NotReset, 0b0100_0000),
        (ResetHint::Gauge, 0b1100_0000),
    ] {
        let (hinted, stale) = (Histogram { reset_hint: hint, ..exponential.clone() }, Histogram::stale());
        assert_eq!(OpenChunk::new(1, &hinted, &stale).finish().data[2], header);
    }
}

/// Instants and the bits of their values.
type Bits64 = Vec<(i64, u64)>;

/// What the reader of Prometheus' own files makes of the chunks; it was written by others than the writer here.
fn read_back(series: &RawSeries) -> (Bits64, Vec<(i64, Histogram)>) {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for chunk in encode(series) {
        let encoding = u8::try_from(chunk.r#type).unwrap();
        let points = pharos_prometheus_data::decode_chunk(encoding, &chunk.data).expect("sound bytes");
        floats.extend(points.floats.iter().map(|point| (point.timestamp_ms, point.value.to_bits())));
        histograms.extend(points.histograms.into_iter().map(|point| (point.timestamp_ms, point.histogram)));
    }
    (floats, histograms)
}

#[test]
fn integers_floats_and_both_histograms_are_read_by_the_reader_of_prometheus_files() {
    let side = |offset, counts: &[f64]| BucketSide {
        spans: vec![BucketSpan { offset, length: 2 }, BucketSpan { offset: 3, length: counts.len() as u32 - 2 }],
        counts: counts.to_vec(),
    };
    let integer = Histogram {
        is_integer: true,
        count: 9_007_199_254_740_000.0,
        sum: -3.25,
        zero_count: 7.0,
        zero_threshold: 1e-128,
        positive: side(-300, &[1.0, 900_719_925_474_099.0, 4.0, 0.0]),
        negative: side(5, &[3.0, 2.0, 1.0]),
        ..Histogram::empty(3)
    };
    let float = Histogram { is_integer: false, count: 12.5, positive: side(0, &[0.5, 2.0, 10.0]), ..integer.clone() };
    let gauge = Histogram { reset_hint: ResetHint::Gauge, ..integer.clone() };
    let bounds = vec![0.1, 2.5, 1e9];
    let positive = BucketSide { spans: vec![BucketSpan { offset: 0, length: 3 }], counts: vec![1.0, 0.0, 4.0] };
    let custom =
        Histogram { is_integer: true, count: 5.0, sum: 11.0, custom_bounds: bounds, positive, ..Histogram::empty(-53) };
    let mut series = floats(&[(-3, f64::NAN), (5, -0.0), (45, 1e300), (1_700_000_000_000, stale_nan())]);
    series.labels = Labels::empty();
    let all = [integer, float, gauge, custom];
    let at =
        |histogram: &Histogram, timestamp_ms| HistogramSample { timestamp_ms, histogram: Arc::new(histogram.clone()) };
    series.histograms = all.iter().zip([10, 20, 30, 40]).map(|(histogram, at_ms)| at(histogram, at_ms)).collect();
    let kinds: Vec<_> = encode(&series).iter().map(|chunk| chunk.r#type).collect();
    assert_eq!(kinds, [1, 2, 3, 2, 2, 1], "integer histograms stay integers");
    let (floats, histograms) = read_back(&series);
    assert_eq!(
        floats,
        series.timestamps_ms.iter().copied().zip(series.values.iter().map(|v| v.to_bits())).collect::<Vec<_>>()
    );
    assert_eq!(histograms.len(), all.len());
    for ((at_ms, found), sent) in histograms.iter().zip(&series.histograms) {
        assert!(*at_ms == sent.timestamp_ms && found.bits_equal(&sent.histogram), "{found:?} is not {sent:?}");
    }
}

/// Histograms of one layout that rise, integers or not.
fn rising(is_integer: bool, count: usize) -> Vec<Histogram> {
    let side = |counts: Vec<f64>| BucketSide { spans: vec![BucketSpan { offset: -2, length: 3 }], counts };
    let unit = if is_integer { 1.0 } else { 0.37 };
    let one = |at: usize| {
        let times = |factor: usize| (at * factor + at / 3) as f64 * unit;
        Histogram {
            is_integer,
            count: times(60),
            sum: (at as f64).sin() * 1e3,
            zero_count: times(2),
            zero_threshold: 0.001,
            positive: side(vec![times(9), times(20), times(at)]),
            negative: side(vec![0.0, times(1), times(at * at)]),
            reset_hint: if at == 0 { ResetHint::Unknown } else { ResetHint::NotReset },
            ..Histogram::empty(2)
        }
    };
    (0..count).map(one).collect()
}

fn of_histograms(all: &[Histogram]) -> RawSeries {
    let at = |(index, histogram): (usize, &Histogram)| HistogramSample {
        timestamp_ms: 1_700_000_000_000 + index as i64 * 15_000 + (index as i64 * 7_919 % 23),
        histogram: Arc::new(histogram.clone()),
    };
    RawSeries { histograms: all.iter().enumerate().map(at).collect(), ..RawSeries::default() }
}

/// Reads them back; answers how many samples each chunk has. What resets, readers are told, but for the first of a
/// chunk: of that they do not believe the header.
fn check_histograms(series: &RawSeries) -> Vec<u16> {
    let counts: Vec<u16> =
        encode(series).iter().map(|chunk| u16::from_be_bytes([chunk.data[0], chunk.data[1]])).collect();
    let is_first = counts.iter().flat_map(|count| (0..*count).map(|at| at == 0));
    let (_, found) = read_back(series);
    assert_eq!(found.len(), series.histograms.len());
    for (((at_ms, found), sent), is_first) in found.iter().zip(&series.histograms).zip(is_first) {
        let mut expected = Histogram::clone(&sent.histogram);
        if expected.reset_hint != ResetHint::Gauge {
            expected.reset_hint = if is_first { ResetHint::Unknown } else { ResetHint::NotReset };
        }
        assert!(*at_ms == sent.timestamp_ms && found.bits_equal(&expected), "at {at_ms} {}", found.sum);
    }
    counts
}

#[test]
fn histograms_that_rise_share_chunks() {
    for is_integer in [true, false] {
        let mut all = rising(is_integer, 300);
        assert_eq!(check_histograms(&of_histograms(&all)), [120, 120, 60], "{is_integer}");
        // A reset, another layout, and the end of the series each begin a chunk.
        all[10].reset_hint = ResetHint::Reset;
        all[20].zero_threshold = 0.002;
        all[20].reset_hint = ResetHint::Unknown;
        all[21].reset_hint = ResetHint::Unknown;
        all[40] = Histogram::stale();
        all[41].reset_hint = ResetHint::Unknown;
        assert_eq!(check_histograms(&of_histograms(&all)), [10, 10, 1, 19, 1, 120, 120, 19], "{is_integer}");
        // Gauges may fall.
        let mut gauges = rising(is_integer, 40);
        gauges.reverse();
        for gauge in &mut gauges {
            gauge.reset_hint = ResetHint::Gauge;
        }
        assert_eq!(check_histograms(&of_histograms(&gauges)), [40], "{is_integer}");
        // What falls begins a chunk, whatever it says of itself.
        let mut falling = rising(is_integer, 3);
        falling.swap(1, 2);
        falling[2].reset_hint = ResetHint::NotReset;
        assert_eq!(check_histograms(&of_histograms(&falling)), [2, 1], "{is_integer}");
    }
}

#[test]
fn floats_between_histograms_part_their_chunks_and_large_ones_stay_small() {
    let mut all = of_histograms(&rising(true, 6));
    let between = all.histograms[2].timestamp_ms.midpoint(all.histograms[3].timestamp_ms);
    (all.timestamps_ms, all.values) = (vec![between], vec![1.5]);
    let kinds: Vec<_> = encode(&all).iter().map(|chunk| chunk.r#type).collect();
    assert_eq!(kinds, [2, 1, 2]);
    let wide = |at: u32| Histogram {
        positive: BucketSide {
            spans: vec![BucketSpan { offset: 0, length: 5_000 }],
            counts: (0..5_000).map(|bucket| f64::from(at) * (f64::from(bucket) + 0.1).sqrt()).collect(),
        },
        reset_hint: if at == 1 { ResetHint::Unknown } else { ResetHint::NotReset },
        ..Histogram::empty(1)
    };
    let wide: Vec<_> = (1..20).map(wide).collect();
    assert!(check_histograms(&of_histograms(&wide)).len() > 5);
    assert!(encode(&of_histograms(&wide)).iter().all(|chunk| chunk.data.len() < 120 << 10));
}
