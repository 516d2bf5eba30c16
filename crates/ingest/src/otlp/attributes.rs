//! Attributes of spans and of what they belong to.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use pharos_model::{Attribute, AttributeValue, Attributes};

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
    use opentelemetry_proto::tonic::common::v1::ArrayValue;

    use super::*;

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
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
