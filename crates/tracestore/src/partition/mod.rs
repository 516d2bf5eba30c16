//! A partition: the spans that start on one UTC day, with all that belongs to them.
//!
//! Owns a RocksDB (rows, origins, names, call counts) and a search index, and in memory the tail, the
//! lists of names and the catalogue of origins. Only the commit thread changes it ([`Partition::stage`],
//! [`Partition::write`], [`Partition::publish`]) and only the maintenance thread makes checkpoints.
//!
//! Invariants
//! - P1 Every span below `index_position` is in the index, every later one in a tail.
//! - P2 Every row below `rows_position` is on disk with its origins, and so are the call counts up to exactly there.
//! - P3 A row keeps the sequence of the record that brought it first; so a replay can tell its own rows from
//!   duplicates.
//!
//! One lock, `state`. RocksDB is read under it only where memory and disk must be of one moment; nothing
//! is flushed, committed or merged under it.

mod copy;
mod index;
mod keys;
mod names;
mod open;
mod origins;
mod read;
mod rows;
mod tail;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_model::TenantId;
use pharos_storage::{DEPENDENCY_STEP_NS, StorageError};
use rocksdb::WriteBatch;

use crate::TraceStoreError;
use crate::calls::CallChanges;
use crate::codec::{Origin, OriginHash, decode_origin, row_sequence, set_row_sequence};
use crate::error::storage_error;
use crate::record::{Day, PreparedBatch, PreparedRow};
use index::{IndexView, SearchIndex};
use keys::{POSITION, calls_key, name_key, origin_key, row_key, tenant_key};
use names::{Names, NewNames};
pub(crate) use origins::{OriginCatalogue, StoredOrigins, mark};
use rows::RowStore;
pub(crate) use rows::RowsMemory;
use tail::Tail;
pub(crate) use tail::TailSize;

type CallCounts = HashMap<(u32, u32, Arc<str>, Arc<str>), i64>;

struct State {
    tenants: HashMap<TenantId, u32>,
    catalogue: OriginCatalogue,
    names: Names,
    /// Changes of call counts since `rows_position`.
    calls: CallCounts,
    active: Tail,
    /// On its way into the index, which will then be complete up to the position.
    frozen: Option<(Arc<Tail>, u64)>,
    view: Arc<IndexView>,
    rows_position: u64,
    index_position: u64,
    is_dirty: bool,
}

/// The spans of one day.
pub(crate) struct Partition {
    day: Day,
    directory: PathBuf,
    rows: RowStore,
    index: SearchIndex,
    state: RwLock<State>,
    operations_max: u64,
}

/// A record's effect on one partition, not yet written.
pub(crate) struct Staged<'a> {
    batch: WriteBatch,
    tenant: (TenantId, u32),
    origins: Vec<(OriginHash, Origin)>,
    names: NewNames,
    /// Rows that were not there before this record.
    pub(crate) fresh: Vec<&'a PreparedRow>,
    into_rows: bool,
    into_index: bool,
}

/// A row as it is stored.
pub(crate) struct StoredRow {
    pub(crate) min_start_ns: u64,
    pub(crate) value: Box<[u8]>,
}

impl Partition {
    pub(crate) fn day(&self) -> Day {
        self.day
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The log position that both engines have reached; records from there on may be needed again.
    pub(crate) fn position(&self) -> u64 {
        let state = self.state.read();
        state.rows_position.max(state.index_position)
    }

    /// Works out what a record changes here. `sequence` is the record's.
    pub(crate) fn stage<'a>(
        &self,
        prepared: &'a PreparedBatch,
        rows: &[&'a PreparedRow],
        sequence: u64,
    ) -> Result<Staged<'a>, TraceStoreError> {
        let state = self.state.read();
        let corrupt = |what| TraceStoreError::corrupt(what, self.day);
        let mut batch = WriteBatch::default();
        let tenant = &prepared.tenant;
        let number = state.tenants.get(tenant).copied().unwrap_or_else(|| {
            let number = state.tenants.len() as u32;
            batch.put(tenant_key(tenant.as_str()), number.to_le_bytes());
            number
        });
        let mut staged = Staged {
            batch,
            tenant: (tenant.clone(), number),
            origins: Vec::new(),
            names: NewNames::default(),
            fresh: Vec::new(),
            into_rows: sequence >= state.rows_position,
            into_index: sequence >= state.index_position,
        };
        for (hash, bytes) in &prepared.origins {
            let is_known = match state.catalogue.contains(tenant, *hash) {
                Some(is_known) => is_known,
                None => self.rows.meta(&origin_key(number, *hash))?.is_some(),
            };
            if !is_known {
                staged.batch.put(origin_key(number, *hash), bytes);
                staged.origins.push((*hash, decode_origin(bytes).map_err(corrupt("origin"))?));
            }
        }
        for row in rows {
            let mut hash = row.hash;
            let key = loop {
                let key = row_key(number, row.trace_id, row.min_start_ns, hash);
                let Some(stored) = self.rows.row(&key)? else { break Some(key) };
                let stored_sequence = row_sequence(&stored).map_err(corrupt("row"))?;
                if stored.get(9..) == row.value.get(9..) {
                    // P3: our own row again, or a duplicate of an earlier one.
                    break (stored_sequence >= sequence).then_some(key);
                }
                // Another row with the same hash: the next number is free sooner or later.
                hash = hash.wrapping_add(1);
            };
            let Some(key) = key else { continue };
            if staged.into_rows {
                let mut value = row.value.clone();
                set_row_sequence(&mut value, sequence);
                self.rows.put_row(&mut staged.batch, &key, &value);
            }
            staged.fresh.push(row);
            for mention in &row.mentions {
                let (service, operation, kind) = (&mention.service, &mention.operation, mention.kind);
                if staged.names.add(&state.names, tenant, service, operation, kind, self.operations_max) {
                    staged.batch.put(name_key(number, service, operation, kind), []);
                }
            }
        }
        Ok(staged)
    }

