//! Reads of a partition: search, rows of a trace, lists, call counts.

use std::sync::Arc;

use pharos_model::{SpanKind, TenantId, TraceId};
use pharos_storage::{Operation, ReadContext, StorageError, TraceQuery};

use super::keys::{MetaKey, calls_minute, origin_key, origin_range, read_meta_key, read_row_key, trace_key};
use super::{Partition, StoredRow, read_error};
use crate::TraceStoreError;
use crate::calls::CallSpan;
use crate::codec::{Origin, OriginHash, RowReader, decode_origin, row_sequence};
use crate::search::{SearchBounds, TopTraces, plan};

impl Partition {
    /// Offers the newest spans that pass to `top`.
    pub(crate) fn search(
        &self,
        tenant: &TenantId,
        query: &TraceQuery,
        top: &mut TopTraces,
        context: &ReadContext,
    ) -> Result<(), StorageError> {
        let bounds = SearchBounds::of(query);
        let (clauses, view) = {
            // Catalogue, tails and index view are of one moment: a span whose origin the plan does not know
            // is in none of them.
            let state = self.state.read();
            let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
            let stored = |visit: &mut dyn FnMut(OriginHash, &Origin)| self.for_each_origin(number, visit);
            let clauses = plan(tenant, query, &state.catalogue, &stored).map_err(read_error)?;
            let Some(clauses) = clauses else { return Ok(()) };
            state.active.search(&clauses, &bounds, top);
            if let Some((frozen, _)) = &state.frozen {
                frozen.search(&clauses, &bounds, top);
            }
            (clauses, Arc::clone(&state.view))
        };
        self.index.search(&view, &clauses, &bounds, top, context)
    }

    fn for_each_origin(&self, tenant: u32, visit: &mut dyn FnMut(OriginHash, &Origin)) -> Result<(), TraceStoreError> {
        let (from, until) = origin_range(tenant);
        for entry in self.rows.metas(&from, until) {
            let (key, value) = entry?;
            if let MetaKey::Origin { hash, .. } =
                read_meta_key(&key).map_err(TraceStoreError::corrupt("origin key", self.day))?
            {
                visit(hash, &decode_origin(&value).map_err(TraceStoreError::corrupt("origin", self.day))?);
            }
        }
        Ok(())
    }

    /// Rows of a trace, by earliest start.
    pub(crate) fn trace_rows(&self, tenant: &TenantId, trace_id: TraceId) -> Result<Vec<StoredRow>, TraceStoreError> {
        let Some(number) = self.state.read().tenants.get(tenant).copied() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for row in self.rows.trace_rows(&trace_key(number, trace_id)) {
            let (key, value) = row?;
            let (_, _, min_start_ns) = read_row_key(&key).map_err(TraceStoreError::corrupt("row key", self.day))?;
            found.push(StoredRow { min_start_ns, value });
        }
        Ok(found)
    }

    /// Spans of a trace that records before `sequence` brought, for the pairing of calls.
    pub(crate) fn call_spans(
        &self,
        tenant: &TenantId,
        trace_id: TraceId,
        sequence: u64,
        mut service: impl FnMut(&str) -> Arc<str>,
    ) -> Result<Vec<CallSpan>, TraceStoreError> {
        let corrupt = |what| TraceStoreError::corrupt(what, self.day);
        let mut found = Vec::new();
        for row in self.trace_rows(tenant, trace_id)? {
            if row_sequence(&row.value).map_err(corrupt("row"))? >= sequence {
                continue;
            }
            let reader = RowReader::new(&row.value, row.min_start_ns).map_err(corrupt("row"))?;
            found.extend(reader.spans().iter().map(|span| CallSpan::new(&span.skeleton, service(span.service))));
        }
        Ok(found)
    }

    /// An origin that a row of this partition names.
    pub(crate) fn origin(&self, tenant: &TenantId, hash: OriginHash) -> Result<Origin, TraceStoreError> {
        let missing = || TraceStoreError::Corrupt {
            what: "origin",
            partition: self.day.to_string(),
            detail: "a row names an origin that is not there".to_owned(),
        };
        let number = self.state.read().tenants.get(tenant).copied().ok_or_else(missing)?;
        let bytes = self.rows.meta(&origin_key(number, hash))?.ok_or_else(missing)?;
        decode_origin(&bytes).map_err(TraceStoreError::corrupt("origin", self.day))
    }

    pub(crate) fn for_each_service(&self, tenant: &TenantId, visit: impl FnMut(&str)) {
        self.state.read().names.services(tenant).for_each(visit);
    }

    pub(crate) fn for_each_operation(
        &self,
        tenant: &TenantId,
        service: &str,
        kind: Option<SpanKind>,
        visit: impl FnMut(Operation),
    ) {
        self.state.read().names.operations(tenant, service, kind).for_each(visit);
    }

    /// Call counts of the minutes, both ends inside.
    pub(crate) fn calls(
        &self,
        tenant: &TenantId,
        minutes: (u32, u32),
        mut visit: impl FnMut(&str, &str, i64),
    ) -> Result<(), TraceStoreError> {
        // Under the lock, so that a checkpoint does not move counts from memory to disk meanwhile.
        let state = self.state.read();
        let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
        for ((tenant, minute, parent, child), by) in &state.calls {
            if *tenant == number && (minutes.0..=minutes.1).contains(minute) {
                visit(parent, child, *by);
            }
        }
        let until =
            minutes.1.checked_add(1).map_or_else(|| calls_minute(number + 1, 0), |end| calls_minute(number, end));
        for entry in self.rows.metas(&calls_minute(number, minutes.0), until) {
            let (key, value) = entry?;
            let key = read_meta_key(&key).map_err(TraceStoreError::corrupt("call count", self.day))?;
            if let (MetaKey::Calls { parent, child, .. }, Ok(count)) = (key, <[u8; 8]>::try_from(&*value)) {
                visit(parent, child, i64::from_le_bytes(count));
            }
        }
        Ok(())
    }
}
