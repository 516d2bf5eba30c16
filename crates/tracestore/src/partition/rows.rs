//! RocksDB of one partition: the rows, and beside them origins, names, call counts and tenants.
//!
//! Its own log is off: ours feeds it. Both column families are flushed together, so that what is on disk
//! is always the state after some write, and never rows without the origins they name.

use std::path::{Path, PathBuf};

use pharos_base::ByteSize;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompactionStyle, DBCompressionType, Direction, FlushOptions, IteratorMode, Options, ReadOptions, SliceTransform,
    UniversalCompactOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::keys::{TRACE_PREFIX_BYTES, TraceKey};
use crate::TraceStoreError;

const ROWS: &str = "rows";

/// A key and its value.
pub(crate) type Entry = (Box<[u8]>, Box<[u8]>);

/// Memory that all partitions share.
#[derive(Clone)]
pub(crate) struct RowsMemory {
    cache: Cache,
    write_buffers: WriteBufferManager,
    write_buffer_bytes: usize,
}

impl RowsMemory {
    /// Half of `total` for write buffers, half for blocks, filters and indexes.
    pub(crate) fn new(total: ByteSize) -> Self {
        let half = (total.0 / 2) as usize;
        Self {
            cache: Cache::new_lru_cache(half),
            write_buffers: WriteBufferManager::new_write_buffer_manager(half, false),
            write_buffer_bytes: half / 2,
        }
    }
}

/// A partition's RocksDB.
pub(crate) struct RowStore {
    path: PathBuf,
    db: DB,
}

impl RowStore {
    pub(crate) fn open(path: &Path, memory: &RowsMemory) -> Result<Self, TraceStoreError> {
        let families = [
            ColumnFamilyDescriptor::new("default", meta_options(memory)),
            ColumnFamilyDescriptor::new(ROWS, rows_options(memory)),
        ];
        let db = DB::open_cf_descriptors(&database_options(memory), path, families)
            .map_err(TraceStoreError::rows("open", path))?;
        Ok(Self { path: path.to_owned(), db })
    }

    fn rows(&self) -> &ColumnFamily {
        self.db.cf_handle(ROWS).expect("opened with this column family")
    }

    pub(crate) fn put_row(&self, batch: &mut WriteBatch, key: &[u8], value: &[u8]) {
        batch.put_cf(self.rows(), key, value);
    }

    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), TraceStoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(TraceStoreError::rows("write", &self.path))
    }

    pub(crate) fn row(&self, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, TraceStoreError> {
        self.db.get_pinned_cf(self.rows(), key).map_err(TraceStoreError::rows("read", &self.path))
    }

    pub(crate) fn meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TraceStoreError> {
        self.db.get(key).map_err(TraceStoreError::rows("read", &self.path))
    }

    /// Rows of one trace, by earliest start.
    pub(crate) fn trace_rows(
        &self,
        trace: &TraceKey,
    ) -> impl Iterator<Item = Result<Entry, TraceStoreError>> + use<'_> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let from = IteratorMode::From(trace, Direction::Forward);
        let rows = self.db.iterator_cf_opt(self.rows(), options, from);
        rows.map(|row| row.map_err(TraceStoreError::rows("read", &self.path)))
    }

    /// All rows, in key order.
    pub(crate) fn all_rows(&self) -> impl Iterator<Item = Result<Entry, TraceStoreError>> + use<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.fill_cache(false);
        let rows = self.db.iterator_cf_opt(self.rows(), options, IteratorMode::Start);
        rows.map(|row| row.map_err(TraceStoreError::rows("read", &self.path)))
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
        self.db.flush_cfs_opt(&[default, self.rows()], &options).map_err(TraceStoreError::rows("flush", &self.path))
    }

    /// A copy of everything written so far in the new directory `target`, by hard links, synced.
    pub(crate) fn checkpoint(&self, target: &Path) -> Result<(), TraceStoreError> {
        let checkpoint = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(target));
        checkpoint.map_err(TraceStoreError::rows("make a checkpoint", &self.path))
    }

    /// Rewrites all rows into one sorted run.
    pub(crate) fn compact(&self) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_cf_opt(self.rows(), None::<&[u8]>, None::<&[u8]>, &options);
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |family: &ColumnFamily| {
            self.db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten().unwrap_or(0)
        };
        self.db.cf_handle("default").map_or(0, of) + of(self.rows())
    }

    /// Stops background work, before the directory is removed.
    pub(crate) fn stop(&self) {
        self.db.cancel_all_background_work(true);
    }
}

fn database_options(memory: &RowsMemory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Rows must not become durable without the origins and tenants they name.
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

fn meta_options(memory: &RowsMemory) -> Options {
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

fn rows_options(memory: &RowsMemory) -> Options {
    const BLOCK_BYTES: usize = 64 << 10;
    const ZSTD_LEVEL: i32 = 3;
    const DICTIONARY_BYTES: i32 = 16 << 10;
    let mut options = Options::default();
    options.set_write_buffer_size(memory.write_buffer_bytes);
    options.set_max_write_buffer_number(4);
    // Trace ids are random: leveled compaction would rewrite everything again and again.
    options.set_compaction_style(DBCompactionStyle::Universal);
    let mut universal = UniversalCompactOptions::default();
    universal.set_max_size_amplification_percent(200);
    universal.set_min_merge_width(4);
    options.set_universal_compaction_options(&universal);
    options.set_level_zero_file_num_compaction_trigger(8);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_bottommost_compression_options(-14, ZSTD_LEVEL, 0, DICTIONARY_BYTES, true);
    options.set_bottommost_zstd_max_train_bytes(100 * DICTIONARY_BYTES, true);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(TRACE_PREFIX_BYTES));
    options.set_memtable_prefix_bloom_ratio(0.1);
    let mut table = BlockBasedOptions::default();
    table.set_block_size(BLOCK_BYTES);
    table.set_block_cache(&memory.cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(6);
    options.set_block_based_table_factory(&table);
    options
}
