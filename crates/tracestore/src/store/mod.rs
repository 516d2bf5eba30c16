//! The store: one directory, one log, one partition per day, two threads.
//!
//! The commit thread alone writes the log and changes partitions; the maintenance thread makes
//! checkpoints and drops old partitions. Readers take what they need under short locks.
//!
//! Lock order: `applied`, `log`, `partitions`, a partition's state.

mod apply;
mod catalogue;
mod commit;
mod examine;
mod maintain;
mod open;
mod pending;
mod read;
mod repair;
mod retention;
mod snapshot;
mod summary;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, RwLock};
use pharos_base::{Clock, Completion, lower_priority, spawn_named};
use pharos_model::{SpanBatch, TenantId, TimeRangeNs, TraceId};
use pharos_storage::{
    AppendOutcome, AttributeKey, AttributeKeyQuery, BatchId, DependencyLink, FoundTraces, Listed, ListedValue,
    Operation, OperationQuery, ReadContext, RejectReason, Rejection, StorageError, TraceLookup, TracePartStream,
    TraceQuery, TraceStore, TraceStoreStats, TraceStream, TraceSummary, ValueQuery,
};

use crate::calls::{CallSpan, CallWindow};
use crate::disk::{Disk, SystemDisk};
use crate::error::storage_error;
use crate::log::{LogWriter, RECORD_BYTES_MAX, encode_record, scan};
use crate::partition::{DatabaseMemory, Partition, TailSize};
use crate::record::{
    AcceptedStarts, Change, Day, Deletion, decode_change, encode_batch, encode_calls, encode_deletion, prepare,
    prepare_calls, screen,
};
use crate::{Components, Settings, TraceStoreError};
use apply::Applied;
use commit::{Commit, CommitThread, QueueRoom, Waiting};
pub use examine::Examination;
use maintain::{Maintenance, MaintenanceThread};
use pending::PendingCalls;
pub use repair::Repair;
use retention::Gone;

const LOG_DIRECTORY: &str = "log";
const DAYS_DIRECTORY: &str = "days";
/// Deleted traces of one tenant and day that are remembered: so many marks are in memory, and each is looked at by searches.
const DELETED_TRACES_MAX: usize = 100_000;
/// Batches that wait for the log, beside the limit in bytes.
const QUEUE_BATCHES_MAX: usize = 4096;

/// What both threads and all readers share.
struct Shared {
    directory: PathBuf,
    settings: Settings,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    memory: DatabaseMemory,
    partitions: RwLock<BTreeMap<Day, Arc<Partition>>>,
    /// Held while a record is applied, and for a moment at the start of a checkpoint.
    applied: Mutex<Applied>,
    log: Mutex<LogWriter>,
    /// Why writes are refused for good: a failed sync.
    poison: Mutex<Option<Arc<TraceStoreError>>>,
    /// Whether the last write was refused for want of space or by a failing checkpoint.
    is_refusing: AtomicBool,
    /// Whether the last checkpoint failed.
    is_checkpoint_failing: AtomicBool,
    queued_bytes: AtomicU64,
    queued_batches: AtomicU64,
    /// Spans in tails, and a signal when they become fewer.
    tail_shrank: (Mutex<()>, Condvar),
    gone: Gone,
}

/// A store of traces on local disk. See `pharos_storage::TraceStore` for what its calls promise.
///
/// Dropping it without [`SpanStore::close`] is a crash as far as the disk is concerned: the next start
/// replays the log.
pub struct SpanStore {
    shared: Arc<Shared>,
    commits: SyncSender<Commit>,
    maintenance: SyncSender<Maintenance>,
    threads: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
    /// Whether it was closed and something kept that from being whole.
    is_unfinished: AtomicBool,
    _lock: File,
}

