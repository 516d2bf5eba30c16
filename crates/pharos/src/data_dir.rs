//! The data folder: made if absent, locked while in use.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use pharos_backup::UNFINISHED_FOLDER;
use rustix::fs::{FlockOperation, flock};

/// A data folder that this process alone uses; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes and locks the folder.
    ///
    /// # Errors
    /// One line: it cannot be made or written, another process uses it, or a restore into it did not end.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let opened = Self::open_unfinished(path)?;
        if path.join(UNFINISHED_FOLDER).exists() {
            return Err(anyhow!(
                "a restore into {} did not end: empty it and run `pharos restore` again",
                path.display()
            ));
        }
        Ok(opened)
    }

    /// As [`DataDir::open`], for a restore that takes up an unfinished one.
    pub(crate) fn open_unfinished(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        make_folder(path)?;
        let lock_path = path.join("LOCK");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .with_context(|| format!("cannot write to the data folder {shown}"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            return Err(anyhow!("the data folder {shown} is in use by another pharos (process {})", holder.trim()));
        }
        lock.set_len(0)
            .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()))
            .with_context(|| format!("cannot write to the data folder {shown}"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// A folder in it, made if absent.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        make_folder(&path)?;
        Ok(path)
    }
}

/// Makes a folder, and those above it, that only its owner may enter.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    pharos_backup::make_folder(path).with_context(|| format!("cannot make the data folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_by_one_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let error = format!("{:#}", DataDir::open(&path).unwrap_err());
        assert!(
            error.contains("in use by another pharos") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = format!("{:#}", DataDir::open(&file.join("data")).unwrap_err());
        assert!(error.starts_with("cannot make the data folder"), "{error}");
    }
}
