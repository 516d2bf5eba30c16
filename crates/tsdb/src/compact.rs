//! Compaction: many parts become few.
//!
//! What is merged when is decided in `merge_plan.rs`, how fast in `pace.rs`. The description of a merged part lists its
//! sources; a crash between publishing it and removing them is cleaned up at start. A failed merge leaves
//! its sources as they are and its tenant alone for a while.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pharos_chunk::Form;
use pharos_model::TimeRange;

use crate::TsdbError;
use crate::copied::{Copies, SeriesWriter};
use crate::masks::Hiding;
use crate::merge::Merge;
use crate::merge_exemplars::ExemplarMerge;
use crate::merge_plan::{self, may_merge};
use crate::pace::Pace;
use crate::part::writer::{PartPlan, PartWriter};
use crate::part::{self, Part, PartCursor};
use crate::shared::Shared;
use crate::source::Source;
use crate::tenant::Tenant;
use crate::windows;

/// A query reads whole blocks, and merging holds one: parts that would need a larger one stay apart.
/// That is 256 KiB a series: three days of doubles without any pattern, one every 8 seconds.
const MERGED_BODIES_MAX: usize = 64 << 20;
/// Merged windows from this length on are encoded in the cold form: shorter ones are merged again soon.
const COLD_WINDOW_MS: i64 = 8 * 3_600_000;
/// A window counts as over this long after its last samples were flushed at the latest.
const WINDOW_GRACE_MS: i64 = 30 * 60_000;
/// What an exemplar is taken to cost, read and written.
const EXEMPLAR_BYTES: u64 = 100;
/// How long a tenant is left alone after a failed merge; doubled with each failure in a row.
const RETRY_PAUSE: Duration = Duration::from_secs(30);
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(30);

impl Shared {
    /// Merges everything that can be merged: at most one part per largest window remains, but for damaged
    /// parts and for those that a part of another length of window stands between.
    pub(crate) fn compact_all(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.compacting.lock();
        // What fails must not keep the rest from being merged.
        let done = self.flush().and(self.retain_locked());
        self.tenants.all().iter().map(|tenant| self.compact_all_of(tenant)).fold(done, Result::and)
    }

    fn compact_all_of(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        let ladder = windows::ladder(self.retention.default_ms(&tenant.id));
        let largest = *ladder.last().expect("the ladder is never empty");
        let parts = tenant.state.read().parts.clone();
        let mut done = Ok(());
        for (start, group) in merge_plan::by_window(&parts, largest) {
            // One alone that is not in the cold form yet, or not rolled up as it should be, is rewritten too.
            let is_done = |part: &Part| is_cold(part) && part.has_rollups(&self.settings.downsampling);
            if (group.len() > 1 || group.iter().any(|part| !is_done(part))) && may_merge(&parts, &group) {
                let window = windows::window_of(start, largest);
                done = done.and(self.merge_parts(tenant, &group, window, &mut Pace::at_once(self)));
            }
        }
        done.and(self.clean(tenant))
    }

    /// Merges what is due.
    pub(crate) fn compact_due(&self) -> Result<(), TsdbError> {
        // One tenant's fault must not keep the others' parts from being merged.
        self.tenants.all().iter().map(|tenant| self.compact_tenant(tenant)).fold(Ok(()), Result::and)
    }

    fn compact_tenant(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        let now = self.clock.monotonic();
        if tenant.merge_failures.lock().is_some_and(|(_, retry_at)| now < retry_at) {
            return Ok(());
        }
        let merged = self.compact_tenant_now(tenant);
        let mut failures = tenant.merge_failures.lock();
        *failures = match &merged {
            Ok(()) | Err(TsdbError::Stopped) => None,
            Err(_) => {
                let count = failures.map_or(0, |(count, _)| count) + 1;
                let pause = RETRY_PAUSE.saturating_mul(1 << (count - 1).min(16)).min(RETRY_PAUSE_MAX);
                Some((count, self.clock.monotonic() + pause))
            }
        };
        merged
    }

