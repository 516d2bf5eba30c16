//! Search terms: what is looked up in the index and in the tail.
//!
//! A term is a tenant, a zero byte, a kind and a value. What a resource or a scope holds is not repeated at
//! every span: a span bears its origin's hash, and a search first asks which origins pass.
//!
//! Long values are cut and end in a hash of the whole, so that equality stays exact.

use pharos_model::{Attributes, Span, SpanKind, StatusCode, TenantId};
use pharos_storage::render_attribute_value;
use xxhash_rust::xxh3::xxh3_128;

use crate::codec::{OriginHash, Writer};

/// Values above this many bytes are cut in terms.
const VALUE_BYTES_MAX: usize = 200;
const CUT_VALUE_BYTES: usize = 64;

mod kind {
    pub(super) const TENANT: u8 = b't';
    pub(super) const SERVICE: u8 = b's';
    pub(super) const OPERATION: u8 = b'n';
    pub(super) const KIND: u8 = b'k';
    pub(super) const STATUS: u8 = b'e';
    pub(super) const ORIGIN: u8 = b'o';
    pub(super) const ATTRIBUTE: u8 = b'a';
    /// An attribute whose value was cut.
    pub(super) const LONG_ATTRIBUTE: u8 = b'A';
    pub(super) const DURATION: u8 = b'd';
}

/// Terms of one document, one after the other in a single buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TermList {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl TermList {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }

    /// With room for what a usual span has, so that it grows rarely.
    fn with_room() -> Self {
        Self { bytes: Vec::with_capacity(640), ends: Vec::with_capacity(20) }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    fn push(&mut self, tenant: &TenantId, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(tenant.as_str().as_bytes());
        self.bytes.extend_from_slice(&[0, kind]);
        fill(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }
}

fn single(tenant: &TenantId, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut list = TermList::default();
    list.push(tenant, kind, |out| out.extend_from_slice(value));
    list.bytes
}

pub(crate) fn tenant_term(tenant: &TenantId) -> Vec<u8> {
    single(tenant, kind::TENANT, &[])
}

pub(crate) fn service_term(tenant: &TenantId, service: &str) -> Vec<u8> {
    // Names have no length limit on the wire, terms have one.
    let mut list = TermList::default();
    list.push(tenant, kind::SERVICE, |out| put_value(out, service.as_bytes()));
    list.bytes
}

pub(crate) fn operation_term(tenant: &TenantId, operation: &str) -> Vec<u8> {
    let mut list = TermList::default();
    list.push(tenant, kind::OPERATION, |out| put_value(out, operation.as_bytes()));
    list.bytes
}

pub(crate) fn kind_term(tenant: &TenantId, span_kind: SpanKind) -> Vec<u8> {
    single(tenant, kind::KIND, &[kind_letter(span_kind)])
}

pub(crate) fn status_term(tenant: &TenantId, status: StatusCode) -> Vec<u8> {
    single(tenant, kind::STATUS, &[status_letter(status)])
}

pub(crate) fn origin_term(tenant: &TenantId, origin: OriginHash) -> Vec<u8> {
    single(tenant, kind::ORIGIN, &origin.0)
}

pub(crate) fn attribute_term(tenant: &TenantId, key: &str, value: &str) -> Vec<u8> {
    let mut list = TermList::default();
    push_attribute(&mut list, tenant, key, value);
    list.bytes
}

/// Durations in `[2^bucket, 2^(bucket+1))` nanoseconds; bucket 0 holds 0 and 1.
pub(crate) fn duration_term(tenant: &TenantId, bucket: u8) -> Vec<u8> {
    single(tenant, kind::DURATION, &[bucket])
}

pub(crate) fn duration_bucket(duration_ns: u64) -> u8 {
    duration_ns.max(1).ilog2() as u8
}

fn push_attribute(list: &mut TermList, tenant: &TenantId, key: &str, value: &str) {
    let is_long = key.len() > VALUE_BYTES_MAX || value.len() > VALUE_BYTES_MAX;
    list.push(tenant, if is_long { kind::LONG_ATTRIBUTE } else { kind::ATTRIBUTE }, |out| {
        if is_long {
            let (cut_key, cut_value) = (cut(key.as_bytes()), cut(value.as_bytes()));
            out.put_bytes(cut_key);
            out.extend_from_slice(cut_value);
            out.extend_from_slice(&attribute_hash(b'a', key, value).to_be_bytes());
        } else {
            out.put_bytes(key.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    });
}

/// A hash of a key and a value at one level, for the catalogue of origins.
pub(crate) fn attribute_hash(level: u8, key: &str, value: &str) -> u128 {
    let mut bytes = Vec::with_capacity(key.len() + value.len() + 4);
    bytes.push(level);
    bytes.put_bytes(key.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    xxh3_128(&bytes)
}

fn cut(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(CUT_VALUE_BYTES)]
}

/// The value, or its beginning, a zero byte and its hash.
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    if value.len() <= VALUE_BYTES_MAX {
        out.push(b'=');
        out.extend_from_slice(value);
    } else {
        out.push(b'#');
        out.extend_from_slice(cut(value));
        out.extend_from_slice(&xxh3_128(value).to_be_bytes());
    }
}

/// All terms of a span.
pub(crate) fn span_terms(tenant: &TenantId, origin: OriginHash, service: &str, span: &Span) -> TermList {
    let mut list = TermList::with_room();
    list.push(tenant, kind::TENANT, |_| {});
    list.push(tenant, kind::SERVICE, |out| put_value(out, service.as_bytes()));
    list.push(tenant, kind::OPERATION, |out| put_value(out, span.name.as_bytes()));
    list.push(tenant, kind::KIND, |out| out.push(kind_letter(span.kind)));
    list.push(tenant, kind::STATUS, |out| out.push(status_letter(span.status.code)));
    list.push(tenant, kind::ORIGIN, |out| out.extend_from_slice(&origin.0));
    list.push(tenant, kind::DURATION, |out| out.push(duration_bucket(span.duration_ns())));
    let mut push_all = |attributes: &Attributes| {
        for attribute in attributes {
            push_attribute(&mut list, tenant, &attribute.key, &render_attribute_value(&attribute.value));
        }
    };
    push_all(&span.attributes);
    span.events.iter().for_each(|event| push_all(&event.attributes));
    span.links.iter().for_each(|link| push_all(&link.attributes));
    list
}

fn kind_letter(span_kind: SpanKind) -> u8 {
    match span_kind {
        SpanKind::Unspecified => b'-',
        SpanKind::Internal => b'i',
        SpanKind::Server => b's',
        SpanKind::Client => b'c',
        SpanKind::Producer => b'p',
        SpanKind::Consumer => b'q',
    }
}

fn status_letter(status: StatusCode) -> u8 {
    match status {
        StatusCode::Unset => b'-',
        StatusCode::Ok => b'o',
        StatusCode::Error => b'e',
    }
}
