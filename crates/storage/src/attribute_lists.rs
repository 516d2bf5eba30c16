//! Lists of attribute keys and of values, for completion: what is asked, what is answered, and what it means.
//!
//! Rules
//! - L1 With a predicate, a list has exactly what is on spans that start in the range and pass; of events and links what is
//!   on any of such a span.
//! - L2 Without one it is the catalogue of days: it has at least what is on spans that start in the range, and nothing that
//!   is on no span of the UTC days that the range touches. What deleted traces alone had may stay in it.
//! - L3 Keys longer than [`LISTED_KEY_BYTES_MAX`] and values longer than [`LISTED_VALUE_BYTES_MAX`] are in no list.
//! - L4 A list never has more entries than asked for. Where it lacks some, because there are more or because the store ends
//!   its search at a limit of its own, `is_complete` is false; what it has is right all the same.

use pharos_model::{AttributeValue, Attributes, NS_PER_DAY, Resource, Scope, Span, TimeRangeNs};

use crate::{AttributeLevel, SpanField, SpanPredicate, SpanReference, StorageError, render_attribute_value};

/// Longest key that is listed, bytes.
pub const LISTED_KEY_BYTES_MAX: usize = 200;
/// Longest value that is listed, bytes: nobody chooses a longer one from a list.
pub const LISTED_VALUE_BYTES_MAX: usize = 1024;

/// Which keys to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeKeyQuery {
    /// Of attributes there; without it of all.
    pub level: Option<AttributeLevel>,
    /// The span starts in it.
    pub range: TimeRangeNs,
    /// The span passes.
    pub predicate: Option<SpanPredicate>,
    /// At most this many.
    pub limit: usize,
}

/// A key of attributes and where they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeKey {
    /// Where.
    pub level: AttributeLevel,
    /// The key.
    pub key: String,
}

/// Which values to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueQuery {
    /// Whose: attributes with a key, or one of the fields of [`ValueQuery::check`].
    pub of: SpanReference,
    /// The span starts in it.
    pub range: TimeRangeNs,
    /// The span passes.
    pub predicate: Option<SpanPredicate>,
    /// At most this many.
    pub limit: usize,
}

impl ValueQuery {
    /// Whether values of it can be listed: of attributes, and of the names of services, spans, events and scopes, the
    /// versions of scopes and the messages of statuses.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for all other fields: ids, times and what has a fixed set of words.
    pub fn check(&self) -> Result<(), StorageError> {
        match &self.of {
            SpanReference::Attribute { .. }
            | SpanReference::Field(
                SpanField::Service
                | SpanField::Name
                | SpanField::EventName
                | SpanField::ScopeName
                | SpanField::ScopeVersion
                | SpanField::StatusMessage,
            ) => Ok(()),
            SpanReference::Field(field) => {
                Err(StorageError::Unsupported { what: format!("a list of values of {field:?}") })
            }
        }
    }
}

/// What a listed value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum ListedType {
    Text,
    Bool,
    Int,
    Double,
    /// Bytes, arrays, maps and what is empty.
    Other,
}

impl ListedType {
    /// The type of a value.
    #[must_use]
    pub fn of(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::String(_) => Self::Text,
            AttributeValue::Bool(_) => Self::Bool,
            AttributeValue::Int(_) => Self::Int,
            AttributeValue::Double(_) => Self::Double,
            AttributeValue::Empty | AttributeValue::Bytes(_) | AttributeValue::Array(_) | AttributeValue::Map(_) => {
                Self::Other
            }
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedValue {
    /// As Jaeger shows it.
    pub text: String,
    /// Its type.
    pub value_type: ListedType,
}

/// A list, ascending, each entry once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What was found.
    pub entries: Vec<T>,
    /// Whether nothing is left out (rule L4).
    pub is_complete: bool,
}

/// `range` widened to whole UTC days (rule L2).
#[must_use]
pub fn whole_days(range: TimeRangeNs) -> TimeRangeNs {
    let start_ns = range.start_ns - range.start_ns % NS_PER_DAY;
    TimeRangeNs { start_ns, end_ns: range.end_ns.checked_next_multiple_of(NS_PER_DAY).unwrap_or(u64::MAX) }
}

/// Hands over every key of a span's attributes at a level, or at all: perhaps some twice, long ones too.
pub fn visit_attribute_keys(
    level: Option<AttributeLevel>,
    (resource, scope, span): (&Resource, &Scope, &Span),
    mut visit: impl FnMut(AttributeLevel, &str),
) {
    visit_attributes(
        |of| level.is_none_or(|level| level == of),
        (resource, scope, span),
        |level, attributes| {
            for attribute in attributes {
                visit(level, &attribute.key);
            }
        },
    );
}

/// Hands over every value that a span has of a reference which [`ValueQuery::check`] allows: perhaps some twice, long ones
/// too.
pub fn visit_listed_values(
    of: &SpanReference,
    (resource, scope, span): (&Resource, &Scope, &Span),
    mut visit: impl FnMut(ListedType, &str),
) {
    let present = |text: &str, visit: &mut dyn FnMut(ListedType, &str)| {
        if !text.is_empty() {
            visit(ListedType::Text, text);
        }
    };
    match of {
        SpanReference::Attribute { level, key } => {
            visit_attributes(
                |of| is_meant(*level, of),
                (resource, scope, span),
                |_, attributes| {
                    for attribute in attributes.iter().filter(|attribute| attribute.key == *key) {
                        visit(ListedType::of(&attribute.value), &render_attribute_value(&attribute.value));
                    }
                },
            );
        }
        SpanReference::Field(field) => match field {
            SpanField::Service => visit(ListedType::Text, resource.service_name()),
            SpanField::Name => visit(ListedType::Text, &span.name),
            SpanField::EventName => span.events.iter().for_each(|event| visit(ListedType::Text, &event.name)),
            SpanField::ScopeName => present(&scope.name, &mut visit),
            SpanField::ScopeVersion => present(&scope.version, &mut visit),
            SpanField::StatusMessage => present(&span.status.message, &mut visit),
            _ => {}
        },
    }
}

/// Whether attributes at `of` are meant by a reference at `level`: without one those of the span and of its resource are.
#[must_use]
pub fn is_meant(level: Option<AttributeLevel>, of: AttributeLevel) -> bool {
    level.map_or(matches!(of, AttributeLevel::Span | AttributeLevel::Resource), |level| level == of)
}

fn visit_attributes(
    is_wanted: impl Fn(AttributeLevel) -> bool,
    (resource, scope, span): (&Resource, &Scope, &Span),
    mut visit: impl FnMut(AttributeLevel, &Attributes),
) {
    let mut visit = |level, attributes: &Attributes| {
        if is_wanted(level) {
            visit(level, attributes);
        }
    };
    visit(AttributeLevel::Span, &span.attributes);
    visit(AttributeLevel::Resource, &resource.attributes);
    visit(AttributeLevel::Scope, &scope.attributes);
    span.events.iter().for_each(|event| visit(AttributeLevel::Event, &event.attributes));
    span.links.iter().for_each(|link| visit(AttributeLevel::Link, &link.attributes));
}
