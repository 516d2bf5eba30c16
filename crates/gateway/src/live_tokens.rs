//! The tokens in use, and the file they come from.
//!
//! Invariants
//! - L1 A request costs one hash and one look-up, however many tokens there are. The key of the map is the SHA-256 of what was
//!   shown: how long a look-up takes tells something of that hash, never of a secret.
//! - L2 The file is read by [`LiveTokens::look`] and [`LiveTokens::reload`] alone, never while a request waits.
//! - L3 A file that is broken or gone changes nothing: the tokens in use stay, and one version of the file is told once.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pharos_base::full_message;

use crate::Grant;
use crate::token_file::{TokenFile, TokenFileError};

type BySecret = HashMap<[u8; 32], LiveSecret>;

/// All tokens that may be shown.
#[derive(Debug)]
pub(crate) struct LiveTokens {
    file: TokenFile,
    by_sha256: ArcSwap<BySecret>,
    /// Held while the file is read: what is read last is used last.
    seen: Mutex<FileSeen>,
}

/// What one secret opens.
#[derive(Debug, Clone)]
pub(crate) struct LiveSecret {
    pub(crate) grant: Arc<Grant>,
    /// When this secret ends, whatever the grant says; Unix seconds.
    pub(crate) expires_s: Option<i64>,
}

/// What tells one version of the file from the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FileSeen {
    #[default]
    NotYet,
    Absent,
    Unreadable(io::ErrorKind),
    /// Inode, bytes, and nanoseconds of the last changes of content and of anything.
    Present {
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

impl LiveTokens {
    /// Reads the file; one that is not there has no tokens yet.
    pub(crate) fn open(file: TokenFile) -> Result<Self, TokenFileError> {
        let seen = look_at(&file);
        let tokens =
            Self { by_sha256: ArcSwap::from_pointee(read(&file)?.unwrap_or_default()), file, seen: Mutex::new(seen) };
        Ok(tokens)
    }

    /// The file.
    pub(crate) fn file(&self) -> &TokenFile {
        &self.file
    }

    /// What the secret with this hash opens.
    pub(crate) fn get(&self, sha256: &[u8; 32]) -> Option<LiveSecret> {
        self.by_sha256.load().get(sha256).cloned()
    }

    /// Secrets that are known.
    pub(crate) fn len(&self) -> usize {
        self.by_sha256.load().len()
    }

    /// Reads the file again, whether it has changed or not. Blocks on the disk.
    pub(crate) fn reload(&self) -> Result<usize, TokenFileError> {
        let mut seen = self.seen.lock();
        *seen = look_at(&self.file);
        self.read_again()
    }

    /// Reads the file again if it has changed; says in the log what became of it. Blocks on the disk.
    pub(crate) fn look(&self) {
        let mut seen = self.seen.lock();
        let now = look_at(&self.file);
        if *seen == now {
            return;
        }
        *seen = now;
        match self.read_again() {
            Ok(secrets) => tracing::info!(secrets, "token file reloaded"),
            Err(error) => {
                let error = full_message(&error);
                tracing::error!(error, "token file cannot be used; the tokens known before stay valid");
            }
        }
    }

    fn read_again(&self) -> Result<usize, TokenFileError> {
        let tokens = match read(&self.file)? {
            Some(tokens) => tokens,
            None if self.len() == 0 => BySecret::new(),
            None => return Err(TokenFileError::Vanished { path: self.file.path().to_owned() }),
        };
        let secrets = tokens.len();
        self.by_sha256.store(Arc::new(tokens));
        Ok(secrets)
    }
}

fn read(file: &TokenFile) -> Result<Option<BySecret>, TokenFileError> {
    let Some(entries) = file.read_if_there()? else { return Ok(None) };
    let mut tokens = BySecret::new();
    for entry in entries {
        let grant = Arc::new(entry.grant());
        for secret in entry.secrets {
            tokens.insert(secret.sha256, LiveSecret { grant: Arc::clone(&grant), expires_s: secret.expires_at });
        }
    }
    Ok(Some(tokens))
}

fn look_at(file: &TokenFile) -> FileSeen {
    match fs::metadata(file.path()) {
        Ok(found) => FileSeen::Present {
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => FileSeen::Absent,
        Err(error) => FileSeen::Unreadable(error.kind()),
    }
}
