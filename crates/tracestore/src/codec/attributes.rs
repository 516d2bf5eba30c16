//! Attributes with their types and order.

use pharos_model::{Attribute, AttributeValue, Attributes};

use super::wire::{DecodeError, Reader, Writer};

/// How deep arrays and maps may nest. Deeper spans are refused at the door of the store, so that no
/// reader needs more stack than this.
pub(crate) const ATTRIBUTE_DEPTH_MAX: usize = 64;

const EMPTY: u8 = 0;
const STRING: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const DOUBLE: u8 = 5;
const BYTES: u8 = 6;
const ARRAY: u8 = 7;
const MAP: u8 = 8;

/// How deep the values nest: 0 without arrays and maps. Stops counting just above the limit.
pub(crate) fn attribute_depth(attributes: &Attributes) -> usize {
    attributes.iter().map(|attribute| value_depth(&attribute.value, 0)).max().unwrap_or(0)
}

fn value_depth(value: &AttributeValue, above: usize) -> usize {
    if above > ATTRIBUTE_DEPTH_MAX {
        return above;
    }
    match value {
        AttributeValue::Array(values) => {
            values.iter().map(|value| value_depth(value, above + 1)).max().unwrap_or(above + 1)
        }
        AttributeValue::Map(attributes) => {
            attributes.iter().map(|attribute| value_depth(&attribute.value, above + 1)).max().unwrap_or(above + 1)
        }
        _ => above,
    }
}

pub(super) fn put_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    out.put_varint(attributes.len() as u64);
    for attribute in attributes {
        out.put_bytes(attribute.key.as_bytes());
        put_value(out, &attribute.value);
    }
}

fn put_value(out: &mut Vec<u8>, value: &AttributeValue) {
    match value {
        AttributeValue::Empty => out.push(EMPTY),
        AttributeValue::String(text) => {
            out.push(STRING);
            out.put_bytes(text.as_bytes());
        }
        AttributeValue::Bool(false) => out.push(FALSE),
        AttributeValue::Bool(true) => out.push(TRUE),
        AttributeValue::Int(number) => {
            out.push(INT);
            out.put_delta(*number as u64, 0);
        }
        AttributeValue::Double(number) => {
            out.push(DOUBLE);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        AttributeValue::Bytes(bytes) => {
            out.push(BYTES);
            out.put_bytes(bytes);
        }
        AttributeValue::Array(values) => {
            out.push(ARRAY);
            out.put_varint(values.len() as u64);
            for value in values {
                put_value(out, value);
            }
        }
        AttributeValue::Map(attributes) => {
            out.push(MAP);
            put_attributes(out, attributes);
        }
    }
}

/// A value as it stands in the bytes. Arrays and maps stay encoded, type byte included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawValue<'a> {
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    /// The bits of a double.
    Double(u64),
    Bytes(&'a [u8]),
    Nested(&'a [u8]),
}

/// One value, borrowed; arrays and maps are walked, so that they decode later.
pub(super) fn read_raw_value<'a>(reader: &mut Reader<'a>) -> Result<RawValue<'a>, DecodeError> {
    let mut ahead = *reader;
    Ok(match reader.byte("attribute type")? {
        EMPTY => RawValue::Empty,
        STRING => RawValue::Text(reader.text("attribute text")?),
        FALSE => RawValue::Bool(false),
        TRUE => RawValue::Bool(true),
        INT => RawValue::Int(reader.delta(0, "attribute integer")? as i64),
        DOUBLE => RawValue::Double(u64::from_le_bytes(reader.array("attribute double")?)),
        BYTES => RawValue::Bytes(reader.bytes("attribute bytes")?),
        ARRAY | MAP => {
            *reader = ahead;
            skip_value(reader, 0)?;
            RawValue::Nested(ahead.take(ahead.remaining() - reader.remaining(), "attribute value")?)
        }
        _ => return Err(DecodeError::OutOfRange("attribute type")),
    })
}

fn skip_value(reader: &mut Reader<'_>, depth: usize) -> Result<(), DecodeError> {
    if depth > ATTRIBUTE_DEPTH_MAX {
        return Err(DecodeError::OutOfRange("attribute depth"));
    }
    let type_byte = reader.byte("attribute type")?;
    match type_byte {
        EMPTY | FALSE | TRUE => {}
        STRING => {
            reader.text("attribute text")?;
        }
        INT => {
            reader.varint("attribute integer")?;
        }
        DOUBLE => {
            reader.array::<8>("attribute double")?;
        }
        BYTES => {
            reader.bytes("attribute bytes")?;
        }
        ARRAY | MAP => {
            for _ in 0..reader.count("value count")? {
                if type_byte == MAP {
                    reader.text("attribute key")?;
                }
                skip_value(reader, depth + 1)?;
            }
        }
        _ => return Err(DecodeError::OutOfRange("attribute type")),
    }
    Ok(())
}

/// The array or map of a [`RawValue::Nested`].
pub(crate) fn decode_nested(bytes: &[u8]) -> Result<AttributeValue, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = read_value(&mut reader, 0)?;
    if reader.is_empty() { Ok(value) } else { Err(DecodeError::OutOfRange("attribute length")) }
}

pub(super) fn read_attributes(reader: &mut Reader<'_>) -> Result<Attributes, DecodeError> {
    read_map(reader, 0)
}

fn read_map(reader: &mut Reader<'_>, depth: usize) -> Result<Attributes, DecodeError> {
    let count = reader.count("attribute count")?;
    // Each takes at least two bytes, so a hostile count cannot reserve more than a small multiple of the input.
    let mut attributes = Vec::with_capacity(count.min(reader.remaining() / 2));
    for _ in 0..count {
        let key = reader.text("attribute key")?.to_owned();
        attributes.push(Attribute { key, value: read_value(reader, depth)? });
    }
    Ok(attributes)
}

fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<AttributeValue, DecodeError> {
    if depth > ATTRIBUTE_DEPTH_MAX {
        return Err(DecodeError::OutOfRange("attribute depth"));
    }
    Ok(match reader.byte("attribute type")? {
        EMPTY => AttributeValue::Empty,
        STRING => AttributeValue::String(reader.text("attribute text")?.to_owned()),
        FALSE => AttributeValue::Bool(false),
        TRUE => AttributeValue::Bool(true),
        INT => AttributeValue::Int(reader.delta(0, "attribute integer")? as i64),
        DOUBLE => AttributeValue::Double(f64::from_bits(u64::from_le_bytes(reader.array("attribute double")?))),
        BYTES => AttributeValue::Bytes(reader.bytes("attribute bytes")?.to_vec()),
        ARRAY => {
            let count = reader.count("array length")?;
            let values: Result<Vec<_>, _> = (0..count).map(|_| read_value(reader, depth + 1)).collect();
            AttributeValue::Array(values?)
        }
        MAP => AttributeValue::Map(read_map(reader, depth + 1)?),
        _ => return Err(DecodeError::OutOfRange("attribute type")),
    })
}
