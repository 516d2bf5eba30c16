//! Instant selectors and their aggregates: of each series only the newest sample is looked at, which the store
//! knows without decoding where it was asked before.

use pharos_grid::{Aggregation, GroupFold, Grouping, RangeFunction};
use pharos_model::TenantId;
use pharos_storage::{GridPlan, GridSeries, LeafSeries, LeafStream, ReadContext, ReadCounts, StorageError};

use crate::newest::NewestSample;
use crate::read::{labels_of, until_error};
use crate::samples::Samples;
use crate::shared::Shared;

/// Whether the plan asks for the newest sample of each series at one instant.
pub(crate) fn is_instant(plan: &GridPlan) -> bool {
    plan.function == RangeFunction::Last && plan.steps.len() == 1 && !(plan.starts_raw && plan.function.reads_starts())
}

impl Shared {
    /// As [`Shared::grid`] for a plan that [`is_instant`].
    pub(crate) fn instant_grid(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        let range = self.kept(tenant, plan.read_range());
        let mut selection = self.select(tenant, std::slice::from_ref(&plan.matchers), range, context)?;
        let context = context.clone();
        Ok(Box::new(until_error(move || {
            while let Some(newest) = selection.next_newest(range)? {
                let is_present = !newest.is_stale();
                if let (NewestSample::Histogram { .. }, true) = (newest.sample, is_present) {
                    let mut samples = Samples::default();
                    selection.read(range, &mut samples)?;
                    return Ok(Some(LeafSeries::Raw(samples.into_raw(labels_of(selection.labels()?)?))));
                }
                context.meter.count(1, u64::from(is_present));
                if let (NewestSample::Float(value), true) = (newest.sample, is_present) {
                    let labels = labels_of(selection.labels()?)?;
                    return Ok(Some(LeafSeries::Grid(GridSeries { labels, values: vec![value] })));
                }
            }
            Ok(None)
        })))
    }

    /// As [`Shared::aggregate`] for a plan that [`is_instant`].
    pub(crate) fn instant_aggregate(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        aggregation: Aggregation,
        grouping: &Grouping,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        let range = self.kept(tenant, plan.read_range());
        let mut selection = self.select(tenant, std::slice::from_ref(&plan.matchers), range, context)?;
        let mut held = context.memory.reserve(0)?;
        let mut fold = GroupFold::new(aggregation, grouping, 1);
        let counts_kinds_alike = matches!(aggregation, Aggregation::Count | Aggregation::Group);
        // One group: nobody needs to know whose samples these are.
        let is_one_group = !grouping.without && grouping.labels.is_empty();
        let mut counts = ReadCounts::default();
        while let Some(newest) = selection.next_newest(range)? {
            let is_present = !newest.is_stale();
            let value = match newest.sample {
                NewestSample::Float(value) => value,
                NewestSample::Histogram { .. } if counts_kinds_alike || !is_present => 1.0,
                NewestSample::Histogram { .. } => {
                    return Err(StorageError::Unsupported { what: "aggregates of these series".to_owned() });
                }
            };
            counts.series += 1;
            counts.samples += 1;
            counts.samples_queryable += u64::from(is_present);
            if is_present {
                let labels = if is_one_group { &[] } else { selection.labels()? };
                fold.add(labels, &[value], |bytes| held.grow(bytes))?;
            }
        }
        counts.samples_largest = counts.samples.min(1);
        context.meter.add(counts);
        let groups = fold.finish().map(move |(labels, values)| {
            let _held = &held;
            Ok(LeafSeries::Grid(GridSeries { labels, values }))
        });
        Ok(Box::new(groups))
    }
}
