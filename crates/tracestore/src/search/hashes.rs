//! Values of a span as numbers, for the search of spans in memory: what they propose is verified on the span.
//!
//! A number is 12 bits of its subject's hash and 20 of the value's. Equal values have equal numbers wherever they stand:
//! on the span, its events or links. What resources and scopes have is not among them: these are few and looked at.

use std::io::Write;

use pharos_model::{AttributeValue, Attributes, Span};
use pharos_storage::render_attribute_value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::terms::TermSubject;

const VALUE_BITS: u32 = 20;

/// The number of a value.
pub(crate) fn value_number(subject: TermSubject<'_>, text: &str) -> u32 {
    number(subject_hash(subject), text.as_bytes())
}

/// Whether both numbers may be of the same subject.
pub(crate) fn is_of(number: u32, other: u32) -> bool {
    number >> VALUE_BITS == other >> VALUE_BITS
}

fn number(subject_hash: u64, text: &[u8]) -> u32 {
    subject_bits(subject_hash) << VALUE_BITS
        | (xxh3_64_with_seed(text, subject_hash) >> (u64::BITS - VALUE_BITS)) as u32
}

fn subject_bits(subject_hash: u64) -> u32 {
    (subject_hash >> (32 + VALUE_BITS)) as u32
}

fn subject_hash(subject: TermSubject<'_>) -> u64 {
    match subject {
        TermSubject::Attribute(key) => xxh3_64(key.as_bytes()),
        TermSubject::Name => 0x6e61_6d65_0000_0001,
        TermSubject::Service => 0x7365_7276_0000_0002,
        TermSubject::EventName => 0x6576_6e74_0000_0003,
        TermSubject::ScopeName => 0x7363_6f70_0000_0004,
        TermSubject::ScopeVersion => 0x7665_7273_0000_0005,
    }
}

/// Appends the numbers of a span's values, perhaps some twice.
pub(crate) fn put_numbers(out: &mut Vec<u32>, span: &Span) {
    out.push(value_number(TermSubject::Name, &span.name));
    put_attributes(out, &span.attributes);
    for event in &span.events {
        out.push(value_number(TermSubject::EventName, &event.name));
        put_attributes(out, &event.attributes);
    }
    span.links.iter().for_each(|link| put_attributes(out, &link.attributes));
}

fn put_attributes(out: &mut Vec<u32>, attributes: &Attributes) {
    const INT_BYTES_MAX: usize = 20;
    for attribute in attributes {
        let subject = xxh3_64(attribute.key.as_bytes());
        out.push(match &attribute.value {
            AttributeValue::String(text) => number(subject, text.as_bytes()),
            AttributeValue::Int(whole) => {
                let mut digits = [0; INT_BYTES_MAX];
                let mut left = &mut digits[..];
                // An `i64` has at most as many digits.
                let _ = write!(left, "{whole}");
                let written = INT_BYTES_MAX - left.len();
                number(subject, &digits[..written])
            }
            value => number(subject, render_attribute_value(value).as_bytes()),
        });
    }
}
