//! What can go wrong in the time-series store.

use std::io;
use std::path::{Path, PathBuf};

use pharos_base::{BudgetExceeded, ErrorClass, Interrupted, full_message};
use pharos_chunk::ChunkError;
use pharos_storage::StorageError;

use crate::log::segment::SEGMENT_HEADER_LEN;

/// What can go wrong in the time-series store.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TsdbError {
    /// The operating system refused; `source` says why.
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Bytes on disk disagree with their checksum. The file is left untouched for inspection.
    #[error("corrupt {what} in {path} at byte {offset}: expected checksum {expected:08x}, found {found:08x}")]
    Checksum { what: &'static str, path: PathBuf, offset: u64, expected: u32, found: u32 },
    /// Bytes on disk have a sound checksum but no sense, or are no file of ours.
    #[error("corrupt {what} in {path} at byte {offset}: {reason}")]
    Corrupt { what: &'static str, path: PathBuf, offset: u64, reason: String },
    /// What was synced to the log is damaged: opening without it would lose acknowledged samples unseen.
    #[error("damaged log {path} at byte {offset}: {reason}. This is no torn end of a crash: it was synced. Nothing was changed. {}", log_remedy(path, *offset))]
    DamagedLog { path: PathBuf, offset: u64, reason: String },
    /// A merged part would have blocks too large to read; its sources stay.
    #[error("merging into {path} would make a block of more than {limit} bytes")]
    BlockTooLarge { path: PathBuf, limit: usize },
    /// A merge has no room for its result; its sources stay.
    #[error("merging in {path} needs {needed} bytes of free disk space and there are {free}; nothing was changed")]
    NoRoom { path: PathBuf, needed: u64, free: u64 },
    /// A newer version of this program wrote the file.
    #[error("{path} has format version {found}; this program reads up to {supported}")]
    Version { path: PathBuf, found: u32, supported: u32 },
    /// Another process works on the same directory.
    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },
    /// A thread could not be started.
    #[error("cannot start thread {name}")]
    Thread { name: &'static str, source: io::Error },
    /// The settings contradict each other.
    #[error("setting {setting}: {reason}")]
    Settings { setting: &'static str, reason: String },
    /// The store no longer takes commands.
    #[error("the store is closed or its log failed; restart to recover")]
    Stopped,
    /// Who asked went away, or its time is over.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The memory of who asked is used up.
    #[error(transparent)]
    Memory(#[from] BudgetExceeded),
}

impl TsdbError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn chunk(what: &'static str, path: &Path, offset: u64) -> impl FnOnce(ChunkError) -> Self {
        move |error| Self::Corrupt { what, path: path.to_owned(), offset, reason: error.to_string() }
    }

    /// The file, if the error says that one is damaged.
    pub(crate) fn damaged_file(&self) -> Option<&Path> {
        match self {
            Self::Checksum { path, .. } | Self::Corrupt { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorClass::Unavailable,
            Self::Stopped | Self::NoRoom { .. } => ErrorClass::Unavailable,
            Self::Settings { .. } => ErrorClass::Invalid,
            Self::Interrupted(Interrupted::Cancelled) => ErrorClass::Cancelled,
            Self::Interrupted(Interrupted::DeadlineExceeded) => ErrorClass::Timeout,
            Self::Memory(exceeded) => exceeded.class(),
            _ => ErrorClass::Internal,
        }
    }
}

impl From<TsdbError> for StorageError {
    fn from(error: TsdbError) -> Self {
        match (error.class(), error) {
            (_, TsdbError::Interrupted(why)) => Self::Interrupted(why),
            (_, TsdbError::Memory(exceeded)) => Self::Memory(exceeded),
            (ErrorClass::Unavailable, error) => Self::unavailable(full_message(&error)),
            (_, error) => Self::Internal { action: "reading or writing metrics", source: Box::new(error) },
        }
    }
}

/// What an operator does about a damaged segment.
fn log_remedy(path: &Path, offset: u64) -> String {
    let path = path.display();
    let aside = format!("to start without everything in it: `mv {path} {path}.damaged`");
    let lost = "Lost are samples of this file only, and of those only what was not flushed to parts yet";
    if offset < SEGMENT_HEADER_LEN as u64 {
        return format!("Restore the file, or {aside}. {lost}");
    }
    format!(
        "Restore the file; or, to start with what comes before the damage: `cp {path} {path}.damaged && truncate \
         --size={offset} {path}`; or, {aside}. {lost}"
    )
}
