//! Blocks of an index file, decoded through the cache.

use std::sync::Arc;

use pharos_chunk::ChunkError;

use super::cache::{Decoded, IndexCache};
use super::segment::{Columns, Shapes};
use super::toc::{Segment, Toc};
use super::values::{self, Values};
use super::{Source, values::order};
use crate::TsdbError;
use crate::part::block::BlockAt;

/// An open index of the current version.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: Source,
    pub(super) toc: Toc,
    pub(super) cache: Arc<IndexCache>,
    /// What the cache knows it by.
    pub(super) owner: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.cache.forget(self.owner);
    }
}

impl Reader {
    pub(super) fn new(source: Source, toc: Toc, cache: Arc<IndexCache>) -> Self {
        let owner = cache.register();
        Self { source, toc, cache, owner }
    }

    /// The decoded block at a place of the file: from the cache, or read and decoded by `decode`.
    fn block<T>(
        &self,
        what: &'static str,
        at: BlockAt,
        cached: impl Fn(Decoded) -> Option<Arc<T>>,
        wrap: impl Fn(Arc<T>) -> Decoded,
        decode: impl FnOnce(&[u8]) -> Result<T, ChunkError>,
    ) -> Result<Arc<T>, TsdbError> {
        if let Some(found) = self.cache.get(self.owner, at.offset).and_then(cached) {
            return Ok(found);
        }
        let payload = self.source.read(what, at)?;
        let block = Arc::new(decode(&payload).map_err(TsdbError::chunk(what, self.source.path(), at.offset))?);
        self.cache.insert(self.owner, at.offset, wrap(Arc::clone(&block)));
        Ok(block)
    }

    pub(super) fn values(&self, block: usize) -> Result<Arc<Values>, TsdbError> {
        let block = &self.toc.values[block];
        let cached = |found| if let Decoded::Values(values) = found { Some(values) } else { None };
        let decode = |payload: &[u8]| Values::decode(payload, block.symbols.len() as u32);
        self.block("block of label values", block.at, cached, Decoded::Values, decode)
    }

    pub(super) fn shapes(&self, segment: &Segment) -> Result<Arc<Shapes>, TsdbError> {
        let cached = |found| if let Decoded::Shapes(shapes) = found { Some(shapes) } else { None };
        let decode = |payload: &[u8]| Shapes::decode(payload, segment.series.len() as u32, self.toc.labels.len());
        self.block("block of series shapes", segment.shapes, cached, Decoded::Shapes, decode)
    }

    /// The group of columns that holds the label's.
    pub(super) fn columns(&self, segment: &Segment, shapes: &Shapes, label: u32) -> Result<Arc<Columns>, TsdbError> {
        let what = "block of label columns";
        let Some((labels, at)) = segment.group_of(label, self.toc.labels.len()) else {
            let error = ChunkError::OutOfBounds { what: "label number" };
            return Err(TsdbError::chunk(what, self.source.path(), segment.shapes.offset)(error));
        };
        let cached = |found| if let Decoded::Columns(columns) = found { Some(columns) } else { None };
        let value_count = |label: u32| self.toc.labels[label as usize].symbols.len() as u32;
        let decode = |payload: &[u8]| Columns::decode(payload, labels, shapes, value_count);
        self.block(what, at, cached, Decoded::Columns, decode)
    }

    /// The value id of a value of a label.
    pub(super) fn value_id(&self, label: u32, value: &str) -> Result<Option<u32>, TsdbError> {
        let symbols = self.toc.labels[label as usize].symbols.clone();
        let (first, last) = (self.toc.values_of(symbols.start), self.toc.values_of(symbols.end - 1));
        // Blocks after the first begin within the label, and the table knows with which value.
        let later = &self.toc.values[first + 1..=last];
        let after = later.partition_point(|block| {
            block.first_value.as_deref().is_some_and(|first| values::order(first, value).is_le())
        });
        let (block, values) = (&self.toc.values[first + after], self.values(first + after)?);
        let start = symbols.start.saturating_sub(block.symbols.start);
        let end = symbols.end.min(block.symbols.end) - block.symbols.start;
        let found = binary_search(start, end, |position| order(values.get(position as usize), value));
        Ok(found.map(|position| block.symbols.start + position - symbols.start))
    }

    /// Calls `each` with the values of a label and their ids, ids ascending, as long as it answers true.
    pub(super) fn for_each_value(&self, label: u32, mut each: impl FnMut(u32, &str) -> bool) -> Result<(), TsdbError> {
        let symbols = self.toc.labels[label as usize].symbols.clone();
        for block in self.toc.values_of(symbols.start)..=self.toc.values_of(symbols.end - 1) {
            let values = self.values(block)?;
            let of = &self.toc.values[block].symbols;
            for symbol in of.start.max(symbols.start)..of.end.min(symbols.end) {
                if !each(symbol - symbols.start, values.get((symbol - of.start) as usize)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn binary_search(mut start: u32, mut end: u32, compare: impl Fn(u32) -> std::cmp::Ordering) -> Option<u32> {
    while start < end {
        let middle = start + (end - start) / 2;
        match compare(middle) {
            std::cmp::Ordering::Less => start = middle + 1,
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Greater => end = middle,
        }
    }
    None
}
