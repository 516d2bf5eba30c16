//! Traces as lists of searches show them.

use pharos_model::{AttributeValue, Attributes, Span, SpanGroup};
use pharos_storage::{TraceSummary, render_attribute_value};
use serde_json::{Map, Value, json};

use crate::traceql::{Field, Intrinsic, Scope, kind_word, status_word};

/// Tempo's words where the root of a trace is not there.
const NO_ROOT: &str = "<root span not yet received>";
const NS_PER_MS: u64 = 1_000_000;

/// A trace with some of the spans that passed; `matched` is how many did.
pub(crate) fn trace_json(
    summary: &TraceSummary,
    matched: usize,
    spans: &[(&SpanGroup, &Span)],
    fields: &[Field],
) -> Value {
    // A root may have an empty name; without one both texts are empty.
    let has_root = !summary.root_service.is_empty();
    let services = summary.services.iter().map(|service| {
        let mut stats = Map::from_iter([("spanCount".to_owned(), json!(service.spans))]);
        if service.errors > 0 {
            stats.insert("errorCount".to_owned(), json!(service.errors));
        }
        (service.service.clone(), Value::Object(stats))
    });
    let spans: Vec<_> = spans.iter().map(|(group, span)| span_json(group, span, fields)).collect();
    let set = json!({"spans": spans, "matched": matched});
    json!({
        "traceID": summary.trace_id.to_string(),
        "rootServiceName": if has_root { &summary.root_service } else { NO_ROOT },
        "rootTraceName": if has_root { &summary.root_operation } else { NO_ROOT },
        "startTimeUnixNano": summary.start_ns.to_string(),
        // Clients take 32 bits.
        "durationMs": u32::try_from(summary.end_ns.saturating_sub(summary.start_ns) / NS_PER_MS).unwrap_or(u32::MAX),
        "spanSet": &set,
        "spanSets": [&set],
        "serviceStats": services.collect::<Map<_, _>>(),
    })
}

fn span_json(group: &SpanGroup, span: &Span, fields: &[Field]) -> Value {
    let shown = fields.iter().filter_map(|field| {
        let (key, value) = shown(field, group, span)?;
        Some(json!({"key": key, "value": value}))
    });
    json!({
        "spanID": span.span_id.to_string(),
        "name": span.name,
        "startTimeUnixNano": span.start_ns.to_string(),
        "durationNanos": span.duration_ns().to_string(),
        "attributes": shown.collect::<Vec<_>>(),
    })
}

/// What a field says about a span; nothing where a column of its own says it.
fn shown<'f>(field: &'f Field, group: &SpanGroup, span: &Span) -> Option<(&'f str, Value)> {
    let text = |text: &str| (!text.is_empty()).then(|| json!({"stringValue": text}));
    let (scope, key) = match field {
        Field::Attribute { scope, key } => (*scope, key),
        Field::Intrinsic(intrinsic) => {
            let value = match intrinsic {
                Intrinsic::Status => text(status_word(span.status.code)),
                Intrinsic::StatusMessage => text(&span.status.message),
                Intrinsic::Kind => text(kind_word(span.kind)),
                Intrinsic::NestedSetParent => span.parent_span_id.is_zero().then(|| json!({"intValue": "-1"})),
                Intrinsic::EventName => span.events.first().and_then(|event| text(&event.name)),
                Intrinsic::InstrumentationName => text(&group.scope.name),
                Intrinsic::InstrumentationVersion => text(&group.scope.version),
                _ => None,
            };
            return Some((intrinsic.name(), value?));
        }
    };
    let of = |attributes: &Attributes| {
        attributes.iter().find(|attribute| attribute.key == *key).map(|attribute| value_json(&attribute.value))
    };
    let value = match scope {
        Some(Scope::Span) => of(&span.attributes),
        Some(Scope::Resource) => of(&group.resource.attributes),
        Some(Scope::Instrumentation) => of(&group.scope.attributes),
        Some(Scope::Event) => span.events.iter().find_map(|event| of(&event.attributes)),
        Some(Scope::Link) => span.links.iter().find_map(|link| of(&link.attributes)),
        None => of(&span.attributes).or_else(|| of(&group.resource.attributes)),
    };
    Some((key, value?))
}

fn value_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Int(number) => json!({"intValue": number.to_string()}),
        AttributeValue::Bool(truth) => json!({"boolValue": truth}),
        AttributeValue::Double(number) if number.is_finite() => json!({"doubleValue": number}),
        // Grafana knows no lists here.
        _ => json!({"stringValue": render_attribute_value(value)}),
    }
}
