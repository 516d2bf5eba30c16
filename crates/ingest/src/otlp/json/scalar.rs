//! Scalars: every form that protobuf's JSON mapping allows, to wire bytes.

use std::borrow::Cow;
use std::fmt;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::Out;
use super::schema::{FieldSchema, Kind};

/// What stands for an id that is no hexadecimal text. It is no id of spans, so that the span which has it is refused by
/// itself, as one with an id of a wrong length in protobuf is; to an exemplar it is an absent one, as all zeros are.
const NO_ID: &[u8] = &[0];

/// Reads one scalar and writes it.
pub(super) struct ScalarSeed<'o> {
    pub field: &'static FieldSchema,
    /// Whether its key is written before it.
    pub is_keyed: bool,
    pub out: &'o mut Out,
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
            Kind::Text | Kind::Hex => "text",
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
            // `1.0` and `1.7e18` are integers to protobuf. The cast stops at its ends, where no kind reaches.
            kind if value.fract() == 0.0 => integer(kind, value as i128),
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
        if self.is_keyed {
            encode_key(self.field.number, scalar.wire_type(), &mut self.out.bytes);
        }
        scalar.write(&mut self.out.bytes);
        self.out.check()
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
    fn wire_type(&self) -> WireType {
        match self {
            Self::Varint(_) => WireType::Varint,
            Self::Fixed64(_) => WireType::SixtyFourBit,
            Self::Fixed32(_) => WireType::ThirtyTwoBit,
            Self::Bytes(_) => WireType::LengthDelimited,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Varint(value) => encode_varint(*value, out),
            Self::Fixed64(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Self::Fixed32(bits) => out.extend_from_slice(&bits.to_le_bytes()),
            Self::Bytes(bytes) => {
                encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

fn text(kind: Kind, text: &str) -> Option<Scalar<'_>> {
    match kind {
        Kind::Text => Some(Scalar::Bytes(Cow::Borrowed(text.as_bytes()))),
        Kind::Hex => Some(Scalar::Bytes(hex::decode(text).map_or(Cow::Borrowed(NO_ID), Cow::Owned))),
        Kind::Base64 => base64(text).map(|bytes| Scalar::Bytes(Cow::Owned(bytes))),
        Kind::Double => double(text).map(|value| Scalar::Fixed64(value.to_bits())),
        Kind::Enum(by_name) => by_name(text).map(|number| Scalar::Varint(number as u64)),
        Kind::Bool | Kind::Message(_) => None,
        Kind::Fixed64 | Kind::Fixed32 | Kind::SignedFixed64 | Kind::Varint | Kind::Zigzag => {
            integer(kind, text.parse().ok().or_else(|| decimal(text))?)
        }
    }
}

/// An integer written with a fraction or an exponent, as `1.0` and `1.7e18` are; exact, `None` if it is none.
fn decimal(text: &str) -> Option<i128> {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if !is_number(whole) || !is_number(fraction) || !is_number(exponent.trim_start_matches(['+', '-'])) {
        return None;
    }
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = (digits.len() - significant.len()) as i64;
    let scale = exponent.parse::<i64>().ok()?.checked_add(zeros)?.checked_sub(fraction.len() as i64)?;
    let power = 10_i128.checked_pow(u32::try_from(scale).ok()?)?;
    significant.parse::<i128>().ok()?.checked_mul(power).map(|value| sign * value)
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
    fn integers_with_fractions_and_exponents_are_exact() {
        for (text, value) in [
            ("1.0", Some(1)),
            ("-1.50e1", Some(-15)),
            ("1e3", Some(1000)),
            ("1.700000000123456789E+18", Some(1_700_000_000_123_456_789)),
            ("1200e-2", Some(12)),
            ("0.0e99999999999", Some(0)),
            ("0e999", Some(0)),
            ("1.5", None),
            ("15e-1", None),
            ("1e39", None),
            ("1e-9223372036854775808", None),
            ("", None),
            ("e3", None),
            ("1.", None),
            (".5e1", None),
            ("1e", None),
            ("1e+-2", None),
            ("--1e1", None),
            ("1_0e1", None),
        ] {
            assert_eq!(decimal(text), value, "{text:?}");
        }
    }

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
