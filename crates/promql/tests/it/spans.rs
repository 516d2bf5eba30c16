//! Trees without their places and the order of matchers, for comparison: printing keeps neither.

use pharos_promql::ast::{DurationExpr, Expr, NumberLiteral, VectorSelector};
use pharos_promql::position::Span;

/// The same tree with every place zeroed and all matchers sorted.
pub(crate) fn without_spans(mut expr: Expr) -> Expr {
    strip(&mut expr);
    expr
}

fn strip(expr: &mut Expr) {
    match expr {
        Expr::Number(node) => strip_number(node),
        Expr::String(node) => node.span = Span::default(),
        Expr::VectorSelector(node) => strip_selector(node),
        Expr::MatrixSelector(node) => {
            strip_selector(&mut node.selector);
            strip_duration(&mut node.range);
            node.span = Span::default();
        }
        Expr::Subquery(node) => {
            strip(&mut node.expr);
            strip_duration(&mut node.range);
            node.step.iter_mut().chain(&mut node.offset).for_each(strip_duration);
            node.span = Span::default();
        }
        Expr::Call(node) => {
            node.args.iter_mut().for_each(strip);
            node.span = Span::default();
        }
        Expr::Aggregate(node) => {
            strip(&mut node.expr);
            node.param.iter_mut().for_each(|param| strip(param));
            node.span = Span::default();
        }
        Expr::Binary(node) => {
            strip(&mut node.lhs);
            strip(&mut node.rhs);
            node.span = Span::default();
        }
        Expr::Unary(node) => {
            strip(&mut node.expr);
            node.span = Span::default();
        }
        Expr::Paren(node) => {
            strip(&mut node.expr);
            node.span = Span::default();
        }
    }
}

fn strip_number(number: &mut NumberLiteral) {
    number.span = Span::default();
}

fn strip_selector(selector: &mut VectorSelector) {
    selector.span = Span::default();
    selector.matchers.sort_by_key(ToString::to_string);
    selector.offset.iter_mut().for_each(strip_duration);
}

fn strip_duration(duration: &mut DurationExpr) {
    match duration {
        DurationExpr::Literal(number) => strip_number(number),
        DurationExpr::Step(span) | DurationExpr::Range(span) => *span = Span::default(),
        DurationExpr::Unary(_, expr, span) | DurationExpr::Paren(expr, span) => {
            *span = Span::default();
            strip_duration(expr);
        }
        DurationExpr::MinOf(lhs, rhs, span)
        | DurationExpr::MaxOf(lhs, rhs, span)
        | DurationExpr::Binary(_, lhs, rhs, span) => {
            *span = Span::default();
            strip_duration(lhs);
            strip_duration(rhs);
        }
    }
}
