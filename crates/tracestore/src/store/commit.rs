//! The commit thread: one write and one sync for all batches that wait, then they are applied and
//! acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use pharos_base::{Clock, Completer, SystemClock, full_message};
use pharos_storage::{AppendOutcome, StorageError};

use super::Shared;
use super::apply::Places;
use super::maintain::Maintenance;
use crate::error::shared_unavailable;
use crate::log::LogWriteError;
use crate::partition::TailSize;
use crate::record::Change;
use crate::{Settings, SyncPolicy, TraceStoreError};

/// A group commit gathers no more than this.
const GROUP_BYTES_MAX: u64 = 16 << 20;
const GROUP_BATCHES_MAX: usize = 512;
/// Writers are kept waiting while this part of the queue's memory is taken, a batch or two of 2,000 spans with the defaults: what
/// waits there is late, and whoever decodes takes the core from the thread that commits.
const QUEUE_CROWDED_SHARE: u64 = 32;
/// A commit begins when this part of the memory for the tail is used: the rest is filled meanwhile.
const TAIL_COMMIT_SHARE: u64 = 3;
/// How long a full tail is waited for before the batch is refused.
const TAIL_WAIT: Duration = Duration::from_secs(2);

type AppendResult = Result<AppendOutcome, StorageError>;

/// What the commit thread is asked.
pub(super) enum Commit {
    /// Make this durable and visible.
    Log(Waiting),
    /// Finish what waits, then end.
    Stop,
}

/// A batch or a deletion that waits for the log.
pub(super) struct Waiting {
    pub(super) change: Change,
    pub(super) record: Vec<u8>,
    /// What both take of the queue, until they are applied.
    pub(super) room: QueueRoom,
    pub(super) outcome: AppendOutcome,
    pub(super) completer: Completer<AppendResult>,
}

/// A part of the queue's memory; dropping it gives it back.
pub(super) struct QueueRoom {
    shared: Arc<Shared>,
    bytes: u64,
}

impl QueueRoom {
    /// Room for `bytes`, if there is as much or nothing else waits: a single batch above the limit passes.
    pub(super) fn take(shared: &Arc<Shared>, bytes: u64) -> Option<Self> {
        shared.queued_batches.fetch_add(1, Ordering::Relaxed);
        let queued = shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Self { shared: Arc::clone(shared), bytes };
        (queued == 0 || queued + bytes <= shared.settings.queue_max.0).then_some(room)
    }
}

