//! RocksDB of one partition: the blocks of spans, and beside them segments, origins, names, call counts and tenants.
//!
//! Its own log is off: ours feeds it. Both column families are flushed together, so that what is on disk
//! is always the state after some write, and never blocks without the origins they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use pharos_base::ByteSize;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, Direction, FlushOptions, IteratorMode, Options, ReadOptions, WriteBatch, WriteBufferManager,
    WriteOptions,
};

use super::keys::{BlockKey, block_key, locator_key, values_key};
use super::origins::DecodedOrigins;
use super::segment::FilterMemory;
use crate::TraceStoreError;

const BLOCKS: &str = "blocks";
/// Of so many bytes of search indexes a start checks the checksums, those of the newest days: a second or two of a slow disk.
const INDEX_CHECK_BYTES_MAX: u64 = 512 << 20;

/// A key and its value.
pub(crate) type Entry = (Box<[u8]>, Box<[u8]>);

/// Memory that all partitions share.
#[derive(Clone)]
pub(crate) struct DatabaseMemory {
    cache: Cache,
    write_buffers: WriteBufferManager,
    write_buffer_bytes: usize,
    /// Spans of traces that are not whole yet take no more in a merge.
    pub(super) merge_bytes: usize,
    pub(super) filters: FilterMemory,
    pub(super) origins: DecodedOrigins,
    /// Bytes of indexes that are still checked when they are opened.
    pub(super) index_checks: Arc<AtomicU64>,
}

impl DatabaseMemory {
    /// Half of `total` for write buffers, half for blocks and RocksDB's indexes; beside it half for a merge and `filters` for
    /// trace filters.
    pub(crate) fn new(total: ByteSize, filters: ByteSize) -> Self {
        let half = (total.0 / 2) as usize;
        Self {
            cache: Cache::new_lru_cache(half),
            write_buffers: WriteBufferManager::new_write_buffer_manager(half, false),
            write_buffer_bytes: half / 2,
            merge_bytes: half,
            filters: FilterMemory::new(filters),
            origins: DecodedOrigins::default(),
            index_checks: Arc::new(AtomicU64::new(INDEX_CHECK_BYTES_MAX)),
        }
    }
}

/// A partition's RocksDB.
pub(crate) struct Database {
    path: PathBuf,
    db: DB,
}

impl Database {
    pub(crate) fn open(path: &Path, memory: &DatabaseMemory) -> Result<Self, TraceStoreError> {
        let families = [
            ColumnFamilyDescriptor::new("default", meta_options(memory)),
            ColumnFamilyDescriptor::new(BLOCKS, block_options(memory)),
        ];
        let db = DB::open_cf_descriptors(&database_options(memory), path, families)
            .map_err(TraceStoreError::rows("open", path))?;
        Ok(Self { path: path.to_owned(), db })
    }

    fn blocks(&self) -> &ColumnFamily {
        self.db.cf_handle(BLOCKS).expect("opened with this column family")
    }

    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), TraceStoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(TraceStoreError::rows("write", &self.path))
    }

    pub(super) fn put_block(&self, batch: &mut WriteBatch, key: &BlockKey, bytes: &[u8]) {
        batch.put_cf(self.blocks(), key, bytes);
    }

    pub(super) fn block(&self, key: &BlockKey) -> Result<Option<Bytes>, TraceStoreError> {
        let found = self.db.get_cf(self.blocks(), key).map_err(TraceStoreError::rows("read", &self.path))?;
        Ok(found.map(Bytes::from))
    }

    /// As [`Database::block`], and nothing of what was read is kept for others.
    pub(super) fn block_once(&self, key: &BlockKey) -> Result<Option<Bytes>, TraceStoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let found = self.db.get_cf_opt(self.blocks(), key, &options);
        Ok(found.map_err(TraceStoreError::rows("read", &self.path))?.map(Bytes::from))
    }

    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TraceStoreError> {
        self.db.get(key).map_err(TraceStoreError::rows("read", &self.path))
    }

    /// The first key of a block at or behind `key`.
    pub(super) fn next_block_key(&self, key: &BlockKey) -> Result<Option<Box<[u8]>>, TraceStoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let from = IteratorMode::From(key, Direction::Forward);
        let entry = self.db.iterator_cf_opt(self.blocks(), options, from).next().transpose();
        Ok(entry.map_err(TraceStoreError::rows("read", &self.path))?.map(|(key, _)| key))
    }

    /// Removes what those read who have a segment: blocks, locator and value postings.
    pub(super) fn delete_segment(&self, batch: &mut WriteBatch, tenant: u32, segment: u64) {
        let next = segment.saturating_add(1);
        batch.delete_range_cf(self.blocks(), block_key(tenant, segment, 0), block_key(tenant, next, 0));
        batch.delete_range(locator_key(tenant, segment, 0), locator_key(tenant, next, 0));
        batch.delete_range(values_key(tenant, segment), values_key(tenant, next));
    }

    /// Small entries with keys in `[from, until)`.
    pub(crate) fn metas(
        &self,
        from: &[u8],
        until: Vec<u8>,
    ) -> impl Iterator<Item = Result<Entry, TraceStoreError>> + use<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(from.to_vec()..until);
        let entries = self.db.iterator_opt(IteratorMode::From(from, Direction::Forward), options);
        entries.map(|entry| entry.map_err(TraceStoreError::rows("read", &self.path)))
    }

    /// Brings everything written to disk, synced.
    pub(crate) fn flush(&self) -> Result<(), TraceStoreError> {
        let default = self.db.cf_handle("default").expect("every database has it");
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&[default, self.blocks()], &options).map_err(TraceStoreError::rows("flush", &self.path))
    }

    /// A copy of everything written so far in the new directory `target`, by hard links, synced.
    pub(crate) fn checkpoint(&self, target: &Path) -> Result<(), TraceStoreError> {
        let checkpoint = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(target));
        checkpoint.map_err(TraceStoreError::rows("make a checkpoint", &self.path))
    }

    /// Rewrites all files, so that what was deleted is gone.
    pub(crate) fn compact(&self) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_cf_opt(self.blocks(), None::<&[u8]>, None::<&[u8]>, &options);
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |family: &ColumnFamily| {
            self.db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten().unwrap_or(0)
        };
        self.db.cf_handle("default").map_or(0, of) + of(self.blocks())
    }

    /// Stops background work, before the directory is removed.
    pub(crate) fn stop(&self) {
        self.db.cancel_all_background_work(true);
    }
}

fn database_options(memory: &DatabaseMemory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Blocks must not become durable without the origins and tenants they name.
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options.set_bytes_per_sync(1 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

fn meta_options(memory: &DatabaseMemory) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(memory.write_buffer_bytes);
    options.set_compression_type(DBCompressionType::Lz4);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(6);
    options.set_block_based_table_factory(&table);
    options
}

/// Blocks are compressed already, come in the order of their keys but for the tenants, and are read one at a time by key.
fn block_options(memory: &DatabaseMemory) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(memory.write_buffer_bytes);
    options.set_max_write_buffer_number(4);
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::None);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_format_version(6);
    options.set_block_based_table_factory(&table);
    options
}
