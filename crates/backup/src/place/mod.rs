//! Where a repository lies: a folder or a bucket, behind the few operations that backups need.
//!
//! Invariants
//! - L1 What is written under a key appears whole or not at all.
//! - L2 After [`Place::settle`], everything written before survives power loss.

mod bucket;
mod folder;
mod location;

use std::fmt;
use std::path::Path;

use bytes::Bytes;

use crate::BackupError;
use crate::digest::Digest;
use bucket::Bucket;
use folder::Folder;
pub use folder::make_folder;
pub(crate) use folder::{blocking, sync_folder, sync_folders};
pub use location::{Location, S3Options};

/// Files up to this size are read, hashed and sent in one piece, larger ones in pieces of it. Times the number of files under
/// way (and a few), this is the memory of a backup.
pub(crate) const PIECE_BYTES: usize = 8 << 20;

/// A key and the size of what is there.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// A place.
pub(crate) enum Place {
    Folder(Folder),
    Bucket(Bucket),
}

impl Place {
    pub(crate) fn open(location: &Location) -> Result<Self, BackupError> {
        match location {
            Location::Folder(path) => Ok(Self::Folder(Folder::new(path))),
            Location::Bucket { bucket, prefix, options } => Ok(Self::Bucket(Bucket::open(bucket, prefix, options)?)),
        }
    }

    /// Writes a small thing.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.put(key, bytes).await,
            Self::Bucket(bucket) => bucket.put(key, bytes).await,
        }
    }

    /// Writes a file, which must still be what `digest` and `bytes` say.
    ///
    /// # Errors
    /// [`BackupError::Changed`], and then nothing was written.
    pub(crate) async fn put_file(&self, key: &str, file: &Path, expected: (Digest, u64)) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.put_file(key, file, expected).await,
            Self::Bucket(bucket) => bucket.put_file(key, file, expected).await,
        }
    }

    /// What is under a key, up to `bytes_max`; none if nothing is.
    pub(crate) async fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(mut contents) = self.read(key).await? else { return Ok(None) };
        let mut bytes = Vec::new();
        while let Some(piece) = contents.next().await? {
            if (bytes.len() + piece.len()) as u64 > bytes_max {
                let error = format!("it has more than {bytes_max} bytes");
                return Err(BackupError::storage("read", key)(error));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes))
    }

    /// Opens what is under a key; none if nothing is.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Contents>, BackupError> {
        Ok(match self {
            Self::Folder(folder) => folder.read(key).await?.map(Contents::File),
            Self::Bucket(bucket) => bucket.read(key).await?.map(Contents::Download),
        })
    }

    /// Everything below a prefix that ends in `/`.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, BackupError> {
        match self {
            Self::Folder(folder) => folder.list(prefix).await,
            Self::Bucket(bucket) => bucket.list(prefix).await,
        }
    }

    /// Removes what is under a key; nothing there is fine.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.delete(key).await,
            Self::Bucket(bucket) => bucket.delete(key).await,
        }
    }

    /// Removes what crashed backups left, while nobody else writes. Of a bucket its own rules do that.
    pub(crate) async fn sweep(&self) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.sweep().await,
            Self::Bucket(_) => Ok(()),
        }
    }

    /// Makes everything written so far durable.
    pub(crate) async fn settle(&self) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.settle().await,
            // A bucket answers when it has stored.
            Self::Bucket(_) => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

/// What is under a key, piece by piece.
pub(crate) enum Contents {
    File(folder::FileContents),
    Download(bucket::Download),
}

impl Contents {
    /// The next piece, none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        match self {
            Self::File(file) => file.next().await,
            Self::Download(download) => download.next().await,
        }
    }
}
