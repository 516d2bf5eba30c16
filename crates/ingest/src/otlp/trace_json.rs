//! Traces in the JSON of OTLP, which Jaeger's API v3 and Tempo's API speak: everything a span has, in its types.
//!
//! Ids are lower-case hexadecimal, enumerations and 32-bit integers numbers, 64-bit integers strings; members
//! with default values are left out, as protobuf's JSON does.

use pharos_model::{
    Attribute, AttributeValue, Link, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, SpanKind, SpanStatus,
    StatusCode,
};
use pharos_storage::render_attribute_value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Something of a trace, to be serialized as OTLP's JSON has it.
#[derive(Debug, Clone, Copy)]
pub struct Otlp<'a, T>(pub &'a T);

/// Several of them.
struct List<'a, T>(&'a [T]);

/// An object whose default members are left out.
struct Object<M>(M);

impl<M: SerializeMap> Object<M> {
    fn text(&mut self, key: &'static str, text: &str) -> Result<(), M::Error> {
        if text.is_empty() { Ok(()) } else { self.member(key, text) }
    }

    fn number(&mut self, key: &'static str, number: u32) -> Result<(), M::Error> {
        if number == 0 { Ok(()) } else { self.member(key, &number) }
    }

    fn nanoseconds(&mut self, key: &'static str, ns: u64) -> Result<(), M::Error> {
        if ns == 0 { Ok(()) } else { self.member(key, &ns.to_string()) }
    }

    fn list<'a, T>(&mut self, key: &'static str, items: &'a [T]) -> Result<(), M::Error>
    where
        Otlp<'a, T>: Serialize,
    {
        if items.is_empty() { Ok(()) } else { self.member(key, &List(items)) }
    }

    fn member(&mut self, key: &'static str, value: &(impl Serialize + ?Sized)) -> Result<(), M::Error> {
        self.0.serialize_entry(key, value)
    }
}

/// Writes an object.
fn object<S: Serializer>(
    serializer: S,
    members: impl FnOnce(&mut Object<S::SerializeMap>) -> Result<(), S::Error>,
) -> Result<S::Ok, S::Error> {
    let mut object = Object(serializer.serialize_map(None)?);
    members(&mut object)?;
    object.0.end()
}

/// Writes an object with one member, whatever its value.
fn single<S: Serializer>(
    serializer: S,
    key: &'static str,
    value: &(impl Serialize + ?Sized),
) -> Result<S::Ok, S::Error> {
    object(serializer, |object| object.member(key, value))
}

impl<'a, T> Serialize for List<'a, T>
where
    Otlp<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items: &'a [T] = self.0;
        serializer.collect_seq(items.iter().map(Otlp))
    }
}

impl Serialize for Otlp<'_, SpanGroup> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.member("resource", &Otlp(self.0.resource.as_ref()))?;
            object.member("scopeSpans", &[ScopeSpans(self.0)])?;
            object.text("schemaUrl", &self.0.resource.schema_url)
        })
    }
}

impl Serialize for Otlp<'_, Resource> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.list("attributes", &self.0.attributes)?;
            object.number("droppedAttributesCount", self.0.dropped_attributes_count)
        })
    }
}

/// The spans of a group; a group has one scope.
struct ScopeSpans<'a>(&'a SpanGroup);

impl Serialize for ScopeSpans<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.member("scope", &Otlp(self.0.scope.as_ref()))?;
            object.list("spans", &self.0.spans)?;
            object.text("schemaUrl", &self.0.scope.schema_url)
        })
    }
}

impl Serialize for Otlp<'_, Scope> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.text("name", &self.0.name)?;
            object.text("version", &self.0.version)?;
            object.list("attributes", &self.0.attributes)?;
            object.number("droppedAttributesCount", self.0.dropped_attributes_count)
        })
    }
}

impl Serialize for Otlp<'_, Span> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.0;
        object(serializer, |object| {
            object.text("traceId", &span.trace_id.to_string())?;
            object.text("spanId", &span.span_id.to_string())?;
            object.text("traceState", &span.trace_state)?;
            object.text("parentSpanId", &parent(span.parent_span_id))?;
            object.number("flags", span.flags)?;
            object.text("name", &span.name)?;
            object.number("kind", kind_number(span.kind))?;
            object.nanoseconds("startTimeUnixNano", span.start_ns)?;
            object.nanoseconds("endTimeUnixNano", span.end_ns)?;
            object.list("attributes", &span.attributes)?;
            object.number("droppedAttributesCount", span.dropped_attributes_count)?;
            object.list("events", &span.events)?;
            object.number("droppedEventsCount", span.dropped_events_count)?;
            object.list("links", &span.links)?;
            object.number("droppedLinksCount", span.dropped_links_count)?;
            object.member("status", &Otlp(&span.status))
        })
    }
}

/// The parent's id; empty for a root.
fn parent(id: SpanId) -> String {
    if id.is_zero() { String::new() } else { id.to_string() }
}

impl Serialize for Otlp<'_, SpanStatus> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.text("message", &self.0.message)?;
            object.number("code", status_number(self.0.code))
        })
    }
}

impl Serialize for Otlp<'_, SpanEvent> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.nanoseconds("timeUnixNano", self.0.time_ns)?;
            object.text("name", &self.0.name)?;
            object.list("attributes", &self.0.attributes)?;
            object.number("droppedAttributesCount", self.0.dropped_attributes_count)
        })
    }
}

impl Serialize for Otlp<'_, Link> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.text("traceId", &self.0.trace_id.to_string())?;
            object.text("spanId", &self.0.span_id.to_string())?;
            object.text("traceState", &self.0.trace_state)?;
            object.list("attributes", &self.0.attributes)?;
            object.number("droppedAttributesCount", self.0.dropped_attributes_count)?;
            object.number("flags", self.0.flags)
        })
    }
}

impl Serialize for Otlp<'_, Attribute> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(serializer, |object| {
            object.member("key", &self.0.key)?;
            object.member("value", &Otlp(&self.0.value))
        })
    }
}

impl Serialize for Otlp<'_, AttributeValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            AttributeValue::Empty => object(serializer, |_| Ok(())),
            AttributeValue::String(text) => single(serializer, "stringValue", text),
            AttributeValue::Bool(truth) => single(serializer, "boolValue", truth),
            AttributeValue::Int(number) => single(serializer, "intValue", &number.to_string()),
            AttributeValue::Double(number) if number.is_finite() => single(serializer, "doubleValue", number),
            AttributeValue::Double(number) => single(serializer, "doubleValue", non_finite(*number)),
            AttributeValue::Bytes(_) => single(serializer, "bytesValue", render_attribute_value(self.0).as_ref()),
            AttributeValue::Array(values) => single(serializer, "arrayValue", &Values(values.as_slice())),
            AttributeValue::Map(members) => single(serializer, "kvlistValue", &Values(members.as_slice())),
        }
    }
}

/// `{"values":[…]}`, also of none.
struct Values<'a, T>(&'a [T]);

impl<'a, T> Serialize for Values<'a, T>
where
    Otlp<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        single(serializer, "values", &List(self.0))
    }
}

/// Protobuf's JSON words for doubles that JSON cannot write.
fn non_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn kind_number(kind: SpanKind) -> u32 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn status_number(code: StatusCode) -> u32 {
    match code {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    }
}
