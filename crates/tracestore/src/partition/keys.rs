//! Keys of a partition's RocksDB; every byte is specified in `docs/keys.md`.

use pharos_model::{SpanKind, TraceId};

use crate::codec::{DecodeError, OriginHash, Reader, Writer, kind_code, kind_of};

/// Log position up to which everything below is complete.
pub(super) const POSITION: &[u8] = b"P";
const TENANT: u8 = b'T';
const ORIGIN: u8 = b'O';
const NAME: u8 = b'N';
const CALLS: u8 = b'C';
pub(super) const EDGE: u8 = b'E';
pub(super) const SEGMENT: u8 = b'S';
pub(super) const FILTER: u8 = b'F';
pub(super) const LOCATOR: u8 = b'L';
pub(super) const VALUES: u8 = b'V';
pub(super) const DELETED: u8 = b'D';
pub(super) const EXPIRED: u8 = b'X';

/// A block: tenant, segment, number of the block.
pub(super) type BlockKey = [u8; 16];

pub(super) fn block_key(tenant: u32, segment: u64, block: u32) -> BlockKey {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&tenant.to_be_bytes());
    key[4..12].copy_from_slice(&segment.to_be_bytes());
    key[12..].copy_from_slice(&block.to_be_bytes());
    key
}

/// Tenant and segment of a block's key.
pub(super) fn read_block_key(key: &[u8]) -> Result<(u32, u64), DecodeError> {
    let mut reader = Reader::new(key);
    let tenant = u32::from_be_bytes(reader.array("tenant")?);
    let segment = u64::from_be_bytes(reader.array("segment")?);
    reader.array::<4>("block")?;
    if reader.is_empty() { Ok((tenant, segment)) } else { Err(DecodeError::OutOfRange("block key")) }
}

/// Says that a tenant's spans were dropped.
pub(super) fn expired_key(tenant: u32) -> Vec<u8> {
    [&[EXPIRED][..], &tenant.to_be_bytes()].concat()
}

/// All entries of a kind that begin with a tenant's number.
pub(super) fn tenant_range(kind: u8, tenant: u32) -> (Vec<u8>, Vec<u8>) {
    let from = [&[kind][..], &tenant.to_be_bytes()].concat();
    let until =
        tenant.checked_add(1).map_or_else(|| vec![kind + 1], |next| [&[kind][..], &next.to_be_bytes()].concat());
    (from, until)
}

pub(super) fn segment_key(tenant: u32, segment: u64) -> Vec<u8> {
    [&[SEGMENT][..], &tenant.to_be_bytes(), &segment.to_be_bytes()].concat()
}

pub(super) fn filter_key(tenant: u32, segment: u64) -> Vec<u8> {
    [&[FILTER][..], &tenant.to_be_bytes(), &segment.to_be_bytes()].concat()
}

pub(super) fn locator_key(tenant: u32, segment: u64, page: u32) -> Vec<u8> {
    [&[LOCATOR][..], &tenant.to_be_bytes(), &segment.to_be_bytes(), &page.to_be_bytes()].concat()
}

/// The shape of a segment's value postings; their pages' keys begin with it.
pub(super) fn values_key(tenant: u32, segment: u64) -> Vec<u8> {
    [&[VALUES][..], &tenant.to_be_bytes(), &segment.to_be_bytes()].concat()
}

pub(super) fn values_page_key(tenant: u32, segment: u64, page: u32) -> Vec<u8> {
    [&values_key(tenant, segment)[..], &page.to_be_bytes()].concat()
}

pub(super) fn deleted_key(tenant: u32, trace_id: TraceId) -> Vec<u8> {
    [&[DELETED][..], &tenant.to_be_bytes(), &trace_id.0].concat()
}

pub(super) fn tenant_key(name: &str) -> Vec<u8> {
    [&[TENANT], name.as_bytes()].concat()
}

pub(super) fn origin_key(tenant: u32, hash: OriginHash) -> Vec<u8> {
    [&[ORIGIN][..], &tenant.to_be_bytes(), &hash.0].concat()
}

pub(super) fn name_key(tenant: u32, service: &str, operation: &str, kind: SpanKind) -> Vec<u8> {
    let mut key = [&[NAME][..], &tenant.to_be_bytes(), &[kind_code(kind)]].concat();
    key.put_bytes(service.as_bytes());
    key.extend_from_slice(operation.as_bytes());
    key
}

/// Calls of one minute: number since the epoch, caller, called.
pub(super) fn calls_key(tenant: u32, minute: u32, parent: &str, child: &str) -> Vec<u8> {
    let mut key = calls_minute(tenant, minute);
    key.put_bytes(parent.as_bytes());
    key.extend_from_slice(child.as_bytes());
    key
}

pub(super) fn calls_minute(tenant: u32, minute: u32) -> Vec<u8> {
    [&[CALLS][..], &tenant.to_be_bytes(), &minute.to_be_bytes()].concat()
}

/// A pair of caller and called whose calls are counted.
pub(super) fn edge_key(tenant: u32, parent: &str, child: &str) -> Vec<u8> {
    let mut key = [&[EDGE][..], &tenant.to_be_bytes()].concat();
    key.put_bytes(parent.as_bytes());
    key.extend_from_slice(child.as_bytes());
    key
}

/// An entry of the default column family, except filters, locators and value postings.
pub(super) enum MetaKey<'a> {
    Position,
    Tenant { name: &'a str },
    Origin { tenant: u32, hash: OriginHash },
    Name { tenant: u32, kind: SpanKind, service: &'a str, operation: &'a str },
    Calls { parent: &'a str, child: &'a str },
    Edge { tenant: u32, parent: &'a str, child: &'a str },
    Segment { tenant: u32, number: u64 },
    Deleted { tenant: u32, trace_id: TraceId },
    Expired { tenant: u32 },
}

pub(super) fn read_meta_key(key: &[u8]) -> Result<MetaKey<'_>, DecodeError> {
    let mut reader = Reader::new(key);
    Ok(match reader.byte("meta kind")? {
        b'P' => MetaKey::Position,
        TENANT => MetaKey::Tenant { name: rest(&mut reader)? },
        ORIGIN => MetaKey::Origin {
            tenant: u32::from_be_bytes(reader.array("tenant")?),
            hash: OriginHash(reader.array("origin")?),
        },
        NAME => MetaKey::Name {
            tenant: u32::from_be_bytes(reader.array("tenant")?),
            kind: kind_of(reader.byte("kind")?)?,
            service: reader.text("service")?,
            operation: rest(&mut reader)?,
        },
        CALLS => {
            reader.array::<4>("tenant")?;
            reader.array::<4>("minute")?;
            MetaKey::Calls { parent: reader.text("parent")?, child: rest(&mut reader)? }
        }
        EDGE => MetaKey::Edge {
            tenant: u32::from_be_bytes(reader.array("tenant")?),
            parent: reader.text("parent")?,
            child: rest(&mut reader)?,
        },
        SEGMENT => MetaKey::Segment {
            tenant: u32::from_be_bytes(reader.array("tenant")?),
            number: u64::from_be_bytes(reader.array("segment")?),
        },
        DELETED => MetaKey::Deleted {
            tenant: u32::from_be_bytes(reader.array("tenant")?),
            trace_id: TraceId(reader.array("trace id")?),
        },
        EXPIRED => MetaKey::Expired { tenant: u32::from_be_bytes(reader.array("tenant")?) },
        _ => return Err(DecodeError::OutOfRange("meta kind")),
    })
}

fn rest<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let bytes = reader.take(reader.remaining(), "name")?;
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotText("name"))
}
