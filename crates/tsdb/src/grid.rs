//! Grid plans: functions of windows evaluated where the samples are decoded, one series after the other.

use pharos_grid::Floats;
use pharos_model::{Labels, TenantId};
use pharos_storage::{GridEvaluator, GridPlan, GridSeries, LeafSeries, LeafStream, ReadContext, StorageError};

use crate::instant::is_instant;
use crate::read::until_error;
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
        let mut selection = self.select_counted(tenant, std::slice::from_ref(&plan.matchers), range, None, context)?;
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
}

pub(crate) fn floats(samples: &Samples) -> Floats<'_> {
    let floats = &samples.floats;
    Floats { times_ms: &floats.times, values: &floats.values, starts_ms: &floats.starts }
}
