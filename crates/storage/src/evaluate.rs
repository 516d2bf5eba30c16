//! Grid plans over the samples of one series after another, for stores that evaluate by themselves.

use pharos_base::Reservation;
use pharos_grid::{Aggregation, Floats, Kernel, RangeFunction, SharedWindows};
use pharos_model::{HistogramSample, stale_nan};

use crate::{GridPlan, ReadContext, StorageError};

/// Evaluates a plan's function over series, in a store that has them as columns.
#[derive(Debug)]
pub struct GridEvaluator {
    kernel: Kernel,
    starts_raw: bool,
    /// Whether a histogram counts like a float.
    presence: bool,
    column: Vec<f64>,
    /// For what the kernel remembers.
    held: Option<Reservation>,
    times_ms: Vec<i64>,
    marks: Vec<f64>,
}

impl GridEvaluator {
    /// Of a grid plan, or of the grids of an aggregate plan.
    #[must_use]
    pub fn new(plan: &GridPlan, aggregation: Option<Aggregation>) -> Self {
        Self {
            kernel: Kernel::new(plan.function, plan.window_ms, plan.steps, plan.offset_ms),
            starts_raw: plan.starts_raw && plan.function.reads_starts(),
            presence: plan.function == RangeFunction::Last
                && matches!(aggregation, Some(Aggregation::Count | Aggregation::Group)),
            column: Vec::new(),
            held: None,
            times_ms: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Shares what it finds out about windows with the evaluators that other threads have for the same plan.
    #[must_use]
    pub fn sharing(self, windows: &SharedWindows) -> Self {
        Self { kernel: self.kernel.sharing(windows), ..self }
    }

    /// Whether a series must be answered with its samples.
    #[must_use]
    pub fn needs_raw(&self, floats: Floats<'_>, has_histograms: bool) -> bool {
        (has_histograms && !self.presence)
            || (self.starts_raw && floats.starts_ms.iter().any(|start_ms| *start_ms != 0))
    }

    /// The grid of a series that need not be answered raw; `None` if it has no value at any step. Counts it.
    ///
    /// # Errors
    /// When the read shall stop, or its memory is used up.
    pub fn evaluate(
        &mut self,
        floats: Floats<'_>,
        histograms: &[HistogramSample],
        context: &ReadContext,
    ) -> Result<Option<&[f64]>, StorageError> {
        let check = || context.check().map_err(StorageError::from);
        let floats = Floats { starts_ms: &[], ..floats };
        let evaluated = if histograms.is_empty() {
            self.kernel.evaluate(floats, &mut self.column, check)?
        } else {
            mark(floats, histograms, &mut self.times_ms, &mut self.marks);
            let marks = Floats { times_ms: &self.times_ms, values: &self.marks, starts_ms: &[] };
            self.kernel.evaluate(marks, &mut self.column, check)?
        };
        let bytes = self.kernel.bytes();
        match &mut self.held {
            Some(held) if bytes > held.bytes() => held.grow(bytes - held.bytes())?,
            Some(_) => {}
            None => self.held = Some(context.memory.reserve(bytes)?),
        }
        context.meter.count(floats.times_ms.len() + histograms.len(), evaluated.queryable);
        Ok((evaluated.present > 0).then_some(self.column.as_slice()))
    }
}

/// Both kinds of samples in one column: 1, or a stale marker.
fn mark(floats: Floats<'_>, histograms: &[HistogramSample], times_ms: &mut Vec<i64>, marks: &mut Vec<f64>) {
    times_ms.clear();
    marks.clear();
    let mut rest = histograms.iter().peekable();
    let mark = |is_stale: bool| if is_stale { stale_nan() } else { 1.0 };
    let mut push = |time_ms: i64, is_stale: bool| {
        times_ms.push(time_ms);
        marks.push(mark(is_stale));
    };
    for (time_ms, value) in floats.times_ms.iter().zip(floats.values) {
        while let Some(sample) = rest.next_if(|sample| sample.timestamp_ms < *time_ms) {
            push(sample.timestamp_ms, sample.histogram.is_stale());
        }
        push(*time_ms, pharos_model::is_stale_nan(*value));
    }
    for sample in rest {
        push(sample.timestamp_ms, sample.histogram.is_stale());
    }
}
