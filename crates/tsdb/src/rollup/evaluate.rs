//! Functions of windows over points that stand for many samples.

use pharos_grid::{ABSENT, Floats, RangeFunction, Thinned, ThinnedKernel, is_absent};
use pharos_storage::{GridEvaluator, GridPlan, ReadContext, ReadMeter, StorageError};

use super::cells::{EXACT_MAX, is_summable};
use super::thin::{Points, Want};

/// Evaluates a plan over series after series.
pub(super) struct PointsEvaluator {
    want: Want,
    windows: GridPlan,
    /// Of one value that stands for all of a cell.
    picks: GridEvaluator,
    /// Sums of counts and of values.
    sums: GridEvaluator,
    counters: Option<ThinnedKernel>,
    places: Vec<u64>,
    counts: Vec<f64>,
    column: Vec<f64>,
}

impl PointsEvaluator {
    pub(super) fn new(plan: &GridPlan, want: Want) -> Self {
        let sums = GridPlan { function: RangeFunction::SumOverTime, ..plan.clone() };
        Self {
            want,
            windows: GridPlan { matchers: Vec::new(), ..plan.clone() },
            picks: GridEvaluator::new(plan, None),
            sums: GridEvaluator::new(&sums, None),
            counters: ThinnedKernel::new(plan.function, plan.window_ms, plan.steps, plan.offset_ms),
            places: Vec::new(),
            counts: Vec::new(),
            column: Vec::new(),
        }
    }

    /// Evaluates one series: [`PointsEvaluator::values`] has the grid then. Answers how many samples its windows touch, as
    /// a walk over these would count them; `None` if the grid would not be exact.
    ///
    /// # Errors
    /// When the read shall stop, or its memory is used up.
    pub(super) fn evaluate(&mut self, points: &Points, context: &ReadContext) -> Result<Option<u64>, StorageError> {
        self.column.clear();
        // Points are no samples: who reads counts them.
        let context = &ReadContext { meter: ReadMeter::default(), ..context.clone() };
        let floats = Floats { times_ms: &points.times, values: &points.values, starts_ms: &[] };
        match self.want {
            Want::Newest | Want::Last | Want::Min | Want::Max => {
                self.column.extend_from_slice(self.picks.evaluate(floats, &[], context)?.unwrap_or_default());
            }
            Want::Counter => {
                let Some(kernel) = &self.counters else { return Ok(None) };
                self.places.clear();
                self.places.extend(points.weights.iter().scan(0_u64, |place, weight| {
                    *place = place.wrapping_add(*weight);
                    Some(*place)
                }));
                let thinned = Thinned { times_ms: &points.times, values: &points.values, places: &self.places };
                if kernel.evaluate(thinned, &mut self.column) == 0 {
                    self.column.clear();
                }
            }
            Want::Count => self.count(points, context)?,
            Want::Sum | Want::Mean => {
                if !one_sign(&points.values) {
                    return Ok(None);
                }
                self.column.extend_from_slice(self.sums.evaluate(floats, &[], context)?.unwrap_or_default());
                // Of one sign: what reaches the limit has done so on the way, and what does not never did.
                if self.column.iter().any(|sum| !is_absent(*sum) && sum.abs() >= EXACT_MAX) {
                    return Ok(None);
                }
                if self.want == Want::Mean {
                    let sums = std::mem::take(&mut self.column);
                    self.count(points, context)?;
                    for (count, sum) in self.column.iter_mut().zip(&sums) {
                        *count = if is_absent(*sum) { ABSENT } else { sum / *count };
                    }
                }
            }
        }
        Ok(Some(match self.want {
            Want::Newest => self.column.iter().filter(|value| !is_absent(**value)).count() as u64,
            _ => self.samples_in_windows(points),
        }))
    }

    fn samples_in_windows(&self, points: &Points) -> u64 {
        let (mut low, mut high, mut inside, mut total) = (0, 0, 0_u64, 0_u64);
        for step_ms in self.windows.steps.iter() {
            let end_ms = step_ms.saturating_sub(self.windows.offset_ms);
            let after_ms = end_ms.saturating_sub(self.windows.window_ms);
            while points.times.get(high).is_some_and(|at_ms| *at_ms <= end_ms) {
                inside += points.weights[high];
                high += 1;
            }
            while low < high && points.times[low] <= after_ms {
                inside -= points.weights[low];
                low += 1;
            }
            total += inside;
        }
        total
    }

    /// The grid of the series evaluated last; `None` if it has no value at any step.
    pub(super) fn values(&self) -> Option<&[f64]> {
        (!self.column.is_empty()).then_some(self.column.as_slice())
    }

    fn count(&mut self, points: &Points, context: &ReadContext) -> Result<(), StorageError> {
        self.counts.clear();
        self.counts.extend(points.weights.iter().map(|weight| *weight as f64));
        let floats = Floats { times_ms: &points.times, values: &self.counts, starts_ms: &[] };
        self.column.clear();
        self.column.extend_from_slice(self.sums.evaluate(floats, &[], context)?.unwrap_or_default());
        Ok(())
    }
}

/// Whether sums of these are exact while they are small.
fn one_sign(values: &[f64]) -> bool {
    values.iter().all(|value| is_summable(*value))
        && (values.iter().all(|value| *value >= 0.0) || values.iter().all(|value| *value <= 0.0))
}
