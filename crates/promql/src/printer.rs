//! From syntax tree back to text: one line ([`std::fmt::Display`]) or indented lines ([`pretty()`]).
//!
//! Invariant: what is printed parses to the same tree, places in the text aside. For that, the tree must be one that the
//! parser can make: operands that bind weaker than their operator stand in a [`Paren`](crate::ast::Paren).

mod pretty;

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

pub use pretty::pretty;

use crate::ast::{
    Aggregate, AtModifier, Binary, Call, Cardinality, DurationExpr, EdgeMode, Expr, Grouping, Matcher, NumberLiteral,
    VectorMatching, VectorSelector,
};
use crate::duration::format_duration_ms;
use crate::position::Span;
use crate::quote::{is_classic_metric_name, label_name, quote};
use crate::token::{Token, word_kind};

const METRIC_NAME: &str = "__name__";

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
                write_modifiers(f, selector.edge, selector.at, selector.offset.as_ref())
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
        f.write_str(&format_number(self.value))
    }
}

/// Decimal without exponent; `NaN`, `+Inf`, `-Inf`.
fn format_number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_selector(f, self)?;
        write_modifiers(f, self.edge, self.at, self.offset.as_ref())
    }
}

/// `name{…}` without modifiers.
fn write_selector(f: &mut Formatter<'_>, node: &VectorSelector) -> fmt::Result {
    let plain_name = node.name.as_deref().filter(|name| may_stand_plain(name));
    let quoted_name = if plain_name.is_some() { None } else { node.name.as_deref() };
    let is_name = |matcher: &Matcher| node.name.is_some() && matcher.name() == METRIC_NAME;
    f.write_str(plain_name.unwrap_or_default())?;
    let mut parts = quoted_name.map(quote).into_iter().chain(node.matchers.iter().filter(|m| !is_name(m)).map(matcher));
    let Some(first) = parts.next() else {
        return if plain_name.is_some() { Ok(()) } else { f.write_str("{}") };
    };
    write!(f, "{{{first}")?;
    parts.try_for_each(|part| write!(f, ",{part}"))?;
    f.write_str("}")
}

/// Whether the name is one outside of quotes, too.
fn may_stand_plain(name: &str) -> bool {
    let token = Token { kind: word_kind(name), span: Span::default() };
    is_classic_metric_name(name) && token.is_metric_name()
}

fn matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", label_name(matcher.name()), matcher.op().as_str(), quote(matcher.value()))
}

fn write_modifiers(
    f: &mut Formatter<'_>,
    edge: Option<EdgeMode>,
    at: Option<AtModifier>,
    offset: Option<&DurationExpr>,
) -> fmt::Result {
    if let Some(edge) = edge {
        write!(f, " {}", edge.keyword())?;
    }
    match at {
        None => {}
        Some(AtModifier::Start) => f.write_str(" @ start()")?,
        Some(AtModifier::End) => f.write_str(" @ end()")?,
        Some(AtModifier::TimestampMs(at_ms)) => {
            let sign = if at_ms < 0 { "-" } else { "" };
            let at_ms = at_ms.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", at_ms / 1000, at_ms % 1000)?;
        }
    }
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
        write_modifiers(f, None, self.0.at, self.0.offset.as_ref())
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
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => write!(f, " fill ({})", format_number(left)),
        (left, right) => {
            left.map_or(Ok(()), |value| write!(f, " fill_left ({})", format_number(value)))?;
            right.map_or(Ok(()), |value| write!(f, " fill_right ({})", format_number(value)))
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
            Self::Binary(op, lhs, rhs, _) => write!(f, "{lhs} {} {rhs}", op.symbol()),
            Self::Paren(expr, _) => write!(f, "({expr})"),
        }
    }
}
