//! Blocks and the log, for fuzz targets and benches: any bytes in, and what must hold is asserted; what they cost. Part of the feature
//! `internals` only, which no binary has.

mod log;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pharos_model::{SpanBatch, TraceId};

use crate::TraceStoreError;
use crate::block::{Block, BlockBuilder, BlockTrace, Level};
use crate::codec::{DecodeError, Origin, OriginHash, RowBuilder, RowReader, encode_origin};
use crate::search::{BlockTerms, EvaluateError, OriginSource, PostingsShape, find_in_postings};

pub use log::{record, record_inputs, segment, segment_input};

/// Traces as the store's rows keep them, traces and spans in the order of their starts.
#[derive(Debug)]
pub struct Rows(Vec<(TraceId, Vec<u8>)>);

impl Rows {
    /// The spans of a batch, one row a trace.
    #[must_use]
    pub fn of(batch: &SpanBatch) -> Self {
        let mut traces: BTreeMap<TraceId, Vec<_>> = BTreeMap::new();
        for group in &batch.groups {
            let (origin, _) = encode_origin(&group.resource, &group.scope);
            for span in &group.spans {
                traces.entry(span.trace_id).or_default().push((span, origin, group.resource.service_name()));
            }
        }
        let mut rows: Vec<_> = traces
            .into_iter()
            .map(|(trace_id, mut spans)| {
                spans.sort_by_key(|(span, ..)| span.start_ns);
                let mut row = RowBuilder::default();
                for (span, origin, service) in &spans {
                    row.push_group(*origin, service, &[span], 0);
                }
                (spans.first().map(|(span, ..)| span.start_ns), trace_id, row.finish())
            })
            .collect();
        rows.sort_unstable_by_key(|(start_ns, trace_id, _)| (*start_ns, *trace_id));
        Self(rows.into_iter().map(|(_, trace_id, row)| (trace_id, row)).collect())
    }
}

/// A builder of blocks.
#[derive(Default)]
pub struct Builder(BlockBuilder);

impl Builder {
    /// Blocks of `spans_per_block` spans or a trace more, kept by `keep`.
    ///
    /// # Panics
    /// If rows do not decode: a bug.
    pub fn blocks(&mut self, rows: &Rows, spans_per_block: usize, mut keep: impl FnMut(Vec<u8>)) {
        for (trace_id, row) in &rows.0 {
            let reader = RowReader::new(row, 0).expect("own rows decode");
            self.0.begin_trace(*trace_id);
            for span in reader.spans_with_details() {
                let (span, details) = span.expect("own rows decode");
                self.0.push(span.origin, span.service, &span.skeleton, details).expect("own rows decode");
            }
            if self.0.span_count() >= spans_per_block {
                keep(self.0.finish());
            }
        }
        if self.0.span_count() > 0 {
            keep(self.0.finish());
        }
    }
}

/// A block opened.
pub struct Opened(Block);

impl Opened {
    /// Opens a block.
    ///
    /// # Panics
    /// If it is damaged.
    #[must_use]
    pub fn new(bytes: &Bytes) -> Self {
        Self(Block::open(bytes).expect("own blocks open"))
    }

    /// Its traces and the numbers of their spans.
    pub fn traces(&self) -> impl Iterator<Item = (TraceId, Range<u32>)> {
        self.0.traces().iter().map(|BlockTrace { trace_id, spans, .. }| (*trace_id, spans.clone()))
    }

    /// Reads the spans of one trace; how many there are.
    ///
    /// # Panics
    /// If the block is damaged.
    #[must_use]
    pub fn read_trace(&self, trace_id: TraceId) -> usize {
        let Some(trace) = self.0.runs_of(trace_id).next() else { return 0 };
        let spans = self.0.spans(trace_id, trace.spans.clone()).expect("own blocks decode");
        spans.inspect(|span| assert!(std::hint::black_box(span).is_ok(), "own blocks decode")).count()
    }

    /// Spans, events and links that have an attribute which is shown as `value`, added up; and how many spans start in the
    /// first half of the block's time.
    ///
    /// # Panics
    /// If the block is damaged.
    #[must_use]
    pub fn count(&self, key: &str, value: &str) -> (usize, usize) {
        let mut found = 0;
        for column in self.0.columns().expect("own blocks decode").filter(|column| column.key == key) {
            self.0.visit_shown(column.number, value, |_| found += 1).expect("own blocks decode");
        }
        let (first_ns, last_ns) = self.0.starts();
        let middle_ns = first_ns + (last_ns - first_ns) / 2;
        (found, self.0.times().filter(|(start_ns, _)| *start_ns < middle_ns).count())
    }

    /// What takes how many bytes of the block.
    ///
    /// # Panics
    /// If the block is damaged.
    #[must_use]
    pub fn sizes(&self) -> Vec<(String, usize)> {
        self.0.sizes().expect("own blocks decode")
    }
}

