//! What goes: parts that are too old or too many, series that rules and deletes have hidden.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_model::TimeRange;

use crate::TsdbError;
use crate::pace::Pace;
use crate::part::{self, Part};
use crate::shared::Shared;
use crate::tenant::Tenant;
use crate::tombstones::Tombstone;

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
        let by_age = self.tenants.all().into_iter().map(|tenant| {
            let oldest_ms = self.kept(&tenant.id, TimeRange::ALL).start_ms;
            self.drop_parts(&tenant, |part| part.meta.max_time_ms < oldest_ms)
        });
        // One that cannot be removed must not keep the others.
        let done = by_age.fold(Ok(()), Result::and);
        done.and(self.settings.retention_size.map_or(Ok(()), |size_max| self.drop_beyond(size_max.0)))
    }

    /// Drops the oldest parts of all tenants while all of them take more than `size_max`.
    fn drop_beyond(&self, size_max: u64) -> Result<(), TsdbError> {
        let mut all = Vec::new();
        for tenant in self.tenants.all() {
            let parts = tenant.state.read().parts.clone();
            all.extend(with_their_turn(&parts).map(|(turn, part)| (turn, Arc::clone(&tenant), Arc::clone(part))));
        }
        all.sort_by_key(|(turn, ..)| *turn);
        let mut total: u64 = all.iter().map(|(.., part)| part.meta.file_bytes()).sum();
        let mut done = Ok(());
        for (_, tenant, oldest) in all {
            if total <= size_max {
                break;
            }
            total -= oldest.meta.file_bytes();
            done = done.and(self.drop_parts(&tenant, |part| part.meta.number == oldest.meta.number));
        }
        done
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
        let removed = dropped.iter().map(|part| {
            tracing::info!(part = %part.dir.display(), "retention deletes a part");
            self.remove_part(part)
        });
        removed.fold(Ok(()), Result::and)
    }

    /// Removes a part that no reader will be given any more. If that fails a restart may find it again.
    pub(crate) fn remove_part(&self, part: &Part) -> Result<(), TsdbError> {
        self.cache.forget(part.id);
        part::remove(self.disk.as_ref(), &part.dir)
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
        let mut done = Ok(());
        for part in parts {
            let cleaned = self.holds_hidden(tenant, &part, &tombstones).and_then(|holds_hidden| {
                if holds_hidden { self.rewrite(tenant, &part, &mut Pace::at_once(self)) } else { Ok(()) }
            });
            // One damaged part must not keep what is deleted of the others.
            done = done.and(cleaned);
        }
        done.and(self.drop_spent_tombstones(tenant))
    }

    fn holds_hidden(&self, tenant: &Tenant, part: &Part, tombstones: &[Tombstone]) -> Result<bool, TsdbError> {
        for tombstone in tombstones {
            if part.holds_deleted(tombstone).inspect_err(|error| self.leave_alone(part, error))? {
                return Ok(true);
            }
        }
        Ok(self.hidden_series(tenant, part)? > 0)
    }

    /// Notes that a part is damaged, if the error says so: it is not written again.
    fn leave_alone(&self, part: &Part, error: &TsdbError) {
        if error.damaged_file().is_some() {
            self.damaged.note(error);
            part.unmergeable.store(true, Ordering::Relaxed);
        }
    }

    /// A part of which so many series are hidden that writing it again is worth it. Each loses them only once.
    ///
    /// # Errors
    /// What was met where none was found.
    pub(crate) fn next_rewrite(&self, tenant: &Tenant) -> Result<Option<Arc<Part>>, TsdbError> {
        let parts = tenant.state.read().parts.clone();
        let mut done = Ok(());
        for part in parts.into_iter().filter(|part| !part.unmergeable.load(Ordering::Relaxed)) {
            match self.hidden_series(tenant, &part) {
                Ok(hidden) if hidden > 0 && hidden * HIDDEN_SHARE >= part.meta.series => return Ok(Some(part)),
                found => done = done.and(found.map(|_| ())),
            }
        }
        done.map(|()| None)
    }

    /// Series of a part of which deletes and retention leave nothing to see.
    fn hidden_series(&self, tenant: &Tenant, part: &Part) -> Result<u64, TsdbError> {
        let hiding = self.hiding(&tenant.id, &tenant.state.read());
        if !hiding.concerns_part(part, TimeRange::ALL) {
            return Ok(0);
        }
        let all = part.index.all();
        let mut left = all.clone();
        let masked = hiding.of_part(part, TimeRange::ALL, &mut left);
        masked.inspect_err(|error| self.leave_alone(part, error))?;
        Ok(all.len() - left.len())
    }

    /// Writes a part again without what is hidden of it.
    pub(crate) fn rewrite(&self, tenant: &Tenant, part: &Arc<Part>, pace: &mut Pace<'_>) -> Result<(), TsdbError> {
        let window = TimeRange::new(part.meta.window_start_ms, part.meta.window_end_ms);
        self.merge_parts(tenant, std::slice::from_ref(part), window, pace)
    }
}

/// When size makes a part go: by the end of its samples, but not before what it may have overwritten, which would be seen
/// again. `parts` are by sequence ascending.
fn with_their_turn(parts: &[Arc<Part>]) -> impl Iterator<Item = ((i64, u64), &Arc<Part>)> {
    let mut turns: Vec<(i64, u64)> = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let overwritten = parts[..at].iter().zip(&turns).filter(|(older, _)| older.overlaps(part.bounds()));
        let last_ms = overwritten.map(|(_, (last_ms, _))| *last_ms).fold(part.meta.max_time_ms, i64::max);
        turns.push((last_ms, part.meta.sequence));
    }
    turns.into_iter().zip(parts)
}
