//! Function calls that yield instant vectors: which module computes which.

mod classic;
mod info;
mod labels;
mod maths;
mod quantiles;
mod sort;
mod times;

pub(super) use info::info_time;

use pharos_model::{Labels, StepRange};

use super::QueryError;
use super::eval::{Evaluator, from_list, go_max, go_min, mapped};
use super::over_time::labels_of_absent;
use super::plan::{Call, Node};
use super::series::{Cell, SeriesIter};
use crate::ast::ValueType;
use crate::functions::FunctionId as F;

impl Evaluator<'_> {
    pub(super) fn call<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        if call.args.iter().any(|arg| arg.value_type() == ValueType::Matrix) {
            return self.range_call(call, steps);
        }
        match call.function.id {
            F::Vector => {
                let cells = self.scalar(&call.args[0], steps)?.into_iter().map(Cell::Float).collect();
                Ok(from_list(vec![self.series(Labels::empty(), false, cells)?]))
            }
            F::Absent => self.absent(&call.args[0], steps),
            F::Timestamp | F::StartTimestamp => self.timestamp(call, steps),
            F::LabelReplace => self.label_replace(call, steps),
            F::LabelJoin => self.label_join(call, steps),
            F::Sort | F::SortDesc | F::SortByLabel | F::SortByLabelDesc => self.sort(call, steps),
            F::Clamp | F::ClampMin | F::ClampMax => self.clamp(call, steps),
            F::Round => self.round(call, steps),
            F::HistogramQuantile | F::HistogramQuantiles | F::HistogramFraction => self.quantiles(call, steps),
            F::HistogramAvg | F::HistogramCount | F::HistogramSum | F::HistogramStddev | F::HistogramStdvar => {
                self.histogram_parts(call, steps)
            }
            F::Info => self.info(call, steps),
            id => match (times::part(id), maths::function(id)) {
                (Some(part), _) => self.date_part(call, part, steps),
                (None, Some(function)) => self.floats(call, steps, function),
                (None, None) => {
                    Err(QueryError::unsupported(format!("function {}", call.function.name), "in the engine"))
                }
            },
        }
    }

    /// Maps the floats of the first argument; histograms vanish, names as well.
    fn floats<'a>(
        &'a self,
        call: &'a Call,
        steps: StepRange,
        function: impl Fn(f64) -> f64 + 'a,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let input = self.vector(&call.args[0], steps)?;
        let output = mapped(input, move |cell| cell.float().map(&function).into());
        self.renamed(&call.args[0], without_empty(output))
    }

    fn clamp<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let bound = |at: usize| self.scalar(&call.args[at], steps);
        let unbounded = |value: f64| vec![value; steps.len()];
        let (low, high) = match call.function.id {
            F::ClampMin => (bound(1)?, unbounded(f64::INFINITY)),
            F::ClampMax => (unbounded(f64::NEG_INFINITY), bound(1)?),
            _ => (bound(1)?, bound(2)?),
        };
        self.stepwise(call, steps, move |value, step| {
            let (low, high) = (low[step], high[step]);
            // A NaN bound is not "above": the result is NaN then.
            let is_inverted = low > high;
            (!is_inverted).then(|| go_max(low, go_min(high, value)))
        })
    }

    fn round<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let nearest = match call.args.get(1) {
            Some(arg) => self.scalar(arg, steps)?,
            None => vec![1.0; steps.len()],
        };
        // The inverse keeps more digits: 0.1 has no exact double, 10 has.
        self.stepwise(call, steps, move |value, step| {
            let inverse = 1.0 / nearest[step];
            Some((value * inverse + 0.5).floor() / inverse)
        })
    }

    /// Maps the floats of the first argument, knowing the step; histograms vanish, names as well.
    fn stepwise<'a>(
        &'a self,
        call: &'a Call,
        steps: StepRange,
        function: impl Fn(f64, usize) -> Option<f64> + 'a,
    ) -> Result<SeriesIter<'a>, QueryError> {
        let input = self.vector(&call.args[0], steps)?;
        let output = Box::new(input.map(move |series| {
            let mut series = series?;
            for (step, cell) in series.cells.iter_mut().enumerate() {
                *cell = cell.float().and_then(|value| function(value, step)).into();
            }
            Ok(series)
        }));
        self.renamed(&call.args[0], without_empty(output))
    }

    fn absent<'a>(&'a self, node: &'a Node, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let mut present = vec![false; steps.len()];
        for series in self.vector(node, steps)? {
            for (found, cell) in present.iter_mut().zip(&series?.cells) {
                *found |= !cell.is_empty();
            }
        }
        let labels = match unmarked(node) {
            Node::Selector(selector) => labels_of_absent(&selector.matchers),
            _ => Labels::empty(),
        };
        self.absent_series(labels, false, &present)
    }
}

/// The node without the mark "the same at every step".
fn unmarked(node: &Node) -> &Node {
    if let Node::Once(inner) = node { unmarked(inner) } else { node }
}

/// Leaves out series that have no sample at any step.
fn without_empty(input: SeriesIter<'_>) -> SeriesIter<'_> {
    Box::new(input.filter(|series| !matches!(series, Ok(series) if series.is_empty())))
}
