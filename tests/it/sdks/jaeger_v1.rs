//! Spans through Jaeger's v1 API, which Grafana uses: microseconds, tags and references.
//!
//! The expectation is computed here from what was sent, by the rules of Jaeger's own translation: what v1 cannot carry
//! (scope attributes, link attributes, dropped counts) is absent, arrays and maps are JSON in a text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::Api;
use super::compare::differences;
use super::jaeger_v3::kind;
use super::reference::{Reference, SentSpan, list, text};

/// JSON readers that know only doubles lose integers beyond this one; Jaeger sends those as text.
const INTEGER_IN_JSON_MAX: u64 = (1 << 53) - 1;

/// What came back differently from what was sent.
pub(crate) async fn check(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let mut wrong = Vec::new();
    for (trace_id, sent) in reference.traces() {
        let answer = api.get(&format!("/api/traces/{trace_id}"), &[]).await;
        wrong.extend(differences("v1 trace", &json!(trace_id), &answer["data"][0]["traceID"]));
        wrong.extend(differences("v1 traces", &json!(1), &json!(list(&answer, "data").len())));
        let sent: BTreeMap<&str, Value> = sent.iter().map(|span| (text(span.span, "spanId"), expected(span))).collect();
        let found = received(&answer["data"][0]);
        let ids: BTreeSet<&str> = sent.keys().copied().chain(found.keys().map(String::as_str)).collect();
        for id in ids {
            let (sent, found) = (sent.get(id).cloned(), found.get(id).cloned());
            let place = format!("v1 {}", sent.as_ref().map_or(id, |span| text(span, "operationName")));
            wrong.extend(differences(&place, &sent.unwrap_or_default(), &found.unwrap_or_default()));
        }
    }
    wrong.extend(check_search(api, reference).await);
    wrong
}

/// A trace is found by a tag of its resource, by an operation, and by a tag of its span.
async fn check_search(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let instance = json!({ "service.instance.id": reference.instance() });
    let mut instance_and_key = instance.clone();
    instance_and_key["schlüssel"] = json!("wert");
    let ids = |wanted: &dyn Fn(&SentSpan<'_>) -> bool| -> BTreeSet<String> {
        let spans = reference.spans();
        spans.iter().filter(|span| wanted(span)).map(|span| text(span.span, "traceId").to_owned()).collect()
    };
    let spans = reference.spans();
    let service_of = |name| spans.iter().find(|span| span.name() == name).expect("a span of the workload").service();
    let (frontend, warehouse) = (service_of("GET /checkout"), service_of("orders process"));
    let searches = [
        (warehouse, None, &instance, ids(&|span| span.service() == warehouse)),
        (frontend, Some("GET /checkout"), &instance_and_key, ids(&|span| span.name() == "GET /checkout")),
        (warehouse, Some("🚚 Versand 発送"), &instance, ids(&|span| span.name() == "🚚 Versand 発送")),
        (frontend, Some("no such operation"), &instance, BTreeSet::new()),
    ];
    let mut wrong = Vec::new();
    for (service, operation, tags, sent) in searches {
        let tags = tags.to_string();
        let mut query = vec![("service", service), ("tags", &tags)];
        query.extend(operation.map(|operation| ("operation", operation)));
        let answer = api.get("/api/traces", &query).await;
        let found: BTreeSet<String> = list(&answer, "data").iter().map(|one| text(one, "traceID").to_owned()).collect();
        if found != sent {
            wrong.push(format!("v1 search {query:?}: sent {sent:?}, came back {found:?}"));
        }
    }
    wrong
}

/// The spans of an answer by their ids, with their process in place of its number.
fn received(trace: &Value) -> BTreeMap<String, Value> {
    let tags = |value: &Value| sorted(value.as_array().into_iter().flatten().map(parsed).collect());
    let mut spans = BTreeMap::new();
    for span in list(trace, "spans") {
        let process = &trace["processes"][text(span, "processID")];
        let logs = list(span, "logs").iter();
        let logs = logs.map(|log| json!({ "timestamp": log["timestamp"], "fields": tags(&log["fields"]) }));
        let mut id = text(span, "spanID").to_owned();
        while spans.contains_key(&id) {
            id.push_str(" again");
        }
        spans.insert(
            id,
            json!({
                "traceID": span["traceID"],
                "spanID": span["spanID"],
                "operationName": span["operationName"],
                "references": span["references"],
                "startTime": span["startTime"],
                "duration": span["duration"],
                "tags": tags(&span["tags"]),
                "logs": logs.collect::<Vec<_>>(),
                "process": { "serviceName": process["serviceName"], "tags": tags(&process["tags"]) },
                "warnings": span["warnings"],
            }),
        );
    }
    spans
}