impl std::fmt::Debug for SpanStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpanStore").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl SpanStore {
    /// Opens or creates the store in `directory`: reads the partitions, replays the log, starts the threads.
    ///
    /// # Errors
    /// - [`TraceStoreError::Setting`]: a setting makes no sense.
    /// - [`TraceStoreError::Locked`]: the directory is in use.
    /// - [`TraceStoreError::Format`]: another version wrote it.
    /// - [`TraceStoreError::CorruptLog`]: synced records are damaged; nothing was changed.
    ///
    /// A day that is damaged is no error: what of it cannot be read is told and done without (`docs/keys.md`).
    pub fn open(directory: &Path, settings: Settings, components: Components) -> Result<Self, TraceStoreError> {
        Self::open_on(directory, settings, components, Arc::new(SystemDisk))
    }

    fn open_on(
        directory: &Path,
        settings: Settings,
        components: Components,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, TraceStoreError> {
        settings.check()?;
        let lock = open::prepare_directory(directory)?;
        let memory = DatabaseMemory::new(settings.rows_memory, settings.filter_memory, settings.open_blocks_memory);
        let partitions = open::open_partitions(directory, &settings, &memory)?;
        let damaged = open::damaged_days(directory)?;
        for day in damaged.iter().filter(|day| !day.is_repaired) {
            tracing::warn!(day = %day.day, path = %day.path.display(), bytes = day.bytes, "a damaged day of traces is not read");
        }
        let log_directory = directory.join(LOG_DIRECTORY);
        let first_position = partitions.values().map(|partition| partition.position()).max().unwrap_or(0);
        let pending = PendingCalls::read_if_sound(directory).unwrap_or_default();
        for (day, deltas) in &pending.days {
            if let Some(partition) = partitions.get(day) {
                partition.restore_calls(pending.position, deltas)?;
            }
        }
        let calls_position = pending.position.max(first_position);
        let mut applied = Applied::new(CallWindow::new(settings.pairing_spans), calls_position);
        let places =
            apply::Places { directory, settings: &settings, memory: &memory, partitions: &RwLock::new(partitions) };
        let gone = Gone::new(directory, &places.partitions.read(), damaged)?;
        let scanned = scan(&log_directory, |sequence, content| {
            let corrupt = TraceStoreError::corrupt("log record", format!("record {sequence}"));
            let mut change = decode_change(&content).map_err(corrupt)?;
            // Not by their age: the clock may be wrong, and retention ends what is too old.
            match &mut change {
                Change::Batch(prepared) => {
                    let through = gone.through(&prepared.tenant);
                    prepared.rows.retain(|row| through.is_none_or(|through| row.day > through));
                }
                Change::Calls(calls) => {
                    let through = gone.through(&calls.tenant);
                    let stays = |span: &CallSpan| through.is_none_or(|through| Day::of(span.start_ns) > through);
                    calls.traces.values_mut().for_each(|spans| spans.retain(stays));
                }
                Change::Deletion(deletion) => repair::note_deletion(&gone, &deletion.tenant, deletion.trace_id)?,
            }
            applied.apply(&places, &change, sequence)
        })?;
        let next_sequence = scanned.next_sequence.unwrap_or(0).max(first_position);
        let replayed = scanned.segments.len();
        let log = LogWriter::open(&log_directory, Arc::clone(&disk), settings.log_segment.0, scanned, next_sequence)?;
        applied.next_sequence = next_sequence;
        let partitions = std::mem::take(&mut *places.partitions.write());
        tracing::info!(
            directory = %directory.display(), partitions = partitions.len(), log_segments = replayed, "trace store opened"
        );
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            settings,
            clock: components.clock,
            disk,
            memory,
            partitions: RwLock::new(partitions),
            applied: Mutex::new(applied),
            log: Mutex::new(log),
            poison: Mutex::new(None),
            is_refusing: AtomicBool::new(false),
            is_checkpoint_failing: AtomicBool::new(false),
            queued_bytes: AtomicU64::new(0),
            queued_batches: AtomicU64::new(0),
            tail_shrank: (Mutex::new(()), Condvar::new()),
            gone,
        });
        Self::start(shared, lock)
    }

    fn start(shared: Arc<Shared>, lock: File) -> Result<Self, TraceStoreError> {
        let (commits, commit_queue) = sync_channel(QUEUE_BATCHES_MAX);
        let (maintenance, maintenance_queue) = sync_channel(16);
        let spawn_error =
            |source| TraceStoreError::Io { action: "start a thread for", path: shared.directory.clone(), source };
        let mut commit_thread = CommitThread::new(Arc::clone(&shared), maintenance.clone());
        let death = Death { shared: Arc::clone(&shared), thread: "trace-commit" };
        let commit = spawn_named(death.thread, move || {
            let _death = death;
            commit_thread.run(&commit_queue);
        });
        let commit = commit.map_err(spawn_error)?;
        let maintenance_thread = MaintenanceThread::new(Arc::clone(&shared));
        let death = Death { shared: Arc::clone(&shared), thread: "trace-maintain" };
        let maintain = spawn_named(death.thread, move || {
            let _death = death;
            if let Err(error) = lower_priority(MAINTENANCE_NICENESS) {
                tracing::debug!(%error, "cannot lower the priority of maintenance");
            }
            maintenance_thread.run(&maintenance_queue);
        });
        let maintain = match maintain {
            Ok(handle) => handle,
            Err(source) => {
                let _ = commits.send(Commit::Stop);
                let _ = commit.join();
                return Err(spawn_error(source));
            }
        };
        let threads = Mutex::new(Some((commit, maintain)));
        Ok(Self { shared, commits, maintenance, threads, is_unfinished: AtomicBool::new(false), _lock: lock })
    }

    /// Refuses new batches, finishes those that wait, brings everything to disk and ends the threads.
    /// Reads still work afterwards. A second call does nothing; it answers [`TraceStoreError::Closed`] where the first failed.
    ///
    /// # Errors
    /// What kept the last checkpoint from finishing. Nothing acknowledged is lost: the log has it.
    pub fn close(&self) -> Result<(), TraceStoreError> {
        let threads = self.threads.lock().take();
        let Some((commit, maintain)) = threads else {
            return if self.is_unfinished.load(Ordering::SeqCst) { Err(TraceStoreError::Closed) } else { Ok(()) };
        };
        self.is_unfinished.store(true, Ordering::SeqCst);
        let _ = self.commits.send(Commit::Stop);
        let committed = commit.join();
        let _ = self.maintenance.send(Maintenance::Stop);
        let maintained = maintain.join();
        if committed.is_err() || maintained.is_err() {
            return Err(TraceStoreError::Closed);
        }
        let mut result = self.shared.checkpoint();
        for partition in self.shared.partitions_newest_first() {
            result = result.and(partition.stop());
        }
        self.is_unfinished.store(result.is_err(), Ordering::SeqCst);
        result
    }

    /// Hands a change to the commit thread.
    fn log(
        &self,
        content: Vec<u8>,
        change: Change,
        outcome: AppendOutcome,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        let record = match encode_record(&content) {
            Ok(record) => record,
            Err(source) => {
                let source = Box::new(source);
                return Completion::ready(Err(StorageError::Internal { action: "compression of a batch", source }));
            }
        };
        drop(content);
        let (completer, completion) = Completion::pair();
        let Some(room) = QueueRoom::take(&self.shared, record.len() as u64 + change.memory_bytes()) else {
            let limit = self.shared.settings.queue_max;
            let reason = format!(
                "too many spans wait for the disk, tracestore.queue_max = {limit}; send again later, or raise it"
            );
            return Completion::ready(Err(StorageError::unavailable(reason)));
        };
        match self.commits.try_send(Commit::Log(Waiting { change, record, room, outcome, completer })) {
            Ok(()) => completion,
            Err(refused) => {
                let reason = match refused {
                    TrySendError::Full(_) => format!(
                        "too many batches of spans wait for the disk, {QUEUE_BATCHES_MAX} at most; send again later, in larger batches"
                    ),
                    TrySendError::Disconnected(_) => "the trace store is closed".to_owned(),
                };
                Completion::ready(Err(StorageError::unavailable(reason)))
            }
        }
    }

    /// Asks the maintenance thread for something and waits for it.
    fn ask(&self, task: impl FnOnce(maintain::Answer) -> Maintenance) -> Result<(), TraceStoreError> {
        let (completer, completion) = Completion::pair();
        self.maintenance.send(task(completer)).map_err(|_| TraceStoreError::Closed)?;
        completion.wait().ok_or(TraceStoreError::Closed)?
    }
}

