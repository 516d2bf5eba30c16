//! Attributes as they stand on the wire, and their values as the text of a label.
//!
//! Everything here reads bytes that [`check`](super::message::check) has passed.
//!
//! A list or map of two bytes an element takes a hundred in memory while it becomes JSON, and a few escaped bytes become
//! many. No label may be that long: what is longer than a label's value is given up before it grows.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};

use pharos_storage::RejectReason;

use super::message::{Merged, fields};
use crate::Limits;
use crate::limits::cut;
use crate::sink::Refusal;
use crate::wire::{Payload, Reader};

/// The message of a list or map is not looked into where it is so many times longer than a label's value may be: none
/// that is written as usual has a JSON so much shorter.
const COMPOSITE_SHRINKAGE_MAX: usize = 16;
/// Shorter ones are looked into all the same.
const COMPOSITE_BYTES_MIN: usize = 16 << 10;

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
    ///
    /// # Errors
    /// Longer than a label's value may be.
    pub(super) fn text(&self, limits: &Limits) -> Result<Cow<'_, str>, Refusal> {
        let bytes_max = limits.label_value_bytes_max;
        let composite_bytes_max = bytes_max.saturating_mul(COMPOSITE_SHRINKAGE_MAX).max(COMPOSITE_BYTES_MIN);
        let message = self.value.get().unwrap_or_default();
        let text = match AnyValue::new(message) {
            AnyValue::Empty => Cow::Borrowed(""),
            AnyValue::Text(text) => Cow::Borrowed(text),
            AnyValue::Bool(true) => Cow::Borrowed("true"),
            AnyValue::Bool(false) => Cow::Borrowed("false"),
            AnyValue::Int(number) => Cow::Owned(number.to_string()),
            AnyValue::Double(number) => Cow::Owned(double_text(number)),
            AnyValue::Bytes(bytes) if bytes.len() <= bytes_max => Cow::Owned(base64(bytes)),
            composite @ (AnyValue::Array(_) | AnyValue::Map(_)) if message.len() <= composite_bytes_max => {
                Cow::Owned(json(composite).to_string())
            }
            AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::Map(_) => return Err(self.too_long(bytes_max)),
        };
        if text.len() <= bytes_max { Ok(text) } else { Err(self.too_long(bytes_max)) }
    }

    fn too_long(&self, bytes_max: usize) -> Refusal {
        let key = cut(self.key, 64);
        let message =
            format!("value of attribute {key:?} is longer than ingest.limits.label_value_bytes_max = {bytes_max}");
        Refusal { reason: RejectReason::Limit, message }
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
        attribute.text(&Limits::default()).unwrap().into_owned()
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
            Attribute::new(&message).text(&Limits::default()).unwrap().into_owned()
        };
        assert_eq!(merged(&[list(1), list(2)]), "[1,2]");
        assert_eq!(merged(&[list(1), any(Value::BoolValue(true)), list(2)]), "[2]");
        assert_eq!(merged(&[list(1), any(Value::IntValue(7))]), "7");
    }

    #[test]
    fn what_no_label_can_hold_is_given_up() {
        let limits = Limits { label_value_bytes_max: 8, ..Limits::default() };
        let is_given_up = |value: Value| {
            let message = KeyValue { key: "k".into(), value: Some(any(value)), ..KeyValue::default() }.encode_to_vec();
            let attribute = Attribute::new(&message);
            let refusal = attribute.text(&limits).err();
            refusal.map(|refusal| assert!(refusal.message.contains("\"k\""), "{refusal:?}")).is_some()
        };
        let nulls = |count| Value::ArrayValue(ArrayValue { values: vec![AnyValue::default(); count] });
        let doubles = |count| Value::ArrayValue(ArrayValue { values: vec![any(Value::DoubleValue(1.0)); count] });
        for (fits, too_long) in [
            (Value::StringValue("12345678".into()), Value::StringValue("123456789".into())),
            (Value::IntValue(12_345_678), Value::IntValue(123_456_789)),
            (Value::BytesValue(vec![0; 6]), Value::BytesValue(vec![0; 7])),
            (nulls(1), nulls(2)),
            (doubles(1), doubles(2)),
            // Not looked into.
            (nulls(0), nulls(1 << 20)),
        ] {
            assert!(!is_given_up(fits.clone()), "{fits:?}");
            assert!(is_given_up(too_long));
        }
    }
}
