//! Reading everything that a partition has, to see whether it is sound.

use std::fs;
use std::path::Path;

use super::database::{Database, DatabaseMemory};
use super::filter::TraceFilter;
use super::index;
use super::indexing::BlockSource;
use super::keys::{FILTER, LOCATOR, MetaKey, VALUES, read_meta_key, tenant_key};
use super::locator;
use super::open::{INDEX_DIRECTORY, SPANS_DIRECTORY, list_segments};
use super::segment::{Segment, SegmentRecord, Segments};
use super::{Partition, tenants_file};
use pharos_base::full_message;

use crate::block::Block;
use crate::codec::{DecodeError, Reader, decode_origin};
use crate::record::Day;
use crate::search::{OriginSource, PostingsShape, checked_page};
use crate::{Examination, Settings, TraceStoreError};

impl Partition {
    /// Reads every span of the partition in `directory`, which is not open, and adds what was found to `examination`.
    ///
    /// # Errors
    /// What kept it from reading on; a block or an origin that cannot be read is noted and no error.
    pub(crate) fn examine(
        directory: &Path,
        day: Day,
        memory: &DatabaseMemory,
        examination: &mut Examination,
    ) -> Result<(), TraceStoreError> {
        let database = Database::open_read_only(&directory.join(SPANS_DIRECTORY), memory)?;
        let (segments, ..) = list_segments(&database, memory, day)?;
        let decoded = memory.origins.clone();
        let source = BlockSource { database: &database, decoded: &decoded, day };
        for segment in segments.iter() {
            examination.segments += 1;
            for number in 0..segment.record.blocks.len() as u32 {
                examination.blocks += 1;
                match read_block(source, segment, number) {
                    Ok(span_count) => examination.spans += span_count,
                    // Of RocksDB's checksum or of the block's own.
                    Err(damage) => examination.damage.push(full_message(&damage)),
                }
            }
        }
        // Whatever lies beside blocks; RocksDB checks its sums on the way.
        for entry in database.metas(&[], vec![u8::MAX]) {
            let (key, value) = entry?;
            if let Err(error) = check_entry(&segments, &key, &value) {
                let kind = key.first().map_or('?', |kind| char::from(*kind));
                examination.damage.push(format!("{day}: an entry of kind {kind} cannot be read: {error}"));
            }
        }
        Ok(())
    }

    /// Compares the two lists of tenants of the partition in `directory`, which is not open.
    pub(crate) fn examine_tenants(directory: &Path, day: Day, memory: &DatabaseMemory) -> Result<(), TraceStoreError> {
        let listed = tenants_file::read(directory)?;
        let database = Database::open_read_only(&directory.join(SPANS_DIRECTORY), memory)?;
        for (number, tenant) in listed {
            if database.meta(&tenant_key(tenant.as_str()))?.as_deref() != Some(&number.to_le_bytes()[..]) {
                let detail = format!("the one in {} and the other differ in {tenant}", directory.display());
                return Err(TraceStoreError::Corrupt { what: "list of tenants", partition: day.to_string(), detail });
            }
        }
        Ok(())
    }

    /// Compares the checksums of the search index of the partition in `directory`, which is not open.
    pub(crate) fn examine_index(directory: &Path) -> Result<(), TraceStoreError> {
        let path = directory.join(INDEX_DIRECTORY);
        // A start makes the one that is not there.
        if path.exists() { index::examine(&path) } else { Ok(()) }
    }

    /// Builds the search index of the partition in `directory`, which is not open, anew from its blocks.
    pub(crate) fn rebuild_index(
        directory: &Path,
        day: Day,
        memory: &DatabaseMemory,
        settings: &Settings,
    ) -> Result<(), TraceStoreError> {
        let index = directory.join(INDEX_DIRECTORY);
        if index.exists() {
            fs::remove_dir_all(&index).map_err(TraceStoreError::io("remove", &index))?;
        }
        Self::open(directory, day, memory, settings)?.stop()
    }
}

/// Reads an entry of the default column family.
fn check_entry(segments: &Segments, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
    let mut reader = Reader::new(key);
    let kind = reader.byte("kind")?;
    if !matches!(kind, FILTER | LOCATOR | VALUES) {
        return match read_meta_key(key)? {
            MetaKey::Position | MetaKey::Calls { .. } | MetaKey::Deleted { .. } => of_length(value, 8),
            MetaKey::Tenant { .. } => of_length(value, 4),
            MetaKey::Origin { .. } => decode_origin(value).map(drop),
            MetaKey::Segment { .. } => SegmentRecord::decode(value).map(drop),
            MetaKey::Name { .. } | MetaKey::Edge { .. } | MetaKey::Expired { .. } => of_length(value, 0),
        };
    }
    let (tenant, number) = (u32::from_be_bytes(reader.array("tenant")?), u64::from_be_bytes(reader.array("segment")?));
    // What a segment that is no more left goes with a later merge.
    let Some(segment) = segments.of(tenant).iter().find(|segment| segment.number == number) else { return Ok(()) };
    match kind {
        FILTER => TraceFilter::from_bytes(value).map(drop),
        // The largest hash: a page is read to its end for it.
        LOCATOR => locator::find_blocks(segment.record.locator, value, u64::MAX).map(drop),
        _ if reader.is_empty() => PostingsShape::decode(value).map(drop),
        _ => checked_page(value).map(drop),
    }
}

fn of_length(value: &[u8], length: usize) -> Result<(), DecodeError> {
    if value.len() == length { Ok(()) } else { Err(DecodeError::OutOfRange("length of the value")) }
}

/// Reads every span of a block and what it comes from.
fn read_block(source: BlockSource<'_>, segment: &Segment, number: u32) -> Result<u64, TraceStoreError> {
    let bytes = source.block(segment, number)?;
    let failed = |error: DecodeError| source.failed(segment, number, error.into());
    let block = Block::open(&bytes).map_err(failed)?;
    for trace in block.traces() {
        for span in block.spans(trace.trace_id, trace.spans.clone()).map_err(failed)? {
            span.map_err(failed)?;
        }
    }
    let origins = source.origins(segment.tenant);
    (0..block.origin_count()).try_for_each(|origin| origins.origin(block.origin_hash(origin)).map(drop))?;
    Ok(u64::from(block.span_count()))
}
