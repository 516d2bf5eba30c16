//! Several histories of the same series become one: heads and parts, walked together in label order.
//!
//! Invariants
//! - M1 `order` holds the sources that are not at their end, by the labels they stand on, then by age; its first
//!   `standing` stand on the series that the merge stands on.
//! - M2 While one source is left, nobody loads labels to compare them: they are loaded where they are asked for.

use pharos_model::TimeRange;

use crate::TsdbError;
use crate::newest::{ByTime, Newest, Pulse};
use crate::rollup::ThinSeries;
use crate::samples::Samples;
use crate::source::Source;

/// All sources together; each series once.
pub(crate) struct Merge {
    /// Oldest first: where two have an instant, the later source wins.
    sources: Vec<Source>,
    order: Vec<usize>,
    standing: usize,
    /// Sources to be put in their place: those that moved.
    moved: Vec<usize>,
}

impl Merge {
    /// Stands before the first series.
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        let moved = (0..sources.len()).filter(|at| sources[*at].number().is_some()).collect();
        Self { sources, order: Vec::new(), standing: 0, moved }
    }

    /// Goes to the next series; false at the end.
    ///
    /// # Errors
    /// [`TsdbError`] if labels cannot be read: where it stands then is not said.
    pub(crate) fn next(&mut self) -> Result<bool, TsdbError> {
        if let ([only], 1) = (self.order.as_slice(), self.standing) {
            // The usual case needs no order.
            let source = &mut self.sources[*only];
            source.advance();
            if source.number().is_some() {
                return Ok(true);
            }
            self.order.clear();
        }
        for at in self.order.drain(..self.standing.min(self.order.len())) {
            self.sources[at].advance();
            if self.sources[at].number().is_some() {
                self.moved.push(at);
            }
        }
        self.standing = 0;
        if self.order.len() + self.moved.len() > 1 {
            for at in &self.order {
                self.sources[*at].load_labels()?;
            }
            self.put_in_order()?;
        } else {
            self.order.append(&mut self.moved);
        }
        let Some(first) = self.order.first() else { return Ok(false) };
        let labels = self.sources[*first].labels();
        self.standing = 1 + self.order[1..].iter().take_while(|at| self.sources[**at].labels() == labels).count();
        Ok(true)
    }

    fn put_in_order(&mut self) -> Result<(), TsdbError> {
        while let Some(at) = self.moved.pop() {
            self.sources[at].load_labels()?;
            let own = (self.sources[at].labels(), at);
            let place = self.order.partition_point(|other| (self.sources[*other].labels(), *other) < own);
            self.order.insert(place, at);
        }
        Ok(())
    }

    /// The oldest source that has the series it stands on, and the series' number there.
    pub(crate) fn owner(&self) -> Option<(usize, u32)> {
        let first = *self.order.first()?;
        Some((first, self.sources[first].number()?))
    }

    /// Its sources, oldest first.
    pub(crate) fn into_sources(self) -> Vec<Source> {
        self.sources
    }

    /// Label bytes of the series it stands on.
    pub(crate) fn labels(&mut self) -> Result<&[u8], TsdbError> {
        let Some(first) = self.order.first() else { return Ok(&[]) };
        let source = &mut self.sources[*first];
        source.load_labels()?;
        Ok(source.labels())
    }

    /// How many sources stand on its series.
    pub(crate) fn standing(&self) -> usize {
        self.standing
    }

    /// One of the sources that stand on its series, oldest first.
    pub(crate) fn standing_source(&mut self, nth: usize) -> &mut Source {
        &mut self.sources[self.order[nth]]
    }

    /// The samples in the range of the series it stands on, sorted; what was in `samples` is replaced.
    pub(crate) fn read(&mut self, range: TimeRange, samples: &mut Samples) -> Result<(), TsdbError> {
        samples.clear();
        for at in &self.order[..self.standing] {
            self.sources[*at].read(range, samples)?;
        }
        Ok(())
    }

    /// The same as cells where its parts have them, and as samples elsewhere.
    pub(crate) fn read_thin(
        &mut self,
        range: TimeRange,
        series: &mut ThinSeries,
        samples: &mut Samples,
    ) -> Result<(), TsdbError> {
        series.clear();
        samples.clear();
        for at in &self.order[..self.standing] {
            self.sources[*at].read_thin(range, series, samples)?;
        }
        Ok(())
    }

    /// The newest sample in the range of the series it stands on.
    pub(crate) fn newest(&mut self, range: TimeRange) -> Result<Option<Newest>, TsdbError> {
        let mut found = None;
        for at in &self.order[..self.standing] {
            found = found.max_by_time(self.sources[*at].newest(range)?);
        }
        Ok(found)
    }

    /// The pulse in the range of the series it stands on.
    pub(crate) fn pulse(&mut self, range: TimeRange) -> Result<Option<Pulse>, TsdbError> {
        let mut found = None;
        for at in &self.order[..self.standing] {
            found = found.max_by_time(self.sources[*at].pulse(range)?);
        }
        Ok(found)
    }

    /// Bytes that its sources hold now.
    pub(crate) fn bytes(&self) -> u64 {
        self.sources.iter().map(Source::bytes).sum()
    }
}
