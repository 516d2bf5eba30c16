//! Grid and aggregate plans: functions of windows evaluated where the samples are decoded.
//!
//! One decoded series is held at a time. The order of the series, and with it every bit of an aggregate, is that of
//! a raw plan: ascending encoded labels.

use pharos_grid::{Aggregation, Floats, GroupFold, Grouping};
use pharos_model::{Labels, TenantId};
use pharos_storage::{
    GridEvaluator, GridPlan, GridSeries, LeafSeries, LeafStream, ReadContext, ReadMeter, StorageError,
};

use crate::instant::is_instant;
use crate::read::{Order, until_error};
use crate::samples::Samples;
use crate::shared::Shared;

impl Shared {
    /// Grids of the series that pass; those with native histograms, and others the plan says, raw.
    pub(crate) fn grid(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        if is_instant(plan) {
            return self.instant_grid(tenant, plan, context);
        }
        if let Some(wanted) = self.rollups_for(tenant, plan) {
            return self.rolled_grid(tenant, plan, wanted, context);
        }
        let range = self.kept(tenant, plan.read_range());
        let mut selection = self.select(tenant, std::slice::from_ref(&plan.matchers), range, Order::Labels, context)?;
        let mut evaluator = GridEvaluator::new(plan, None);
        let mut samples = Samples::default();
        let context = context.clone();
        Ok(Box::new(until_error(move || {
            while selection.next_samples(range, &mut samples)? {
                if evaluator.needs_raw(floats(&samples), !samples.histograms.is_empty()) {
                    let labels = Labels::from_canonical(selection.labels()?);
                    return Ok(Some(LeafSeries::Raw(std::mem::take(&mut samples).into_raw(labels))));
                }
                if let Some(values) = evaluator.evaluate(floats(&samples), &[], &context)? {
                    let (labels, values) = (Labels::from_canonical(selection.labels()?), values.to_vec());
                    return Ok(Some(LeafSeries::Grid(GridSeries { labels, values })));
                }
            }
            Ok(None)
        })))
    }

    /// Grids folded by group; complete before the first group is handed out.
    pub(crate) fn aggregate(
        &self,
        tenant: &TenantId,
        plan: &GridPlan,
        aggregation: Aggregation,
        grouping: &Grouping,
        context: &ReadContext,
    ) -> Result<LeafStream, StorageError> {
        if is_instant(plan) {
            return self.instant_aggregate(tenant, plan, aggregation, grouping, context);
        }
        if let Some(wanted) = self.rollups_for(tenant, plan) {
            return self.rolled_aggregate(tenant, plan, (aggregation, grouping), wanted, context);
        }
        let range = self.kept(tenant, plan.read_range());
        // Counts are told only of an answer that stands.
        let counting = ReadContext { meter: ReadMeter::default(), ..context.clone() };
        let mut selection =
            self.select(tenant, std::slice::from_ref(&plan.matchers), range, Order::Labels, &counting)?;
        let mut held = context.memory.reserve(0)?;
        let mut evaluator = GridEvaluator::new(plan, Some(aggregation));
        let mut fold = GroupFold::new(aggregation, grouping, plan.steps.len());
        let mut samples = Samples::default();
        while selection.next_samples(range, &mut samples)? {
            if evaluator.needs_raw(floats(&samples), !samples.histograms.is_empty()) {
                return Err(StorageError::Unsupported { what: "aggregates of these series".to_owned() });
            }
            let values = if samples.histograms.is_empty() {
                evaluator.evaluate(floats(&samples), &[], &counting)?
            } else {
                let raw = std::mem::take(&mut samples).into_raw(Labels::empty());
                evaluator.evaluate(raw.floats(), &raw.histograms, &counting)?
            };
            if let Some(values) = values {
                fold.add(selection.labels()?, values, |bytes| held.grow(bytes))?;
            }
        }
        context.meter.add(counting.meter.counts());
        let groups = fold.finish().map(move |(labels, values)| {
            let _held = &held;
            Ok(LeafSeries::Grid(GridSeries { labels, values }))
        });
        Ok(Box::new(groups))
    }
}

fn floats(samples: &Samples) -> Floats<'_> {
    let floats = &samples.floats;
    Floats { times_ms: &floats.times, values: &floats.values, starts_ms: &floats.starts }
}
