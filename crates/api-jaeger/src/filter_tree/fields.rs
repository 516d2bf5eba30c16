//! The levels and fields a filter may name.

use pharos_storage::{AttributeLevel, SpanField};

use super::values::Domain;

/// All levels, as capabilities name them.
pub(crate) const LEVELS: [&str; 5] = ["span", "resource", "scope", "event", "link"];

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldType {
    Text,
    Duration,
    Time,
    Kind,
    Status,
}

impl FieldType {
    pub(super) fn domain(self) -> Domain {
        match self {
            Self::Text | Self::Kind | Self::Status => Domain::Text,
            Self::Duration => Domain::Duration,
            Self::Time => Domain::Time,
        }
    }

    /// Which kinds come after `server` is no question about kinds.
    pub(super) fn has_order(self) -> bool {
        !matches!(self, Self::Kind | Self::Status)
    }
}

pub(super) fn level_of(word: &str) -> Option<AttributeLevel> {
    Some(match word {
        "span" => AttributeLevel::Span,
        "resource" => AttributeLevel::Resource,
        "scope" => AttributeLevel::Scope,
        "event" => AttributeLevel::Event,
        "link" => AttributeLevel::Link,
        _ => return None,
    })
}

/// The field of a name such as `span.duration`.
pub(super) fn field_of(name: &str) -> Option<(SpanField, FieldType)> {
    use FieldType::{Duration, Kind, Status, Text, Time};
    Some(match name {
        "span.traceID" => (SpanField::TraceId, Text),
        "span.spanID" => (SpanField::SpanId, Text),
        "span.parentSpanID" => (SpanField::ParentSpanId, Text),
        "span.traceState" => (SpanField::TraceState, Text),
        "span.name" => (SpanField::Name, Text),
        "span.kind" => (SpanField::Kind, Kind),
        "span.startTime" => (SpanField::Start, Time),
        "span.endTime" => (SpanField::End, Time),
        "span.status" => (SpanField::Status, Status),
        "span.statusMessage" => (SpanField::StatusMessage, Text),
        "span.duration" => (SpanField::Duration, Duration),
        "resource.service" => (SpanField::Service, Text),
        "resource.schemaURL" => (SpanField::ResourceSchemaUrl, Text),
        "scope.name" => (SpanField::ScopeName, Text),
        "scope.version" => (SpanField::ScopeVersion, Text),
        "scope.schemaURL" => (SpanField::ScopeSchemaUrl, Text),
        "event.name" => (SpanField::EventName, Text),
        "event.time" => (SpanField::EventTime, Time),
        "event.timeSinceStart" => (SpanField::EventTimeSinceStart, Duration),
        "link.traceID" => (SpanField::LinkTraceId, Text),
        "link.spanID" => (SpanField::LinkSpanId, Text),
        "link.traceState" => (SpanField::LinkTraceState, Text),
        _ => return None,
    })
}
