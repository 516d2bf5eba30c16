//! Functions of range vectors: one cell per step from the samples of a window.
//!
//! Each series is evaluated over all its steps at once. The functions that stores may compute are those of
//! [`pharos_grid::Kernel`], whoever runs it; the others look at each window afresh, which costs its length, and so
//! does everything about windows with histograms.

mod rate;
mod regression;
mod scan;

pub(super) use rate::{is_histogram_reset, is_start_reset};

use std::cell::RefCell;

use hashbrown::HashSet;
use pharos_grid::{Floats, Kernel, present};
use pharos_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, StepRange};

use super::QueryError;
use super::annotations::Note;
use super::eval::{Evaluator, from_list};
use super::leaf::{self, Leaf, LeafItem, range_function};
use super::plan::{Call, Node, Range, RangeSource};
use super::select::{Samples, of_raw};
use super::series::{Cell, Series, SeriesIter};
use super::window::{Slider, Window};
use crate::ast::ValueType;
use crate::functions::FunctionId;
use crate::position::Span;

/// Long windows over many steps make even one series costly: cancellation is asked each time this many samples were
/// looked at, some milliseconds.
const CHECK_SAMPLES: usize = 1 << 20;

/// What is the same for all windows of a call.
pub(super) struct Context<'a> {
    pub(super) evaluator: &'a Evaluator<'a>,
    pub(super) function: FunctionId,
    pub(super) range: &'a Range,
    /// Scalar arguments, one column each.
    pub(super) params: Vec<Vec<f64>>,
    pub(super) param_spans: Vec<Span>,
    /// For functions that have one.
    kernel: RefCell<Option<Kernel>>,
    /// What the kernel found for a series.
    grid: RefCell<Vec<f64>>,
}

impl Context<'_> {
    pub(super) fn note(&self, note: &Note<'_>) {
        self.evaluator.note(self.range.span, note);
    }

    fn count_looked_at(&self, queryable: u64, samples: &Samples, steps: StepRange) {
        self.evaluator.count_windows(self.range, queryable, samples, steps);
    }
}

impl Evaluator<'_> {
    /// A function with a range argument.
    pub(super) fn range_call<'a>(&'a self, call: &'a Call, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let Some(node) = call.args.iter().find(|arg| arg.value_type() == ValueType::Matrix) else {
            return Err(QueryError::execution(format!("function {} needs a range vector", call.function.name)));
        };
        let Node::Range(range) = node else { return Err(super::eval::mistyped(node, ValueType::Matrix)) };
        if call.function.id == FunctionId::AbsentOverTime {
            return self.absent_over_time(range, steps);
        }
        let mut params = Vec::new();
        let mut param_spans = Vec::new();
        for (arg, span) in call.args.iter().zip(&call.arg_spans) {
            if arg.value_type() == ValueType::Scalar {
                params.push(self.scalar(arg, steps)?);
                param_spans.push(*span);
            }
        }
        let function = range_function(call.function.id).filter(|_| range.edge.is_none());
        let kernel = function
            .map(|function| Kernel::new(function, range.length_ms, range.time.grid_steps(steps), range.time.offset_ms));
        let context = Context {
            evaluator: self,
            function: call.function.id,
            range,
            params,
            param_spans,
            kernel: RefCell::new(kernel),
            grid: RefCell::default(),
        };
        let output: SeriesIter<'a> = if let Some(leaf) = function.and_then(|function| Leaf::of_range(function, range)) {
            Box::new(self.leaf(leaf, steps)?.filter_map(move |item| {
                let series = item.and_then(|item| self.leaf_series(&context, item, steps));
                series.transpose()
            }))
        } else {
            let input = self.samples(range, steps)?;
            Box::new(input.filter_map(move |samples| {
                let series = samples.and_then(|samples| self.range_series(&context, &samples, steps));
                series.transpose()
            }))
        };
        if matches!(call.function.id, FunctionId::LastOverTime | FunctionId::FirstOverTime) {
            return Ok(output);
        }
        self.renamed(node, output)
    }

    fn leaf_series(
        &self,
        context: &Context<'_>,
        item: LeafItem,
        steps: StepRange,
    ) -> Result<Option<Series>, QueryError> {
        match item {
            LeafItem::Raw(raw, lease) => {
                let samples = of_raw(raw, lease, self.settings.use_start_timestamps);
                self.range_series(context, &samples, steps)
            }
            LeafItem::Grid(series) => {
                if matches!(context.function, FunctionId::Rate | FunctionId::Increase) {
                    self.note_if_no_counter_series(context.range, &series.labels);
                }
                self.series(series.labels, false, leaf::cells(&series.values, steps)).map(Some)
            }
        }
    }

    fn range_series(
        &self,
        context: &Context<'_>,
        samples: &Samples,
        steps: StepRange,
    ) -> Result<Option<Series>, QueryError> {
        self.context.check()?;
        let cells = cells(context, samples, steps)?;
        if cells.iter().all(Cell::is_empty) {
            return Ok(None);
        }
        if matches!(context.function, FunctionId::Rate | FunctionId::Increase)
            && cells.iter().any(|cell| matches!(cell, Cell::Float(_)))
        {
            self.note_if_no_counter_series(context.range, &samples.labels);
        }
        let labels = samples.labels.clone();
        self.series(labels, samples.drop_name, cells).map(Some)
    }

    fn note_if_no_counter_series(&self, range: &Range, labels: &Labels) {
        let metric = labels.metric_name();
        if !self.settings.type_and_unit_labels {
            return self.note_if_no_counter(range.span, metric);
        }
        let found = labels.get("__type__").unwrap_or("");
        if !metric.is_empty() && !matches!(found, "counter" | "histogram") {
            self.note(range.span, &Note::PossiblyNoCounterType { metric, found });
        }
    }

    /// Judges by the name of the metric.
    pub(super) fn note_if_no_counter(&self, span: Span, metric: &str) {
        if !metric.is_empty() && !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix))
        {
            self.note(span, &Note::PossiblyNoCounter { metric });
        }
    }

    fn absent_over_time<'a>(&'a self, range: &'a Range, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let mut present = vec![false; steps.len()];
        for samples in self.samples(range, steps)? {
            let samples = samples?;
            let mut slider = Slider::new(&samples, range.time, range.length_ms);
            let mut queryable = 0;
            for (found, step) in present.iter_mut().zip(steps.iter()) {
                let window = slider.window(step);
                queryable += window.values.len() + window.histograms.len();
                *found |= !window.is_empty();
            }
            self.count_windows(range, queryable as u64, &samples, steps);
        }
        let labels = match &range.source {
            RangeSource::Samples(matchers) => labels_of_absent(matchers),
            RangeSource::Subquery { .. } => Labels::empty(),
        };
        // There is no name, but type and unit go with it.
        self.absent_series(labels, self.settings.delayed_name_removal, &present)
    }

    /// 1 at each step where nothing was present.
    pub(super) fn absent_series<'a>(
        &'a self,
        labels: Labels,
        drop_name: bool,
        present: &[bool],
    ) -> Result<SeriesIter<'a>, QueryError> {
        if present.iter().all(|found| *found) {
            return Ok(Box::new(std::iter::empty()));
        }
        let cells = present.iter().map(|found| if *found { Cell::Empty } else { Cell::Float(1.0) }).collect();
        Ok(from_list(vec![self.series(labels, drop_name, cells)?]))
    }
}