/// Niceness of the thread of checkpoints and merges: where cores are short, those whom somebody waits for go first. It is not left
/// behind for long, as writers wait when the tail is half full.
const MAINTENANCE_NICENESS: i32 = 5;

/// Refuses writes when a thread of the store ends by a panic: reads go on, a restart replays.
struct Death {
    shared: Arc<Shared>,
    thread: &'static str,
}

impl Drop for Death {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = TraceStoreError::Died { thread: self.thread };
            tracing::error!(%error, "the trace store takes no writes until a restart");
            self.shared.poison.lock().get_or_insert(Arc::new(error));
            self.shared.tail_shrank.1.notify_all();
        }
    }
}

impl Drop for SpanStore {
    fn drop(&mut self) {
        if let Some((commit, maintain)) = self.threads.get_mut().take() {
            let _ = self.commits.send(Commit::Stop);
            let _ = commit.join();
            let _ = self.maintenance.send(Maintenance::Stop);
            let _ = maintain.join();
        }
    }
}

impl TraceStore for SpanStore {
    fn append(
        &self,
        tenant: &TenantId,
        batch: SpanBatch,
        _id: BatchId,
    ) -> Completion<Result<AppendOutcome, StorageError>> {
        if let Some(reason) = self.shared.refusal().or_else(|| self.shared.admits(tenant).err()) {
            return Completion::ready(Err(reason));
        }
        let (prepared, outcome) = prepare(tenant, &batch, self.shared.accepted_starts(tenant));
        // What is prepared is a third of it, and the rest takes a while.
        drop(batch);
        if prepared.rows.is_empty() {
            return Completion::ready(Ok(outcome));
        }
        let content = encode_batch(&prepared);
        if content.len() > RECORD_BYTES_MAX {
            let mut refused = AppendOutcome { rejections: outcome.rejections, ..AppendOutcome::default() };
            refused.reject(RejectReason::Limit, outcome.items, || {
                format!("the spans of one request take more than {RECORD_BYTES_MAX} bytes")
            });
            return Completion::ready(Ok(refused));
        }
        self.log(content, Change::Batch(prepared), outcome)
    }

    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        self.shared.admits(tenant)
    }

    fn is_busy(&self) -> bool {
        self.shared.is_queue_crowded() || self.shared.is_tail_half_full()
    }

    fn screen(&self, tenant: &TenantId, batch: &mut SpanBatch) -> Vec<Rejection> {
        screen(batch, self.shared.accepted_starts(tenant))
    }

    fn traces(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<TraceStream, StorageError> {
        Ok(self.shared.traces(tenant, lookups, context))
    }

    fn trace_parts(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        spans_max: NonZeroUsize,
        context: &ReadContext,
    ) -> Result<TracePartStream, StorageError> {
        Ok(self.shared.trace_parts(tenant, lookups, spans_max, context))
    }

    fn find(&self, tenant: &TenantId, query: &TraceQuery, context: &ReadContext) -> Result<FoundTraces, StorageError> {
        self.shared.find(tenant, query, context)
    }

    fn summaries(
        &self,
        tenant: &TenantId,
        lookups: &[TraceLookup],
        context: &ReadContext,
    ) -> Result<Vec<TraceSummary>, StorageError> {
        self.shared.summaries(tenant, lookups, context)
    }

    fn services(&self, tenant: &TenantId) -> Result<Vec<String>, StorageError> {
        Ok(self.shared.services(tenant))
    }

    fn operations(&self, tenant: &TenantId, query: &OperationQuery) -> Result<Vec<Operation>, StorageError> {
        Ok(self.shared.operations(tenant, query))
    }

    fn attribute_keys(
        &self,
        tenant: &TenantId,
        query: &AttributeKeyQuery,
        context: &ReadContext,
    ) -> Result<Listed<AttributeKey>, StorageError> {
        self.shared.attribute_keys(tenant, query, context)
    }

    fn listed_values(
        &self,
        tenant: &TenantId,
        query: &ValueQuery,
        context: &ReadContext,
    ) -> Result<Listed<ListedValue>, StorageError> {
        self.shared.listed_values(tenant, query, context)
    }

    fn dependencies(
        &self,
        tenant: &TenantId,
        range: TimeRangeNs,
        context: &ReadContext,
    ) -> Result<Vec<DependencyLink>, StorageError> {
        self.shared.dependencies(tenant, range, context)
    }

    fn count_calls(&self, tenant: &TenantId, batch: &SpanBatch) -> Completion<Result<AppendOutcome, StorageError>> {
        if let Some(reason) = self.shared.refusal() {
            return Completion::ready(Err(reason));
        }
        let calls = prepare_calls(tenant, batch, self.shared.accepted_starts(tenant));
        if calls.traces.is_empty() || !self.shared.settings.dependencies {
            return Completion::ready(Ok(AppendOutcome::default()));
        }
        let content = encode_calls(&calls);
        if content.len() > RECORD_BYTES_MAX {
            let (what, hint) = ("bytes of the spans whose calls are counted at once", "hand over fewer at a time");
            let limit = RECORD_BYTES_MAX as u64;
            return Completion::ready(Err(StorageError::LimitExceeded { what, limit, hint }));
        }
        let items = calls.traces.values().map(|spans| spans.len() as u64).sum();
        let outcome = AppendOutcome { items, ..AppendOutcome::default() };
        self.log(content, Change::Calls(calls), outcome)
    }

    fn delete_trace(&self, tenant: &TenantId, trace_id: TraceId) -> Result<(), StorageError> {
        if let Some(reason) = self.shared.refusal() {
            return Err(reason);
        }
        let partitions = self.shared.partitions_newest_first();
        if partitions.iter().any(|partition| partition.deleted_count(tenant) >= DELETED_TRACES_MAX) {
            return Err(StorageError::LimitExceeded {
                what: "deleted traces of one tenant and day",
                limit: DELETED_TRACES_MAX as u64,
                hint: "a compaction of the trace store or the day's retention ends them",
            });
        }
        // Should they be repaired, the trace stays away.
        repair::note_deletion(&self.shared.gone, tenant, trace_id).map_err(storage_error("deletion of a trace"))?;
        let deletion = Deletion { tenant: tenant.clone(), trace_id };
        let content = encode_deletion(&deletion);
        let logged = self.log(content, Change::Deletion(deletion), AppendOutcome::default());
        logged.wait().ok_or_else(|| storage_error("deletion of a trace")(TraceStoreError::Closed))?.map(|_| ())
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.ask(Maintenance::Flush).map_err(storage_error("flush of the trace store"))
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.ask(Maintenance::Compact).map_err(storage_error("compaction of the trace store"))
    }

    fn create_snapshot(&self, name: &str) -> Result<(), StorageError> {
        self.shared.check_new_snapshot(name)?;
        self.ask(|answer| Maintenance::Snapshot(name.to_owned(), answer))
            .map_err(storage_error("snapshot of the trace store"))
    }

    fn snapshots(&self) -> Result<Vec<String>, StorageError> {
        self.shared.snapshots().map_err(storage_error("listing of the trace store's snapshots"))
    }

    fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        self.shared.delete_snapshot(name)
    }

    fn stats(&self) -> TraceStoreStats {
        self.shared.stats()
    }
}

