//! Rules of protobuf messages that a reader of single fields does not see: which bytes are a message at all, and what
//! several parts of one message come to.
//!
//! Who translates a message field by field looks at what he needs. What he leaves out goes through [`check`], so that a
//! request is refused for damage wherever it is: exactly where a decoder that is generated from the schema would.

use std::borrow::Cow;

use super::json::{Kind, MessageSchema};
use crate::wire::{Payload, Reader, WireError};

/// How deep messages nest, the request being the first: what protobuf's decoders commonly bear.
const NESTING_MAX: u32 = 100;
/// What may still nest in a resource (request, resource metrics, resource).
pub(super) const RESOURCE_NESTING: u32 = NESTING_MAX - 2;
/// What may still nest in a scope or a metric.
pub(super) const METRIC_NESTING: u32 = NESTING_MAX - 3;
/// What may still nest in what a metric holds, as gauge or sum.
pub(super) const DATA_NESTING: u32 = METRIC_NESTING - 1;
/// What may still nest in the messages of a data point: attributes, exemplars, buckets.
pub(super) const IN_POINT_NESTING: u32 = DATA_NESTING - 2;

/// Checks that `message` is one of `schema` to its last byte.
///
/// # Errors
/// Damage, a wrong wire type, text that is not UTF-8, or more than `nesting` messages in one another.
pub(super) fn check(message: &[u8], schema: &'static MessageSchema, nesting: u32) -> Result<(), WireError> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        let Some(known) = schema.fields.iter().find(|known| known.number == field.number) else {
            if nesting == 0 {
                return Err(WireError::Nesting);
            }
            continue;
        };
        let is_repeated = known.is_repeated;
        match known.kind {
            Kind::Message(inner) => {
                let nesting = nesting.checked_sub(1).ok_or(WireError::Nesting)?;
                check(field.bytes()?, inner, nesting)?;
            }
            Kind::Text => drop(field.text()?),
            Kind::Hex | Kind::Base64 => drop(field.bytes()?),
            Kind::Bool | Kind::Varint | Kind::Zigzag | Kind::Enum(_) if is_repeated => field.each_varint(drop)?,
            Kind::Bool | Kind::Varint | Kind::Zigzag | Kind::Enum(_) => drop(field.varint()?),
            Kind::Double | Kind::Fixed64 | Kind::SignedFixed64 if is_repeated => field.each_fixed64(drop)?,
            Kind::Double | Kind::Fixed64 | Kind::SignedFixed64 => drop(field.fixed64()?),
            Kind::Fixed32 => drop(field.fixed32()?),
        }
    }
    Ok(())
}

/// A message that one field holds. Where the field occurs more than once its parts are one message, one behind the
/// other: that is what protobuf's rule of merging comes to.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged<'a>(Option<Cow<'a, [u8]>>);

impl<'a> Merged<'a> {
    /// Adds a part. Parts are checked before they are joined, as damage at the end of one could look sound with the next.
    pub(super) fn add(
        &mut self,
        part: &'a [u8],
        schema: &'static MessageSchema,
        nesting: u32,
    ) -> Result<(), WireError> {
        match &mut self.0 {
            None => self.0 = Some(Cow::Borrowed(part)),
            Some(whole) => {
                if let Cow::Borrowed(first) = whole {
                    check(first, schema, nesting)?;
                }
                check(part, schema, nesting)?;
                whole.to_mut().extend_from_slice(part);
            }
        }
        Ok(())
    }

    /// As [`add`](Self::add), of a part that was checked.
    pub(super) fn add_checked(&mut self, part: &'a [u8]) {
        match &mut self.0 {
            None => self.0 = Some(Cow::Borrowed(part)),
            Some(whole) => whole.to_mut().extend_from_slice(part),
        }
    }

    /// The message, if the field is there.
    pub(super) fn get(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

/// Fields of one number of a checked message.
pub(super) fn fields(message: &[u8], number: u32) -> impl Iterator<Item = Payload<'_>> + Clone {
    let mut reader = Reader::new(message);
    std::iter::from_fn(move || reader.next().ok().flatten())
        .filter(move |field| field.number == number)
        .map(|field| field.payload)
}
