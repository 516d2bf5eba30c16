//! A partition: the spans that start on one UTC day, with all that belongs to them.
//!
//! Owns a RocksDB (blocks, segments, origins, names, call counts) and a search index, and in memory the head, the tail,
//! the lists of names and known origins. Only the commit thread changes it ([`Partition::stage`],
//! [`Partition::write`], [`Partition::publish`], [`Partition::delete`]) and only the maintenance thread makes checkpoints
//! and merges.
//!
//! Invariants
//! - P1 Every span of a segment is in a block that the index knows, every later one in a tail.
//! - P2 Every span below `sealed_position` is in a segment on disk with its origins, every later one in a head; the call
//!   counts on disk are complete up to exactly there.
//! - P3 Equal rows are one in a head, equal spans one in a segment. What comes again after a seal is stored again; reads show
//!   it once and a merge leaves one.
//! - P4 A deleted trace is in no head; segments with numbers below its mark may still have it, and are not asked for it.
//!
//! One lock, `state`. RocksDB is read under it only where memory and disk must be of one moment; nothing
//! is sealed, flushed, committed or merged under it.

mod catalogue;
mod copy;
mod database;
mod due;
mod edges;
mod examine;
mod expire;
mod filter;
mod find;
mod head;
mod index;
mod indexing;
mod keys;
mod locator;
mod merge;
mod names;
mod open;
mod open_blocks;
mod origins;
mod pieces;
mod read;
mod rewrite;
mod salvage;
mod seal;
mod segment;
mod tail;
mod tenants_file;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use pharos_model::{TenantId, TraceId};
use pharos_storage::{DEPENDENCY_STEP_NS, StorageError};
use rocksdb::WriteBatch;

use crate::TraceStoreError;
use crate::calls::CallChanges;
use crate::codec::OriginHash;
use crate::error::storage_error;
use crate::record::{Day, PreparedBatch, PreparedRow};
use database::Database;
pub(crate) use database::DatabaseMemory;
pub(crate) use due::MergeDepth;
use edges::{Admission, Edges};
use filter::trace_hash;
use head::Head;
use index::{IndexView, SearchIndex};
use indexing::BlockSource;
use keys::{name_key, origin_key, tenant_key};
use names::{NameLimits, Names, NewNames};
use origins::{DecodedOrigins, OriginCatalogue};
pub(crate) use pieces::TracePiece;
pub(crate) use read::PiecePlace;
pub(crate) use salvage::Salvage;
pub(crate) use seal::CallDelta;
use segment::{Segment, Segments};
use tail::Tail;
pub(crate) use tail::{TailRow, TailSize};

/// Changes of call counts by tenant number, minute, caller and called.
type CallCounts = HashMap<(u32, u32, Arc<str>, Arc<str>), i64>;
/// What a count takes in memory, about.
const CALL_BYTES: usize = 96;
/// Deleted traces of a tenant: segments with lower numbers may still have the trace.
type DeletedTraces = HashMap<TraceId, u64>;

struct State {
    tenants: HashMap<TenantId, u32>,
    /// Those whose spans of the day were dropped; they keep their numbers.
    expired: HashMap<TenantId, u32>,
    /// Of the next new tenant: above all that were ever given.
    next_tenant: u32,
    catalogue: OriginCatalogue,
    names: Names,
    edges: Edges,
    /// What came after `sealing`, or after `sealed_position` where nothing is being sealed.
    active: Unsealed,
    /// On its way to disk.
    sealing: Option<Arc<Sealing>>,
    segments: Arc<Segments>,
    /// Merged into others; their blocks are there for those who read them.
    retired: Vec<Arc<Segment>>,
    /// Tenants whose spans were dropped and whose origins are still there.
    departed: Vec<u32>,
    /// By tenant number.
    deleted: HashMap<u32, Arc<DeletedTraces>>,
    view: Arc<IndexView>,
    /// Of the next segment.
    next_segment: u64,
    sealed_position: u64,
    /// Segments that the index knows and readers do not see, by tenant number.
    unlisted: Vec<(u32, u64)>,
    /// Segments with blocks that cannot be read, by tenant number: merges leave them alone.
    damaged: HashSet<(u32, u64)>,
    /// Whether there is something to bring to disk.
    is_dirty: bool,
    /// Spans whose blocks were removed and that RocksDB's files may still have.
    garbage_spans: u64,
}

