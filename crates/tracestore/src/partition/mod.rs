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
//! Lock order: `state`; nothing slow is done under it.

mod index;
mod keys;
mod names;
mod origins;
mod rows;
mod tail;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_model::{SpanKind, TenantId, TraceId};
use pharos_storage::{DEPENDENCY_STEP_NS, Operation, ReadContext, StorageError, TraceQuery};
use rocksdb::WriteBatch;

use crate::calls::{CallChange, CallSpan};
use crate::codec::{Origin, OriginHash, RowReader, decode_origin, row_sequence, set_row_sequence};
use crate::disk::sync_directory;
use crate::error::storage_error;
use crate::record::{Day, PreparedBatch, PreparedRow, row_from_value};
use crate::search::{SearchBounds, TopTraces, plan};
use crate::{Settings, TraceStoreError};
use index::{IndexView, SearchIndex};
use keys::{MetaKey, POSITION, calls_key, calls_minute, name_key, origin_key, read_meta_key, read_row_key, row_key};
use keys::{tenant_key, trace_key};
use names::Names;
pub(crate) use origins::OriginCatalogue;
use rows::RowStore;
pub(crate) use rows::RowsMemory;
use tail::Tail;

/// The index's layout; another one is another directory and is rebuilt from the rows.
const INDEX_DIRECTORY: &str = "index-1";
const ROWS_DIRECTORY: &str = "rows";
const INDEX_BUILDING_DIRECTORY: &str = "index-building";
/// Spans per commit while an index is rebuilt.
const REBUILD_COMMIT_SPANS: usize = 100_000;

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
    names: Vec<(String, String, SpanKind)>,
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
    /// Opens or creates the partition in `directory`.
    pub(crate) fn open(
        directory: &Path,
        day: Day,
        memory: &RowsMemory,
        settings: &Settings,
    ) -> Result<Self, TraceStoreError> {
        fs::create_dir_all(directory).map_err(TraceStoreError::io("create", directory))?;
        let rows = RowStore::open(&directory.join(ROWS_DIRECTORY), memory)?;
        let corrupt = |what| TraceStoreError::corrupt(what, day);
        let rows_position = match rows.meta(POSITION)? {
            Some(bytes) => u64::from_le_bytes(bytes.as_slice().try_into().map_err(|_| TraceStoreError::Corrupt {
                what: "position",
                partition: day.to_string(),
                detail: "not eight bytes".to_owned(),
            })?),
            None => 0,
        };
        let mut tenants = HashMap::new();
        for entry in rows.metas(b"T", b"U".to_vec()) {
            let (key, value) = entry?;
            if let MetaKey::Tenant { name } = read_meta_key(&key).map_err(corrupt("tenant"))? {
                let number = <[u8; 4]>::try_from(&*value).map(u32::from_le_bytes);
                let tenant = name.parse::<TenantId>().ok().zip(number.ok());
                let (tenant, number) = tenant.ok_or_else(|| TraceStoreError::Corrupt {
                    what: "tenant",
                    partition: day.to_string(),
                    detail: format!("{name:?} has no number or is no name"),
                })?;
                tenants.insert(tenant, number);
            }
        }
        let by_number: HashMap<u32, TenantId> =
            tenants.iter().map(|(tenant, number)| (*number, tenant.clone())).collect();
        let (mut names, mut catalogue) = (Names::default(), OriginCatalogue::default());
        for entry in rows.metas(b"N", b"P".to_vec()) {
            let (key, value) = entry?;
            match read_meta_key(&key).map_err(corrupt("entry"))? {
                MetaKey::Name { tenant, kind, service, operation } => {
                    if let Some(tenant) = by_number.get(&tenant) {
                        names.insert(tenant, service, operation, kind);
                    }
                }
                MetaKey::Origin { tenant, hash } => {
                    if let Some(tenant) = by_number.get(&tenant) {
                        catalogue.insert(tenant, hash, &decode_origin(&value).map_err(corrupt("origin"))?);
                    }
                }
                _ => {}
            }
        }
        let index_path = directory.join(INDEX_DIRECTORY);
        let memory_bytes = settings.index_memory.0 as usize;
        let (index, index_position) = if let Some(opened) = SearchIndex::open(&index_path, memory_bytes) {
            opened
        } else {
            // Under another name until it is whole: a crash meanwhile begins anew.
            let building = directory.join(INDEX_BUILDING_DIRECTORY);
            let index = SearchIndex::create(&building, memory_bytes)?;
            rebuild_index(&index, &rows, &by_number, day, rows_position)?;
            index.close()?;
            drop(index);
            replace_directory(&building, &index_path)?;
            SearchIndex::open(&index_path, memory_bytes).ok_or_else(|| TraceStoreError::Corrupt {
                what: "search index",
                partition: day.to_string(),
                detail: "it cannot be read after it was built".to_owned(),
            })?
        };
        let view = Arc::new(index.view()?);
        let state = RwLock::new(State {
            tenants,
            catalogue,
            names,
            calls: CallCounts::new(),
            active: Tail::default(),
            frozen: None,
            view,
            rows_position,
            index_position,
            is_dirty: false,
        });
        let operations_max = settings.operations_max;
        Ok(Self { day, directory: directory.to_owned(), rows, index, state, operations_max })
    }

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
            names: Vec::new(),
            fresh: Vec::new(),
            into_rows: sequence >= state.rows_position,
            into_index: sequence >= state.index_position,
        };
        for (hash, bytes) in &prepared.origins {
            if !state.catalogue.contains(tenant, *hash) {
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
                if state.names.is_new(tenant, service, operation, kind, self.operations_max)
                    && !staged.names.iter().any(|(s, o, k)| s == service && o == operation && *k == kind)
                {
                    staged.batch.put(name_key(number, service, operation, kind), []);
                    staged.names.push((service.clone(), operation.clone(), kind));
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
        for (service, operation, kind) in &staged.names {
            state.names.insert(&tenant, service, operation, *kind);
        }
        if staged.into_index {
            for row in &staged.fresh {
                row.documents.iter().for_each(|document| state.active.push(row.trace_id, document));
            }
        }
        state.is_dirty = true;
    }

    /// Counts calls whose child starts on this day.
    pub(crate) fn count_call(&self, tenant: &TenantId, change: &CallChange, sequence: u64) {
        let mut state = self.state.write();
        // P2: what the counts on disk already hold is not counted again when the log is replayed.
        if sequence < state.rows_position {
            return;
        }
        let Some(number) = state.tenants.get(tenant).copied() else { return };
        let minute = (change.child_start_ns / DEPENDENCY_STEP_NS) as u32;
        let key = (number, minute, Arc::clone(&change.parent), Arc::clone(&change.child));
        *state.calls.entry(key).or_default() += change.by;
        state.is_dirty = true;
    }

    /// Spans that wait for the index.
    pub(crate) fn tail_spans(&self) -> usize {
        let state = self.state.read();
        state.active.len() + state.frozen.as_ref().map_or(0, |(tail, _)| tail.len())
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
            let Some(clauses) = plan(tenant, query, &state.catalogue) else { return Ok(()) };
            state.active.search(&clauses, &bounds, top);
            if let Some((frozen, _)) = &state.frozen {
                frozen.search(&clauses, &bounds, top);
            }
            (clauses, Arc::clone(&state.view))
        };
        self.index.search(&view, &clauses, &bounds, top, context)
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

fn replace_directory(from: &Path, to: &Path) -> Result<(), TraceStoreError> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(TraceStoreError::io("remove", to))?;
    }
    fs::rename(from, to).map_err(TraceStoreError::io("rename", from))?;
    let parent = to.parent().unwrap_or(to);
    sync_directory(parent).map_err(TraceStoreError::io("sync", parent))
}

