//! Origins: a resource and a scope together, stored once per partition and named by a hash of their bytes.

use std::sync::Arc;

use pharos_model::{Resource, Scope};
use xxhash_rust::xxh3::xxh3_128;

use super::attributes::{put_attributes, read_attributes};
use super::wire::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;

/// Names an origin within a tenant: XXH3-128 of its encoding, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OriginHash(pub(crate) [u8; 16]);

/// What sent spans: a resource and one of its instrumenting libraries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    pub(crate) resource: Arc<Resource>,
    pub(crate) scope: Arc<Scope>,
}

/// The bytes of an origin and the hash that names them.
pub(crate) fn encode_origin(resource: &Resource, scope: &Scope) -> (OriginHash, Vec<u8>) {
    let mut out = vec![VERSION];
    put_attributes(&mut out, &resource.attributes);
    out.put_varint(u64::from(resource.dropped_attributes_count));
    out.put_bytes(resource.schema_url.as_bytes());
    out.put_bytes(scope.name.as_bytes());
    out.put_bytes(scope.version.as_bytes());
    put_attributes(&mut out, &scope.attributes);
    out.put_varint(u64::from(scope.dropped_attributes_count));
    out.put_bytes(scope.schema_url.as_bytes());
    (OriginHash(xxh3_128(&out).to_be_bytes()), out)
}

/// The reverse of [`encode_origin`].
pub(crate) fn decode_origin(bytes: &[u8]) -> Result<Origin, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.byte("origin version")? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let resource = Resource {
        attributes: read_attributes(&mut reader)?,
        dropped_attributes_count: reader.varint_u32("dropped attributes")?,
        schema_url: reader.text("schema url")?.to_owned(),
    };
    let scope = Scope {
        name: reader.text("scope name")?.to_owned(),
        version: reader.text("scope version")?.to_owned(),
        attributes: read_attributes(&mut reader)?,
        dropped_attributes_count: reader.varint_u32("dropped attributes")?,
        schema_url: reader.text("schema url")?.to_owned(),
    };
    if !reader.is_empty() {
        return Err(DecodeError::OutOfRange("origin length"));
    }
    Ok(Origin { resource: Arc::new(resource), scope: Arc::new(scope) })
}
