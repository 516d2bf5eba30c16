//! What the trace store keeps: blocks of spans, its log's segments and records.

use pharos_storage::conformance::traces::{ShopTraces, SpanGenerator};
use pharos_tracestore::internals::{self, Rows, block, block_inputs};

const NOW_NS: u64 = 1_795_230_000_000_000_000;

/// Opens and reads all of a block. Input: a block without its checksum.
pub(crate) fn blocks(bytes: &[u8]) {
    block(bytes);
}

/// Small blocks: every field of the model, and texts of every form.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut generator = SpanGenerator::new(7, NOW_NS, 4);
    let mut found: Vec<_> = (0..48).flat_map(|_| block_inputs(&Rows::of(&generator.batch()), 1000)).collect();
    found.extend(block_inputs(&Rows::of(&ShopTraces::new(7, NOW_NS, 1000, 5).batch(40)), 25));
    found.into_iter().map(|input| ("blocks", input)).collect()
}

/// Contents of records, and segments of a few of them.
pub(crate) fn log_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a folder for scratch files");
    let mut generator = SpanGenerator::new(11, NOW_NS, 3);
    let mut found = Vec::new();
    for count in 0..16 {
        let mut records = internals::record_inputs(&generator.batch());
        found.push(("span-log", internals::segment_input(dir.path(), &records[..count % 4])));
        // Mutations of long inputs seldom hit what matters.
        records.retain(|record| record.len() <= 4096);
        found.extend(records.into_iter().map(|record| ("span-record", record)));
    }
    found
}
