//! Series that a batch brings for the first time: added as far as the limits allow, those of a group all or none.

use std::sync::atomic::AtomicU64;

use pharos_model::{MetricBatch, RunGroup, TenantId};
use pharos_storage::RejectReason;

use crate::head::generation::REFUSED;
use crate::head::registry::Registry;
use crate::tenant::Resolved;

/// What there is room for.
pub(crate) struct Room<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) series_max: u64,
    /// Of all tenants' registries together.
    pub(crate) series_bytes_max: u64,
    /// What those of other tenants take.
    pub(crate) other_bytes: u64,
}

/// A batch while its unknown series are added.
pub(crate) struct Newcomers<'a> {
    pub(crate) batch: &'a MetricBatch,
    pub(crate) room: Room<'a>,
    pub(crate) next_log_id: &'a AtomicU64,
    /// Runs of unknown series are [`REFUSED`] here, until they are added.
    pub(crate) resolved: &'a mut Resolved,
    /// Samples, histograms and exemplars that are refused.
    pub(crate) refused: &'a mut [u64; 3],
}

/// Why there is none.
enum NoRoom {
    /// Series take as many bytes as they may.
    Memory,
    /// So many are known, and so many more would be more than the tenant may have.
    Series { known: u64, new: usize },
}

impl NoRoom {
    fn reason(&self) -> RejectReason {
        match self {
            Self::Memory => RejectReason::Limit,
            Self::Series { .. } => RejectReason::SeriesLimit,
        }
    }

    fn words(&self, tenant: &TenantId, series_max: u64, series_bytes_max: u64) -> String {
        match self {
            Self::Memory => format!(
                "series in memory take {series_bytes_max} bytes, half of head_memory_limit; raise it or send fewer series"
            ),
            Self::Series { known, new } => {
                let limit = if *known >= series_max {
                    "its limit".to_owned()
                } else {
                    format!("and {new} more that belong together are more than its limit of {series_max}")
                };
                format!(
                    "tenant {tenant} has {known} active series, {limit}; send fewer, or raise limits.series_active (of all tenants, or of this one under tenants) or tsdb.series_max_per_tenant"
                )
            }
        }
    }
}

impl Newcomers<'_> {
    /// Adds the unknown series of a unit, or refuses all of its runs.
    pub(crate) fn add(&mut self, registry: &mut Registry, unit: &RunGroup) {
        if unit.places().all(|place| self.is_known(place)) {
            return;
        }
        if let Some(why) = self.no_room(registry, unit) {
            let (tenant, series_max, bytes_max) = (self.room.tenant, self.room.series_max, self.room.series_bytes_max);
            return self.refuse(unit, why.reason(), || why.words(tenant, series_max, bytes_max));
        }
        for place in unit.places() {
            if self.is_known(place) {
                continue;
            }
            let run = &self.batch.series[place];
            let (fingerprint, encoded) = (self.batch.fingerprint(run), self.batch.encoded_labels(run));
            match registry.find_or_add(fingerprint, encoded, || self.batch.labels(run), self.next_log_id) {
                Ok(number) => {
                    self.resolved.numbers[place] = number;
                    self.resolved.log_ids[place] = registry.series(number).log_id;
                }
                Err(error) => return self.refuse(unit, RejectReason::InvalidLabels, || error.to_string()),
            }
        }
    }

    fn is_known(&self, place: usize) -> bool {
        self.resolved.numbers[place] != REFUSED
    }

    /// Why the new series of a unit are not taken, if so.
    fn no_room(&self, registry: &Registry, unit: &RunGroup) -> Option<NoRoom> {
        let Room { series_max, series_bytes_max, other_bytes, .. } = self.room;
        let is_memory_full = other_bytes + registry.bytes() >= series_bytes_max;
        let known = registry.len() as u64;
        if !is_memory_full && known + (unit.added.len() + unit.runs.len()) as u64 <= series_max {
            return None;
        }
        // Close to a limit it is worth to look which runs are of one series, or of one that this batch has added.
        let unknown = unit.places().filter(|place| !self.is_known(*place)).map(|place| {
            let run = &self.batch.series[place];
            (self.batch.fingerprint(run), self.batch.encoded_labels(run))
        });
        let mut new: Vec<_> =
            unknown.filter(|(fingerprint, encoded)| registry.find(*fingerprint, encoded).is_none()).collect();
        new.sort_unstable();
        new.dedup();
        if new.is_empty() {
            None
        } else if is_memory_full {
            Some(NoRoom::Memory)
        } else {
            (known + new.len() as u64 > series_max).then_some(NoRoom::Series { known, new: new.len() })
        }
    }

    fn refuse(&mut self, unit: &RunGroup, reason: RejectReason, words: impl FnOnce() -> String) {
        for place in unit.places() {
            let run = &self.batch.series[place];
            self.resolved.numbers[place] = REFUSED;
            self.resolved.log_ids[place] = 0;
            self.refused[0] += run.samples.len() as u64;
            self.refused[1] += run.histograms.len() as u64;
            self.refused[2] += run.exemplars.len() as u64;
            self.resolved.outcome.refused_runs.push(place);
        }
        self.resolved.outcome.reject(reason, unit.items, words);
    }
}
