//! What was deleted from a block and is still in its chunks.
//!
//! Source: Prometheus' `tsdb/docs/format/tombstones.md`, and its reader for what the checksum covers.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use crate::bytes::Cursor;
use crate::error::{Damage, DataError, Malformed, OnDamage};

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
/// Magic, version, checksum.
const FRAME_BYTES: u64 = 9;
/// Larger files are refused: a deletion takes about twenty bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Deleted instants by series, both ends included.
#[derive(Debug, Default)]
pub(crate) struct Tombstones(HashMap<u64, Vec<(i64, i64)>>);

impl Tombstones {
    /// Reads the file; without one nothing was deleted. A damaged one is told, and nothing counts as deleted.
    pub(crate) fn read(path: &Path, damage: OnDamage<'_>) -> Result<Self, DataError> {
        let size = match std::fs::metadata(path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(DataError::io("read", path)(error)),
        };
        let parsed = if (FRAME_BYTES..=FILE_BYTES_MAX).contains(&size) {
            Self::parse(&std::fs::read(path).map_err(DataError::io("read", path))?)
        } else {
            Err(Malformed("its size makes no sense"))
        };
        Ok(parsed.unwrap_or_else(|Malformed(reason)| {
            let reason = format!("the deletions: {reason}; samples that were deleted from this block are read again");
            damage(Damage { path: path.to_owned(), offset: 0, reason });
            Self::default()
        }))
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (front, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed("cut short"))?;
        let mut cursor = Cursor(front);
        if cursor.u32()? != MAGIC {
            return Err(Malformed("not a file of deletions"));
        }
        if cursor.u8()? != VERSION {
            return Err(Malformed("an unknown version"));
        }
        if crc32c::crc32c(cursor.0) != u32::from_be_bytes(*crc) {
            return Err(Malformed("wrong checksum"));
        }
        let mut found = Self::default();
        while !cursor.is_empty() {
            found.push(cursor.uvarint()?, cursor.varint()?, cursor.varint()?);
        }
        Ok(found)
    }

    pub(crate) fn push(&mut self, series: u64, first_ms: i64, last_ms: i64) {
        self.0.entry(series).or_default().push((first_ms, last_ms));
    }

    /// The deleted spans of a series.
    pub(crate) fn of(&self, series: u64) -> &[(i64, i64)] {
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }
}

/// Whether an instant lies in one of the spans.
pub(crate) fn is_deleted(spans: &[(i64, i64)], at_ms: i64) -> bool {
    spans.iter().any(|(first, last)| (*first..=*last).contains(&at_ms))
}
