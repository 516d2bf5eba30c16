//! The syntax tree of PromQL 3.14.
//!
//! Owns the shape of an expression and what can be said of it without data: its type, its place in the
//! text, its children. It never evaluates; whether a part is step-invariant is a matter of the planner.
//!
//! Invariants (of every tree that [`crate::parse`] returns)
//! - A1 Types fit: each operand, argument and parameter has the type its parent demands.
//! - A2 A selector has a matcher that rejects the empty string, but for the second argument of `info`.
//! - A3 The tree is at most [`crate::limits::EXPRESSION_DEPTH_MAX`] nodes deep, so recursion over it is safe.
//! - A4 Binary operators have a [`VectorMatching`] exactly when both sides are instant vectors.

mod operators;

use std::fmt;

pub use operators::{AggregateOp, BinaryOp, UnaryOp};
pub use pharos_model::{MatchOp, Matcher};

use crate::functions::Function;
use crate::position::Span;

/// The type of the value that an expression yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One float without labels.
    Scalar,
    /// One text.
    String,
    /// At most one sample per series.
    Vector,
    /// Many samples per series.
    Matrix,
}

impl ValueType {
    /// The word of error messages: `scalar`, `string`, `instant vector`, `range vector`.
    #[must_use]
    pub fn documented_name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }

    /// The word of API answers: `scalar`, `string`, `vector`, `matrix`.
    #[must_use]
    pub fn api_name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `5m`.
    Number(NumberLiteral),
    /// `"text"`.
    String(StringLiteral),
    /// `name{label="value"}`.
    VectorSelector(VectorSelector),
    /// `name[5m]`.
    MatrixSelector(MatrixSelector),
    /// `expr[5m:1m]`.
    Subquery(Subquery),
    /// `rate(…)`.
    Call(Call),
    /// `sum by (label) (…)`.
    Aggregate(Aggregate),
    /// `a + b`.
    Binary(Binary),
    /// `-a`.
    Unary(Unary),
    /// `(a)`.
    Paren(Paren),
}

/// A number, written as such or as a duration (then in seconds).
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// The value; seconds for a duration.
    pub value: f64,
    /// Whether the text was a duration such as `5m`.
    pub is_duration: bool,
    /// Place in the text.
    pub span: Span,
}

/// A text with its escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// The text.
    pub value: String,
    /// Place in the text, with the quotes.
    pub span: Span,
}

/// The `@` modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtModifier {
    /// `@ 1603774699.5`: Unix milliseconds.
    TimestampMs(i64),
    /// `@ start()`: start of the query range.
    Start,
    /// `@ end()`: end of the query range.
    End,
}

/// How a selector treats the edges of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeMode {
    /// `anchored`: the value at an edge is the newest sample at or before it.
    Anchored,
    /// `smoothed`: the value at an edge is interpolated.
    Smoothed,
}

impl EdgeMode {
    /// The keyword.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// `name{…} offset 5m @ 12`.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric name if it was written before the braces; `matchers` holds it, too. `{"foo"}` is short for
    /// `{__name__="foo"}` and has no name here.
    pub name: Option<String>,
    /// **All** matchers in source order, the one for `name` last.
    pub matchers: Vec<Matcher>,
    /// `offset`; positive looks into the past. Belongs to the enclosing range selector where there is one.
    pub offset: Option<DurationExpr>,
    /// `@`.
    pub at: Option<AtModifier>,
    /// `anchored` or `smoothed`.
    pub edge: Option<EdgeMode>,
    /// Place in the text, `offset` and `@` included; within a [`MatrixSelector`] only `name{…}`.
    pub span: Span,
}

/// `name{…}[5m] offset 5m @ 12`: the modifiers are kept in `selector`.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// What is selected, with offset, `@` and edge mode of the whole.
    pub selector: VectorSelector,
    /// Length of the window `(t − range, t]`.
    pub range: DurationExpr,
    /// Place in the text, modifiers included.
    pub span: Span,
}

/// `expr[range:step] offset 5m @ 12`.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated at each inner step.
    pub expr: Box<Expr>,
    /// Length of the window.
    pub range: DurationExpr,
    /// Distance of the inner steps; the engine's default where absent.
    pub step: Option<DurationExpr>,
    /// `offset`; positive looks into the past.
    pub offset: Option<DurationExpr>,
    /// `@`.
    pub at: Option<AtModifier>,
    /// Place in the text, modifiers included.
    pub span: Span,
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function with its signature.
    pub function: &'static Function,
    /// Arguments as written; omitted optional ones are absent.
    pub args: Vec<Expr>,
    /// Place in the text.
    pub span: Span,
}

/// `op by (labels) (param, expr)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which one.
    pub op: AggregateOp,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// Present exactly where [`AggregateOp::param_type`] says so.
    pub param: Option<Box<Expr>>,
    /// Labels of `by` or `without`, in source order.
    pub grouping: Grouping,
    /// Place in the text.
    pub span: Span,
}

/// The grouping clause of an aggregation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// No clause, or `by ()`: one group.
    None,
    /// `by (…)`: groups agree in these labels (the parser makes no empty list).
    By(Vec<String>),
    /// `without (…)`: groups agree in all labels but these and `__name__`.
    Without(Vec<String>),
}

