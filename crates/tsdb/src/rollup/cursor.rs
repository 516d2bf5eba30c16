//! Reads the cells of the series of one part, on behalf of one query.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_chunk::ChunkError;
use pharos_model::TimeRange;
use roaring::RoaringBitmap;

use super::block::Block;
use super::cells::Frame;
use super::codec::{Columns, SeriesReader};
use super::coverage::Coverage;
use super::thin::{ThinSeries, Want};
use crate::TsdbError;
use crate::damage::DamageLog;
use crate::part::Part;
use crate::part::toc::BLOCK_SERIES;

/// Cells of decoded frames that a cursor keeps at hand: 48 bytes each.
const FRAME_CELLS_MAX: usize = 1 << 15;

/// A block holds the cells of [`BLOCK_SERIES`] series and is inflated as a whole. That takes as long as decoding and
/// evaluating one sample for each so many bytes, about,
const BYTES_PER_SAMPLE: u64 = 8;
/// and next to nothing for a block of this length.
const SMALL_BLOCK_BYTES: u64 = 16 << 10;

/// What a query wants of cells.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(super) want: Want,
    /// Whether a series with start timestamps is read from its samples.
    pub(super) without_starts: bool,
    /// What retention leaves of the query's range.
    pub(super) range: TimeRange,
    /// The coarsest resolution first.
    pub(super) coverages: Vec<Arc<Coverage>>,
    pub(super) damage: Arc<DamageLog>,
}

impl Wanted {
    /// The coarsest file of a part that the query can use, by its place, and which buckets of it.
    pub(super) fn file_of(&self, part: &Part) -> Option<(usize, &Arc<Coverage>)> {
        self.coverages.iter().find_map(|coverage| {
            let place = part.rollups.iter().position(|file| file.serves(coverage.resolution))?;
            Some((place, coverage))
        })
    }
}

/// The blocks of a file that are cheaper to read than the samples of their selected series.
fn worth(part: &Part, file: usize, range: TimeRange, selected: &RoaringBitmap) -> RoaringBitmap {
    let bounds = part.bounds();
    let read_ms = range.end_ms.min(bounds.end_ms).saturating_sub(range.start_ms.max(bounds.start_ms)).max(0);
    let share = read_ms as f64 / bounds.end_ms.saturating_sub(bounds.start_ms).max(1) as f64;
    let samples = part.meta.samples as f64 / part.meta.series.max(1) as f64 * share;
    let is_worth = |(block, bytes): &(u32, u64)| {
        let first = block * BLOCK_SERIES as u32;
        let count = selected.range_cardinality(first..first.saturating_add(BLOCK_SERIES as u32));
        count > 0 && (*bytes <= SMALL_BLOCK_BYTES || *bytes as f64 <= count as f64 * samples * BYTES_PER_SAMPLE as f64)
    };
    let blocks = part.rollups[file].block_lens();
    (0..).zip(blocks).filter(is_worth).map(|(block, _)| block).collect()
}

/// Reads one rollup file of a part.
pub(crate) struct RollupCursor {
    part: Arc<Part>,
    file: usize,
    wanted: Arc<Wanted>,
    coverage: Arc<Coverage>,
    /// Blocks of which enough series are selected.
    worth: RoaringBitmap,
    block: Option<(u32, Block)>,
    frames: HashMap<usize, Arc<Frame>>,
    frame_cells: usize,
    /// Damage was met: samples are read from here on.
    broken: bool,
}

impl RollupCursor {
    /// A cursor over the coarsest file of the part that the query can use, if it has one and reading it is cheaper than
    /// reading the samples of these series.
    pub(crate) fn open(part: &Arc<Part>, wanted: &Arc<Wanted>, selected: &RoaringBitmap) -> Option<Self> {
        let (file, coverage) = wanted.file_of(part)?;
        let coverage = Arc::clone(coverage);
        let worth = worth(part, file, wanted.range, selected);
        if worth.is_empty() {
            return None;
        }
        let (part, wanted) = (Arc::clone(part), Arc::clone(wanted));
        let (frames, frame_cells) = (HashMap::new(), 0);
        Some(Self { part, file, wanted, coverage, worth, block: None, frames, frame_cells, broken: false })
    }

