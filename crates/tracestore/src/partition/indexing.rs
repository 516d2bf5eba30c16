//! Deriving index and value postings from blocks: after a seal, for a merge, and at the start of what is missing.
//!
//! Invariant I1: the view that readers see has every block of every segment that they see; it may have more.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pharos_base::full_message;
use rocksdb::WriteBatch;

use super::database::Database;
use super::index::{Commit, SearchIndex, ValueLookup};
use super::keys::{block_key, values_key, values_page_key};
use super::origins::{DecodedOrigins, TenantOrigins};
use super::pieces::corrupt_block;
use super::segment::{Segment, Segments};
use crate::TraceStoreError;
use crate::block::Block;
use crate::codec::DecodeError;
use crate::record::Day;
use crate::search::{BlockTerms, EvaluateError, PostingsShape, ValueEntry, build_pages, find_blocks};

/// Blocks whose terms are in memory together, and added in one change, where others have their turn between.
const PIECE_BLOCKS: usize = if cfg!(test) { 2 } else { 64 };
/// Values of a segment for which there is room before they come, at most.
const RESERVED_VALUES_MAX: usize = 1 << 20;

/// Where blocks are read.
#[derive(Clone, Copy)]
pub(super) struct BlockSource<'a> {
    pub(super) database: &'a Database,
    pub(super) decoded: &'a DecodedOrigins,
    pub(super) day: Day,
}

impl<'a> BlockSource<'a> {
    pub(super) fn origins(self, tenant: u32) -> TenantOrigins<'a> {
        TenantOrigins { database: self.database, decoded: self.decoded, day: self.day, tenant }
    }

    pub(super) fn block(self, segment: &Segment, block: u32) -> Result<Bytes, TraceStoreError> {
        let bytes = self.database.block(&block_key(segment.tenant, segment.number, block))?;
        self.present(bytes, segment, block)
    }

    /// As [`BlockSource::block`], for whoever reads all blocks of a segment and none of them soon again.
    pub(super) fn block_once(self, segment: &Segment, block: u32) -> Result<Bytes, TraceStoreError> {
        let bytes = self.database.block_once(&block_key(segment.tenant, segment.number, block))?;
        self.present(bytes, segment, block)
    }

    fn present(self, bytes: Option<Bytes>, segment: &Segment, block: u32) -> Result<Bytes, TraceStoreError> {
        bytes.ok_or_else(|| TraceStoreError::Corrupt {
            what: "segment",
            partition: self.day.to_string(),
            detail: format!("block {block} of segment {} is missing", segment.number),
        })
    }

    pub(super) fn failed(self, segment: &Segment, block: u32, error: EvaluateError) -> TraceStoreError {
        match error {
            EvaluateError::Block(error) => corrupt_block(self.day, segment.number, block, &error),
            EvaluateError::Origin(error) => error,
        }
    }

    /// Adds a segment to a change of the index, and writes its value postings to RocksDB's memory: flush before the change is
    /// finished.
    pub(super) fn index(self, segment: &Segment, commit: &mut Commit<'_>) -> Result<(), TraceStoreError> {
        let origins = self.origins(segment.tenant);
        let mut postings = Postings::of(segment);
        for number in 0..postings.block_count {
            let terms = self.terms_or_untold(segment, number, &origins)?;
            commit.add(segment.tenant, segment.number, number, &terms)?;
            postings.push(number, &terms);
        }
        postings.write(self.database)
    }

    /// As [`BlockSource::index`], for a segment that nobody sees yet: in several changes, each of which is finished here, and between
    /// blocks `pause` is called, in which others may change the index.
    pub(super) fn index_in_pieces(
        self,
        index: &SearchIndex,
        segment: &Segment,
        pause: &dyn Fn(),
    ) -> Result<(), TraceStoreError> {
        let origins = self.origins(segment.tenant);
        let mut postings = Postings::of(segment);
        let mut had_writer = None;
        for first in (0..postings.block_count).step_by(PIECE_BLOCKS) {
            let end = postings.block_count.min(first + PIECE_BLOCKS as u32);
            let mut piece = Vec::with_capacity((end - first) as usize);
            for number in first..end {
                piece.push(self.terms_or_untold(segment, number, &origins)?);
                pause();
            }
            let mut commit = index.begin()?;
            let had_writer = *had_writer.get_or_insert(commit.had_writer());
            for (number, terms) in (first..).zip(&piece) {
                commit.add(segment.tenant, segment.number, number, terms)?;
                postings.push(number, terms);
            }
            commit.finish(had_writer || end < postings.block_count)?;
        }
        postings.write(self.database)
    }

    /// The terms of a block; of one that cannot be read, that nothing is told of it.
    fn terms_or_untold(
        self,
        segment: &Segment,
        number: u32,
        origins: &TenantOrigins<'_>,
    ) -> Result<BlockTerms, TraceStoreError> {
        match self.terms(segment, number, origins) {
            Err(error) if error.is_damage() => {
                tracing::error!(
                    error = %full_message(&error), day = %self.day, segment = segment.number, block = number,
                    "a block of spans cannot be read: searches will come to it and say so"
                );
                Ok(BlockTerms::untold())
            }
            terms => terms,
        }
    }

    fn terms(self, segment: &Segment, block: u32, origins: &TenantOrigins<'_>) -> Result<BlockTerms, TraceStoreError> {
        let bytes = self.block_once(segment, block)?;
        let terms = Block::open(&bytes).map_err(EvaluateError::from);
        terms.and_then(|opened| BlockTerms::of(&opened, origins)).map_err(|error| self.failed(segment, block, error))
    }

    /// Brings an index that a crash left behind, or one that is new, to the segments that there are.
    pub(super) fn reconcile(self, index: &SearchIndex, segments: &Segments) -> Result<(), TraceStoreError> {
        let mut indexed = index.view()?.block_counts();
        let is_whole = |segment: &Segment, count: Option<usize>| count == Some(segment.record.blocks.len());
        let missing: Vec<&Arc<Segment>> = segments
            .iter()
            .filter(|segment| {
                let place = (segment.tenant, segment.number);
                let whole = is_whole(segment, indexed.get(&place).copied());
                if whole {
                    indexed.remove(&place);
                }
                !whole
            })
            .collect();
        if missing.is_empty() && indexed.is_empty() {
            return Ok(());
        }
        tracing::info!(day = %self.day, segments = missing.len(), "indexing segments that the search index lacks");
        let mut commit = index.begin()?;
        for (tenant, segment) in indexed.keys() {
            commit.remove(*tenant, *segment);
        }
        missing.iter().try_for_each(|segment| self.index(segment, &mut commit))?;
        self.database.flush()?;
        commit.finish(false)
    }
}

