//! RocksDB of one partition: the blocks of spans, and beside them segments, origins, names, call counts and tenants.
//!
//! Its own log is off: ours feeds it. Both column families are flushed together, so that what is on disk
//! is always the state after some write, and never blocks without the origins they name.
//!
//! A damaged table must not stop the day that has it. RocksDB is told not to refuse writes for what it meets when it joins
//! tables (`paranoid_checks` off; every read still verifies checksums): that day's tables are joined no more, and its
//! spans go on. In turn a flush that cannot write would wait for ever, so flushes are watched from here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pharos_base::{ByteSize, Clock, SystemClock};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, Direction, FlushOptions, IteratorMode, Options, Range, ReadOptions, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::keys::{BlockKey, block_key, locator_key, values_key};
use super::open_blocks::OpenBlocks;
use super::origins::DecodedOrigins;
use super::segment::FilterMemory;
use crate::TraceStoreError;

const BLOCKS: &str = "blocks";
/// Of so many bytes of search indexes a start checks the checksums, those of the newest days: a second or two of a slow disk.
const INDEX_CHECK_BYTES_MAX: u64 = 512 << 20;
/// How often it is looked whether a flush is done.
const FLUSH_POLL: Duration = Duration::from_millis(2);
/// A flush that has not succeeded so long after RocksDB met an error has failed; RocksDB goes on trying.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// And so has one that takes so long for whatever reason.
const FLUSH_PATIENCE_MAX: Duration = Duration::from_mins(1);

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
    pub(super) open_blocks: Arc<OpenBlocks>,
}

impl DatabaseMemory {
    /// Half of `total` for write buffers, half for blocks and RocksDB's indexes; beside it half for a merge, `filters` for
    /// trace filters and `open_blocks` for blocks that are kept open.
    pub(crate) fn new(total: ByteSize, filters: ByteSize, open_blocks: ByteSize) -> Self {
        let half = (total.0 / 2) as usize;
        Self {
            cache: Cache::new_lru_cache(half),
            write_buffers: WriteBufferManager::new_write_buffer_manager(half, false),
            write_buffer_bytes: half / 2,
            merge_bytes: half,
            filters: FilterMemory::new(filters),
            origins: DecodedOrigins::default(),
            index_checks: Arc::new(AtomicU64::new(INDEX_CHECK_BYTES_MAX)),
            open_blocks: Arc::new(OpenBlocks::new(open_blocks)),
        }
    }
}

impl DatabaseMemory {
    /// Places that were met and cannot be read.
    pub(crate) fn damaged_places(&self) -> u64 {
        self.open_blocks.damaged() as u64
    }
}

/// A partition's RocksDB.
pub(crate) struct Database {
    path: PathBuf,
    db: DB,
    /// Whether tables are joined no more, as one is damaged.
    is_joining_off: AtomicBool,
}

impl Database {
    /// Opens or creates.
    ///
    /// # Errors
    /// [`TraceStoreError::Corrupt`] without touching anything if there are tables of a database that cannot be opened: to create
    /// one would remove them.
    pub(crate) fn open(path: &Path, memory: &DatabaseMemory) -> Result<Self, TraceStoreError> {
        if !path.join(CURRENT).exists() {
            refuse_remains(path)?;
        }
        let families = [
            ColumnFamilyDescriptor::new("default", meta_options(memory)),
            ColumnFamilyDescriptor::new(BLOCKS, block_options(memory)),
        ];
        let db = DB::open_cf_descriptors(&database_options(memory), path, families)
            .map_err(TraceStoreError::rows("open", path))?;
        Ok(Self { path: path.to_owned(), db, is_joining_off: AtomicBool::new(false) })
    }

    /// Opens what must be there.
    pub(crate) fn open_existing(path: &Path, memory: &DatabaseMemory) -> Result<Self, TraceStoreError> {
        if path.join(CURRENT).exists() { Self::open(path, memory) } else { Err(lost(path)) }
    }

