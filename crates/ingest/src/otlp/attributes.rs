//! Attribute values as text, for labels, and as model values, for spans.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use pharos_model::{Attribute, AttributeValue, Attributes};

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

/// Values nest deeper than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Attributes with their types; texts are moved, not copied.
pub(super) fn model(attributes: Vec<KeyValue>, nesting_max: usize) -> Result<Attributes, TooDeep> {
    attributes
        .into_iter()
        .map(|KeyValue { key, value, .. }| Ok(Attribute { key, value: model_value(value, nesting_max)? }))
        .collect()
}

fn model_value(value: Option<AnyValue>, nesting_max: usize) -> Result<AttributeValue, TooDeep> {
    let inner = || nesting_max.checked_sub(1).ok_or(TooDeep);
    Ok(match value.and_then(|value| value.value) {
        None | Some(Value::StringValueStrindex(_)) => AttributeValue::Empty,
        Some(Value::StringValue(text)) => AttributeValue::String(text),
        Some(Value::BoolValue(truth)) => AttributeValue::Bool(truth),
        Some(Value::IntValue(number)) => AttributeValue::Int(number),
        Some(Value::DoubleValue(number)) => AttributeValue::Double(number),
        Some(Value::BytesValue(bytes)) => AttributeValue::Bytes(bytes),
        Some(Value::ArrayValue(array)) => {
            let depth = inner()?;
            let values = array.values.into_iter().map(|value| model_value(Some(value), depth));
            AttributeValue::Array(values.collect::<Result<_, _>>()?)
        }
        Some(Value::KvlistValue(list)) => AttributeValue::Map(model(list.values, inner()?)?),
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn values_have_one_text() {
        let list = Value::KvlistValue(KeyValueList {
            values: vec![
                KeyValue { key: "b".into(), value: Some(any(Value::IntValue(1))), ..KeyValue::default() },
                KeyValue { key: "a".into(), value: None, ..KeyValue::default() },
            ],
        });
        let array = Value::ArrayValue(ArrayValue { values: vec![any(Value::StringValue("x".into())), any(list)] });
        for (value, expected) in [
            (Value::StringValue("plain".into()), "plain"),
            (Value::BoolValue(false), "false"),
            (Value::IntValue(-7), "-7"),
            (Value::DoubleValue(72.5), "72.5"),
            (Value::DoubleValue(3.0), "3"),
            (Value::DoubleValue(1e21), "1e+21"),
            (Value::DoubleValue(1e-7), "1e-7"),
            (Value::DoubleValue(f64::INFINITY), "+Inf"),
            (Value::BytesValue(b"any carnal pleas".to_vec()), "YW55IGNhcm5hbCBwbGVhcw=="),
            (Value::BytesValue(b"ab".to_vec()), "YWI="),
            (array, r#"["x",{"a":null,"b":1}]"#),
        ] {
            assert_eq!(text(Some(&any(value))), expected);
        }
        assert_eq!(text(None), "");
    }

    #[test]
    fn nesting_is_bounded() {
        let mut value = any(Value::BoolValue(true));
        for _ in 0..3 {
            value = any(Value::ArrayValue(ArrayValue { values: vec![value] }));
        }
        assert!(model_value(Some(value.clone()), 3).is_ok());
        assert_eq!(model_value(Some(value), 2), Err(TooDeep));
    }
}
