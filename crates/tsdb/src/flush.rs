//! From head to parts: frozen generations are written, published, and their log segments removed.
//!
//! Order, so that a crash at any line loses nothing: parts durable, parts published in place of their
//! generation, metadata durable, then segments removed oldest first. A crash before the end replays
//! segments whose samples are in parts already, which changes no answer (S2).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_base::CancelToken;
use pharos_chunk::Form;
use pharos_model::TimeRange;

use crate::TsdbError;
use crate::head::buffer::DecodedTimes;
use crate::head::generation::Generation;
use crate::log::segment;
use crate::metadata;
use crate::part::block::{BLOCK_BYTES_MAX, BLOCK_HEADER_LEN};
use crate::part::exemplars::{self, Entries};
use crate::part::writer::{PartPlan, PartWriter};
use crate::part::{self, Part};
use crate::samples::Samples;
use crate::shared::Shared;
use crate::tenant::Tenant;
use crate::windows;

/// Parts written at once; further windows wait for another pass.
const OPEN_WRITERS_MAX: usize = 64;

/// Start and end of a window.
type Window = (i64, i64);

impl Shared {
    /// Brings everything acknowledged so far into parts.
    pub(crate) fn flush(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.flushing.lock();
        let swapped = self.queue.swap()?;
        self.flushed_to.store(swapped.last_segment, Ordering::Relaxed);
        self.write_frozen()
    }

    /// Ends a flush that failed and begins no other: what came in since would become small parts, again and again.
    pub(crate) fn flush_again(&self) -> Result<(), TsdbError> {
        let _one_at_a_time = self.flushing.lock();
        self.write_frozen()
    }

    /// The caller holds `flushing`.
    fn write_frozen(&self) -> Result<(), TsdbError> {
        // One tenant's fault must not fill the memory with the others' samples.
        let flushed = self.tenants.all().iter().map(|tenant| self.flush_tenant(tenant)).fold(Ok(()), Result::and);
        let removed = flushed.and_then(|()| self.remove_segments(self.flushed_to.load(Ordering::Relaxed)));
        self.after_commit();
        removed.inspect_err(|_| _ = self.counters.flush_failures.fetch_add(1, Ordering::Relaxed))
    }

    fn flush_tenant(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        loop {
            let oldest = tenant.state.read().frozen.first().cloned();
            let Some(generation) = oldest else { break };
            let parts = self.write_generation(tenant, &generation)?;
            let mut state = tenant.state.write();
            state.frozen.remove(0);
            state.parts.extend(parts.into_iter().map(Arc::new));
            // A replayed generation has its place where it was frozen first.
            state.parts.sort_by_key(|part| part.meta.sequence);
        }
        metadata::write_if_changed(self, tenant)
    }

    fn write_generation(&self, tenant: &Tenant, generation: &Generation) -> Result<Vec<Part>, TsdbError> {
        let mut parts = Vec::new();
        match self.write_windows(tenant, generation, &mut parts) {
            Ok(()) => Ok(parts),
            Err(error) => {
                // The generation is written anew later: what is there already would be there twice.
                for part in &parts {
                    if let Err(error) = part::remove(self.disk.as_ref(), &part.dir) {
                        tracing::warn!(path = %part.dir.display(), %error, "cannot remove a part that is not used");
                    }
                }
                Err(error)
            }
        }
    }

    fn write_windows(&self, tenant: &Tenant, generation: &Generation, parts: &mut Vec<Part>) -> Result<(), TsdbError> {
        self.create_tenant_dirs(tenant)?;
        // One sequence for all windows of a generation: no sample is in two of them.
        let sequence = generation.sequence();
        // One now for all passes: a sample whose window changed in between could miss both.
        let (now_ms, retention_ms) = (self.clock.unix_ms(), self.retention.default_ms(&tenant.id));
        let mut exemplars = exemplars_by_window(generation, now_ms, retention_ms)?;
        let series = generation.select(&[], TimeRange::ALL, &CancelToken::new())?;
        let mut done = BTreeSet::new();
        let (mut decoded, mut samples) = (DecodedTimes::default(), Samples::default());
        loop {
            let mut writers: BTreeMap<Window, PartWriter> = BTreeMap::new();
            let mut postponed = false;
            for (labels, number) in &series {
                generation.read_all(*number, &mut decoded, &mut samples)?;
                for (window, piece) in split(&samples, now_ms, retention_ms) {
                    let key = (window.start_ms, window.end_ms);
                    if done.contains(&key) {
                        continue;
                    }
                    if !writers.contains_key(&key) {
                        if writers.len() >= OPEN_WRITERS_MAX {
                            postponed = true;
                            continue;
                        }
                        writers.insert(key, self.new_part(tenant, sequence, window)?);
                    }
                    if let Some(writer) = writers.get_mut(&key) {
                        writer.add_series(labels.encoded(), &piece)?;
                    }
                }
            }
            for key in exemplars.keys() {
                if writers.contains_key(key) {
                    continue;
                }
                if writers.len() >= OPEN_WRITERS_MAX {
                    postponed = true;
                    break;
                }
                writers.insert(*key, self.new_part(tenant, sequence, TimeRange::new(key.0, key.1))?);
            }
            for (key, mut writer) in writers {
                done.insert(key);
                for (labels, exemplar) in exemplars.remove(&key).unwrap_or_default() {
                    writer.add_exemplar(labels.encoded(), &exemplar)?;
                }
                parts.push(writer.finish()?);
            }
            if !postponed {
                return Ok(());
            }
        }
    }