    /// Adds the cells of a series in the buckets that the query can use; false if its samples must be read.
    pub(crate) fn read(&mut self, number: u32, series: &mut ThinSeries) -> bool {
        if self.broken || !self.worth.contains(number / BLOCK_SERIES as u32) {
            return false;
        }
        let before = series.len();
        let found = self.read_cells(number, series);
        if !matches!(found, Ok(true)) {
            series.truncate(before);
        }
        found.unwrap_or_else(|error| {
            self.wanted.damage.note(&error);
            self.broken = true;
            self.part.rollups[self.file].set_damaged();
            false
        })
    }

    /// What of the query's range is not in those buckets and overlaps the part: there samples are read.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = TimeRange> + use<> {
        let (coverage, part) = (Arc::clone(&self.coverage), Arc::clone(&self.part));
        (0..coverage.gaps.len()).map(move |at| coverage.gaps[at]).filter(move |gap| part.overlaps(*gap))
    }

    /// Bytes it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.block.as_ref().map_or(0, |(_, block)| block.bytes()) + (self.frame_cells * 6 * size_of::<i64>()) as u64
    }

    fn read_cells(&mut self, number: u32, series: &mut ThinSeries) -> Result<bool, TsdbError> {
        let (part, wanted, coverage) = (Arc::clone(&self.part), Arc::clone(&self.wanted), Arc::clone(&self.coverage));
        let file = &part.rollups[self.file];
        let of_block = number / BLOCK_SERIES as u32;
        let block = match self.block.take() {
            Some((known, block)) if known == of_block => block,
            _ => {
                self.frames.clear();
                self.frame_cells = 0;
                file.block(of_block)?
            }
        };
        let found = self.read_series(&block, number as usize % BLOCK_SERIES, &wanted, &coverage, series);
        self.block = Some((of_block, block));
        found.map_err(file.chunk_error(of_block))
    }

    fn read_series(
        &mut self,
        block: &Block,
        slot: usize,
        wanted: &Wanted,
        coverage: &Coverage,
        series: &mut ThinSeries,
    ) -> Result<bool, ChunkError> {
        let bytes = block.series(slot)?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let mut reader = SeriesReader::new(bytes)?;
        let columns = wanted.want.columns();
        let lacks =
            columns == Columns::SUM && !reader.has_sums() || columns == Columns::COUNTER && !reader.has_counter();
        if lacks || wanted.without_starts && reader.has_starts() {
            return Ok(false);
        }
        let mut newest = i64::MIN;
        while let Some(number) = reader.next_frame()? {
            let frame = self.frame(block, number, coverage)?;
            // What is added is bounded by the buckets that the query can use, however many runs there are.
            if frame.buckets.first().is_some_and(|first| *first <= newest) {
                return Err(ChunkError::OutOfBounds { what: "order of the runs of a rollup" });
            }
            newest = frame.buckets.last().copied().unwrap_or(newest);
            let place = |bucket: i64| frame.buckets.partition_point(|own| *own < bucket);
            let ranges = coverage.buckets.iter().map(|range| place(range.start)..place(range.end));
            let ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
            let columns = if ranges.is_empty() { Columns::default() } else { columns };
            let run = reader.run(frame.valued(), columns)?;
            for range in ranges {
                series.push(&frame, &run, range, wanted.want, coverage);
            }
        }
        Ok(true)
    }

    fn frame(&mut self, block: &Block, number: usize, coverage: &Coverage) -> Result<Arc<Frame>, ChunkError> {
        if let Some(frame) = self.frames.get(&number) {
            return Ok(Arc::clone(frame));
        }
        let frame = Arc::new(block.frame(number, coverage.resolution)?);
        if self.frame_cells + frame.len() > FRAME_CELLS_MAX {
            self.frames.clear();
            self.frame_cells = 0;
        }
        self.frame_cells += frame.len();
        self.frames.insert(number, Arc::clone(&frame));
        Ok(frame)
    }
}
