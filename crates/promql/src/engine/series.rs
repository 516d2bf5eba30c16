//! Series on their way through the operators: labels and one cell per step.

use std::sync::Arc;

use hashbrown::HashMap;
use pharos_base::sort_checked;
use pharos_model::{Histogram, Labels, LabelsBuilder, METRIC_NAME};
use pharos_storage::ReadContext;

use super::QueryError;
use super::ledger::{Lease, Ledger};

/// The value of a series at one step.
#[derive(Debug, Clone, Default)]
pub(super) enum Cell {
    /// No sample.
    #[default]
    Empty,
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

impl Cell {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn float(&self) -> Option<f64> {
        if let Self::Float(value) = self { Some(*value) } else { None }
    }

    pub(super) fn histogram(histogram: Histogram) -> Self {
        Self::Histogram(Arc::new(histogram))
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Empty, Self::Float)
    }
}

/// One series with one cell per step of the evaluation it belongs to.
#[derive(Debug)]
pub(super) struct Series {
    /// The labels, the name included as long as nothing removed it.
    pub(super) labels: Labels,
    /// The name is to be removed at the end of the query (delayed name removal).
    pub(super) drop_name: bool,
    /// One per step.
    pub(super) cells: Vec<Cell>,
    lease: Lease,
}

/// Series one by one; an error ends them.
pub(super) type SeriesIter<'a> = Box<dyn Iterator<Item = Result<Series, QueryError>> + 'a>;

impl Series {
    /// Books `cells` and wraps them.
    pub(super) fn new(labels: Labels, drop_name: bool, cells: Vec<Cell>, ledger: &Ledger) -> Result<Self, QueryError> {
        let (mut samples, mut bytes) = (0, size_of::<Self>() + labels.encoded().len());
        bytes += cells.capacity() * size_of::<Cell>();
        for cell in &cells {
            match cell {
                Cell::Empty => {}
                Cell::Float(_) => samples += 1,
                Cell::Histogram(histogram) => {
                    let bytes_held = histogram_bytes(histogram);
                    bytes += bytes_held;
                    samples += bytes_held / 16;
                }
            }
        }
        Ok(Self { labels, drop_name, cells, lease: ledger.hold(samples, bytes)? })
    }

    /// What it is booked for.
    pub(super) fn bytes(&self) -> u64 {
        self.lease.bytes()
    }

    /// Whether no step has a sample.
    pub(super) fn is_empty(&self) -> bool {
        self.cells.iter().all(Cell::is_empty)
    }

    /// Puts the cells of `other` where this one has none; `false` if both have one at some step.
    pub(super) fn absorb(&mut self, other: Self) -> Result<bool, QueryError> {
        let mut moved = 0;
        for (mine, theirs) in self.cells.iter_mut().zip(other.cells) {
            match (mine.is_empty(), theirs.is_empty()) {
                (_, true) => {}
                (true, false) => {
                    *mine = theirs;
                    moved += 1;
                }
                (false, false) => return Ok(false),
            }
        }
        drop(other.lease);
        self.lease.grow(moved, 0)?;
        Ok(true)
    }
}

/// What a histogram takes in memory, about.
pub(super) fn histogram_bytes(histogram: &Histogram) -> usize {
    let side = |side: &pharos_model::BucketSide| side.spans.len() * 8 + side.counts.len() * 8;
    size_of::<Histogram>() + side(&histogram.positive) + side(&histogram.negative) + histogram.custom_bounds.len() * 8
}

/// Holds series back and joins those of equal labels.
#[derive(Debug, Default)]
pub(super) struct Merger {
    series: Vec<Series>,
    by_labels: HashMap<Labels, usize, foldhash::fast::RandomState>,
}

impl Merger {
    /// Adds a series; it joins an earlier one of equal labels where they share no step.
    pub(super) fn push(&mut self, series: Series) -> Result<(), QueryError> {
        match self.by_labels.get(&series.labels) {
            None => {
                self.by_labels.insert(series.labels.clone(), self.series.len());
                self.series.push(series);
                Ok(())
            }
            Some(&at) if self.series[at].absorb(series)? => Ok(()),
            Some(_) => Err(duplicate_labels()),
        }
    }

    /// In label order, which does not depend on which of the series were there first.
    pub(super) fn into_series(self, context: &ReadContext) -> Result<Vec<Series>, QueryError> {
        Ok(sort_checked(self.series, |a, b| a.labels.cmp(&b.labels), || context.check())?)
    }

    /// In the order in which labels were met first.
    pub(super) fn into_arrival(self) -> Vec<Series> {
        self.series
    }
}

/// Two samples of one label set at one step.
pub(super) fn duplicate_labels() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}

/// Labels that describe the metric rather than the series; they go where the name goes.
pub(super) fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// `labels` without name, type and unit.
pub(super) fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata_label(name)) {
        filtered(labels, |name| !is_metadata_label(name))
    } else {
        labels.clone()
    }
}

/// The labels whose names pass.
pub(super) fn filtered(labels: &Labels, keep: impl Fn(&str) -> bool) -> Labels {
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels.iter().filter(|(name, _)| keep(name)) {
        builder.push(name, value);
    }
    build(builder)
}

/// A builder that holds `labels`.
pub(super) fn builder_of(labels: &Labels) -> LabelsBuilder {
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels.iter() {
        builder.push(name, value);
    }
    builder
}

/// The labels of a builder that was filled from a label set and by `set`, so that names are unique.
pub(super) fn build(mut builder: LabelsBuilder) -> Labels {
    builder.build().unwrap_or_default()
}

/// Go's text of a label set, the name as a label like others: `{__name__="up", job="a"}`.
pub(super) fn go_labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{}={}", crate::quote::label_name(name), crate::quote::quote(value)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
