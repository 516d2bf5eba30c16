//! Encoding and decoding cost per sample, by shape: the inner loops of flush and of every range query.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pharos_chunk::{Form, timestamps, values};

/// A 2 h window at 15 s.
const SAMPLES: usize = 480;

type Shape = (&'static str, fn(u64) -> f64);

const SHAPES: [Shape; 5] = [
    ("constant", |_| 42.0),
    ("steady_counter", |i| (i * 1500) as f64),
    ("busy_counter", |i| (i * 1500 + noise(i) % 900) as f64),
    ("decimal_gauge", |i| (noise(i) % 10_000) as f64 / 100.0),
    ("noise", |i| f64::from_bits(noise(i) >> 2)),
];

fn noise(i: u64) -> u64 {
    (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn samples(value: fn(u64) -> f64) -> Vec<f64> {
    let mut previous = 0.0;
    (0..SAMPLES as u64)
        .map(|i| {
            previous = value(i);
            previous
        })
        .collect()
}

fn value_columns(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk/values");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (name, value) in SHAPES {
        let column = samples(value);
        let mut encoded = Vec::new();
        values::encode(&column, Form::Young, &mut encoded);
        let mut out = Vec::new();
        group.bench_with_input(BenchmarkId::new("encode", name), &column, |b, column| {
            b.iter(|| {
                out.clear();
                values::encode(column, Form::Young, &mut out);
            });
        });
        let mut decoded = Vec::new();
        group.bench_with_input(BenchmarkId::new("decode", name), &encoded, |b, encoded| {
            b.iter(|| {
                decoded.clear();
                values::decode(encoded, &[], SAMPLES, &mut decoded)
            });
        });
    }
    group.finish();
}

fn instants(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk/instants");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    let column: Vec<i64> =
        (0..SAMPLES as i64).map(|i| 1_700_000_000_000 + i * 15_000 + (noise(i as u64) % 50) as i64).collect();
    let mut encoded = Vec::new();
    timestamps::encode(&column, Form::Young, &mut encoded);
    let mut out = Vec::new();
    group.bench_function("encode/jitter", |b| {
        b.iter(|| {
            out.clear();
            timestamps::encode(&column, Form::Young, &mut out);
        });
    });
    let mut decoded = Vec::new();
    group.bench_function("decode/jitter", |b| {
        b.iter(|| {
            decoded.clear();
            timestamps::decode(&encoded, &mut decoded)
        });
    });
    group.finish();
}

criterion_group!(benches, value_columns, instants);
criterion_main!(benches);