    fn compact_tenant_now(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        loop {
            let _one_at_a_time = self.compacting.lock();
            if self.wake.is_stopping() {
                return Ok(());
            }
            let mut pace = Pace::background(self);
            if let Some((parts, window)) = self.next_merge(tenant) {
                self.merge_parts(tenant, &parts, window, &mut pace)?;
            } else if let Some(part) = self.next_rewrite(tenant)? {
                self.rewrite(tenant, &part, &mut pace)?;
            } else {
                return self.drop_spent_tombstones(tenant);
            }
        }
    }

    fn next_merge(&self, tenant: &Tenant) -> Option<(Vec<Arc<Part>>, TimeRange)> {
        let ladder = windows::ladder(self.retention.default_ms(&tenant.id));
        let settled_ms = WINDOW_GRACE_MS.saturating_add(self.settings.flush_interval.as_ms());
        let parts = tenant.state.read().parts.clone();
        merge_plan::next_merge(&parts, ladder, self.clock.unix_ms().saturating_sub(settled_ms))
    }

    pub(crate) fn merge_parts(
        &self,
        tenant: &Tenant,
        parts: &[Arc<Part>],
        window: TimeRange,
        pace: &mut Pace<'_>,
    ) -> Result<(), TsdbError> {
        let merged = self.check_space(tenant, parts).and_then(|()| self.write_merged(tenant, parts, window, pace));
        let merged = match merged {
            Ok(merged) => merged,
            Err(error) => {
                self.damaged.note(&error);
                let too_large = matches!(error, TsdbError::BlockTooLarge { .. });
                let is_concerned = |part: &Part| match error.damaged_file() {
                    Some(file) => file.starts_with(&part.dir),
                    None => too_large,
                };
                // Trying again would fail again: they stay as they are and go on being served. A damaged part stays
                // alone, the others are merged without it.
                for part in parts.iter().filter(|part| is_concerned(part)) {
                    part.unmergeable.store(true, Ordering::Relaxed);
                }
                if too_large {
                    return Ok(());
                }
                if !matches!(error, TsdbError::Stopped) {
                    self.counters.merge_failures.fetch_add(1, Ordering::Relaxed);
                }
                return Err(error);
            }
        };
        let bytes = |part: &Arc<Part>| part.meta.file_bytes();
        self.counters.merges.fetch_add(1, Ordering::Relaxed);
        self.counters.merge_bytes_read.fetch_add(parts.iter().map(bytes).sum(), Ordering::Relaxed);
        self.counters.merge_bytes_written.fetch_add(merged.iter().map(bytes).sum(), Ordering::Relaxed);
        let _none_is_linked = self.parts_stay.lock();
        let mut state = tenant.state.write();
        state.parts.retain(|part| !parts.iter().any(|source| source.meta.number == part.meta.number));
        state.parts.extend(merged);
        state.parts.sort_by_key(|part| part.meta.sequence);
        drop(state);
        // One that cannot be removed must not keep the others.
        parts.iter().map(|source| self.remove_part(source)).fold(Ok(()), Result::and)
    }

    /// A merge needs room for its result while its sources are still there; a disk that it fills refuses appends.
    fn check_space(&self, tenant: &Tenant, parts: &[Arc<Part>]) -> Result<(), TsdbError> {
        let path = self.parts_dir(&tenant.id);
        let sources: u64 = parts.iter().map(|part| part.meta.file_bytes()).sum();
        let needed = sources.saturating_add(self.settings.disk_free_min.0);
        match self.disk.free_bytes(&path) {
            Ok(free) if free < needed => Err(TsdbError::NoRoom { path, needed, free }),
            _ => Ok(()),
        }
    }

