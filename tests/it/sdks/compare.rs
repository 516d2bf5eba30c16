//! Compares JSON, so that a difference is told by its path and not as two walls of text.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// Every place where `found` is not what was `sent`, one line each; empty if they are equal.
pub(crate) fn differences(place: &str, sent: &Value, found: &Value) -> Vec<String> {
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => {
            let mut keys: Vec<&String> = sent.keys().chain(found.keys()).collect();
            keys.sort();
            keys.dedup();
            let side = |object: &Map<String, Value>, key: &str| object.get(key).cloned().unwrap_or_default();
            keys.iter()
                .flat_map(|key| differences(&format!("{place}.{key}"), &side(sent, key), &side(found, key)))
                .collect()
        }
        (Value::Array(sent), Value::Array(found)) if sent.len() == found.len() => (0..)
            .zip(sent.iter().zip(found))
            .flat_map(|(index, (sent, found))| differences(&format!("{place}[{index}]"), sent, found))
            .collect(),
        _ if sent == found => Vec::new(),
        _ => vec![format!("{place}: sent {sent}, came back {found}")],
    }
}

/// OTLP/JSON in one spelling: attributes by key, 64-bit numbers as text, what is absent or zero left out.
///
/// Values keep their type: `{"intValue":"2"}` stays different from `{"doubleValue":2.0}`, an empty text from none.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut canonical_object = Map::new();
            for (key, value) in object {
                let value = if key == "attributes" { by_key(value) } else { canonical(value) };
                if !is_default(&value) {
                    canonical_object.insert(key.clone(), value);
                }
            }
            Value::Object(canonical_object)
        }
        Value::Array(values) => values.iter().map(canonical).collect(),
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

/// Attributes as an object; one that comes twice is told in its name.
fn by_key(attributes: &Value) -> Value {
    let mut object = Map::new();
    for attribute in attributes.as_array().into_iter().flatten() {
        let mut key = attribute["key"].as_str().unwrap_or("<no key>").to_owned();
        while object.contains_key(&key) {
            let _ = write!(key, " <again>");
        }
        object.insert(key, typed(&attribute["value"]));
    }
    Value::Object(object)
}

/// An `AnyValue` in one spelling; nothing is left out, because zero and absent differ here.
fn typed(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return json!("<no value>");
    };
    let inner = match kind.as_str() {
        "intValue" => Value::String(inner.as_str().map_or_else(|| inner.to_string(), str::to_owned)),
        "doubleValue" => json!(inner.as_f64()),
        "arrayValue" => inner["values"].as_array().into_iter().flatten().map(typed).collect(),
        "kvlistValue" => by_key(&inner["values"]),
        _ => inner.clone(),
    };
    json!({ kind: inner })
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(values) => values.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[test]
fn doubles_of_seventeen_digits_are_read_exactly_or_nothing_here_could_tell() {
    let read: Value = serde_json::from_str("0.0017000000000000001").expect("a number");
    assert_eq!(read.as_f64(), "0.0017000000000000001".parse().ok());
}

#[test]
fn an_integer_that_became_a_double_is_a_difference() {
    let span = |value: Value| canonical(&json!({ "attributes": [{ "key": "n", "value": value }] }));
    let (sent, found) = (span(json!({ "intValue": "9007199254740993" })), span(json!({ "doubleValue": 2.0 })));
    assert_eq!(differences("span", &sent, &found).len(), 2);
    assert_eq!(
        differences("span", &sent, &span(json!({ "intValue": 9_007_199_254_740_993_i64 }))),
        Vec::<String>::new()
    );
}

#[test]
fn an_empty_text_is_not_the_same_as_no_attribute() {
    let with = canonical(&json!({ "attributes": [{ "key": "empty", "value": { "stringValue": "" } }] }));
    let without = canonical(&json!({ "attributes": [] }));
    assert_eq!(differences("span", &with, &without).len(), 1);
}

#[test]
fn absent_and_zero_counts_are_the_same() {
    let sent = canonical(&json!({ "droppedEventsCount": 0, "kind": 2, "links": [] }));
    assert_eq!(differences("span", &sent, &canonical(&json!({ "kind": 2 }))), Vec::<String>::new());
}
