//! Planning: from the syntax tree to nodes.

use pharos_model::StepRange;

use super::hints::{Wanted, set_hints, set_scopes};
use super::share::share;
use super::{Aggregate, Binary, Call, Hints, Node, Range, RangeSource, Selector, TimeShift};
use crate::ast::{self, AtModifier, EdgeMode, Expr};
use crate::duration::{DurationContext, DurationError};
use crate::engine::counts::Scope;
use crate::engine::{EngineSettings, QueryError};
use crate::functions::{Function, FunctionId};
use crate::position::LineColumn;

/// Plans `expr` for the steps of a query; an instant query has one step.
pub(in crate::engine) fn plan(
    query: &str,
    expr: &Expr,
    steps: StepRange,
    settings: &EngineSettings,
) -> Result<Node, QueryError> {
    let is_instant = steps.start_ms == steps.end_ms;
    let durations = DurationContext {
        step_ms: if is_instant { 0 } else { steps.step_ms },
        range_ms: steps.end_ms.saturating_sub(steps.start_ms),
    };
    let planner = Planner { query, durations, steps, settings };
    let mut node = planner.node(expr).map(once)?;
    set_hints(&mut node, Wanted::default());
    set_scopes(&mut node);
    share(&mut node);
    Ok(node)
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
                    scope: Scope::default(),
                    span: selector.span,
                };
                (Node::Selector(node), time.at_ms.is_some())
            }
            Expr::MatrixSelector(matrix) => {
                let selector = &matrix.selector;
                let time = self.time(selector.at, selector.offset.as_ref())?;
                let length_ms = self.resolved(matrix.range.resolve_positive_ms(self.durations))?;
                let source = RangeSource::Samples(selector.matchers.clone());
                let (hints, scope) = (Hints::default(), Scope::default());
                let range = Range { source, length_ms, hints, scope, time, edge: selector.edge, span: matrix.span };
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
        let source = RangeSource::Subquery { node, step_ms, number: 0 };
        let (hints, scope) = (Hints::default(), Scope::default());
        let range = Range { source, length_ms, hints, scope, time, edge: None, span: subquery.span };
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
            span: aggregate.span,
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
