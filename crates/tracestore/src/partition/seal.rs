//! Checkpoints of a partition: what is in memory becomes segments, counts, marks and an index commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pharos_base::full_message;
use rocksdb::WriteBatch;

use super::keys::{POSITION, calls_key, deleted_key, edge_key};
use super::segment::Segment;
use super::write::{RawSpan, SegmentWriter};
use super::{Partition, Sealing, Unsealed, tenants_file};
use crate::TraceStoreError;
use crate::codec::{DecodeError, RowReader};
use crate::record::Row;
use pharos_model::TenantId;

/// A change of a call count: tenant, minute, caller, called, how many more.
pub(crate) type CallDelta = (TenantId, u32, Arc<str>, Arc<str>, i64);

impl Partition {
    /// The position of a checkpoint that was begun here and not finished: no other may begin before it is.
    pub(crate) fn sealing_position(&self) -> Option<u64> {
        self.state.read().sealing.as_ref().map(|sealing| sealing.position)
    }

    /// First half of a checkpoint, while nothing is applied: all records below `position` are, and no other is being
    /// sealed. Returns whether there is anything to bring to disk.
    pub(crate) fn begin_checkpoint(&self, position: u64) -> bool {
        let mut state = self.state.write();
        debug_assert!(state.sealing.is_none(), "an earlier checkpoint is finished first");
        if !state.is_dirty {
            return false;
        }
        let unsealed = std::mem::take(&mut state.active);
        let mark_of = |&(tenant, trace_id): &(u32, _)| {
            let mark = state.deleted.get(&tenant).and_then(|deleted| deleted.get(&trace_id));
            mark.map(|mark| (tenant, trace_id, *mark))
        };
        let marks = unsealed.deletions.iter().filter_map(mark_of).collect();
        let number = state.next_segment;
        let written = std::sync::OnceLock::new();
        state.sealing = Some(Arc::new(Sealing { unsealed, position, number, marks, written }));
        state.next_segment += 1;
        state.is_dirty = false;
        true
    }

    /// The changes of call counts that the checkpoint under way brings to disk.
    pub(crate) fn sealing_calls(&self) -> Vec<CallDelta> {
        let state = self.state.read();
        let Some(sealing) = &state.sealing else { return Vec::new() };
        let mut deltas = Vec::with_capacity(sealing.unsealed.calls.len());
        for (tenant, number) in &state.tenants {
            for ((of, minute, parent, child), by) in &sealing.unsealed.calls {
                if of == number {
                    deltas.push((tenant.clone(), *minute, Arc::clone(parent), Arc::clone(child), *by));
                }
            }
        }
        deltas
    }

    /// Takes up changes of call counts that an interrupted checkpoint at `position` had not brought to disk here.
    pub(crate) fn restore_calls(&self, position: u64, deltas: &[CallDelta]) -> Result<(), TraceStoreError> {
        let mut state = self.state.write();
        if position <= state.sealed_position {
            return Ok(());
        }
        for (tenant, minute, parent, child, by) in deltas {
            if state.expired.contains_key(tenant) {
                continue;
            }
            let mut batch = WriteBatch::default();
            let number = state.number_of(tenant, &mut batch);
            if !batch.is_empty() {
                self.database.write(batch)?;
                state.tenants.insert(tenant.clone(), number);
                state.next_tenant = state.next_tenant.max(number.saturating_add(1));
            }
            if state.edges.insert(number, parent, child) {
                state.active.edges.push((number, Arc::clone(parent), Arc::clone(child)));
            }
            *state.active.calls.entry((number, *minute, Arc::clone(parent), Arc::clone(child))).or_default() += by;
            state.is_dirty = true;
        }
        Ok(())
    }

