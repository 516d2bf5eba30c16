//! Traces in the JSON of Jaeger's API v1.
//!
//! Source: Jaeger's translation of OTLP to its v1 model. What v1 has no word for is lost here (attributes of
//! scopes and links, trace state of links, dropped counts, schema URLs); API v3 has it all.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use pharos_model::{
    Attribute, AttributeValue, Link, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, StatusCode, TraceId,
};
use pharos_storage::{Trace, render_attribute_value, span_kind_name};
use serde::{Serialize, Serializer};

use crate::adjust::WARNINGS;
use crate::trace_id::short_trace_id;

/// Doubles hold integers exactly up to here, and so does JavaScript.
const EXACT_INTEGER_MAX: i64 = (1 << 53) - 1;
const NS_PER_US: u64 = 1_000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceJson<'a> {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: SpansJson<'a>,
    processes: BTreeMap<String, ProcessJson<'a>>,
    warnings: Option<&'a [String]>,
}

/// The spans of a trace; each is translated when its turn comes to be serialized.
#[derive(Debug)]
struct SpansJson<'a> {
    groups: &'a [SpanGroup],
    /// The number of each group's process.
    processes: Vec<usize>,
}

impl Serialize for SpansJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let groups = self.groups.iter().zip(&self.processes);
        serializer.collect_seq(groups.flat_map(|(group, number)| {
            let process_id = process_id(*number);
            group.spans.iter().map(move |span| span_json(span, &group.scope, &process_id))
        }))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    #[serde(skip_serializing_if = "is_zero")]
    flags: u32,
    operation_name: &'a str,
    references: Vec<ReferenceJson>,
    start_time: u64,
    duration: u64,
    tags: Vec<KeyValueJson<'a>>,
    logs: Vec<LogJson<'a>>,
    #[serde(rename = "processID")]
    process_id: String,
    warnings: Option<Vec<Cow<'a, str>>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferenceJson {
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Serialize)]
struct LogJson<'a> {
    timestamp: u64,
    fields: Vec<KeyValueJson<'a>>,
}

#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessJson<'a> {
    service_name: &'a str,
    tags: Vec<KeyValueJson<'a>>,
}

#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
struct KeyValueJson<'a> {
    key: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    value: ValueJson<'a>,
}

#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
enum ValueJson<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(Double),
}

/// A double; equal are those of the same bits.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
struct Double(f64);

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Double {}

impl Hash for Double {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(flags: &u32) -> bool {
    *flags == 0
}

impl<'a> From<&'a Trace> for TraceJson<'a> {
    fn from(trace: &'a Trace) -> Self {
        // A trace may have as many resources as spans: equal ones are found by hash.
        let mut numbers: HashMap<ProcessJson<'a>, usize> = HashMap::new();
        let number_of = |group: &'a SpanGroup| {
            let next = numbers.len() + 1;
            *numbers.entry(process(&group.resource)).or_insert(next)
        };
        let processes = trace.groups.iter().map(number_of).collect();
        Self {
            trace_id: short_trace_id(trace.trace_id),
            spans: SpansJson { groups: &trace.groups, processes },
            processes: numbers.into_iter().map(|(process, number)| (process_id(number), process)).collect(),
            warnings: (!trace.warnings.is_empty()).then_some(trace.warnings.as_slice()),
        }
    }
}

fn process_id(number: usize) -> String {
    format!("p{number}")
}

fn process(resource: &Resource) -> ProcessJson<'_> {
    let named = resource.attributes.iter().any(|attribute| attribute.key == "service.name");
    let tags = resource.attributes.iter().filter(|attribute| attribute.key != "service.name");
    ProcessJson {
        service_name: if named { resource.service_name() } else { "OTLPResourceNoServiceName" },
        tags: tags.map(key_value).collect(),
    }
}

fn span_json<'a>(span: &'a Span, scope: &'a Scope, process_id: &str) -> SpanJson<'a> {
    let warnings: Vec<_> = span.attributes.iter().filter(|a| is_warning(a)).flat_map(warning_texts).collect();
    SpanJson {
        trace_id: short_trace_id(span.trace_id),
        span_id: span.span_id.to_string(),
        flags: span.flags & 0xff,
        operation_name: &span.name,
        references: references(span),
        start_time: span.start_ns / NS_PER_US,
        duration: span.duration_ns() / NS_PER_US,
        tags: tags(span, scope),
        logs: span.events.iter().map(log).collect(),
        process_id: process_id.to_owned(),
        warnings: (!warnings.is_empty()).then_some(warnings),
    }
}