    /// Opens what is there to look at it: nothing is created and nothing written.
    pub(super) fn open_read_only(path: &Path, memory: &DatabaseMemory) -> Result<Self, TraceStoreError> {
        if !path.join(CURRENT).exists() {
            return Err(lost(path));
        }
        let families = [
            ColumnFamilyDescriptor::new("default", meta_options(memory)),
            ColumnFamilyDescriptor::new(BLOCKS, block_options(memory)),
        ];
        let mut options = database_options(memory);
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false);
        let db = db.map_err(TraceStoreError::rows("open", path))?;
        Ok(Self { path: path.to_owned(), db, is_joining_off: AtomicBool::new(false) })
    }

    /// Opens the tables in `path` to look at them, with a list of them that is made anew in the new directory `links`.
    pub(super) fn open_relisted(path: &Path, links: &Path, memory: &DatabaseMemory) -> Result<Self, TraceStoreError> {
        match fs::remove_dir_all(links) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(TraceStoreError::io("remove", links)(error));
            }
            _ => fs::create_dir(links).map_err(TraceStoreError::io("create", links))?,
        }
        for entry in fs::read_dir(path).map_err(TraceStoreError::io("list", path))? {
            let entry = entry.map_err(TraceStoreError::io("list", path))?;
            if entry.file_name().to_string_lossy().ends_with(".sst") {
                let link = links.join(entry.file_name());
                fs::hard_link(entry.path(), &link).map_err(TraceStoreError::io("link", &link))?;
            }
        }
        DB::repair(&database_options(memory), links).map_err(TraceStoreError::rows("make a new list of", links))?;
        Self::open_read_only(links, memory)
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
        options.set_wait(false);
        // What an earlier flush left must be gone, or this one would wait for it.
        self.wait_until_flushed()?;
        let begun = self.db.flush_cfs_opt(&[default, self.blocks()], &options);
        begun.map_err(TraceStoreError::rows("flush", &self.path))?;
        self.wait_until_flushed()
    }

    fn wait_until_flushed(&self) -> Result<(), TraceStoreError> {
        let unflushed = |family: &ColumnFamily| self.number(family, "rocksdb.num-immutable-mem-table");
        let default = self.db.cf_handle("default").expect("every database has it");
        let errors_before = self.number(default, "rocksdb.background-errors");
        let begun_at = SystemClock.monotonic();
        let mut failing_since: Option<Instant> = None;
        while unflushed(default) + unflushed(self.blocks()) > 0 {
            let now = SystemClock.monotonic();
            if self.number(default, "rocksdb.background-errors") > errors_before {
                self.stop_joining_tables();
                failing_since.get_or_insert(now);
            }
            let (since, patience) =
                failing_since.map_or((begun_at, FLUSH_PATIENCE_MAX), |since| (since, FLUSH_PATIENCE));
            if now.duration_since(since) > patience {
                return Err(TraceStoreError::Rows {
                    action: "flush",
                    path: self.path.clone(),
                    message: "RocksDB cannot write its files, its LOG there says why".to_owned(),
                });
            }
            std::thread::park_timeout(FLUSH_POLL);
        }
        // It may have met damage while it joined tables.
        if errors_before > 0 {
            self.stop_joining_tables();
        }
        Ok(())
    }

    /// RocksDB would try for ever to join tables of which one is damaged. Without that they become many, and reads slower, but
    /// all that is sound is read and written. A restart tries again.
    fn stop_joining_tables(&self) {
        if self.is_joining_off.swap(true, Ordering::Relaxed) {
            return;
        }
        let off = [("disable_auto_compactions", "true")];
        let default = self.db.cf_handle("default").expect("every database has it");
        let set = [default, self.blocks()].into_iter().try_for_each(|family| self.db.set_options_cf(family, &off));
        tracing::error!(
            path = %self.path.display(), is_off = set.is_ok(),
            "RocksDB met an error in the background, its LOG there says which: tables of this day are joined no more until a restart"
        );
    }

    /// Whether RocksDB met damage or could not write.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_joining_off.load(Ordering::Relaxed)
    }

    fn number(&self, family: &ColumnFamily, property: &str) -> u64 {
        self.db.property_int_value_cf(family, property).ok().flatten().unwrap_or(0)
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
        let of = |family: &ColumnFamily| self.number(family, "rocksdb.total-sst-files-size");
        self.db.cf_handle("default").map_or(0, of) + of(self.blocks())
    }

    /// Bytes of files that a tenant's blocks take, and small entries with keys in `small`, about.
    pub(super) fn tenant_bytes(&self, tenant: u32, small: &[(Vec<u8>, Vec<u8>)]) -> u64 {
        let (from, until) = (block_key(tenant, 0, 0), block_key(tenant, u64::MAX, u32::MAX));
        let blocks = self.db.get_approximate_sizes_cf(self.blocks(), &[Range::new(&from, &until)]);
        let small: Vec<_> = small.iter().map(|(from, until)| Range::new(from, until)).collect();
        blocks.into_iter().chain(self.db.get_approximate_sizes(&small)).sum()
    }

    /// Stops background work, before the directory is removed.
    pub(crate) fn stop(&self) {
        self.db.cancel_all_background_work(true);
    }
}

/// The file that names the list of tables; every database has it.
const CURRENT: &str = "CURRENT";

/// Says no if `path` has files of a database that is not whole.
fn refuse_remains(path: &Path) -> Result<(), TraceStoreError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(TraceStoreError::io("list", path))?,
    };
    for entry in entries {
        let name = entry.map_err(TraceStoreError::io("list", path))?.file_name();
        // A crash while a database is created leaves a list of no tables.
        if name.to_string_lossy().ends_with(".sst") {
            return Err(lost(path));
        }
    }
    Ok(())
}

fn lost(path: &Path) -> TraceStoreError {
    TraceStoreError::Corrupt {
        what: "RocksDB",
        partition: path.display().to_string(),
        detail: format!("{CURRENT} is missing"),
    }
}

fn database_options(memory: &DatabaseMemory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Blocks must not become durable without the origins and tenants they name.
    options.set_atomic_flush(true);
    options.set_paranoid_checks(false);
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
