//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};

use pharos_base::ErrorClass;

/// What can go wrong with a backup.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum BackupError {
    /// The operating system refused; `source` says why.
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The storage refused or did not answer, after all retries; `source` says why.
    #[error("cannot {action} {key} in the storage")]
    Storage { action: &'static str, key: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// A destination that is none.
    #[error("{given:?} cannot hold backups: {problem}")]
    Location { given: String, problem: String },
    /// Nothing is there, or not the backup that was asked for.
    #[error("there is no backup {wanted}in {place}")]
    NoBackup { wanted: String, place: String },
    /// No store of the data folder has that snapshot.
    #[error("there is no snapshot {name:?} in {path}", path = path.display())]
    NoSnapshot { name: String, path: PathBuf },
    /// A manifest that does not say what it said when it was written.
    #[error("the manifest of backup {name} is damaged: {problem}")]
    Manifest { name: String, problem: String },
    /// A newer Pharos made it.
    #[error(
        "backup {name} was made by a newer Pharos (manifest version {found}, this one reads up to {supported}): use that one"
    )]
    Newer { name: String, found: u64, supported: u64 },
    /// An object is missing or is not what its name says.
    #[error("{key}, which is {file} of backup {name}, is damaged: {problem}; `pharos backup verify` finds all damage")]
    Damaged { key: String, file: String, name: String, problem: String },
    /// A file was not the same when it was read again.
    #[error("{path} changed while it was read", path = path.display())]
    Changed { path: PathBuf },
    /// A file that no backup can hold.
    #[error("{path} cannot be in a backup: {problem}", path = path.display())]
    Source { path: PathBuf, problem: &'static str },
    /// Another one works there.
    #[error(
        "{what} is under way in {place} ({which}); if it is not, because it was killed, run `pharos backup unlock`"
    )]
    Busy { what: &'static str, place: String, which: String },
    /// A restore never overwrites.
    #[error("{path} is not empty (there is {found}): a restore wants a new data folder", path = path.display())]
    NotEmpty { path: PathBuf, found: String },
    /// The observer asked for the end.
    #[error("interrupted")]
    Interrupted,
}

impl BackupError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Location { .. } | Self::NotEmpty { .. } | Self::Newer { .. } | Self::Source { .. } => {
                ErrorClass::Invalid
            }
            Self::NoBackup { .. } | Self::NoSnapshot { .. } => ErrorClass::NotFound,
            Self::Storage { .. } | Self::Busy { .. } | Self::Interrupted => ErrorClass::Unavailable,
            Self::Io { .. } | Self::Manifest { .. } | Self::Damaged { .. } | Self::Changed { .. } => {
                ErrorClass::Internal
            }
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn storage<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        action: &'static str,
        key: &str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Storage { action, key: key.to_owned(), source: error.into() }
    }
}