/// Collects the value postings of a segment. Without them every block with values that are no words is looked at: where there
/// are too many blocks to number.
struct Postings<'a> {
    segment: &'a Segment,
    block_count: u32,
    values: Vec<ValueEntry>,
}

impl<'a> Postings<'a> {
    fn of(segment: &'a Segment) -> Self {
        Self { segment, block_count: segment.record.blocks.len() as u32, values: Vec::new() }
    }

    fn push(&mut self, block: u32, terms: &BlockTerms) {
        if self.block_count > ValueEntry::BLOCKS_MAX {
            return;
        }
        if self.values.is_empty() {
            // Blocks of a segment are much alike, and a vector that grows is there twice.
            self.values.reserve((terms.hashes.len() * self.block_count as usize).min(RESERVED_VALUES_MAX));
        }
        self.values.extend(terms.hashes.iter().map(|hash| ValueEntry::new(*hash, block)));
    }

    /// Writes them to RocksDB's memory.
    fn write(mut self, database: &Database) -> Result<(), TraceStoreError> {
        if self.block_count > ValueEntry::BLOCKS_MAX {
            return Ok(());
        }
        self.values.sort_unstable();
        self.values.dedup();
        let (tenant, number) = (self.segment.tenant, self.segment.number);
        let shape = PostingsShape::of(self.values.len() as u64, self.block_count);
        let mut batch = WriteBatch::default();
        batch.put(values_key(tenant, number), shape.encode());
        for (page, bytes) in build_pages(shape, &self.values) {
            batch.put(values_page_key(tenant, number, page), bytes);
        }
        database.write(batch)
    }
}

/// Value postings of a tenant's segments.
pub(super) struct TenantValues<'a> {
    pub(super) source: BlockSource<'a>,
    pub(super) segments: HashMap<u64, &'a Segment>,
}

impl ValueLookup for TenantValues<'_> {
    fn blocks(&self, segment: u64, hash: u64) -> Result<Option<Vec<u32>>, TraceStoreError> {
        let Some(segment) = self.segments.get(&segment) else { return Ok(Some(Vec::new())) };
        let database = self.source.database;
        // Derived as they are, damaged postings are no reason to fail: every block is looked at instead.
        let warn = |error: &DecodeError| {
            tracing::warn!(day = %self.source.day, segment = segment.number, %error, "value postings are damaged");
        };
        let shape = if let Some(shape) = segment.values.get() {
            *shape
        } else {
            let Some(bytes) = database.meta(&values_key(segment.tenant, segment.number))? else { return Ok(None) };
            let Ok(shape) = PostingsShape::decode(&bytes).inspect_err(warn) else { return Ok(None) };
            *segment.values.get_or_init(|| shape)
        };
        let page = database.meta(&values_page_key(segment.tenant, segment.number, shape.page(hash)))?;
        let Some(page) = page else { return Ok(Some(Vec::new())) };
        Ok(find_blocks(shape, &page, hash).inspect_err(warn).ok())
    }
}
