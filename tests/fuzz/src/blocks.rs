//! Blocks of spans. Input: a block without its checksum.

use pharos_storage::conformance::traces::{ShopTraces, SpanGenerator};
use pharos_tracestore::internals::{Rows, block, block_inputs};

const NOW_NS: u64 = 1_795_230_000_000_000_000;

/// Opens and reads all of it.
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
