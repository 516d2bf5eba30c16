//! What goes: parts that are too old or too many, series that rules and deletes have hidden.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_model::TimeRange;

use crate::TsdbError;
use crate::pace::Pace;
use crate::part::{self, Part};
use crate::shared::Shared;
use crate::tenant::Tenant;

/// A part is written again once one of so many of its series is hidden.
const HIDDEN_SHARE: u64 = 10;

impl Shared {
    /// Deletes parts that are too old, then the oldest while all are too large.
    pub(crate) fn apply_retention(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.compacting.lock();
        self.retain_locked()
    }

    /// As [`Shared::apply_retention`], by a caller who holds `compacting`.
    pub(crate) fn retain_locked(&self) -> Result<(), TsdbError> {
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
        let _none_is_linked = self.parts_stay.lock();
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

    /// Removes a part that no reader will be given any more.
    pub(crate) fn remove_part(&self, part: &Part) -> Result<(), TsdbError> {
        self.cache.forget(part.meta.number);
        part::remove(self.disk.as_ref(), &part.dir).inspect_err(|_| {
            // A restart may find it again: tombstones that hide something of it must stay.
            self.tombstones_stay.store(true, Ordering::Relaxed);
        })
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
    /// work. The caller holds `compacting`.
    pub(crate) fn clean(&self, tenant: &Tenant) -> Result<(), TsdbError> {
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
                self.rewrite(tenant, &part, &mut Pace::at_once(self))?;
            }
        }
        self.drop_spent_tombstones(tenant)
    }

    /// A part of which so many series are hidden that writing it again is worth it. Each loses them only once.
    pub(crate) fn next_rewrite(&self, tenant: &Tenant) -> Result<Option<Arc<Part>>, TsdbError> {
        let parts = tenant.state.read().parts.clone();
        for part in parts.into_iter().filter(|part| !part.unmergeable.load(Ordering::Relaxed)) {
            let hidden = self.hidden_series(tenant, &part)?;
            if hidden > 0 && hidden * HIDDEN_SHARE >= part.meta.series {
                return Ok(Some(part));
            }
        }
        Ok(None)
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
    pub(crate) fn rewrite(&self, tenant: &Tenant, part: &Arc<Part>, pace: &mut Pace<'_>) -> Result<(), TsdbError> {
        let window = TimeRange::new(part.meta.window_start_ms, part.meta.window_end_ms);
        self.merge_parts(tenant, std::slice::from_ref(part), window, pace)
    }
}
