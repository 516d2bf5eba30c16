//! The type checker: what the grammar lets through but the language refuses.
//!
//! Runs once over a parsed tree and settles what depends on types: binary operators lose their matching clause unless both
//! sides are instant vectors, and set operators become many-to-many.

use crate::ast::{Aggregate, Binary, Call, Cardinality, Expr, Subquery, Unary, ValueType, VectorSelector};
use crate::error::ParseError;
use crate::functions::FunctionId;
use crate::position::Span;
use crate::quote::quote;

const METRIC_NAME: &str = "__name__";

pub(crate) fn check(expr: &mut Expr, text: &str) -> Result<(), ParseError> {
    Checker { text }.expr(expr)
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn expr(&self, expr: &mut Expr) -> Result<(), ParseError> {
        match expr {
            Expr::Number(_) | Expr::String(_) => Ok(()),
            Expr::VectorSelector(node) => self.selector(node),
            Expr::MatrixSelector(node) => self.selector(&node.selector),
            Expr::Subquery(node) => self.subquery(node),
            Expr::Call(node) => self.call(node),
            Expr::Aggregate(node) => self.aggregate(node),
            Expr::Binary(node) => self.binary(node),
            Expr::Unary(node) => self.unary(node),
            Expr::Paren(node) => self.expr(&mut node.expr),
        }
    }

    fn selector(&self, node: &VectorSelector) -> Result<(), ParseError> {
        let Some(name) = &node.name else { return self.selects_something(node) };
        // The matcher of the name is the last.
        let in_braces = node.matchers.split_last().map_or(&[][..], |(_, others)| others);
        match in_braces.iter().find(|matcher| matcher.name() == METRIC_NAME) {
            None => Ok(()),
            Some(second) => {
                let (first, second) = (quote(name), quote(second.value()));
                self.fail(node.span, format!("metric name must not be set twice: {first} or {second}"))
            }
        }
    }

    /// Prevents the selection of everything, for example by a typo.
    fn selects_something(&self, node: &VectorSelector) -> Result<(), ParseError> {
        if node.matchers.iter().any(|matcher| !matcher.matches_empty()) {
            return Ok(());
        }
        self.fail(node.span, "vector selector must contain at least one non-empty matcher")
    }

    fn subquery(&self, node: &mut Subquery) -> Result<(), ParseError> {
        self.expr(&mut node.expr)?;
        match node.expr.value_type() {
            ValueType::Vector => Ok(()),
            found => {
                let message = format!("subquery is only allowed on instant vector, got {} instead", found.api_name());
                self.fail(node.span, message)
            }
        }
    }

    fn unary(&self, node: &mut Unary) -> Result<(), ParseError> {
        self.expr(&mut node.expr)?;
        match node.expr.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            found => {
                let message = format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got \"{found}\""
                );
                self.fail(node.span, message)
            }
        }
    }

    fn call(&self, node: &mut Call) -> Result<(), ParseError> {
        let (function, found) = (node.function, node.args.len());
        let (min, max) = (function.args_min(), function.args_max());
        let wanted = if found < min {
            Some(if max == Some(min) { format!("{min}") } else { format!("at least {min}") })
        } else {
            max.filter(|max| found > *max)
                .map(|max| if max == min { format!("{max}") } else { format!("at most {max}") })
        };
        if let Some(wanted) = wanted {
            let message = format!("expected {wanted} argument(s) in call to \"{}\", got {found}", function.name);
            return self.fail(node.span, message);
        }
        let context = format!("call to function \"{}\"", function.name);
        let has_selector = function.id == FunctionId::Info && found > 1;
        if has_selector {
            self.info_selector(&node.args[1], node.span, &context)?;
        }
        for (index, arg) in node.args.iter_mut().enumerate() {
            if has_selector && index == 1 {
                continue; // a selector without a name: nothing else to check
            }
            if let Some(wanted) = function.arg_type(index) {
                self.typed(arg, wanted, &context)?;
            }
        }
        Ok(())
    }

    /// The second argument of `info`: bare matchers, which may all match the empty string.
    fn info_selector(&self, arg: &Expr, call: Span, context: &str) -> Result<(), ParseError> {
        let found = arg.value_type();
        match arg {
            Expr::VectorSelector(node) if node.name.is_none() => Ok(()),
            _ if found != ValueType::Vector => {
                self.fail(call, format!("expected type {} in {context}, got {found}", ValueType::Vector))
            }
            Expr::VectorSelector(node) => {
                self.fail(node.span, "expected label selectors only, got vector selector instead")
            }
            other => self.fail(other.span(), "expected label selectors only"),
        }
    }

    fn aggregate(&self, node: &mut Aggregate) -> Result<(), ParseError> {
        self.typed(&mut node.expr, ValueType::Vector, "aggregation expression")?;
        match (node.op.param_type(), &mut node.param) {
            (Some(wanted), Some(param)) => self.typed(param, wanted, "aggregation parameter"),
            _ => Ok(()),
        }
    }

    fn typed(&self, expr: &mut Expr, wanted: ValueType, context: &str) -> Result<(), ParseError> {
        self.expr(expr)?;
        let found = expr.value_type();
        if found == wanted {
            return Ok(());
        }
        self.fail(expr.span(), format!("expected type {wanted} in {context}, got {found}"))
    }

    fn binary(&self, node: &mut Binary) -> Result<(), ParseError> {
        self.expr(&mut node.lhs)?;
        self.expr(&mut node.rhs)?;
        let (lhs, rhs) = (node.lhs.value_type(), node.rhs.value_type());
        let operator = Span { start: node.lhs.span().end, end: node.rhs.span().start };
        let operator = self.trimmed(operator);
        if node.return_bool && !node.op.is_comparison() {
            return self.fail(operator, "bool modifier can only be used on comparison operators");
        }
        if node.op.is_comparison() && !node.return_bool && (lhs, rhs) == (ValueType::Scalar, ValueType::Scalar) {
            return self.fail(operator, "comparisons between scalars must use BOOL modifier");
        }
        if let Some(matching) = &node.matching
            && matching.on
            && let Some(label) = matching.labels.iter().find(|label| matching.include.contains(label))
        {
            let message = format!("label {} must not occur in ON and GROUP clause at once", quote(label));
            return self.fail(operator, message);
        }
        for (side, found) in [(&node.lhs, lhs), (&node.rhs, rhs)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.fail(side.span(), message);
            }
        }
        self.matching(node, lhs == ValueType::Vector && rhs == ValueType::Vector)
    }

    fn matching(&self, node: &mut Binary, both_vectors: bool) -> Result<(), ParseError> {
        let Some(matching) = &mut node.matching else { return Ok(()) };
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if !both_vectors {
            if !matching.labels.is_empty() {
                return self.fail(node.span, "vector matching only allowed between instant vectors");
            }
            if fills {
                return self.fail(node.span, "filling in missing series only allowed between instant vectors");
            }
            node.matching = None;
            if node.op.is_set() {
                let message = format!("set operator \"{}\" not allowed in binary scalar expression", node.op.symbol());
                return self.fail(node.span, message);
            }
        } else if node.op.is_set() {
            if matching.cardinality != Cardinality::OneToOne {
                let message = format!("no grouping allowed for \"{}\" operation", node.op.symbol());
                return self.fail(node.span, message);
            }
            if fills {
                return self.fail(node.span, "filling in missing series not allowed for set operators");
            }
            matching.cardinality = Cardinality::ManyToMany;
        }
        Ok(())
    }

    /// The span without the spaces around its text.
    fn trimmed(&self, span: Span) -> Span {
        let text = span.text(self.text);
        let start = span.start as usize + (text.len() - text.trim_start().len());
        Span::new(start, start + text.trim().len())
    }

    fn fail(&self, span: Span, message: impl Into<String>) -> Result<(), ParseError> {
        Err(ParseError::new(self.text, span, message))
    }
}
