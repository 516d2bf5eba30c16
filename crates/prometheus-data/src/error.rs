//! What can be wrong with a data folder: damage, which is told and passed over, and what ends the reading.

use std::io;
use std::path::{Path, PathBuf};

/// Bytes that are not what Prometheus writes. What they held is left out, the rest is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}, byte {offset}: {reason}", path = path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file the damaged unit begins.
    pub offset: u64,
    /// What is wrong, and what is lost by it.
    pub reason: String,
}

/// Why a data folder cannot be read on.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum DataError {
    /// The operating system refused; `source` says why.
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// There is neither a block nor a log of a head.
    #[error("{path} holds no data of Prometheus: neither blocks (folders with meta.json) nor a wal folder", path = path.display())]
    NoData { path: PathBuf },
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Where damage is told as it is found.
pub type OnDamage<'a> = &'a mut dyn FnMut(Damage);

/// Bytes of a checked unit that make no sense: what a decoder says before it is known where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Malformed {
    pub(crate) fn at(self, path: &Path, offset: u64) -> Damage {
        Damage { path: path.to_owned(), offset, reason: self.0.to_owned() }
    }
}
