//! What leaves: days out of retention, tenants' parts of days, the oldest days of a store that is too large.
//!
//! What goes is gone for good, and a wrong clock says of everything that it is too old. In the usual course one day is out of
//! retention at midnight. Where it is more, the clock must say so for [`HOLD`] before anything goes.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pharos_base::full_message;
use pharos_model::{NS_PER_DAY, TenantId};

use super::{DAYS_DIRECTORY, Shared};
use crate::TraceStoreError;
use crate::disk::{replace_file, sync_directory};
use crate::partition::Partition;
use crate::record::Day;

/// A partition that is being removed bears this before its name.
pub(super) const DROPPED_PREFIX: &str = "dropped-";
/// How long the clock must say that more than one day is out of retention before they go.
const HOLD: Duration = Duration::from_hours(1);
/// Names the newest day that was dropped for the store's size.
const DROPPED_FILE: &str = "DROPPED";

/// A day that could not be opened, in a directory of its own.
#[derive(Debug)]
pub(super) struct DamagedDay {
    pub(super) day: Day,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Whether its spans were taken up again, as far as they can be read.
    pub(super) is_repaired: bool,
}

/// What is remembered of days and parts of days that went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Days up to here were dropped by size; spans that start there are too old.
    pub(super) through: Mutex<Option<Day>>,
    /// The newest day that no longer has a tenant's spans while it has those of others; they are too old, too.
    pub(super) tenants_through: Mutex<HashMap<TenantId, Day>>,
    /// Days that could not be opened. They go when a day as old goes.
    pub(super) damaged: Mutex<Vec<DamagedDay>>,
    /// Since when the clock says that more than one day is too old.
    many_since: Mutex<Option<Instant>>,
}

impl Gone {
    pub(super) fn new(
        directory: &Path,
        partitions: &BTreeMap<Day, Arc<Partition>>,
        damaged: Vec<DamagedDay>,
    ) -> Result<Self, TraceStoreError> {
        let mut tenants_through = HashMap::new();
        for (day, partition) in partitions {
            tenants_through.extend(partition.expired_tenants().into_iter().map(|tenant| (tenant, *day)));
        }
        Ok(Self {
            through: Mutex::new(read_dropped(directory)?),
            tenants_through: Mutex::new(tenants_through),
            damaged: Mutex::new(damaged),
            many_since: Mutex::default(),
        })
    }

    /// Days whose spans nobody sees.
    pub(super) fn days_aside(&self) -> Vec<Day> {
        self.damaged.lock().iter().filter(|damaged| !damaged.is_repaired).map(|damaged| damaged.day).collect()
    }

    /// The newest day of which nothing of a tenant is taken.
    pub(super) fn through(&self, tenant: &TenantId) -> Option<Day> {
        let expired = self.tenants_through.lock().get(tenant).copied();
        (*self.through.lock()).max(expired)
    }
}

/// The newest day that was dropped for the store's size, as far as that is known.
pub(super) fn read_dropped(directory: &Path) -> Result<Option<Day>, TraceStoreError> {
    let path = directory.join(DROPPED_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let day = Day::parse(text.trim_end());
            if day.is_none() {
                tracing::warn!(path = %path.display(), "it does not name a day: late spans may make a dropped day anew");
            }
            Ok(day)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TraceStoreError::io("read", &path)(error)),
    }
}

impl Shared {
    /// Drops the days whose last span is out of every tenant's retention, and of other days the tenants whose
    /// retention ends earlier.
    pub(super) fn drop_expired(&self) -> Result<(), TraceStoreError> {
        let now_ns = u64::try_from(self.clock.unix_ns()).unwrap_or(0);
        let first_ns = now_ns.saturating_sub(self.settings.retention_max_ns());
        let (mut days, mut parts, mut days_of) = (Vec::new(), Vec::new(), HashMap::new());
        let is_out =
            |day: Day, tenant: &TenantId| day.last_ns() < now_ns.saturating_sub(self.settings.retention_ns(tenant));
        for partition in self.partitions_newest_first().into_iter().rev() {
            let day = partition.day();
            let tenants = partition.tenants().into_iter().filter(|tenant| is_out(day, tenant));
            let is_whole = day.last_ns() < first_ns;
            for tenant in tenants {
                *days_of.entry(tenant.clone()).or_insert(0) += 1;
                if !is_whole {
                    parts.push((Arc::clone(&partition), tenant));
                }
            }
            days.extend(is_whole.then_some(day));
        }
        let is_many = days.len() > 1 || days_of.values().any(|days| *days > 1);
        if !self.may_drop(is_many, days.is_empty() && parts.is_empty()) {
            return Ok(());
        }
        let mut result = Ok(());
        for day in days {
            result = result.and(self.drop_damaged(day)).and_then(|()| self.drop_partition(day));
        }
        for (partition, tenant) in parts {
            result = result.and(self.drop_tenant(&partition, &tenant));
        }
        result.and(self.drop_damaged(Day::of(first_ns.saturating_sub(NS_PER_DAY))))
    }

