//! The plan: the syntax tree with everything resolved that does not depend on data.
//!
//! Durations become milliseconds, `@` an instant, parentheses vanish, and whatever yields the same value at every
//! step is marked to be evaluated once. Each selector is a [`Selector`] of its own, where a later planner can
//! decide to push work down into the store ([`pharos_storage::LeafPlan`]).

use pharos_model::{Matcher, StepRange};

use super::{EngineSettings, QueryError};
use crate::ast::{self, AtModifier, EdgeMode, Expr, ValueType};
use crate::duration::{DurationContext, DurationError};
use crate::functions::{Function, FunctionId};
use crate::position::{LineColumn, Span};

/// A planned expression.
#[derive(Debug)]
pub(super) enum Node {
    Number(f64),
    Text(String),
    Selector(Selector),
    Range(Range),
    Call(Call),
    Aggregate(Aggregate),
    Binary(Binary),
    Negate(Box<Node>),
    /// The same at every step: evaluate at one, repeat.
    Once(Box<Node>),
}

/// Which instant an evaluation at step `t` looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeShift {
    /// `@`, Unix milliseconds.
    pub(super) at_ms: Option<i64>,
    /// `offset`, positive into the past.
    pub(super) offset_ms: i64,
}

impl TimeShift {
    pub(super) fn apply(self, step_ms: i64) -> i64 {
        self.at_ms.unwrap_or(step_ms).saturating_sub(self.offset_ms)
    }
}

/// What is done about unknown reset hints of native histograms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Hints {
    /// Nothing: no operator above asks.
    #[default]
    AsStored,
    /// "No reset" is filled in.
    Derived,
    /// "Reset" as well: only count and sum are asked for, where upstream decodes with detection.
    Detected,
}

#[derive(Debug)]
pub(super) struct Selector {
    pub(super) hints: Hints,
    pub(super) matchers: Vec<Matcher>,
    pub(super) time: TimeShift,
    pub(super) edge: Option<EdgeMode>,
    pub(super) span: Span,
}

/// A range vector: windows `(t − range, t]` of samples.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) source: RangeSource,
    pub(super) length_ms: i64,
    pub(super) hints: Hints,
    /// Of the selector or of the subquery.
    pub(super) time: TimeShift,
    pub(super) edge: Option<EdgeMode>,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) enum RangeSource {
    Samples(Vec<Matcher>),
    Subquery { node: Box<Node>, step_ms: i64 },
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: &'static Function,
    pub(super) args: Vec<Node>,
    /// Where each argument stands.
    pub(super) arg_spans: Vec<Span>,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) op: ast::AggregateOp,
    pub(super) input: Box<Node>,
    pub(super) param: Option<Box<Node>>,
    pub(super) param_span: Span,
    pub(super) without: bool,
    /// Sorted, each once.
    pub(super) labels: Vec<String>,
    pub(super) input_span: Span,
}

#[derive(Debug)]
pub(super) struct Binary {
    pub(super) op: ast::BinaryOp,
    pub(super) lhs: Box<Node>,
    pub(super) rhs: Box<Node>,
    pub(super) matching: Option<ast::VectorMatching>,
    pub(super) return_bool: bool,
    pub(super) span: Span,
}

