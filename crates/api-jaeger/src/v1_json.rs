//! Traces in the JSON of Jaeger's API v1, written as it is: a search answers with hundreds of spans, and a model between spans
//! and bytes would cost more than both.

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hashbrown::HashMap;
use pharos_model::{AttributeValue, Resource, Scope, Span, SpanEvent, SpanGroup, TraceId};
use pharos_storage::{Trace, render_attribute_value};

use crate::json_text::JsonText;
use crate::rendering::Pieces;
use crate::v1_model::{self, Reference, Tag, TagValue};

/// Doubles hold integers exactly up to here, and so does JavaScript.
const EXACT_INTEGER_MAX: u64 = (1 << 53) - 1;
const NS_PER_US: u64 = 1_000;

/// Writes a trace, as far as the answer takes it.
pub(crate) fn write_trace(out: &mut Pieces<'_>, trace: &Trace) {
    let mut processes = Processes::default();
    out.put(br#"{"traceID":""#);
    put_trace_id(out, trace.trace_id);
    out.put(br#"","spans":["#);
    let mut is_first = true;
    for SpanGroup { resource, scope, spans } in &trace.groups {
        let process = processes.number(resource);
        for span in spans {
            if out.has_failed() {
                return;
            }
            out.separate(&mut is_first);
            put_span(out, span, scope, process);
        }
    }
    out.put(br#"],"processes":{"#);
    processes.put(out);
    out.put(br#"},"warnings":"#);
    put_texts(out, &trace.warnings);
    out.put(b"}");
}

/// The processes of a trace, as JSON, with their numbers. It may have as many as spans: equal ones are found by hash.
#[derive(Default)]
struct Processes {
    numbers: HashMap<Box<[u8]>, usize>,
    scratch: Vec<u8>,
}

impl Processes {
    fn number(&mut self, resource: &Resource) -> usize {
        self.scratch.clear();
        put_process(&mut self.scratch, resource);
        if let Some(number) = self.numbers.get(self.scratch.as_slice()) {
            return *number;
        }
        let next = self.numbers.len() + 1;
        self.numbers.insert(self.scratch.as_slice().into(), next);
        next
    }

    /// As members, by name: `p10` comes before `p2`.
    fn put(self, out: &mut impl JsonText) {
        let mut named: Vec<_> =
            self.numbers.into_iter().map(|(process, number)| (format!("p{number}"), process)).collect();
        named.sort_unstable();
        let mut is_first = true;
        for (name, process) in named {
            out.separate(&mut is_first);
            out.text(&name);
            out.put(b":");
            out.put(&process);
        }
    }
}

fn put_process(out: &mut impl JsonText, resource: &Resource) {
    out.put(br#"{"serviceName":"#);
    out.text(v1_model::process_name(resource));
    out.put(br#","tags":["#);
    put_tags(out, v1_model::process_tags(resource));
    out.put(b"]}");
}

fn put_span(out: &mut impl JsonText, span: &Span, scope: &Scope, process: usize) {
    out.put(br#"{"traceID":""#);
    put_trace_id(out, span.trace_id);
    out.put(br#"","spanID":""#);
    out.put(&span.span_id.digits());
    out.put(b"\"");
    let flags = v1_model::flags(span);
    if flags != 0 {
        out.put(br#","flags":"#);
        out.number(flags);
    }
    out.put(br#","operationName":"#);
    out.text(&span.name);
    out.put(br#","references":["#);
    let mut is_first = true;
    for reference in v1_model::references(span) {
        out.separate(&mut is_first);
        put_reference(out, &reference);
    }
    out.put(br#"],"startTime":"#);
    out.number(span.start_ns / NS_PER_US);
    out.put(br#","duration":"#);
    out.number(span.duration_ns() / NS_PER_US);
    out.put(br#","tags":["#);
    put_tags(out, v1_model::tags(span, scope));
    out.put(br#"],"logs":["#);
    let mut is_first = true;
    for event in &span.events {
        out.separate(&mut is_first);
        put_log(out, event);
    }
    out.put(br#"],"processID":"p"#);
    out.number(process);
    out.put(br#"","warnings":"#);
    put_texts(out, &v1_model::warnings(span));
    out.put(b"}");
}

fn put_reference(out: &mut impl JsonText, reference: &Reference) {
    let ref_type: &[u8] = if reference.is_child { b"CHILD_OF" } else { b"FOLLOWS_FROM" };
    out.put(br#"{"refType":""#);
    out.put(ref_type);
    out.put(br#"","traceID":""#);
    put_trace_id(out, reference.trace_id);
    out.put(br#"","spanID":""#);
    out.put(&reference.span_id.digits());
    out.put(br#""}"#);
}

fn put_log(out: &mut impl JsonText, event: &SpanEvent) {
    out.put(br#"{"timestamp":"#);
    out.number(event.time_ns / NS_PER_US);
    out.put(br#","fields":["#);
    put_tags(out, v1_model::log_fields(event));
    out.put(b"]}");
}

/// Ids of 64 bits have 16 digits.
fn put_trace_id(out: &mut impl JsonText, id: TraceId) {
    let digits = id.digits();
    out.put(digits.strip_prefix(b"0000000000000000").unwrap_or(&digits));
}

/// A list of texts, or nothing.
fn put_texts(out: &mut impl JsonText, texts: &[impl AsRef<str>]) {
    if texts.is_empty() {
        out.put(b"null");
        return;
    }
    out.put(b"[");
    let mut is_first = true;
    for text in texts {
        out.separate(&mut is_first);
        out.text(text.as_ref());
    }
    out.put(b"]");
}

fn put_tags<'a>(out: &mut impl JsonText, tags: impl Iterator<Item = Tag<'a>>) {
    let mut is_first = true;
    tags.for_each(|tag| {
        out.separate(&mut is_first);
        put_tag(out, &tag);
    });
}

fn put_tag(out: &mut impl JsonText, Tag { key, value }: &Tag<'_>) {
    // What JSON has no number for is told as text.
    let shown = |out: &mut _, value| JsonText::text(out, &render_attribute_value(&value));
    out.put(br#"{"key":"#);
    out.text(key);
    match value {
        TagValue::Text(text) => {
            out.put(br#","type":"string","value":"#);
            out.text(text);
        }
        TagValue::Bool(truth) => {
            out.put(br#","type":"bool","value":"#);
            out.put(if *truth { b"true" } else { b"false" });
        }
        TagValue::Int(number) => {
            out.put(br#","type":"int64","value":"#);
            if number.unsigned_abs() <= EXACT_INTEGER_MAX {
                out.number(*number);
            } else {
                shown(out, AttributeValue::Int(*number));
            }
        }
        TagValue::Double(number) => {
            out.put(br#","type":"float64","value":"#);
            if number.is_finite() {
                out.value(number);
            } else {
                shown(out, AttributeValue::Double(*number));
            }
        }
        TagValue::Binary(bytes) => {
            out.put(br#","type":"binary","value":"#);
            out.text(&STANDARD.encode(bytes));
        }
    }
    out.put(b"}");
}
