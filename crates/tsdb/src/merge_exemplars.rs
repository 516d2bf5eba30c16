//! The exemplars of the sources of a merge, in the order of the part that is written: one block of each source is in
//! memory at a time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use pharos_model::{Exemplar, Labels, TimeRange};

use crate::TsdbError;
use crate::masks::Hiding;
use crate::part::Part;
use crate::part::exemplars::ExemplarCursor;

/// Walks all that is kept and not hidden; of equal ones it answers that of the newest source.
pub(crate) struct ExemplarMerge<'a> {
    /// Oldest first.
    sources: Vec<Source<'a>>,
    /// The next of each source.
    heads: BinaryHeap<Head>,
    hiding: &'a Hiding,
    kept: TimeRange,
}

struct Source<'a> {
    cursor: ExemplarCursor<'a>,
    sequence: u64,
    cleaned: u64,
    /// The label bytes of an entry, and what they say.
    series: Option<(Arc<[u8]>, Option<Labels>)>,
}

/// Series by label bytes, instant, own labels, age of the source: the least is the greatest.
struct Head {
    series: Arc<[u8]>,
    exemplar: Exemplar,
    source: usize,
}

/// An exemplar with the label bytes of its series.
type OfSeries = (Arc<[u8]>, Exemplar);

impl<'a> ExemplarMerge<'a> {
    /// Stands before the first; `parts` are oldest first.
    ///
    /// # Errors
    /// [`TsdbError`] if a file is damaged.
    pub(crate) fn new(parts: &'a [Arc<Part>], hiding: &'a Hiding, kept: TimeRange) -> Result<Self, TsdbError> {
        let source = |part: &'a Arc<Part>| {
            let (sequence, cleaned) = (part.meta.sequence, part.meta.cleaned);
            Source { cursor: part.exemplars(), sequence, cleaned, series: None }
        };
        let sources: Vec<_> = parts.iter().map(source).collect();
        let mut merge = Self { sources, heads: BinaryHeap::new(), hiding, kept };
        (0..parts.len()).try_for_each(|source| merge.refill(source))?;
        Ok(merge)
    }

    /// The next exemplar, and the label bytes of its series; `None` at the end.
    ///
    /// # Errors
    /// [`TsdbError`] if a file is damaged.
    pub(crate) fn next(&mut self) -> Result<Option<OfSeries>, TsdbError> {
        let Some(mut newest) = self.heads.pop() else { return Ok(None) };
        self.refill(newest.source)?;
        while let Some(same) = self.heads.peek().filter(|head| head.key() == newest.key()).map(|head| head.source) {
            newest = self.heads.pop().unwrap_or(newest);
            self.refill(same)?;
        }
        Ok(Some((newest.series, newest.exemplar)))
    }

    fn refill(&mut self, number: usize) -> Result<(), TsdbError> {
        let source = &mut self.sources[number];
        while let Some(exemplar) = source.cursor.next()? {
            let series = source.cursor.labels();
            if source.series.as_ref().is_none_or(|(known, _)| !Arc::ptr_eq(known, series)) {
                let labels = Labels::from_encoded(series);
                if labels.is_err() {
                    tracing::error!("exemplars of a series with invalid labels are dropped");
                }
                source.series = Some((Arc::clone(series), labels.ok()));
            }
            let Some((series, Some(labels))) = &source.series else { continue };
            let at_ms = exemplar.timestamp_ms;
            if self.kept.contains(at_ms) && !self.hiding.hides_exemplar(source.sequence, source.cleaned, labels, at_ms)
            {
                self.heads.push(Head { series: Arc::clone(series), exemplar, source: number });
                break;
            }
        }
        Ok(())
    }
}

impl Head {
    fn key(&self) -> (&[u8], i64, &Labels) {
        (&self.series, self.exemplar.timestamp_ms, &self.exemplar.labels)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key()).then_with(|| other.source.cmp(&self.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}
