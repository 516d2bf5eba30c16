//! Opening a partition: what RocksDB and the index hold, and an index anew where there is none.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use pharos_model::TenantId;

use super::index::SearchIndex;
use super::keys::{MetaKey, POSITION, read_meta_key, read_row_key};
use super::names::Names;
use super::origins::OriginCatalogue;
use super::rows::{RowStore, RowsMemory};
use super::tail::Tail;
use super::{CallCounts, Partition, State};
use crate::codec::{decode_origin, row_sequence};
use crate::disk::sync_directory;
use crate::record::{Day, row_from_value};
use crate::{Settings, TraceStoreError};

/// The index's layout; another one is another directory and is rebuilt from the rows.
pub(super) const INDEX_DIRECTORY: &str = "index-1";
pub(super) const ROWS_DIRECTORY: &str = "rows";
const INDEX_BUILDING_DIRECTORY: &str = "index-building";
/// Spans per commit while an index is rebuilt.
const REBUILD_COMMIT_SPANS: usize = 100_000;

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
        let (mut names, mut catalogue) = (Names::default(), OriginCatalogue::new(settings.origins_in_memory));
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
