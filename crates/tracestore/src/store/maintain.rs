//! The maintenance thread: checkpoints, and retention by dropping whole days.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use pharos_base::{Completer, full_message};
use pharos_model::TenantId;

use super::pending::PendingCalls;
use super::{DAYS_DIRECTORY, Shared};
use crate::TraceStoreError;
use crate::disk::sync_directory;
use crate::log::LogWriteError;
use crate::partition::{MergeDepth, Partition};
use crate::record::Day;

/// So long after its end a day gets few more spans.
const AGED_AFTER_NS: u64 = 3_600_000_000_000;
/// A partition that is being removed bears this before its name.
pub(super) const DROPPED_PREFIX: &str = "dropped-";

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
}

impl MaintenanceThread {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn run(&self, queue: &Receiver<Maintenance>) {
        loop {
            match queue.recv_timeout(self.shared.settings.commit_interval.0) {
                Ok(Maintenance::Commit) | Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.shared.maintain() {
                        tracing::error!(error = %full_message(&error), "trace store checkpoint failed, trying again later");
                    }
                }
                Ok(Maintenance::Flush(answer)) => answer.complete(self.shared.maintain()),
                Ok(Maintenance::Compact(answer)) => {
                    answer.complete(self.shared.maintain().and_then(|()| self.shared.compact()));
                }
                Ok(Maintenance::Snapshot(name, answer)) => answer.complete(self.shared.create_snapshot(&name)),
                Ok(Maintenance::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Shared {
    fn maintain(&self) -> Result<(), TraceStoreError> {
        self.drop_expired()?;
        self.checkpoint()?;
        self.merge()?;
        self.drop_oversize()
    }

    /// Merges what has become many.
    fn merge(&self) -> Result<(), TraceStoreError> {
        let now_ns = u64::try_from(self.clock.unix_ns()).unwrap_or(0);
        for partition in self.partitions_newest_first() {
            let is_over = partition.day().last_ns().saturating_add(AGED_AFTER_NS) < now_ns;
            partition.merge(MergeDepth::Small)?;
            if is_over {
                partition.merge(MergeDepth::Aged)?;
            }
        }
        Ok(())
    }

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
        for partition in begun {
            partition.finish_checkpoint(Some(partition.day()) == newest)?;
        }
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

    fn compact(&self) -> Result<(), TraceStoreError> {
        self.partitions_newest_first().iter().try_for_each(|partition| partition.compact())
    }

    /// Drops the days whose last span is out of every tenant's retention, and of other days the tenants whose
    /// retention ends earlier.
    fn drop_expired(&self) -> Result<(), TraceStoreError> {
        let now_ns = u64::try_from(self.clock.unix_ns()).unwrap_or(0);
        let first_ns = now_ns.saturating_sub(self.settings.retention_max_ns());
        let days: Vec<Day> =
            self.partitions.read().keys().copied().take_while(|day| day.last_ns() < first_ns).collect();
        days.into_iter().try_for_each(|day| self.drop_partition(day))?;
        if self.settings.retention_rules.is_empty() {
            return Ok(());
        }
        for partition in self.partitions_newest_first() {
            let is_out = |tenant: &TenantId| {
                partition.day().last_ns() < now_ns.saturating_sub(self.settings.retention_ns(tenant))
            };
            for tenant in partition.tenants().into_iter().filter(is_out) {
                self.drop_tenant(&partition, &tenant)?;
            }
        }
        Ok(())
    }

    fn drop_tenant(&self, partition: &Partition, tenant: &TenantId) -> Result<(), TraceStoreError> {
        // Not while a record is applied: it could still bring spans of the tenant.
        let _applied = self.applied.lock();
        let day = partition.day();
        if partition.drop_tenant(tenant)? {
            let mut expired = self.expired_through.lock();
            let through = expired.entry(tenant.clone()).or_insert(day);
            *through = (*through).max(day);
            tracing::info!(%day, %tenant, "dropped a tenant's traces of a day");
        }
        Ok(())
    }

    /// Drops the oldest days while the store is too large.
    fn drop_oversize(&self) -> Result<(), TraceStoreError> {
        let Some(limit) = self.settings.retention_size else { return Ok(()) };
        loop {
            let partitions = self.partitions_newest_first();
            let size = |partition: &Arc<Partition>| {
                let (span_bytes, index_bytes) = partition.bytes();
                span_bytes + index_bytes
            };
            let total: u64 = partitions.iter().map(size).sum();
            let Some(oldest) = partitions.last().filter(|_| partitions.len() > 1 && total > limit.0) else {
                return Ok(());
            };
            let day = oldest.day();
            tracing::info!(%day, total_bytes = total, limit_bytes = limit.0, "dropping the oldest day of traces for its size");
            let mut through = self.dropped_through.lock();
            *through = (*through).max(Some(day));
            drop(through);
            drop(partitions);
            self.drop_partition(day)?;
        }
    }

    fn drop_partition(&self, day: Day) -> Result<(), TraceStoreError> {
        // Not while a record is applied: it could still write to it.
        let applied = self.applied.lock();
        let Some(partition) = self.partitions.write().remove(&day) else { return Ok(()) };
        drop(applied);
        partition.stop()?;
        let days = self.directory.join(DAYS_DIRECTORY);
        let dropped = days.join(format!("{DROPPED_PREFIX}{day}"));
        if dropped.exists() {
            fs::remove_dir_all(&dropped).map_err(TraceStoreError::io("remove", &dropped))?;
        }
        fs::rename(partition.directory(), &dropped).map_err(TraceStoreError::io("rename", partition.directory()))?;
        sync_directory(&days).map_err(TraceStoreError::io("sync", &days))?;
        // Readers that hold the partition keep their open files.
        fs::remove_dir_all(&dropped).map_err(TraceStoreError::io("remove", &dropped))?;
        tracing::info!(%day, "dropped a day of traces");
        Ok(())
    }
}
