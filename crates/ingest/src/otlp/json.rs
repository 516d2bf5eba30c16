//! OTLP/JSON, streamed into the protobuf wire form by a table of fields.
//!
//! Protobuf's JSON mapping with OpenTelemetry's changes: ids are hexadecimal of either case, 64-bit
//! integers are strings or numbers, enumerations numbers (names are taken too), unknown fields are
//! ignored, null is the default, keys are lowerCamelCase. Values are written as they are read, so
//! memory is bounded by the body; nesting is bounded by a limit.
//!
//! Source: OpenTelemetry protocol specification, "JSON Protobuf Encoding".

mod scalar;
mod schema;

use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use schema::FieldSchema;
pub(super) use schema::{
    ANY_VALUE, BUCKETS, EVENT, EXEMPLAR, EXPONENTIAL_HISTOGRAM, GAUGE, HISTOGRAM, KEY_VALUE, Kind, LINK,
    METRICS_REQUEST, MessageSchema, RESOURCE, RESOURCE_SPANS, SCOPE, SCOPE_SPANS, SPAN, STATUS, SUM, SUMMARY,
    TRACES_REQUEST, VALUE_AT_QUANTILE,
};

/// Turns a JSON text into the wire form of the message that `schema` describes.
pub(super) fn to_wire(
    body: &[u8],
    schema: &'static MessageSchema,
    nesting_max: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(body.len() / 2);
    let mut json = serde_json::Deserializer::from_slice(body);
    // Messages of a request nest 8 deep around its attribute values, which nest two levels each.
    let depth_left = 8 + 2 * nesting_max;
    MessageSeed { schema, depth_left, out: &mut out }.deserialize(&mut json)?;
    json.end()?;
    Ok(out)
}

struct MessageSeed<'o> {
    schema: &'static MessageSchema,
    depth_left: usize,
    out: &'o mut Vec<u8>,
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
    out: &'o mut Vec<u8>,
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
        while elements.next_element_seed(ElementSeed { field, depth_left, out })?.is_some() {}
        Ok(())
    }
}

/// One element, with its key and, for a message, its length.
struct ElementSeed<'o> {
    field: &'static FieldSchema,
    depth_left: usize,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, depth_left, out } = self;
        let Kind::Message(schema) = field.kind else {
            return scalar::ScalarSeed { field, out }.deserialize(deserializer);
        };
        let mut message = Vec::new();
        MessageSeed { schema, depth_left, out: &mut message }.deserialize(deserializer)?;
        encode_key(field.number, WireType::LengthDelimited, out);
        encode_varint(message.len() as u64, out);
        out.extend_from_slice(&message);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