    fn new_part(&self, tenant: &Tenant, sequence: u64, window: TimeRange) -> Result<PartWriter, TsdbError> {
        let plan = PartPlan {
            parts_dir: self.parts_dir(&tenant.id),
            tenant: tenant.id.clone(),
            number: self.next_part.fetch_add(1, Ordering::Relaxed),
            sequence,
            window,
            level: 0,
            replaces: Vec::new(),
            cleaned: 0,
            form: Form::Young,
            index_cache: Arc::clone(&self.index_cache),
            bodies_max: BLOCK_BYTES_MAX - BLOCK_HEADER_LEN,
            rollups: Vec::new(),
        };
        PartWriter::create(Arc::clone(&self.disk), plan)
    }

    pub(crate) fn create_tenant_dirs(&self, tenant: &Tenant) -> Result<(), TsdbError> {
        let parts = self.parts_dir(&tenant.id);
        if tenant.dirs_durable.load(Ordering::Acquire) {
            return Ok(());
        }
        self.disk.create_dir_all(&parts).map_err(TsdbError::io("create", &parts))?;
        for dir in [self.tenant_dir(&tenant.id), crate::shared::tenants_dir(&self.dir)] {
            self.disk.sync_dir(&dir).map_err(TsdbError::io("sync", &dir))?;
        }
        tenant.dirs_durable.store(true, Ordering::Release);
        Ok(())
    }

    fn remove_segments(&self, last: u64) -> Result<(), TsdbError> {
        let log_dir = self.log_dir();
        if self.segments_may_return.load(Ordering::Relaxed) {
            self.sync_log_dir(&log_dir)?;
        }
        for number in segment::list(&log_dir)?.into_iter().filter(|number| *number <= last) {
            let path = segment::path_of(&log_dir, number);
            let length = std::fs::metadata(&path).map_or(0, |found| found.len());
            self.segments_may_return.store(true, Ordering::Relaxed);
            self.disk.remove_file(&path).map_err(TsdbError::io("remove", &path))?;
            // Before the next: an old segment that came back without the newer ones would be replayed over
            // parts that know better. What is left must always be the newest end of the log.
            self.sync_log_dir(&log_dir)?;
            let less = |bytes: u64| Some(bytes.saturating_sub(length));
            let _ = self.queue.log_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        self.queue.frozen_log_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn sync_log_dir(&self, log_dir: &Path) -> Result<(), TsdbError> {
        self.disk.sync_dir(log_dir).map_err(TsdbError::io("sync", log_dir))?;
        self.segments_may_return.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Samples by window, ascending.
fn split(samples: &Samples, now_ms: i64, retention_ms: i64) -> Vec<(TimeRange, Cow<'_, Samples>)> {
    let mut pieces = Vec::new();
    let Some((first, last)) = samples.bounds() else { return pieces };
    let window = windows::flush_window(first, now_ms, retention_ms);
    // Only the end of time is outside of its own half-open window; it goes with the last one.
    let is_last = |window: TimeRange| last < window.end_ms || window.end_ms == i64::MAX;
    if is_last(window) {
        pieces.push((window, Cow::Borrowed(samples)));
        return pieces;
    }
    let mut rest = samples.clone();
    while let Some((first, _)) = rest.bounds() {
        let window = windows::flush_window(first, now_ms, retention_ms);
        if is_last(window) {
            pieces.push((window, Cow::Owned(rest)));
            break;
        }
        let behind = rest.split_off(window.end_ms);
        pieces.push((window, Cow::Owned(std::mem::replace(&mut rest, behind))));
    }
    pieces
}

fn exemplars_by_window(
    generation: &Generation,
    now_ms: i64,
    retention_ms: i64,
) -> Result<BTreeMap<Window, Entries>, TsdbError> {
    let mut by_window: BTreeMap<Window, Entries> = BTreeMap::new();
    for entry in generation.exemplars(&[], TimeRange::ALL, &CancelToken::new())? {
        let window = windows::flush_window(entry.1.timestamp_ms, now_ms, retention_ms);
        by_window.entry((window.start_ms, window.end_ms)).or_default().push(entry);
    }
    by_window.values_mut().for_each(exemplars::sort);
    Ok(by_window)
}
