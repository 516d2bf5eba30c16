//! Group commit: one thread takes all batches that wait, writes them with one write and one sync, makes
//! them visible and acknowledges them.
//!
//! It alone writes the log, applies batches and swaps generations, so a swap falls between two groups.
//!
//! Faults: a full disk refuses the group, cuts the segment back to the last group and goes on with a new
//! segment at the next append. A segment that cannot be created because descriptors or memory are short is tried
//! again at the next append. Any other fault, and every fault of a sync that is not "full", poisons
//! the log: reads go on, writes answer unavailable, a restart replays.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};
use pharos_base::{ByteSize, Clock, Completer, Completion};
use pharos_model::MetricBatch;
use pharos_storage::{AppendOutcome, StorageError};

use crate::TsdbError;
use crate::disk::{self, Disk};
use crate::head::generation::REFUSED;
use crate::head::registry::{Registry, SeriesNumber};
use crate::log::frame::Payload;
use crate::log::record::Definitions;
use crate::log::segment::SegmentWriter;
use crate::settings::{Settings, SyncPolicy};
use crate::tenant::{Tenant, Tenants};

/// Bytes of one group; more wait for the next.
const GROUP_BYTES_MAX: u64 = 32 << 20;

/// A batch on its way into the log.
pub(crate) struct Submission {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) numbers: Vec<SeriesNumber>,
    pub(crate) batch: MetricBatch,
    /// Mostly one; a large batch is several records of one group.
    pub(crate) payloads: Vec<Payload>,
    pub(crate) outcome: AppendOutcome,
    pub(crate) completer: Completer<Result<AppendOutcome, StorageError>>,
}

impl Submission {
    fn record_bytes(&self) -> usize {
        self.payloads.iter().map(Payload::record_len).sum()
    }
}

/// What a swap of generations left behind.
pub(crate) struct Swapped {
    /// Segments up to this one are fully contained in frozen generations.
    pub(crate) last_segment: u64,
}

/// Where a delete stands in the order of appends.
pub(crate) struct DeletePoint {
    /// Everything appended before is in sources of a lower sequence.
    pub(crate) sequence: u64,
    /// Everything appended before is in segments up to this one.
    pub(crate) last_segment: u64,
}

enum Command {
    Append(Box<Submission>),
    Swap(Completer<Result<Swapped, TsdbError>>),
    Freeze(Arc<Tenant>, Completer<Result<DeletePoint, TsdbError>>),
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// Of batches that wait.
    bytes: u64,
    /// Of the group that is being written.
    group_bytes: u64,
    stopping: bool,
}

/// What the commit thread shares with everyone else.
pub(crate) struct CommitQueue {
    queue: Mutex<Queue>,
    arrived: Condvar,
    queue_bytes_max: u64,
    /// Set once the log can no longer be trusted to take writes.
    poisoned: AtomicBool,
    /// Whether the last group was refused because the disk is full.
    pub(crate) disk_full: AtomicBool,
    /// Bytes of log segments not yet flushed away.
    pub(crate) log_bytes: AtomicU64,
    /// Those of them that a flush under way will remove.
    pub(crate) frozen_log_bytes: AtomicU64,
}

impl CommitQueue {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            queue_bytes_max: settings.queue_memory_max.0,
            poisoned: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            log_bytes: AtomicU64::new(0),
            frozen_log_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Whether somebody waits for the log.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.lock().commands.is_empty()
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// Queues a batch; its completer is answered in every case.
    pub(crate) fn append(&self, submission: Submission) {
        let bytes = submission_bytes(&submission);
        let mut queue = self.queue.lock();
        let refusal = if queue.stopping {
            Some("the store is closing".to_owned())
        } else if self.is_poisoned() {
            Some(POISONED.to_owned())
        } else if queue.bytes >= self.queue_bytes_max {
            // Not one that would pass the limit: a large batch would find no room as long as small ones come.
            let limit = ByteSize(self.queue_bytes_max);
            Some(format!(
                "too many batches wait for the log, tsdb.queue_memory_max = {limit}; send again later, or raise it"
            ))
        } else {
            None
        };
        if let Some(reason) = refusal {
            drop(queue);
            return submission.completer.complete(Err(StorageError::unavailable(reason)));
        }
        queue.bytes += bytes;
        queue.commands.push_back(Command::Append(Box::new(submission)));
        drop(queue);
        self.arrived.notify_one();
    }