impl Drop for QueueRoom {
    fn drop(&mut self) {
        self.shared.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shared.queued_batches.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct CommitThread {
    shared: Arc<Shared>,
    maintenance: SyncSender<Maintenance>,
    /// Logged, but something could not be read or written for them: applied before anything else.
    unapplied: VecDeque<(u64, Change)>,
    spans_since_commit: u64,
    synced_at: Instant,
}

impl CommitThread {
    pub(super) fn new(shared: Arc<Shared>, maintenance: SyncSender<Maintenance>) -> Self {
        let synced_at = SystemClock.monotonic();
        Self { shared, maintenance, unapplied: VecDeque::new(), spans_since_commit: 0, synced_at }
    }

    pub(super) fn run(&mut self, queue: &Receiver<Commit>) {
        loop {
            let mut is_stopping = false;
            match self.next(queue) {
                Ok(Commit::Log(first)) => {
                    let mut group_bytes = first.room.bytes;
                    let mut group = vec![first];
                    while group_bytes < GROUP_BYTES_MAX && group.len() < GROUP_BATCHES_MAX {
                        match queue.try_recv() {
                            Ok(Commit::Log(next)) => {
                                group_bytes += next.room.bytes;
                                group.push(next);
                            }
                            Ok(Commit::Stop) => {
                                is_stopping = true;
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.step(group);
                }
                Ok(Commit::Stop) | Err(RecvTimeoutError::Disconnected) => is_stopping = true,
                Err(RecvTimeoutError::Timeout) => self.sync_if_due(),
            }
            if is_stopping {
                self.sync_now();
                return;
            }
        }
    }

    fn next(&self, queue: &Receiver<Commit>) -> Result<Commit, RecvTimeoutError> {
        match self.shared.settings.sync {
            SyncPolicy::Interval(interval) if self.shared.log.lock().is_unsynced() => {
                queue.recv_timeout(until_sync(self.synced_at, SystemClock.monotonic(), interval.0))
            }
            _ => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Logs, applies and acknowledges a group.
    fn step(&mut self, group: Vec<Waiting>) {
        let refuse = |group: Vec<Waiting>, error: &Arc<TraceStoreError>| {
            for waiting in group {
                waiting.completer.complete(Err(shared_unavailable(error)));
            }
        };
        if let Err(error) = self.make_room() {
            self.shared.is_refusing.store(true, Ordering::Relaxed);
            return refuse(group, &error);
        }
        let records: Vec<&[u8]> = group.iter().map(|waiting| waiting.record.as_slice()).collect();
        let logged = self.shared.log.lock().append(&records, self.shared.settings.sync == SyncPolicy::Batch);
        let first_sequence = match logged {
            Ok(first_sequence) => first_sequence,
            Err(error) => {
                self.shared.is_refusing.store(true, Ordering::Relaxed);
                return refuse(group, &self.refused(error));
            }
        };
        self.shared.is_refusing.store(false, Ordering::Relaxed);
        for (sequence, waiting) in (first_sequence..).zip(group) {
            let Waiting { change, outcome, completer, .. } = waiting;
            let span_count = outcome.items;
            let result =
                if self.unapplied.is_empty() { self.apply(&change, sequence) } else { Err(stalled(&self.shared)) };
            match result {
                Ok(()) => {
                    self.spans_since_commit += span_count;
                    completer.complete(Ok(outcome));
                }
                Err(error) => {
                    tracing::error!(%error, sequence, "a logged batch cannot be applied, trying again later");
                    self.unapplied.push_back((sequence, change));
                    completer.complete(Err(shared_unavailable(&Arc::new(error))));
                }
            }
        }
        let settings = &self.shared.settings;
        if self.spans_since_commit >= settings.commit_spans
            || self.shared.tail_size().bytes >= settings.tail_memory.0 / TAIL_COMMIT_SHARE
        {
            self.spans_since_commit = 0;
            // A full queue means that one is coming anyway.
            let _ = self.maintenance.try_send(Maintenance::Commit);
        }
        self.sync_if_due();
    }

    /// Everything that must hold before something is logged.
    fn make_room(&mut self) -> Result<(), Arc<TraceStoreError>> {
        if let Some(poison) = self.shared.poison.lock().clone() {
            return Err(poison);
        }
        let free_min = self.shared.settings.free_space_min.0;
        if self.shared.disk.free_bytes(&self.shared.directory).is_ok_and(|free| free < free_min) {
            return Err(Arc::new(disk_full(&self.shared)));
        }
        while let Some((sequence, change)) = self.unapplied.pop_front() {
            if let Err(error) = self.apply(&change, sequence) {
                self.unapplied.push_front((sequence, change));
                return Err(Arc::new(error));
            }
        }
        self.wait_for_tail()
    }

    /// The tail has a limit; above it the index must catch up first.
    fn wait_for_tail(&self) -> Result<(), Arc<TraceStoreError>> {
        let (spans_max, bytes_max) = (self.shared.settings.tail_spans_max, self.shared.settings.tail_memory);
        let is_full = || {
            let size = self.shared.tail_size();
            size.spans >= spans_max || size.bytes >= bytes_max.0
        };
        if !is_full() {
            return Ok(());
        }
        let _ = self.maintenance.try_send(Maintenance::Commit);
        let (lock, shrank) = &self.shared.tail_shrank;
        let mut guard = lock.lock();
        let deadline = SystemClock.monotonic() + TAIL_WAIT;
        while is_full() {
            if let Some(poison) = self.shared.poison.lock().clone() {
                return Err(poison);
            }
            if self.shared.is_checkpoint_failing.load(Ordering::Relaxed)
                || shrank.wait_until(&mut guard, deadline).timed_out()
            {
                return Err(Arc::new(TraceStoreError::Io {
                    action: "take more spans before the index has caught up in",
                    path: self.shared.directory.clone(),
                    source: std::io::Error::other(format!(
                        "limit of {spans_max} spans or {bytes_max} in memory reached"
                    )),
                }));
            }
        }
        Ok(())
    }

    fn apply(&self, change: &Change, sequence: u64) -> Result<(), TraceStoreError> {
        let places = Places {
            directory: &self.shared.directory,
            settings: &self.shared.settings,
            memory: &self.shared.memory,
            partitions: &self.shared.partitions,
        };
        self.shared.applied.lock().apply(&places, change, sequence)
    }

    fn refused(&self, error: LogWriteError) -> Arc<TraceStoreError> {
        match error {
            LogWriteError::Refused(error) => {
                tracing::warn!(error = %full_message(&error), "spans refused for now");
                Arc::new(error)
            }
            LogWriteError::Poisoned(error) => {
                let error = Arc::new(error);
                tracing::error!(
                    error = %full_message(&error),
                    "the trace log cannot be trusted any more: writes are refused until a restart"
                );
                *self.shared.poison.lock() = Some(Arc::clone(&error));
                error
            }
        }
    }

    fn sync_if_due(&mut self) {
        let SyncPolicy::Interval(interval) = self.shared.settings.sync else { return };
        if SystemClock.monotonic().duration_since(self.synced_at) >= interval.0 {
            self.sync_now();
        }
    }

    fn sync_now(&mut self) {
        if let Err(error) = self.shared.log.lock().sync() {
            self.refused(error);
        }
        self.synced_at = SystemClock.monotonic();
    }
}

impl Shared {
    /// Whether so much waits that it is time for a checkpoint, while none is under way.
    pub(super) fn is_tail_large(&self) -> bool {
        let (size, settings) = (self.tail_size(), &self.settings);
        size.spans >= settings.commit_spans || size.bytes >= settings.tail_memory.0 / TAIL_COMMIT_SHARE
    }

    /// Whether so much waits for the log that more would only be late: a part of what there is room for, and more than one batch,
    /// so that a large one is decoded while another is written.
    pub(super) fn is_queue_crowded(&self) -> bool {
        let crowded_bytes = self.settings.queue_max.0 / QUEUE_CROWDED_SHARE;
        self.queued_bytes.load(Ordering::Relaxed) > crowded_bytes && self.queued_batches.load(Ordering::Relaxed) > 1
    }

    /// Whether the tail is so full that a commit had better finish before more comes.
    pub(super) fn is_tail_half_full(&self) -> bool {
        is_half_full(self.tail_size(), &self.settings)
    }
}

/// Whether a tail has half of what it may have, and so half as much again as is committed at once.
fn is_half_full(tail: TailSize, settings: &Settings) -> bool {
    let spans = (settings.tail_spans_max / 2).max(settings.commit_spans.saturating_add(settings.commit_spans / 2));
    tail.spans >= spans || tail.bytes >= settings.tail_memory.0 / 2
}

/// How long batches may still be waited for: what came right behind the last sync is synced an interval after that,
/// whatever comes later.
fn until_sync(synced_at: Instant, now: Instant, interval: Duration) -> Duration {
    interval.saturating_sub(now.saturating_duration_since(synced_at))
}

fn disk_full(shared: &Shared) -> TraceStoreError {
    TraceStoreError::Io {
        action: "write to",
        path: shared.directory.clone(),
        source: std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            format!("less than {} free; remove files or lower the retention", shared.settings.free_space_min),
        ),
    }
}

fn stalled(shared: &Shared) -> TraceStoreError {
    TraceStoreError::Rows {
        action: "apply a batch after one that failed",
        path: shared.directory.clone(),
        message: "earlier batches wait".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pharos_base::ByteSize;

    use super::*;

    #[test]
    fn writers_wait_before_the_tail_is_full() {
        let of = |commit_spans| Settings {
            commit_spans,
            tail_spans_max: 400,
            tail_memory: ByteSize::mib(4),
            ..Settings::default()
        };
        let waits = |spans, bytes| is_half_full(TailSize { spans, bytes }, &of(100));
        assert_eq!([waits(199, 2 << 20), waits(199, (2 << 20) - 1), waits(200, 0)], [true, false, true]);
        let waits = |spans| is_half_full(TailSize { spans, bytes: 0 }, &of(200));
        assert_eq!([waits(299), waits(300)], [false, true], "not as soon as a commit begins");
    }

    #[test]
    fn batches_that_keep_coming_put_no_sync_off() {
        let (synced_at, interval) = (SystemClock.monotonic(), Duration::from_secs(10));
        let waits = |ms| until_sync(synced_at, synced_at + Duration::from_millis(ms), interval);
        assert_eq!(
            [waits(0), waits(9_900), waits(10_000), waits(60_000)].map(|left| left.as_millis()),
            [10_000, 100, 0, 0]
        );
    }
}
