//! Which parts of a plan are branches: they treat each series of one leaf for itself.

use super::{Binary, Call, Node, RangeSource};
use crate::ast::ValueType;
use crate::engine::EngineSettings;
use crate::engine::binary::drops_name;
use crate::functions::FunctionId as F;

/// Threads that help have smaller stacks than deep expressions need.
const DEPTH_MAX: usize = 50;

/// A branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct BranchKind {
    /// Removing names at its top may make series alike, which must be joined.
    pub(in crate::engine) joins: bool,
}

impl Node {
    /// Whether this is a branch.
    pub(in crate::engine) fn branch(&self, settings: &EngineSettings) -> Option<BranchKind> {
        branch(self, settings, DEPTH_MAX)
    }
}

fn branch(node: &Node, settings: &EngineSettings, depth: usize) -> Option<BranchKind> {
    let depth = depth.checked_sub(1)?;
    match node {
        Node::Selector(_) => Some(BranchKind { joins: false }),
        Node::Once(inner) => branch(inner, settings, depth),
        Node::Negate(inner) => renaming(inner, inside(inner, settings, depth), settings),
        Node::Call(call) => of_call(call, settings, depth),
        Node::Binary(binary) => of_binary(binary, settings, depth),
        Node::Number(_) | Node::Text(_) | Node::Range(_) | Node::Aggregate(_) | Node::Shared { .. } => None,
    }
}

/// Whether what is below a function or an operator is a branch without joins.
fn inside(node: &Node, settings: &EngineSettings, depth: usize) -> bool {
    branch(node, settings, depth).is_some_and(|kind| !kind.joins)
}

/// A branch that removes the names of `source` at its top.
fn renaming(source: &Node, is_branch: bool, settings: &EngineSettings) -> Option<BranchKind> {
    is_branch.then(|| BranchKind { joins: !settings.delayed_name_removal && !source.has_one_name() })
}

fn of_call(call: &Call, settings: &EngineSettings, depth: usize) -> Option<BranchKind> {
    let mut vectors = call.args.iter().filter(|arg| arg.value_type() != ValueType::Scalar);
    let vector = vectors.next()?;
    if !call.args.iter().filter(|arg| arg.value_type() == ValueType::Scalar).all(has_no_leaf) {
        return None;
    }
    let source_is_branch = match vector {
        Node::Range(range) => match &range.source {
            RangeSource::Samples(_) => true,
            RangeSource::Subquery { node, .. } => inside(node, settings, depth),
        },
        _ => inside(vector, settings, depth),
    };
    match call.function.id {
        F::Absent
        | F::AbsentOverTime
        | F::Vector
        | F::Sort
        | F::SortDesc
        | F::SortByLabel
        | F::SortByLabelDesc
        | F::HistogramQuantile
        | F::HistogramQuantiles
        | F::HistogramFraction
        | F::Info => None,
        F::LabelReplace | F::LabelJoin => source_is_branch.then_some(BranchKind { joins: true }),
        F::LastOverTime | F::FirstOverTime => source_is_branch.then_some(BranchKind { joins: false }),
        _ => renaming(vector, source_is_branch && vectors.next().is_none(), settings),
    }
}

fn of_binary(binary: &Binary, settings: &EngineSettings, depth: usize) -> Option<BranchKind> {
    let is_scalar = |node: &Node| node.value_type() == ValueType::Scalar;
    let (scalar, vector) = match (is_scalar(&binary.lhs), is_scalar(&binary.rhs)) {
        (true, false) => (&binary.lhs, &binary.rhs),
        (false, true) => (&binary.rhs, &binary.lhs),
        _ => return None,
    };
    let is_branch = has_no_leaf(scalar) && inside(vector, settings, depth);
    if drops_name(binary) {
        renaming(vector, is_branch, settings)
    } else {
        is_branch.then_some(BranchKind { joins: false })
    }
}

/// Whether a scalar is computed without any series.
fn has_no_leaf(scalar: &Node) -> bool {
    match scalar {
        Node::Number(_) | Node::Text(_) => true,
        Node::Once(inner) | Node::Negate(inner) => has_no_leaf(inner),
        Node::Binary(binary) => has_no_leaf(&binary.lhs) && has_no_leaf(&binary.rhs),
        Node::Call(call) => call.args.iter().all(has_no_leaf),
        Node::Selector(_) | Node::Range(_) | Node::Aggregate(_) | Node::Shared { .. } => false,
    }
}
