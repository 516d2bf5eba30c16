//! A cursor over selected series of a part, in label order.
//!
//! It stands on one series at a time. Labels are fetched where they are asked for; samples are decoded chunk by
//! chunk, only those that overlap the range.

use std::sync::Arc;

use pharos_model::TimeRange;
use pharos_storage::ReadContext;
use roaring::RoaringBitmap;

use super::chunks::{Chunk, ChunkBlock, ColumnBounds};
use super::index::LabelCursor;
use super::load::Loader;
use super::reader::{Part, corrupt};
use super::tails::Tails;
use super::toc::BLOCK_SERIES;
use super::writer::PartWriter;
use crate::TsdbError;
use crate::body;
use crate::cache::BlockCache;
use crate::newest::{ByTime, Newest, Pulse};
use crate::samples::Samples;

/// From this many selected series of a block on, it is read as a whole.
const WHOLE_BLOCK_SERIES: usize = 8;

/// After so many samples of one series its reader is asked whether it still wants them and has room for them: some hundred
/// microseconds of decoding.
const SAMPLES_BETWEEN_CHECKS: usize = 1 << 16;

/// A chunk of the series that a cursor stands on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkBounds {
    /// Its place among the series' chunks.
    pub(crate) index: usize,
    pub(crate) holds_histograms: bool,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

/// Walks selected series of a part.
pub(crate) struct PartCursor {
    loader: Loader,
    selected: RoaringBitmap,
    labels: LabelCursor,
    /// The block it stands in.
    block: u32,
    /// The selected series of that block, and which of them it stands on.
    series: Vec<u32>,
    at: usize,
    chunks: Option<Arc<ChunkBlock>>,
    tails: Option<Arc<Tails>>,
    /// Whether the cache was asked for the block's tails.
    tails_asked: bool,
    /// The bounds of who reads; none of upkeep.
    context: Option<ReadContext>,
}

/// What is told of a series' newest sample in a range without decoding.
enum Told<T> {
    /// The sample, or that there is none.
    Newest(Option<T>),
    Nothing,
}

impl PartCursor {
    /// A cursor that stands on the first selected series. What it decodes is looked for and left in `cache`; without
    /// one it reads past it.
    pub(crate) fn new(part: Arc<Part>, selected: RoaringBitmap, cache: Option<Arc<BlockCache>>) -> Self {
        Self::over(Loader::new(part, cache), selected)
    }

    /// A cursor of one of `sources` that are merged.
    pub(crate) fn merging(part: Arc<Part>, selected: RoaringBitmap, sources: usize) -> Self {
        Self::over(Loader::merging(part, sources), selected)
    }

    fn over(loader: Loader, selected: RoaringBitmap) -> Self {
        let mut cursor = Self {
            loader,
            selected,
            labels: LabelCursor::default(),
            block: 0,
            series: Vec::new(),
            at: 0,
            chunks: None,
            tails: None,
            tails_asked: false,
            context: None,
        };
        if let Some(first) = cursor.selected.min() {
            cursor.enter(first / BLOCK_SERIES as u32);
        }
        cursor
    }

    /// The same within the bounds of a read.
    pub(crate) fn within(self, context: &ReadContext) -> Self {
        Self { context: Some(context.clone()), ..self }
    }

    /// What it reads.
    pub(crate) fn part(&self) -> &Part {
        &self.loader.part
    }

    /// How many series are selected.
    pub(crate) fn series_count(&self) -> usize {
        self.selected.len() as usize
    }

    /// The number of the first series of the block after the one that holds selected series number `series`; `None` if
    /// none is selected from there on.
    pub(crate) fn block_after(&self, series: usize) -> Option<u32> {
        let last = self.selected.select(u32::try_from(series.checked_sub(1)?).ok()?)?;
        let behind = (last / BLOCK_SERIES as u32 + 1).checked_mul(BLOCK_SERIES as u32)?;
        self.selected.range(behind..).next().map(|_| behind)
    }

