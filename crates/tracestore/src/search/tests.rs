//! Blocks answer every search as whole spans do.

use pharos_storage::conformance::traces::SpanGenerator;
use proptest::prelude::*;

use super::evaluate::passing_spans;
use super::test::Test;
use super::testing::{NOW_NS, passing_by_hand, queries, sample};
use crate::block::Block;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_block_answers_as_its_spans_do(seed in any::<u64>(), batches in 1_usize..30, traces in 1_u8..30) {
        let mut generator = SpanGenerator::new(seed, NOW_NS, traces);
        let sample = sample(&mut generator, batches);
        let block = Block::open(&sample.bytes).unwrap();
        for query in queries(&mut generator, 60) {
            let found = passing_spans(&Test::of(&query), &block, &sample.origins).unwrap();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), passing_by_hand(&sample, &query), "{:?}", query);
        }
    }
}

#[test]
fn random_searches_find_some_and_not_all() {
    let mut generator = SpanGenerator::new(7, NOW_NS, 20);
    let sample = sample(&mut generator, 30);
    let queries = queries(&mut generator, 200);
    let found: Vec<_> = queries.iter().map(|query| passing_by_hand(&sample, query).len()).collect();
    let some = found.iter().filter(|found| **found > 0 && **found < sample.spans.len()).count();
    assert!(some > 60, "{some} of 200");
}
