//! Scalars: every form that protobuf's JSON mapping allows, to wire bytes.

use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::schema::{FieldSchema, Kind};

/// Reads one scalar and writes it with its key.
pub(super) struct ScalarSeed<'o> {
    pub field: &'static FieldSchema,
    pub out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ScalarSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for ScalarSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field.kind {
            Kind::Message(_) => "an object",
            Kind::Text => "text",
            Kind::Hex => "hexadecimal text",
            Kind::Base64 => "base64 text",
            Kind::Bool => "true or false",
            Kind::Double => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
            Kind::Fixed64 | Kind::Fixed32 | Kind::SignedFixed64 | Kind::Varint | Kind::Zigzag => {
                "an integer, as a number or as text"
            }
            Kind::Enum(_) => "the number or name of an enumeration",
        };
        write!(f, "{what} in {:?}", self.field.name)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => Ok(self.varint(u64::from(value))),
            _ => Err(self.wrong()),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => Ok(self.fixed64(value.to_bits())),
            // `1.0` and `1e3` are integers to protobuf.
            _ if value.fract() == 0.0 && value.abs() < 1e15 => self.integer(value as i128),
            _ => Err(self.wrong()),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Text => Ok(self.bytes(text.as_bytes())),
            Kind::Hex => match hex::decode(text) {
                Ok(bytes) => Ok(self.bytes(&bytes)),
                Err(_) => Err(self.wrong()),
            },
            Kind::Base64 => match base64(text) {
                Some(bytes) => Ok(self.bytes(&bytes)),
                None => Err(self.wrong()),
            },
            Kind::Double => match double(text) {
                Some(value) => Ok(self.fixed64(value.to_bits())),
                None => Err(self.wrong()),
            },
            Kind::Enum(by_name) => match by_name(text) {
                Some(number) => Ok(self.varint(number as u64)),
                None => Err(self.wrong()),
            },
            Kind::Bool | Kind::Message(_) => Err(self.wrong()),
            Kind::Fixed64 | Kind::Fixed32 | Kind::SignedFixed64 | Kind::Varint | Kind::Zigzag => {
                match text.parse::<i128>() {
                    Ok(value) => self.integer(value),
                    Err(_) => Err(self.wrong()),
                }
            }
        }
    }
}

impl ScalarSeed<'_> {
    fn wrong<E: Error>(&self) -> E {
        E::custom(format_args!("expected {}", Expecting(self)))
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let fits = |low: i128, high: i128| (low..=high).contains(&value);
        match self.field.kind {
            Kind::Double => Ok(self.fixed64((value as f64).to_bits())),
            Kind::Fixed64 if fits(0, u64::MAX.into()) => Ok(self.fixed64(value as u64)),
            Kind::SignedFixed64 if fits(i64::MIN.into(), i64::MAX.into()) => Ok(self.fixed64(value as i64 as u64)),
            Kind::Fixed32 if fits(0, u32::MAX.into()) => {
                encode_key(self.field.number, WireType::ThirtyTwoBit, self.out);
                self.out.extend_from_slice(&(value as u32).to_le_bytes());
                Ok(())
            }
            Kind::Varint if fits(i64::MIN.into(), u64::MAX.into()) => Ok(self.varint(value as u64)),
            Kind::Enum(_) if fits(i32::MIN.into(), i32::MAX.into()) => Ok(self.varint(value as i64 as u64)),
            Kind::Zigzag if fits(i32::MIN.into(), i32::MAX.into()) => {
                let value = value as i64;
                Ok(self.varint(((value << 1) ^ (value >> 63)) as u64))
            }
            _ => Err(self.wrong()),
        }
    }

    fn varint(self, value: u64) {
        encode_key(self.field.number, WireType::Varint, self.out);
        encode_varint(value, self.out);
    }

    fn fixed64(self, bits: u64) {
        encode_key(self.field.number, WireType::SixtyFourBit, self.out);
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn bytes(self, bytes: &[u8]) {
        encode_key(self.field.number, WireType::LengthDelimited, self.out);
        encode_varint(bytes.len() as u64, self.out);
        self.out.extend_from_slice(bytes);
    }
}

/// What a seed expects, as text.
struct Expecting<'a, 'o>(&'a ScalarSeed<'o>);

impl fmt::Display for Expecting<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

/// Standard or URL-safe base64, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let bits = chunk.iter().try_fold(0_u32, |bits, digit| Some(bits << 6 | sextet(*digit)?))? << (6 * (4 - chunk.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}

fn sextet(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_kind() {
        for (text, bytes) in [("", &b""[..]), ("YQ==", b"a"), ("YQ", b"a"), ("YWI", b"ab"), ("-_-_", &[0xfb, 0xff, 0xbf]), ("+/+/", &[0xfb, 0xff, 0xbf])] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!((base64("A"), base64("A?==")), (None, None));
    }
}
