//! Jaeger's structured filter, checked and read as a predicate of the store.
//!
//! Whatever has no meaning is refused here with the reason: unknown operators, levels and fields, wrong numbers of operands,
//! constants that cannot be what they are compared with, orders of things that have none.
//!
//! Source: Jaeger RFC 0005, sections 5 and 7, and `query/expression/v1` of jaeger-idl. Patterns may be more here: anchors,
//! word boundaries, lazy repetitions and flags, which Jaeger refuses because not all its stores have them.

mod fields;
mod json;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use fields::LEVELS;
pub(crate) use json::call_of_json;

use pharos_model::{SearchPattern, SearchPatterns};
use pharos_proto::jaeger::expression_v1::expression::Term;
use pharos_proto::jaeger::expression_v1::{AttributeReference, Call, Expression, FieldReference, List, Scalar};
use pharos_storage::{
    Comparison, PREDICATE_DEPTH_MAX, PREDICATE_NODES_MAX, SpanCollection, SpanOperand, SpanPredicate, SpanReference,
};

use self::fields::{FieldType, field_of, level_of};
use self::values::{Domain, field_value, typed_value};

/// All operators, as capabilities name them.
pub(crate) const OPERATORS: [&str; 14] =
    ["and", "or", "not", "eq", "ne", "gt", "lt", "gte", "lte", "regex", "exists", "in", "not_in", "some"];

/// The predicate that a filter stands for.
///
/// # Errors
/// What is wrong with the filter, in words.
pub(crate) fn predicate_of(filter: &Call) -> Result<SpanPredicate, String> {
    Reading { nodes: 0, patterns: SearchPatterns::default() }.call(filter, 1, &[])
}

/// Refuses a filter that has more than any may, before it waits for its turn: a byte of a message may be a hundred in memory.
///
/// # Errors
/// The limit, in words.
pub(crate) fn check_size(filter: &Call) -> Result<(), String> {
    let (mut rest, mut count) = (vec![filter], 0);
    while let Some(call) = rest.pop() {
        count += call.args.len();
        for arg in &call.args {
            match &arg.term {
                Some(Term::Call(inner)) => rest.push(inner),
                Some(Term::List(list)) => count += list.values.len(),
                _ => {}
            }
        }
        if count > EXPRESSIONS_MAX {
            return Err(format!("filter: more than {EXPRESSIONS_MAX} operands and list elements"));
        }
    }
    Ok(())
}

/// Of operators and list elements there may be fewer; an operator has two operands that count here only.
const EXPRESSIONS_MAX: usize = 3 * PREDICATE_NODES_MAX;

struct Reading {
    nodes: usize,
    patterns: SearchPatterns,
}

/// A value of the span and, if it is a field, what that holds.
struct Reference {
    value: SpanReference,
    field: Option<FieldType>,
    /// As errors name it.
    name: String,
}

impl Reading {
    /// `bound` are the collections of the `some` around this call.
    fn call(&mut self, call: &Call, depth: usize, bound: &[SpanCollection]) -> Result<SpanPredicate, String> {
        if depth > PREDICATE_DEPTH_MAX {
            return Err(format!("filter: nested deeper than {PREDICATE_DEPTH_MAX} operators"));
        }
        self.count(1)?;
        let op = call.op.as_str();
        let takes = |count: usize| match call.args.len() {
            found if found == count => Ok(()),
            found => Err(format!("filter: operator {op:?} takes {count} operand(s), got {found}")),
        };
        match op {
            "and" | "or" => {
                if call.args.len() < 2 {
                    return Err(format!("filter: operator {op:?} takes at least two operands"));
                }
                let parts = call.args.iter().map(|arg| self.call(call_in(op, arg)?, depth + 1, bound));
                let parts = parts.collect::<Result<_, _>>()?;
                Ok(if op == "and" { SpanPredicate::And(parts) } else { SpanPredicate::Or(parts) })
            }
            "not" => {
                takes(1)?;
                let part = self.call(call_in(op, &call.args[0])?, depth + 1, bound)?;
                Ok(SpanPredicate::Not(Box::new(part)))
            }
            "exists" => {
                takes(1)?;
                Ok(SpanPredicate::Exists(reference_in(op, &call.args[0])?.value))
            }
            "some" => {
                takes(2)?;
                let of = collection_in(&call.args[0])?;
                if bound.contains(&of) {
                    return Err("filter: operator \"some\" is within another one of the same level".to_owned());
                }
                let bound: Vec<_> = bound.iter().copied().chain([of]).collect();
                let predicate = Box::new(self.call(call_in(op, &call.args[1])?, depth + 1, &bound)?);
                Ok(SpanPredicate::Some { of, predicate })
            }
            "in" | "not_in" => {
                takes(2)?;
                self.membership(op, &reference_in(op, &call.args[0])?, &call.args[1])
            }
            "regex" => {
                takes(2)?;
                matches(reference_in(op, &call.args[0])?, &call.args[1], &mut self.patterns)
            }
            _ => {
                let comparison = comparison_of(op).ok_or_else(|| format!("filter: unknown operator {op:?}"))?;
                takes(2)?;
                compare(op, comparison, &call.args[0], &call.args[1])
            }
        }
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.nodes += more;
        if self.nodes > PREDICATE_NODES_MAX {
            return Err(format!("filter: more than {PREDICATE_NODES_MAX} operators and list elements"));
        }
        Ok(())
    }

