//! A data folder: which blocks count, and whether there is a head.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::block::BlockPlace;
use crate::error::{DataError, OnDamage};

/// What Prometheus, stopped, left in a folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
    /// Blocks, oldest first; those that a larger one replaces are left out, as Prometheus does.
    pub blocks: Vec<BlockPlace>,
}

impl DataFolder {
    /// Looks into a data folder, a snapshot, or a single block.
    ///
    /// # Errors
    /// [`DataError::NoData`], or [`DataError::Io`] where the operating system refuses.
    pub fn open(path: &Path, damage: OnDamage<'_>) -> Result<Self, DataError> {
        let mut blocks = Vec::new();
        let mut replaced = BTreeSet::new();
        let mut add = |folder: &Path| -> Result<(), DataError> {
            let (block, parents) = BlockPlace::read(folder, damage)?;
            blocks.push(block);
            replaced.extend(parents);
            Ok(())
        };
        if path.join("meta.json").is_file() {
            add(path)?;
        } else {
            for entry in std::fs::read_dir(path).map_err(DataError::io("read", path))? {
                let folder = entry.map_err(DataError::io("read", path))?.path();
                if is_block_name(&folder) && folder.join("meta.json").is_file() {
                    add(&folder)?;
                }
            }
        }
        blocks.retain(|block| !name(&block.path).is_some_and(|name| replaced.contains(name)));
        blocks.sort_by_key(|block| (block.range.map_or(i64::MIN, |range| range.start_ms), block.path.clone()));
        let folder = Self { path: path.to_owned(), blocks };
        if folder.blocks.is_empty() && !folder.has_head() {
            return Err(DataError::NoData { path: path.to_owned() });
        }
        Ok(folder)
    }

    /// Whether there is a log of newest samples, which are in no block yet.
    #[must_use]
    pub fn has_head(&self) -> bool {
        self.path.join("wal").is_dir()
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Instants before this are in blocks: what a log still has of them counts no more, such as samples that were deleted
    /// since.
    #[must_use]
    pub fn head_begins_ms(&self) -> i64 {
        let ends = self.blocks.iter().filter(|block| !block.is_out_of_order).filter_map(|block| block.range);
        ends.map(|range| range.end_ms).max().unwrap_or(i64::MIN)
    }
}

/// A ULID: blocks under construction or deletion have longer names.
fn is_block_name(path: &Path) -> bool {
    name(path).is_some_and(|name| name.len() == 26 && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Files whose whole name is a number, in its order.
pub(crate) fn numbered_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, DataError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io("read", folder))? {
        let path = entry.map_err(DataError::io("read", folder))?.path();
        if let Some(number) = name(&path).and_then(|name| name.parse().ok())
            && path.is_file()
        {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}
