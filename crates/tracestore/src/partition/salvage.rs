//! What can be read of a day that cannot be opened, or of which something is damaged, span by span.
//!
//! The blocks of spans are the truth, with the resources they name and the names of their tenants; all else of a day is made of
//! them. Where RocksDB's own list of tables is damaged, it is made anew of the tables, in a directory of links: the day itself is
//! only read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use pharos_base::full_message;
use pharos_model::{SpanBatch, SpanGroup, TenantId, TraceId};

use super::database::{Database, DatabaseMemory};
use super::indexing::BlockSource;
use super::keys::{BlockKey, DELETED, EXPIRED, MetaKey, SEGMENT, block_key, read_block_key, read_meta_key};
use super::open::SPANS_DIRECTORY;
use super::segment::SegmentRecord;
use super::tenants_file;
use crate::TraceStoreError;
use crate::block::Block;
use crate::codec::{DecodeError, OriginHash};
use crate::record::Day;
use crate::search::OriginSource;

/// The directory of links bears this before its day.
const RELISTED_PREFIX: &str = "relisted-";
/// Where the list of segments is damaged, so many keys behind a block that cannot be read are tried for the next one.
const BLOCK_GUESSES_MAX: u32 = 2048;
/// And so many segments.
const SEGMENT_GUESSES_MAX: u64 = 1024;

/// A day that is read to be taken up again.
pub(crate) struct Salvage {
    day: Day,
    database: Database,
    memory: DatabaseMemory,
    tenants: HashMap<u32, TenantId>,
    /// Their spans were dropped.
    expired: HashSet<u32>,
    /// Deleted traces, and the segments from which on they are there again.
    deleted: HashMap<(u32, TraceId), u64>,
    /// What cannot be read, in words.
    pub(crate) lost: Vec<String>,
    /// Links to the day's tables, if RocksDB's list had to be made anew.
    links: Option<PathBuf>,
}

impl Drop for Salvage {
    fn drop(&mut self) {
        if let Some(links) = &self.links
            && let Err(error) = fs::remove_dir_all(links)
        {
            tracing::warn!(path = %links.display(), %error, "links to the tables of a damaged day are left behind");
        }
    }
}

impl Salvage {
    /// Opens the day in `directory`, of which nothing is changed.
    pub(crate) fn open(directory: &Path, day: Day, memory: &DatabaseMemory) -> Result<Self, TraceStoreError> {
        let spans = directory.join(SPANS_DIRECTORY);
        let (database, links) = match Database::open_read_only(&spans, memory) {
            Ok(database) => (database, None),
            Err(error) => {
                tracing::warn!(%day, error = %full_message(&error), "the list of a day's tables is made anew of the tables");
                let links = directory.with_file_name(format!("{RELISTED_PREFIX}{day}"));
                (Database::open_relisted(&spans, &links, memory)?, Some(links))
            }
        };
        let mut salvage = Self {
            day,
            database,
            memory: memory.clone(),
            tenants: HashMap::new(),
            expired: HashSet::new(),
            deleted: HashMap::new(),
            lost: Vec::new(),
            links,
        };
        salvage.read_tenants(directory);
        salvage.read_marks();
        Ok(salvage)
    }

    fn read_tenants(&mut self, directory: &Path) {
        let (mut named, mut expired) = (Vec::new(), HashSet::new());
        let is_whole = self.entries(b"T", vec![b'U'], |key, value| {
            if let MetaKey::Tenant { name } = key {
                let number = <[u8; 4]>::try_from(value).map(u32::from_le_bytes);
                named.extend(number.ok().zip(name.parse::<TenantId>().ok()));
            }
        });
        match tenants_file::read(directory) {
            // Names are nothing to guess: spans must not get to another tenant.
            Ok(listed) => named.extend(listed),
            Err(error) if is_whole => {
                tracing::warn!(error = %full_message(&error), "a second list of tenants cannot be read");
            }
            Err(error) => self.lost.push(format!("names of tenants: {}", full_message(&error))),
        }
        let mut contradicted = HashSet::new();
        for (number, tenant) in named {
            if self.tenants.insert(number, tenant.clone()).is_some_and(|other| other != tenant) {
                contradicted.insert(number);
            }
        }
        for number in contradicted {
            self.tenants.remove(&number);
            self.lost.push(format!("the name of tenant {number}: it has two"));
        }
        self.entries(&[EXPIRED], vec![EXPIRED + 1], |key, _| {
            if let MetaKey::Expired { tenant } = key {
                expired.insert(tenant);
            }
        });
        self.expired = expired;
    }

