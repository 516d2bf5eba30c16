//! Instant selectors and their aggregates: of each series only the newest sample is looked at, which the store
//! knows without decoding where it was asked before.

use pharos_base::Reservation;
use pharos_grid::{Aggregation, GroupFold, Grouping, RangeFunction};
use pharos_model::{Labels, TenantId, TimeRange};
use pharos_storage::{GridPlan, GridSeries, LeafSeries, LeafStream, ReadContext, ReadCounts, StorageError};

use crate::newest::NewestSample;
use crate::read::{Order, Selection, until_error};
use crate::samples::Samples;
use crate::shared::Shared;

/// Whether the plan asks for the newest sample of each series at one instant.
pub(crate) fn is_instant(plan: &GridPlan) -> bool {
    plan.function == RangeFunction::Last && plan.steps.len() == 1 && !(plan.starts_raw && plan.function.reads_starts())
}

/// The newest sample of each series, unless it is stale; histograms raw.
pub(crate) fn newest(mut selection: Selection, range: TimeRange) -> LeafStream {
    Box::new(until_error(move || {
        while let Some(newest) = selection.next_newest(range)? {
            let is_present = !newest.is_stale();
            if let (NewestSample::Histogram { .. }, true) = (newest.sample, is_present) {
                let mut samples = Samples::default();
                selection.read(range, &mut samples)?;
                return Ok(Some(LeafSeries::Raw(samples.into_raw(Labels::from_canonical(selection.labels()?)))));
            }
            selection.context().meter.count(1, u64::from(is_present));
            if let (NewestSample::Float(value), true) = (newest.sample, is_present) {
                let labels = Labels::from_canonical(selection.labels()?);
                return Ok(Some(LeafSeries::Grid(GridSeries { labels, values: vec![value] })));
            }
        }
        Ok(None)
    }))
}

impl Shared {
    /// As [`Shared::aggregate`] for a plan that [`is_instant`].
    pub(crate) fn instant_aggregate(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        aggregation: Aggregation,
        grouping: &Grouping,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        // Counting knows neither values nor order.
        let counts = matches!(aggregation, Aggregation::Count | Aggregation::Group);
        let order = if counts { Order::Any } else { Order::Labels };
        let range = self.kept(tenant, plan.read_range());
        let mut selection = self.select(tenant, std::slice::from_ref(&plan.matchers), range, order, context)?;
        let mut folding = Folding {
            fold: GroupFold::new(aggregation, grouping, 1),
            // One group: nobody needs to know whose samples these are.
            is_one_group: !grouping.without && grouping.labels.is_empty(),
            held: context.memory.reserve(0)?,
            counts: ReadCounts::default(),
        };
        if counts {
            while let Some(pulse) = selection.next_pulse(range)? {
                folding.add(&mut selection, (!pulse.is_stale).then_some(1.0))?;
            }
        } else {
            while let Some(newest) = selection.next_newest(range)? {
                let value = match newest.sample {
                    NewestSample::Float(value) => Some(value).filter(|_| !newest.is_stale()),
                    NewestSample::Histogram { is_stale: true } => None,
                    NewestSample::Histogram { is_stale: false } => {
                        return Err(StorageError::Unsupported { what: "aggregates of these series".to_owned() });
                    }
                };
                folding.add(&mut selection, value)?;
            }
        }
        Ok(folding.finish(context))
    }
}

/// Newest samples on their way into groups.
struct Folding {
    fold: GroupFold,
    is_one_group: bool,
    held: Reservation,
    counts: ReadCounts,
}

impl Folding {
    /// Adds the newest sample of the series that the selection stands on; `None` if that says that the series ended.
    fn add(&mut self, selection: &mut Selection, value: Option<f64>) -> Result<(), StorageError> {
        self.counts.series += 1;
        let Some(value) = value else { return Ok(()) };
        self.counts.samples_queryable += 1;
        let labels = if self.is_one_group { &[] } else { selection.labels()? };
        self.fold.add(labels, &[value], |bytes| self.held.grow(bytes))?;
        Ok(())
    }

    fn finish(self, context: &ReadContext) -> LeafStream {
        let Self { fold, held, mut counts, .. } = self;
        (counts.samples, counts.samples_largest) = (counts.series, counts.series.min(1));
        context.meter.add(counts);
        let groups = fold.finish().map(move |(labels, values)| {
            let _held = &held;
            Ok(LeafSeries::Grid(GridSeries { labels, values }))
        });
        Box::new(groups)
    }
}
