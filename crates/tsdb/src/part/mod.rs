//! Parts: immutable, checksummed directories of one tenant's samples in one aligned time window.
//!
//! Bytes: `docs/part.md`. A part is written under a temporary name, synced, renamed and only then read;
//! its files are read with positioned reads, block by block.

pub(crate) mod block;
mod checked;
pub(crate) mod chunks;
pub(crate) mod cursor;
pub(crate) mod exemplars;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod index;
pub(crate) mod layout;
mod load;
pub(crate) mod meta;
pub(crate) mod reader;
pub(crate) mod tails;
pub(crate) mod times;
pub(crate) mod toc;
mod tombstoned;
pub(crate) mod writer;

pub(crate) use cursor::PartCursor;
pub(crate) use reader::Part;

use std::path::Path;

use crate::TsdbError;
use crate::disk::Disk;

/// The number at the end of a part's directory name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.rsplit('-').next().and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

/// Removes a part's directory so that no half of it is ever opened.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), TsdbError> {
    let parent = dir.parent().unwrap_or(dir);
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let condemned = parent.join(format!("{}removed-{name}", writer::TEMPORARY_PREFIX));
    disk.rename(dir, &condemned).map_err(TsdbError::io("rename", dir))?;
    disk.sync_dir(parent).map_err(TsdbError::io("sync", parent))?;
    disk.remove_dir_all(&condemned).map_err(TsdbError::io("remove", &condemned))
}
