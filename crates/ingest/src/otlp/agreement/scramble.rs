//! The same message written otherwise, and messages damaged.

use prost::encoding::encode_varint;

use super::super::json::{Kind, MessageSchema};
use super::requests::Random;
use crate::wire::{Payload, Reader};

/// Writes a message in an unusual way; merging and the rule that the last one counts may change what it says.
pub(in crate::otlp) fn message(bytes: &[u8], schema: &'static MessageSchema, random: &mut Random) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Ok(Some(field)) = reader.next() {
        let kind = schema.fields.iter().find(|known| known.number == field.number).map(|known| known.kind);
        let mut out = Vec::new();
        match (field.payload, kind) {
            (Payload::Bytes(inner), Some(Kind::Message(schema))) => {
                let inner = message(inner, schema, random);
                delimited(field.number, &inner, random, &mut out);
            }
            (Payload::Bytes(packed), Some(Kind::Fixed64 | Kind::Double)) if random.once_in(2) => {
                for word in packed.chunks(8) {
                    key(field.number, 1, random, &mut out);
                    out.extend_from_slice(word);
                }
            }
            (Payload::Bytes(inner), _) => delimited(field.number, inner, random, &mut out),
            (Payload::Varint(number), _) => {
                key(field.number, 0, random, &mut out);
                varint(number, random, &mut out);
            }
            (Payload::Fixed64(bits), _) => {
                key(field.number, 1, random, &mut out);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            (Payload::Fixed32(bits), _) => {
                key(field.number, 5, random, &mut out);
                out.extend_from_slice(&bits.to_le_bytes());
            }
            (Payload::Group, _) => {}
        }
        if random.once_in(12) {
            fields.push(out.clone());
        }
        fields.push(out);
    }
    if random.once_in(6) {
        // Unknown: a group with a number in it, and bytes.
        fields.push(vec![0xa3, 0x06, 0x08, 0x01, 0xa4, 0x06]);
        fields.push(vec![0xaa, 0x06, 0x02, 0xff, 0xfe]);
    }
    if random.once_in(3) {
        for at in (1..fields.len()).rev() {
            fields.swap(at, random.below(at + 1));
        }
    }
    fields.concat()
}

fn delimited(number: u32, bytes: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    key(number, 2, random, out);
    varint(bytes.len() as u64, random, out);
    out.extend_from_slice(bytes);
}

fn key(number: u32, wire_type: u64, random: &mut Random, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire_type, random, out);
}

/// Now and then in one byte more than it needs.
fn varint(number: u64, random: &mut Random, out: &mut Vec<u8>) {
    encode_varint(number, out);
    if number < 1 << 56 && random.once_in(20) {
        *out.last_mut().unwrap() |= 0x80;
        out.push(0);
    }
}

/// One or two changes anywhere.
pub(in crate::otlp) fn damaged(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=random.below(2) {
        let at = random.below(bytes.len());
        let other = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.number() as u8,
            2 => bytes.truncate(other),
            3 => bytes.insert(other, random.number() as u8),
            4 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {
                let end = (at + random.below(40)).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(other..other, piece);
            }
        }
    }
    bytes
}
