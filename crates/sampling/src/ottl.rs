//! Conditions in the OpenTelemetry Transformation Language: the part of it that judges spans and their events.
//!
//! What is read means what it means in the collector; what is not known is refused with its place, never approximated.
//! Values of different kinds are not equal, and neither is less; whole and broken numbers compare as numbers. What is absent is `nil`.
//! `docs/policies.md` lists paths and functions.
//!
//! Source: the grammar of pkg/ottl in opentelemetry-collector-contrib, and its contexts `span` and `spanevent`.

mod parse;
mod value;

use pharos_model::{SearchPattern, Span, SpanEvent, SpanGroup};

use self::value::{Path, Value};
use crate::trace::WaitingTrace;

/// The conditions of one policy: it holds if any of them does for any span, or event.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    of_spans: Vec<Condition>,
    of_events: Vec<Condition>,
}

/// What a condition is asked of.
#[derive(Clone, Copy)]
struct Subject<'a> {
    group: &'a SpanGroup,
    span: &'a Span,
    event: Option<&'a SpanEvent>,
}

#[derive(Debug)]
enum Condition {
    Literal(bool),
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Compare { left: Operand, op: Compare, right: Operand },
    IsMatch { path: Operand, pattern: SearchPattern },
    IsRootSpan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug)]
enum Operand {
    Literal(Value<'static>),
    Path(Path),
    /// The first less the second, both numbers.
    Difference(Box<Operand>, Box<Operand>),
}

impl Conditions {
    /// Reads conditions on spans and on their events.
    pub(crate) fn parse(spans: &[String], events: &[String]) -> Result<Self, String> {
        if spans.is_empty() && events.is_empty() {
            return Err("ottl_condition needs span, spanevent or both".to_owned());
        }
        let read = |texts: &[String], is_event| -> Result<Vec<_>, String> {
            let one = |text: &String| parse::condition(text, is_event).map_err(|fault| format!("{text:?}: {fault}"));
            texts.iter().map(one).collect()
        };
        Ok(Self { of_spans: read(spans, false)?, of_events: read(events, true)? })
    }

    pub(crate) fn hold(&self, trace: &WaitingTrace) -> bool {
        trace.spans().any(|(group, span)| {
            let of = |event| Subject { group, span, event };
            self.of_spans.iter().any(|condition| condition.holds(of(None)))
                || span.events.iter().any(|event| self.of_events.iter().any(|one| one.holds(of(Some(event)))))
        })
    }
}

impl Condition {
    fn holds(&self, subject: Subject<'_>) -> bool {
        match self {
            Self::Literal(holds) => *holds,
            Self::Not(inner) => !inner.holds(subject),
            Self::And(all) => all.iter().all(|one| one.holds(subject)),
            Self::Or(all) => all.iter().any(|one| one.holds(subject)),
            Self::Compare { left, op, right } => op.holds(&left.value(subject), &right.value(subject)),
            Self::IsMatch { path, pattern } => path.value(subject).text().is_some_and(|text| pattern.is_in(&text)),
            Self::IsRootSpan => subject.span.parent_span_id.is_zero(),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, subject: Subject<'a>) -> Value<'a> {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Path(path) => path.value(subject),
            Self::Difference(left, right) => left.value(subject).less(&right.value(subject)),
        }
    }
}

impl Compare {
    fn holds(self, left: &Value<'_>, right: &Value<'_>) -> bool {
        let order = left.compare(right);
        match self {
            Self::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Self::NotEqual => order.is_none_or(std::cmp::Ordering::is_ne),
            // Truth values and `nil` are equal or not, and nothing else.
            _ if !left.is_ordered() => false,
            Self::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Self::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

#[cfg(test)]
mod tests;
