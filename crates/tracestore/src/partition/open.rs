//! Opening a partition: what RocksDB and the index hold, blocks that no segment has removed, and what the index
//! lacks.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::RwLock;
use pharos_base::full_message;
use pharos_model::TenantId;
use rocksdb::WriteBatch;

use super::database::{Database, DatabaseMemory};
use super::edges::Edges;
use super::filter::TraceFilter;
use super::index::SearchIndex;
use super::indexing::BlockSource;
use super::keys::{
    DELETED, EDGE, EXPIRED, MetaKey, POSITION, SEGMENT, block_key, filter_key, read_block_key, read_meta_key,
    tenant_key, tenant_range,
};
use super::names::{NameLimits, Names};
use super::origins::OriginCatalogue;
use super::segment::{Segment, SegmentRecord, Segments};
use super::{DeletedTraces, Partition, State, Unsealed, tenants_file};
use crate::codec::DecodeError;
use crate::disk::sync_directory;
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
        let (spans_path, index_path) = (directory.join(SPANS_DIRECTORY), directory.join(INDEX_DIRECTORY));
        let is_new = !spans_path.exists();
        fs::create_dir_all(directory).map_err(TraceStoreError::io("create", directory))?;
        // The index comes last: where there is one, there were spans.
        let database = if index_path.exists() {
            Database::open_existing(&spans_path, memory)?
        } else {
            Database::open(&spans_path, memory)?
        };
        let corrupt = |what| TraceStoreError::corrupt(what, day);
        let sealed_position = match database.meta(POSITION)? {
            Some(bytes) => u64::from_le_bytes(bytes.as_slice().try_into().map_err(|_| TraceStoreError::Corrupt {
                what: "position",
                partition: day.to_string(),
                detail: "not eight bytes".to_owned(),
            })?),
            None => 0,
        };
        let ReadTenants { tenants, expired, next_tenant, listed } = read_tenants(&database, directory, day)?;
        let departed = expired.values().copied().filter(|number| has_origins(&database, *number)).collect();
        let by_number: HashMap<u32, TenantId> =
            tenants.iter().map(|(tenant, number)| (*number, tenant.clone())).collect();
        let (mut names, mut catalogue) = (Names::default(), OriginCatalogue::new(settings.origins_in_memory));
        for entry in database.metas(b"N", b"P".to_vec()) {
            // Lists that lack something are no reason to do without the day: origins are asked of the disk where they are needed.
            let (key, _) = match entry {
                Err(error) if error.is_damage() => {
                    tracing::error!(%day, error = %full_message(&error), "names of services and operations cannot be read");
                    break;
                }
                entry => entry?,
            };
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
        let mut edges = Edges::new(settings.dependencies_max);
        for entry in database.metas(&[EDGE], vec![EDGE + 1]) {
            let (key, _) = entry?;
            if let MetaKey::Edge { tenant, parent, child } = read_meta_key(&key).map_err(corrupt("pair of services"))? {
                edges.insert(tenant, &Arc::from(parent), &Arc::from(child));
            }
        }
        let (segments, deleted, next_segment) = read_segments(&database, memory, day)?;
        let memory_bytes = settings.index_memory.0 as usize;
        let index = match SearchIndex::open(&index_path, memory_bytes, &memory.index_checks) {
            Some(index) => index,
            None => SearchIndex::create(&index_path, memory_bytes)?,
        };
        let decoded = memory.origins.clone();
        BlockSource { database: &database, decoded: &decoded, day }.reconcile(&index, &segments)?;
        let view = Arc::new(index.view()?);
        if is_new {
            sync_directory(directory).map_err(TraceStoreError::io("sync", directory))?;
        }
        let state = RwLock::new(State {
            tenants,
            expired,
            next_tenant,
            catalogue,
            names,
            edges,
            active: Unsealed::default(),
            sealing: None,
            segments: Arc::new(segments),
            retired: Vec::new(),
            departed,
            deleted,
            view,
            next_segment,
            sealed_position,
            unlisted: Vec::new(),
            damaged: HashSet::new(),
            is_dirty: false,
            garbage_spans: 0,
        });
        let name_limits = NameLimits { operations_max: settings.operations_max, bytes_max: settings.names_memory.0 };
        let (directory, memory) = (directory.to_owned(), memory.clone());
        let cache_number = memory.open_blocks.register();
        let tenants_listed = AtomicUsize::new(listed);
        let opened =
            Self { day, directory, database, memory, index, decoded, cache_number, state, name_limits, tenants_listed };
        // Days of before there was such a list.
        opened.list_tenants();
        Ok(opened)
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
    let (segments, deleted, next_segment) = list_segments(database, memory, day)?;
    let next_segment = next_segment.max(remove_orphans(database, &segments, day)?);
    Ok((segments, deleted, next_segment))
}

