//! What blocks cost: building, one trace out of one, one question of a search.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pharos_storage::conformance::traces::ShopTraces;
use pharos_tracestore::internals::{Builder, Opened, Rows};

const SPANS_PER_TRACE: usize = 20;
const TRACES: usize = 100;
const START_NS: u64 = 1_795_230_000_000_000_000;

fn blocks(c: &mut Criterion) {
    let rows = Rows::of(&ShopTraces::new(1, START_NS, 60_000_000, SPANS_PER_TRACE).batch(TRACES));
    let mut builder = Builder::default();
    let mut block = Bytes::new();
    builder.blocks(&rows, TRACES * SPANS_PER_TRACE, |bytes| block = bytes.into());
    let mut group = c.benchmark_group("tracestore/blocks");
    group.bench_function("open/2000_spans", |b| b.iter(|| Opened::new(&block)));
    let (trace_id, _) = Opened::new(&block).traces().nth(TRACES / 2).expect("a trace in the middle");
    group.bench_function("open_and_read_trace/20_of_2000_spans", |b| {
        b.iter(|| Opened::new(&block).read_trace(trace_id));
    });
    let opened = Opened::new(&block);
    for (name, key, value) in [
        ("few_values", "http.response.status_code", "500"),
        ("many_values", "enduser.id", "user-77"),
        ("absent_value", "db.statement", "GET items:0"),
    ] {
        group.bench_function(format!("one_value_and_start/{name}"), |b| b.iter(|| opened.count(key, value)));
    }
    group.bench_function("open_one_value_and_start/many_values", |b| {
        b.iter(|| Opened::new(&block).count("enduser.id", "user-77"));
    });
    group.throughput(Throughput::Elements((TRACES * SPANS_PER_TRACE) as u64));
    group.bench_function("encode/2000_spans", |b| {
        b.iter(|| builder.blocks(&rows, TRACES * SPANS_PER_TRACE, |bytes| drop(std::hint::black_box(bytes))));
    });
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