fn read_all(content: &[u8]) -> Result<(), DecodeError> {
    let block = Block::open_content(&Bytes::copy_from_slice(content))?;
    block.skeletons(0..block.span_count())?.try_for_each(|skeleton| skeleton.map(drop))?;
    block.names(0..block.span_count())?.try_for_each(|name| name.map(drop))?;
    for trace in block.traces() {
        block.spans(trace.trace_id, trace.spans.clone())?.try_for_each(|span| span.map(drop))?;
    }
    for column in block.columns()? {
        block.visit_shown(column.number, "GET items:7", |_| {})?;
        block.visit_shown(column.number, "7", |_| {})?;
        block.visit_passing(column.number, |_| true, |_| {})?;
        block.visit_entries(column.number, |_, _| {})?;
    }
    for level in [Level::Span, Level::Event, Level::Link] {
        let owners = block.spans_of(level)?;
        assert_eq!(owners.len(), block.record_count(level)?);
        assert!(owners.is_sorted() && owners.iter().all(|owner| *owner < block.span_count()));
    }
    assert_eq!(block.event_delays()?.count(), block.record_count(Level::Event)?);
    assert_eq!(block.times().count(), block.span_count() as usize);
    assert_eq!(block.kinds()?.len(), block.span_count() as usize);
    match BlockTerms::of(&block, &AnyOrigin) {
        Ok(terms) => assert!(terms.words().next().is_some(), "every block has a word"),
        Err(EvaluateError::Block(error)) => return Err(error),
        Err(EvaluateError::Origin(_)) => unreachable!("there is any"),
    }
    Ok(())
}

/// Knows all origins, as one that has nothing.
struct AnyOrigin;

impl OriginSource for AnyOrigin {
    fn origin(&self, _: OriginHash) -> Result<Arc<Origin>, TraceStoreError> {
        Ok(Arc::new(Origin { resource: Arc::default(), scope: Arc::default() }))
    }
}

/// Reads bytes as what lies beside blocks: pages of value postings, pages of locators, records of segments.
fn read_beside(bytes: &[u8]) {
    let _ = PostingsShape::decode(bytes);
    for entries in [1, 1000, 1_000_000] {
        let shape = PostingsShape::of(entries, 500);
        for hash in [0, 1 << 40, u64::MAX] {
            // An entry takes a bit at least.
            let found = find_in_postings(shape, bytes, hash).map_or(0, |blocks| blocks.len());
            assert!(found <= bytes.len() * 8);
        }
    }
    crate::partition::read_beside_blocks(bytes);
}

/// Reads all of a block whose checksum is taken to be right, and the same bytes as what lies beside blocks. Input: the block
/// without its checksum.
pub fn block(bytes: &[u8]) {
    let _ = read_all(bytes);
    read_beside(bytes);
}

/// Inputs to begin with: what stands in front of the checksums of blocks, their catalogues not compressed.
///
/// # Panics
/// If own blocks do not open: a bug.
#[must_use]
pub fn block_inputs(rows: &Rows, spans_per_block: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    Builder::default().blocks(rows, spans_per_block, |mut block| {
        block.truncate(block.len() - 8);
        found.push(Block::with_plain_catalogue(&block).expect("own blocks open"));
    });
    found
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use pharos_storage::conformance::traces::SpanGenerator;
    use proptest::prelude::*;

    use super::*;

    static BLOCKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let mut generator = SpanGenerator::new(7, 1_795_230_000_000_000_000, 4);
        (0..24).flat_map(|_| block_inputs(&Rows::of(&generator.batch()), 1000)).collect()
    });

    /// Where, a byte, and from where and how much of another block.
    type Change = (prop::sample::Index, u8, Option<(prop::sample::Index, u8)>);

    /// A block with bytes set, or with a piece of another block in place of its own.
    fn changed(of: usize, changes: &[Change]) -> Vec<u8> {
        let mut bytes = BLOCKS[of % BLOCKS.len()].clone();
        for (at, byte, from) in changes {
            let at = at.index(bytes.len());
            match from {
                None => bytes[at] = *byte,
                Some((from, len)) => {
                    let other = &BLOCKS[usize::from(*byte) % BLOCKS.len()];
                    let from = from.index(other.len());
                    let piece = &other[from..other.len().min(from + usize::from(*len % 16))];
                    let end = bytes.len().min(at + piece.len());
                    bytes.splice(at..end, piece.iter().copied());
                }
            }
        }
        bytes
    }

    proptest! {
        /// More with `PROPTEST_CASES`; libFuzzer's search is in `tests/fuzz`.
        #[test]
        fn changed_blocks_are_errors_or_other_blocks(
            of in any::<usize>(),
            changes in proptest::collection::vec(any::<Change>(), 1..5),
        ) {
            block(&changed(of, &changes));
        }
    }
}
