//! One tenant's share of the store: its head, its parts, its metadata.
//!
//! Lock order: tenants, then one tenant's state, then what a generation locks.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use pharos_model::{Labels, MetricBatch, MetricMetadata, RunGroup, RunLabels, SeriesRun, TenantId};
use pharos_storage::{AppendOutcome, ChangeLog};

use crate::head::generation::{Generation, REFUSED};
use crate::head::registry::{Registry, SeriesNumber};
use crate::newcomers::{Newcomers, Room};
use crate::part::Part;
use crate::settings::Settings;
use crate::tombstones::Tombstone;

/// Registries up to this size are not worth rebuilding.
const FORGET_MIN: usize = 4096;

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) state: RwLock<State>,
    pub(crate) metadata: RwLock<BTreeMap<String, MetricMetadata>>,
    /// For caches of answers.
    pub(crate) changes: ChangeLog,
    /// Whether the entries of its directories are known to be durable.
    pub(crate) dirs_durable: AtomicBool,
    /// Whether metadata changed since it was written to its file.
    pub(crate) metadata_changed: AtomicBool,
    /// Merges failed in a row, and when the next may be tried.
    pub(crate) merge_failures: Mutex<Option<(u32, Instant)>>,
    /// Folders of parts that could not be opened at start.
    pub(crate) unopened: Mutex<Vec<PathBuf>>,
    /// Held by whoever changes the tombstones: one at a time. Taken before `state`. True while a file of them that
    /// readers know may not be durable, as its directory could not be synced.
    pub(crate) deleting: Mutex<bool>,
    /// Series that may be active, as of the last batch; [`u64::MAX`]: no limit.
    series_max: AtomicU64,
}

/// What readers take a copy of, oldest first: parts, frozen generations, the active one.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) active: Arc<Generation>,
    pub(crate) frozen: Vec<Arc<Generation>>,
    /// By sequence ascending.
    pub(crate) parts: Vec<Arc<Part>>,
    /// What was deleted and is still there, by sequence ascending.
    pub(crate) tombstones: Arc<[Tombstone]>,
}

/// All tenants and the counter of log ids.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    by_id: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    next_log_id: AtomicU64,
    /// Bytes of all registries: exact as of the last commit, plus what was added since.
    pub(crate) series_bytes: AtomicU64,
}

/// Bytes of all heads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HeadMemory {
    /// Samples and exemplars that no flush has taken yet.
    pub(crate) active: u64,
    /// Those that a flush is bringing to parts.
    pub(crate) frozen: u64,
    /// Series, whether they have samples or not.
    pub(crate) series: u64,
    /// Series that samples are kept for.
    pub(crate) slots: u64,
}

/// A batch's runs as numbers of one registry.
pub(crate) struct Resolved {
    pub(crate) registry: Arc<RwLock<Registry>>,
    pub(crate) numbers: Vec<SeriesNumber>,
    pub(crate) log_ids: Vec<u64>,
    pub(crate) outcome: AppendOutcome,
}

