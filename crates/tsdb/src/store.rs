//! The store: opens, owns and stops everything.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use pharos_base::{ByteSize, Clock, Completion, Helpers, SystemClock, spawn_named};
use pharos_model::{MetricBatch, TenantId};
use pharos_storage::{AppendOutcome, StorageError};
use rustix::fs::{FlockOperation, flock};

use crate::TsdbError;
use crate::cache::BlockCache;
use crate::commit::{CommitQueue, Committer, Submission};
use crate::damage::DamageLog;
use crate::disk::{Disk, RealDisk};
use crate::log::frame::RECORD_BYTES_MAX;
use crate::log::record::encode_batch;
use crate::log::{recovery, segment};
use crate::maintenance;
use crate::open::{self, HeadReplay};
use crate::part::index::IndexCache;
use crate::retention::Retention;
use crate::settings::Settings;
use crate::shared::{Counters, Shared, Wake, log_dir, tenants_dir};
use crate::tenant::Tenants;

/// What the store is handed instead of taking it from its surroundings.
#[derive(Debug, Clone)]
pub struct Components {
    /// Time, for retention and the age of windows.
    pub clock: Arc<dyn Clock>,
    /// Where writes go.
    pub disk: Arc<dyn Disk>,
    /// Threads that may help with large reads, of all readers together.
    pub helpers: Helpers,
    /// Limits of single tenants.
    pub series_limits: SeriesLimits,
}

type LimitOfTenant = dyn Fn(&TenantId) -> Option<u64> + Send + Sync;

/// Tells how many series a tenant may have active, where it has a limit of its own. Asked once for each batch.
#[derive(Clone)]
pub struct SeriesLimits(Arc<LimitOfTenant>);

impl SeriesLimits {
    /// Limits that `of` tells; they may change at any time.
    pub fn new(of: impl Fn(&TenantId) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }
}

impl Default for SeriesLimits {
    /// No tenant has one.
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl std::fmt::Debug for SeriesLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeriesLimits")
    }
}

impl Default for Components {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            disk: Arc::new(RealDisk),
            helpers: Helpers::for_cores(),
            series_limits: SeriesLimits::default(),
        }
    }
}

/// The embedded store of metrics. See the crate's documentation.
pub struct Tsdb {
    pub(crate) shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    /// Held for its lock.
    _lock: File,
}

