//! Opening a store: what is on disk becomes what is in memory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hashbrown::{HashMap, HashSet};
use pharos_model::{MetricBatch, TenantId};

use crate::TsdbError;
use crate::disk::Disk;
use crate::head::generation::REFUSED;
use crate::head::registry::SeriesNumber;
use crate::log::record::Decoded;
use crate::log::recovery::Replay;
use crate::metadata;
use crate::part::index::IndexCache;
use crate::part::meta::META_FILE;
use crate::part::writer::TEMPORARY_PREFIX;
use crate::part::{self, Part};
use crate::settings::Settings;
use crate::shared::{PARTS_DIR, tenants_dir};
use crate::tenant::{Tenant, Tenants};
use crate::tombstones;

/// Opens all parts and metadata; answers what could not be opened and the next free part number.
pub(crate) fn load_tenants(
    disk: &dyn Disk,
    dir: &Path,
    tenants: &Tenants,
    index_cache: &Arc<IndexCache>,
) -> Result<(Vec<String>, Arc<AtomicU64>), TsdbError> {
    let root = tenants_dir(dir);
    let mut loading = Loading { disk, index_cache, damaged: Vec::new(), next: 1 };
    for entry in fs::read_dir(&root).map_err(TsdbError::io("list", &root))? {
        let name = entry.map_err(TsdbError::io("list", &root))?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<TenantId>().ok()) else {
            tracing::warn!(path = %root.join(name).display(), "not a tenant's directory, left alone");
            continue;
        };
        let tenant = tenants.get_or_create(&id);
        let path = root.join(&name);
        match metadata::read(&path) {
            Ok(all) => tenant.metadata.write().extend(all.into_iter().map(|one| (one.metric.clone(), one))),
            Err(error) => report(&mut loading.damaged, &error),
        }
        let tombstones = tombstones::read(&path)?;
        let newest = tombstones.last().map_or(0, |tombstone| tombstone.sequence);
        loading.next = loading.next.max(newest.saturating_add(1));
        tenant.state.write().tombstones = tombstones;
        loading.load_parts(&path.join(PARTS_DIR), &tenant)?;
    }
    Ok((loading.damaged, Arc::new(AtomicU64::new(loading.next))))
}

/// What opening parts needs, and what it has found so far.
struct Loading<'a> {
    disk: &'a dyn Disk,
    index_cache: &'a Arc<IndexCache>,
    damaged: Vec<String>,
    /// The next free part number.
    next: u64,
}

impl Loading<'_> {
    fn load_parts(&mut self, dir: &Path, tenant: &Tenant) -> Result<(), TsdbError> {
        let (mut opened, mut failed) = (Vec::new(), Vec::new());
        for name in &part::list(dir)? {
            let path = dir.join(name);
            if name.starts_with(TEMPORARY_PREFIX) {
                self.disk.remove_dir_all(&path).map_err(TsdbError::io("remove", &path))?;
                continue;
            }
            // A damaged part still occupies its number, and its sequence, which is no higher.
            let number = part::number_of(name);
            self.next = self.next.max(number.map_or(0, |number| number.saturating_add(1)));
            match Part::open(&path, self.index_cache).and_then(|part| check_place(part, number, &tenant.id)) {
                Ok(part) => {
                    part.rollup_errors.iter().for_each(|error| report(&mut self.damaged, error));
                    self.next = self.next.max(part.meta.sequence.saturating_add(1));
                    opened.push(part);
                }
                Err(error) => failed.push((path, number, error)),
            }
        }
        // Only a part that opens replaces others: until then they are all there is.
        let replaced: HashSet<u64> = opened.iter().flat_map(|part| part.meta.replaces.iter().copied()).collect();
        if !replaced.is_empty() {
            // A process may have died between the rename that published the new part and its sync.
            self.disk.sync_dir(dir).map_err(TsdbError::io("sync", dir))?;
        }
        let mut parts = Vec::new();
        for part in opened {
            if replaced.contains(&part.meta.number) {
                part::remove(self.disk, &part.dir)?;
            } else {
                parts.push(Arc::new(part));
            }
        }
        for (path, number, error) in failed {
            if number.is_some_and(|number| replaced.contains(&number)) {
                part::remove(self.disk, &path)?;
            } else {
                report(&mut self.damaged, &error);
                tenant.unopened.lock().push(path);
            }
        }
        parts.sort_by_key(|part| part.meta.sequence);
        tenant.state.write().parts = parts;
        Ok(())
    }
}

