//! Applying a record: what must be read and can fail first, then into memory, which cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_base::full_message;
use pharos_model::{TenantId, TraceId};

use super::DAYS_DIRECTORY;
use crate::calls::{CallChanges, CallSpan, CallWindow, TraceCalls};
use crate::disk::sync_directory;
use crate::partition::{DatabaseMemory, Partition};
use crate::record::{Change, Day, Deletion, PreparedBatch, PreparedCalls, PreparedRow};
use crate::{Settings, TraceStoreError};

/// Of each trace what is stored, if the window does not know it, and what comes.
type CallsByTrace = BTreeMap<TraceId, (TraceCalls, Vec<CallSpan>)>;

/// How far records are applied.
#[derive(Debug)]
pub(super) struct Applied {
    /// The sequence of the next record to apply: all below are.
    pub(super) next_sequence: u64,
    /// Calls of records below are counted on disk.
    calls_position: u64,
    window: CallWindow,
    /// Whether it was told that calls are not all counted.
    has_warned: bool,
}

/// Where records are applied to.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) directory: &'a Path,
    pub(super) settings: &'a Settings,
    pub(super) memory: &'a DatabaseMemory,
    pub(super) partitions: &'a RwLock<BTreeMap<Day, Arc<Partition>>>,
}

impl Places<'_> {
    fn partition(&self, day: Day) -> Result<Arc<Partition>, TraceStoreError> {
        if let Some(partition) = self.partitions.read().get(&day) {
            return Ok(Arc::clone(partition));
        }
        let days = self.directory.join(DAYS_DIRECTORY);
        let partition = Arc::new(Partition::open(&days.join(day.to_string()), day, self.memory, self.settings)?);
        sync_directory(&days).map_err(TraceStoreError::io("sync", &days))?;
        self.partitions.write().insert(day, Arc::clone(&partition));
        Ok(partition)
    }
}

impl Applied {
    /// Nothing is applied but what is on disk; the calls below `calls_position` are counted there.
    pub(super) fn new(window: CallWindow, calls_position: u64) -> Self {
        Self { next_sequence: 0, calls_position, window, has_warned: false }
    }

    /// Applies the record `sequence`. After an error nothing of it is visible, and applying it again completes it.
    pub(super) fn apply(&mut self, places: &Places<'_>, change: &Change, sequence: u64) -> Result<(), TraceStoreError> {
        match change {
            Change::Batch(prepared) => self.apply_batch(places, prepared, sequence)?,
            Change::Deletion(deletion) => self.apply_deletion(places, deletion, sequence)?,
            Change::Calls(calls) => self.apply_calls(places, calls, sequence)?,
        }
        self.next_sequence = sequence + 1;
        Ok(())
    }

    fn apply_deletion(
        &mut self,
        places: &Places<'_>,
        Deletion { tenant, trace_id }: &Deletion,
        sequence: u64,
    ) -> Result<(), TraceStoreError> {
        for partition in places.partitions.read().values() {
            partition.delete(tenant, *trace_id, sequence)?;
        }
        // Its calls stay counted; spans that come later are paired among themselves, now as after a restart.
        self.window.forget(tenant, *trace_id);
        Ok(())
    }

    fn apply_batch(
        &mut self,
        places: &Places<'_>,
        prepared: &PreparedBatch,
        sequence: u64,
    ) -> Result<(), TraceStoreError> {
        let mut by_day: BTreeMap<Day, Vec<&PreparedRow>> = BTreeMap::new();
        for row in &prepared.rows {
            by_day.entry(row.day).or_default().push(row);
        }
        let mut staged = Vec::with_capacity(by_day.len());
        for (day, rows) in by_day {
            let partition = places.partition(day)?;
            let effect = partition.stage(prepared, &rows, sequence)?;
            staged.push((partition, effect));
        }
        // Of each trace, as it may be in rows of several days.
        let mut calls = CallsByTrace::new();
        if self.counts_calls(places, sequence) {
            for row in staged.iter().flat_map(|(_, effect)| &effect.fresh) {
                let entry = calls.entry(row.trace_id);
                let (_, spans) =
                    entry.or_insert_with(|| (self.stored_calls(places, &prepared.tenant, row.trace_id), Vec::new()));
                spans.extend(
                    row.mentions
                        .iter()
                        .map(|mention| CallSpan::new(&mention.skeleton, self.window.service(&mention.service))),
                );
            }
        }
        for (partition, effect) in &mut staged {
            partition.write(effect)?;
        }
        for (partition, effect) in staged {
            partition.publish(effect);
        }
        self.count_calls(places, &prepared.tenant, calls);
        Ok(())
    }

    fn apply_calls(
        &mut self,
        places: &Places<'_>,
        PreparedCalls { tenant, traces }: &PreparedCalls,
        sequence: u64,
    ) -> Result<(), TraceStoreError> {
        if !self.counts_calls(places, sequence) {
            return Ok(());
        }
        // The days of the spans have their counts, also days without any that is stored.
        let days: BTreeSet<Day> = traces.values().flatten().map(|span| Day::of(span.start_ns)).collect();
        for day in days {
            places.partition(day)?.admit_tenant(tenant)?;
        }
        let mut calls = BTreeMap::new();
        for (trace_id, spans) in traces {
            calls.insert(*trace_id, (self.stored_calls(places, tenant, *trace_id), spans.clone()));
        }
        self.count_calls(places, tenant, calls);
        Ok(())
    }

    /// Whether calls of the record are to be counted.
    fn counts_calls(&self, places: &Places<'_>, sequence: u64) -> bool {
        places.settings.dependencies && sequence >= self.calls_position
    }

    fn count_calls(&mut self, places: &Places<'_>, tenant: &TenantId, calls: CallsByTrace) {
        let mut changes = CallChanges::default();
        for (trace_id, (stored, spans)) in calls {
            self.window.add(tenant, trace_id, stored, spans, &mut changes);
        }
        if !changes.is_empty() {
            places.partitions.read().values().for_each(|partition| partition.count_calls(tenant, &changes));
        }
    }

    /// The spans of a trace that are stored, if the window does not know it.
    fn stored_calls(&mut self, places: &Places<'_>, tenant: &TenantId, trace_id: TraceId) -> TraceCalls {
        let mut stored = TraceCalls::default();
        if self.window.knows(tenant, trace_id) {
            return stored;
        }
        for partition in places.partitions.read().values() {
            let service = |name: &str| self.window.service(name);
            match partition.read_calls(tenant, trace_id, &mut stored, service) {
                // Damage to what lies there already is no reason to refuse what comes: only calls are derived from both.
                Err(error) if !std::mem::replace(&mut self.has_warned, true) => tracing::warn!(
                    error = %full_message(&error), %trace_id,
                    "spans of a trace cannot be read: dependencies may lack calls (said once)"
                ),
                Ok(()) | Err(_) => {}
            }
        }
        stored
    }
}