/// What only memory and the log have.
#[derive(Default)]
struct Unsealed {
    head: Head,
    tail: Tail,
    calls: CallCounts,
    /// Pairs of caller and called that are new, by tenant number.
    edges: Vec<(u32, Arc<str>, Arc<str>)>,
    /// Deletions whose marks are not on disk.
    deletions: Vec<(u32, TraceId)>,
}

/// What a checkpoint took to bring to disk: all below `position`.
struct Sealing {
    unsealed: Unsealed,
    position: u64,
    /// Number of the segments that come of it, one a tenant.
    number: u64,
    /// The marks of the deletions, by tenant number.
    marks: Vec<(u32, TraceId, u64)>,
    /// Once they are written; not yet flushed.
    written: OnceLock<Vec<Arc<Segment>>>,
}

/// The spans of one day.
pub(crate) struct Partition {
    day: Day,
    directory: PathBuf,
    database: Database,
    memory: DatabaseMemory,
    index: SearchIndex,
    decoded: DecodedOrigins,
    /// By which opened blocks are known.
    cache_number: u64,
    state: RwLock<State>,
    name_limits: NameLimits,
    /// How many tenants the second list of them has.
    tenants_listed: AtomicUsize,
}

/// A record's effect on one partition, not yet written.
pub(crate) struct Staged<'a> {
    batch: WriteBatch,
    /// `None` if there is nothing to publish.
    tenant: Option<(TenantId, u32)>,
    origins: Vec<OriginHash>,
    names: NewNames,
    /// Rows that are not in a head.
    pub(crate) fresh: Vec<&'a PreparedRow>,
}

impl Partition {
    pub(crate) fn day(&self) -> Day {
        self.day
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records below were applied here when the partition was brought to disk last.
    pub(crate) fn position(&self) -> u64 {
        self.state.read().sealed_position
    }

    /// Works out what a record changes here. `sequence` is the record's.
    pub(crate) fn stage<'a>(
        &self,
        prepared: &'a PreparedBatch,
        rows: &[&'a PreparedRow],
        sequence: u64,
    ) -> Result<Staged<'a>, TraceStoreError> {
        let state = self.state.read();
        let tenant = &prepared.tenant;
        let mut staged = Staged {
            batch: WriteBatch::default(),
            tenant: None,
            origins: Vec::new(),
            names: NewNames::default(),
            fresh: Vec::new(),
        };
        // It is sealed, or came while the tenant's spans of the day went: they stay gone.
        if sequence < state.sealed_position || state.expired.contains_key(tenant) {
            return Ok(staged);
        }
        let number = state.number_of(tenant, &mut staged.batch);
        staged.tenant = Some((tenant.clone(), number));
        for (hash, bytes) in &prepared.origins {
            let is_known = match state.catalogue.contains(tenant, *hash) {
                Some(is_known) => is_known,
                None => self.database.meta(&origin_key(number, *hash))?.is_some(),
            };
            if !is_known {
                staged.batch.put(origin_key(number, *hash), bytes);
                staged.origins.push(*hash);
            }
        }
        for row in rows {
            // P3
            if state.head_contains(number, row) {
                continue;
            }
            staged.fresh.push(row);
            for mention in &row.mentions {
                let (service, operation, kind) = (&mention.service, &mention.operation, mention.kind);
                if staged.names.add(&state.names, tenant, (service, operation, kind), self.name_limits) {
                    staged.batch.put(name_key(number, service, operation, kind), []);
                }
            }
        }
        Ok(staged)
    }

    /// Writes what was staged and is small to RocksDB's memory: tenants, origins, names. The next checkpoint brings
    /// it to disk; should RocksDB do so earlier, it says nothing of spans that are not there.
    pub(crate) fn write(&self, staged: &mut Staged<'_>) -> Result<(), TraceStoreError> {
        let batch = std::mem::take(&mut staged.batch);
        if batch.is_empty() { Ok(()) } else { self.database.write(batch) }
    }

