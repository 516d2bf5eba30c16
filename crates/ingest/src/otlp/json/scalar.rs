//! Scalars: every form that protobuf's JSON mapping allows, to wire bytes.

use std::borrow::Cow;
use std::fmt;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
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

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        self.write(matches!(self.field.kind, Kind::Bool).then_some(Scalar::Varint(u64::from(value))))
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.write(integer(self.field.kind, i128::from(value)))
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.write(integer(self.field.kind, i128::from(value)))
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        self.write(match self.field.kind {
            Kind::Double => Some(Scalar::Fixed64(value.to_bits())),
            // `1.0` and `1e3` are integers to protobuf.
            kind if value.fract() == 0.0 && value.abs() < 1e15 => integer(kind, value as i128),
            _ => None,
        })
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        self.write(text(self.field.kind, value))
    }
}

impl ScalarSeed<'_> {
    /// Writes the scalar, or refuses what was no value of the field's kind.
    fn write<E: Error>(&mut self, scalar: Option<Scalar<'_>>) -> Result<(), E> {
        let Some(scalar) = scalar else {
            return Err(E::custom(format_args!("expected {}", Expecting(self))));
        };
        scalar.write(self.field.number, self.out);
        Ok(())
    }
}

/// A scalar as the wire has it.
enum Scalar<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Cow<'a, [u8]>),
}

impl Scalar<'_> {
    fn write(&self, field: u32, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => {
                encode_key(field, WireType::Varint, out);
                encode_varint(*value, out);
            }
            Self::Fixed64(bits) => {
                encode_key(field, WireType::SixtyFourBit, out);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Self::Fixed32(bits) => {
                encode_key(field, WireType::ThirtyTwoBit, out);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Self::Bytes(bytes) => {
                encode_key(field, WireType::LengthDelimited, out);
                encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

fn text(kind: Kind, text: &str) -> Option<Scalar<'_>> {
    match kind {
        Kind::Text => Some(Scalar::Bytes(Cow::Borrowed(text.as_bytes()))),
        Kind::Hex => hex::decode(text).ok().map(|bytes| Scalar::Bytes(Cow::Owned(bytes))),
        Kind::Base64 => base64(text).map(|bytes| Scalar::Bytes(Cow::Owned(bytes))),
        Kind::Double => double(text).map(|value| Scalar::Fixed64(value.to_bits())),
        Kind::Enum(by_name) => by_name(text).map(|number| Scalar::Varint(number as u64)),
        Kind::Bool | Kind::Message(_) => None,
        Kind::Fixed64 | Kind::Fixed32 | Kind::SignedFixed64 | Kind::Varint | Kind::Zigzag => {
            integer(kind, text.parse().ok()?)
        }
    }
}

fn integer(kind: Kind, value: i128) -> Option<Scalar<'static>> {
    let fits = |low: i128, high: i128| (low..=high).contains(&value);
    match kind {
        Kind::Double => Some(Scalar::Fixed64((value as f64).to_bits())),
        Kind::Fixed64 if fits(0, u64::MAX.into()) => Some(Scalar::Fixed64(value as u64)),
        Kind::SignedFixed64 if fits(i64::MIN.into(), i64::MAX.into()) => Some(Scalar::Fixed64(value as u64)),
        Kind::Fixed32 if fits(0, u32::MAX.into()) => Some(Scalar::Fixed32(value as u32)),
        Kind::Varint if fits(i64::MIN.into(), u64::MAX.into()) => Some(Scalar::Varint(value as u64)),
        Kind::Enum(_) if fits(i32::MIN.into(), i32::MAX.into()) => Some(Scalar::Varint(value as u64)),
        Kind::Zigzag if fits(i32::MIN.into(), i32::MAX.into()) => {
            Some(Scalar::Varint(((value << 1) ^ (value >> 127)) as u64))
        }
        _ => None,
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

/// Standard or URL-safe base64, padded or not, as protobuf's JSON mapping allows.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    LENIENT.decode(text.replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_kind() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("YQ==", b"a"),
            ("YQ", b"a"),
            ("YWI", b"ab"),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!((base64("A"), base64("A?==")), (None, None));
    }
}