impl Shared {
    /// Which starts are inside a tenant's retention now.
    fn accepted_starts(&self, tenant: &TenantId) -> AcceptedStarts {
        let now_ns = u64::try_from(self.clock.unix_ns()).unwrap_or(0);
        let mut first_ns = now_ns.saturating_sub(self.settings.retention_ns(tenant));
        if let Some(day) = self.gone.through(tenant) {
            first_ns = first_ns.max(day.last_ns().saturating_add(1));
        }
        let future_ns = u64::try_from(self.settings.future_max.0.as_nanos()).unwrap_or(u64::MAX);
        AcceptedStarts { first_ns, last_ns: now_ns.saturating_add(future_ns) }
    }

    /// Whether the tenant has spans, or one more may have some: each day keeps names and lists of its own for each.
    fn admits(&self, tenant: &TenantId) -> Result<(), StorageError> {
        let partitions = self.partitions.read();
        let mut most = 0;
        for partition in partitions.values().rev() {
            match partition.tenants_besides(tenant) {
                None => return Ok(()),
                Some(count) => most = most.max(count),
            }
        }
        let limit = self.settings.tenants_max.get();
        if most < limit {
            return Ok(());
        }
        let hint = "write for tenants that are known, or raise tracestore.tenants_max";
        Err(StorageError::LimitExceeded { what: "tenants", limit: limit as u64, hint })
    }