/// Fills an empty index with all rows below `position`; later ones come from the log.
fn rebuild_index(
    index: &SearchIndex,
    rows: &RowStore,
    tenants: &HashMap<u32, TenantId>,
    day: Day,
    position: u64,
) -> Result<(), TraceStoreError> {
    let corrupt = |what| TraceStoreError::corrupt(what, day);
    let mut tail = Tail::default();
    for row in rows.all_rows() {
        let (key, value) = row?;
        let (number, trace_id, min_start_ns) = read_row_key(&key).map_err(corrupt("row key"))?;
        let Some(tenant) = tenants.get(&number) else { continue };
        if row_sequence(&value).map_err(corrupt("row"))? >= position {
            continue;
        }
        let row = row_from_value(tenant, day, trace_id, min_start_ns, value.into_vec()).map_err(corrupt("row"))?;
        row.documents.iter().for_each(|document| tail.push(trace_id, document));
        if tail.len() >= REBUILD_COMMIT_SPANS {
            index.commit(&tail, 0, true)?;
            tail = Tail::default();
        }
    }
    index.commit(&tail, position, false)
}

/// Turns a partition's failure into the contract's.
pub(crate) fn read_error(error: TraceStoreError) -> StorageError {
    storage_error("read of the trace store")(error)
}
