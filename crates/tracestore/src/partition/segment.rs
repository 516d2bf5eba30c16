//! Segments: what one seal or one merge wrote for one tenant. Immutable.
//!
//! A segment is a run of blocks, each with its bounds in the segment's record, a filter of its trace ids and a locator.
//! Record and filter are in memory, blocks and locator on disk. Bytes: `docs/keys.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};
use pharos_base::ByteSize;

use super::filter::TraceFilter;
use super::locator::LocatorShape;
use crate::codec::{DecodeError, Reader, Writer};
use crate::record::Day;
use crate::search::PostingsShape;

const VERSION: u8 = 1;

/// Where a block's spans lie in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockBounds {
    pub(crate) span_count: u32,
    pub(crate) start_min_ns: u64,
    pub(crate) start_max_ns: u64,
    pub(crate) end_max_ns: u64,
}

/// What a segment says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub(crate) span_count: u64,
    pub(crate) trace_count: u64,
    pub(super) locator: LocatorShape,
    /// By number.
    pub(crate) blocks: Vec<BlockBounds>,
}

impl SegmentRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_varint(self.span_count);
        out.put_varint(self.trace_count);
        out.push(self.locator.bits);
        out.put_varint(u64::from(self.locator.pages));
        out.put_varint(self.blocks.len() as u64);
        let mut base_ns = 0;
        for block in &self.blocks {
            out.put_varint(u64::from(block.span_count));
            out.put_delta(block.start_min_ns, base_ns);
            out.put_delta(block.start_max_ns, block.start_min_ns);
            out.put_delta(block.end_max_ns, block.start_max_ns);
            base_ns = block.start_min_ns;
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte("segment version")? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let (span_count, trace_count) = (reader.varint("span count")?, reader.varint("trace count")?);
        let (bits, pages) = (reader.byte("locator bits")?, reader.varint_u32("locator pages")?);
        if !(1..=64).contains(&bits) || pages == 0 {
            return Err(DecodeError::OutOfRange("locator shape"));
        }
        let block_count = reader.count("block count")?;
        let mut blocks = Vec::new();
        let mut base_ns = 0;
        for _ in 0..block_count {
            let span_count = reader.varint_u32("block span count")?;
            let start_min_ns = reader.delta(base_ns, "earliest start")?;
            let start_max_ns = reader.delta(start_min_ns, "latest start")?;
            let end_max_ns = reader.delta(start_max_ns, "latest end")?;
            blocks.push(BlockBounds { span_count, start_min_ns, start_max_ns, end_max_ns });
            base_ns = start_min_ns;
        }
        if !reader.is_empty() {
            return Err(DecodeError::OutOfRange("segment record length"));
        }
        Ok(Self { span_count, trace_count, locator: LocatorShape { bits, pages }, blocks })
    }
}

/// Memory for trace filters over all days. When it is full the oldest day's filters go: of these segments the disk is asked.
#[derive(Debug, Clone)]
pub(super) struct FilterMemory {
    held: Arc<Mutex<HeldFilters>>,
    limit_bytes: u64,
}

#[derive(Debug, Default)]
struct HeldFilters {
    used_bytes: u64,
    next_number: u64,
    /// By day and the order in which they came.
    cells: BTreeMap<(Day, u64), (Weak<FilterCell>, u64)>,
}

/// A filter for as long as there is room for it.
type FilterCell = RwLock<Option<TraceFilter>>;

impl FilterMemory {
    pub(super) fn new(limit: ByteSize) -> Self {
        Self { held: Arc::default(), limit_bytes: limit.0 }
    }

    fn hold(&self, day: Day, filter: TraceFilter) -> HeldFilter {
        let bytes = filter.as_bytes().len() as u64;
        let cell = Arc::new(RwLock::new(Some(filter)));
        let mut held = self.held.lock();
        let place = (day, held.next_number);
        held.next_number += 1;
        held.used_bytes += bytes;
        held.cells.insert(place, (Arc::downgrade(&cell), bytes));
        // The new one, too, if its day is the oldest.
        while held.used_bytes > self.limit_bytes {
            let Some((_, (oldest, bytes))) = held.cells.pop_first() else { break };
            held.used_bytes -= bytes;
            if let Some(oldest) = oldest.upgrade() {
                *oldest.write() = None;
            }
        }
        HeldFilter { cell, place, memory: self.clone() }
    }
}

/// A filter, which counts for as long as it lives and is not given up.
#[derive(Debug)]
struct HeldFilter {
    cell: Arc<FilterCell>,
    place: (Day, u64),
    memory: FilterMemory,
}

