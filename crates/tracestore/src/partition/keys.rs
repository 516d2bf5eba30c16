//! Keys of a partition's RocksDB; every byte is specified in `docs/keys.md`.

use pharos_model::{SpanKind, TraceId};

use crate::codec::{DecodeError, OriginHash, Reader, Writer, kind_code, kind_of};

/// Log position up to which everything below is complete.
pub(super) const POSITION: &[u8] = b"P";
const TENANT: u8 = b'T';
const ORIGIN: u8 = b'O';
const NAME: u8 = b'N';
const CALLS: u8 = b'C';

/// Tenant number and trace id: what the prefix bloom filter knows.
pub(super) const TRACE_PREFIX_BYTES: usize = 20;
const ROW_KEY_BYTES: usize = 36;

pub(super) type TraceKey = [u8; TRACE_PREFIX_BYTES];

pub(super) fn trace_key(tenant: u32, trace_id: TraceId) -> TraceKey {
    let mut key = [0; TRACE_PREFIX_BYTES];
    key[..4].copy_from_slice(&tenant.to_be_bytes());
    key[4..].copy_from_slice(&trace_id.0);
    key
}

pub(super) fn row_key(tenant: u32, trace_id: TraceId, min_start_ns: u64, hash: u64) -> [u8; ROW_KEY_BYTES] {
    let mut key = [0; ROW_KEY_BYTES];
    key[..20].copy_from_slice(&trace_key(tenant, trace_id));
    key[20..28].copy_from_slice(&min_start_ns.to_be_bytes());
    key[28..].copy_from_slice(&hash.to_be_bytes());
    key
}

/// Tenant number, trace id and earliest start of a row.
pub(super) fn read_row_key(key: &[u8]) -> Result<(u32, TraceId, u64), DecodeError> {
    if key.len() != ROW_KEY_BYTES {
        return Err(DecodeError::OutOfRange("row key"));
    }
    let mut reader = Reader::new(key);
    let tenant = u32::from_be_bytes(reader.array("tenant")?);
    let trace_id = TraceId(reader.array("trace id")?);
    Ok((tenant, trace_id, u64::from_be_bytes(reader.array("start")?)))
}

pub(super) fn tenant_key(name: &str) -> Vec<u8> {
    [&[TENANT], name.as_bytes()].concat()
}

pub(super) fn origin_key(tenant: u32, hash: OriginHash) -> Vec<u8> {
    [&[ORIGIN][..], &tenant.to_be_bytes(), &hash.0].concat()
}

/// Where a tenant's origins begin, and what comes after them.
pub(super) fn origin_range(tenant: u32) -> (Vec<u8>, Vec<u8>) {
    let from = [&[ORIGIN][..], &tenant.to_be_bytes()].concat();
    let until =
        tenant.checked_add(1).map_or_else(|| vec![ORIGIN + 1], |next| [&[ORIGIN][..], &next.to_be_bytes()].concat());
    (from, until)
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

/// An entry of the small column family, except rows and counts.
pub(super) enum MetaKey<'a> {
    Position,
    Tenant { name: &'a str },
    Origin { tenant: u32, hash: OriginHash },
    Name { tenant: u32, kind: SpanKind, service: &'a str, operation: &'a str },
    Calls { parent: &'a str, child: &'a str },
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
        _ => return Err(DecodeError::OutOfRange("meta kind")),
    })
}

fn rest<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let bytes = reader.take(reader.remaining(), "name")?;
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotText("name"))
}
