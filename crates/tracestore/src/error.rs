//! What can go wrong in the trace store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_base::{ErrorClass, full_message};
use pharos_storage::StorageError;

use crate::codec::DecodeError;

/// What can go wrong in the trace store.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TraceStoreError {
    /// The operating system refused; `source` says why.
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another process, or another store of this one, has the directory open.
    #[error("trace store {path} is in use by another process", path = path.display())]
    Locked { path: PathBuf },
    /// A setting makes no sense.
    #[error("trace store setting {setting}: {message}")]
    Setting { setting: &'static str, message: String },
    /// The directory was written by another version.
    #[error("{path} has format {found}, this version reads {supported}", path = path.display())]
    Format { path: PathBuf, found: String, supported: &'static str },
    /// Synced bytes of the log are damaged. The file is left untouched for inspection.
    #[error("corrupt log {path} at byte {offset}: {what}", path = path.display())]
    CorruptLog { path: PathBuf, offset: u64, what: &'static str },
    /// Bytes below a sound checksum make no sense.
    #[error("corrupt {what} in partition {partition}: {detail}")]
    Corrupt { what: &'static str, partition: String, detail: String },
    /// RocksDB refused; the text is its own.
    #[error("cannot {action} in the spans of {path}: {message}", path = path.display())]
    Rows { action: &'static str, path: PathBuf, message: String },
    /// tantivy refused; `source` says why.
    #[error("cannot {action} in the search index of {path}", path = path.display())]
    Index { action: &'static str, path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// A thread of the store ended by a panic, a bug: what is in the log is replayed at the next start.
    #[error("the thread {thread} of the trace store has died; a restart is needed")]
    Died { thread: &'static str },
    /// There is a snapshot of that name.
    #[error("there is a snapshot {name:?} already")]
    SnapshotExists { name: String },
    /// Spans of a damaged day could not be stored again.
    #[error("cannot store the spans of the damaged day {day} again: {message}")]
    Repair { day: String, message: String },
    /// The store was closed, or one of its threads died.
    #[error("trace store is closed")]
    Closed,
}

impl TraceStoreError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Setting { .. } | Self::SnapshotExists { .. } => ErrorClass::Invalid,
            Self::Locked { .. } | Self::Died { .. } | Self::Closed => ErrorClass::Unavailable,
            Self::Io { source, .. } if is_disk_full(source) => ErrorClass::Unavailable,
            Self::Io { .. }
            | Self::Format { .. }
            | Self::CorruptLog { .. }
            | Self::Corrupt { .. }
            | Self::Rows { .. }
            | Self::Index { .. }
            | Self::Repair { .. } => ErrorClass::Internal,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn rows(action: &'static str, path: &Path) -> impl FnOnce(rocksdb::Error) -> Self {
        move |error| match error.kind() {
            rocksdb::ErrorKind::Corruption => {
                Self::Corrupt { what: "RocksDB", partition: path.display().to_string(), detail: error.into_string() }
            }
            _ => Self::Rows { action, path: path.to_owned(), message: error.into_string() },
        }
    }

    /// Whether bytes on disk are not what was written there, or are gone: trying again does not help.
    pub(crate) fn is_damage(&self) -> bool {
        // What the system says of a file that is not there, and of a sector that cannot be read.
        const LOST: [&str; 2] = ["No such file or directory", "Input/output error"];
        match self {
            Self::Corrupt { .. } | Self::CorruptLog { .. } => true,
            Self::Rows { message, .. } => LOST.iter().any(|lost| message.contains(lost)),
            _ => false,
        }
    }

    pub(crate) fn index<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Index { action, path: path.to_owned(), source: error.into() }
    }

    pub(crate) fn corrupt(what: &'static str, partition: impl ToString) -> impl FnOnce(DecodeError) -> Self {
        move |error| Self::Corrupt { what, partition: partition.to_string(), detail: error.to_string() }
    }
}

/// Whether a write failed for want of space: the one failure that heals by itself.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Turns an engine's failure into the contract's.
pub(crate) fn storage_error(action: &'static str) -> impl FnOnce(TraceStoreError) -> StorageError {
    move |error| match error.class() {
        ErrorClass::Unavailable => StorageError::unavailable(full_message(&error)),
        ErrorClass::Invalid => StorageError::Invalid { message: full_message(&error) },
        _ => StorageError::Internal { action, source: Box::new(error) },
    }
}

/// One failure told to many waiters.
pub(crate) fn shared_unavailable(error: &Arc<TraceStoreError>) -> StorageError {
    StorageError::unavailable(full_message(error.as_ref()))
}