impl Tenants {
    pub(crate) fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.by_id.read().get(id).cloned()
    }

    pub(crate) fn get_or_create(&self, id: &TenantId) -> Arc<Tenant> {
        if let Some(tenant) = self.get(id) {
            return tenant;
        }
        let mut by_id = self.by_id.write();
        let tenant = by_id.entry(id.clone()).or_insert_with(|| Arc::new(Tenant::new(id.clone())));
        Arc::clone(tenant)
    }

    /// As [`Tenants::get_or_create`], but no new one where there are as many as there may be.
    pub(crate) fn get_or_admit(&self, id: &TenantId, tenants_max: NonZeroUsize) -> Option<Arc<Tenant>> {
        if let Some(tenant) = self.get(id) {
            return Some(tenant);
        }
        let mut by_id = self.by_id.write();
        if by_id.len() >= tenants_max.get() && !by_id.contains_key(id) {
            return None;
        }
        let tenant = by_id.entry(id.clone()).or_insert_with(|| Arc::new(Tenant::new(id.clone())));
        Some(Arc::clone(tenant))
    }

    /// Whether this tenant is known, or there are fewer than there may be.
    pub(crate) fn has_room_for(&self, id: &TenantId, tenants_max: NonZeroUsize) -> bool {
        let by_id = self.by_id.read();
        by_id.contains_key(id) || by_id.len() < tenants_max.get()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        self.by_id.read().values().cloned().collect()
    }

    /// Finds the series of a batch; unknown ones are added as far as the limit allows.
    pub(crate) fn resolve(&self, tenant: &Tenant, batch: &MetricBatch, settings: &Settings) -> Resolved {
        let registry = Arc::clone(&tenant.state.read().active.registry);
        let mut resolved =
            Resolved { registry, numbers: Vec::new(), log_ids: Vec::new(), outcome: AppendOutcome::default() };
        let (mut unknown, mut unshared) = (Vec::new(), Vec::new());
        {
            let known = resolved.registry.read();
            resolved.numbers.reserve(batch.series.len());
            resolved.log_ids.reserve(batch.series.len());
            let mut previous = None;
            for (index, run) in batch.series.iter().enumerate() {
                let Some(number) = known.find_after(previous, batch, run) else {
                    resolved.log_ids.push(0);
                    resolved.numbers.push(REFUSED);
                    unknown.push(index);
                    continue;
                };
                let series = known.series(number);
                resolved.log_ids.push(series.log_id);
                resolved.numbers.push(number);
                if matches!(run.labels, RunLabels::Shared(_)) && !series.shares_labels_of(run) {
                    unshared.push(index);
                }
                previous = Some(number);
            }
        }
        if !unshared.is_empty() {
            let mut registry = resolved.registry.write();
            for index in unshared {
                registry.share_labels(resolved.numbers[index], &batch.series[index]);
            }
        }
        let mut refused_items = [0_u64; 3];
        if !unknown.is_empty() {
            self.add_unknown(tenant, batch, &unknown, settings, &mut resolved, &mut refused_items);
        }
        resolved.outcome.refused_runs.sort_unstable();
        resolved.outcome.items = batch.samples.len() as u64 - refused_items[0];
        resolved.outcome.histograms = batch.histograms.len() as u64 - refused_items[1];
        resolved.outcome.exemplars = batch.exemplars.len() as u64 - refused_items[2];
        resolved
    }

    /// Adds the series of `unknown` runs, as far as the limits allow; notes what they do not.
    fn add_unknown(
        &self,
        tenant: &Tenant,
        batch: &MetricBatch,
        unknown: &[usize],
        settings: &Settings,
        resolved: &mut Resolved,
        refused: &mut [u64; 3],
    ) {
        let shared = Arc::clone(&resolved.registry);
        let mut registry = shared.write();
        let bytes_before = registry.bytes();
        let room = Room {
            tenant: &tenant.id,
            series_max: tenant.series_max.load(Ordering::Relaxed).min(u64::from(REFUSED)),
            series_bytes_max: settings.series_memory_max(),
            // What other tenants have; those of this one are counted anew with each series.
            other_bytes: self.series_bytes.load(Ordering::Relaxed).saturating_sub(bytes_before),
        };
        let mut newcomers = Newcomers { batch, room, next_log_id: &self.next_log_id, resolved, refused };
        if batch.groups.is_empty() {
            for place in unknown {
                newcomers.add(&mut registry, &RunGroup::alone(*place, &batch.series[*place]));
            }
        } else {
            for unit in batch.units() {
                newcomers.add(&mut registry, &unit);
            }
        }
        self.series_bytes.fetch_add(registry.bytes() - bytes_before, Ordering::Relaxed);
    }

    /// Counts the heads of all tenants.
    pub(crate) fn count_memory(&self) -> HeadMemory {
        let mut all = HeadMemory::default();
        for tenant in self.all() {
            let state = tenant.state.read();
            all.active += state.active.bytes();
            all.slots += state.active.slots();
            all.series += state.active.registry.read().bytes();
            let mut newer = &state.active.registry;
            for generation in state.frozen.iter().rev() {
                all.frozen += generation.bytes();
                if !Arc::ptr_eq(&generation.registry, newer) {
                    all.series += generation.registry.read().bytes();
                    newer = &generation.registry;
                }
            }
        }
        self.series_bytes.store(all.series, Ordering::Relaxed);
        all
    }

    /// The numbers of these series, for replay: limits do not apply to what was acknowledged.
    pub(crate) fn define(&self, tenant: &Tenant, series: Vec<(u64, Labels)>, mut each: impl FnMut(u64, SeriesNumber)) {
        let registry = Arc::clone(&tenant.state.read().active.registry);
        let mut registry = registry.write();
        for (log_id, labels) in series {
            each(log_id, registry.find_or_add_labels(labels, &self.next_log_id));
        }
    }
}