impl Node {
    pub(super) fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::Text(_) => ValueType::String,
            Self::Selector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Range(_) => ValueType::Matrix,
            Self::Call(call) => call.function.return_type,
            Self::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Self::Negate(node) | Self::Once(node) => node.value_type(),
        }
    }

    /// Whether the order of the answer's series was asked for somewhere in the expression.
    pub(super) fn is_ordered(&self) -> bool {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Selector(_) | Self::Range(_) => false,
            Self::Call(call) => is_sort(call.function.id) || call.args.iter().any(Self::is_ordered),
            Self::Aggregate(aggregate) => {
                matches!(aggregate.op, ast::AggregateOp::Topk | ast::AggregateOp::Bottomk)
                    || aggregate.input.is_ordered()
            }
            Self::Binary(binary) => binary.lhs.is_ordered() || binary.rhs.is_ordered(),
            Self::Negate(node) | Self::Once(node) => node.is_ordered(),
        }
    }

    /// Whether all series of the answer have the same name, so that removing it cannot make two alike.
    pub(super) fn has_one_name(&self) -> bool {
        match self {
            Self::Selector(selector) => matchers_fix_name(&selector.matchers),
            Self::Range(range) => match &range.source {
                RangeSource::Samples(matchers) => matchers_fix_name(matchers),
                RangeSource::Subquery { node, .. } => node.has_one_name(),
            },
            Self::Call(call) => match call.function.id {
                FunctionId::LabelReplace | FunctionId::LabelJoin | FunctionId::Info => false,
                _ => call.args.iter().filter(|arg| arg.value_type() != ValueType::Scalar).all(Self::has_one_name),
            },
            Self::Aggregate(aggregate) => {
                aggregate.without || !aggregate.labels.iter().any(|label| label == pharos_model::METRIC_NAME)
            }
            Self::Binary(binary) => {
                let scalar = |node: &Self| node.value_type() == ValueType::Scalar;
                (scalar(&binary.lhs) && binary.rhs.has_one_name()) || (scalar(&binary.rhs) && binary.lhs.has_one_name())
            }
            Self::Negate(node) | Self::Once(node) => node.has_one_name(),
            Self::Number(_) | Self::Text(_) => true,
        }
    }
}

fn matchers_fix_name(matchers: &[Matcher]) -> bool {
    matchers
        .iter()
        .any(|matcher| matcher.name() == pharos_model::METRIC_NAME && matcher.op() == pharos_model::MatchOp::Equal)
}

fn is_sort(id: FunctionId) -> bool {
    matches!(id, FunctionId::Sort | FunctionId::SortDesc | FunctionId::SortByLabel | FunctionId::SortByLabelDesc)
}

/// Plans `expr` for the steps of a query; an instant query has one step.
pub(super) fn plan(query: &str, expr: &Expr, steps: StepRange, settings: &EngineSettings) -> Result<Node, QueryError> {
    let is_instant = steps.start_ms == steps.end_ms;
    let durations = DurationContext {
        step_ms: if is_instant { 0 } else { steps.step_ms },
        range_ms: steps.end_ms - steps.start_ms,
    };
    let planner = Planner { query, durations, steps, settings };
    let mut node = planner.node(expr).map(once)?;
    set_hints(&mut node, false, false);
    Ok(node)
}

/// Tells selectors what the operators above want to know of reset hints: `joined` if histograms are added up,
/// `counted` if of the result only count and sum are asked.
fn set_hints(node: &mut Node, joined: bool, counted: bool) {
    use FunctionId as F;
    let hints = match (joined, counted) {
        (false, _) => Hints::AsStored,
        (true, false) => Hints::Derived,
        (true, true) => Hints::Detected,
    };
    match node {
        Node::Number(_) | Node::Text(_) => {}
        Node::Selector(selector) => selector.hints = hints,
        Node::Range(range) => {
            range.hints = hints;
            if let RangeSource::Subquery { node, .. } = &mut range.source {
                set_hints(node, joined, false);
            }
        }
        Node::Call(call) => {
            let (joined, counted) = match call.function.id {
                // These answer floats or gauges: what is joined above carries no hint.
                F::HistogramCount | F::HistogramSum | F::HistogramAvg => (false, true),
                F::HistogramQuantile | F::HistogramQuantiles | F::HistogramFraction => (false, false),
                F::Rate | F::Increase | F::Delta | F::Irate | F::Idelta => (false, counted),
                F::SumOverTime | F::AvgOverTime => (true, counted),
                _ => (joined, counted),
            };
            call.args.iter_mut().for_each(|arg| set_hints(arg, joined, counted));
        }
        Node::Aggregate(aggregate) => {
            let joined = joined || matches!(aggregate.op, ast::AggregateOp::Sum | ast::AggregateOp::Avg);
            set_hints(&mut aggregate.input, joined, counted);
            if let Some(param) = &mut aggregate.param {
                set_hints(param, false, false);
            }
        }
        Node::Binary(binary) => {
            let joined = joined || matches!(binary.op, ast::BinaryOp::Add | ast::BinaryOp::Sub);
            set_hints(&mut binary.lhs, joined, counted);
            set_hints(&mut binary.rhs, joined, counted);
        }
        Node::Negate(inner) | Node::Once(inner) => set_hints(inner, joined, counted),
    }
}

