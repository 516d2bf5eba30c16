//! What a protobuf message would take in memory, computed before it is decoded.
//!
//! An empty message is two bytes on the wire and hundreds decoded, so the size of the body bounds nothing. One
//! pass over the bytes, along the table of fields, adds up what decoding would allocate, and stops at the limit.

use pharos_base::ByteSize;

use super::json::{Kind, MessageSchema};
use crate::IngestError;
use crate::wire::{Payload, Reader};

/// Deeper messages are refused by the decoder.
const DEPTH_MAX: u32 = 100;

/// What a request may still take in memory.
#[derive(Debug)]
pub(super) struct Footprint {
    left: u64,
    limit: u64,
}

impl Footprint {
    pub(super) fn new(limit: ByteSize) -> Self {
        Self { left: limit.0, limit: limit.0 }
    }

    /// Takes what a message of this schema takes, decoded; damaged bytes take what they have until then, as the decoder names
    /// them.
    ///
    /// # Errors
    /// [`IngestError::BatchTooLarge`].
    pub(super) fn take(&mut self, wire: &[u8], schema: &'static MessageSchema) -> Result<(), IngestError> {
        subtract(wire, schema, &mut self.left, 0).ok_or_else(|| self.too_large())
    }

    /// Takes so many bytes, if they are left.
    pub(super) fn take_bytes(&mut self, bytes: usize) -> Result<(), IngestError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(|| self.too_large())?;
        Ok(())
    }

    /// What is left, bytes.
    pub(super) fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    fn too_large(&self) -> IngestError {
        let (what, setting) = ("bytes of memory", "ingest.limits.decoded_max");
        IngestError::BatchTooLarge { what, setting, limit: self.limit }
    }
}

/// What a message takes, decoded, bytes.
pub(super) fn bytes_of(wire: &[u8], schema: &'static MessageSchema) -> usize {
    let mut left = u64::MAX;
    let _ = subtract(wire, schema, &mut left, 0);
    usize::try_from(u64::MAX - left).unwrap_or(usize::MAX)
}

/// Subtracts the footprint of a message from `left`; `None` when nothing is left.
fn subtract(wire: &[u8], schema: &'static MessageSchema, left: &mut u64, depth: u32) -> Option<()> {
    *left = left.checked_sub(schema.memory_bytes as u64)?;
    if depth > DEPTH_MAX {
        return Some(());
    }
    let mut reader = Reader::new(wire);
    while let Ok(Some(read)) = reader.next() {
        let Some(field) = schema.fields.iter().find(|field| field.number == read.number) else { continue };
        match (read.payload, field.kind) {
            (Payload::Bytes(bytes), Kind::Message(schema)) => subtract(bytes, schema, left, depth + 1)?,
            (Payload::Bytes(bytes), Kind::Text | Kind::Hex | Kind::Base64) => {
                *left = left.checked_sub(bytes.len() as u64)?;
            }
            // Packed numbers: a varint of one byte becomes a word.
            (Payload::Bytes(bytes), _) => *left = left.checked_sub(8 * bytes.len() as u64)?,
            _ if field.is_repeated => *left = left.checked_sub(8)?,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::super::json::TRACES_REQUEST;
    use super::*;

    fn nested(mut inner: Vec<u8>, keys: &[u8]) -> Vec<u8> {
        for &key in keys {
            let mut outer = vec![key];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend_from_slice(&inner);
            inner = outer;
        }
        inner
    }

    #[test]
    fn a_thousand_empty_spans_count_as_what_they_become() {
        let spans = [0x12, 0].repeat(1000);
        let body = nested(spans, &[0x12, 0x0a]);
        let needed = 1000 * size_of::<Span>() as u64;
        assert!(Footprint::new(ByteSize(needed + 1000)).take(&body, &TRACES_REQUEST).is_ok());
        let refused = Footprint::new(ByteSize(needed)).take(&body, &TRACES_REQUEST);
        assert!(matches!(refused, Err(IngestError::BatchTooLarge { limit, .. }) if limit == needed));
    }

    #[test]
    fn depth_and_damage_end() {
        let deep = (0..300).fold(Vec::new(), |inner, _| nested(inner, &[0x0a, 0x2a]));
        let body = nested(deep, &[0x12, 0x4a, 0x12, 0x12, 0x0a]);
        assert!(Footprint::new(ByteSize::mib(1)).take(&body, &TRACES_REQUEST).is_ok());
        assert!(Footprint::new(ByteSize::mib(1)).take(b"\x0a\xff\xff", &TRACES_REQUEST).is_ok());
    }
}
