//! Restoring: everything into a folder inside the data folder, checked and synced, then each entry to its place.
//!
//! Inside, because the data folder may be the mount point of a volume, which cannot be replaced. The last step is a rename
//! per top-level entry; [`UNFINISHED_FOLDER`] goes after the last of them.

use std::fs;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use crate::BackupError;
use crate::digest::Hasher;
use crate::manifest::{Manifest, ManifestFile};
use crate::place::{blocking, make_folder, sync_folder, sync_folders};
use crate::repository::{Observer, Repository};
use crate::source::{LOCK_FILE, LOST_AND_FOUND};

/// Lies in a data folder while it is restored.
pub const UNFINISHED_FOLDER: &str = ".restoring";
/// What an empty data folder may hold: the lock of whoever restores, and what file systems put into theirs.
const HARMLESS: [&str; 3] = [LOCK_FILE, LOST_AND_FOUND, UNFINISHED_FOLDER];

/// What a restore brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The backup it was.
    pub name: String,
    /// Files of it.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Folders that were not in the backup.
    pub left_out: Vec<String>,
}

impl Repository {
    pub(crate) async fn restore_manifest(
        &self,
        name: String,
        manifest: &Manifest,
        data_dir: &Path,
        observer: &dyn Observer,
    ) -> Result<Restored, BackupError> {
        observer.total(manifest.bytes());
        let unfinished = data_dir.join(UNFINISHED_FOLDER);
        let folders = folders_of(manifest, &unfinished);
        let (root, scratch) = (data_dir.to_owned(), unfinished.clone());
        blocking(move || prepare(&root, &scratch, &folders)).await?;
        let fetched = stream::iter(&manifest.files)
            .map(|file| self.fetch(&name, file, &unfinished, observer))
            .buffer_unordered(self.concurrency)
            .try_collect::<()>()
            .await;
        let root = data_dir.to_owned();
        if let Err(error) = fetched {
            // Nothing of it is in its place yet.
            blocking(move || remove(&unfinished).and_then(|()| sync_folder(&root))).await?;
            return Err(error);
        }
        blocking(move || move_into_place(&root, &unfinished)).await?;
        Ok(Restored {
            name,
            files: manifest.files.len() as u64,
            bytes: manifest.bytes(),
            left_out: manifest.left_out.clone(),
        })
    }

    async fn fetch(
        &self,
        name: &str,
        file: &ManifestFile,
        below: &Path,
        observer: &dyn Observer,
    ) -> Result<(), BackupError> {
        let key = file.sha256.key();
        let damaged = |problem: String| BackupError::Damaged {
            key: key.clone(),
            file: file.path.clone(),
            name: name.to_owned(),
            problem,
        };
        let path = below.join(&file.path);
        let mut contents = self.place.read(&key).await?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut target = options.open(&path).await.map_err(BackupError::io("create", &path))?;
        let mut hasher = Hasher::default();
        while let Some(piece) = contents.next().await? {
            if observer.is_interrupted() {
                return Err(BackupError::Interrupted);
            }
            hasher.update(&piece);
            target.write_all(&piece).await.map_err(BackupError::io("write", &path))?;
            observer.done(piece.len() as u64);
        }
        if let Some(problem) = difference(hasher, file) {
            return Err(damaged(problem));
        }
        target.sync_all().await.map_err(BackupError::io("sync", &path))
    }
}

/// How contents differ from what the manifest says, if they do.
pub(crate) fn difference(hasher: Hasher, file: &ManifestFile) -> Option<String> {
    let (digest, bytes) = hasher.finish();
    if bytes != file.bytes {
        return Some(format!("it has {bytes} bytes instead of {}", file.bytes));
    }
    (digest != file.sha256).then(|| format!("its contents have the hash {digest}"))
}

fn folders_of(manifest: &Manifest, below: &Path) -> Vec<PathBuf> {
    let of_files = manifest.files.iter().filter_map(|file| Some(file.path.rsplit_once('/')?.0));
    let mut folders: Vec<_> = of_files.chain(manifest.empty_folders.iter().map(String::as_str)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.into_iter().map(|folder| below.join(folder)).collect()
}

fn prepare(data_dir: &Path, unfinished: &Path, folders: &[PathBuf]) -> Result<(), BackupError> {
    make_folder(data_dir)?;
    for entry in fs::read_dir(data_dir).map_err(BackupError::io("list", data_dir))? {
        let name = entry.map_err(BackupError::io("list", data_dir))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            let found = name.to_string_lossy().into_owned();
            return Err(BackupError::NotEmpty { path: data_dir.to_owned(), found });
        }
    }
    // What an earlier restore left.
    remove(unfinished)?;
    make_folder(unfinished)?;
    folders.iter().try_for_each(|folder| make_folder(folder))
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BackupError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn move_into_place(data_dir: &Path, unfinished: &Path) -> Result<(), BackupError> {
    sync_folders(unfinished)?;
    // B5: the folder itself is durable before anything leaves it.
    sync_folder(data_dir)?;
    for entry in fs::read_dir(unfinished).map_err(BackupError::io("list", unfinished))? {
        let entry = entry.map_err(BackupError::io("list", unfinished))?;
        let path = entry.path();
        fs::rename(&path, data_dir.join(entry.file_name())).map_err(BackupError::io("rename", &path))?;
    }
    sync_folder(data_dir)?;
    fs::remove_dir(unfinished).map_err(BackupError::io("remove", unfinished))?;
    sync_folder(data_dir)
}
