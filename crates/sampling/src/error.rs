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
    /// Sampling was turned off, and the trace store does not take what waited; its own error is in the log.
    #[error("the trace store does not take the spans that waited for a sampling decision (see the log)")]
    Refused,
    /// A file of the log is of another version of its format.
    #[error(
        "{path} was written by another version of Pharos: let that version store what waits \
         (start it with tail_sampling.enabled: false), or remove the folder and what waits in it"
    )]
    Version { path: PathBuf },
    #[error(transparent)]
    Settings(#[from] crate::SettingsError),
}

impl SamplingError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