    /// Makes what was staged visible to all reads.
    pub(crate) fn publish(&self, staged: Staged<'_>) {
        let mut state = self.state.write();
        let state = &mut *state;
        let Some((tenant, number)) = staged.tenant else { return };
        state.tenants.entry(tenant.clone()).or_insert(number);
        state.next_tenant = state.next_tenant.max(number.saturating_add(1));
        for hash in &staged.origins {
            state.catalogue.insert(&tenant, *hash);
        }
        for (service, operation, kind) in staged.names.iter() {
            state.names.insert(&tenant, service, operation, kind);
        }
        if let Some((service, operation, limit)) = &staged.names.refused
            && state.names.first_refused(&tenant)
        {
            tracing::warn!(
                day = %self.day, %tenant, %service, %operation, limit,
                "a service or operation is not listed, and further ones of this day may not be: their spans are stored and found"
            );
        }
        for row in &staged.fresh {
            // One record may hold equal rows, too: two of one trace and day never, so this is P3 again.
            let Unsealed { head, tail, .. } = &mut state.active;
            tail.push(number, row.trace_id, &row.row, &row.tail);
            head.push(number, row.trace_id, Arc::clone(&row.row), row.tail.len());
        }
        state.is_dirty |= !staged.fresh.is_empty();
    }

    /// Deletes a trace with all that records below `sequence` brought of it.
    pub(crate) fn delete(&self, tenant: &TenantId, trace_id: TraceId, sequence: u64) -> Result<(), TraceStoreError> {
        let mut state = self.state.write();
        let state = &mut *state;
        // Its mark is on disk already.
        if sequence < state.sealed_position {
            return Ok(());
        }
        let Some(number) = state.tenants.get(tenant).copied() else { return Ok(()) };
        let hash = trace_hash(trace_id);
        let was_active =
            state.active.head.remove(number, trace_id).map_err(TraceStoreError::corrupt("row", self.day))?;
        if was_active {
            state.active.tail.remove(number, trace_id);
        }
        let sealing = state.sealing.as_ref();
        let may_be_elsewhere = sealing.is_some_and(|sealing| !sealing.unsealed.head.rows(number, trace_id).is_empty())
            || state.segments.of(number).iter().any(|segment| segment.may_contain(hash));
        if was_active || may_be_elsewhere {
            // The mark holds for what is being sealed, too, and not for what comes.
            let deleted = state.deleted.entry(number).or_default();
            Arc::make_mut(deleted).insert(trace_id, state.next_segment);
            state.active.deletions.push((number, trace_id));
            state.is_dirty = true;
        }
        Ok(())
    }

    /// Deleted traces of a tenant that are remembered.
    pub(crate) fn deleted_count(&self, tenant: &TenantId) -> usize {
        let state = self.state.read();
        let number = state.tenants.get(tenant);
        number.and_then(|number| state.deleted.get(number)).map_or(0, |deleted| deleted.len())
    }

    /// Gives a tenant a number, so that its calls can be counted, though none of its spans may come.
    pub(crate) fn admit_tenant(&self, tenant: &TenantId) -> Result<(), TraceStoreError> {
        let mut state = self.state.write();
        if state.tenants.contains_key(tenant) || state.expired.contains_key(tenant) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let number = state.number_of(tenant, &mut batch);
        self.database.write(batch)?;
        state.tenants.insert(tenant.clone(), number);
        state.next_tenant = state.next_tenant.max(number.saturating_add(1));
        state.is_dirty = true;
        Ok(())
    }

    /// Counts those of the calls whose child starts on this day.
    pub(crate) fn count_calls(&self, tenant: &TenantId, changes: &CallChanges) {
        let mut state = self.state.write();
        let state = &mut *state;
        let Some(number) = state.tenants.get(tenant).copied() else { return };
        for (minute, parent, child, by) in changes.iter() {
            if Day::of(u64::from(minute) * DEPENDENCY_STEP_NS) != self.day {
                continue;
            }
            match state.edges.admit(number, parent, child) {
                Admission::Known => {}
                Admission::New => state.active.edges.push((number, Arc::clone(parent), Arc::clone(child))),
                Admission::Refused => continue,
                Admission::FirstRefused => {
                    tracing::warn!(
                        day = %self.day, %tenant, %parent, %child,
                        "tracestore.dependencies_max is reached: calls of further pairs of services are not counted"
                    );
                    continue;
                }
            }
            let call = (number, minute, Arc::clone(parent), Arc::clone(child));
            *state.active.calls.entry(call).or_default() += by;
            state.is_dirty = true;
        }
    }

