//! Making a backup: hash, send what is new, then write the manifest.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::sync::Mutex;
use std::sync::PoisonError;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::digest::{Digest, OBJECTS, digest_file};
use crate::manifest::{Manifest, ManifestFile, manifest_key};
use crate::place::{PIECE_BYTES, blocking};
use crate::repository::{Observer, Repository};
use crate::source::SourceFile;
use crate::{BackupError, SourceTree};

/// What a backup took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// What the new backup is called.
    pub name: String,
    /// Files in it.
    pub files: u64,
    /// Bytes that had to be sent.
    pub bytes_sent: u64,
    /// Bytes that were there already.
    pub bytes_reused: u64,
    /// Folders that are not in it.
    pub left_out: Vec<String>,
}

/// A file in the repository.
struct Kept {
    file: ManifestFile,
    is_sent: bool,
}

impl Repository {
    pub(crate) async fn save_as(
        &self,
        name: String,
        tree: SourceTree,
        observer: &dyn Observer,
    ) -> Result<Saved, BackupError> {
        // Of the beginning: what came later may not be in it.
        let created_at = self.now().to_string();
        observer.total(tree.bytes());
        let listed = self.place.list(OBJECTS).await?;
        let present = listed.iter().filter_map(|entry| Some((Digest::of_key(&entry.key)?, entry.bytes)));
        let present = Mutex::new(present.collect::<HashMap<_, _>>());
        let kept: Vec<Kept> = stream::iter(&tree.files)
            .map(|file| self.keep(file, &present, observer))
            .buffered(self.concurrency)
            .try_collect()
            .await?;
        let bytes = |is_sent| kept.iter().filter(|kept| kept.is_sent == is_sent).map(|kept| kept.file.bytes).sum();
        let mut saved = Saved {
            name,
            files: kept.len() as u64,
            bytes_sent: bytes(true),
            bytes_reused: bytes(false),
            left_out: tree.left_out.clone(),
        };
        let manifest = Manifest {
            created_at,
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            left_out: tree.left_out,
            empty_folders: tree.empty_folders,
            files: kept.into_iter().map(|kept| kept.file).collect(),
        };
        // B2: what the manifest names is there for good before the manifest is.
        self.place.settle().await?;
        let encoded = manifest.encode();
        saved.bytes_sent += encoded.len() as u64;
        self.place.put(&manifest_key(&saved.name), encoded.into()).await?;
        self.place.settle().await?;
        Ok(saved)
    }

    /// Brings one file into the repository, unless it is there.
    async fn keep(
        &self,
        file: &SourceFile,
        present: &Mutex<HashMap<Digest, u64>>,
        observer: &dyn Observer,
    ) -> Result<Kept, BackupError> {
        if observer.is_interrupted() {
            return Err(BackupError::Interrupted);
        }
        let (contents, digest, bytes) = look_at(file).await?;
        // Of two equal files only the first is sent; should that fail there is no manifest for either.
        let known = present.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes);
        let is_sent = known != Some(bytes);
        if is_sent {
            match contents {
                Some(contents) => self.place.put(&digest.key(), contents).await?,
                None => self.place.put_file(&digest.key(), &file.on_disk, (digest, bytes)).await?,
            }
        }
        observer.done(bytes);
        Ok(Kept { file: ManifestFile { path: file.path.clone(), bytes, sha256: digest }, is_sent })
    }
}

/// Hashes a file. A small one is read once, so that what is hashed is what is sent.
async fn look_at(file: &SourceFile) -> Result<(Option<Bytes>, Digest, u64), BackupError> {
    let (path, told_bytes) = (file.on_disk.clone(), file.bytes);
    blocking(move || {
        // A byte more, so that the end is seen without growing.
        let piece_bytes = usize::try_from(told_bytes).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut contents = Vec::with_capacity(piece_bytes + 1);
        let opened = fs::File::open(&path).map_err(BackupError::io("open", &path))?;
        let read = opened.take(PIECE_BYTES as u64 + 1).read_to_end(&mut contents);
        if read.map_err(BackupError::io("read", &path))? <= PIECE_BYTES {
            let (digest, bytes) = (Digest::of(&contents), contents.len() as u64);
            return Ok((Some(contents.into()), digest, bytes));
        }
        drop(contents);
        let (digest, bytes) = digest_file(&path)?;
        Ok((None, digest, bytes))
    })
    .await
}
