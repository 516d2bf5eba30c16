//! The head: rows that no segment holds yet, by tenant and trace.
//!
//! Owns nothing on disk: the log has every row of it. A head takes rows until it is frozen, is then sealed as a
//! whole, and is forgotten when its segments are on disk.
//!
//! Invariant H1: a row is in it once, however often it came.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_model::TraceId;

use crate::codec::{DecodeError, RowReader};
use crate::record::Row;

/// What a row costs beside its bytes: its place in the map, the list of its trace and the counts of its `Arc`.
const ROW_OVERHEAD_BYTES: usize = 160;

/// Rows by tenant number and trace.
#[derive(Debug, Default)]
pub(super) struct Head {
    traces: HashMap<(u32, TraceId), Vec<Arc<Row>>>,
    span_count: u64,
    bytes: usize,
}

/// A trace with its rows in a head.
pub(super) struct HeadTrace<'a> {
    pub(super) tenant: u32,
    pub(super) trace_id: TraceId,
    pub(super) rows: &'a [Arc<Row>],
    /// The earliest start of all its rows.
    pub(super) start_ns: u64,
}

impl Head {
    /// Spans in it, and the memory it takes, about.
    pub(super) fn size(&self) -> (u64, usize) {
        (self.span_count, self.bytes)
    }

    pub(super) fn contains(&self, tenant: u32, trace_id: TraceId, row: &Row) -> bool {
        self.rows(tenant, trace_id).iter().any(|known| **known == *row)
    }

    pub(super) fn rows(&self, tenant: u32, trace_id: TraceId) -> &[Arc<Row>] {
        self.traces.get(&(tenant, trace_id)).map_or(&[], Vec::as_slice)
    }

    /// Adds a row that it does not contain.
    pub(super) fn push(&mut self, tenant: u32, trace_id: TraceId, row: Arc<Row>, span_count: usize) {
        debug_assert!(!self.contains(tenant, trace_id, &row), "H1");
        self.span_count += span_count as u64;
        self.bytes += row.value.len() + ROW_OVERHEAD_BYTES;
        self.traces.entry((tenant, trace_id)).or_insert_with(|| Vec::with_capacity(1)).push(row);
    }

    /// Removes a trace; returns whether it was there.
    pub(super) fn remove(&mut self, tenant: u32, trace_id: TraceId) -> Result<bool, DecodeError> {
        let Some(rows) = self.traces.remove(&(tenant, trace_id)) else { return Ok(false) };
        for row in rows {
            self.bytes -= row.value.len() + ROW_OVERHEAD_BYTES;
            self.span_count -= RowReader::new(&row.value, row.min_start_ns)?.spans().len() as u64;
        }
        Ok(true)
    }

    /// Removes all traces of a tenant.
    pub(super) fn remove_tenant(&mut self, tenant: u32) {
        let mut others = Self::default();
        for ((of, trace_id), rows) in std::mem::take(&mut self.traces) {
            if of != tenant {
                for row in rows {
                    let span_count = RowReader::new(&row.value, row.min_start_ns).map_or(0, |row| row.spans().len());
                    others.push(of, trace_id, row, span_count);
                }
            }
        }
        *self = others;
    }

    /// All traces as segments keep them: by tenant, then start, then id.
    pub(super) fn sorted(&self) -> Vec<HeadTrace<'_>> {
        let mut traces: Vec<_> = self
            .traces
            .iter()
            .map(|(&(tenant, trace_id), rows)| {
                let start_ns = rows.iter().map(|row| row.min_start_ns).min().unwrap_or(0);
                HeadTrace { tenant, trace_id, rows, start_ns }
            })
            .collect();
        traces.sort_unstable_by_key(|trace| (trace.tenant, trace.start_ns, trace.trace_id));
        traces
    }
}
