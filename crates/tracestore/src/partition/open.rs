//! Opening a partition: what RocksDB and the index hold, blocks that no segment has removed, and what the index
//! lacks.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_model::TenantId;
use rocksdb::WriteBatch;

use super::database::{Database, DatabaseMemory};
use super::filter::TraceFilter;
use super::index::SearchIndex;
use super::indexing::BlockSource;
use super::keys::{DELETED, EXPIRED, MetaKey, POSITION, SEGMENT, block_key, filter_key, read_block_key, read_meta_key};
use super::names::Names;
use super::origins::OriginCatalogue;
use super::segment::{Segment, SegmentRecord, Segments};
use super::{DeletedTraces, Partition, State, Unsealed};
use crate::codec::DecodeError;
use crate::record::Day;
use crate::{Settings, TraceStoreError};

/// The index's layout; another one is another directory and is rebuilt from the blocks.
pub(super) const INDEX_DIRECTORY: &str = "index-2";
pub(super) const SPANS_DIRECTORY: &str = "spans";

impl Partition {
    /// Opens or creates the partition in `directory`.
    pub(crate) fn open(
        directory: &Path,
        day: Day,
        memory: &DatabaseMemory,
        settings: &Settings,
    ) -> Result<Self, TraceStoreError> {
        fs::create_dir_all(directory).map_err(TraceStoreError::io("create", directory))?;
        let database = Database::open(&directory.join(SPANS_DIRECTORY), memory)?;
        let corrupt = |what| TraceStoreError::corrupt(what, day);
        let sealed_position = match database.meta(POSITION)? {
            Some(bytes) => u64::from_le_bytes(bytes.as_slice().try_into().map_err(|_| TraceStoreError::Corrupt {
                what: "position",
                partition: day.to_string(),
                detail: "not eight bytes".to_owned(),
            })?),
            None => 0,
        };
        let mut tenants = HashMap::new();
        for entry in database.metas(b"T", b"U".to_vec()) {
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
        let mut expired = HashMap::new();
        for entry in database.metas(&[EXPIRED], vec![EXPIRED + 1]) {
            let (key, _) = entry?;
            if let MetaKey::Expired { tenant: number } = read_meta_key(&key).map_err(corrupt("expired tenant"))? {
                expired.extend(tenants.extract_if(|_, of| *of == number));
            }
        }
        let by_number: HashMap<u32, TenantId> =
            tenants.iter().map(|(tenant, number)| (*number, tenant.clone())).collect();
        let (mut names, mut catalogue) = (Names::default(), OriginCatalogue::new(settings.origins_in_memory));
        for entry in database.metas(b"N", b"P".to_vec()) {
            let (key, _) = entry?;
            match read_meta_key(&key).map_err(corrupt("entry"))? {
                MetaKey::Name { tenant, kind, service, operation } => {
                    if let Some(tenant) = by_number.get(&tenant) {
                        names.insert(tenant, service, operation, kind);
                    }
                }
                MetaKey::Origin { tenant, hash } => {
                    if let Some(tenant) = by_number.get(&tenant) {
                        catalogue.insert(tenant, hash);
                    }
                }
                _ => {}
            }
        }
        let (segments, deleted, next_segment) = read_segments(&database, memory, day)?;
        let index_path = directory.join(INDEX_DIRECTORY);
        let memory_bytes = settings.index_memory.0 as usize;
        let index = match SearchIndex::open(&index_path, memory_bytes, &memory.index_checks) {
            Some(index) => index,
            None => SearchIndex::create(&index_path, memory_bytes)?,
        };
        let decoded = memory.origins.clone();
        BlockSource { database: &database, decoded: &decoded, day }.reconcile(&index, &segments)?;
        let view = Arc::new(index.view()?);
        let state = RwLock::new(State {
            tenants,
            expired,
            catalogue,
            names,
            active: Unsealed::default(),
            sealing: None,
            segments: Arc::new(segments),
            retired: Vec::new(),
            deleted,
            view,
            next_segment,
            sealed_position,
            unlisted: Vec::new(),
            damaged: HashSet::new(),
            is_dirty: false,
            garbage_spans: 0,
        });
        let operations_max = settings.operations_max;
        let (directory, memory) = (directory.to_owned(), memory.clone());
        Ok(Self { day, directory, database, memory, index, decoded, state, operations_max })
    }
}

/// Segments, marks of deletions by tenant number, and the number of the next segment.
pub(super) type ReadSegments = (Segments, HashMap<u32, Arc<DeletedTraces>>, u64);

/// What a day has of segments and deletions. Blocks that a crash left without a
/// segment are removed.
pub(super) fn read_segments(
    database: &Database,
    memory: &DatabaseMemory,
    day: Day,
) -> Result<ReadSegments, TraceStoreError> {
    let corrupt = |what| TraceStoreError::corrupt(what, day);
    let mut segments = Segments::default();
    let mut next_segment = 0;
    for entry in database.metas(&[SEGMENT], vec![SEGMENT + 1]) {
        let (key, value) = entry?;
        let MetaKey::Segment { tenant, number } = read_meta_key(&key).map_err(corrupt("segment key"))? else {
            continue;
        };
        let record = SegmentRecord::decode(&value).map_err(corrupt("segment record"))?;
        let filter = database.meta(&filter_key(tenant, number))?.unwrap_or_default();
        let filter = TraceFilter::from_bytes(&filter).map_err(corrupt("trace filter"))?;
        segments.insert(Arc::new(Segment::new(tenant, number, record, filter, &memory.filters)));
        next_segment = next_segment.max(number + 1);
    }
    let mut deleted: HashMap<u32, DeletedTraces> = HashMap::new();
    for entry in database.metas(&[DELETED], vec![DELETED + 1]) {
        let (key, value) = entry?;
        if let MetaKey::Deleted { tenant, trace_id } = read_meta_key(&key).map_err(corrupt("deletion key"))? {
            let mark = <[u8; 8]>::try_from(&*value).map(u64::from_le_bytes);
            let mark = mark.map_err(|_| corrupt("deletion mark")(DecodeError::OutOfRange("length")))?;
            deleted.entry(tenant).or_default().insert(trace_id, mark);
            // A mark is never above the next segment's number, and must not hide it.
            next_segment = next_segment.max(mark);
        }
    }
    next_segment = next_segment.max(remove_orphans(database, &segments, day)?);
    Ok((segments, deleted.into_iter().map(|(tenant, traces)| (tenant, Arc::new(traces))).collect(), next_segment))
}

/// Removes blocks that belong to no segment; returns a number above all of theirs.
fn remove_orphans(database: &Database, segments: &Segments, day: Day) -> Result<u64, TraceStoreError> {
    let mut next_segment = 0;
    let mut from = block_key(0, 0, 0);
    let mut batch = WriteBatch::default();
    while let Some(key) = database.next_block_key(&from)? {
        let (tenant, number) = read_block_key(&key).map_err(TraceStoreError::corrupt("block key", day))?;
        let behind = block_key(tenant, number.saturating_add(1), 0);
        if segments.of(tenant).iter().all(|segment| segment.number != number) {
            database.delete_segment(&mut batch, tenant, number);
            next_segment = next_segment.max(number + 1);
        }
        from = behind;
    }
    if !batch.is_empty() {
        database.write(batch)?;
    }
    Ok(next_segment)
}