/// A node and whether it is the same at every step.
type Planned = (Node, bool);

struct Planner<'a> {
    query: &'a str,
    durations: DurationContext,
    steps: StepRange,
    settings: &'a EngineSettings,
}

impl Planner<'_> {
    fn node(&self, expr: &Expr) -> Result<Planned, QueryError> {
        Ok(match expr {
            Expr::Number(number) => (Node::Number(number.value), true),
            Expr::String(text) => (Node::Text(text.value.clone()), true),
            Expr::Paren(paren) => self.node(&paren.expr)?,
            Expr::VectorSelector(selector) => {
                let time = self.time(selector.at, selector.offset.as_ref())?;
                let node = Selector {
                    matchers: selector.matchers.clone(),
                    time,
                    edge: selector.edge,
                    hints: Hints::default(),
                    span: selector.span,
                };
                (Node::Selector(node), time.at_ms.is_some())
            }
            Expr::MatrixSelector(matrix) => {
                let selector = &matrix.selector;
                let time = self.time(selector.at, selector.offset.as_ref())?;
                let length_ms = self.resolved(matrix.range.resolve_positive_ms(self.durations))?;
                let source = RangeSource::Samples(selector.matchers.clone());
                let hints = Hints::default();
                let range = Range { source, length_ms, hints, time, edge: selector.edge, span: matrix.span };
                (Node::Range(range), time.at_ms.is_some())
            }
            Expr::Subquery(subquery) => self.subquery(subquery)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Expr::Binary(binary) => self.binary(binary)?,
            Expr::Unary(unary) => {
                let (node, same) = self.node(&unary.expr)?;
                match (unary.op, node) {
                    (ast::UnaryOp::Plus, node) => (node, same),
                    (ast::UnaryOp::Minus, Node::Number(value)) => (Node::Number(-value), true),
                    (ast::UnaryOp::Minus, node) => (Node::Negate(Box::new(node)), same),
                }
            }
        })
    }

    fn time(&self, at: Option<AtModifier>, offset: Option<&ast::DurationExpr>) -> Result<TimeShift, QueryError> {
        let at_ms = at.map(|at| match at {
            AtModifier::TimestampMs(at_ms) => at_ms,
            AtModifier::Start => self.steps.start_ms,
            AtModifier::End => self.steps.end_ms,
        });
        let offset_ms = offset.map_or(Ok(0), |offset| self.resolved(offset.resolve_ms(self.durations)))?;
        Ok(TimeShift { at_ms, offset_ms })
    }

    fn resolved(&self, duration: Result<i64, DurationError>) -> Result<i64, QueryError> {
        duration.map_err(|source| {
            let place = LineColumn::of(self.query, source.span().start);
            QueryError::Duration { place, source }
        })
    }

    fn subquery(&self, subquery: &ast::Subquery) -> Result<Planned, QueryError> {
        let time = self.time(subquery.at, subquery.offset.as_ref())?;
        let length_ms = self.resolved(subquery.range.resolve_positive_ms(self.durations))?;
        let step_ms = match &subquery.step {
            Some(step) => self.resolved(step.resolve_positive_ms(self.durations))?,
            None => self.settings.default_subquery_step_ms.max(1),
        };
        let node = Box::new(once(self.node(&subquery.expr)?));
        let source = RangeSource::Subquery { node, step_ms };
        let range = Range { source, length_ms, hints: Hints::default(), time, edge: None, span: subquery.span };
        Ok((Node::Range(range), time.at_ms.is_some()))
    }

    fn call(&self, call: &ast::Call) -> Result<Planned, QueryError> {
        let args = call.args.iter().map(|arg| self.node(arg)).collect::<Result<Vec<_>, _>>()?;
        for (arg, _) in &args {
            check_edge(call.function, arg)?;
        }
        let (args, same) = join(args);
        let arg_spans = call.args.iter().map(Expr::span).collect();
        let same = same && !depends_on_step(call.function.id);
        let args =
            if depends_on_step(call.function.id) { args.into_iter().map(once).collect() } else { unwrap(args, same) };
        Ok((Node::Call(Call { function: call.function, args, arg_spans, span: call.span }), same))
    }

    fn aggregate(&self, aggregate: &ast::Aggregate) -> Result<Planned, QueryError> {
        let mut parts = vec![self.node(&aggregate.expr)?];
        if let Some(param) = &aggregate.param {
            parts.push(self.node(param)?);
        }
        let (parts, same) = join(parts);
        let mut parts = unwrap(parts, same).into_iter();
        let mut labels = aggregate.grouping.labels().to_vec();
        labels.sort_unstable();
        labels.dedup();
        let input = parts.next().map_or_else(|| Box::new(Node::Number(0.0)), Box::new);
        let node = Aggregate {
            op: aggregate.op,
            input,
            param: parts.next().map(Box::new),
            param_span: aggregate.param.as_ref().map_or(aggregate.span, |param| param.span()),
            without: aggregate.grouping.is_without(),
            labels,
            input_span: aggregate.expr.span(),
        };
        Ok((Node::Aggregate(node), same))
    }

    fn binary(&self, binary: &ast::Binary) -> Result<Planned, QueryError> {
        let ((lhs, lhs_same), (rhs, rhs_same)) = (self.node(&binary.lhs)?, self.node(&binary.rhs)?);
        let same = lhs_same && rhs_same;
        let side = |node, node_same| Box::new(if same { node } else { once((node, node_same)) });
        let node = Binary {
            op: binary.op,
            lhs: side(lhs, lhs_same),
            rhs: side(rhs, rhs_same),
            matching: binary.matching.clone(),
            return_bool: binary.return_bool,
            span: binary.span,
        };
        Ok((Node::Binary(node), same))
    }
}