    /// The number of the first selected series whose label bytes are not less than these; behind all if all are.
    pub(crate) fn lower_bound(&mut self, bound: &[u8]) -> Result<u32, TsdbError> {
        let (mut from, mut to) = (0, self.selected.len() as u32);
        while from < to {
            let middle = from + (to - from) / 2;
            let Some(number) = self.selected.select(middle) else { break };
            self.labels.seek(&self.loader.part.index, number)?;
            if self.labels.get(number).is_some_and(|labels| labels < bound) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        Ok(self.selected.select(from).unwrap_or(u32::MAX))
    }

    /// Splits off the series before `number`; both stand on their first series then.
    pub(crate) fn split_front(&mut self, number: u32) -> Self {
        let front: RoaringBitmap = self.selected.range(..number).collect();
        self.selected.remove_range(..number);
        match self.selected.min() {
            Some(first) => self.enter(first / BLOCK_SERIES as u32),
            None => self.series.clear(),
        }
        let front = Self::over(self.loader.sibling(), front);
        Self { context: self.context.clone(), ..front }
    }

    /// The number of the series it stands on; `None` at the end.
    pub(crate) fn number(&self) -> Option<u32> {
        self.series.get(self.at).copied()
    }

    /// Goes to the next selected series.
    pub(crate) fn advance(&mut self) {
        self.at += 1;
        if self.at < self.series.len() {
            return;
        }
        let behind = (self.block + 1).saturating_mul(BLOCK_SERIES as u32);
        match self.selected.range(behind..).next() {
            Some(next) => self.enter(next / BLOCK_SERIES as u32),
            None => self.series.clear(),
        }
    }

    fn enter(&mut self, block: u32) {
        let first = block * BLOCK_SERIES as u32;
        self.series.clear();
        self.series.extend(self.selected.range(first..=first + (BLOCK_SERIES as u32 - 1)));
        (self.block, self.at) = (block, 0);
        (self.chunks, self.tails, self.tails_asked) = (None, None, false);
    }

    /// Makes [`PartCursor::labels`] ready.
    pub(crate) fn load_labels(&mut self) -> Result<(), TsdbError> {
        match self.number() {
            Some(number) => self.labels.seek(&self.loader.part.index, number),
            None => Ok(()),
        }
    }

    /// Label bytes of the series it stands on; `None` at the end, or if they were not loaded.
    pub(crate) fn labels(&self) -> Option<&[u8]> {
        self.number().and_then(|number| self.labels.get(number))
    }

    /// Adds the samples in the range of the series it stands on to sorted, older ones.
    pub(crate) fn read(&mut self, range: TimeRange, samples: &mut Samples) -> Result<(), TsdbError> {
        self.read_some(range, |_| true, samples)
    }

    /// As [`PartCursor::read`], of the chunks with these numbers.
    pub(crate) fn read_some(
        &mut self,
        range: TimeRange,
        wanted: impl Fn(usize) -> bool,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        let Some(number) = self.number() else { return Ok(()) };
        // Taken and put back, not counted: other threads may use the block as well.
        let block = self.take_chunks()?;
        let read = self.read_chunks(&block, number, range, wanted, samples);
        self.chunks = Some(block);
        read
    }

    fn read_chunks(
        &mut self,
        block: &ChunkBlock,
        number: u32,
        range: TimeRange,
        wanted: impl Fn(usize) -> bool,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        let whole = self.series.len() >= WHOLE_BLOCK_SERIES;
        let mut check_at = samples.len() + SAMPLES_BETWEEN_CHECKS;
        for (index, chunk) in self.chunks_of(block, number)?.iter().enumerate() {
            if wanted(index) && block.column(chunk).overlaps(range) {
                self.decode(block, chunk, range, whole, samples)?;
                if samples.len() >= check_at {
                    check_at = samples.len() + SAMPLES_BETWEEN_CHECKS;
                    self.check_room_for(samples)?;
                }
            }
        }
        Ok(())
    }

    fn check_room_for(&self, samples: &Samples) -> Result<(), TsdbError> {
        let Some(context) = &self.context else { return Ok(()) };
        context.check()?;
        context.memory.reserve(samples.bytes())?;
        Ok(())
    }

    /// Calls `each` with every chunk of the series it stands on.
    pub(crate) fn each_chunk(&mut self, each: &mut dyn FnMut(ChunkBounds)) -> Result<(), TsdbError> {
        let Some(number) = self.number() else { return Ok(()) };
        let block = self.chunks()?;
        for (index, chunk) in self.chunks_of(&block, number)?.iter().enumerate() {
            let ColumnBounds { first_ms, last_ms, .. } = block.column(chunk);
            each(ChunkBounds { index, holds_histograms: chunk.holds_histograms(), first_ms, last_ms });
        }
        Ok(())
    }

    /// How many samples a chunk of the series it stands on has.
    pub(crate) fn chunk_len(&mut self, chunk: &ChunkBounds) -> Result<usize, TsdbError> {
        let (block, chunk) = self.chunk(chunk)?;
        Ok(self.loader.column(&block.column(&chunk))?.len())
    }

    /// Writes a chunk of the series it stands on as it is.
    pub(crate) fn copy_chunk(&mut self, chunk: &ChunkBounds, writer: &mut PartWriter) -> Result<(), TsdbError> {
        let (block, chunk) = self.chunk(chunk)?;
        let (part, column) = (self.loader.part.id, block.column(&chunk));
        let times = self.loader.column(&column)?;
        let whole = self.series.len() >= WHOLE_BLOCK_SERIES;
        let bulk = self.loader.bulk(self.block, &chunk, whole)?;
        writer.copy_chunk(block.body(&chunk, bulk), (part, column.number), &times);
        Ok(())
    }

    fn chunk(&mut self, chunk: &ChunkBounds) -> Result<(Arc<ChunkBlock>, Chunk), TsdbError> {
        let block = self.chunks()?;
        let of_series = self.number().map(|number| self.chunks_of(&block, number)).transpose()?;
        let chunk = *of_series.and_then(|chunks| chunks.get(chunk.index)).expect("a chunk of the series it stands on");
        Ok((block, chunk))
    }

    /// The newest sample in the range of the series it stands on.
    pub(crate) fn newest(&mut self, range: TimeRange) -> Result<Option<Newest>, TsdbError> {
        let Some(number) = self.number() else { return Ok(None) };
        self.build_tails()?;
        if let Told::Newest(newest) = self.newest_by_tails(number, range) {
            return Ok(newest);
        }
        let block = self.chunks()?;
        let whole = self.series.len() >= WHOLE_BLOCK_SERIES;
        self.newest_of(&block, number, range, whole)
    }

    /// The pulse in the range of the series it stands on. Mostly the headers tell it: nothing is decoded.
    pub(crate) fn pulse(&mut self, range: TimeRange) -> Result<Option<Pulse>, TsdbError> {
        let Some(number) = self.number() else { return Ok(None) };
        self.ask_for_tails();
        if let Told::Newest(newest) = self.newest_by_tails(number, range) {
            return Ok(newest.map(|newest| newest.pulse()));
        }
        let block = self.take_chunks()?;
        let pulse = self.pulse_of(&block, number, range);
        self.chunks = Some(block);
        match pulse? {
            Told::Newest(pulse) => Ok(pulse),
            Told::Nothing => Ok(self.newest(range)?.map(|newest| newest.pulse())),
        }
    }

    fn pulse_of(&mut self, block: &ChunkBlock, number: u32, range: TimeRange) -> Result<Told<Pulse>, TsdbError> {
        let mut found: Option<Pulse> = None;
        for chunk in self.chunks_of(block, number)?.iter().rev() {
            let bounds = block.column(chunk);
            if !bounds.overlaps(range) || found.is_some_and(|found| bounds.last_ms < found.time_ms) {
                continue;
            }
            if !block.is_surely_fresh(chunk) {
                return Ok(Told::Nothing);
            }
            let time_ms = if bounds.last_ms < range.end_ms {
                Some(bounds.last_ms)
            } else {
                let times = self.loader.column(&bounds)?;
                let inside = times.partition_point(|time| *time < range.end_ms);
                inside.checked_sub(1).map(|at| times[at]).filter(|time| *time >= range.start_ms)
            };
            found = found.max_by_time(time_ms.map(|time_ms| Pulse { time_ms, is_stale: false }));
        }
        Ok(Told::Newest(found))
    }

    /// Bytes it holds, what it uses of the cache included.
    pub(crate) fn bytes(&self) -> u64 {
        self.loader.bytes()
            + self.chunks.as_ref().map_or(0, |block| block.bytes())
            + self.tails.as_ref().map_or(0, |tails| tails.bytes())
    }

    fn newest_of(
        &mut self,
        block: &ChunkBlock,
        number: u32,
        range: TimeRange,
        whole: bool,
    ) -> Result<Option<Newest>, TsdbError> {
        let mut found: Option<Newest> = None;
        let mut samples = Samples::default();
        // Chunks of one kind ascend in time: the newest are looked at first, and mostly alone.
        for chunk in self.chunks_of(block, number)?.iter().rev() {
            let bounds = block.column(chunk);
            if !bounds.overlaps(range) || found.is_some_and(|found| bounds.last_ms < found.time_ms) {
                continue;
            }
            samples.clear();
            self.decode(block, chunk, range, whole, &mut samples)?;
            found = found.max_by_time(Newest::of(&samples, range));
        }
        Ok(found)
    }

    /// The newest sample in the range, or that there is none, if the newest samples of the block are at hand and tell.
    fn newest_by_tails(&self, number: u32, range: TimeRange) -> Told<Newest> {
        let Some(tails) = &self.tails else { return Told::Nothing };
        match tails.get(number as usize % BLOCK_SERIES) {
            Some(newest) if newest.time_ms >= range.end_ms => Told::Nothing,
            newest => Told::Newest(newest.filter(|newest| newest.time_ms >= range.start_ms)),
        }
    }

    /// Takes the newest samples of the whole block if they are known.
    fn ask_for_tails(&mut self) {
        if !self.tails_asked {
            self.tails_asked = true;
            let (part, block) = (self.loader.part.id, self.block);
            self.tails = self.loader.cache().and_then(|cache| cache.known_tails(part, block));
        }
    }

    /// Takes the newest samples of the whole block if they are known, or if it pays to know them.
    fn build_tails(&mut self) -> Result<(), TsdbError> {
        self.ask_for_tails();
        if self.tails.is_none() && self.series.len() >= WHOLE_BLOCK_SERIES && self.loader.cache().is_some() {
            let chunks = self.chunks()?;
            let (part, block) = (self.loader.part.id, self.block);
            let mut tails = Tails::default();
            for slot in 0..chunks.series_count() as u32 {
                tails.push(self.newest_of(&chunks, block * BLOCK_SERIES as u32 + slot, TimeRange::ALL, true)?);
            }
            let tails = Arc::new(tails);
            if let Some(cache) = self.loader.cache() {
                cache.keep_tails(part, block, Arc::clone(&tails));
            }
            self.tails = Some(tails);
        }
        Ok(())
    }

    fn take_chunks(&mut self) -> Result<Arc<ChunkBlock>, TsdbError> {
        match self.chunks.take() {
            Some(block) => Ok(block),
            None => self.loader.chunks(self.block),
        }
    }

    fn chunks(&mut self) -> Result<Arc<ChunkBlock>, TsdbError> {
        if let Some(block) = &self.chunks {
            return Ok(Arc::clone(block));
        }
        let block = self.loader.chunks(self.block)?;
        self.chunks = Some(Arc::clone(&block));
        Ok(block)
    }

    fn chunks_of<'a>(&self, block: &'a ChunkBlock, number: u32) -> Result<&'a [Chunk], TsdbError> {
        block.chunks_of(number as usize % BLOCK_SERIES).ok_or_else(|| {
            let at = self.loader.part.toc.headers[self.block as usize];
            corrupt(&self.loader.part.data, "chunk header block", at.offset, "wrong number of series")
        })
    }

    fn decode(
        &mut self,
        block: &ChunkBlock,
        chunk: &Chunk,
        range: TimeRange,
        whole: bool,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        let (times, bulk) = self.loader.chunk(&block.column(chunk), self.block, chunk, whole)?;
        body::append(block.body(chunk, bulk), times, range, samples).map_err(|error| {
            let at = self.loader.part.toc.headers[self.block as usize];
            TsdbError::chunk("chunk", &self.loader.part.data.path, at.offset)(error)
        })
    }
}
