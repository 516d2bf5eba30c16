//! One history of selected series, walked in label order: a part's or a generation's, without what is hidden.

use std::ops::Range;
use std::sync::Arc;

use pharos_model::{Labels, TimeRange};
use roaring::RoaringBitmap;

use crate::TsdbError;
use crate::copied::Copies;
use crate::head::generation::Generation;
use crate::head::registry::SeriesNumber;
use crate::masks::Masks;
use crate::newest::{Newest, Pulse};
use crate::part::PartCursor;
use crate::part::cursor::ChunkBounds;
use crate::part::writer::PartWriter;
use crate::rollup::{RollupCursor, ThinSeries};
use crate::samples::Samples;

/// One history. It stands on one series at a time.
pub(crate) struct Source {
    history: History,
    masks: Masks,
    copies: Copies,
    rollup: Option<RollupCursor>,
}

/// A place between two series of a source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// Before this number of a part.
    Number(u32),
    /// Before this place among those of a head.
    Place(usize),
}

enum History {
    Part(Box<PartCursor>),
    Head(HeadCursor),
}

/// Selected series of a generation.
pub(crate) struct HeadCursor {
    generation: Arc<Generation>,
    selected: Selected,
    /// Those of them that are left, the one it stands on first. Cursors that were split share the list.
    left: Range<usize>,
}

enum Selected {
    /// By label bytes ascending.
    InOrder(Arc<Vec<(Labels, SeriesNumber)>>),
    /// In any order, with the labels loaded last: for a source that is alone.
    Unordered(Arc<Vec<SeriesNumber>>, Labels),
}

impl HeadCursor {
    /// Over series by label bytes ascending.
    pub(crate) fn new(generation: Arc<Generation>, selected: Vec<(Labels, SeriesNumber)>) -> Self {
        Self { generation, left: 0..selected.len(), selected: Selected::InOrder(Arc::new(selected)) }
    }

    /// Over series in any order; nothing else may be merged with them.
    pub(crate) fn unordered(generation: Arc<Generation>, selected: Vec<SeriesNumber>) -> Self {
        let left = 0..selected.len();
        Self { generation, left, selected: Selected::Unordered(Arc::new(selected), Labels::empty()) }
    }

    fn lower_bound(&self, bound: &[u8]) -> usize {
        match &self.selected {
            Selected::InOrder(selected) => {
                let before = |(labels, _): &(Labels, SeriesNumber)| labels.encoded() < bound;
                self.left.start + selected[self.left.clone()].partition_point(before)
            }
            Selected::Unordered(..) => self.left.start,
        }
    }

    fn split_front(&mut self, place: usize) -> Self {
        let selected = match &self.selected {
            Selected::InOrder(selected) => Selected::InOrder(Arc::clone(selected)),
            Selected::Unordered(numbers, _) => Selected::Unordered(Arc::clone(numbers), Labels::empty()),
        };
        let left = self.left.start..place;
        self.left.start = place;
        Self { generation: Arc::clone(&self.generation), selected, left }
    }

    fn number(&self) -> Option<SeriesNumber> {
        let at = self.left.clone().next()?;
        match &self.selected {
            Selected::InOrder(selected) => selected.get(at).map(|(_, number)| *number),
            Selected::Unordered(numbers, _) => numbers.get(at).copied(),
        }
    }

    fn load_labels(&mut self) {
        if let (Selected::Unordered(numbers, labels), Some(at)) = (&mut self.selected, self.left.clone().next()) {
            *labels = self.generation.labels(numbers[at]);
        }
    }

    fn labels(&self) -> &[u8] {
        match (&self.selected, self.left.clone().next()) {
            (_, None) => &[],
            (Selected::InOrder(selected), Some(at)) => selected[at].0.encoded(),
            (Selected::Unordered(_, labels), Some(_)) => labels.encoded(),
        }
    }
}