/// A copy of another part's folder would hide, or be removed in place of, the one whose number it bears.
fn check_place(part: Part, number: Option<u64>, tenant: &TenantId) -> Result<Part, TsdbError> {
    if number == Some(part.meta.number) && part.meta.tenant == tenant.as_str() {
        return Ok(part);
    }
    let of = (part.meta.number, &part.meta.tenant);
    let reason = format!("it is of part {:016x} of tenant {}: a part is served only under its own name", of.0, of.1);
    Err(TsdbError::Corrupt { what: "part description", path: part.dir.join(META_FILE), offset: 0, reason })
}

fn report(damaged: &mut Vec<String>, error: &TsdbError) {
    tracing::error!(error = %error, "damaged file is left untouched and not served");
    damaged.push(error.to_string());
}

/// Replays the log into the tenants' heads.
pub(crate) struct HeadReplay<'a> {
    pub(crate) tenants: &'a Tenants,
    settings: &'a Settings,
    /// The segment whose records were replayed last, or 0.
    segment: u64,
    ids: LogIds,
    pub(crate) samples: u64,
}

/// What the ids of one segment mean.
#[derive(Default)]
struct LogIds {
    owners: Vec<TenantId>,
    defined: Vec<Defined>,
    places: HashMap<u64, u32>,
}

#[derive(Clone, Copy)]
struct Defined {
    log_id: u64,
    /// Place of the tenant in `owners`.
    owner: u32,
    number: SeriesNumber,
}

impl LogIds {
    /// The place of a tenant.
    fn owner(&mut self, tenant: &TenantId) -> u32 {
        // The last one is mostly the one.
        if let Some(place) = self.owners.iter().rposition(|known| known == tenant) {
            return place as u32;
        }
        self.owners.push(tenant.clone());
        self.owners.len() as u32 - 1
    }

    fn push(&mut self, defined: Defined) {
        self.places.insert(defined.log_id, self.defined.len() as u32);
        self.defined.push(defined);
    }

    /// The series of a tenant's batch.
    fn numbers(&self, owner: u32, log_ids: &[u64]) -> Result<Vec<SeriesNumber>, String> {
        let mut guess = 0;
        let find = |log_id: &u64| {
            // Series are defined in the order of the batch that first had them, and batches repeat it.
            if self.defined.get(guess).is_none_or(|defined| defined.log_id != *log_id) {
                guess = self.places.get(log_id).map_or(usize::MAX, |place| *place as usize);
            }
            let found = self.defined.get(guess).filter(|defined| defined.owner == owner);
            guess = guess.saturating_add(1);
            found
                .map(|defined| defined.number)
                .ok_or_else(|| format!("batch refers to series {log_id}, which is not defined"))
        };
        log_ids.iter().map(find).collect()
    }
}

impl<'a> HeadReplay<'a> {
    pub(crate) fn new(tenants: &'a Tenants, settings: &'a Settings) -> Self {
        Self { tenants, settings, segment: 0, ids: LogIds::default(), samples: 0 }
    }

    /// Ends the replay.
    pub(crate) fn finish(&mut self) {
        self.end_generations(u64::MAX);
    }

    /// Between the segment replayed and the `next` there may have been deletes: what was replayed so far gets its
    /// place before the first of them.
    fn end_generations(&mut self, next: u64) {
        for tenant in self.tenants.all() {
            let tombstones = Arc::clone(&tenant.state.read().tombstones);
            let first = tombstones.iter().find(|tombstone| tombstone.last_segment >= self.segment);
            if let Some(first) = first.filter(|first| first.last_segment < next) {
                tenant.freeze(self.settings, first.sequence - 1);
            }
        }
    }

    fn batch(&mut self, tenant: &TenantId, log_ids: &[u64], batch: &MetricBatch) -> Result<(), String> {
        let owner = self.ids.owner(tenant);
        let numbers = self.ids.numbers(owner, log_ids)?;
        debug_assert!(!numbers.contains(&REFUSED));
        let tenant = self.tenants.get_or_create(tenant);
        let registry = Arc::clone(&tenant.state.read().active.registry);
        tenant.apply(batch, &registry, &numbers, self.settings.exemplars_max);
        self.samples += batch.sample_count() as u64;
        Ok(())
    }
}

impl Replay for HeadReplay<'_> {
    fn begin_segment(&mut self, number: u64) {
        self.end_generations(number);
        self.segment = number;
        self.ids = LogIds::default();
    }

    fn record(&mut self, record: Decoded) -> Result<(), String> {
        match record {
            Decoded::Definitions(tenant, series) => {
                let owner = self.ids.owner(&tenant);
                let (tenant, ids) = (self.tenants.get_or_create(&tenant), &mut self.ids);
                self.tenants.define(&tenant, series, |log_id, number| ids.push(Defined { log_id, owner, number }));
                Ok(())
            }
            Decoded::Batch(tenant, log_ids, batch) => self.batch(&tenant, &log_ids, &batch),
        }
    }
}