    /// Writes the merged part; `None` if retention leaves nothing of it.
    fn write_merged(
        &self,
        tenant: &Tenant,
        parts: &[Arc<Part>],
        window: TimeRange,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Arc<Part>>, TsdbError> {
        let hiding = self.settled_hiding(tenant);
        let form = if is_cold_window(window) { Form::Cold } else { Form::Young };
        let plan = PartPlan {
            parts_dir: self.parts_dir(&tenant.id),
            tenant: tenant.id.clone(),
            number: self.next_part.fetch_add(1, Ordering::Relaxed),
            sequence: parts.iter().map(|part| part.meta.sequence).max().unwrap_or(0),
            window,
            level: parts.iter().map(|part| part.meta.level).max().unwrap_or(0)
                + u32::from(parts.len() > 1 || form == Form::Cold),
            replaces: self.replaced_by(tenant, parts)?,
            cleaned: hiding.tombstones.last().map_or(0, |tombstone| tombstone.sequence),
            form,
            index_cache: Arc::clone(&self.index_cache),
            bodies_max: MERGED_BODIES_MAX,
            rollups: if form == Form::Cold { self.settings.downsampling.clone() } else { Vec::new() },
        };
        let mut writer = PartWriter::create(Arc::clone(&self.disk), plan)?;
        let kept = TimeRange::new(hiding.cut_offs.oldest_ms, i64::MAX);
        let mut sources = Vec::with_capacity(parts.len());
        for part in parts {
            let mut selected = part.index.all();
            let masks = hiding.of_part(part, kept, &mut selected)?;
            let source = Source::part(PartCursor::merging(Arc::clone(part), selected, parts.len()), masks);
            sources.push(source.with_copies(copies_of(part, window, form, writer.needs_samples())));
        }
        let mut merge = Merge::new(sources);
        // Read and written; the share of each series by its samples.
        let source_bytes: u64 = parts.iter().map(|part| part.meta.file_bytes()).sum();
        let source_samples: u64 = parts.iter().map(|part| part.meta.samples + part.meta.histograms).sum();
        let sample_bytes = 2.0 * source_bytes as f64 / source_samples.max(1) as f64;
        let mut series = SeriesWriter::new(kept);
        while merge.next()? {
            let before = writer.sample_count();
            series.write(&mut merge, &mut writer)?;
            pace.spend(((writer.sample_count() - before) as f64 * sample_bytes) as u64)?;
        }
        self.counters.merge_samples_copied.fetch_add(writer.copied_samples(), Ordering::Relaxed);
        let mut exemplars = ExemplarMerge::new(parts, &hiding, kept)?;
        while let Some((labels, exemplar)) = exemplars.next()? {
            writer.add_exemplar(&labels, &exemplar)?;
            pace.spend(EXEMPLAR_BYTES)?;
        }
        if writer.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(writer.finish()?)))
    }

    /// What hides samples of a tenant, every delete included that has its place before one of the parts there are: the
    /// merged part may get a sequence above one whose tombstone is still being written.
    fn settled_hiding(&self, tenant: &Tenant) -> Hiding {
        let _settled = tenant.deleting.lock();
        self.hiding(&tenant.id, &tenant.state.read())
    }

    /// The numbers of the sources, and of those they replaced themselves and that could not be removed: once
    /// the sources are gone nobody else would tell the next start.
    fn replaced_by(&self, tenant: &Tenant, parts: &[Arc<Part>]) -> Result<Vec<u64>, TsdbError> {
        let listed = part::list(&self.parts_dir(&tenant.id))?;
        let present: Vec<u64> = listed.iter().filter_map(|name| part::number_of(name)).collect();
        let inherited = parts.iter().flat_map(|part| &part.meta.replaces).filter(|number| present.contains(number));
        Ok(parts.iter().map(|part| part.meta.number).chain(inherited.copied()).collect())
    }
}

/// What of a part may be copied into a merged part of this window and form.
fn copies_of(part: &Part, window: TimeRange, form: Form, needs_samples: bool) -> Copies {
    let own = if is_cold(part) { Form::Cold } else { Form::Young };
    if needs_samples || own != form || !part.is_of_newest_version() {
        Copies::Nothing
    } else if (part.meta.window_start_ms, part.meta.window_end_ms) == (window.start_ms, window.end_ms) {
        Copies::Alone
    } else {
        Copies::Long
    }
}

fn is_cold_window(window: TimeRange) -> bool {
    window.end_ms.saturating_sub(window.start_ms) >= COLD_WINDOW_MS
}

/// Whether the part was merged into a window that is encoded in the cold form.
fn is_cold(part: &Part) -> bool {
    part.meta.level > 0 && is_cold_window(TimeRange::new(part.meta.window_start_ms, part.meta.window_end_ms))
}
