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

use std::fs::DirEntry;
use std::io::ErrorKind;
use std::path::Path;

use crate::TsdbError;
use crate::disk::Disk;

/// How what is removed is called meanwhile, behind [`writer::TEMPORARY_PREFIX`].
const CONDEMNED_PREFIX: &str = "removed-";

/// The number at the end of a part's directory name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.rsplit('-').next().and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

/// The names of all entries of a folder of parts; none if there is no folder.
pub(crate) fn list(parts_dir: &Path) -> Result<Vec<String>, TsdbError> {
    let listed = match std::fs::read_dir(parts_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(TsdbError::io("list", parts_dir))?,
    };
    let name = |entry: std::io::Result<DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    listed.map(name).collect::<std::io::Result<_>>().map_err(TsdbError::io("list", parts_dir))
}

/// Whether an entry of a folder of parts is on its way out, though its old name may come back at a power loss.
pub(crate) fn is_condemned(name: &str) -> bool {
    name.strip_prefix(writer::TEMPORARY_PREFIX).is_some_and(|rest| rest.starts_with(CONDEMNED_PREFIX))
}

/// Removes a part's directory so that no half of it is ever opened.
///
/// # Errors
/// [`TsdbError::Io`]: it is there under its name, or [condemned](is_condemned).
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), TsdbError> {
    let parent = dir.parent().unwrap_or(dir);
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let condemned = parent.join(format!("{}{CONDEMNED_PREFIX}{name}", writer::TEMPORARY_PREFIX));
    disk.rename(dir, &condemned).map_err(TsdbError::io("rename", dir))?;
    disk.sync_dir(parent).map_err(TsdbError::io("sync", parent))?;
    disk.remove_dir_all(&condemned).map_err(TsdbError::io("remove", &condemned))
}
