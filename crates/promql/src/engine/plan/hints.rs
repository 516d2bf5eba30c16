//! Who wants to know of reset hints: a walk over the finished plan.

use super::{Hints, Node, RangeSource};
use crate::ast;
use crate::functions::FunctionId;

/// Tells selectors what the operators above want to know of reset hints: `joined` if histograms are added up,
/// `counted` if of the result only count and sum are asked.
pub(super) fn set_hints(node: &mut Node, joined: bool, counted: bool) {
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