    /// Why a batch cannot be taken now, if so.
    fn refusal(&self) -> Option<StorageError> {
        let poison = self.poison.lock().clone();
        poison.map(|error| crate::error::shared_unavailable(&error))
    }

    /// Partitions, newest first.
    fn partitions_newest_first(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().rev().cloned().collect()
    }

    /// What waits for the indexes.
    fn tail_size(&self) -> TailSize {
        self.partitions.read().values().map(|partition| partition.tail_size()).sum()
    }

    fn stats(&self) -> TraceStoreStats {
        let partitions = self.partitions_newest_first();
        let mut stats = TraceStoreStats {
            partitions: partitions.len() as u64,
            log_bytes: self.log.lock().bytes(),
            damaged_days: self.gone.days_aside().len() as u64,
            damaged_places: self.memory.damaged_places(),
            read_only: self.is_refusing.load(Ordering::Relaxed) || self.poison.lock().is_some(),
            ..TraceStoreStats::default()
        };
        for partition in partitions {
            let (row_bytes, index_bytes) = partition.bytes();
            stats.segments += partition.segment_count();
            stats.damaged_segments += partition.damaged_segments();
            stats.damaged_days += u64::from(partition.is_failing());
            stats.row_bytes += row_bytes;
            stats.index_bytes += index_bytes;
            stats.tail_spans += partition.tail_size().spans;
            stats.indexed_spans += partition.indexed_spans();
        }
        stats
    }
}
