//! What goes into a backup: files on disk and the paths they have in the data folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::BackupError;
use crate::manifest::is_inside;

/// Locks say who uses a folder now; a restored folder is used by nobody.
pub(crate) const LOCK_FILE: &str = "LOCK";
/// Stands in the root of some file systems, and only root may look into it.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";
/// Where each store of a data folder keeps its snapshots.
const SNAPSHOTS_FOLDER: &str = "snapshots";
/// Folders in folders; stores have seven.
const DEPTH_MAX: usize = 32;

/// A set of files that belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceTree {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) empty_folders: Vec<String>,
    pub(crate) left_out: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// In the data folder, with `/`.
    pub(crate) path: String,
    /// On disk, now.
    pub(crate) on_disk: PathBuf,
    pub(crate) bytes: u64,
}

impl SourceTree {
    /// A data folder that nobody uses: all of it, but for locks and snapshots. The caller holds its lock.
    ///
    /// # Errors
    /// [`BackupError::Io`]; [`BackupError::Source`] for what is neither file nor folder.
    pub fn of_stopped(data_dir: &Path) -> Result<Self, BackupError> {
        let mut tree = Self::default();
        for (name, path) in top_entries(data_dir)? {
            if !path.is_dir() {
                tree.add(&name, &path, 0)?;
            } else if name != crate::UNFINISHED_FOLDER {
                tree.add_store(&name, &path)?;
            }
        }
        Ok(tree)
    }

    /// The snapshot `snapshot` of a data folder that a server may use: of each store its
    /// `snapshots/<snapshot>`, and the files beside the stores, which are always replaced whole. A store without
    /// that snapshot is in [`SourceTree::left_out`].
    ///
    /// # Errors
    /// [`BackupError::NoSnapshot`] if no store has the snapshot; as [`SourceTree::of_stopped`].
    pub fn of_snapshot(data_dir: &Path, snapshot: &str) -> Result<Self, BackupError> {
        let absent = || BackupError::NoSnapshot { name: snapshot.to_owned(), path: data_dir.to_owned() };
        if !is_inside(snapshot) || snapshot.contains('/') {
            return Err(absent());
        }
        let (mut tree, mut is_found) = (Self::default(), false);
        for (name, path) in top_entries(data_dir)? {
            if !path.is_dir() {
                tree.add(&name, &path, 0)?;
                continue;
            }
            let taken = path.join(SNAPSHOTS_FOLDER).join(snapshot);
            if taken.is_dir() {
                tree.add(&name, &taken, 0)?;
                is_found = true;
            } else if name != crate::UNFINISHED_FOLDER {
                tree.left_out.push(name);
            }
        }
        if is_found { Ok(tree) } else { Err(absent()) }
    }

    /// Folders of the data folder that could not be taken along.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn add_store(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        let mut is_empty = true;
        for (inner, path) in entries(path)? {
            if inner != SNAPSHOTS_FOLDER {
                is_empty = false;
                self.add(&format!("{name}/{inner}"), &path, 1)?;
            }
        }
        if is_empty {
            self.empty_folders.push(name.to_owned());
        }
        Ok(())
    }

    fn add(&mut self, name: &str, path: &Path, depth: usize) -> Result<(), BackupError> {
        let refuse = |problem| BackupError::Source { path: path.to_owned(), problem };
        if depth > DEPTH_MAX {
            return Err(refuse("folders are nested too deep"));
        }
        // Follows links: a store may lie on another disk.
        let metadata = fs::metadata(path).map_err(BackupError::io("look at", path))?;
        if metadata.is_dir() {
            let inner = entries(path)?;
            if inner.is_empty() {
                self.empty_folders.push(name.to_owned());
            }
            return inner.iter().try_for_each(|(inner, path)| self.add(&format!("{name}/{inner}"), path, depth + 1));
        }
        if !metadata.is_file() {
            return Err(refuse("it is neither a file nor a folder"));
        }
        if name.rsplit('/').next() != Some(LOCK_FILE) {
            self.files.push(SourceFile { path: name.to_owned(), on_disk: path.to_owned(), bytes: metadata.len() });
        }
        Ok(())
    }
}

/// What a data folder holds, by name, but for what its file system put there.
fn top_entries(data_dir: &Path) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let mut found = entries(data_dir)?;
    found.retain(|(name, _)| name != LOST_AND_FOUND);
    Ok(found)
}

/// What a folder holds, by name.
fn entries(path: &Path) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(BackupError::io("list", path))? {
        let path = entry.map_err(BackupError::io("list", path))?.path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => found.push((name.to_owned(), path)),
            None => return Err(BackupError::Source { path, problem: "its name is not UTF-8" }),
        }
    }
    found.sort();
    Ok(found)
}
