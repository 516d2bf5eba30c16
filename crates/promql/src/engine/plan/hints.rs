//! What is wanted of native histograms: a walk over the finished plan.

use super::{Hints, Node, RangeSource};
use crate::ast;
use crate::engine::counts::Scope;
use crate::functions::FunctionId;

/// What the operators above a node want.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Histograms are added up.
    joined: bool,
    /// Of the result only count and sum are asked.
    counted: bool,
    /// Somewhere above buckets are looked at, whatever is counted in between.
    buckets: bool,
}

impl Wanted {
    fn hints(self) -> Hints {
        match (self.joined, self.counted && !self.buckets) {
            (joined, true) => Hints::Counts { joined },
            (true, false) => Hints::Derived,
            (false, false) => Hints::AsStored,
        }
    }
}

/// Tells selectors what the operators above want of histograms.
pub(super) fn set_hints(node: &mut Node, wanted: Wanted) {
    use FunctionId as F;
    match node {
        Node::Number(_) | Node::Text(_) => {}
        Node::Selector(selector) => selector.hints = wanted.hints(),
        Node::Range(range) => {
            range.hints = wanted.hints();
            if let RangeSource::Subquery { node, .. } = &mut range.source {
                // Resets between the steps are found by buckets.
                set_hints(node, Wanted { buckets: true, ..wanted });
            }
        }
        Node::Call(call) => {
            let wanted = match call.function.id {
                // These answer floats or gauges: what is joined above carries no hint.
                F::HistogramCount | F::HistogramSum | F::HistogramAvg => {
                    Wanted { joined: false, counted: true, ..wanted }
                }
                F::HistogramQuantile | F::HistogramQuantiles | F::HistogramFraction => {
                    Wanted { joined: false, buckets: true, ..wanted }
                }
                F::Rate | F::Increase | F::Delta | F::Irate | F::Idelta => Wanted { joined: false, ..wanted },
                F::SumOverTime | F::AvgOverTime => Wanted { joined: true, ..wanted },
                _ => wanted,
            };
            call.args.iter_mut().for_each(|arg| set_hints(arg, wanted));
        }
        Node::Aggregate(aggregate) => {
            let joins = matches!(aggregate.op, ast::AggregateOp::Sum | ast::AggregateOp::Avg);
            set_hints(&mut aggregate.input, Wanted { joined: wanted.joined || joins, ..wanted });
            if let Some(param) = &mut aggregate.param {
                set_hints(param, Wanted::default());
            }
        }
        Node::Binary(binary) => {
            use ast::BinaryOp as B;
            let joined = wanted.joined || matches!(binary.op, B::Add | B::Sub);
            let buckets = wanted.buckets || matches!(binary.op, B::TrimUpper | B::TrimLower);
            for side in [&mut binary.lhs, &mut binary.rhs] {
                set_hints(side, Wanted { joined, buckets, ..wanted });
            }
        }
        Node::Negate(inner) | Node::Once(inner) | Node::Shared { node: inner, .. } => set_hints(inner, wanted),
    }
}

/// Tells selectors at which steps counts what they look at, and numbers the subqueries.
pub(super) fn set_scopes(node: &mut Node) {
    let mut subqueries = 0;
    set_scope(node, Scope::Each, &mut subqueries);
    // A subquery that is the query: all its steps are the answer's.
    let mut top = node;
    while let Node::Once(inner) = top {
        top = inner;
    }
    if let Node::Range(range) = top
        && let RangeSource::Subquery { node, .. } = &mut range.source
    {
        set_scope(node, Scope::Last, &mut subqueries);
    }
}

fn set_scope(node: &mut Node, scope: Scope, subqueries: &mut u32) {
    match node {
        Node::Number(_) | Node::Text(_) => {}
        Node::Selector(selector) => selector.scope = scope,
        Node::Range(range) => {
            range.scope = scope;
            if let RangeSource::Subquery { node, number, .. } = &mut range.source {
                *number = *subqueries;
                *subqueries += 1;
                set_scope(node, Scope::Within(*number), subqueries);
            }
        }
        Node::Call(call) => call.args.iter_mut().for_each(|arg| set_scope(arg, scope, subqueries)),
        Node::Aggregate(aggregate) => {
            set_scope(&mut aggregate.input, scope, subqueries);
            if let Some(param) = &mut aggregate.param {
                set_scope(param, scope, subqueries);
            }
        }
        Node::Binary(binary) => {
            set_scope(&mut binary.lhs, scope, subqueries);
            set_scope(&mut binary.rhs, scope, subqueries);
        }
        Node::Negate(inner) | Node::Shared { node: inner, .. } => set_scope(inner, scope, subqueries),
        Node::Once(inner) => {
            let scope = if scope == Scope::Each { Scope::Every } else { scope };
            set_scope(inner, scope, subqueries);
        }
    }
}