impl Tenant {
    fn new(id: TenantId) -> Self {
        let active = Arc::new(Generation::new(Arc::default()));
        Self {
            id,
            state: RwLock::new(State { active, frozen: Vec::new(), parts: Vec::new(), tombstones: Arc::default() }),
            changes: ChangeLog::new(),
            metadata: RwLock::default(),
            dirs_durable: AtomicBool::new(false),
            metadata_changed: AtomicBool::new(false),
            merge_failures: Mutex::new(None),
            unopened: Mutex::default(),
            deleting: Mutex::new(false),
            series_max: AtomicU64::new(u64::MAX),
        }
    }

    /// Replaces the active generation by an empty one, if there is anything in it; `sequence` is its place among
    /// the parts. Only the commit thread and replay call this, so nothing is applied in between.
    pub(crate) fn freeze(&self, settings: &Settings, sequence: u64) {
        let active = Arc::clone(&self.state.read().active);
        if active.is_empty() {
            return;
        }
        let known = active.registry.read().len();
        let limit_near = known as u64 >= self.series_max.load(Ordering::Relaxed)
            || active.registry.read().bytes() >= settings.series_memory_max() / 2;
        let live = active.series_count();
        let registry = if (known > FORGET_MIN && live < known / 2) || (limit_near && live < known) {
            // Series that got nothing since the last flush are forgotten; batches in flight are renumbered.
            Arc::new(RwLock::new(active.live_registry()))
        } else {
            Arc::clone(&active.registry)
        };
        active.freeze(sequence);
        let mut state = self.state.write();
        state.active = Arc::new(Generation::new(registry));
        state.frozen.push(active);
    }

    /// Takes the lower of two limits of its active series.
    pub(crate) fn limit_series(&self, of_all: Option<NonZeroU64>, own: Option<u64>) {
        let max = of_all.map_or(u64::MAX, NonZeroU64::get).min(own.unwrap_or(u64::MAX));
        self.series_max.store(max, Ordering::Relaxed);
    }

    /// The newest segment that a tombstone knows, or 0.
    pub(crate) fn last_deleted_segment(&self) -> u64 {
        self.state.read().tombstones.last().map_or(0, |tombstone| tombstone.last_segment)
    }

    /// Leaves only metadata that says something new, at most as much as the limit allows.
    pub(crate) fn keep_new_metadata(&self, batch: &mut MetricBatch, metadata_max: usize) {
        if batch.metadata.is_empty() {
            return;
        }
        let known = self.metadata.read();
        let room = metadata_max.saturating_sub(known.len());
        let mut added = 0;
        batch.metadata.retain(|metadata| {
            if let Some(found) = known.get(&metadata.metric) {
                return found != metadata;
            }
            added += 1;
            added <= room
        });
    }

    /// Makes a synced batch visible.
    pub(crate) fn apply(
        &self,
        batch: &MetricBatch,
        registry: &Arc<RwLock<Registry>>,
        numbers: &[SeriesNumber],
        exemplars_max: usize,
    ) {
        let active = Arc::clone(&self.state.read().active);
        if Arc::ptr_eq(&active.registry, registry) {
            active.apply(batch, numbers, exemplars_max);
        } else {
            // The registry was rebuilt between resolving and syncing.
            let numbers = renumber(&active, registry, &batch.series, numbers);
            active.apply(batch, &numbers, exemplars_max);
        }
        self.changes.appended(batch);
        if !batch.metadata.is_empty() {
            let mut known = self.metadata.write();
            for metadata in &batch.metadata {
                known.insert(metadata.metric.clone(), metadata.clone());
            }
            self.metadata_changed.store(true, Ordering::Relaxed);
        }
    }
}

fn renumber(
    active: &Generation,
    old: &RwLock<Registry>,
    runs: &[SeriesRun],
    numbers: &[SeriesNumber],
) -> Vec<SeriesNumber> {
    let old = old.read();
    let mut registry = active.registry.write();
    debug_assert_eq!(runs.len(), numbers.len());
    numbers
        .iter()
        .map(|number| if *number == REFUSED { REFUSED } else { registry.adopt(old.series(*number)) })
        .collect()
}
