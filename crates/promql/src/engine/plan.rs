//! The plan: the syntax tree with everything resolved that does not depend on data.
//!
//! Durations become milliseconds, `@` an instant, parentheses vanish, and whatever yields the same value at every
//! step is marked to be evaluated once. Which parts are computed by the store ([`pharos_storage::LeafPlan`]) is
//! decided when they are evaluated, in `leaf`.

mod branch;
mod build;
mod hints;
mod share;

use pharos_model::Matcher;

pub(super) use build::plan;

use super::counts::Scope;
use crate::ast::{self, EdgeMode, ValueType};
use crate::functions::{Function, FunctionId};
use crate::position::Span;

/// A planned expression.
#[derive(Debug, Clone)]
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
    /// Stands in the plan more than once: whoever is first evaluates it for all of this number.
    Shared {
        number: usize,
        node: Box<Node>,
    },
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

/// What operators above want to know of native histograms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Hints {
    /// All but what reset hints leave unknown.
    #[default]
    AsStored,
    /// Histograms are added up: "no reset" is filled in where it is unknown.
    Derived,
    /// Only count and sum: buckets are left out, reset hints are filled in, because without buckets they cannot be
    /// found any more. `joined`: histograms are added up, so that the first sample's hint matters as well.
    Counts { joined: bool },
}

#[derive(Debug, Clone)]
pub(super) struct Selector {
    pub(super) hints: Hints,
    pub(super) scope: Scope,
    pub(super) matchers: Vec<Matcher>,
    pub(super) time: TimeShift,
    pub(super) edge: Option<EdgeMode>,
    pub(super) span: Span,
}

/// A range vector: windows `(t − range, t]` of samples.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) source: RangeSource,
    pub(super) length_ms: i64,
    pub(super) hints: Hints,
    pub(super) scope: Scope,
    /// Of the selector or of the subquery.
    pub(super) time: TimeShift,
    pub(super) edge: Option<EdgeMode>,
    pub(super) span: Span,
}

#[derive(Debug, Clone)]
pub(super) enum RangeSource {
    Samples(Vec<Matcher>),
    Subquery {
        node: Box<Node>,
        step_ms: i64,
        /// Which of the query's subqueries it is.
        number: u32,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) function: &'static Function,
    pub(super) args: Vec<Node>,
    /// Where each argument stands.
    pub(super) arg_spans: Vec<Span>,
    pub(super) span: Span,
}

#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    pub(super) op: ast::AggregateOp,
    pub(super) input: Box<Node>,
    pub(super) param: Option<Box<Node>>,
    pub(super) param_span: Span,
    pub(super) without: bool,
    /// Sorted, each once.
    pub(super) labels: Vec<String>,
    pub(super) input_span: Span,
    pub(super) span: Span,
}

#[derive(Debug, Clone)]
pub(super) struct Binary {
    pub(super) op: ast::BinaryOp,
    pub(super) lhs: Box<Node>,
    pub(super) rhs: Box<Node>,
    pub(super) matching: Option<ast::VectorMatching>,
    pub(super) return_bool: bool,
    pub(super) span: Span,
}

impl Aggregate {
    /// Where a range vector stands that is aggregated after a function of it.
    pub(super) fn leaf_span(&self) -> Span {
        match &*self.input {
            Node::Call(call) => match call.args.as_slice() {
                [Node::Range(range)] => range.span,
                _ => call.span,
            },
            _ => self.input_span,
        }
    }
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
            Self::Negate(node) | Self::Once(node) | Self::Shared { node, .. } => node.value_type(),
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
            Self::Negate(node) | Self::Once(node) | Self::Shared { node, .. } => node.is_ordered(),
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
            Self::Negate(node) | Self::Once(node) | Self::Shared { node, .. } => node.has_one_name(),
            Self::Number(_) | Self::Text(_) => true,
        }
    }
}

/// Whether all series that pass have the same name.
pub(super) fn matchers_fix_name(matchers: &[Matcher]) -> bool {
    matchers
        .iter()
        .any(|matcher| matcher.name() == pharos_model::METRIC_NAME && matcher.op() == pharos_model::MatchOp::Equal)
}

fn is_sort(id: FunctionId) -> bool {
    matches!(id, FunctionId::Sort | FunctionId::SortDesc | FunctionId::SortByLabel | FunctionId::SortByLabelDesc)
}