    /// Writes what was staged to RocksDB's memory.
    pub(crate) fn write(&self, staged: &mut Staged<'_>) -> Result<(), TraceStoreError> {
        let batch = std::mem::take(&mut staged.batch);
        if staged.into_rows && !batch.is_empty() { self.rows.write(batch) } else { Ok(()) }
    }

    /// Makes what was written visible to searches and lists.
    pub(crate) fn publish(&self, staged: Staged<'_>) {
        let mut state = self.state.write();
        let (tenant, number) = staged.tenant;
        state.tenants.entry(tenant.clone()).or_insert(number);
        for (hash, origin) in &staged.origins {
            state.catalogue.insert(&tenant, *hash, origin);
        }
        for (service, operation, kind) in staged.names.iter() {
            state.names.insert(&tenant, service, operation, kind);
        }
        if staged.into_index {
            for row in &staged.fresh {
                row.documents.iter().for_each(|document| state.active.push(row.trace_id, document));
            }
        }
        state.is_dirty = true;
    }

    /// Counts those of the calls whose child starts on this day.
    pub(crate) fn count_calls(&self, tenant: &TenantId, changes: &CallChanges, sequence: u64) {
        let mut state = self.state.write();
        // P2: what the counts on disk already hold is not counted again when the log is replayed.
        if sequence < state.rows_position {
            return;
        }
        let Some(number) = state.tenants.get(tenant).copied() else { return };
        for (minute, parent, child, by) in changes.iter() {
            if Day::of(u64::from(minute) * DEPENDENCY_STEP_NS) == self.day {
                *state.calls.entry((number, minute, Arc::clone(parent), Arc::clone(child))).or_default() += by;
                state.is_dirty = true;
            }
        }
    }

    /// Spans that wait for the index.
    pub(crate) fn tail_size(&self) -> TailSize {
        let state = self.state.read();
        let frozen = state.frozen.as_ref().map(|(tail, _)| tail.size()).unwrap_or_default();
        state.active.size() + frozen
    }

    /// First half of a checkpoint, while nothing is applied: all records below `position` are. Returns
    /// whether there is anything to bring to disk.
    pub(crate) fn begin_checkpoint(&self, position: u64) -> Result<bool, TraceStoreError> {
        let mut state = self.state.write();
        if !state.is_dirty && state.frozen.is_none() {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        for ((tenant, minute, parent, child), by) in &state.calls {
            let key = calls_key(*tenant, *minute, parent, child);
            let counted = self.rows.meta(&key)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes);
            batch.put(key, (counted + by).to_le_bytes());
        }
        batch.put(POSITION, position.to_le_bytes());
        self.rows.write(batch)?;
        state.calls.clear();
        // A commit that failed is tried again before the next one.
        if state.frozen.is_none() {
            state.frozen = Some((Arc::new(std::mem::take(&mut state.active)), position));
        }
        state.is_dirty = !state.active.is_empty();
        Ok(true)
    }

    /// Second half: brings rows and index to disk. Returns the position that both have reached.
    pub(crate) fn finish_checkpoint(&self, position: u64, keep_writer: bool) -> Result<u64, TraceStoreError> {
        let flushed = self.rows.flush();
        if let Err(error) = flushed {
            self.state.write().is_dirty = true;
            return Err(error);
        }
        let frozen = {
            let mut state = self.state.write();
            state.rows_position = state.rows_position.max(position);
            state.frozen.clone()
        };
        let Some((tail, index_position)) = frozen else { return Ok(position) };
        // Rows first: an index must never know spans whose rows a crash can take away.
        if !tail.is_empty()
            && let Err(error) = self.index.commit(&tail, index_position, keep_writer)
        {
            self.state.write().is_dirty = true;
            return Err(error);
        }
        let view = Arc::new(self.index.view()?);
        let mut state = self.state.write();
        state.view = view;
        state.frozen = None;
        state.index_position = state.index_position.max(index_position);
        Ok(index_position)
    }

    /// Merges rows and index segments as far as that goes.
    pub(crate) fn compact(&self) -> Result<(), TraceStoreError> {
        self.rows.compact();
        self.index.merge_all()?;
        let view = Arc::new(self.index.view()?);
        self.state.write().view = view;
        Ok(())
    }

    /// Ends background work; everything in memory is forgotten.
    pub(crate) fn stop(&self) -> Result<(), TraceStoreError> {
        self.rows.stop();
        self.index.close()
    }

    /// Bytes of rows and of the index on disk.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.rows.bytes(), self.index.bytes())
    }

    /// Documents in the index.
    pub(crate) fn indexed_spans(&self) -> u64 {
        self.state.read().view.spans()
    }
}

/// Turns a partition's failure into the contract's.
pub(crate) fn read_error(error: TraceStoreError) -> StorageError {
    storage_error("read of the trace store")(error)
}
