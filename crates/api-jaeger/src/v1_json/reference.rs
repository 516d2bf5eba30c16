//! Traces in the JSON of Jaeger's API v1 as types that serde serializes: what [`super::write_trace`] is compared with.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pharos_model::{AttributeValue, Resource, Scope, Span, SpanEvent, SpanGroup};
use pharos_storage::{Trace, render_attribute_value};
use serde::{Serialize, Serializer};

use crate::trace_id::short_trace_id;
use crate::v1_model::{self, Reference, Tag, TagValue};

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
    ProcessJson {
        service_name: v1_model::process_name(resource),
        tags: v1_model::process_tags(resource).map(KeyValueJson::from).collect(),
    }
}

fn span_json<'a>(span: &'a Span, scope: &'a Scope, process_id: &str) -> SpanJson<'a> {
    let warnings = v1_model::warnings(span);
    SpanJson {
        trace_id: short_trace_id(span.trace_id),
        span_id: span.span_id.to_string(),
        flags: v1_model::flags(span),
        operation_name: &span.name,
        references: v1_model::references(span).map(ReferenceJson::from).collect(),
        start_time: span.start_ns / NS_PER_US,
        duration: span.duration_ns() / NS_PER_US,
        tags: v1_model::tags(span, scope).map(KeyValueJson::from).collect(),
        logs: span.events.iter().map(log).collect(),
        process_id: process_id.to_owned(),
        warnings: (!warnings.is_empty()).then_some(warnings),
    }
}

fn log(event: &SpanEvent) -> LogJson<'_> {
    let fields = v1_model::log_fields(event).map(KeyValueJson::from).collect();
    LogJson { timestamp: event.time_ns / NS_PER_US, fields }
}

impl From<Reference> for ReferenceJson {
    fn from(reference: Reference) -> Self {
        Self {
            ref_type: if reference.is_child { "CHILD_OF" } else { "FOLLOWS_FROM" },
            trace_id: short_trace_id(reference.trace_id),
            span_id: reference.span_id.to_string(),
        }
    }
}

impl<'a> From<Tag<'a>> for KeyValueJson<'a> {
    fn from(Tag { key, value }: Tag<'a>) -> Self {
        let shown = |value| ValueJson::Text(Cow::Owned(render_attribute_value(&value).into_owned()));
        let (kind, value) = match value {
            TagValue::Bool(truth) => ("bool", ValueJson::Bool(truth)),
            TagValue::Int(number) if number.abs_diff(0) <= EXACT_INTEGER_MAX.abs_diff(0) => {
                ("int64", ValueJson::Int(number))
            }
            TagValue::Int(number) => ("int64", shown(AttributeValue::Int(number))),
            TagValue::Double(number) if number.is_finite() => ("float64", ValueJson::Double(Double(number))),
            TagValue::Double(number) => ("float64", shown(AttributeValue::Double(number))),
            TagValue::Binary(bytes) => ("binary", ValueJson::Text(Cow::Owned(STANDARD.encode(bytes)))),
            TagValue::Text(text) => ("string", ValueJson::Text(text)),
        };
        Self { key, kind, value }
    }
}
