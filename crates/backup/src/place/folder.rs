//! A repository in a folder. Files are written under another name, synced and renamed.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pharos_base::random_bytes;

use super::Entry;
use crate::BackupError;
use crate::digest::{Digest, Hasher, OBJECTS, READ_BYTES};
use crate::locks::LOCKS;
use crate::manifest::MANIFESTS;

/// Everything of a repository lies below one of these.
const PREFIXES: [&str; 3] = [OBJECTS, MANIFESTS, LOCKS];
/// Files under way have names that begin so; a crash leaves them, `list` skips them, [`Folder::sweep`] removes them.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A folder.
#[derive(Clone)]
pub(crate) struct Folder(Arc<PathBuf>);

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self(Arc::new(path.to_owned()))
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BackupError> {
        let path = self.0.join(key);
        blocking(move || write_whole(&path, |file| file.write_all(&bytes).map_err(BackupError::io("write", &path))))
            .await
    }

    pub(crate) async fn put_file(&self, key: &str, source: &Path, expected: (Digest, u64)) -> Result<(), BackupError> {
        let (path, source) = (self.0.join(key), source.to_owned());
        blocking(move || write_whole(&path, |target| copy(&source, target, &path, expected))).await
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<FileContents>, BackupError> {
        let path = self.0.join(key);
        blocking(move || match File::open(&path) {
            Ok(file) => Ok(Some(FileContents { path, file: Some(file) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BackupError::io("open", &path)(error)),
        })
        .await
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, BackupError> {
        let (root, prefix) = (Arc::clone(&self.0), prefix.trim_end_matches('/').to_owned());
        blocking(move || {
            let mut entries = Vec::new();
            list_into(&root, &prefix, &mut entries)?;
            Ok(entries)
        })
        .await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), BackupError> {
        let path = self.0.join(key);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io("remove", &path)(error)),
            _ => Ok(()),
        })
        .await
    }

    /// Removes what crashed backups left. Nobody else may write objects or manifests meanwhile.
    pub(crate) async fn sweep(&self) -> Result<(), BackupError> {
        let root = Arc::clone(&self.0);
        blocking(move || [OBJECTS, MANIFESTS].iter().try_for_each(|prefix| remove_temporaries(&root.join(prefix))))
            .await
    }

    /// Syncs the folders: the files in them were synced when they were written.
    pub(crate) async fn settle(&self) -> Result<(), BackupError> {
        let root = Arc::clone(&self.0);
        blocking(move || {
            // Not what else lies in it: at the top of a volume that may be `lost+found`, which only root may enter.
            for prefix in PREFIXES.map(|prefix| root.join(prefix)) {
                if prefix.is_dir() {
                    sync_folders(&prefix)?;
                }
            }
            sync_folder(&root)
        })
        .await
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A file, piece by piece.
pub(crate) struct FileContents {
    path: PathBuf,
    /// Absent only after a panic of the reading thread.
    file: Option<File>,
}

impl FileContents {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some(file) = self.file.take() else { return Ok(None) };
        let path = self.path.clone();
        let (file, piece) = blocking(move || {
            let mut piece = Vec::with_capacity(READ_BYTES);
            let read = (&file).take(READ_BYTES as u64).read_to_end(&mut piece);
            read.map_err(BackupError::io("read", &path))?;
            Ok((file, piece))
        })
        .await?;
        self.file = Some(file);
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

/// Runs `task` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    match tokio::task::spawn_blocking(task).await {
        Ok(outcome) => outcome,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(BackupError::Interrupted),
        },
    }
}

/// L1: fills a file beside `path`, syncs it and gives it its name.
fn write_whole(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), BackupError>) -> Result<(), BackupError> {
    let parent = path.parent().unwrap_or(path);
    make_folder(parent)?;
    let temporary = parent.join(format!("{TEMPORARY_PREFIX}{}", hex::encode(random_bytes::<8>())));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(BackupError::io("create", &temporary))?;
        fill(&mut file)?;
        file.sync_all().map_err(BackupError::io("sync", &temporary))?;
        fs::rename(&temporary, path).map_err(BackupError::io("rename", &temporary))
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn copy(source: &Path, target: &mut File, shown: &Path, expected: (Digest, u64)) -> Result<(), BackupError> {
    let mut file = File::open(source).map_err(BackupError::io("open", source))?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; READ_BYTES]);
    loop {
        let count = file.read(&mut buffer).map_err(BackupError::io("read", source))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count]).map_err(BackupError::io("write", shown))?;
    }
    if hasher.finish() == expected { Ok(()) } else { Err(BackupError::Changed { path: source.to_owned() }) }
}

/// Makes a folder, and those above it, that only its owner may enter; each that is new survives power loss.
///
/// # Errors
/// [`BackupError::Io`].
pub fn make_folder(path: &Path) -> Result<(), BackupError> {
    let is_missing = |above: &&Path| !above.as_os_str().is_empty() && !above.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(BackupError::io("make the folder", path))?;
    // An entry is durable when the folder that holds it is synced.
    missing.into_iter().rev().filter_map(Path::parent).try_for_each(|parent| {
        let is_here = parent.as_os_str().is_empty();
        sync_folder(if is_here { Path::new(".") } else { parent })
    })
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(BackupError::io("sync", path))
}

/// Syncs a folder and all folders in it, inner ones first.
pub(crate) fn sync_folders(path: &Path) -> Result<(), BackupError> {
    let error = |source| BackupError::io("list", path)(source);
    for entry in fs::read_dir(path).map_err(error)? {
        let entry = entry.map_err(error)?;
        if entry.file_type().map_err(error)?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(path)
}

fn remove_temporaries(path: &Path) -> Result<(), BackupError> {
    let error = |source| BackupError::io("list", path)(source);
    let listing = match fs::read_dir(path) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(()),
        listing => listing.map_err(error)?,
    };
    for entry in listing {
        let entry = entry.map_err(error)?;
        let path = entry.path();
        if entry.file_type().map_err(error)?.is_dir() {
            remove_temporaries(&path)?;
        } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            fs::remove_file(&path).map_err(BackupError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn list_into(root: &Path, key: &str, entries: &mut Vec<Entry>) -> Result<(), BackupError> {
    let path = root.join(key);
    let error = |source| BackupError::io("list", &path)(source);
    let listing = match fs::read_dir(&path) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(()),
        listing => listing.map_err(error)?,
    };
    for entry in listing {
        let entry = entry.map_err(error)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = format!("{key}/{name}");
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => list_into(root, &key, entries)?,
            Ok(_) if name.starts_with(TEMPORARY_PREFIX) => {}
            Ok(metadata) => entries.push(Entry { key, bytes: metadata.len() }),
            // Somebody else's temporary file, renamed or removed meanwhile.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(refused) => return Err(error(refused)),
        }
    }
    Ok(())
}
