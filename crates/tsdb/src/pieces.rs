//! Selections cut into pieces that several threads may read.

use crate::TsdbError;
use crate::source::{Cut, Source};

/// Cuts sources into pieces of about so many series each, in label order; every series is whole in one of them. A piece is
/// cut when it is asked for.
pub(crate) struct Pieces {
    /// What is left.
    sources: Option<Vec<Source>>,
    /// The one with the most series, which says where pieces end.
    largest: usize,
    series: usize,
}

impl Pieces {
    pub(crate) fn new(sources: Vec<Source>, series: usize) -> Self {
        let largest = (0..sources.len()).max_by_key(|at| sources[*at].series_count()).unwrap_or(0);
        Self { sources: Some(sources), largest, series }
    }

    fn cut(&self, sources: &mut [Source], place: Cut) -> Result<Vec<Source>, TsdbError> {
        let front = sources[self.largest].split_front(place);
        // The others are cut where the rest of the largest begins.
        let bound = if sources.len() > 1 {
            sources[self.largest].load_labels()?;
            sources[self.largest].labels().to_vec()
        } else {
            Vec::new()
        };
        let mut front = Some(front);
        // Oldest first, as they were.
        let fronts = sources.iter_mut().enumerate().map(|(at, source)| match front.take_if(|_| at == self.largest) {
            Some(front) => Ok(front),
            None => Ok(source.cut_before(&bound).map(|place| source.split_front(place))?),
        });
        fronts.collect()
    }
}

impl Iterator for Pieces {
    type Item = Result<Vec<Source>, TsdbError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut sources = self.sources.take()?;
        let Some(place) = sources.get(self.largest).and_then(|largest| largest.cut_after(self.series)) else {
            return Some(Ok(sources));
        };
        let piece = self.cut(&mut sources, place);
        if piece.is_ok() {
            self.sources = Some(sources);
        }
        Some(piece)
    }
}
