//! Compaction and retention: many parts become few, old ones go.
//!
//! A merged part takes the highest sequence of its sources, so it may only replace a set of parts that
//! no other overlapping part stands between: precedence (S2) must not change. The description of the
//! new part lists its sources; a crash between publishing it and removing them is cleaned up at start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_chunk::Form;
use pharos_model::{Labels, TimeRange};

use crate::TsdbError;
use crate::merge::Merge;
use crate::part::exemplars;
use crate::part::writer::{PartPlan, PartWriter};
use crate::part::{self, Part, PartCursor};
use crate::samples::Samples;
use crate::shared::Shared;
use crate::source::Source;
use crate::tenant::Tenant;
use crate::windows;

/// Parts of one level in one window that are merged before the window is over.
const TIER_PARTS: usize = 4;
/// A query reads whole blocks, and merging holds one: parts that would need a larger one stay apart.
/// That is 256 KiB a series: three days of doubles without any pattern, one every 8 seconds.
const MERGED_BODIES_MAX: usize = 64 << 20;
/// Merged windows from this length on are encoded in the cold form: shorter ones are merged again soon.
const COLD_WINDOW_MS: i64 = 8 * 3_600_000;
/// A part is written again once one of so many of its series is hidden.
const HIDDEN_SHARE: u64 = 10;
/// A window counts as over this long after its end: stragglers are cheaper in the head.
const WINDOW_GRACE_MS: i64 = 30 * 60_000;

impl Shared {
    /// Merges everything that can be merged: at most one part per largest window remains, but for damaged
    /// parts and for those that a part of another length of window stands between.
    pub(crate) fn compact_all(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.compacting.lock();
        self.flush()?;
        self.retain_locked()?;
        for tenant in self.tenants.all() {
            let ladder = windows::ladder(self.retention.default_ms(&tenant.id));
            let largest = *ladder.last().expect("the ladder is never empty");
            for (start, parts) in by_window(&tenant, largest) {
                // One alone that is not in the cold form yet is rewritten too.
                if (parts.len() > 1 || parts.iter().any(|part| !is_cold(part))) && may_merge(&tenant, &parts) {
                    self.merge_parts(&tenant, &parts, windows::window_of(start, largest))?;
                }
            }
            self.clean(&tenant)?;
        }
        Ok(())
    }

    /// Takes everything deleted off the disk.
    pub(crate) fn clean_tombstones(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.compacting.lock();
        let mut tenants = self.tenants.all();
        tenants.retain(|tenant| !tenant.state.read().tombstones.is_empty());
        if tenants.is_empty() {
            return Ok(());
        }
        self.flush()?;
        tenants.iter().map(|tenant| self.clean(tenant)).fold(Ok(()), Result::and)
    }

    /// Rewrites the parts of a tenant that hold something deleted, and drops the tombstones that this leaves without
    /// work.
    fn clean(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        let (parts, tombstones) = {
            let state = tenant.state.read();
            (state.parts.clone(), Arc::clone(&state.tombstones))
        };
        for part in parts {
            let mut holds_deleted = false;
            for tombstone in tombstones.iter() {
                holds_deleted = holds_deleted || part.holds_deleted(tombstone)?;
            }
            if holds_deleted || self.hidden_series(tenant, &part)? > 0 {
                self.rewrite(tenant, &part)?;
            }
        }
        self.drop_spent_tombstones(tenant)
    }

    /// Series of a part of which deletes and retention leave nothing to see.
    fn hidden_series(&self, tenant: &Tenant, part: &Part) -> Result<u64, TsdbError> {
        let hiding = self.hiding(&tenant.id, &tenant.state.read());
        if !hiding.concerns_part(part, TimeRange::ALL) {
            return Ok(0);
        }
        let all = part.index.all();
        let mut left = all.clone();
        hiding.of_part(part, TimeRange::ALL, &mut left)?;
        Ok(all.len() - left.len())
    }

    /// Writes a part again without what is hidden of it.
    fn rewrite(&self, tenant: &Tenant, part: &Arc<Part>) -> Result<(), TsdbError> {
        let window = TimeRange::new(part.meta.window_start_ms, part.meta.window_end_ms);
        self.merge_parts(tenant, std::slice::from_ref(part), window)
    }

    /// Merges what is due.
    pub(crate) fn compact_due(&self) -> Result<(), TsdbError> {
        // One tenant's fault must not keep the others' parts from being merged.
        self.tenants.all().iter().map(|tenant| self.compact_tenant(tenant)).fold(Ok(()), Result::and)
    }

    fn compact_tenant(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        loop {
            let _one_at_a_time = self.compacting.lock();
            if self.wake.is_stopping() {
                return Ok(());
            }
            if let Some((parts, window)) = self.next_merge(tenant) {
                self.merge_parts(tenant, &parts, window)?;
            } else if let Some(part) = self.next_rewrite(tenant)? {
                self.rewrite(tenant, &part)?;
            } else {
                return self.drop_spent_tombstones(tenant);
            }
        }
    }