impl std::fmt::Debug for Tsdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tsdb").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Tsdb {
    /// Opens the store in `dir`, creating it if need be, and replays the log.
    ///
    /// Parts that cannot be opened are reported by [`Tsdb::damaged`] and left alone; everything else is served.
    ///
    /// # Errors
    /// - [`TsdbError::Settings`]: a setting is below its minimum.
    /// - [`TsdbError::Locked`]: another process has the directory.
    /// - [`TsdbError::DamagedLog`]: what was synced to the log is damaged; the message says what to do.
    /// - [`TsdbError::Io`]: the directory cannot be read or written.
    pub fn open(dir: &Path, settings: Settings, components: Components) -> Result<Self, TsdbError> {
        settings.check()?;
        let Components { clock, disk, helpers, series_limits } = components;
        let lock = create_and_lock(disk.as_ref(), dir)?;
        let tenants = Arc::new(Tenants::default());
        let index_cache = Arc::new(IndexCache::new(settings.index_cache_max.0 as usize));
        let (damaged, next_part) = open::load_tenants(disk.as_ref(), dir, &tenants, &index_cache)?;
        let mut replay = HeadReplay::new(&tenants, &settings);
        let replayed = recovery::replay(disk.as_ref(), &log_dir(dir), &mut replay)?;
        replay.finish();
        // Numbers of segments go on where tombstones have seen them, though the log be empty.
        let last_segment = tenants.all().iter().map(|tenant| tenant.last_deleted_segment()).fold(replayed, u64::max);
        if replay.samples > 0 {
            tracing::info!(samples = replay.samples, "replayed the log");
        }
        let queue = Arc::new(CommitQueue::new(&settings));
        queue.log_bytes.store(log_bytes(&log_dir(dir))?, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            settings: settings.clone(),
            retention: Retention::build(settings.retention, &settings.retention_rules)?,
            disk: Arc::clone(&disk),
            clock: Arc::clone(&clock),
            tenants: Arc::clone(&tenants),
            queue: Arc::clone(&queue),
            cache: Arc::new(BlockCache::new(settings.data_cache_max)),
            compacting: Mutex::new(()),
            parts_stay: Mutex::new(()),
            reading: Arc::default(),
            helpers,
            series_limits,
            counters: Counters::default(),
            flushing: Mutex::new(()),
            flushed_to: AtomicU64::new(0),
            next_part: Arc::clone(&next_part),
            head_bytes: AtomicU64::new(0),
            head_bytes_max: AtomicU64::new(u64::MAX),
            wake: Wake::default(),
            segments_may_return: AtomicBool::new(false),
            index_cache,
            damaged: Arc::new(DamageLog::new(damaged)),
        });
        shared.after_commit();
        let after_commit = Arc::clone(&shared);
        let committer = Committer {
            disk,
            clock,
            log_dir: log_dir(dir),
            settings,
            queue,
            tenants,
            sequences: next_part,
            on_commit: Box::new(move || after_commit.after_commit()),
            last_segment,
            writer: None,
            unsynced: 0,
            sync_due: None,
        };
        let mut store = Self { shared, committer: None, background: Vec::new(), _lock: lock };
        let spawned = spawn_named("tsdb-commit", move || committer.run());
        store.committer = Some(spawned.map_err(|source| TsdbError::Thread { name: "tsdb-commit", source })?);
        store.spawn_background("tsdb-flush", maintenance::run_flusher)?;
        store.spawn_background("tsdb-compact", maintenance::run_compactor)?;
        Ok(store)
    }

    /// Flushes the head and stops all threads.
    ///
    /// # Errors
    /// What the flush met; the threads are stopped in any case, and the log still holds what was not flushed.
    pub fn close(mut self) -> Result<(), TsdbError> {
        let flushed = self.shared.flush();
        self.stop();
        flushed
    }

    /// Does at once what the background does when it is due: retention, merges, rewriting.
    ///
    /// # Errors
    /// What the first of them met that failed; the others were done.
    pub fn maintain(&self) -> Result<(), TsdbError> {
        self.shared.apply_retention().and(self.shared.compact_due())
    }

    /// What could not be opened at start or read since, in words with file and offset.
    #[must_use]
    pub fn damaged(&self) -> Vec<String> {
        self.shared.damaged.messages()
    }

    pub(crate) fn submit(
        &self,
        tenant: &TenantId,
        mut batch: MetricBatch,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        let shared = &self.shared;
        if let Some(reason) = self.refusal() {
            return Completion::ready(Err(StorageError::unavailable(reason)));
        }
        let Some(tenant) = shared.tenants.get_or_admit(tenant, shared.settings.tenants_max) else {
            return Completion::ready(Err(too_many_tenants(shared.settings.tenants_max)));
        };
        tenant.limit_series(shared.settings.series_max_per_tenant, (shared.series_limits.0)(&tenant.id));
        tenant.keep_new_metadata(&mut batch, shared.settings.metadata_max);
        let resolved = shared.tenants.resolve(&tenant, &batch, &shared.settings);
        if batch.is_empty() {
            return Completion::ready(Ok(resolved.outcome));
        }
        let Some(payloads) = encode_batch(&tenant.id, &batch, &resolved.numbers, &resolved.log_ids) else {
            // No repetition makes it smaller.
            let message = format!(
                "one histogram, exemplar or metadata is longer than a record of the log may be: {RECORD_BYTES_MAX} bytes"
            );
            return Completion::ready(Err(StorageError::Invalid { message }));
        };
        // From here on series are numbers, and none of them is refused any more.
        batch.drop_labels();
        batch.groups = Vec::new();
        let (completer, completion) = Completion::pair();
        shared.queue.append(Submission {
            tenant,
            registry: resolved.registry,
            numbers: resolved.numbers,
            batch,
            payloads,
            outcome: resolved.outcome,
            completer,
        });
        completion
    }

    /// Why no batch is taken at the moment, if so; what can be done about it is begun.
    pub(crate) fn refusal(&self) -> Option<String> {
        let head_max = self.shared.head_bytes_max.load(Ordering::Relaxed);
        if self.shared.head_bytes.load(Ordering::Relaxed) > head_max {
            self.shared.wake.flush();
            // With many series it may hold more than the setting says.
            let held = ByteSize(head_max);
            return Some(format!(
                "the head is full, twice tsdb.head_memory_max = {} or what its series are worth ({held} now), and its flush is not done; send again later, or raise it",
                self.shared.settings.head_memory_max
            ));
        }
        let log_max = self.shared.settings.log_size_max.0.saturating_mul(2);
        if self.shared.queue.log_bytes.load(Ordering::Relaxed) > log_max {
            self.shared.wake.flush();
            return Some(format!(
                "the log is full, twice tsdb.log_size_max = {}, and the flush that empties it is not done; send again later, or raise it",
                self.shared.settings.log_size_max
            ));
        }
        None
    }

    fn spawn_background(&mut self, name: &'static str, run: fn(&Arc<Shared>)) -> Result<(), TsdbError> {
        let shared = Arc::clone(&self.shared);
        let spawned = spawn_named(name, move || run(&shared));
        self.background.push(spawned.map_err(|source| TsdbError::Thread { name, source })?);
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.wake.stop();
        for thread in self.background.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread of the metrics store panicked");
            }
        }
        self.shared.queue.stop();
        if self.committer.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the commit thread of the metrics store panicked");
        }
    }
}

impl Drop for Tsdb {
    /// Stops the threads without flushing: the log holds everything acknowledged.
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is told of one tenant too many.
pub(crate) fn too_many_tenants(tenants_max: NonZeroUsize) -> StorageError {
    let hint = "write for tenants that are known, or raise tsdb.tenants_max";
    StorageError::LimitExceeded { what: "tenants", limit: tenants_max.get() as u64, hint }
}

/// Creates the directories, durably, and takes the lock.
fn create_and_lock(disk: &dyn Disk, dir: &Path) -> Result<File, TsdbError> {
    for path in [log_dir(dir), tenants_dir(dir)] {
        disk.create_dir_all(&path).map_err(TsdbError::io("create", &path))?;
    }
    // Also where they exist: an earlier start may have died between creating and syncing.
    disk.sync_dir(dir).map_err(TsdbError::io("sync", dir))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent).map_err(TsdbError::io("sync", parent))?;
    }
    let path: PathBuf = dir.join("LOCK");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(TsdbError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(TsdbError::Locked { path: dir.to_owned() }),
        Err(error) => Err(TsdbError::Io { action: "lock", path, source: error.into() }),
    }
}

fn log_bytes(log_dir: &Path) -> Result<u64, TsdbError> {
    let lengths = segment::list(log_dir)?
        .into_iter()
        .map(|number| std::fs::metadata(segment::path_of(log_dir, number)).map_or(0, |found| found.len()));
    Ok(lengths.sum())
}
