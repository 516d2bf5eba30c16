//! The maintenance thread: checkpoints, merges, and retention by dropping whole days.
//!
//! Spans that come need checkpoints, and a full disk needs retention: no other step, and no failure of one, holds them
//! off. A merge lets checkpoints pass between its blocks, and only one is done before whoever waits has his turn.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use pharos_base::{Completer, full_message};

use super::Shared;
use super::pending::PendingCalls;
use crate::TraceStoreError;
use crate::log::LogWriteError;
use crate::partition::{MergeDepth, Partition};

/// So long after its end a day gets few more spans.
const AGED_AFTER_NS: u64 = 3_600_000_000_000;
/// How soon a failed checkpoint is tried again while writers wait for it.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(2);
/// Merges begin only while so many times `free_space_min` are free.
const MERGE_FREE_SPACES: u64 = 2;

pub(super) type Answer = Completer<Result<(), TraceStoreError>>;

/// What the maintenance thread is asked.
pub(super) enum Maintenance {
    /// A checkpoint, nobody waits.
    Commit,
    /// A checkpoint.
    Flush(Answer),
    /// A checkpoint, then merge everything.
    Compact(Answer),
    /// A checkpoint, then a snapshot of this name.
    Snapshot(String, Answer),
    /// End.
    Stop,
}

pub(super) struct MaintenanceThread {
    shared: Arc<Shared>,
    checkpointed_at: Cell<Instant>,
    /// Whether the last round merged something: there may be more to do at once.
    is_merging: Cell<bool>,
}