    /// Spans that wait for a checkpoint, and the memory they take.
    pub(crate) fn tail_size(&self) -> TailSize {
        let state = self.state.read();
        let sealing = state.sealing.as_ref().map(|sealing| sealing.unsealed.size()).unwrap_or_default();
        state.active.size() + sealing
    }

    fn block_source(&self) -> BlockSource<'_> {
        BlockSource { database: &self.database, decoded: &self.decoded, day: self.day }
    }

    /// Ends background work; everything in memory is forgotten.
    pub(crate) fn stop(&self) -> Result<(), TraceStoreError> {
        self.database.stop();
        self.index.close()
    }

    /// Gives back the memory and threads that writing to the index takes.
    pub(crate) fn close_index_writer(&self) -> Result<(), TraceStoreError> {
        self.index.close()
    }

    /// Segments that merges leave alone, as blocks of them cannot be read.
    pub(crate) fn damaged_segments(&self) -> u64 {
        self.state.read().damaged.len() as u64
    }

    /// Whether RocksDB met damage or could not write.
    pub(crate) fn is_failing(&self) -> bool {
        self.database.is_failing()
    }

    /// Bytes of spans and of the index on disk.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.database.bytes(), self.index.bytes())
    }

    /// Segments of all tenants.
    pub(crate) fn segment_count(&self) -> u64 {
        self.state.read().segments.iter().count() as u64
    }

    /// Spans in segments, which the index knows.
    pub(crate) fn indexed_spans(&self) -> u64 {
        self.state.read().segments.iter().map(|segment| segment.record.span_count).sum()
    }
}

impl Unsealed {
    fn size(&self) -> TailSize {
        let (head_spans, head_bytes) = self.head.size();
        let tail = self.tail.size();
        let calls_bytes = (self.calls.len() * CALL_BYTES) as u64;
        TailSize { spans: head_spans.max(tail.spans), bytes: head_bytes as u64 + tail.bytes + calls_bytes }
    }
}

impl State {
    /// The tenant's number; a new one is put into `batch`.
    fn number_of(&self, tenant: &TenantId, batch: &mut WriteBatch) -> u32 {
        self.tenants.get(tenant).copied().unwrap_or_else(|| {
            batch.put(tenant_key(tenant.as_str()), self.next_tenant.to_le_bytes());
            self.next_tenant
        })
    }

    fn head_contains(&self, tenant: u32, row: &PreparedRow) -> bool {
        let is_deleted_since = |number: u64| {
            let mark = self.deleted.get(&tenant).and_then(|deleted| deleted.get(&row.trace_id));
            mark.is_some_and(|mark| number < *mark)
        };
        self.active.head.contains(tenant, row.trace_id, &row.row)
            || self.sealing.as_ref().is_some_and(|sealing| {
                sealing.unsealed.head.contains(tenant, row.trace_id, &row.row) && !is_deleted_since(sealing.number)
            })
    }
}

/// For fuzzing: reads bytes as a page of a locator and as a segment's record.
#[cfg(feature = "internals")]
pub(crate) fn read_beside_blocks(bytes: &[u8]) {
    for entries in [1, 100_000] {
        let found = locator::find_blocks(locator::LocatorShape::of(entries), bytes, 1 << 40);
        assert!(found.map_or(0, |blocks| blocks.len()) <= bytes.len());
    }
    if let Ok(record) = segment::SegmentRecord::decode(bytes) {
        assert_eq!(segment::SegmentRecord::decode(&record.encode()), Ok(record));
    }
}

/// Turns a partition's failure into the contract's.
pub(crate) fn read_error(error: TraceStoreError) -> StorageError {
    storage_error("read of the trace store")(error)
}