/// The labels that a selector pins down: those of equality matchers. A matcher that comes after one of equality, or of
/// another kind, takes the label away.
pub(super) fn labels_of_absent(matchers: &[Matcher]) -> Labels {
    let mut seen = HashSet::new();
    let mut builder = LabelsBuilder::default();
    for matcher in matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && seen.insert(matcher.name()) {
            builder.set(matcher.name(), matcher.value());
        } else {
            builder.remove(matcher.name());
        }
    }
    super::series::build(builder)
}

/// Evaluates the function over all steps of one series.
fn cells(context: &Context<'_>, samples: &Samples, steps: StepRange) -> Result<Vec<Cell>, QueryError> {
    let range = context.range;
    if range.edge.is_some() {
        return super::edges::cells(context, samples, steps);
    }
    let mut grid = context.grid.borrow_mut();
    let has_grid = if let Some(kernel) = context.kernel.borrow_mut().as_mut() {
        let evaluated = kernel.evaluate(floats(samples), &mut grid, || context.evaluator.context.check())?;
        if matches!(context.function, FunctionId::Rate | FunctionId::Increase) {
            note_overlaps(context, samples, steps);
        }
        if samples.histograms.is_empty() {
            context.count_looked_at(evaluated.queryable, samples, steps);
            return Ok(leaf::cells(&grid, steps));
        }
        true
    } else {
        false
    };
    let mut slider = Slider::new(samples, range.time, range.length_ms);
    let (mut queryable, mut check_at) = (0, CHECK_SAMPLES);
    let mut cells = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let window = slider.window(step);
        queryable += window.values.len() + window.histograms.len();
        if queryable >= check_at {
            context.evaluator.context.check()?;
            check_at = queryable + CHECK_SAMPLES;
        }
        cells.push(if window.is_empty() {
            Cell::Empty
        } else if has_grid && window.histograms.is_empty() {
            present(grid[index.min(grid.len() - 1)]).into()
        } else {
            cell(context, &window, index)?
        });
    }
    context.count_looked_at(queryable as u64, samples, steps);
    Ok(cells)
}

fn floats(samples: &Samples) -> Floats<'_> {
    Floats { times_ms: &samples.times_ms, values: &samples.values, starts_ms: &samples.starts_ms }
}

/// Warns where a float of some window claims to have started before the previous one was taken.
fn note_overlaps(context: &Context<'_>, samples: &Samples, steps: StepRange) {
    if samples.starts_ms.is_empty() {
        return;
    }
    let mut slider = Slider::new(samples, context.range.time, context.range.length_ms);
    for step in steps.iter() {
        let window = slider.window(step);
        if window.histograms.is_empty() {
            rate::note_overlap(context, &window);
        }
    }
}

/// Changes or resets in the window.
pub(super) fn counts_over(function: FunctionId, window: &Window<'_>) -> Cell {
    if function == FunctionId::Changes { rate::changes(window) } else { rate::resets(window) }
}

/// The function of one window that is not empty.
fn cell(context: &Context<'_>, window: &Window<'_>, index: usize) -> Result<Cell, QueryError> {
    use FunctionId as F;
    Ok(match context.function {
        F::Rate => rate::extrapolated(context, window, true, true),
        F::Increase => rate::extrapolated(context, window, true, false),
        F::Delta => rate::extrapolated(context, window, false, false),
        F::Irate => rate::instant(context, window, true),
        F::Idelta => rate::instant(context, window, false),
        F::Changes | F::Resets => counts_over(context.function, window),
        F::Deriv => regression::deriv(context, window),
        F::PredictLinear => regression::predict(context, window, context.params[0][index]),
        F::DoubleExponentialSmoothing => {
            regression::smoothed(context, window, context.params[0][index], context.params[1][index])?
        }
        _ => scan::cell(context, window, index)?,
    })
}
