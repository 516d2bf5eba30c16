//! Evaluation: from a planned node to a stream of series, or to one number per step.

use std::cell::RefCell;

use pharos_model::{Labels, StepRange, TenantId};
use pharos_storage::{MetricStore, ReadContext};

use super::annotations::{Note, Notebook};
use super::branch::{Leaves, Threads};
use super::counts::{Scope, StepBooks};
use super::ledger::Ledger;
use super::plan::{Call, Node};
use super::series::{Cell, Merger, Series, SeriesIter, without_metadata};
use super::shared::SharedParts;
use super::{Engine, EngineSettings, QueryError};
use crate::ast::ValueType;
use crate::functions::FunctionId;
use crate::position::Span;

/// Everything one running query needs.
pub(super) struct Evaluator<'q> {
    pub(super) engine: &'q Engine,
    pub(super) store: &'q dyn MetricStore,
    pub(super) tenant: &'q TenantId,
    pub(super) settings: &'q EngineSettings,
    /// The text, for positions in annotations.
    pub(super) query: &'q str,
    /// The steps of the whole query; subqueries are evaluated over others, and so is a query of whose steps some are
    /// known already.
    pub(super) steps: StepRange,
    pub(super) lookback_ms: i64,
    pub(super) context: ReadContext,
    pub(super) ledger: Ledger,
    pub(super) notes: RefCell<Notebook>,
    /// Set once reset hints were derived from the samples before those that were asked for: where a read begins then
    /// shows in what it answers.
    pub(super) derived_hints: std::cell::Cell<bool>,
    /// Where the caller wants samples counted step by step: then the store is asked for samples only.
    pub(super) step_counts: Option<RefCell<StepBooks>>,
    /// Bounds of reads that serve all steps at once, with a meter of their own.
    pub(super) context_of_once: ReadContext,
    /// Bounds of reads within subqueries, with a meter of their own as well.
    pub(super) context_of_inner: ReadContext,
    pub(super) shared: RefCell<SharedParts>,
    pub(super) leaves: Leaves<'q>,
    pub(super) threads: Threads<'q>,
}