    fn read_marks(&mut self) {
        let mut deleted = HashMap::new();
        let is_whole = self.entries(&[DELETED], vec![DELETED + 1], |key, value| {
            if let (MetaKey::Deleted { tenant, trace_id }, Ok(mark)) = (key, <[u8; 8]>::try_from(value)) {
                deleted.insert((tenant, trace_id), u64::from_le_bytes(mark));
            }
        });
        self.deleted = deleted;
        if !is_whole {
            self.lost.push("some marks of deleted traces: such traces may be there again".to_owned());
        }
    }

    /// Visits entries up to the first that cannot be read; whether there was none such.
    fn entries(&self, from: &[u8], until: Vec<u8>, mut visit: impl FnMut(MetaKey<'_>, &[u8])) -> bool {
        for entry in self.database.metas(from, until) {
            let Ok((key, value)) = entry else { return false };
            let Ok(key) = read_meta_key(&key) else { return false };
            visit(key, &value);
        }
        true
    }

    /// Hands over the spans of every block that can be read. Traces in `gone` are left out.
    ///
    /// # Errors
    /// Those of `take`.
    pub(crate) fn for_each<E>(
        &mut self,
        gone: &HashSet<(TenantId, TraceId)>,
        mut take: impl FnMut(&TenantId, SpanBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut segments: BTreeMap<(u32, u64), u32> = BTreeMap::new();
        let is_whole = {
            let mut listed = Vec::new();
            let is_whole = self.entries(&[SEGMENT], vec![SEGMENT + 1], |key, value| {
                if let MetaKey::Segment { tenant, number } = key {
                    listed.push((
                        (tenant, number),
                        SegmentRecord::decode(value).map(|record| record.blocks.len() as u32),
                    ));
                }
            });
            let sound = listed.iter().all(|(_, blocks)| blocks.is_ok());
            segments.extend(listed.into_iter().filter_map(|(place, blocks)| Some((place, blocks.ok()?))));
            is_whole && sound
        };
        for (&(tenant, segment), blocks) in &segments {
            for block in 0..*blocks {
                self.take_block(tenant, segment, block, gone, &mut take)?;
            }
        }
        if !is_whole {
            self.lost.push("the list of segments: blocks that it did not name were looked for".to_owned());
            self.take_unlisted(&segments, gone, &mut take)?;
        }
        Ok(())
    }

    /// Blocks of segments that are not among those listed. Behind one that cannot be read the next keys are tried.
    fn take_unlisted<E>(
        &mut self,
        listed: &BTreeMap<(u32, u64), u32>,
        gone: &HashSet<(TenantId, TraceId)>,
        take: &mut impl FnMut(&TenantId, SpanBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let tenants_end = self.tenants.keys().max().map_or(1, |highest| highest.saturating_add(1));
        let (mut place, mut misses) = ((0, 0, 0), 0_u64);
        loop {
            let found = self.database.next_block_key(&block_key(place.0, place.1, place.2));
            let key = match found {
                Ok(None) => return Ok(()),
                Ok(Some(key)) => key,
                Err(error) => {
                    if misses == 0 {
                        self.lost.push(format!("blocks from {place:?} on: {}", full_message(&error)));
                    }
                    misses += 1;
                    let (tenant, segment, block) = place;
                    place = if block < BLOCK_GUESSES_MAX {
                        (tenant, segment, block + 1)
                    } else if misses < SEGMENT_GUESSES_MAX + u64::from(BLOCK_GUESSES_MAX) {
                        (tenant, segment + 1, BLOCK_GUESSES_MAX)
                    } else if tenant + 1 < tenants_end {
                        misses = 1;
                        (tenant + 1, 0, 0)
                    } else {
                        return Ok(());
                    };
                    continue;
                }
            };
            misses = 0;
            let Ok(((tenant, segment), block)) = block_of(&key) else { return Ok(()) };
            if listed.contains_key(&(tenant, segment)) {
                place = (tenant, segment.saturating_add(1), 0);
                continue;
            }
            self.take_block(tenant, segment, block, gone, take)?;
            place = (tenant, segment, block.saturating_add(1));
        }
    }

    fn take_block<E>(
        &mut self,
        tenant: u32,
        segment: u64,
        block: u32,
        gone: &HashSet<(TenantId, TraceId)>,
        take: &mut impl FnMut(&TenantId, SpanBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.expired.contains(&tenant) {
            return Ok(());
        }
        let Some(name) = self.tenants.get(&tenant).cloned() else {
            let lost = format!("all of tenant {tenant}, whose name is not known");
            if !self.lost.contains(&lost) {
                self.lost.push(lost);
            }
            return Ok(());
        };
        let is_gone = |trace_id: TraceId| {
            self.deleted.get(&(tenant, trace_id)).is_some_and(|mark| segment < *mark)
                || gone.contains(&(name.clone(), trace_id))
        };
        match self.read_block(tenant, &block_key(tenant, segment, block), is_gone) {
            Ok((batch, lost)) => {
                self.lost.extend(lost.map(|lost| format!("{name}, block {block} of segment {segment}: {lost}")));
                if batch.groups.is_empty() { Ok(()) } else { take(&name, batch) }
            }
            Err(error) => {
                self.lost.push(format!("{name}, block {block} of segment {segment}: {}", full_message(&error)));
                Ok(())
            }
        }
    }

    /// The spans of a block by resource and scope, and what of them is lost with their resources.
    fn read_block(
        &self,
        tenant: u32,
        key: &BlockKey,
        is_gone: impl Fn(TraceId) -> bool,
    ) -> Result<(SpanBatch, Option<String>), TraceStoreError> {
        let corrupt = |error: DecodeError| TraceStoreError::corrupt("block", self.day)(error);
        let bytes = self.database.block_once(key)?.ok_or_else(|| corrupt(DecodeError::OutOfRange("block")))?;
        let block = Block::open(&bytes).map_err(corrupt)?;
        let mut by_origin: BTreeMap<OriginHash, Vec<_>> = BTreeMap::new();
        for trace in block.traces().iter().filter(|trace| !is_gone(trace.trace_id)) {
            for span in block.spans(trace.trace_id, trace.spans.clone()).map_err(corrupt)? {
                let (origin, span) = span.map_err(corrupt)?;
                by_origin.entry(origin).or_default().push(span);
            }
        }
        let decoded = self.memory.origins.clone();
        let source = BlockSource { database: &self.database, decoded: &decoded, day: self.day };
        let (mut groups, mut lost, mut first) = (Vec::new(), 0, None);
        for (hash, spans) in by_origin {
            match source.origins(tenant).origin(hash) {
                Ok(origin) => {
                    let (resource, scope) = (origin.resource.clone(), origin.scope.clone());
                    groups.push(SpanGroup { resource, scope, spans });
                }
                Err(error) => {
                    lost += spans.len();
                    first.get_or_insert(full_message(&error));
                }
            }
        }
        Ok((SpanBatch { groups }, first.map(|first| format!("{lost} spans without their resource: {first}"))))
    }
}

fn block_of(key: &[u8]) -> Result<((u32, u64), u32), DecodeError> {
    let place = read_block_key(key)?;
    let block = key.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    Ok((place, block))
}
