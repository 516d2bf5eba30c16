//! Blocks that searches and reads opened last: shared by all of them, bounded in memory over all days and tenants.
//!
//! A block never changes, and while a partition is open its place is never given to another: what is here is right for
//! ever. Seals and merges read each block once and leave no trace here.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pharos_base::ByteSize;
use pharos_model::TenantId;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Partition;
use super::pieces::corrupt_block;
use super::segment::Segment;
use crate::TraceStoreError;
use crate::block::Block;
use crate::codec::OriginHash;

/// What an entry costs besides its block.
const ENTRY_BYTES: u64 = 96;
/// Entries the tables are made for at first; they grow. So few make two parts with a lock each, and a block must fit into one.
const ENTRIES_AT_FIRST: usize = 64;
/// Damaged blocks, and as many damaged origins, that are remembered as logged.
const DAMAGED_MAX: usize = 10_000;

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    partition: u64,
    tenant: u32,
    segment: u64,
    block: u32,
}

#[derive(Debug, Clone, Copy)]
struct HeldBytes;

impl Weighter<Place, Arc<Block>> for HeldBytes {
    fn weight(&self, _: &Place, block: &Arc<Block>) -> u64 {
        ENTRY_BYTES + block.memory_bytes()
    }
}

/// Opened blocks of all partitions. A size of 0 keeps none. Two threads that miss at once both open: nobody waits for
/// another's disk.
pub(super) struct OpenBlocks {
    next_partition: AtomicU64,
    blocks: Cache<Place, Arc<Block>, HeldBytes>,
    damaged: Mutex<HashSet<Place>>,
    damaged_origins: Mutex<HashSet<(u64, OriginHash)>>,
}

impl OpenBlocks {
    pub(super) fn new(limit: ByteSize) -> Self {
        let blocks = Cache::with_weighter(ENTRIES_AT_FIRST, limit.0, HeldBytes);
        Self { next_partition: AtomicU64::new(0), blocks, damaged: Mutex::default(), damaged_origins: Mutex::default() }
    }

    /// Blocks, locators and origins that were met and cannot be read.
    pub(super) fn damaged(&self) -> usize {
        self.damaged.lock().len() + self.damaged_origins.lock().len()
    }

    /// A number for a partition, unique in this cache.
    pub(super) fn register(&self) -> u64 {
        self.next_partition.fetch_add(1, Ordering::Relaxed)
    }
}

impl Partition {
    /// A block that a segment has, its catalogue read.
    pub(super) fn open_block(&self, segment: &Segment, number: u32) -> Result<Arc<Block>, TraceStoreError> {
        let (place, open) = (self.place(segment, number), &self.memory.open_blocks);
        if let Some(block) = open.blocks.get(&place) {
            return Ok(block);
        }
        let bytes = self.block_source().block(segment, number)?;
        let block = Block::open(&bytes).and_then(Block::with_catalogue);
        let block = Arc::new(block.map_err(|error| corrupt_block(self.day, segment.number, number, &error))?);
        open.blocks.insert(place, Arc::clone(&block));
        Ok(block)
    }

    /// Logs that a block cannot be read, once in a run.
    pub(super) fn report_damage(&self, segment: &Segment, number: u32, error: &TraceStoreError) {
        let mut damaged = self.memory.open_blocks.damaged.lock();
        if damaged.len() < DAMAGED_MAX && damaged.insert(self.place(segment, number)) {
            let error = pharos_base::full_message(error);
            tracing::error!(day = %self.day, segment = segment.number, block = number, error, "a block of spans cannot be read");
        }
    }

    /// Logs that a page of a segment's locator cannot be read, once a segment in a run.
    pub(super) fn report_damaged_locator(&self, segment: &Segment, error: &TraceStoreError) {
        let mut damaged = self.memory.open_blocks.damaged.lock();
        // No block has this number.
        if damaged.len() < DAMAGED_MAX && damaged.insert(self.place(segment, u32::MAX)) {
            let error = pharos_base::full_message(error);
            tracing::error!(
                day = %self.day, segment = segment.number, error,
                "a locator of traces cannot be read: all blocks of the segment are looked through in its place"
            );
        }
    }

    /// Logs that a resource and scope cannot be read, once in a run.
    pub(crate) fn report_damaged_origin(&self, tenant: &TenantId, hash: OriginHash, error: &TraceStoreError) {
        let mut damaged = self.memory.open_blocks.damaged_origins.lock();
        if damaged.len() < DAMAGED_MAX && damaged.insert((self.cache_number, hash)) {
            let error = pharos_base::full_message(error);
            tracing::error!(day = %self.day, %tenant, error, "the resource of spans cannot be read: they are left out");
        }
    }

    /// Flips a bit in a block of the newest segment; how many blocks there are.
    #[cfg(test)]
    pub(crate) fn damage_block(&self) -> usize {
        let segments = Arc::clone(&self.state.read().segments);
        let segment = segments.iter().max_by_key(|segment| segment.number).expect("a segment");
        let mut bytes = self.block_source().block(segment, 0).expect("a block").to_vec();
        bytes[7] ^= 1;
        let mut batch = rocksdb::WriteBatch::default();
        self.database.put_block(&mut batch, &super::keys::block_key(segment.tenant, segment.number, 0), &bytes);
        self.database.write(batch).expect("a sound disk");
        segments.iter().map(|segment| segment.record.blocks.len()).sum()
    }

    /// Makes every locator unreadable.
    #[cfg(test)]
    pub(crate) fn damage_locators(&self) {
        use super::keys::LOCATOR;
        let mut batch = rocksdb::WriteBatch::default();
        for page in self.database.metas(&[LOCATOR], vec![LOCATOR + 1]) {
            batch.put(page.expect("a sound disk").0, [0xff; 3]);
        }
        self.database.write(batch).expect("a sound disk");
    }

    fn place(&self, segment: &Segment, block: u32) -> Place {
        Place { partition: self.cache_number, tenant: segment.tenant, segment: segment.number, block }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_storage::conformance::traces::SpanGenerator;

    use crate::search::testing::{NOW_NS, sample};

    fn place(block: u32) -> Place {
        Place { partition: 0, tenant: 0, segment: 0, block }
    }

    #[test]
    fn the_cache_keeps_what_fits_and_no_more() {
        let bytes = sample(&mut SpanGenerator::new(7, NOW_NS, 20), 4).bytes;
        let block = || Arc::new(Block::open(&bytes).and_then(Block::with_catalogue).unwrap());
        let each = ENTRY_BYTES + block().memory_bytes();
        let open = OpenBlocks::new(ByteSize(each * 8));
        (0..64).for_each(|number| open.blocks.insert(place(number), block()));
        let kept = (0..64).filter(|number| open.blocks.get(&place(*number)).is_some()).count();
        assert!((1..=8).contains(&kept), "{kept}");
        let nothing = OpenBlocks::new(ByteSize(0));
        nothing.blocks.insert(place(0), block());
        assert!(nothing.blocks.get(&place(0)).is_none());
    }
}