impl Evaluator<'_> {
    pub(super) fn note(&self, span: Span, note: &Note<'_>) {
        self.notes.borrow_mut().add(self.query, span, note);
    }

    /// The bounds of a read.
    pub(super) fn context_of(&self, scope: Scope) -> &ReadContext {
        match scope {
            Scope::Each | Scope::Last => &self.context,
            Scope::Every => &self.context_of_once,
            Scope::Within(_) => &self.context_of_inner,
        }
    }

    /// Evaluates an instant vector at all `steps`.
    pub(super) fn vector<'a>(&'a self, node: &'a Node, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        if let Some(series) = self.in_branches(node, steps)? {
            return Ok(series);
        }
        match node {
            Node::Selector(selector) => self.select(selector, steps),
            Node::Once(inner) => self.repeated(inner, steps),
            Node::Shared { number, node } => self.shared(*number, node, steps),
            Node::Negate(inner) => {
                let input = self.vector(inner, steps)?;
                self.renamed(
                    inner,
                    mapped(input, |cell| match cell {
                        Cell::Float(value) => Cell::Float(-value),
                        Cell::Histogram(histogram) => Cell::histogram(super::histogram::scaled(&histogram, -1.0)),
                        Cell::Empty => Cell::Empty,
                    }),
                )
            }
            Node::Call(call) => self.call(call, steps),
            Node::Aggregate(aggregate) => self.aggregate(aggregate, steps),
            Node::Binary(binary) => self.binary(binary, steps),
            Node::Number(_) | Node::Text(_) | Node::Range(_) => Err(mistyped(node, ValueType::Vector)),
        }
    }

    /// Evaluates a scalar at all `steps`.
    pub(super) fn scalar(&self, node: &Node, steps: StepRange) -> Result<Vec<f64>, QueryError> {
        self.context.check()?;
        match node {
            Node::Number(value) => Ok(vec![*value; steps.len()]),
            Node::Once(inner) => {
                let value = self.scalar(inner, StepRange::instant(steps.start_ms))?;
                Ok(vec![value.first().copied().unwrap_or(f64::NAN); steps.len()])
            }
            Node::Negate(inner) => Ok(self.scalar(inner, steps)?.into_iter().map(|value| -value).collect()),
            Node::Binary(binary) => self.scalar_binary(binary, steps),
            Node::Call(call) => self.scalar_call(call, steps),
            _ => Err(mistyped(node, ValueType::Scalar)),
        }
    }

    fn scalar_call(&self, call: &Call, steps: StepRange) -> Result<Vec<f64>, QueryError> {
        let constant = |value: f64| Ok(vec![value; steps.len()]);
        let whole = self.steps;
        let is_instant = whole.start_ms == whole.end_ms;
        match call.function.id {
            FunctionId::Time => Ok(steps.iter().map(seconds).collect()),
            FunctionId::Pi => constant(std::f64::consts::PI),
            FunctionId::Start => constant(seconds(whole.start_ms)),
            FunctionId::End => constant(seconds(whole.end_ms)),
            FunctionId::Range => constant(seconds(whole.end_ms.saturating_sub(whole.start_ms))),
            FunctionId::Step => constant(if is_instant { 0.0 } else { seconds(whole.step_ms) }),
            FunctionId::MinOf | FunctionId::MaxOf => {
                let pick = if call.function.id == FunctionId::MinOf { go_min } else { go_max };
                let (lhs, rhs) = (self.scalar(&call.args[0], steps)?, self.scalar(&call.args[1], steps)?);
                Ok(lhs.into_iter().zip(rhs).map(|(a, b)| pick(a, b)).collect())
            }
            FunctionId::Scalar => self.scalar_of_vector(&call.args[0], steps),
            _ => Err(QueryError::unsupported(format!("function {}", call.function.name), "as a scalar")),
        }
    }

    /// The float of the only series that has one; NaN where there are none or several.
    fn scalar_of_vector(&self, node: &Node, steps: StepRange) -> Result<Vec<f64>, QueryError> {
        let mut values = vec![f64::NAN; steps.len()];
        let mut found = vec![0_u8; steps.len()];
        for series in self.vector(node, steps)? {
            for (at, cell) in series?.cells.iter().enumerate() {
                if let Some(value) = cell.float() {
                    found[at] = found[at].saturating_add(1);
                    values[at] = if found[at] == 1 { value } else { f64::NAN };
                }
            }
        }
        Ok(values)
    }

    fn repeated<'a>(&'a self, inner: &'a Node, steps: StepRange) -> Result<SeriesIter<'a>, QueryError> {
        let count = steps.len();
        if count == 1 {
            return self.vector(inner, steps);
        }
        let input = self.vector(inner, StepRange::instant(steps.start_ms))?;
        Ok(Box::new(input.map(move |series| {
            let series = series?;
            let cells = vec![series.cells.first().cloned().unwrap_or_default(); count];
            Series::new(series.labels.clone(), series.drop_name, cells, &self.ledger)
        })))
    }

    /// Removes the metric names: at once, or with delayed removal by a flag for the end of the query.
    ///
    /// Series that become alike are joined where they share no step; `source` tells whether that can happen.
    pub(super) fn renamed<'a>(&'a self, source: &Node, input: SeriesIter<'a>) -> Result<SeriesIter<'a>, QueryError> {
        let delayed = self.settings.delayed_name_removal;
        let dropped = input.map(move |series| {
            let mut series = series?;
            if delayed {
                series.drop_name = true;
            } else {
                series.labels = without_metadata(&series.labels);
            }
            Ok(series)
        });
        if delayed || source.has_one_name() { Ok(Box::new(dropped)) } else { self.merged(Box::new(dropped)) }
    }

    /// Joins series of equal labels; an error if two have a sample at one step.
    pub(super) fn merged<'a>(&'a self, input: SeriesIter<'a>) -> Result<SeriesIter<'a>, QueryError> {
        if self.leaves.are_pieces() {
            // Together with those of the other pieces.
            return Ok(input);
        }
        let mut merger = Merger::default();
        for series in input {
            self.context.check()?;
            merger.push(series?)?;
        }
        Ok(from_list(merger.into_series(&self.context)?))
    }

    /// All series at once.
    pub(super) fn collected(&self, node: &Node, steps: StepRange) -> Result<Vec<Series>, QueryError> {
        self.vector(node, steps)?.collect()
    }

    pub(super) fn series(&self, labels: Labels, drop_name: bool, cells: Vec<Cell>) -> Result<Series, QueryError> {
        Series::new(labels, drop_name, cells, &self.ledger)
    }
}

/// The text of a string argument.
pub(super) fn text(node: &Node) -> Result<&str, QueryError> {
    match node {
        Node::Text(text) => Ok(text),
        Node::Once(inner) => text(inner),
        _ => Err(mistyped(node, ValueType::String)),
    }
}

/// Applies `map` to every cell.
pub(super) fn mapped<'a>(input: SeriesIter<'a>, map: impl Fn(Cell) -> Cell + 'a) -> SeriesIter<'a> {
    Box::new(input.map(move |series| {
        let mut series = series?;
        for cell in &mut series.cells {
            *cell = map(std::mem::take(cell));
        }
        Ok(series)
    }))
}

pub(super) fn from_list<'a>(list: Vec<Series>) -> SeriesIter<'a> {
    Box::new(list.into_iter().map(Ok))
}

pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Go's `math.Min`: NaN if either is, and −0 is less than 0.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a.total_cmp(&b).is_lt() {
        a
    } else {
        b
    }
}

/// Go's `math.Max`.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    -go_min(-a, -b)
}

/// The checker lets no such tree through.
pub(super) fn mistyped(node: &Node, wanted: ValueType) -> QueryError {
    QueryError::execution(format!("expected {wanted} but found {}", node.value_type()))
}
