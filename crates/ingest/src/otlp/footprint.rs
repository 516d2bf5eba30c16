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

/// Checks the decoded size of `wire`; damaged bytes pass, as the decoder names them.
///
/// # Errors
/// [`IngestError::BatchTooLarge`].
pub(super) fn check(wire: &[u8], schema: &'static MessageSchema, limit: ByteSize) -> Result<(), IngestError> {
    let mut left = limit.0;
    match subtract(wire, schema, &mut left, 0) {
        Some(()) => Ok(()),
        None => Err(IngestError::BatchTooLarge {
            what: "bytes of memory",
            setting: "ingest.limits.decoded_max",
            limit: limit.0,
        }),
    }
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
        assert!(check(&body, &TRACES_REQUEST, ByteSize(needed + 1000)).is_ok());
        let refused = check(&body, &TRACES_REQUEST, ByteSize(needed));
        assert!(matches!(refused, Err(IngestError::BatchTooLarge { limit, .. }) if limit == needed));
    }

    #[test]
    fn depth_and_damage_end() {
        let deep = (0..300).fold(Vec::new(), |inner, _| nested(inner, &[0x0a, 0x2a]));
        let body = nested(deep, &[0x12, 0x4a, 0x12, 0x12, 0x0a]);
        assert!(check(&body, &TRACES_REQUEST, ByteSize::mib(1)).is_ok());
        assert!(check(b"\x0a\xff\xff", &TRACES_REQUEST, ByteSize::mib(1)).is_ok());
    }
}
