//! Traces in the JSON of OTLP, which API v3 speaks: everything a span has, in its types.
//!
//! Ids are lower-case hexadecimal, enumerations and 32-bit integers numbers, 64-bit integers strings; members
//! with default values are left out, as protobuf's JSON does.

use pharos_model::{Attribute, AttributeValue, Link, Span, SpanEvent, SpanGroup, SpanKind, StatusCode};
use pharos_storage::{Trace, render_attribute_value};
use serde_json::{Map, Value, json};

/// `{"resourceSpans":[…]}` of traces.
pub(crate) fn traces_data(traces: &[Trace]) -> Value {
    let groups = traces.iter().flat_map(|trace| &trace.groups);
    json!({"resourceSpans": groups.map(resource_spans).collect::<Vec<_>>()})
}

/// An object whose default members are left out.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn text(mut self, key: &str, text: &str) -> Self {
        if !text.is_empty() {
            self.0.insert(key.to_owned(), text.into());
        }
        self
    }

    fn number(mut self, key: &str, number: u32) -> Self {
        if number != 0 {
            self.0.insert(key.to_owned(), number.into());
        }
        self
    }

    fn nanoseconds(mut self, key: &str, ns: u64) -> Self {
        if ns != 0 {
            self.0.insert(key.to_owned(), ns.to_string().into());
        }
        self
    }

    fn list<T>(mut self, key: &str, items: &[T], one: impl Fn(&T) -> Value) -> Self {
        if !items.is_empty() {
            self.0.insert(key.to_owned(), items.iter().map(one).collect());
        }
        self
    }

    fn member(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    fn build(self) -> Value {
        Value::Object(self.0)
    }
}

fn resource_spans(group: &SpanGroup) -> Value {
    let (resource, scope) = (&group.resource, &group.scope);
    let resource_json = Object::default()
        .list("attributes", &resource.attributes, key_value)
        .number("droppedAttributesCount", resource.dropped_attributes_count);
    let scope_json = Object::default()
        .text("name", &scope.name)
        .text("version", &scope.version)
        .list("attributes", &scope.attributes, key_value)
        .number("droppedAttributesCount", scope.dropped_attributes_count);
    let scope_spans = Object::default()
        .member("scope", scope_json.build())
        .list("spans", &group.spans, span)
        .text("schemaUrl", &scope.schema_url);
    Object::default()
        .member("resource", resource_json.build())
        .member("scopeSpans", json!([scope_spans.build()]))
        .text("schemaUrl", &resource.schema_url)
        .build()
}

fn span(span: &Span) -> Value {
    let parent = if span.parent_span_id.is_zero() { String::new() } else { span.parent_span_id.to_string() };
    let status =
        Object::default().text("message", &span.status.message).number("code", status_number(span.status.code));
    Object::default()
        .text("traceId", &span.trace_id.to_string())
        .text("spanId", &span.span_id.to_string())
        .text("traceState", &span.trace_state)
        .text("parentSpanId", &parent)
        .number("flags", span.flags)
        .text("name", &span.name)
        .number("kind", kind_number(span.kind))
        .nanoseconds("startTimeUnixNano", span.start_ns)
        .nanoseconds("endTimeUnixNano", span.end_ns)
        .list("attributes", &span.attributes, key_value)
        .number("droppedAttributesCount", span.dropped_attributes_count)
        .list("events", &span.events, event)
        .number("droppedEventsCount", span.dropped_events_count)
        .list("links", &span.links, link)
        .number("droppedLinksCount", span.dropped_links_count)
        .member("status", status.build())
        .build()
}

fn event(event: &SpanEvent) -> Value {
    Object::default()
        .nanoseconds("timeUnixNano", event.time_ns)
        .text("name", &event.name)
        .list("attributes", &event.attributes, key_value)
        .number("droppedAttributesCount", event.dropped_attributes_count)
        .build()
}

fn link(link: &Link) -> Value {
    Object::default()
        .text("traceId", &link.trace_id.to_string())
        .text("spanId", &link.span_id.to_string())
        .text("traceState", &link.trace_state)
        .list("attributes", &link.attributes, key_value)
        .number("droppedAttributesCount", link.dropped_attributes_count)
        .number("flags", link.flags)
        .build()
}

fn key_value(attribute: &Attribute) -> Value {
    json!({"key": attribute.key, "value": any_value(&attribute.value)})
}

fn any_value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Empty => json!({}),
        AttributeValue::String(text) => json!({"stringValue": text}),
        AttributeValue::Bool(truth) => json!({"boolValue": truth}),
        AttributeValue::Int(number) => json!({"intValue": number.to_string()}),
        AttributeValue::Double(number) if number.is_finite() => json!({"doubleValue": number}),
        AttributeValue::Double(number) => json!({"doubleValue": non_finite(*number)}),
        AttributeValue::Bytes(_) => json!({"bytesValue": render_attribute_value(value)}),
        AttributeValue::Array(values) => {
            json!({"arrayValue": {"values": values.iter().map(any_value).collect::<Vec<_>>()}})
        }
        AttributeValue::Map(members) => {
            json!({"kvlistValue": {"values": members.iter().map(key_value).collect::<Vec<_>>()}})
        }
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