fn is_warning(attribute: &Attribute) -> bool {
    attribute.key == WARNINGS
}

fn warning_texts(attribute: &Attribute) -> Vec<Cow<'_, str>> {
    match &attribute.value {
        AttributeValue::Array(values) => values.iter().map(render_attribute_value).collect(),
        value => vec![render_attribute_value(value)],
    }
}

fn references(span: &Span) -> Vec<ReferenceJson> {
    let reference = |ref_type, trace_id: TraceId, span_id: SpanId| ReferenceJson {
        ref_type,
        trace_id: short_trace_id(trace_id),
        span_id: span_id.to_string(),
    };
    let is_parent = |link: &Link| link.trace_id == span.trace_id && link.span_id == span.parent_span_id;
    let mut references = Vec::new();
    if !span.parent_span_id.is_zero() {
        let stated = span.links.iter().find(|link| is_parent(link));
        let ref_type = stated.map_or("CHILD_OF", link_type);
        references.push(reference(ref_type, span.trace_id, span.parent_span_id));
    }
    let others = span.links.iter().filter(|link| !is_parent(link));
    references.extend(others.map(|link| reference(link_type(link), link.trace_id, link.span_id)));
    references
}

fn link_type(link: &Link) -> &'static str {
    let is_child = link.attributes.iter().any(|attribute| {
        attribute.key == "opentracing.ref_type" && attribute.value == AttributeValue::String("child_of".to_owned())
    });
    if is_child { "CHILD_OF" } else { "FOLLOWS_FROM" }
}

fn tags<'a>(span: &'a Span, scope: &'a Scope) -> Vec<KeyValueJson<'a>> {
    let mut tags = Vec::with_capacity(span.attributes.len() + 4);
    let push_text = |tags: &mut Vec<_>, key, text: &'a str| {
        if !text.is_empty() {
            tags.push(KeyValueJson { key, kind: "string", value: ValueJson::Text(Cow::Borrowed(text)) });
        }
    };
    push_text(&mut tags, "otel.scope.name", &scope.name);
    push_text(&mut tags, "otel.scope.version", &scope.version);
    tags.extend(span.attributes.iter().filter(|attribute| !is_warning(attribute)).map(key_value));
    push_text(&mut tags, "span.kind", span_kind_name(span.kind));
    match span.status.code {
        StatusCode::Unset => {}
        StatusCode::Ok => push_text(&mut tags, "otel.status_code", "OK"),
        StatusCode::Error => {
            push_text(&mut tags, "otel.status_code", "ERROR");
            // Also where an attribute says so already, as Jaeger does.
            tags.push(KeyValueJson { key: "error", kind: "bool", value: ValueJson::Bool(true) });
        }
    }
    push_text(&mut tags, "otel.status_description", &span.status.message);
    push_text(&mut tags, "w3c.tracestate", &span.trace_state);
    tags
}

fn log(event: &SpanEvent) -> LogJson<'_> {
    let mut fields = Vec::with_capacity(event.attributes.len() + 1);
    if !event.name.is_empty() && !event.attributes.iter().any(|attribute| attribute.key == "event") {
        fields.push(KeyValueJson { key: "event", kind: "string", value: ValueJson::Text(Cow::Borrowed(&event.name)) });
    }
    fields.extend(event.attributes.iter().map(key_value));
    LogJson { timestamp: event.time_ns / NS_PER_US, fields }
}

fn key_value(attribute: &Attribute) -> KeyValueJson<'_> {
    let text = || ValueJson::Text(render_attribute_value(&attribute.value));
    let (kind, value) = match &attribute.value {
        AttributeValue::Bool(truth) => ("bool", ValueJson::Bool(*truth)),
        AttributeValue::Int(number) if number.abs_diff(0) <= EXACT_INTEGER_MAX.abs_diff(0) => {
            ("int64", ValueJson::Int(*number))
        }
        AttributeValue::Int(_) => ("int64", text()),
        AttributeValue::Double(number) if number.is_finite() => ("float64", ValueJson::Double(Double(*number))),
        AttributeValue::Double(_) => ("float64", text()),
        AttributeValue::Bytes(_) => ("binary", text()),
        _ => ("string", text()),
    };
    KeyValueJson { key: &attribute.key, kind, value }
}