/// Marks a node that is the same at every step, unless that gains nothing.
fn once((node, same): Planned) -> Node {
    match node {
        Node::Number(_) | Node::Text(_) | Node::Range(_) | Node::Once(_) => node,
        _ if same => Node::Once(Box::new(node)),
        _ => node,
    }
}

fn join(parts: Vec<Planned>) -> (Vec<Planned>, bool) {
    let same = parts.iter().all(|(_, same)| *same);
    (parts, same)
}

/// The children of a node that is the same as a whole need no mark of their own.
fn unwrap(parts: Vec<Planned>, whole_is_same: bool) -> Vec<Node> {
    parts.into_iter().map(|part| if whole_is_same { part.0 } else { once(part) }).collect()
}

/// Functions whose result depends on the evaluation time, whatever their arguments.
fn depends_on_step(id: FunctionId) -> bool {
    use FunctionId as F;
    matches!(
        id,
        F::Time
            | F::Timestamp
            | F::StartTimestamp
            | F::PredictLinear
            | F::DaysInMonth
            | F::DayOfMonth
            | F::DayOfWeek
            | F::DayOfYear
            | F::Hour
            | F::Minute
            | F::Month
            | F::Year
            | F::Info
    )
}

fn check_edge(function: &Function, arg: &Node) -> Result<(), QueryError> {
    use FunctionId as F;
    let Node::Range(Range { edge: Some(edge), .. }) = arg else { return Ok(()) };
    let (allowed, names): (&[F], &str) = match edge {
        EdgeMode::Anchored => {
            (&[F::Changes, F::Delta, F::Increase, F::Rate, F::Resets], "changes, delta, increase, rate, resets")
        }
        EdgeMode::Smoothed => (&[F::Delta, F::Increase, F::Rate], "delta, increase, rate"),
    };
    if allowed.contains(&function.id) {
        return Ok(());
    }
    let keyword = edge.keyword();
    Err(QueryError::execution(format!(
        "{keyword} modifier can only be used with: {names} - not with {}",
        function.name
    )))
}
