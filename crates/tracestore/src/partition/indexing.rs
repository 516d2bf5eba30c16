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
        let block_count = segment.record.blocks.len() as u32;
        let mut values = Vec::new();
        for number in 0..block_count {
            let terms = match self.terms(segment, number, &origins) {
                Err(error) if error.is_damage() => {
                    tracing::error!(
                        error = %full_message(&error), day = %self.day, segment = segment.number, block = number,
                        "a block of spans cannot be read: searches will come to it and say so"
                    );
                    BlockTerms::untold()
                }
                terms => terms?,
            };
            commit.add(segment.tenant, segment.number, number, &terms)?;
            // Without postings every block with values that are no words is looked at.
            if block_count > ValueEntry::BLOCKS_MAX {
                continue;
            }
            if values.is_empty() {
                // Blocks of a segment are much alike, and a vector that grows is there twice.
                values.reserve((terms.hashes.len() * block_count as usize).min(RESERVED_VALUES_MAX));
            }
            values.extend(terms.hashes.iter().map(|hash| ValueEntry::new(*hash, number)));
        }
        if block_count > ValueEntry::BLOCKS_MAX {
            return Ok(());
        }
        values.sort_unstable();
        values.dedup();
        let shape = PostingsShape::of(values.len() as u64, block_count);
        let mut batch = WriteBatch::default();
        batch.put(values_key(segment.tenant, segment.number), shape.encode());
        for (page, bytes) in build_pages(shape, &values) {
            batch.put(values_page_key(segment.tenant, segment.number, page), bytes);
        }
        self.database.write(batch)
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
