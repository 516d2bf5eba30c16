//! From syntax tree back to text: one line ([`std::fmt::Display`]) or indented lines ([`pretty()`]).
//!
//! Invariant: what is printed parses to the same tree, places in the text aside. For that, the tree must be one that the
//! parser can make: operands that bind weaker than their operator stand in a [`Paren`](crate::ast::Paren).

mod pretty;

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

pub use pretty::pretty;

use crate::ast::{
    Aggregate, AtModifier, Binary, BinaryOp, Call, Cardinality, DurationExpr, EdgeMode, Expr, Grouping, Matcher,
    NumberLiteral, VectorMatching, VectorSelector,
};
use crate::duration::format_duration_ms;
use crate::engine::{go_f, go_g};
use crate::quote::{label_name, quote};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(node) => node.fmt(f),
            Self::String(node) => f.write_str(&quote(&node.value)),
            Self::VectorSelector(node) => node.fmt(f),
            Self::MatrixSelector(node) => {
                let selector = &node.selector;
                write_selector(f, selector)?;
                write!(f, "[{}]", node.range)?;
                write_edge(f, selector.edge)?;
                write_at(f, selector.at)?;
                write_offset(f, selector.offset.as_ref())
            }
            Self::Subquery(node) => write!(f, "{}{}", node.expr, SubquerySuffix(node)),
            Self::Call(node) => node.fmt(f),
            Self::Aggregate(node) => node.fmt(f),
            Self::Binary(node) => write!(f, "{} {} {}", node.lhs, OperatorClause(node), node.rhs),
            Self::Unary(node) => write!(f, "{}{}", node.op.symbol(), node.expr),
            Self::Paren(node) => write!(f, "({})", node.expr),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            return f.write_str(&format_duration_ms((self.value * 1000.0).round() as i64));
        }
        f.write_str(&go_f(self.value))
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_selector(f, self)?;
        write_at(f, self.at)?;
        write_edge(f, self.edge)?;
        write_offset(f, self.offset.as_ref())
    }
}

/// `name{…}` without modifiers; the matchers in the order of their text, so that equal selectors print alike.
fn write_selector(f: &mut Formatter<'_>, node: &VectorSelector) -> fmt::Result {
    let name = node.name.as_deref().unwrap_or_default();
    let in_braces = node.matchers.len() - usize::from(node.name.is_some());
    let mut parts: Vec<String> = node.matchers[..in_braces].iter().map(matcher).collect();
    parts.sort_unstable();
    f.write_str(name)?;
    if parts.is_empty() {
        return if name.is_empty() { f.write_str("{}") } else { Ok(()) };
    }
    write!(f, "{{{}}}", parts.join(","))
}

fn matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", label_name(matcher.name()), matcher.op().as_str(), quote(matcher.value()))
}

fn write_edge(f: &mut Formatter<'_>, edge: Option<EdgeMode>) -> fmt::Result {
    edge.map_or(Ok(()), |edge| write!(f, " {}", edge.keyword()))
}

fn write_at(f: &mut Formatter<'_>, at: Option<AtModifier>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(AtModifier::Start) => f.write_str(" @ start()"),
        Some(AtModifier::End) => f.write_str(" @ end()"),
        Some(AtModifier::TimestampMs(at_ms)) => {
            let sign = if at_ms < 0 { "-" } else { "" };
            let at_ms = at_ms.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", at_ms / 1000, at_ms % 1000)
        }
    }
}

fn write_offset(f: &mut Formatter<'_>, offset: Option<&DurationExpr>) -> fmt::Result {
    offset.map_or(Ok(()), |offset| write!(f, " offset {offset}"))
}

/// What stands behind the expression of a subquery.
struct SubquerySuffix<'a>(&'a crate::ast::Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.0.range)?;
        if let Some(step) = &self.0.step {
            step.fmt(f)?;
        }
        f.write_str("]")?;
        write_at(f, self.0.at)?;
        write_offset(f, self.0.offset.as_ref())
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name)?;
        for (index, arg) in self.args.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            arg.fmt(f)?;
        }
        f.write_str(")")
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", AggregateHead(self))?;
        if let Some(param) = &self.param {
            write!(f, "{param}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

/// `sum by (a, b) `, up to the parenthesis.
struct AggregateHead<'a>(&'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.0.op.name();
        match &self.0.grouping {
            Grouping::None => f.write_str(name),
            Grouping::By(labels) => write!(f, "{name} by ({}) ", label_list(labels)),
            Grouping::Without(labels) => write!(f, "{name} without ({}) ", label_list(labels)),
        }
    }
}

fn label_list(labels: &[String]) -> String {
    let names: Vec<Cow<'_, str>> = labels.iter().map(|label| label_name(label)).collect();
    names.join(", ")
}

/// `+ on (a) group_left (b)`: the operator with all its modifiers.
struct OperatorClause<'a>(&'a Binary);

impl Display for OperatorClause<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.symbol())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |matching| write_matching(f, matching))
    }
}

fn write_matching(f: &mut Formatter<'_>, matching: &VectorMatching) -> fmt::Result {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || group.is_some() {
        let keyword = if matching.on { "on" } else { "ignoring" };
        write!(f, " {keyword} ({})", label_list(&matching.labels))?;
    }
    if let Some(group) = group {
        write!(f, " {group} ({})", label_list(&matching.include))?;
    }
    match (matching.fill_left, matching.fill_right) {
        // Of two NaN, each prints for itself.
        (Some(left), Some(right)) if left == right && left.is_sign_negative() == right.is_sign_negative() => {
            write!(f, " fill ({})", go_g(left))
        }
        (left, right) => {
            left.map_or(Ok(()), |value| write!(f, " fill_left ({})", go_g(value)))?;
            right.map_or(Ok(()), |value| write!(f, " fill_right ({})", go_g(value)))
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(number) => number.fmt(f),
            Self::Step(_) => f.write_str("step()"),
            Self::Range(_) => f.write_str("range()"),
            Self::MinOf(lhs, rhs, _) => write!(f, "min_of({lhs}, {rhs})"),
            Self::MaxOf(lhs, rhs, _) => write!(f, "max_of({lhs}, {rhs})"),
            Self::Unary(op, expr, _) => write!(f, "{}{expr}", op.symbol()),
            Self::Binary(BinaryOp::Pow, lhs, rhs, _) if is_negative_literal(lhs) => write!(f, "({lhs}) ^ {rhs}"),
            Self::Binary(op, lhs, rhs, _) => write!(f, "{lhs} {} {rhs}", op.symbol()),
            Self::Paren(expr, _) => write!(f, "({expr})"),
        }
    }
}

/// Its sign belongs to the literal, and would bind weaker than `^` without parentheses.
fn is_negative_literal(expr: &DurationExpr) -> bool {
    matches!(expr, DurationExpr::Literal(number) if number.value.is_sign_negative())
}
