//! What paths of a condition mean, and how values compare.

use std::borrow::Cow;
use std::cmp::Ordering;

use pharos_model::{Attribute, AttributeValue, SpanKind, StatusCode, trace_state_member};
use pharos_storage::render_attribute_value;

use super::Subject;

/// A value of a condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Bool(bool),
    /// Wide enough for instants in nanoseconds.
    Int(i128),
    Double(f64),
    Text(Cow<'a, str>),
    /// An array, a map or bytes: equal to nothing.
    Other(&'a AttributeValue),
}

/// What of a span or event is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    Name,
    EventName,
    Kind,
    KindText,
    StatusCode,
    StatusMessage,
    Start,
    End,
    EventTime,
    Flags,
    TraceId,
    SpanId,
    ParentSpanId,
    TraceState,
    TraceStateMember(String),
    Attribute(String),
    EventAttribute(String),
    ResourceAttribute(String),
    ScopeAttribute(String),
    ScopeName,
    ScopeVersion,
}

impl Path {
    pub(super) fn value<'a>(&'a self, subject: Subject<'a>) -> Value<'a> {
        let Subject { group, span, event } = subject;
        let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
        match self {
            Self::Name => text(&span.name),
            Self::EventName => event.map_or(Value::Nil, |event| text(&event.name)),
            Self::Kind => Value::Int(i128::from(kind_number(span.kind))),
            Self::KindText => text(KINDS[kind_number(span.kind) as usize].1),
            Self::StatusCode => Value::Int(match span.status.code {
                StatusCode::Unset => 0,
                StatusCode::Ok => 1,
                StatusCode::Error => 2,
            }),
            Self::StatusMessage => text(&span.status.message),
            Self::Start => Value::Int(span.start_ns.into()),
            Self::End => Value::Int(span.end_ns.into()),
            Self::EventTime => event.map_or(Value::Nil, |event| Value::Int(event.time_ns.into())),
            Self::Flags => Value::Int(span.flags.into()),
            Self::TraceId => Value::Text(Cow::Owned(span.trace_id.to_string())),
            Self::SpanId => Value::Text(Cow::Owned(span.span_id.to_string())),
            Self::ParentSpanId if span.parent_span_id.is_zero() => text(""),
            Self::ParentSpanId => Value::Text(Cow::Owned(span.parent_span_id.to_string())),
            Self::TraceState => text(&span.trace_state),
            Self::TraceStateMember(key) => text(trace_state_member(&span.trace_state, key).unwrap_or("")),
            Self::Attribute(key) => of(&span.attributes, key),
            Self::EventAttribute(key) => event.map_or(Value::Nil, |event| of(&event.attributes, key)),
            Self::ResourceAttribute(key) => of(&group.resource.attributes, key),
            Self::ScopeAttribute(key) => of(&group.scope.attributes, key),
            Self::ScopeName => text(&group.scope.name),
            Self::ScopeVersion => text(&group.scope.version),
        }
    }
}

/// Kinds as the collector's enumeration names them, and as `kind.string` does.
pub(super) const KINDS: [(&str, &str); 6] = [
    ("SPAN_KIND_UNSPECIFIED", "Unspecified"),
    ("SPAN_KIND_INTERNAL", "Internal"),
    ("SPAN_KIND_SERVER", "Server"),
    ("SPAN_KIND_CLIENT", "Client"),
    ("SPAN_KIND_PRODUCER", "Producer"),
    ("SPAN_KIND_CONSUMER", "Consumer"),
];

fn kind_number(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn of<'a>(attributes: &'a [Attribute], key: &str) -> Value<'a> {
    match attributes.iter().find(|attribute| attribute.key == key).map(|found| &found.value) {
        None | Some(AttributeValue::Empty) => Value::Nil,
        Some(AttributeValue::String(text)) => Value::Text(Cow::Borrowed(text)),
        Some(AttributeValue::Bool(truth)) => Value::Bool(*truth),
        Some(AttributeValue::Int(number)) => Value::Int((*number).into()),
        Some(AttributeValue::Double(number)) => Value::Double(*number),
        Some(other) => Value::Other(other),
    }
}

impl Value<'_> {
    /// `None`: they are of different kinds, or one is no number.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Nil, Self::Nil) => Some(Ordering::Equal),
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(right)),
            (Self::Int(left), Self::Int(right)) => Some(left.cmp(right)),
            (Self::Double(left), Self::Double(right)) => left.partial_cmp(right),
            (Self::Int(left), Self::Double(right)) => (*left as f64).partial_cmp(right),
            (Self::Double(left), Self::Int(right)) => left.partial_cmp(&(*right as f64)),
            (Self::Text(left), Self::Text(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Double(_) | Self::Text(_))
    }

    /// This less the other; `nil` where one is no whole number.
    pub(super) fn less(&self, other: &Self) -> Value<'static> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => Value::Int(left - right),
            _ => Value::Nil,
        }
    }

    /// As text, for patterns; nothing of what is absent.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Nil => None,
            Self::Bool(truth) => Some(Cow::Owned(truth.to_string())),
            Self::Int(number) => Some(Cow::Owned(number.to_string())),
            Self::Double(number) => Some(Cow::Owned(render_attribute_value(&AttributeValue::Double(*number)).into())),
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Other(value) => Some(Cow::Owned(render_attribute_value(value).into())),
        }
    }
}