impl MaintenanceThread {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let checkpointed_at = Cell::new(shared.clock.monotonic());
        Self { shared, checkpointed_at, is_merging: Cell::new(false) }
    }

    pub(super) fn run(&self, queue: &Receiver<Maintenance>) {
        loop {
            match queue.recv_timeout(self.patience()) {
                Ok(Maintenance::Commit) => tell("checkpoint", self.round(true)),
                Err(RecvTimeoutError::Timeout) => tell("checkpoint", self.round(!self.is_merging.get())),
                Ok(Maintenance::Flush(answer)) => answer.complete(self.round(true)),
                Ok(Maintenance::Compact(answer)) => {
                    let result = self.round(true);
                    answer.complete(result.and(self.shared.compact(&|| self.pause())));
                }
                Ok(Maintenance::Snapshot(name, answer)) => answer.complete(self.shared.create_snapshot(&name)),
                Ok(Maintenance::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long nobody need ask for anything.
    fn patience(&self) -> Duration {
        let interval = self.shared.settings.commit_interval.0;
        if self.is_merging.get() || self.is_checkpoint_due() {
            // Between two merges whoever waits has his turn; a large tail may have come of the log at the start.
            Duration::ZERO
        } else if self.shared.is_tail_half_full() {
            // A checkpoint failed, and writers wait for one: none of them asks for it.
            interval.min(CHECKPOINT_RETRY)
        } else {
            interval
        }
    }

    /// All that is to be done from time to time. A step that fails is told and keeps no other from its turn.
    ///
    /// # Errors
    /// What kept the checkpoint from finishing; that is not told here.
    fn round(&self, with_checkpoint: bool) -> Result<(), TraceStoreError> {
        let shared = &self.shared;
        for (age, partition) in shared.partitions_newest_first().iter().enumerate() {
            tell("removal of merged spans", partition.remove_retired());
            if age > 0 {
                tell("closing of an index writer", partition.close_index_writer());
            }
        }
        tell("retention by age", shared.drop_expired());
        let checkpointed = if with_checkpoint || self.is_checkpoint_due() { self.checkpoint() } else { Ok(()) };
        self.is_merging.set(self.merge_one());
        tell("retention of tenants by size", shared.drop_oversize_tenants());
        tell("retention by size", shared.drop_oversize());
        checkpointed
    }

    fn checkpoint(&self) -> Result<(), TraceStoreError> {
        self.checkpointed_at.set(self.shared.clock.monotonic());
        self.shared.checkpoint()
    }

    /// Lets a checkpoint pass while something lasts, so that spans that come find room.
    fn pause(&self) {
        if self.is_checkpoint_due() {
            tell("checkpoint", self.checkpoint());
        }
    }

    fn is_checkpoint_due(&self) -> bool {
        let shared = &self.shared;
        let waited = shared.clock.monotonic().saturating_duration_since(self.checkpointed_at.get());
        let is_failing = shared.is_checkpoint_failing.load(Ordering::Relaxed);
        waited >= shared.settings.commit_interval.0 || !is_failing && shared.is_tail_large()
    }

    /// Merges one group of segments where they have become many, newest days first. Returns whether anything was done.
    fn merge_one(&self) -> bool {
        let shared = &self.shared;
        // What is left of the disk is for the spans that come.
        let free_min = shared.settings.free_space_min.0.saturating_mul(MERGE_FREE_SPACES);
        if shared.disk.free_bytes(&shared.directory).is_ok_and(|free| free < free_min) {
            return false;
        }
        shared.partitions_newest_first().iter().any(|partition| self.merge_one_of(partition))
    }

    fn merge_one_of(&self, partition: &Partition) -> bool {
        let pause = || self.pause();
        let now_ns = u64::try_from(self.shared.clock.unix_ns()).unwrap_or(0);
        let is_over = partition.day().last_ns().saturating_add(AGED_AFTER_NS) < now_ns;
        let depths: &[_] = if is_over { &[MergeDepth::Small, MergeDepth::Aged] } else { &[MergeDepth::Small] };
        for depth in depths {
            match partition.merge_one(*depth, &pause) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(failure) => {
                    let (day, is_left_alone) = (partition.day(), failure.is_set_aside());
                    tracing::error!(
                        error = %full_message(&failure.error), %day, is_left_alone, "segments of spans cannot be merged"
                    );
                    return is_left_alone;
                }
            }
        }
        // The files of a day that gets more spans are rewritten anyway.
        let collected = if is_over { partition.collect_garbage(&pause) } else { Ok(false) };
        collected.unwrap_or_else(|error| {
            tell("removal of merged spans from files", Err(error));
            false
        })
    }
}

fn tell(step: &str, result: Result<(), TraceStoreError>) {
    if let Err(error) = result {
        tracing::error!(error = %full_message(&error), step, "maintenance of the trace store failed, trying again later");
    }
}

impl Shared {
    /// Brings both engines to the present position and removes the log below it.
    pub(super) fn checkpoint(&self) -> Result<(), TraceStoreError> {
        let result = self.try_checkpoint();
        self.is_checkpoint_failing.store(result.is_err(), Ordering::Relaxed);
        let (lock, shrank) = &self.tail_shrank;
        drop(lock.lock());
        shrank.notify_all();
        result
    }

    fn try_checkpoint(&self) -> Result<(), TraceStoreError> {
        // What an earlier, failed checkpoint left goes first; its days share a position.
        let left: Vec<_> =
            self.partitions.read().values().filter(|day| day.sealing_position().is_some()).cloned().collect();
        if let Some(position) = left.first().and_then(|partition| partition.sealing_position()) {
            self.finish_checkpoint(position, &left)?;
        }
        let (position, begun) = self.begin_checkpoint()?;
        self.finish_checkpoint(position, &begun)?;
        self.log.lock().remove_before(position)
    }

    /// Freezes what is in memory; returns the position and the days that have something.
    pub(super) fn begin_checkpoint(&self) -> Result<(u64, Vec<Arc<Partition>>), TraceStoreError> {
        let applied = self.applied.lock();
        // What a checkpoint makes durable must not be ahead of the log.
        self.log.lock().sync().map_err(LogWriteError::into_inner)?;
        let position = applied.next_sequence;
        let partitions = self.partitions.read();
        let begun = partitions.values().filter(|day| day.begin_checkpoint(position)).cloned().collect();
        Ok((position, begun))
    }

    /// Brings the days of a checkpoint to disk, all that were begun or, after an error, those that are left.
    fn finish_checkpoint(&self, position: u64, begun: &[Arc<Partition>]) -> Result<(), TraceStoreError> {
        self.announce_calls(position, begun)?;
        let newest = self.partitions.read().last_key_value().map(|(day, _)| *day);
        let mut finished = Ok(());
        for partition in begun {
            // One that fails keeps no other from its turn.
            finished = finished.and(partition.finish_checkpoint(Some(partition.day()) == newest));
        }
        finished?;
        if begun.is_empty() { Ok(()) } else { PendingCalls::remove(&self.directory) }
    }

    /// Says what the days of a checkpoint add to the call counts, where they are more than one.
    pub(super) fn announce_calls(&self, position: u64, begun: &[Arc<Partition>]) -> Result<(), TraceStoreError> {
        if begun.len() < 2 {
            return Ok(());
        }
        let days = begun.iter().map(|partition| (partition.day(), partition.sealing_calls())).collect();
        PendingCalls { position, days }.write(&self.directory)
    }

    /// Merges all days; one that fails keeps no other from its turn.
    fn compact(&self, pause: &dyn Fn()) -> Result<(), TraceStoreError> {
        let mut result = Ok(());
        for partition in self.partitions_newest_first() {
            let compacted = partition.compact(pause);
            result = result.and(compacted);
        }
        result
    }
}