    fn next_merge(&self, tenant: &Tenant) -> Option<(Vec<Arc<Part>>, TimeRange)> {
        let ladder = windows::ladder(self.retention.default_ms(&tenant.id));
        let over_ms = self.clock.unix_ms().saturating_sub(WINDOW_GRACE_MS);
        for length in ladder {
            for (start, parts) in by_window(tenant, *length) {
                let window = windows::window_of(start, *length);
                if window.end_ms <= over_ms && parts.len() > 1 && may_merge(tenant, &parts) {
                    return Some((parts, window));
                }
                if *length == ladder[0]
                    && let Some(tier) = full_tier(&parts)
                    && may_merge(tenant, &tier)
                {
                    return Some((tier, window));
                }
            }
        }
        None
    }

    /// A part of which so many series are hidden that writing it again is worth it. Each loses them only once.
    fn next_rewrite(&self, tenant: &Tenant) -> Result<Option<Arc<Part>>, TsdbError> {
        let parts = tenant.state.read().parts.clone();
        for part in parts {
            let hidden = self.hidden_series(tenant, &part)?;
            if hidden > 0 && hidden * HIDDEN_SHARE >= part.meta.series && !part.unmergeable.load(Ordering::Relaxed) {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    fn merge_parts(&self, tenant: &Tenant, parts: &[Arc<Part>], window: TimeRange) -> Result<(), TsdbError> {
        let merged = match self.write_merged(tenant, parts, window) {
            Ok(merged) => merged,
            Err(error) => {
                let too_large = matches!(error, TsdbError::BlockTooLarge { .. });
                if too_large || matches!(error, TsdbError::Checksum { .. } | TsdbError::Corrupt { .. }) {
                    // Trying again would fail again; the parts stay as they are and go on being served.
                    for part in parts {
                        part.unmergeable.store(true, Ordering::Relaxed);
                    }
                }
                return if too_large { Ok(()) } else { Err(error) };
            }
        };
        let mut state = tenant.state.write();
        state.parts.retain(|part| !parts.iter().any(|source| source.meta.number == part.meta.number));
        state.parts.extend(merged);
        state.parts.sort_by_key(|part| part.meta.sequence);
        drop(state);
        // One that cannot be removed must not keep the others.
        parts.iter().map(|source| self.remove_part(source)).fold(Ok(()), Result::and)
    }

    /// Writes the merged part; `None` if retention leaves nothing of it.
    fn write_merged(
        &self,
        tenant: &Tenant,
        parts: &[Arc<Part>],
        window: TimeRange,
    ) -> Result<Option<Arc<Part>>, TsdbError> {
        let hiding = self.hiding(&tenant.id, &tenant.state.read());
        let form = if is_cold_window(window) { Form::Cold } else { Form::Young };
        let plan = PartPlan {
            parts_dir: self.parts_dir(&tenant.id),
            tenant: tenant.id.clone(),
            number: self.next_part.fetch_add(1, Ordering::Relaxed),
            sequence: parts.iter().map(|part| part.meta.sequence).max().unwrap_or(0),
            window,
            level: parts.iter().map(|part| part.meta.level).max().unwrap_or(0)
                + u32::from(parts.len() > 1 || form == Form::Cold),
            replaces: self.replaced_by(tenant, parts),
            cleaned: hiding.tombstones.last().map_or(0, |tombstone| tombstone.sequence),
            form,
            index_cache: Arc::clone(&self.index_cache),
            bodies_max: MERGED_BODIES_MAX,
        };
        let mut writer = PartWriter::create(Arc::clone(&self.disk), plan)?;
        let kept = TimeRange::new(hiding.cut_offs.oldest_ms, i64::MAX);
        let mut sources = Vec::with_capacity(parts.len());
        for part in parts {
            let mut selected = part.index.all();
            let masks = hiding.of_part(part, kept, &mut selected)?;
            sources.push(Source::part(PartCursor::new(Arc::clone(part), selected, None), masks));
        }
        let mut merge = Merge::new(sources);
        let mut samples = Samples::default();
        while merge.next()? {
            merge.read(kept, &mut samples)?;
            writer.add_series(merge.labels()?, &samples)?;
        }
        let mut entries = Vec::new();
        let mut invalid = false;
        for part in parts {
            let (sequence, cleaned) = (part.meta.sequence, part.meta.cleaned);
            part.exemplars(&mut |encoded, exemplar| match Labels::from_encoded(encoded) {
                Ok(labels) => {
                    let at_ms = exemplar.timestamp_ms;
                    if kept.contains(at_ms) && !hiding.hides_exemplar(sequence, cleaned, &labels, at_ms) {
                        entries.push((labels, exemplar));
                    }
                }
                Err(_) => invalid = true,
            })?;
        }
        if invalid {
            tracing::error!(tenant = %tenant.id, "exemplars of series with invalid labels are dropped");
        }
        exemplars::sort(&mut entries);
        if writer.series_count() == 0 && entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(writer.finish(&entries)?)))
    }

    /// The numbers of the sources, and of those they replaced themselves and that could not be removed: once
    /// the sources are gone nobody else would tell the next start.
    fn replaced_by(&self, tenant: &Tenant, parts: &[Arc<Part>]) -> Vec<u64> {
        let listed = std::fs::read_dir(self.parts_dir(&tenant.id)).into_iter().flatten().flatten();
        let present: Vec<u64> = listed.filter_map(|entry| part::number_of(entry.file_name().to_str()?)).collect();
        let inherited = parts.iter().flat_map(|part| &part.meta.replaces).filter(|number| present.contains(number));
        parts.iter().map(|part| part.meta.number).chain(inherited.copied()).collect()
    }

    /// Deletes parts that are too old, then the oldest while all are too large.
    pub(crate) fn apply_retention(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.compacting.lock();
        self.retain_locked()
    }

    fn retain_locked(&self) -> Result<(), TsdbError> {
        for tenant in self.tenants.all() {
            let oldest_ms = self.kept(&tenant.id, TimeRange::ALL).start_ms;
            self.drop_parts(&tenant, |part| part.meta.max_time_ms < oldest_ms)?;
        }
        let Some(size_max) = self.settings.retention_size else { return Ok(()) };
        let mut all: Vec<_> = self
            .tenants
            .all()
            .into_iter()
            .flat_map(|tenant| {
                let parts = tenant.state.read().parts.clone();
                parts.into_iter().map(move |part| (Arc::clone(&tenant), part))
            })
            .collect();
        all.sort_by_key(|(_, part)| part.meta.max_time_ms);
        let mut total: u64 = all.iter().map(|(_, part)| part.meta.file_bytes()).sum();
        for (tenant, oldest) in all {
            if total <= size_max.0 {
                break;
            }
            total -= oldest.meta.file_bytes();
            self.drop_parts(&tenant, |part| part.meta.number == oldest.meta.number)?;
        }
        Ok(())
    }

    fn drop_parts(&self, tenant: &Tenant, condemned: impl Fn(&Part) -> bool) -> Result<(), TsdbError> {
        let mut dropped = Vec::new();
        tenant.state.write().parts.retain(|part| {
            let goes = condemned(part);
            if goes {
                dropped.push(Arc::clone(part));
            }
            !goes
        });
        if !dropped.is_empty() {
            tenant.changes.changed_everywhere();
        }
        for part in dropped {
            tracing::info!(part = %part.dir.display(), "retention deletes a part");
            self.remove_part(&part)?;
        }
        Ok(())
    }

    fn remove_part(&self, part: &Part) -> Result<(), TsdbError> {
        self.cache.forget(part.meta.number);
        part::remove(self.disk.as_ref(), &part.dir).inspect_err(|_| {
            // A restart may find it again: tombstones that hide something of it must stay.
            self.tombstones_stay.store(true, Ordering::Relaxed);
        })
    }
}

fn is_cold_window(window: TimeRange) -> bool {
    window.end_ms.saturating_sub(window.start_ms) >= COLD_WINDOW_MS
}

/// Whether the part was merged into a window that is encoded in the cold form.
fn is_cold(part: &Part) -> bool {
    part.meta.level > 0 && is_cold_window(TimeRange::new(part.meta.window_start_ms, part.meta.window_end_ms))
}

/// Whether nothing that overlaps them stands between them in precedence, and none is known not to merge.
fn may_merge(tenant: &Tenant, parts: &[Arc<Part>]) -> bool {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let between = first.meta.sequence..=last.meta.sequence;
    let covers = |other: &Part| {
        parts.iter().any(|part| {
            other.meta.min_time_ms <= part.meta.max_time_ms && part.meta.min_time_ms <= other.meta.max_time_ms
        })
    };
    let others = tenant.state.read().parts.clone();
    parts.iter().all(|part| !part.unmergeable.load(Ordering::Relaxed))
        && !others.iter().any(|other| {
            between.contains(&other.meta.sequence)
                && !parts.iter().any(|part| part.meta.number == other.meta.number)
                && covers(other)
        })
}

/// Parts that lie within one window of the length, by its start; each by sequence ascending.
fn by_window(tenant: &Tenant, length_ms: i64) -> BTreeMap<i64, Vec<Arc<Part>>> {
    let mut groups: BTreeMap<i64, Vec<Arc<Part>>> = BTreeMap::new();
    for part in &tenant.state.read().parts {
        let window = windows::window_of(part.meta.window_start_ms, length_ms);
        if part.meta.window_end_ms <= window.end_ms {
            groups.entry(window.start_ms).or_default().push(Arc::clone(part));
        }
    }
    groups
}

/// The first run of neighbours of one level that is long enough to merge.
fn full_tier(parts: &[Arc<Part>]) -> Option<Vec<Arc<Part>>> {
    parts.chunk_by(|a, b| a.meta.level == b.meta.level).find(|run| run.len() >= TIER_PARTS).map(<[_]>::to_vec)
}