    /// Second half: brings spans, counts and index to disk. After an error it is to be tried again.
    pub(crate) fn finish_checkpoint(&self, keep_writer: bool) -> Result<(), TraceStoreError> {
        let Some(sealing) = self.state.read().sealing.clone() else { return Ok(()) };
        let is_retry = sealing.written.get().is_some();
        let segments = if let Some(segments) = sealing.written.get() {
            // Counts must not be added twice.
            segments
        } else {
            let (segments, batch) = self.write_segments(&sealing)?;
            // Under the lock, so that readers of counts see them in memory or on disk.
            let _state = self.state.write();
            self.database.write(batch)?;
            sealing.written.get_or_init(|| segments)
        };
        let unlisted = self.state.read().unlisted.clone();
        if segments.is_empty() && unlisted.is_empty() {
            self.database.flush()?;
        } else {
            let mut commit = self.index.begin()?;
            for (tenant, segment) in &unlisted {
                commit.remove(*tenant, *segment);
            }
            for segment in segments {
                // It may have got into the index before something failed.
                if is_retry {
                    commit.remove(segment.tenant, segment.number);
                }
                self.block_source().index(segment, &mut commit)?;
            }
            // Spans and value postings first: what the index knows must be there.
            self.database.flush()?;
            commit.finish(keep_writer)?;
        }
        self.list_tenants();
        let view = Arc::new(self.index.view()?);
        let mut state = self.state.write();
        for segment in segments {
            Arc::make_mut(&mut state.segments).insert(Arc::clone(segment));
        }
        state.view = view;
        state.sealing = None;
        state.sealed_position = state.sealed_position.max(sealing.position);
        state.unlisted.retain(|place| !unlisted.contains(place));
        Ok(())
    }

    /// Writes the second list of tenants if there are more than it has. It is of use only where the first is lost.
    pub(super) fn list_tenants(&self) {
        let mut tenants: Vec<_> = {
            let state = self.state.read();
            let known = state.tenants.iter().chain(&state.expired);
            known.map(|(tenant, number)| (*number, tenant.clone())).collect()
        };
        if tenants.len() == self.tenants_listed.load(Ordering::Relaxed) {
            return;
        }
        tenants.sort_unstable();
        match tenants_file::write(&self.directory, &tenants) {
            Ok(()) => self.tenants_listed.store(tenants.len(), Ordering::Relaxed),
            Err(error) => tracing::warn!(day = %self.day, %error, "the second list of tenants is not written"),
        }
    }

    /// Writes the blocks to RocksDB's memory. What makes them count, and all else, is in the batch that is returned.
    fn write_segments(&self, sealing: &Sealing) -> Result<(Vec<Arc<Segment>>, WriteBatch), TraceStoreError> {
        let Unsealed { head, calls, edges, .. } = &sealing.unsealed;
        let corrupt = |error| TraceStoreError::corrupt("row", self.day)(error);
        let mut batch = WriteBatch::default();
        let mut segments = Vec::new();
        let traces = head.sorted();
        for of_tenant in traces.chunk_by(|one, other| one.tenant == other.tenant) {
            let tenant = of_tenant[0].tenant;
            let mut writer = SegmentWriter::new(&self.database, self.day, tenant, sealing.number);
            for trace in of_tenant {
                let mut spans = Vec::new();
                for row in trace.rows {
                    read_spans(row, &mut spans).map_err(corrupt)?;
                }
                writer.push_trace(trace.trace_id, &mut spans)?;
            }
            segments.extend(writer.finish(&self.memory.filters, &mut batch)?.map(Arc::new));
        }
        for ((tenant, minute, parent, child), by) in calls {
            let key = calls_key(*tenant, *minute, parent, child);
            let counted = match self.database.meta(&key) {
                // Counts are derived: they are no reason to keep spans from the disk.
                Err(error) if error.is_damage() => {
                    tracing::error!(error = %full_message(&error), day = %self.day, "calls counted so far are lost");
                    None
                }
                read => read?,
            };
            let counted = counted.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes);
            batch.put(key, (counted + by).to_le_bytes());
        }
        for (tenant, parent, child) in edges {
            batch.put(edge_key(*tenant, parent, child), []);
        }
        for (tenant, trace_id, mark) in &sealing.marks {
            batch.put(deleted_key(*tenant, *trace_id), mark.to_le_bytes());
        }
        batch.put(POSITION, sealing.position.to_le_bytes());
        Ok((segments, batch))
    }
}

fn read_spans<'a>(row: &'a Row, spans: &mut Vec<RawSpan<'a>>) -> Result<(), DecodeError> {
    for raw in RowReader::new(&row.value, row.min_start_ns)?.spans_with_details() {
        let (span, details) = raw?;
        spans.push(RawSpan { origin: span.origin, service: span.service, skeleton: span.skeleton, details });
    }
    Ok(())
}
