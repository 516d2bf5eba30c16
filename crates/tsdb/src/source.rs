//! One history of selected series, walked in label order: a part's or a generation's, without what is hidden.

use std::sync::Arc;

use pharos_model::{Labels, TimeRange};

use crate::TsdbError;
use crate::head::generation::Generation;
use crate::head::registry::SeriesNumber;
use crate::masks::Masks;
use crate::newest::Newest;
use crate::part::PartCursor;
use crate::samples::Samples;

/// One history. It stands on one series at a time.
pub(crate) struct Source {
    history: History,
    masks: Masks,
}

enum History {
    Part(Box<PartCursor>),
    Head(HeadCursor),
}

/// Selected series of a generation, by label bytes ascending.
pub(crate) struct HeadCursor {
    generation: Arc<Generation>,
    selected: Vec<(Labels, SeriesNumber)>,
    at: usize,
}

impl HeadCursor {
    pub(crate) fn new(generation: Arc<Generation>, selected: Vec<(Labels, SeriesNumber)>) -> Self {
        Self { generation, selected, at: 0 }
    }

    fn current(&self) -> Option<&(Labels, SeriesNumber)> {
        self.selected.get(self.at)
    }
}

impl Source {
    pub(crate) fn part(cursor: PartCursor, masks: Masks) -> Self {
        Self { history: History::Part(Box::new(cursor)), masks }
    }

    pub(crate) fn head(cursor: HeadCursor, masks: Masks) -> Self {
        Self { history: History::Head(cursor), masks }
    }

    /// The number within its owner of the series it stands on; `None` at the end.
    pub(crate) fn number(&self) -> Option<u32> {
        match &self.history {
            History::Part(cursor) => cursor.number(),
            History::Head(cursor) => cursor.current().map(|(_, number)| *number),
        }
    }

    /// Makes [`Source::labels`] ready.
    pub(crate) fn load_labels(&mut self) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.load_labels(),
            History::Head(_) => Ok(()),
        }
    }

    /// Label bytes of the series it stands on; empty at the end, or if they were not loaded.
    pub(crate) fn labels(&self) -> &[u8] {
        match &self.history {
            History::Part(cursor) => cursor.labels().unwrap_or_default(),
            History::Head(cursor) => cursor.current().map_or(&[], |(labels, _)| labels.encoded()),
        }
    }

    /// Goes to the next series.
    pub(crate) fn advance(&mut self) {
        match &mut self.history {
            History::Part(cursor) => cursor.advance(),
            History::Head(cursor) => cursor.at += 1,
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

    /// Bytes it holds beyond what was said when it was made.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.history {
            History::Part(cursor) => cursor.bytes(),
            History::Head(_) => 0,
        }
    }

    fn read_all(&mut self, range: TimeRange, samples: &mut Samples) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.read(range, samples),
            History::Head(cursor) => match cursor.selected.get(cursor.at) {
                Some((_, number)) => cursor.generation.read(*number, range, samples),
                None => Ok(()),
            },
        }
    }
}
