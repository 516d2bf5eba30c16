//! Attribute values of messages as text.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// A value as a label shows it: text as it is, numbers in decimal, bytes in base64, the rest as JSON.
pub(super) fn text(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => Cow::Borrowed(""),
        Some(Value::StringValue(text)) => Cow::Borrowed(text),
        Some(Value::BoolValue(true)) => Cow::Borrowed("true"),
        Some(Value::BoolValue(false)) => Cow::Borrowed("false"),
        Some(Value::IntValue(number)) => Cow::Owned(number.to_string()),
        Some(Value::DoubleValue(number)) => Cow::Owned(double_text(*number)),
        Some(Value::BytesValue(bytes)) => Cow::Owned(base64(bytes)),
        Some(composite @ (Value::ArrayValue(_) | Value::KvlistValue(_))) => Cow::Owned(json(composite).to_string()),
    }
}

/// ECMAScript's form, which OpenTelemetry's collector uses: an exponent only for the very large and small.
fn double_text(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        return match number {
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            _ => "NaN".to_owned(),
        };
    }
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    if size >= 1e21 { text.replace('e', "e+") } else { text }
}

fn json(value: &Value) -> serde_json::Value {
    let nested = |value: Option<&AnyValue>| match value.and_then(|value| value.value.as_ref()) {
        None => serde_json::Value::Null,
        Some(value) => json(value),
    };
    match value {
        Value::StringValue(text) => text.as_str().into(),
        Value::BoolValue(truth) => (*truth).into(),
        Value::IntValue(number) => (*number).into(),
        Value::DoubleValue(number) if number.is_finite() => (*number).into(),
        Value::DoubleValue(number) => double_text(*number).into(),
        Value::BytesValue(bytes) => base64(bytes).into(),
        Value::StringValueStrindex(_) => serde_json::Value::Null,
        Value::ArrayValue(array) => array.values.iter().map(|value| nested(Some(value))).collect(),
        Value::KvlistValue(list) => {
            let mut pairs: Vec<_> =
                list.values.iter().map(|pair| (pair.key.clone(), nested(pair.value.as_ref()))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect()
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