impl Drop for HeldFilter {
    fn drop(&mut self) {
        let mut held = self.memory.held.lock();
        if let Some((_, bytes)) = held.cells.remove(&self.place) {
            held.used_bytes -= bytes;
        }
    }
}

/// A segment of a tenant.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) tenant: u32,
    pub(crate) number: u64,
    pub(crate) record: SegmentRecord,
    filter: Option<HeldFilter>,
    /// How its value postings are cut, once that was asked.
    pub(super) values: OnceLock<PostingsShape>,
}

impl Segment {
    /// Without a filter nothing is excluded.
    pub(super) fn new(
        day: Day,
        (tenant, number): (u32, u64),
        record: SegmentRecord,
        filter: Option<TraceFilter>,
        memory: &FilterMemory,
    ) -> Self {
        let filter = filter.map(|filter| memory.hold(day, filter));
        Self { tenant, number, record, filter, values: OnceLock::new() }
    }

    /// The earliest start.
    pub(super) fn start_min_ns(&self) -> u64 {
        self.record.blocks.iter().map(|block| block.start_min_ns).min().unwrap_or(0)
    }

    /// Whether a trace with this hash may be in it; without the filter in memory nothing is excluded.
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let may_contain = |held: &HeldFilter| held.cell.read().as_ref().is_none_or(|filter| filter.may_contain(hash));
        self.filter.as_ref().is_none_or(may_contain)
    }
}

/// The segments of a partition by tenant number, each tenant's by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments {
    by_tenant: HashMap<u32, Vec<Arc<Segment>>>,
}

impl Segments {
    pub(super) fn of(&self, tenant: u32) -> &[Arc<Segment>] {
        self.by_tenant.get(&tenant).map_or(&[], Vec::as_slice)
    }

    /// Numbers of the tenants that have segments.
    pub(super) fn tenants(&self) -> Vec<u32> {
        self.by_tenant.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.by_tenant.values().flatten()
    }

    pub(super) fn insert(&mut self, segment: Arc<Segment>) {
        let segments = self.by_tenant.entry(segment.tenant).or_default();
        let at = segments.partition_point(|other| other.number < segment.number);
        segments.insert(at, segment);
    }

    /// Removes and returns all of a tenant.
    pub(super) fn remove_tenant(&mut self, tenant: u32) -> Vec<Arc<Segment>> {
        self.by_tenant.remove(&tenant).unwrap_or_default()
    }

    pub(super) fn remove(&mut self, tenant: u32, removed: &[Arc<Segment>]) {
        if let Some(segments) = self.by_tenant.get_mut(&tenant) {
            segments.retain(|segment| removed.iter().all(|other| other.number != segment.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> SegmentRecord {
        let block = |start_min_ns| BlockBounds {
            span_count: 9,
            start_min_ns,
            start_max_ns: start_min_ns + 5,
            end_max_ns: start_min_ns,
        };
        let blocks = vec![block(7), block(1 << 60), block(3)];
        SegmentRecord { span_count: 27, trace_count: 2, locator: LocatorShape::of(2), blocks }
    }

    #[test]
    fn records_round_trip_and_damaged_ones_are_errors() {
        let bytes = record().encode();
        assert_eq!(SegmentRecord::decode(&bytes).unwrap(), record());
        for end in 0..bytes.len() {
            assert!(SegmentRecord::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(SegmentRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn filters_of_the_oldest_day_go_when_there_is_no_room() {
        const OTHER: u64 = 0xdead_beef_1234_5678;
        let memory = FilterMemory::new(ByteSize(128));
        let segment = |day, number| {
            let filter = TraceFilter::build([1_u64, 2].into_iter());
            Segment::new(Day(day), (0, number), record(), Some(filter), &memory)
        };
        let excludes = |segments: &[&Segment]| segments.iter().map(|of| !of.may_contain(OTHER)).collect::<Vec<_>>();
        let (new, old) = (segment(7, 0), segment(5, 0));
        assert_eq!(excludes(&[&new, &old]), [true, true]);
        let newer = segment(8, 0);
        assert_eq!(excludes(&[&new, &old, &newer]), [true, false, true]);
        assert_eq!(excludes(&[&segment(6, 0)]), [false], "there are newer ones");
        drop(newer);
        assert_eq!(excludes(&[&segment(6, 1), &new]), [true, true], "the room is free again");
        assert!(old.may_contain(1) && new.may_contain(1));
        drop((old, new));
        let again = [segment(1, 0), segment(1, 1)];
        assert_eq!(excludes(&[&again[0], &again[1]]), [true, true]);
    }
}