/// What Jaeger v1 shows of a span.
fn expected(sent: &SentSpan<'_>) -> Value {
    let span = sent.span;
    let (start, end) = (nanoseconds(span, "startTimeUnixNano"), nanoseconds(span, "endTimeUnixNano"));
    let events = list(span, "events").iter();
    let logs = events.map(|event| {
        let name = tag("event", "string", text(event, "name"));
        let fields = list(event, "attributes").iter().map(attribute_tag);
        json!({
            "timestamp": nanoseconds(event, "timeUnixNano") / 1000,
            "fields": sorted(std::iter::once(name).chain(fields).collect()),
        })
    });
    let resource = list(&sent.resource_spans["resource"], "attributes").iter();
    let process_tags = resource.filter(|attribute| attribute["key"] != "service.name").map(attribute_tag);
    json!({
        "traceID": span["traceId"],
        "spanID": span["spanId"],
        "operationName": span["name"],
        "references": references(span),
        "startTime": start / 1000,
        "duration": (end - start) / 1000,
        "tags": sorted(span_tags(sent)),
        "logs": logs.collect::<Vec<_>>(),
        "process": { "serviceName": sent.service(), "tags": sorted(process_tags.collect()) },
        "warnings": null,
    })
}

/// The parent first, then the links.
fn references(span: &Value) -> Vec<Value> {
    let reference = |kind: &str, trace_id: &Value, span_id: &Value| json!({ "refType": kind, "traceID": trace_id, "spanID": span_id });
    let parent = (!text(span, "parentSpanId").is_empty())
        .then(|| reference("CHILD_OF", &span["traceId"], &span["parentSpanId"]));
    let links = list(span, "links").iter();
    parent.into_iter().chain(links.map(|link| reference("FOLLOWS_FROM", &link["traceId"], &link["spanId"]))).collect()
}

/// The attributes, and as tags whatever of a span v1 has no field for.
fn span_tags(sent: &SentSpan<'_>) -> Vec<Value> {
    let (span, scope) = (sent.span, &sent.scope_spans["scope"]);
    let mut tags: Vec<Value> = list(span, "attributes").iter().map(attribute_tag).collect();
    let mut add_text = |key: &str, value: &str| {
        if !value.is_empty() {
            tags.push(tag(key, "string", value));
        }
    };
    add_text("otel.scope.name", text(scope, "name"));
    add_text("otel.scope.version", text(scope, "version"));
    add_text("span.kind", kind(span));
    add_text("w3c.tracestate", text(span, "traceState"));
    add_text("otel.status_description", text(&span["status"], "message"));
    match span["status"]["code"].as_u64() {
        Some(1) => add_text("otel.status_code", "OK"),
        Some(2) => {
            add_text("otel.status_code", "ERROR");
            tags.push(tag("error", "bool", true));
        }
        _ => {}
    }
    tags
}

fn attribute_tag(attribute: &Value) -> Value {
    let key = text(attribute, "key");
    let value = &attribute["value"];
    let (kind, inner) = value.as_object().and_then(|value| value.iter().next()).expect("an attribute has a value");
    match kind.as_str() {
        "boolValue" => tag(key, "bool", inner.clone()),
        "intValue" => tag(key, "int64", integer(inner)),
        // Go writes a whole double without its point.
        "doubleValue" => tag(key, "float64", json!(inner.as_f64())),
        "bytesValue" => tag(key, "binary", inner.clone()),
        "arrayValue" | "kvlistValue" => tag(key, "string", plain(value)),
        _ => tag(key, "string", inner.clone()),
    }
}

fn tag(key: &str, kind: &str, value: impl Into<Value>) -> Value {
    let value: Value = value.into();
    json!({ "key": key, "type": kind, "value": value })
}

fn integer(text: &Value) -> Value {
    let number: i64 = text.as_str().and_then(|text| text.parse().ok()).expect("an integer in decimal");
    if number.unsigned_abs() > INTEGER_IN_JSON_MAX { text.clone() } else { json!(number) }
}

/// The JSON inside the text of an array or a map, as a value.
fn plain(value: &Value) -> Value {
    let (kind, inner) = value.as_object().and_then(|value| value.iter().next()).expect("a value has a type");
    match kind.as_str() {
        "arrayValue" => list(inner, "values").iter().map(plain).collect(),
        "kvlistValue" => {
            let pairs = list(inner, "values").iter();
            Value::Object(pairs.map(|pair| (text(pair, "key").to_owned(), plain(&pair["value"]))).collect())
        }
        "intValue" => json!(inner.as_str().and_then(|text| text.parse::<i64>().ok())),
        _ => inner.clone(),
    }
}

/// A tag that came back; the text of an array or a map becomes its JSON, which may be spelled in several ways.
fn parsed(found: &Value) -> Value {
    let structured = text(found, "value");
    match serde_json::from_str::<Value>(structured) {
        Ok(value @ (Value::Array(_) | Value::Object(_))) => tag(text(found, "key"), text(found, "type"), value),
        _ => found.clone(),
    }
}

fn sorted(mut tags: Vec<Value>) -> Vec<Value> {
    tags.sort_by(|left, right| text(left, "key").cmp(text(right, "key")));
    tags
}

fn nanoseconds(holder: &Value, key: &str) -> u64 {
    text(holder, key).parse().expect("nanoseconds in decimal")
}
