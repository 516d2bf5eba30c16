//! Whether a predicate holds for a span: rules F1 to F3.

use pharos_model::{Attributes, Link, Resource, Scope, Span, SpanEvent, SpanKind, StatusCode};

use super::value::Value;
use super::{
    AttributeLevel, Comparison, SpanCollection, SpanConstant, SpanField, SpanOperand, SpanPredicate, SpanReference,
};
use crate::span_kind_name;

/// Whether `predicate` holds for `span`.
#[must_use]
pub fn predicate_holds(predicate: &SpanPredicate, resource: &Resource, scope: &Scope, span: &Span) -> bool {
    Place { resource, scope, span, events: &span.events, links: &span.links }.holds(predicate)
}

/// What references are read from: a span with all its events and links, or with those that are bound.
#[derive(Clone, Copy)]
struct Place<'a> {
    resource: &'a Resource,
    scope: &'a Scope,
    span: &'a Span,
    events: &'a [SpanEvent],
    links: &'a [Link],
}

impl<'a> Place<'a> {
    fn holds(self, predicate: &SpanPredicate) -> bool {
        match predicate {
            SpanPredicate::And(all) => all.iter().all(|predicate| self.holds(predicate)),
            SpanPredicate::Or(any) => any.iter().any(|predicate| self.holds(predicate)),
            SpanPredicate::Not(predicate) => !self.holds(predicate),
            SpanPredicate::Exists(reference) => self.any_value(reference, &mut |_| true),
            SpanPredicate::Compare { left, comparison, right } => self.compares(left, *comparison, right),
            SpanPredicate::Matches { subject, pattern } => {
                self.any_value(subject, &mut |value| pattern.is_in(&value.shown()))
            }
            SpanPredicate::In { subject, values } => self.any_value(subject, &mut |value| is_among(value, values)),
            SpanPredicate::NotIn { subject, values } => {
                self.any_value(subject, &mut |_| true) && !self.any_value(subject, &mut |value| is_among(value, values))
            }
            SpanPredicate::Some { of: SpanCollection::Events, predicate } => self
                .span
                .events
                .iter()
                .any(|event| Self { events: std::slice::from_ref(event), ..self }.holds(predicate)),
            SpanPredicate::Some { of: SpanCollection::Links, predicate } => {
                self.span.links.iter().any(|link| Self { links: std::slice::from_ref(link), ..self }.holds(predicate))
            }
        }
    }

    fn compares(self, left: &SpanOperand, comparison: Comparison, right: &SpanOperand) -> bool {
        let any_pair = |comparison| {
            self.any_operand(left, &mut |left| self.any_operand(right, &mut |right| left.compares(comparison, right)))
        };
        match comparison {
            Comparison::Ne => {
                self.any_operand(left, &mut |_| true)
                    && self.any_operand(right, &mut |_| true)
                    && !any_pair(Comparison::Eq)
            }
            _ => any_pair(comparison),
        }
    }

    fn any_operand(self, operand: &SpanOperand, test: &mut dyn FnMut(&Value<'_>) -> bool) -> bool {
        match operand {
            SpanOperand::Reference(reference) => self.any_value(reference, test),
            SpanOperand::Constant(constant) => test(&Value::of_constant(constant)),
        }
    }

    /// Whether the test holds for any value of the reference.
    fn any_value(self, reference: &SpanReference, test: &mut dyn FnMut(&Value<'_>) -> bool) -> bool {
        match reference {
            SpanReference::Attribute { level, key } => self.any_attribute(*level, key, test),
            SpanReference::Field(field) => self.any_field(*field, test),
        }
    }

    fn any_attribute(self, level: Option<AttributeLevel>, key: &str, test: &mut dyn FnMut(&Value<'_>) -> bool) -> bool {
        let mut any_of = |attributes: &'a Attributes| {
            let mut values = attributes.iter().filter(|attribute| attribute.key == key);
            values.any(|attribute| test(&Value::of_attribute(&attribute.value)))
        };
        match level {
            None => any_of(&self.span.attributes) || any_of(&self.resource.attributes),
            Some(AttributeLevel::Span) => any_of(&self.span.attributes),
            Some(AttributeLevel::Resource) => any_of(&self.resource.attributes),
            Some(AttributeLevel::Scope) => any_of(&self.scope.attributes),
            Some(AttributeLevel::Event) => self.events.iter().any(|event| any_of(&event.attributes)),
            Some(AttributeLevel::Link) => self.links.iter().any(|link| any_of(&link.attributes)),
        }
    }

    fn any_field(self, field: SpanField, test: &mut dyn FnMut(&Value<'_>) -> bool) -> bool {
        let Self { resource, scope, span, events, links } = self;
        let start_ns = i128::from(span.start_ns);
        match field {
            SpanField::TraceId => test(&shown(span.trace_id)),
            SpanField::SpanId => test(&shown(span.span_id)),
            SpanField::ParentSpanId => !span.parent_span_id.is_zero() && test(&shown(span.parent_span_id)),
            SpanField::TraceState => test_unless_empty(&span.trace_state, test),
            SpanField::Name => test(&Value::text(&span.name)),
            SpanField::Kind => test(&Value::text(kind_word(span.kind))),
            SpanField::Start => test(&Value::whole(span.start_ns)),
            SpanField::End => test(&Value::whole(span.end_ns)),
            SpanField::Duration => test(&Value::whole(span.duration_ns())),
            SpanField::Status => test(&Value::text(status_word(span.status.code))),
            SpanField::StatusMessage => test_unless_empty(&span.status.message, test),
            SpanField::Service => test(&Value::text(resource.service_name())),
            SpanField::ResourceSchemaUrl => test_unless_empty(&resource.schema_url, test),
            SpanField::ScopeName => test_unless_empty(&scope.name, test),
            SpanField::ScopeVersion => test_unless_empty(&scope.version, test),
            SpanField::ScopeSchemaUrl => test_unless_empty(&scope.schema_url, test),
            SpanField::EventName => events.iter().any(|event| test(&Value::text(&event.name))),
            SpanField::EventTime => events.iter().any(|event| test(&Value::whole(event.time_ns))),
            SpanField::EventTimeSinceStart => {
                events.iter().any(|event| test(&Value::whole(i128::from(event.time_ns) - start_ns)))
            }
            SpanField::LinkTraceId => links.iter().any(|link| test(&shown(link.trace_id))),
            SpanField::LinkSpanId => links.iter().any(|link| test(&shown(link.span_id))),
            SpanField::LinkTraceState => links.iter().any(|link| test_unless_empty(&link.trace_state, test)),
        }
    }
}

fn is_among(value: &Value<'_>, values: &[SpanConstant]) -> bool {
    values.iter().any(|constant| value.equals(&Value::of_constant(constant)))
}

fn shown(id: impl std::fmt::Display) -> Value<'static> {
    Value::Text(id.to_string().into())
}

fn test_unless_empty(text: &str, test: &mut dyn FnMut(&Value<'_>) -> bool) -> bool {
    !text.is_empty() && test(&Value::text(text))
}

/// As predicates name kinds: every kind has a word.
pub(super) fn kind_word(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        named => span_kind_name(named),
    }
}

pub(super) fn status_word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    }
}
