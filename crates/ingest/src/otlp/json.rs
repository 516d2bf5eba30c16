//! OTLP/JSON, streamed into the protobuf wire form by a table of fields.
//!
//! Protobuf's JSON mapping with OpenTelemetry's changes: ids are hexadecimal of either case, 64-bit
//! integers are strings or numbers, enumerations numbers (names are taken too), unknown fields are
//! ignored, null is the default, keys are lowerCamelCase. Nesting is bounded by a limit.
//!
//! Values are written as they are read, into one piece of memory: a message in another is written where it belongs, its length
//! before it once that is known. What is written has a limit of its own, as numbers can be longer there than in JSON.
//!
//! Source: OpenTelemetry protocol specification, "JSON Protobuf Encoding".

mod scalar;
mod schema;

use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use scalar::ScalarSeed;
use schema::FieldSchema;
pub(super) use schema::{
    ANY_VALUE, BUCKETS, EVENT, EXEMPLAR, EXPONENTIAL_HISTOGRAM, GAUGE, HISTOGRAM, KEY_VALUE, Kind, LINK,
    METRICS_REQUEST, MessageSchema, RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN, STATUS, SUM, SUMMARY,
    TRACES_REQUEST, VALUE_AT_QUANTILE,
};

/// Why a JSON text is not turned into a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum JsonError {
    /// It is no such message.
    #[error(transparent)]
    Text(#[from] serde_json::Error),
    /// The message would be longer than it may be.
    #[error("the message is too long")]
    TooLong,
}

/// Turns a JSON text into the wire form of the message that `schema` describes, of at most `bytes_max`.
pub(super) fn to_wire(
    body: &[u8],
    schema: &'static MessageSchema,
    nesting_max: usize,
    bytes_max: u64,
) -> Result<Vec<u8>, JsonError> {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut out = Out { bytes: Vec::with_capacity((body.len() / 2).min(bytes_max)), bytes_max, is_full: false };
    let mut json = serde_json::Deserializer::from_slice(body);
    // Messages of a request nest 8 deep around its attribute values, which nest two levels each.
    let depth_left = 8 + 2 * nesting_max;
    let read = MessageSeed { schema, depth_left, out: &mut out }.deserialize(&mut json).and_then(|()| json.end());
    if out.is_full {
        return Err(JsonError::TooLong);
    }
    Ok(read.map(|()| out.bytes)?)
}

/// The message so far.
struct Out {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Whether more was to be written than may be; what the reader says of that is not heard.
    is_full: bool,
}

impl Out {
    /// Writes the key of a field whose length comes next, and answers where its content begins; [`end`](Self::end) ends it.
    fn begin(&mut self, field: u32) -> usize {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        // Most lengths are of one byte.
        self.bytes.push(0);
        self.bytes.len()
    }

    /// Writes the length of what was written since [`begin`](Self::begin).
    fn end(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        let prefix = encoded_len_varint(length as u64);
        if prefix > 1 {
            self.bytes.resize(start + length + prefix - 1, 0);
            self.bytes.copy_within(start..start + length, start + prefix - 1);
        }
        let mut at = &mut self.bytes[start - 1..start - 1 + prefix];
        encode_varint(length as u64, &mut at);
    }

    /// Fails once more is written than may be.
    fn check<E: Error>(&mut self) -> Result<(), E> {
        if self.bytes.len() > self.bytes_max {
            self.is_full = true;
            return Err(E::custom("the message is too long"));
        }
        Ok(())
    }
}

struct MessageSeed<'o> {
    schema: &'static MessageSchema,
    depth_left: usize,
    out: &'o mut Out,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth_left == 0 {
            return Err(D::Error::custom("values nest deeper than ingest.limits.nesting_max"));
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.schema.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(FieldName(self.schema))? {
            match field {
                Some(field) => {
                    map.next_value_seed(FieldSeed { field, depth_left: self.depth_left - 1, out: self.out })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Looks a key up without copying it.
struct FieldName(&'static MessageSchema);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<&'static FieldSchema>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<&'static FieldSchema>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().find(|field| field.name == key))
    }
}

/// One field's value: null, one, or a list of them.
struct FieldSeed<'o> {
    field: &'static FieldSchema,
    depth_left: usize,
    out: &'o mut Out,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.field.name)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.field.is_repeated {
            deserializer.deserialize_seq(self)
        } else {
            ElementSeed { field: self.field, depth_left: self.depth_left, out: self.out }.deserialize(deserializer)
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { field, depth_left, out } = self;
        if !field.kind.is_packed() {
            while elements.next_element_seed(ElementSeed { field, depth_left, out })?.is_some() {}
            return Ok(());
        }
        let before = out.bytes.len();
        let start = out.begin(field.number);
        while elements.next_element_seed(ScalarSeed { field, is_keyed: false, out })?.is_some() {}
        if out.bytes.len() == start {
            out.bytes.truncate(before);
        } else {
            out.end(start);
        }
        Ok(())
    }
}

/// One element, with its key and, for a message, its length.
struct ElementSeed<'o> {
    field: &'static FieldSchema,
    depth_left: usize,
    out: &'o mut Out,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, depth_left, out } = self;
        let Kind::Message(schema) = field.kind else {
            return ScalarSeed { field, is_keyed: true, out }.deserialize(deserializer);
        };
        let start = out.begin(field.number);
        MessageSeed { schema, depth_left, out }.deserialize(deserializer)?;
        out.end(start);
        out.check()
    }
}

#[cfg(test)]
mod tests;
