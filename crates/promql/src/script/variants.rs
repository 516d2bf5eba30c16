//! Other ways to ask the same: the query with its time printed into it, to be evaluated at other times.

use crate::ast::{AtModifier, DurationExpr, Expr, VectorSelector};
use crate::functions::FunctionId;
use crate::options::ParserOptions;
use crate::parser::parse;

/// How the answer of a query depends on its evaluation time, selectors aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TimeDependence {
    /// It asks for the evaluation time, for instance by `time()`.
    pub(super) on_instant: bool,
    /// It asks for start, end or step of the query.
    pub(super) on_range: bool,
}

/// What of `query` depends on time; nothing, if it does not parse.
pub(super) fn time_dependence(query: &str) -> TimeDependence {
    let mut found = TimeDependence::default();
    if let Ok(expr) = parse(query, ParserOptions::all()) {
        inspect(&expr, &mut found);
    }
    found
}

fn inspect(expr: &Expr, found: &mut TimeDependence) {
    let mut durations: Vec<&DurationExpr> = Vec::new();
    let mut at = None;
    match expr {
        Expr::VectorSelector(node) => {
            durations.extend(&node.offset);
            at = node.at;
        }
        Expr::MatrixSelector(node) => {
            durations.extend(&node.selector.offset);
            durations.push(&node.range);
            at = node.selector.at;
        }
        Expr::Subquery(node) => {
            durations.extend(node.offset.iter().chain(&node.step));
            durations.push(&node.range);
            at = node.at;
        }
        Expr::Call(node) => match node.function.id {
            FunctionId::Start | FunctionId::End | FunctionId::Range | FunctionId::Step => found.on_range = true,
            FunctionId::DaysInMonth
            | FunctionId::DayOfMonth
            | FunctionId::DayOfWeek
            | FunctionId::DayOfYear
            | FunctionId::Hour
            | FunctionId::Minute
            | FunctionId::Month
            | FunctionId::Year
            | FunctionId::PredictLinear
            | FunctionId::Time
            | FunctionId::Timestamp => found.on_instant = true,
            _ => {}
        },
        _ => {}
    }
    found.on_range |= matches!(at, Some(AtModifier::Start | AtModifier::End));
    found.on_range |= durations.into_iter().any(asks_for_query);
    expr.for_each_child(|child| inspect(child, found));
}

fn asks_for_query(duration: &DurationExpr) -> bool {
    match duration {
        DurationExpr::Literal(_) => false,
        DurationExpr::Step(_) | DurationExpr::Range(_) => true,
        DurationExpr::Unary(_, expr, _) | DurationExpr::Paren(expr, _) => asks_for_query(expr),
        DurationExpr::MinOf(lhs, rhs, _) | DurationExpr::MaxOf(lhs, rhs, _) | DurationExpr::Binary(_, lhs, rhs, _) => {
            asks_for_query(lhs) || asks_for_query(rhs)
        }
    }
}

/// The query with `@ at_ms` on every selector and subquery that has none, and the times to evaluate it at: all must give the
/// answer that the original gives at `at_ms`. None, if the query depends on time in other ways.
pub(super) fn pinned(query: &str, at_ms: i64) -> Option<(String, Vec<i64>)> {
    let mut expr = parse(query, ParserOptions::all()).ok()?;
    if time_dependence(query) != TimeDependence::default() {
        return None;
    }
    pin(&mut expr, at_ms);
    let times_ms = if at_ms == 0 { vec![-1000, 0, 1000] } else { vec![-10 * at_ms, 0, at_ms / 5, at_ms, 10 * at_ms] };
    Some((expr.to_string(), times_ms))
}

fn pin(expr: &mut Expr, at_ms: i64) {
    let pin_selector = |node: &mut VectorSelector| {
        node.at.get_or_insert(AtModifier::TimestampMs(at_ms));
    };
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::VectorSelector(node) => pin_selector(node),
        Expr::MatrixSelector(node) => pin_selector(&mut node.selector),
        // What stands inside a subquery follows its inner steps.
        Expr::Subquery(node) => {
            node.at.get_or_insert(AtModifier::TimestampMs(at_ms));
        }
        Expr::Call(node) => node.args.iter_mut().for_each(|arg| pin(arg, at_ms)),
        Expr::Aggregate(node) => {
            pin(&mut node.expr, at_ms);
            if let Some(param) = &mut node.param {
                pin(param, at_ms);
            }
        }
        Expr::Binary(node) => {
            pin(&mut node.lhs, at_ms);
            pin(&mut node.rhs, at_ms);
        }
        Expr::Unary(node) => pin(&mut node.expr, at_ms),
        Expr::Paren(node) => pin(&mut node.expr, at_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_pinned_but_not_those_inside_subqueries() {
        let (query, times_ms) = pinned("a + max_over_time(b[5m:]) + c[1m] @ 3 offset 1m", 10_000).unwrap_or_default();
        assert_eq!(query, ""); // a matrix cannot be added
        assert!(times_ms.is_empty());
        let (query, times_ms) = pinned("a + max_over_time(rate(b[2m])[5m:]) + c @ 3", 10_000).unwrap();
        assert_eq!(query, "a @ 10.000 + max_over_time(rate(b[2m])[5m:] @ 10.000) + c @ 3.000");
        assert_eq!(times_ms, [-100_000, 0, 2000, 10_000, 100_000]);
    }

    #[test]
    fn queries_that_ask_for_the_time_are_not_pinned() {
        for query in ["time()", "hour(a)", "a @ start()", "a[step()]", "sum(predict_linear(a[5m], 1))"] {
            assert_eq!(pinned(query, 1000), None, "{query}");
        }
        assert!(time_dependence("a offset -(range() * 2)").on_range);
        assert_eq!(time_dependence("hour(a)"), TimeDependence { on_instant: true, on_range: false });
    }
}