impl Source {
    pub(crate) fn part(cursor: PartCursor, masks: Masks) -> Self {
        Self::new(History::Part(Box::new(cursor)), masks)
    }

    pub(crate) fn head(cursor: HeadCursor, masks: Masks) -> Self {
        Self::new(History::Head(cursor), masks)
    }

    fn new(history: History, masks: Masks) -> Self {
        Self { history, masks, copies: Copies::Nothing, rollup: None }
    }

    /// The same, with cells to be read instead of samples.
    pub(crate) fn with_rollup(self, rollup: Option<RollupCursor>) -> Self {
        Self { rollup, ..self }
    }

    /// The number within its owner of the series it stands on; `None` at the end.
    pub(crate) fn number(&self) -> Option<u32> {
        match &self.history {
            History::Part(cursor) => cursor.number(),
            History::Head(cursor) => cursor.number(),
        }
    }

    /// Makes [`Source::labels`] ready.
    pub(crate) fn load_labels(&mut self) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.load_labels(),
            History::Head(cursor) => {
                cursor.load_labels();
                Ok(())
            }
        }
    }

    /// Label bytes of the series it stands on; empty at the end, or if they were not loaded.
    pub(crate) fn labels(&self) -> &[u8] {
        match &self.history {
            History::Part(cursor) => cursor.labels().unwrap_or_default(),
            History::Head(cursor) => cursor.labels(),
        }
    }

    /// Where all samples of the history lie.
    pub(crate) fn extent(&self) -> TimeRange {
        match &self.history {
            History::Part(cursor) => cursor.part().extent(),
            History::Head(cursor) => cursor.generation.extent(),
        }
    }

    /// How many series are selected. Before the first step only, as the two below.
    pub(crate) fn series_count(&self) -> usize {
        match &self.history {
            History::Part(cursor) => cursor.series_count(),
            History::Head(cursor) => cursor.left.len(),
        }
    }

    /// The number behind at least `series` of its series, where it is well cut; `None` if nothing is behind.
    pub(crate) fn cut_after(&self, series: usize) -> Option<Cut> {
        match &self.history {
            History::Part(cursor) => cursor.block_after(series).map(Cut::Number),
            History::Head(cursor) => (series < cursor.left.len()).then(|| Cut::Place(cursor.left.start + series)),
        }
    }

    /// The cut before the first series whose label bytes are not less than these.
    pub(crate) fn cut_before(&mut self, labels: &[u8]) -> Result<Cut, TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.lower_bound(labels).map(Cut::Number),
            History::Head(cursor) => Ok(Cut::Place(cursor.lower_bound(labels))),
        }
    }

    /// Splits off what is before a cut, without its rollup.
    pub(crate) fn split_front(&mut self, cut: Cut) -> Self {
        let history = match (&mut self.history, cut) {
            (History::Part(cursor), Cut::Number(number)) => History::Part(Box::new(cursor.split_front(number))),
            (History::Head(cursor), Cut::Place(place)) => History::Head(cursor.split_front(place)),
            _ => unreachable!("a cut belongs to the source that made it"),
        };
        Self { history, masks: self.masks.clone(), copies: self.copies, rollup: None }
    }

    /// Goes to the next series.
    pub(crate) fn advance(&mut self) {
        match &mut self.history {
            History::Part(cursor) => cursor.advance(),
            History::Head(cursor) => {
                cursor.left.next();
            }
        }
    }

    /// The same of which chunks may be copied.
    pub(crate) fn with_copies(self, copies: Copies) -> Self {
        Self { copies, ..self }
    }

    /// Which chunks of the series it stands on may be copied.
    pub(crate) fn copies(&self) -> Copies {
        let is_masked = self.number().is_none_or(|number| self.masks.concern(number));
        if is_masked { Copies::Nothing } else { self.copies }
    }

    /// Calls `each` with every chunk of the series it stands on; a head has none that could be copied.
    pub(crate) fn each_chunk(&mut self, each: &mut dyn FnMut(ChunkBounds)) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.each_chunk(each),
            History::Head(_) => Ok(()),
        }
    }

    /// How many samples a chunk has.
    pub(crate) fn chunk_len(&mut self, chunk: &ChunkBounds) -> Result<usize, TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.chunk_len(chunk),
            History::Head(_) => Ok(0),
        }
    }

    /// Writes a chunk of the series it stands on as it is.
    pub(crate) fn copy_chunk(&mut self, chunk: &ChunkBounds, writer: &mut PartWriter) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.copy_chunk(chunk, writer),
            History::Head(_) => Ok(()),
        }
    }

    /// As [`Source::read`], of the chunks with these numbers.
    pub(crate) fn read_some(
        &mut self,
        range: TimeRange,
        wanted: impl Fn(usize) -> bool,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        if self.copies() == Copies::Nothing {
            return self.read(range, samples);
        }
        match &mut self.history {
            History::Part(cursor) => cursor.read_some(range, wanted, samples),
            History::Head(_) => self.read(range, samples),
        }
    }

    /// Adds the samples in the range of the series it stands on to sorted, older ones.
    pub(crate) fn read(&mut self, range: TimeRange, samples: &mut Samples) -> Result<(), TsdbError> {
        let Some(number) = self.number() else { return Ok(()) };
        if !self.masks.concern(number) {
            return self.read_all(range, samples);
        }
        let mut own = Samples::default();
        self.read_all(range, &mut own)?;
        self.masks.apply(number, &mut own);
        samples.merge(own);
        Ok(())
    }

    /// As [`Source::read`], but for what it has as cells: these are added to `series`.
    pub(crate) fn read_thin(
        &mut self,
        range: TimeRange,
        series: &mut ThinSeries,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        if let (Some(number), Some(rollup)) = (self.number(), &mut self.rollup)
            && !self.masks.concern(number)
            && rollup.read(number, series)
        {
            return rollup.gaps().try_for_each(|gap| self.read_all(gap, samples));
        }
        self.read(range, samples)
    }

    /// The newest sample in the range of the series it stands on.
    pub(crate) fn newest(&mut self, range: TimeRange) -> Result<Option<Newest>, TsdbError> {
        let Some(number) = self.number() else { return Ok(None) };
        if self.masks.concern(number) {
            let mut own = Samples::default();
            self.read(range, &mut own)?;
            return Ok(Newest::of(&own, range));
        }
        match &mut self.history {
            History::Part(cursor) => cursor.newest(range),
            History::Head(cursor) => cursor.generation.newest(number, range),
        }
    }

    /// The pulse in the range of the series it stands on.
    pub(crate) fn pulse(&mut self, range: TimeRange) -> Result<Option<Pulse>, TsdbError> {
        match &mut self.history {
            History::Part(cursor) if !cursor.number().is_some_and(|number| self.masks.concern(number)) => {
                cursor.pulse(range)
            }
            _ => Ok(self.newest(range)?.map(|newest| newest.pulse())),
        }
    }

    /// Calls `each` with every name and value of a label that series of it have, and with how many of them do.
    pub(crate) fn count_values(
        &self,
        series: &RoaringBitmap,
        each: impl FnMut(&str, &str, u64),
    ) -> Result<(), TsdbError> {
        match &self.history {
            History::Part(cursor) => cursor.part().index.count_values(series, each),
            History::Head(cursor) => {
                cursor.generation.count_values(series, each);
                Ok(())
            }
        }
    }

    /// Bytes it holds beyond what was said when it was made.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.history {
            History::Part(cursor) => cursor.bytes() + self.rollup.as_ref().map_or(0, RollupCursor::bytes),
            History::Head(_) => 0,
        }
    }

    fn read_all(&mut self, range: TimeRange, samples: &mut Samples) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.read(range, samples),
            History::Head(cursor) => match cursor.number() {
                Some(number) => cursor.generation.read(number, range, samples),
                None => Ok(()),
            },
        }
    }
}
