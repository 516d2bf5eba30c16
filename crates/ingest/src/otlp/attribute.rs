//! Attributes as they stand on the wire, and their values as the text of a label.
//!
//! Everything here reads bytes that [`check`](super::message::check) has passed.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::message::{Merged, fields};
use crate::wire::{Payload, Reader};

/// A `KeyValue`.
#[derive(Debug, Clone)]
pub(super) struct Attribute<'a> {
    pub key: &'a str,
    value: Merged<'a>,
}

impl<'a> Attribute<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        let mut attribute = Self { key: "", value: Merged::default() };
        let mut reader = Reader::new(message);
        while let Ok(Some(field)) = reader.next() {
            match (field.number, field.payload) {
                (1, Payload::Bytes(key)) => attribute.key = utf8(key),
                (2, Payload::Bytes(value)) => attribute.value.add_checked(value),
                _ => {}
            }
        }
        attribute
    }

    /// The value as a label shows it: text as it is, numbers in decimal, bytes in base64, the rest as JSON.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self.value.get().map(AnyValue::new) {
            None | Some(AnyValue::Empty) => Cow::Borrowed(""),
            Some(AnyValue::Text(text)) => Cow::Borrowed(text),
            Some(AnyValue::Bool(true)) => Cow::Borrowed("true"),
            Some(AnyValue::Bool(false)) => Cow::Borrowed("false"),
            Some(AnyValue::Int(number)) => Cow::Owned(number.to_string()),
            Some(AnyValue::Double(number)) => Cow::Owned(double_text(number)),
            Some(AnyValue::Bytes(bytes)) => Cow::Owned(base64(bytes)),
            Some(composite @ (AnyValue::Array(_) | AnyValue::Map(_))) => Cow::Owned(json(composite).to_string()),
        }
    }
}

/// The attributes that field `number` of a message repeats.
pub(super) fn attributes(message: &[u8], number: u32) -> impl Iterator<Item = Attribute<'_>> + Clone {
    fields(message, number).filter_map(|payload| match payload {
        Payload::Bytes(attribute) => Some(Attribute::new(attribute)),
        _ => None,
    })
}

enum AnyValue<'a> {
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    Array(Merged<'a>),
    Map(Merged<'a>),
}

impl<'a> AnyValue<'a> {
    /// The last kind of value that is written counts; lists that follow one another are one list.
    fn new(message: &'a [u8]) -> Self {
        let mut value = Self::Empty;
        let mut reader = Reader::new(message);
        while let Ok(Some(field)) = reader.next() {
            value = match (field.number, field.payload) {
                (1, Payload::Bytes(text)) => Self::Text(utf8(text)),
                (2, Payload::Varint(truth)) => Self::Bool(truth != 0),
                (3, Payload::Varint(number)) => Self::Int(number as i64),
                (4, Payload::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Payload::Bytes(part)) => {
                    let mut whole = if let Self::Array(before) = value { before } else { Merged::default() };
                    whole.add_checked(part);
                    Self::Array(whole)
                }
                (6, Payload::Bytes(part)) => {
                    let mut whole = if let Self::Map(before) = value { before } else { Merged::default() };
                    whole.add_checked(part);
                    Self::Map(whole)
                }
                (7, Payload::Bytes(bytes)) => Self::Bytes(bytes),
                // An index into a table that metrics do not have.
                (8, _) => Self::Empty,
                _ => value,
            };
        }
        value
    }
}

/// Checked bytes are UTF-8.
fn utf8(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
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

/// Recursion ends where the nesting of checked messages does.
fn json(value: AnyValue<'_>) -> serde_json::Value {
    match value {
        AnyValue::Empty => serde_json::Value::Null,
        AnyValue::Text(text) => text.into(),
        AnyValue::Bool(truth) => truth.into(),
        AnyValue::Int(number) => number.into(),
        AnyValue::Double(number) if number.is_finite() => number.into(),
        AnyValue::Double(number) => double_text(number).into(),
        AnyValue::Bytes(bytes) => base64(bytes).into(),
        AnyValue::Array(list) => fields(list.get().unwrap_or_default(), 1)
            .filter_map(|payload| if let Payload::Bytes(value) = payload { Some(value) } else { None })
            .map(|value| json(AnyValue::new(value)))
            .collect(),
        AnyValue::Map(list) => {
            let mut pairs: Vec<_> = attributes(list.get().unwrap_or_default(), 1)
                .map(|pair| {
                    (
                        pair.key.to_owned(),
                        pair.value.get().map_or(serde_json::Value::Null, |value| json(AnyValue::new(value))),
                    )
                })
                .collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect()
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use prost::Message;

    use super::*;

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn text(value: Option<AnyValue>) -> String {
        let message = KeyValue { key: "k".into(), value, ..KeyValue::default() }.encode_to_vec();
        let attribute = Attribute::new(&message);
        assert_eq!(attribute.key, "k");
        attribute.text().into_owned()
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
            assert_eq!(text(Some(any(value))), expected);
        }
        assert_eq!(text(None), "");
        assert_eq!(text(Some(AnyValue { value: None })), "");
    }

    /// Parts of a value that is written several times are merged; a value of another kind takes the place of the one before.
    #[test]
    fn the_last_kind_counts_and_lists_grow() {
        let list = |value: i64| any(Value::ArrayValue(ArrayValue { values: vec![any(Value::IntValue(value))] }));
        let merged = |values: &[AnyValue]| {
            let parts = values.iter().map(|value| KeyValue { value: Some(value.clone()), ..KeyValue::default() });
            let message = parts.flat_map(|part| part.encode_to_vec()).collect::<Vec<_>>();
            Attribute::new(&message).text().into_owned()
        };
        assert_eq!(merged(&[list(1), list(2)]), "[1,2]");
        assert_eq!(merged(&[list(1), any(Value::BoolValue(true)), list(2)]), "[2]");
        assert_eq!(merged(&[list(1), any(Value::IntValue(7))]), "7");
    }
}
