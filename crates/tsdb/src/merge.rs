//! Several histories of the same series become one: heads and parts, walked together in label order.

use std::sync::Arc;
use std::vec;

use pharos_model::{Labels, TimeRange};

use crate::TsdbError;
use crate::head::generation::Generation;
use crate::head::registry::SeriesNumber;
use crate::masks::Masks;
use crate::part::PartCursor;
use crate::samples::Samples;

/// One history, without what is hidden of it.
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
    rest: vec::IntoIter<(Labels, SeriesNumber)>,
    current: Option<(Labels, SeriesNumber)>,
}

impl HeadCursor {
    pub(crate) fn new(generation: Arc<Generation>, selected: Vec<(Labels, SeriesNumber)>) -> Self {
        let mut rest = selected.into_iter();
        let current = rest.next();
        Self { generation, rest, current }
    }
}

impl Source {
    pub(crate) fn part(cursor: PartCursor, masks: Masks) -> Self {
        Self { history: History::Part(Box::new(cursor)), masks }
    }

    pub(crate) fn head(cursor: HeadCursor, masks: Masks) -> Self {
        Self { history: History::Head(cursor), masks }
    }

    fn labels(&self) -> Option<&[u8]> {
        match &self.history {
            History::Part(cursor) => cursor.labels(),
            History::Head(cursor) => cursor.current.as_ref().map(|(labels, _)| labels.encoded()),
        }
    }

    fn read(&mut self, range: TimeRange) -> Result<Samples, TsdbError> {
        let (number, mut samples) = match &mut self.history {
            History::Part(cursor) => (cursor.number(), cursor.read(range)?),
            History::Head(cursor) => match &cursor.current {
                Some((_, number)) => (Some(*number), cursor.generation.read(*number, range)?),
                None => (None, Samples::default()),
            },
        };
        if let Some(number) = number {
            self.masks.apply(number, &mut samples);
        }
        Ok(samples)
    }

    fn advance(&mut self) -> Result<(), TsdbError> {
        match &mut self.history {
            History::Part(cursor) => cursor.advance(),
            History::Head(cursor) => {
                cursor.current = cursor.rest.next();
                Ok(())
            }
        }
    }
}

/// All sources together; each series once.
pub(crate) struct Merge {
    /// Oldest first: where two have an instant, the later source wins.
    sources: Vec<Source>,
    current: Vec<u8>,
}

impl Merge {
    pub(crate) fn new(mut sources: Vec<Source>) -> Self {
        sources.retain(|source| source.labels().is_some());
        Self { sources, current: Vec::new() }
    }

    /// Label bytes of the series that [`Self::next`] answered last.
    pub(crate) fn current(&self) -> &[u8] {
        &self.current
    }

    /// The next series' label bytes and, where a range is given, its samples in it, sorted.
    pub(crate) fn next(&mut self, range: Option<TimeRange>) -> Result<Option<(&[u8], Samples)>, TsdbError> {
        let Some(least) = self.sources.iter().filter_map(Source::labels).min() else { return Ok(None) };
        self.current.clear();
        self.current.extend_from_slice(least);
        let mut samples = Samples::default();
        let mut ended = false;
        for source in &mut self.sources {
            if source.labels() != Some(self.current.as_slice()) {
                continue;
            }
            if let Some(range) = range {
                samples.merge(source.read(range)?);
            }
            source.advance()?;
            ended |= source.labels().is_none();
        }
        if ended {
            self.sources.retain(|source| source.labels().is_some());
        }
        Ok(Some((&self.current, samples)))
    }
}