impl Grouping {
    /// The labels of the clause.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::By(labels) | Self::Without(labels) => labels,
        }
    }

    /// Whether it is `without`.
    #[must_use]
    pub fn is_without(&self) -> bool {
        matches!(self, Self::Without(_))
    }
}

/// `lhs op rhs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which one.
    pub op: BinaryOp,
    /// Left operand.
    pub lhs: Box<Expr>,
    /// Right operand.
    pub rhs: Box<Expr>,
    /// How samples of both sides find each other; present exactly when both sides are instant vectors.
    pub matching: Option<VectorMatching>,
    /// `bool`: a comparison answers 0 or 1 and drops nothing.
    pub return_bool: bool,
    /// Place in the text.
    pub span: Span,
}

/// How many samples of one side may meet one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// No modifier.
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// The word of messages and API answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// The matching clause of a binary operator.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    /// Which side may have several partners.
    pub cardinality: Cardinality,
    /// Whether `labels` are those to match `on`; otherwise those to ignore (an absent clause ignores none).
    pub on: bool,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// `fill_left`: value where the left side lacks a partner.
    pub fill_left: Option<f64>,
    /// `fill_right`: value where the right side lacks a partner.
    pub fill_right: Option<f64>,
}

impl Default for VectorMatching {
    fn default() -> Self {
        Self {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        }
    }
}

/// `-expr`.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Which one.
    pub op: UnaryOp,
    /// The operand.
    pub expr: Box<Expr>,
    /// Place in the text.
    pub span: Span,
}

/// `(expr)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What stands between the parentheses.
    pub expr: Box<Expr>,
    /// Place in the text, with the parentheses.
    pub span: Span,
}

/// The duration of a range, an offset or a subquery step: arithmetic on seconds that may ask for the step
/// and the range of the running query. [`DurationExpr::resolve_ms`](crate::duration) computes it.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// `5m`, `300`, `-5m` (a sign directly before a literal belongs to it).
    Literal(NumberLiteral),
    /// `step()`: step of the query; 0 for instant queries.
    Step(Span),
    /// `range()`: end minus start of the query; 0 for instant queries.
    Range(Span),
    /// `min_of(a, b)`.
    MinOf(Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `max_of(a, b)`.
    MaxOf(Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `-a`, `+a`.
    Unary(UnaryOp, Box<DurationExpr>, Span),
    /// `a + b`; only `+ - * / % ^`.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>, Span),
    /// `(a)`.
    Paren(Box<DurationExpr>, Span),
}

impl DurationExpr {
    /// Whether it is the number 0, of either sign.
    #[must_use]
    pub fn is_zero_literal(&self) -> bool {
        matches!(self, Self::Literal(number) if number.value == 0.0)
    }

    /// Place in the text; of parentheses, that of what they hold.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Literal(number) => number.span,
            Self::Step(span)
            | Self::Range(span)
            | Self::MinOf(_, _, span)
            | Self::MaxOf(_, _, span)
            | Self::Unary(_, _, span)
            | Self::Binary(_, _, _, span)
            | Self::Paren(_, span) => *span,
        }
    }
}

impl Expr {
    /// Place in the text.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Number(node) => node.span,
            Self::String(node) => node.span,
            Self::VectorSelector(node) => node.span,
            Self::MatrixSelector(node) => node.span,
            Self::Subquery(node) => node.span,
            Self::Call(node) => node.span,
            Self::Aggregate(node) => node.span,
            Self::Binary(node) => node.span,
            Self::Unary(node) => node.span,
            Self::Paren(node) => node.span,
        }
    }

    /// The type of the value it yields.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::String(_) => ValueType::String,
            Self::VectorSelector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::MatrixSelector(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Call(node) => node.function.return_type,
            Self::Binary(node) => {
                let scalars = node.lhs.value_type() == ValueType::Scalar && node.rhs.value_type() == ValueType::Scalar;
                if scalars { ValueType::Scalar } else { ValueType::Vector }
            }
            Self::Unary(node) => node.expr.value_type(),
            Self::Paren(node) => node.expr.value_type(),
        }
    }

    /// The expression without the parentheses around it.
    #[must_use]
    pub fn unwrap_parens(&self) -> &Self {
        match self {
            Self::Paren(node) => node.expr.unwrap_parens(),
            other => other,
        }
    }

    /// Calls `visit` on every direct child, in source order (a parameter before the aggregated expression).
    pub fn for_each_child<'a>(&'a self, mut visit: impl FnMut(&'a Self)) {
        match self {
            Self::Number(_) | Self::String(_) | Self::VectorSelector(_) | Self::MatrixSelector(_) => {}
            Self::Subquery(node) => visit(&node.expr),
            Self::Call(node) => node.args.iter().for_each(visit),
            Self::Aggregate(node) => {
                if let Some(param) = &node.param {
                    visit(param);
                }
                visit(&node.expr);
            }
            Self::Binary(node) => {
                visit(&node.lhs);
                visit(&node.rhs);
            }
            Self::Unary(node) => visit(&node.expr),
            Self::Paren(node) => visit(&node.expr),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.documented_name())
    }
}
