//! Which samples a step of a query depends on.

use pharos_model::TimeRange;

use crate::ast::{AtModifier, DurationExpr, Expr};
use crate::engine::call::info_time;
use crate::engine::plan::{Hints, Node, RangeSource, TimeShift};
use crate::functions::FunctionId;

/// What an expression looks at, at each of its steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct Reach {
    /// At a step `t`: samples in `[t − back, t + ahead]`; both may be negative. `None` if none move with the step.
    pub(super) window: Option<(i64, i64)>,
    /// Samples at instants that the expression names.
    pub(super) fixed: Vec<TimeRange>,
    /// Whether a step's value depends on the start, the end or the kind of the query as well.
    pub(super) depends_on_query_range: bool,
    /// Whether what is read for one step depends on the others.
    pub(super) is_indivisible: bool,
}

/// When a node is evaluated.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// From `t + first` to `t + last` for each step `t`.
    Moving {
        first_ms: i64,
        last_ms: i64,
    },
    Fixed {
        first_ms: i64,
        last_ms: i64,
    },
}

impl Reach {
    /// Of a query: its plan, and the tree it was planned from.
    pub(in crate::engine) fn of(node: &Node, expr: &Expr, lookback_ms: i64) -> Self {
        let mut reach = Self { depends_on_query_range: names_query_range(expr), ..Self::default() };
        reach.add(node, Times::Moving { first_ms: 0, last_ms: 0 }, lookback_ms);
        reach
    }

    fn add(&mut self, node: &Node, times: Times, lookback_ms: i64) {
        match node {
            Node::Number(_) | Node::Text(_) => {}
            Node::Selector(selector) => {
                let edge_ms = if selector.edge.is_some() { lookback_ms } else { 0 };
                let back_ms = lookback_ms.saturating_add(edge_ms).saturating_add(hint_ms(selector.hints, lookback_ms));
                self.read(times.shifted(selector.time), back_ms, edge_ms);
            }
            Node::Range(range) => {
                let times = times.shifted(range.time);
                match &range.source {
                    RangeSource::Samples(_) => {
                        let edge_ms = if range.edge.is_some() { lookback_ms } else { 0 };
                        let hint_ms = hint_ms(range.hints, lookback_ms);
                        self.read(times, range.length_ms.saturating_add(edge_ms).saturating_add(hint_ms), edge_ms);
                    }
                    RangeSource::Subquery { node, .. } => self.add(node, times.widened(range.length_ms), lookback_ms),
                }
            }
            Node::Call(call) => {
                use FunctionId as F;
                if call.function.id == F::Info {
                    // Which info series are read depends on the base series of all steps.
                    (self.is_indivisible, self.depends_on_query_range) = (true, true);
                    self.read(times.shifted(info_time(call)), lookback_ms, 0);
                }
                self.depends_on_query_range |= matches!(call.function.id, F::Start | F::End | F::Range | F::Step);
                for arg in &call.args {
                    self.add(arg, times, lookback_ms);
                }
            }
            Node::Aggregate(aggregate) => {
                self.add(&aggregate.input, times, lookback_ms);
                if let Some(param) = &aggregate.param {
                    self.add(param, times, lookback_ms);
                }
            }
            Node::Binary(binary) => {
                self.add(&binary.lhs, times, lookback_ms);
                self.add(&binary.rhs, times, lookback_ms);
            }
            Node::Negate(inner) | Node::Once(inner) | Node::Shared { node: inner, .. } => {
                self.add(inner, times, lookback_ms);
            }
        }
    }

    /// Notes that samples from `back_ms` before to `ahead_ms` after these times are read.
    fn read(&mut self, times: Times, back_ms: i64, ahead_ms: i64) {
        match times {
            Times::Fixed { first_ms, last_ms } => {
                let (first, end) = (first_ms.saturating_sub(back_ms), last_ms.saturating_add(ahead_ms));
                self.fixed.push(TimeRange::inclusive(first, end));
            }
            Times::Moving { first_ms, last_ms } => {
                let (back, ahead) = (back_ms.saturating_sub(first_ms), last_ms.saturating_add(ahead_ms));
                self.window = Some(match self.window {
                    Some((known_back, known_ahead)) => (known_back.max(back), known_ahead.max(ahead)),
                    None => (back, ahead),
                });
            }
        }
    }
}

/// How far before a window the histogram may lie that tells the reset hint of the first one inside.
fn hint_ms(hints: Hints, lookback_ms: i64) -> i64 {
    if hints == Hints::AsStored { 0 } else { lookback_ms }
}

impl Times {
    fn shifted(self, shift: TimeShift) -> Self {
        let by = |time_ms: i64| time_ms.saturating_sub(shift.offset_ms);
        match (self, shift.at_ms) {
            (_, Some(at_ms)) => Self::Fixed { first_ms: by(at_ms), last_ms: by(at_ms) },
            (Self::Moving { first_ms, last_ms }, None) => Self::Moving { first_ms: by(first_ms), last_ms: by(last_ms) },
            (Self::Fixed { first_ms, last_ms }, None) => Self::Fixed { first_ms: by(first_ms), last_ms: by(last_ms) },
        }
    }

    /// Times of a subquery's inner steps.
    fn widened(self, length_ms: i64) -> Self {
        match self {
            Self::Moving { first_ms, last_ms } => {
                Self::Moving { first_ms: first_ms.saturating_sub(length_ms), last_ms }
            }
            Self::Fixed { first_ms, last_ms } => Self::Fixed { first_ms: first_ms.saturating_sub(length_ms), last_ms },
        }
    }
}

/// Whether `@ start()`, `@ end()`, `step()` or `range()` stand somewhere in the text.
fn names_query_range(expr: &Expr) -> bool {
    let at = |at: Option<AtModifier>| matches!(at, Some(AtModifier::Start | AtModifier::End));
    let duration = |duration: &Option<DurationExpr>| duration.as_ref().is_some_and(duration_names_query_range);
    let own = match expr {
        Expr::VectorSelector(selector) => at(selector.at) || duration(&selector.offset),
        Expr::MatrixSelector(matrix) => {
            at(matrix.selector.at) || duration(&matrix.selector.offset) || duration_names_query_range(&matrix.range)
        }
        Expr::Subquery(subquery) => {
            at(subquery.at)
                || duration(&subquery.offset)
                || duration(&subquery.step)
                || duration_names_query_range(&subquery.range)
        }
        _ => false,
    };
    let mut found = own;
    expr.for_each_child(|child| found = found || names_query_range(child));
    found
}

fn duration_names_query_range(duration: &DurationExpr) -> bool {
    match duration {
        DurationExpr::Literal(_) => false,
        DurationExpr::Step(_) | DurationExpr::Range(_) => true,
        DurationExpr::Unary(_, inner, _) | DurationExpr::Paren(inner, _) => duration_names_query_range(inner),
        DurationExpr::MinOf(a, b, _) | DurationExpr::MaxOf(a, b, _) | DurationExpr::Binary(_, a, b, _) => {
            duration_names_query_range(a) || duration_names_query_range(b)
        }
    }
}
