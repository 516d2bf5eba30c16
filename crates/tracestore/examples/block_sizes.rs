//! Prints what blocks of the web shop's traces take, part by part, and what building and reading them costs:
//! `cargo run --release -p pharos-tracestore --features internals --example block_sizes -- [SPANS_PER_BLOCK…]`.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use pharos_storage::conformance::traces::ShopTraces;
use pharos_tracestore::internals::{Builder, Opened, Rows};

const TRACES: usize = 6000;
const SPANS_PER_TRACE: usize = 20;
const GAP_NS: u64 = 60_000_000;
const START_NS: u64 = 1_795_230_000_000_000_000;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rows = Rows::of(&ShopTraces::new(1, START_NS, GAP_NS, SPANS_PER_TRACE).batch(TRACES));
    let spans = (TRACES * SPANS_PER_TRACE) as f64;
    for spans_per_block in if sizes.is_empty() { vec![2048] } else { sizes } {
        let (mut builder, mut blocks) = (Builder::default(), Vec::new());
        builder.blocks(&rows, spans_per_block, |block| blocks.push(Bytes::from(block)));
        let encode = least(|| builder.blocks(&rows, spans_per_block, |block| drop(std::hint::black_box(block))));
        let open = least(|| blocks.iter().for_each(|block| drop(std::hint::black_box(Opened::new(block)))));
        let some_trace = |block: &Bytes| {
            let opened = Opened::new(block);
            let (trace_id, _) = opened.traces().nth(30.min(opened.traces().count() - 1)).expect("a block has traces");
            opened.read_trace(trace_id)
        };
        let trace = least(|| blocks.iter().for_each(|block| assert!(some_trace(block) > 0)));
        let opened: Vec<_> = blocks.iter().map(Opened::new).collect();
        let search = |key, value| least(|| opened.iter().for_each(|block| assert!(block.count(key, value).1 > 0)));
        let few = search("http.response.status_code", "500");
        let many = search("enduser.id", "user-77");
        let bytes: usize = blocks.iter().map(Bytes::len).sum();
        let per_block = |took: Duration| took.as_secs_f64() * 1e6 / blocks.len() as f64;
        println!(
            "{spans_per_block} spans a block: {:.2} B/span, encode {:.2} us/span, open {:.1} us, open and read a trace {:.1} us, one value and start {:.1} and {:.1} us",
            bytes as f64 / spans,
            encode.as_secs_f64() * 1e6 / spans,
            per_block(open),
            per_block(trace),
            per_block(few),
            per_block(many),
        );
        let mut parts: BTreeMap<String, usize> = BTreeMap::new();
        for block in &blocks {
            for (part, bytes) in Opened::new(block).sizes() {
                *parts.entry(part).or_default() += bytes;
            }
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        for (part, bytes) in parts {
            println!("{:8.3}  {part}", bytes as f64 / spans);
        }
    }
}

/// CPU time of the thread: others use the machine, too.
fn least(mut run: impl FnMut()) -> Duration {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    (0..10)
        .map(|_| {
            let started = now();
            run();
            now().saturating_sub(started)
        })
        .min()
        .expect("it ran")
}
