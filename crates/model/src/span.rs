//! Spans as OpenTelemetry defines them, complete: what came in goes out again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: expected up to {digits} hexadecimal digits")]
pub struct UnknownId {
    text: String,
    what: &'static str,
    digits: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Whether all bytes are zero, which OpenTelemetry calls invalid.
            #[must_use]
            pub fn is_zero(self) -> bool {
                self.0 == [0; $bytes]
            }

            /// Its hexadecimal digits, lower case.
            #[must_use]
            pub fn digits(self) -> [u8; 2 * $bytes] {
                let mut digits = [0; 2 * $bytes];
                // The lengths fit, so that there is nothing to go wrong.
                let _ = hex::encode_to_slice(self.0, &mut digits);
                digits
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Answers are full of ids: all digits at once cost a tenth of one write a byte.
                f.write_str(std::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = UnknownId;

            /// Hexadecimal of either case; shorter forms are padded with zeros on the left, as Jaeger does.
            fn from_str(text: &str) -> Result<Self, UnknownId> {
                let fail = || UnknownId { text: text.chars().take(64).collect(), what: $what, digits: 2 * $bytes };
                if text.is_empty() || text.len() > 2 * $bytes || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(fail());
                }
                let mut id = [0; $bytes];
                hex::decode_to_slice(format!("{text:0>width$}", width = 2 * $bytes), &mut id).map_err(|_| fail())?;
                Ok(Self(id))
            }
        }
    };
}

id!(
    /// Identifies a trace: 16 bytes.
    TraceId, 16, "trace id"
);
id!(
    /// Identifies a span within its trace: 8 bytes.
    SpanId, 8, "span id"
);

/// An attribute's value with its type.
#[derive(Debug, Clone, Default)]
pub enum AttributeValue {
    /// Present, without a value.
    #[default]
    Empty,
    /// Text.
    String(String),
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    Array(Vec<AttributeValue>),
    /// Named values in order.
    Map(Attributes),
}

impl PartialEq for AttributeValue {
    /// Doubles are compared by bits.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// The key.
    pub key: String,
    /// The value.
    pub value: AttributeValue,
}

/// Attributes in the order they were sent.
pub type Attributes = Vec<Attribute>;

/// What produced the telemetry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// `service.name` and friends.
    pub attributes: Attributes,
    /// Attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// The schema of the attributes, possibly empty.
    pub schema_url: String,
}

impl Resource {
    /// The text of `service.name`; OpenTelemetry's `unknown_service` where it is missing or no text.
    #[must_use]
    pub fn service_name(&self) -> &str {
        match self.attributes.iter().find(|attribute| attribute.key == "service.name").map(|found| &found.value) {
            Some(AttributeValue::String(name)) if !name.is_empty() => name,
            _ => "unknown_service",
        }
    }
}

/// The instrumenting library.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// The schema of the spans' attributes, possibly empty.
    pub schema_url: String,
}

/// The role of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum SpanKind {
    #[default]
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the words of OpenTelemetry")]
pub enum StatusCode {
    #[default]
    Unset,
    Ok,
    Error,
}

/// Status code and message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpanStatus {
    /// How it ended.
    pub code: StatusCode,
    /// In words, possibly empty.
    pub message: String,
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanEvent {
    /// When, Unix nanoseconds.
    pub time_ns: u64,
    /// What.
    pub name: String,
    /// Details.
    pub attributes: Attributes,
    /// Attributes the sender left out.
    pub dropped_attributes_count: u32,
}

/// A pointer to a span of this or another trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Link {
    /// The other span's trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// Details.
    pub attributes: Attributes,
    /// Attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// W3C trace flags and OpenTelemetry's upper bits.
    pub flags: u32,
}

/// One timed operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// The span it is part of; zero for a root.
    pub parent_span_id: SpanId,
    /// W3C trace flags and OpenTelemetry's upper bits.
    pub flags: u32,
    /// The operation.
    pub name: String,
    /// Its role.
    pub kind: SpanKind,
    /// When it began, Unix nanoseconds.
    pub start_ns: u64,
    /// When it ended, Unix nanoseconds; may lie before the start where clocks are broken.
    pub end_ns: u64,
    /// Details.
    pub attributes: Attributes,
    /// Attributes the sender left out.
    pub dropped_attributes_count: u32,
    /// What happened during it.
    pub events: Vec<SpanEvent>,
    /// Events the sender left out.
    pub dropped_events_count: u32,
    /// Related spans.
    pub links: Vec<Link>,
    /// Links the sender left out.
    pub dropped_links_count: u32,
    /// How it ended.
    pub status: SpanStatus,
}

impl Span {
    /// End minus start, 0 where the end lies before the start.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Bytes it takes in memory, about: what budgets count.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Self { trace_state, name, attributes, events, links, status, .. } = self;
        let of_events = events.iter().map(|event| event.name.len() + memory_of(&event.attributes));
        let of_links = links.iter().map(|link| link.trace_state.len() + memory_of(&link.attributes));
        size_of::<Self>()
            + trace_state.len()
            + name.len()
            + status.message.len()
            + memory_of(attributes)
            + size_of_val(events.as_slice())
            + of_events.sum::<usize>()
            + size_of_val(links.as_slice())
            + of_links.sum::<usize>()
    }
}

/// What attributes take beside the list itself.
fn memory_of(attributes: &[Attribute]) -> usize {
    let of_attribute =
        |Attribute { key, value }: &Attribute| size_of::<Attribute>() + key.len() + value.content_bytes();
    attributes.iter().map(of_attribute).sum()
}

impl AttributeValue {
    /// What it takes in memory beside itself.
    fn content_bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Bool(_) | Self::Int(_) | Self::Double(_) => 0,
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Array(values) => values.iter().map(|value| size_of::<Self>() + value.content_bytes()).sum(),
            Self::Map(attributes) => memory_of(attributes),
        }
    }
}

/// Spans that share resource and scope.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanGroup {
    /// What produced them.
    pub resource: Arc<Resource>,
    /// The instrumenting library.
    pub scope: Arc<Scope>,
    /// The spans, in the order they were sent.
    pub spans: Vec<Span>,
}

/// The spans of one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanBatch {
    /// Groups in the order they were sent.
    pub groups: Vec<SpanGroup>,
}

impl SpanBatch {
    /// How many spans there are.
    #[must_use]
    pub fn span_count(&self) -> usize {
        self.groups.iter().map(|group| group.spans.len()).sum()
    }

    /// Whether there is no span.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.spans.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_trace_ids_are_padded_on_the_left() {
        let id: TraceId = "Ab1".parse().unwrap();
        assert_eq!(id.to_string(), "00000000000000000000000000000ab1");
        assert_eq!(id.digits(), *b"00000000000000000000000000000ab1");
        for wrong in ["", "xyz", "+1", &"0".repeat(33)] {
            assert!(wrong.parse::<TraceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_span_that_ends_before_it_starts_has_no_duration() {
        assert_eq!(Span { start_ns: 10, end_ns: 4, ..Span::default() }.duration_ns(), 0);
    }
}