    fn membership(&mut self, op: &str, subject: &Reference, list: &Expression) -> Result<SpanPredicate, String> {
        let Some(Term::List(List { values, r#type })) = &list.term else {
            return Err(format!("filter: operator {op:?} takes a list as its second operand"));
        };
        if values.is_empty() {
            return Err(format!("filter: operator {op:?} takes a list of at least one element"));
        }
        self.count(values.len())?;
        let values = values.iter().map(|value| constant_beside(op, Some(subject), value, r#type));
        let values = values.collect::<Result<_, _>>()?;
        let subject = subject.value.clone();
        Ok(match op {
            "in" => SpanPredicate::In { subject, values },
            _ => SpanPredicate::NotIn { subject, values },
        })
    }
}

fn comparison_of(op: &str) -> Option<Comparison> {
    Some(match op {
        "eq" => Comparison::Eq,
        "ne" => Comparison::Ne,
        "gt" => Comparison::Gt,
        "lt" => Comparison::Lt,
        "gte" => Comparison::Gte,
        "lte" => Comparison::Lte,
        _ => return None,
    })
}

fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Gt => Comparison::Lt,
        Comparison::Lt => Comparison::Gt,
        Comparison::Gte => Comparison::Lte,
        Comparison::Lte => Comparison::Gte,
        same => same,
    }
}

fn compare(op: &str, comparison: Comparison, left: &Expression, right: &Expression) -> Result<SpanPredicate, String> {
    let is_ordered = !matches!(comparison, Comparison::Eq | Comparison::Ne);
    let (left_reference, right_reference) = (reference(left)?, reference(right)?);
    if let (Some(left), Some(right)) = (&left_reference, &right_reference)
        && let (Some(a), Some(b)) = (left.field, right.field)
        && a.domain() != b.domain()
    {
        return Err(format!(
            "filter: operator {op:?} compares {} with {}, another kind of value",
            left.name, right.name
        ));
    }
    for reference in [&left_reference, &right_reference].into_iter().flatten() {
        if is_ordered && reference.field.is_some_and(|field| !field.has_order()) {
            return Err(format!("filter: operator {op:?}: {} has no order", reference.name));
        }
    }
    let constant = |expression: &Expression, other: Option<&Reference>| match &expression.term {
        Some(Term::Scalar(Scalar { r#type, .. })) if is_ordered && r#type == "bool" => {
            Err(format!("filter: operator {op:?}: truth values have no order"))
        }
        Some(Term::Scalar(Scalar { value, r#type })) => {
            constant_beside(op, other, value, r#type).map(SpanOperand::Constant)
        }
        _ => Err(format!("filter: operator {op:?} compares references and constants")),
    };
    Ok(match (left_reference, right_reference) {
        (Some(left), Some(right)) => SpanPredicate::Compare {
            left: SpanOperand::Reference(left.value),
            comparison,
            right: SpanOperand::Reference(right.value),
        },
        (Some(left), None) => {
            let right = constant(right, Some(&left))?;
            SpanPredicate::Compare { left: SpanOperand::Reference(left.value), comparison, right }
        }
        // The reference comes first, whichever way it was written: what follows knows one form.
        (None, Some(right)) => {
            let left = constant(left, Some(&right))?;
            let comparison = turned(comparison);
            SpanPredicate::Compare { left: SpanOperand::Reference(right.value), comparison, right: left }
        }
        (None, None) => {
            SpanPredicate::Compare { left: constant(left, None)?, comparison, right: constant(right, None)? }
        }
    })
}

/// A constant as what it stands beside holds.
fn constant_beside(
    op: &str,
    subject: Option<&Reference>,
    text: &str,
    declared: &str,
) -> Result<pharos_storage::SpanConstant, String> {
    let typed = typed_value(text, declared).map_err(|problem| format!("filter: constant {text:?}: {problem}"))?;
    let Some((field, name)) = subject.and_then(|subject| Some((subject.field?, &subject.name))) else {
        return Ok(typed);
    };
    if !declared.is_empty() && Domain::of_declared(declared) != field.domain() {
        return Err(format!("filter: operator {op:?} compares {name} with a constant of type {declared:?}"));
    }
    field_value(field, text).map_err(|problem| format!("filter: {name} beside {text:?}: {problem}"))
}

fn matches(subject: Reference, pattern: &Expression, patterns: &mut SearchPatterns) -> Result<SpanPredicate, String> {
    if matches!(subject.field, Some(FieldType::Duration | FieldType::Time)) {
        return Err(format!("filter: operator \"regex\" matches text, which {} is not", subject.name));
    }
    let Some(Term::Scalar(Scalar { value, r#type })) = &pattern.term else {
        return Err("filter: operator \"regex\" takes a constant as its second operand".to_owned());
    };
    if !["", "string"].contains(&r#type.as_str()) {
        return Err(format!("filter: operator \"regex\" takes a string, not a constant of type {type:?}"));
    }
    let pattern = patterns.compile(|| SearchPattern::new(value));
    let pattern = pattern.map_err(|error| format!("filter: operator \"regex\": {error}"))?;
    Ok(SpanPredicate::Matches { subject: subject.value, pattern })
}

fn call_in<'a>(op: &str, arg: &'a Expression) -> Result<&'a Call, String> {
    match &arg.term {
        Some(Term::Call(call)) => Ok(call),
        _ => Err(format!("filter: operator {op:?} takes a condition here")),
    }
}

fn collection_in(arg: &Expression) -> Result<SpanCollection, String> {
    let Some(Term::Nested(nested)) = &arg.term else {
        return Err("filter: operator \"some\" takes a collection as its first operand".to_owned());
    };
    match nested.level.as_str() {
        "event" => Ok(SpanCollection::Events),
        "link" => Ok(SpanCollection::Links),
        other => Err(format!("filter: operator \"some\" goes through \"event\" or \"link\", not {other:?}")),
    }
}

fn reference_in(op: &str, arg: &Expression) -> Result<Reference, String> {
    reference(arg)?.ok_or_else(|| format!("filter: operator {op:?} takes an attribute or a field as its first operand"))
}

/// `None` if it is something else.
fn reference(expression: &Expression) -> Result<Option<Reference>, String> {
    match &expression.term {
        Some(Term::Attr(AttributeReference { key, level })) => {
            if key.is_empty() {
                return Err("filter: an attribute without a key".to_owned());
            }
            let level = match level.as_str() {
                "" => None,
                named => Some(level_of(named).ok_or_else(|| format!("filter: unknown level {named:?}"))?),
            };
            let value = SpanReference::Attribute { level, key: key.clone() };
            Ok(Some(Reference { value, field: None, name: format!("attribute {key:?}") }))
        }
        Some(Term::Field(FieldReference { name, level })) => {
            let name = format!("{level}.{name}");
            let (field, holds) = field_of(&name).ok_or_else(|| format!("filter: there is no field {name:?}"))?;
            Ok(Some(Reference { value: SpanReference::Field(field), field: Some(holds), name }))
        }
        Some(Term::Nested(_)) => Err("filter: a collection is only the first operand of \"some\"".to_owned()),
        None => Err("filter: an operand is missing".to_owned()),
        _ => Ok(None),
    }
}
