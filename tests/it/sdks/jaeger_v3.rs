//! Spans through Jaeger's v3 API: OTLP out as it went in, field by field and type by type.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::Api;
use super::compare::{canonical, differences};
use super::reference::{Reference, SentSpan, list, text};

/// What came back differently from what was sent.
pub(crate) async fn check(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let mut wrong = Vec::new();
    for (trace_id, sent) in reference.traces() {
        let answer = api.get(&format!("/api/v3/traces/{trace_id}"), &[]).await;
        let found = received(&answer["result"]);
        let sent: BTreeMap<&str, Value> = sent.iter().map(|span| (text(span.span, "spanId"), whole(span))).collect();
        let ids: BTreeSet<&str> = sent.keys().copied().chain(found.keys().map(String::as_str)).collect();
        for id in ids {
            let (sent, found) = (sent.get(id).cloned(), found.get(id).cloned());
            let place = format!("v3 {}", sent.as_ref().map_or(id, |span| text(&span["span"], "name")));
            wrong.extend(differences(&place, &sent.unwrap_or_default(), &found.unwrap_or_default()));
        }
    }
    wrong.extend(check_operations(api, reference).await);
    wrong
}

/// The spans of an answer by their ids; one that comes twice is told in its id.
fn received(result: &Value) -> BTreeMap<String, Value> {
    let mut spans = BTreeMap::new();
    for resource_spans in list(result, "resourceSpans") {
        for scope_spans in list(resource_spans, "scopeSpans") {
            for span in list(scope_spans, "spans") {
                let mut id = text(span, "spanId").to_owned();
                while spans.contains_key(&id) {
                    id.push_str(" again");
                }
                spans.insert(id, whole(&SentSpan { resource_spans, scope_spans, span }));
            }
        }
    }
    spans
}

/// A span with its resource and its scope in one spelling.
fn whole(span: &SentSpan<'_>) -> Value {
    canonical(&json!({
        "resource": span.resource_spans["resource"],
        "resourceSchemaUrl": span.resource_spans["schemaUrl"],
        "scope": span.scope_spans["scope"],
        "scopeSchemaUrl": span.scope_spans["schemaUrl"],
        "span": span.span,
    }))
}

/// Services and their operations with kinds.
async fn check_operations(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let mut sent: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    let spans = reference.spans();
    for span in &spans {
        sent.entry(span.service()).or_default().insert((span.name(), kind(span.span)));
    }
    let services = api.get("/api/v3/services", &[]).await;
    let mut wrong = Vec::new();
    for (service, sent) in sent {
        if !list(&services, "services").iter().any(|name| name == service) {
            wrong.push(format!("v3 services: {service} is missing"));
        }
        let answer = api.get("/api/v3/operations", &[("service", service)]).await;
        let found: BTreeSet<(&str, &str)> =
            list(&answer, "operations").iter().map(|one| (text(one, "name"), text(one, "spanKind"))).collect();
        if found != sent {
            wrong.push(format!("v3 operations of {service}: sent {sent:?}, came back {found:?}"));
        }
    }
    wrong
}

/// Jaeger's word for a kind of OTLP.
pub(crate) fn kind(span: &Value) -> &'static str {
    match span["kind"].as_u64() {
        Some(1) => "internal",
        Some(2) => "server",
        Some(3) => "client",
        Some(4) => "producer",
        Some(5) => "consumer",
        _ => "",
    }
}
