//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong in tail sampling.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum SamplingError {
    /// The operating system refused; `source` says why.
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The trace store did not take what waited when sampling was turned off.
    #[error("the trace store did not take the spans that waited for a decision")]
    Store(#[from] pharos_storage::StorageError),
    /// The trace store is closed.
    #[error("the trace store is closed")]
    Closed,
    #[error(transparent)]
    Settings(#[from] crate::SettingsError),
}

impl SamplingError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