    /// Whether what is out of retention may go now.
    fn may_drop(&self, is_many: bool, is_nothing: bool) -> bool {
        let now = self.clock.monotonic();
        let mut many_since = self.gone.many_since.lock();
        match *many_since {
            _ if is_nothing => {
                *many_since = None;
                true
            }
            None if is_many => {
                *many_since = Some(now);
                tracing::error!(
                    hold = ?HOLD,
                    "by the clock several days of traces are out of retention at once; they are dropped if it still says so after this time"
                );
                false
            }
            Some(since) if now.saturating_duration_since(since) < HOLD => false,
            _ => {
                *many_since = None;
                true
            }
        }
    }

    fn drop_tenant(&self, partition: &Partition, tenant: &TenantId) -> Result<(), TraceStoreError> {
        // Not while a record is applied: it could still bring spans of the tenant.
        let _applied = self.applied.lock();
        let day = partition.day();
        if partition.drop_tenant(tenant)? {
            let mut expired = self.gone.tenants_through.lock();
            let through = expired.entry(tenant.clone()).or_insert(day);
            *through = (*through).max(day);
            tracing::info!(%day, %tenant, "dropped a tenant's traces of a day");
        }
        Ok(())
    }

    /// Drops the oldest days of tenants that have more than they may.
    pub(super) fn drop_oversize_tenants(&self) -> Result<(), TraceStoreError> {
        let mut result = Ok(());
        for rule in &self.settings.retention_rules {
            if let Some(limit) = rule.size {
                result = result.and(self.drop_oversize_tenant(&rule.tenant, limit.0));
            }
        }
        result
    }

    fn drop_oversize_tenant(&self, tenant: &TenantId, limit_bytes: u64) -> Result<(), TraceStoreError> {
        let bytes_of = |partition: Arc<Partition>| {
            let bytes = partition.tenant_bytes(tenant)?;
            Some((partition, bytes))
        };
        let mut days: Vec<_> = self.partitions_newest_first().into_iter().filter_map(bytes_of).collect();
        let mut total: u64 = days.iter().map(|(_, bytes)| bytes).sum();
        while total > limit_bytes && days.len() > 1 {
            let Some((oldest, bytes)) = days.pop() else { break };
            tracing::info!(
                day = %oldest.day(), %tenant, total_bytes = total, limit_bytes, "dropping a tenant's oldest day of traces for its size"
            );
            self.drop_tenant(&oldest, tenant)?;
            total -= bytes;
        }
        Ok(())
    }

    /// Drops the oldest days while the store is too large.
    pub(super) fn drop_oversize(&self) -> Result<(), TraceStoreError> {
        let Some(limit) = self.settings.retention_size else { return Ok(()) };
        loop {
            let partitions = self.partitions_newest_first();
            let size = |partition: &Arc<Partition>| {
                let (span_bytes, index_bytes) = partition.bytes();
                span_bytes + index_bytes
            };
            let damaged_bytes: u64 = self.gone.damaged.lock().iter().map(|damaged| damaged.bytes).sum();
            let total = damaged_bytes + partitions.iter().map(size).sum::<u64>();
            let Some(oldest) = partitions.last().filter(|_| partitions.len() > 1 && total > limit.0) else {
                return Ok(());
            };
            let day = oldest.day();
            if self.gone.damaged.lock().iter().any(|damaged| damaged.day <= day) {
                self.drop_damaged(day)?;
                continue;
            }
            tracing::info!(%day, total_bytes = total, limit_bytes = limit.0, "dropping the oldest day of traces for its size");
            self.remember_dropped(day);
            drop(partitions);
            self.drop_partition(day)?;
        }
    }

    /// So that no late span makes the day anew.
    fn remember_dropped(&self, day: Day) {
        let mut through = self.gone.through.lock();
        *through = (*through).max(Some(day));
        let path = self.directory.join(DROPPED_FILE);
        // A full disk must not keep it from being freed.
        if let Err(error) = replace_file(&path, format!("{day}\n").as_bytes()) {
            tracing::warn!(path = %path.display(), %error, "a dropped day is remembered until a restart only");
        }
    }

    /// Removes the days up to `day` that could not be opened.
    fn drop_damaged(&self, day: Day) -> Result<(), TraceStoreError> {
        let mut damaged = self.gone.damaged.lock();
        while let Some(at) = damaged.iter().position(|damaged| damaged.day <= day) {
            remove_directory(&damaged[at].path)?;
            tracing::info!(path = %damaged[at].path.display(), "dropped a damaged day of traces");
            damaged.remove(at);
        }
        Ok(())
    }

    fn drop_partition(&self, day: Day) -> Result<(), TraceStoreError> {
        // Not while a record is applied: it could still write to it.
        let applied = self.applied.lock();
        let Some(partition) = self.partitions.write().remove(&day) else { return Ok(()) };
        drop(applied);
        if let Err(error) = partition.stop() {
            tracing::warn!(%day, error = %full_message(&error), "a day that is dropped did not stop");
        }
        let days = self.directory.join(DAYS_DIRECTORY);
        let dropped = days.join(format!("{DROPPED_PREFIX}{day}"));
        remove_directory(&dropped)?;
        fs::rename(partition.directory(), &dropped).map_err(TraceStoreError::io("rename", partition.directory()))?;
        sync_directory(&days).map_err(TraceStoreError::io("sync", &days))?;
        // Readers that hold the partition keep their open files.
        remove_directory(&dropped)?;
        tracing::info!(%day, "dropped a day of traces");
        Ok(())
    }
}

fn remove_directory(path: &Path) -> Result<(), TraceStoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(TraceStoreError::io("remove", path)),
    }
}