/// What a day has of segments and deletions, and a number above all that they name.
pub(super) fn list_segments(
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
        let filter = match read_filter(database, tenant, number, day) {
            Err(error) if error.is_damage() => {
                tracing::error!(%day, segment = number, error = %full_message(&error), "a segment's filter is done without");
                None
            }
            filter => Some(filter?),
        };
        segments.insert(Arc::new(Segment::new(day, (tenant, number), record, filter, &memory.filters)));
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
    Ok((segments, deleted.into_iter().map(|(tenant, traces)| (tenant, Arc::new(traces))).collect(), next_segment))
}

struct ReadTenants {
    tenants: HashMap<TenantId, u32>,
    expired: HashMap<TenantId, u32>,
    next_tenant: u32,
    /// How many the second list has, if it agrees.
    listed: usize,
}

/// The numbers of those who have or had spans here. What only the second list has was lost from the first.
fn read_tenants(database: &Database, directory: &Path, day: Day) -> Result<ReadTenants, TraceStoreError> {
    let corrupt = |what| TraceStoreError::corrupt(what, day);
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
    let second = tenants_file::read(directory).unwrap_or_else(|error| {
        tracing::warn!(%day, error = %full_message(&error), "the second list of tenants is made anew");
        Vec::new()
    });
    let listed = second.len();
    let numbers: HashSet<u32> = tenants.values().copied().collect();
    let mut found = WriteBatch::default();
    for (number, tenant) in second {
        if tenants.contains_key(&tenant) || numbers.contains(&number) {
            continue;
        }
        tracing::error!(%day, %tenant, number, "a day's list of tenants is damaged: this one is taken from the second list");
        found.put(tenant_key(tenant.as_str()), number.to_le_bytes());
        tenants.insert(tenant, number);
    }
    if !found.is_empty() {
        database.write(found)?;
    }
    let mut expired = HashMap::new();
    let mut next_tenant = tenants.values().map(|number: &u32| number.saturating_add(1)).max().unwrap_or(0);
    for entry in database.metas(&[EXPIRED], vec![EXPIRED + 1]) {
        let (key, _) = entry?;
        if let MetaKey::Expired { tenant: number } = read_meta_key(&key).map_err(corrupt("expired tenant"))? {
            next_tenant = next_tenant.max(number.saturating_add(1));
            expired.extend(tenants.extract_if(|_, of| *of == number));
        }
    }
    Ok(ReadTenants { tenants, expired, next_tenant, listed })
}

fn has_origins(database: &Database, tenant: u32) -> bool {
    let (from, until) = tenant_range(b'O', tenant);
    database.metas(&from, until).next().is_some()
}

fn read_filter(database: &Database, tenant: u32, number: u64, day: Day) -> Result<TraceFilter, TraceStoreError> {
    let bytes = database.meta(&filter_key(tenant, number))?.unwrap_or_default();
    TraceFilter::from_bytes(&bytes).map_err(TraceStoreError::corrupt("trace filter", day))
}

/// Removes blocks that belong to no segment; returns a number above all of theirs.
fn remove_orphans(database: &Database, segments: &Segments, day: Day) -> Result<u64, TraceStoreError> {
    let mut next_segment = 0;
    let mut from = block_key(0, 0, 0);
    let mut batch = WriteBatch::default();
    let mut listed: Vec<_> = segments.iter().map(|segment| (segment.tenant, segment.number)).collect();
    listed.sort_unstable();
    loop {
        let key = match database.next_block_key(&from) {
            Ok(Some(key)) => key,
            Ok(None) => break,
            // A block that cannot be read, of a segment that is listed if of any: behind it there may be others.
            Err(error) if error.is_damage() => {
                let behind = |(tenant, number): &(u32, u64)| block_key(*tenant, number.saturating_add(1), 0);
                let Some(next) = listed.iter().map(behind).find(|key| *key > from) else { break };
                from = next;
                continue;
            }
            Err(error) => return Err(error),
        };
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