    /// Whether more wait, or are being written, than a group needs to be worth its sync: a quarter of what there is room for.
    pub(crate) fn is_crowded(&self) -> bool {
        let queue = self.queue.lock();
        queue.bytes + queue.group_bytes > self.queue_bytes_max / 4
    }

    /// Freezes the active generations of all tenants, behind everything queued so far.
    pub(crate) fn swap(&self) -> Result<Swapped, TsdbError> {
        self.ask(Command::Swap)
    }

    /// Freezes the active generation of one tenant and ends the segment, behind everything queued so far.
    pub(crate) fn freeze(&self, tenant: Arc<Tenant>) -> Result<DeletePoint, TsdbError> {
        self.ask(|completer| Command::Freeze(tenant, completer))
    }

    fn ask<T>(&self, command: impl FnOnce(Completer<Result<T, TsdbError>>) -> Command) -> Result<T, TsdbError> {
        let (completer, completion) = Completion::pair();
        {
            let mut queue = self.queue.lock();
            if queue.stopping || self.is_poisoned() {
                return Err(TsdbError::Stopped);
            }
            queue.commands.push_back(command(completer));
        }
        self.arrived.notify_one();
        completion.wait().unwrap_or(Err(TsdbError::Stopped))
    }

    /// Lets the thread finish what is queued and end.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.arrived.notify_one();
    }

    /// Commands for one group, waiting until `deadline` for the first; `None` once stopped and empty.
    fn take(&self, deadline: Option<Instant>) -> Option<Vec<Command>> {
        let mut queue = self.queue.lock();
        // Whoever asks for the next group is done with the last.
        queue.group_bytes = 0;
        while queue.commands.is_empty() && !queue.stopping {
            match deadline {
                Some(deadline) => {
                    if self.arrived.wait_until(&mut queue, deadline).timed_out() {
                        return Some(Vec::new());
                    }
                }
                None => self.arrived.wait(&mut queue),
            }
        }
        if queue.commands.is_empty() {
            return None;
        }
        let (mut group, mut group_bytes) = (Vec::new(), 0);
        while let Some(command) = queue.commands.pop_front() {
            if let Command::Append(submission) = &command {
                let bytes = submission_bytes(submission);
                queue.bytes -= bytes;
                group_bytes += bytes;
            }
            let last = !matches!(command, Command::Append(_)) || group_bytes >= GROUP_BYTES_MAX;
            group.push(command);
            if last {
                break;
            }
        }
        queue.group_bytes = group_bytes;
        Some(group)
    }
}

/// Size at which one definitions record is closed.
const DEFINITION_BYTES: usize = 16 << 20;
const POISONED: &str = "writing the log failed; restart the store to recover";

fn submission_bytes(submission: &Submission) -> u64 {
    (submission.batch.memory_bytes() + submission.record_bytes() + submission.numbers.len() * 4) as u64
}

/// The commit thread's state.
pub(crate) struct Committer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log_dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) queue: Arc<CommitQueue>,
    pub(crate) tenants: Arc<Tenants>,
    /// The counter that parts and generations take their places from.
    pub(crate) sequences: Arc<AtomicU64>,
    /// Told after each group, so that it can see whether a flush is due.
    pub(crate) on_commit: Box<dyn Fn() + Send>,
    pub(crate) last_segment: u64,
    pub(crate) writer: Option<SegmentWriter>,
    /// Bytes at the end of the segment that are written but not synced.
    pub(crate) unsynced: u64,
    pub(crate) sync_due: Option<Instant>,
}

impl Committer {
    /// Serves the queue until it is stopped; then everything written is synced.
    pub(crate) fn run(mut self) {
        let guard = PoisonOnPanic(Arc::clone(&self.queue));
        while let Some(commands) = self.queue.take(self.sync_due) {
            self.step(commands);
        }
        self.sync_now();
        std::mem::forget(guard);
    }

