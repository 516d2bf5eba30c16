//! The file in which a program says what it sent; `examples/README.md` specifies it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::programs::{Language, Protocol};

const SCHEMA: &str = "pharos-example-reference/1";

/// One span with what it belongs to, as sent.
pub(crate) struct SentSpan<'a> {
    pub(crate) resource_spans: &'a Value,
    pub(crate) scope_spans: &'a Value,
    pub(crate) span: &'a Value,
}

impl SentSpan<'_> {
    pub(crate) fn service(&self) -> &str {
        attribute(&self.resource_spans["resource"], "service.name")["stringValue"].as_str().expect("a service name")
    }

    pub(crate) fn name(&self) -> &str {
        text(self.span, "name")
    }
}

/// What one run sent.
pub(crate) struct Reference(Value);

impl Reference {
    /// Reads the file of a program that has succeeded.
    pub(crate) fn read(file: &Path) -> Self {
        let content = fs::read_to_string(file).expect("a program that succeeded has written its reference");
        let reference: Value = serde_json::from_str(&content).expect("the reference is JSON");
        assert_eq!(reference["schema"], SCHEMA);
        Self(reference)
    }

    pub(crate) fn spans(&self) -> Vec<SentSpan<'_>> {
        let mut spans = Vec::new();
        for resource_spans in list(&self.0, "resourceSpans") {
            for scope_spans in list(resource_spans, "scopeSpans") {
                let one = |span| SentSpan { resource_spans, scope_spans, span };
                spans.extend(list(scope_spans, "spans").iter().map(one));
            }
        }
        spans
    }

    /// The spans by trace id, 32 hex digits.
    pub(crate) fn traces(&self) -> BTreeMap<&str, Vec<SentSpan<'_>>> {
        let mut traces: BTreeMap<&str, Vec<SentSpan<'_>>> = BTreeMap::new();
        for span in self.spans() {
            traces.entry(text(span.span, "traceId")).or_default().push(span);
        }
        traces
    }

    /// The `service.instance.id` that no other run has.
    pub(crate) fn instance(&self) -> &str {
        let resource = &self.0["resourceSpans"][0]["resource"];
        attribute(resource, "service.instance.id")["stringValue"].as_str().expect("an instance id")
    }

    pub(crate) fn series(&self) -> &[Value] {
        list(&self.0, "series")
    }

    pub(crate) fn exemplars(&self) -> &[Value] {
        list(&self.0, "exemplars")
    }

    /// Every point was observed between these two, Unix milliseconds, both included.
    pub(crate) fn window_ms(&self) -> (i64, i64) {
        let milliseconds = |key| text(&self.0["window"], key).parse::<i64>().expect("nanoseconds") / 1_000_000;
        (milliseconds("startUnixNano"), milliseconds("endUnixNano"))
    }

    /// What the workload makes use of, so that it cannot become poorer unnoticed.
    fn features(&self) -> BTreeSet<String> {
        let mut features = BTreeSet::new();
        for sent in self.spans() {
            features.insert(format!("kind {}", sent.span["kind"]));
            features.insert(format!("status {}", sent.span["status"]["code"]));
            if !text(sent.span, "traceState").is_empty() {
                features.insert("trace state".to_owned());
            }
            for count in ["droppedAttributesCount", "droppedEventsCount", "droppedLinksCount"] {
                if sent.span[count].as_u64() > Some(0) {
                    features.insert(count.to_owned());
                }
            }
            for part in ["events", "links"].iter().flat_map(|part| list(sent.span, part)) {
                features.insert(if part.get("traceId").is_some() { "link" } else { "event" }.to_owned());
                if part["droppedAttributesCount"].as_u64() > Some(0) {
                    features.insert("droppedAttributesCount of a part".to_owned());
                }
            }
            for value in list(sent.span, "attributes").iter().map(|attribute| &attribute["value"]) {
                features.extend(value.as_object().into_iter().flat_map(|value| value.keys().cloned()));
                let beyond_double = value["intValue"].as_str().and_then(|text| text.parse::<i64>().ok());
                if beyond_double.is_some_and(|number| number.unsigned_abs() > 1 << 53) {
                    features.insert("integer beyond 2^53".to_owned());
                }
            }
        }
        let kinds = self.series().iter().map(|series| format!("metric {}", text(series, "type")));
        features.extend(kinds);
        if self.series().iter().any(|series| series.get("histogram").is_some()) {
            features.insert("metric native histogram".to_owned());
        }
        if !self.exemplars().is_empty() {
            features.insert("exemplar".to_owned());
        }
        features
    }

    /// Panics if the workload lacks what its SDK can express over this protocol.
    pub(crate) fn assert_rich(&self, language: Language, protocol: Protocol) {
        let mut expected: BTreeSet<String> = [
            "kind 1",
            "kind 2",
            "kind 3",
            "kind 4",
            "kind 5",
            "status 0",
            "status 1",
            "status 2",
            "trace state",
            "event",
            "link",
            "droppedAttributesCount",
            "droppedEventsCount",
            "droppedLinksCount",
            "droppedAttributesCount of a part",
            "stringValue",
            "boolValue",
            "intValue",
            "doubleValue",
            "arrayValue",
            "metric counter",
            "metric gauge",
            "metric histogram",
            "metric native histogram",
        ]
        .map(str::to_owned)
        .into();
        if protocol != Protocol::HttpJson {
            expected.insert("integer beyond 2^53".to_owned());
        }
        if matches!(language, Language::Go | Language::Python) {
            expected.extend(["bytesValue", "kvlistValue", "exemplar"].map(str::to_owned));
        }
        assert_eq!(self.features(), expected, "what {} sent over {}", language.name(), protocol.name());
        assert_eq!((self.spans().len(), self.traces().len(), self.series().len()), (8, 2, 16));
    }
}

/// The typed value of an attribute of a resource, scope or span.
pub(crate) fn attribute<'a>(holder: &'a Value, key: &str) -> &'a Value {
    let found = list(holder, "attributes").iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("no attribute {key}"))["value"]
}

/// The elements of a list; none if it is absent.
pub(crate) fn list<'a>(holder: &'a Value, key: &str) -> &'a [Value] {
    holder[key].as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty if it is absent.
pub(crate) fn text<'a>(holder: &'a Value, key: &str) -> &'a str {
    holder[key].as_str().unwrap_or_default()
}
