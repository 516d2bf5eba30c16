//! Size and cost of the value columns of real exporters (`tests/data`), young and cold.
//!
//! Before it measures it prints what all columns take.

mod exporters;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pharos_chunk::{CHUNK_SAMPLES_MAX, Form, timestamps, values};

use exporters::{Series, series};

const FORMS: [Form; 2] = [Form::Young, Form::Cold];

struct Encoded {
    head_len: usize,
    bytes: Vec<u8>,
    count: usize,
}

fn encode(series: &[Series], form: Form, samples_max: usize) -> Vec<Encoded> {
    let mut all = Vec::new();
    for one in series {
        for values in one.values.chunks(samples_max) {
            let mut bytes = Vec::new();
            let head_len = values::encode(values, form, &mut bytes);
            all.push(Encoded { head_len, bytes, count: values.len() });
        }
    }
    all
}

fn report(name: &str, series: &[Series]) {
    let samples: usize = series.iter().map(|one| one.values.len()).sum();
    for form in FORMS {
        let encoded = encode(series, form, CHUNK_SAMPLES_MAX);
        let heads: usize = encoded.iter().map(|one| one.head_len).sum();
        let mut bulks: Vec<&[u8]> = encoded.iter().map(|one| &one.bytes[one.head_len..]).collect();
        let all: usize = bulks.iter().map(|bulk| bulk.len()).sum();
        bulks.sort_unstable();
        bulks.dedup();
        let distinct: usize = bulks.iter().map(|bulk| bulk.len()).sum();
        let mut instants: Vec<Vec<u8>> = series
            .iter()
            .map(|one| {
                let mut bytes = Vec::new();
                timestamps::encode(&one.instants_ms, form, &mut bytes);
                bytes
            })
            .collect();
        instants.sort_unstable();
        instants.dedup();
        let of_instants: usize = instants.iter().map(Vec::len).sum();
        let each = |bytes: usize| bytes as f64 / samples as f64;
        eprintln!(
            "{name} {form:?}: heads {:.4}, bulks {:.4} (distinct {:.4}), instants {:.4} B/sample",
            each(heads),
            each(all),
            each(distinct),
            each(of_instants),
        );
    }
}

fn real_mix(c: &mut Criterion) {
    let series = series(1);
    report("5 s", &series);
    report("15 s", &exporters::series(3));
    let samples: usize = series.iter().map(|one| one.values.len()).sum();
    let mut group = c.benchmark_group("chunk/real");
    group.throughput(Throughput::Elements(samples as u64));
    for form in FORMS {
        group.bench_function(format!("encode/{form:?}").to_lowercase(), |b| {
            b.iter(|| encode(&series, form, CHUNK_SAMPLES_MAX));
        });
        for samples_max in [120, 480, CHUNK_SAMPLES_MAX] {
            let encoded = encode(&series, form, samples_max);
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(format!("decode/{form:?}").to_lowercase(), samples_max), |b| {
                b.iter(|| {
                    for one in &encoded {
                        out.clear();
                        let (head, bulk) = one.bytes.split_at(one.head_len);
                        values::decode(head, bulk, one.count, &mut out).expect("sound");
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, real_mix);
criterion_main!(benches);