    fn step(&mut self, commands: Vec<Command>) {
        let mut group = Vec::new();
        for command in commands {
            match command {
                Command::Append(submission) => group.push(*submission),
                Command::Swap(completer) => {
                    self.commit(std::mem::take(&mut group));
                    completer.complete(self.swap());
                }
                Command::Freeze(tenant, completer) => {
                    self.commit(std::mem::take(&mut group));
                    completer.complete(self.freeze(&tenant));
                }
            }
        }
        self.commit(group);
        if self.sync_due.is_some_and(|due| self.clock.monotonic() >= due) {
            self.sync_now();
        }
        (self.on_commit)();
    }

    fn commit(&mut self, group: Vec<Submission>) {
        if group.is_empty() {
            return;
        }
        match self.write(&group) {
            Ok(()) => {
                for submission in group {
                    let Submission { tenant, registry, numbers, batch, outcome, completer, .. } = submission;
                    tenant.apply(&batch, &registry, &numbers, self.settings.exemplars_max);
                    completer.complete(Ok(outcome));
                }
            }
            Err(reason) => {
                for submission in group {
                    submission.completer.complete(Err(StorageError::unavailable(reason.clone())));
                }
            }
        }
    }

    /// Makes a group durable, or says why not.
    fn write(&mut self, group: &[Submission]) -> Result<(), String> {
        if self.queue.is_poisoned() {
            return Err(POISONED.to_owned());
        }
        let record_bytes: usize = group.iter().map(Submission::record_bytes).sum();
        self.check_free_space(record_bytes as u64)?;
        self.ensure_segment()?;
        let Some(writer) = &mut self.writer else { return Err(POISONED.to_owned()) };
        let mut bytes = Vec::with_capacity(record_bytes);
        for submission in group {
            write_definitions(submission, writer.number, &mut bytes, self.unsynced);
            submission.payloads.iter().for_each(|payload| payload.write(&mut bytes, self.unsynced));
        }
        if let Err(error) = writer.write(&bytes) {
            return Err(self.give_up(&error, "write"));
        }
        self.unsynced += bytes.len() as u64;
        match self.settings.sync {
            SyncPolicy::Batch => {
                if let Err(error) = writer.sync() {
                    return Err(self.give_up(&error, "sync"));
                }
                self.unsynced = 0;
            }
            SyncPolicy::Interval(every) => {
                self.sync_due.get_or_insert(self.clock.monotonic() + every.0);
            }
        }
        writer.length += bytes.len() as u64;
        self.queue.log_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.queue.disk_full.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn check_free_space(&self, needed: u64) -> Result<(), String> {
        let min = self.settings.disk_free_min.0;
        if min == 0 {
            return Ok(());
        }
        match self.disk.free_bytes(&self.log_dir) {
            Ok(free) if free < min.saturating_add(needed) => {
                self.queue.disk_full.store(true, Ordering::Relaxed);
                Err(format!("the disk has {free} bytes left, less than disk_free_min of {min}"))
            }
            _ => Ok(()),
        }
    }

    /// Has a segment ready that takes another group.
    fn ensure_segment(&mut self) -> Result<(), String> {
        if self.writer.as_ref().is_some_and(|writer| writer.length < self.settings.log_segment_size.0) {
            return Ok(());
        }
        self.next_segment().map_err(|error| format!("cannot begin a log segment: {error}"))
    }

    /// Closes the segment, which is synced first, and begins the next.
    fn next_segment(&mut self) -> std::io::Result<()> {
        if !self.sync_now() {
            return Err(std::io::Error::other(POISONED));
        }
        let number = self.last_segment + 1;
        let path = crate::log::segment::path_of(&self.log_dir, number);
        let file = self.disk.create(&path).map_err(|error| self.refuse_segment(&path, error))?;
        let writer = SegmentWriter::begin(file, self.disk.as_ref(), &self.log_dir, number)
            .map_err(|error| self.refuse_segment(&path, error))?;
        self.queue.log_bytes.fetch_add(writer.length, Ordering::Relaxed);
        self.last_segment = number;
        self.writer = Some(writer);
        Ok(())
    }

    fn refuse_segment(&self, path: &Path, error: std::io::Error) -> std::io::Error {
        // A half-made segment must not stay the last one: the next attempt writes the same name.
        let _ = self.disk.remove_file(path);
        if disk::is_full(&error) {
            self.queue.disk_full.store(true, Ordering::Relaxed);
        } else if disk::is_transient(&error) {
            tracing::warn!(path = %path.display(), %error, "cannot begin a log segment yet; the next append tries again");
        } else {
            tracing::error!(path = %path.display(), %error, "cannot begin a log segment; writes are refused");
            self.queue.poison();
        }
        error
    }

    /// After a failed write or sync: back to the last group if the disk is full, else no more writes.
    fn give_up(&mut self, error: &std::io::Error, action: &'static str) -> String {
        let Some(writer) = self.writer.take() else { return POISONED.to_owned() };
        let keep = writer.length;
        // Unsynced groups of interval mode were acknowledged: if their sync fails they must not be cut off.
        if disk::is_full(error) {
            match self.disk.truncate(&writer.path, keep) {
                Ok(()) => {
                    self.unsynced = 0;
                    self.sync_due = None;
                    self.queue.disk_full.store(true, Ordering::Relaxed);
                    tracing::warn!(path = %writer.path.display(), "disk full; batches are refused until there is space");
                    return "the disk is full".to_owned();
                }
                Err(truncate_error) => {
                    tracing::error!(path = %writer.path.display(), error = %truncate_error, "cannot cut back the log");
                }
            }
        }
        tracing::error!(path = %writer.path.display(), %error, action, "log failed; writes are refused until a restart");
        self.queue.poison();
        format!("cannot {action} the log: {error}")
    }

    /// Syncs what is written; false and poisoned if that fails.
    fn sync_now(&mut self) -> bool {
        self.sync_due = None;
        if self.unsynced == 0 || self.writer.is_none() {
            return true;
        }
        let Some(writer) = &mut self.writer else { return true };
        if let Err(error) = writer.sync() {
            tracing::error!(path = %writer.path.display(), %error, "log sync failed; writes are refused until a restart");
            self.queue.poison();
            self.writer = None;
            return false;
        }
        self.unsynced = 0;
        true
    }

    fn swap(&mut self) -> Result<Swapped, TsdbError> {
        self.end_segment()?;
        for tenant in self.tenants.all() {
            tenant.freeze(&self.settings, self.sequences.fetch_add(1, Ordering::Relaxed));
        }
        self.queue.frozen_log_bytes.store(self.queue.log_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(Swapped { last_segment: self.last_segment })
    }

    fn freeze(&mut self, tenant: &Tenant) -> Result<DeletePoint, TsdbError> {
        self.end_segment()?;
        // One for the generation and the next for the delete: a replay gives the generation the same place.
        let sequence = self.sequences.fetch_add(2, Ordering::Relaxed);
        tenant.freeze(&self.settings, sequence);
        Ok(DeletePoint { sequence: sequence + 1, last_segment: self.last_segment })
    }

    /// Syncs and closes the segment. The next append begins one: a flush must not need space to begin.
    fn end_segment(&mut self) -> Result<(), TsdbError> {
        if self.queue.is_poisoned() || !self.sync_now() {
            return Err(TsdbError::Stopped);
        }
        self.writer = None;
        Ok(())
    }
}

/// Appends definitions of the batch's series that `segment` does not hold yet.
fn write_definitions(submission: &Submission, segment: u64, bytes: &mut Vec<u8>, unsynced: u64) {
    let mut definitions = Definitions::new(&submission.tenant.id);
    let registry = submission.registry.read();
    for number in submission.numbers.iter().filter(|number| **number != REFUSED) {
        let series = registry.series(*number);
        if series.define_in(segment) {
            definitions.push(series.log_id, &series.labels);
            if definitions.len() >= DEFINITION_BYTES {
                let full = std::mem::replace(&mut definitions, Definitions::new(&submission.tenant.id));
                full.write(bytes, unsynced);
            }
        }
    }
    definitions.write(bytes, unsynced);
}

/// A panic of the commit thread must not look like a store that merely waits.
struct PoisonOnPanic(Arc<CommitQueue>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        self.0.poison();
        // Dropped completers answer `None`: the store is gone.
        let commands = std::mem::take(&mut self.0.queue.lock().commands);
        drop(commands);
    }
}
