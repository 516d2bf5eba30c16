//! The tokens in use, and the file they come from.
//!
//! Invariants
//! - L1 A request costs one hash and one look-up, however many tokens there are. The key of the map is the SHA-256 of what was
//!   shown: how long a look-up takes tells something of that hash, never of a secret.
//! - L2 The file is read by [`LiveTokens::look`] and [`LiveTokens::reload`] alone, never while a request waits.
//! - L3 A file that is broken or gone changes nothing: the tokens in use stay, and one version of the file is told once.
//! - L4 A version of the file counts as seen when its bytes were had. While the disk refuses them it is read again at each look, so
//!   that a revoked token works no longer than the disk refuses, and a second more.

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
    seen: Mutex<Seen>,
}

/// What is known of the file.
#[derive(Debug, Default)]
struct Seen {
    /// The version whose bytes were had last, good or not.
    file: FileSeen,
    /// The version that could not be read, and why: what was told of it.
    unread: Option<(FileSeen, io::ErrorKind)>,
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
        let seen = Seen { file: look_at(&file), unread: None };
        let tokens = read(&file)?.unwrap_or_default();
        Ok(Self { by_sha256: ArcSwap::from_pointee(tokens), file, seen: Mutex::new(seen) })
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
        let now = look_at(&self.file);
        let outcome = self.take(read(&self.file));
        if let Some(kind) = not_read(&outcome) {
            seen.unread = Some((now, kind));
        } else {
            *seen = Seen { file: now, unread: None };
        }
        outcome
    }

    /// Reads the file again if it has changed; says in the log what became of it. Blocks on the disk.
    pub(crate) fn look(&self) {
        self.look_by(read);
    }

    fn look_by(&self, read: impl FnOnce(&TokenFile) -> Result<Option<BySecret>, TokenFileError>) {
        let mut seen = self.seen.lock();
        let now = look_at(&self.file);
        if seen.file == now {
            seen.unread = None;
            return;
        }
        let outcome = self.take(read(&self.file));
        let unread = not_read(&outcome).map(|kind| (now, kind));
        let is_told = unread.is_some() && seen.unread == unread;
        seen.unread = unread;
        if unread.is_none() {
            seen.file = now;
        }
        match outcome {
            Ok(secrets) => tracing::info!(secrets, "token file reloaded"),
            Err(_) if is_told => {}
            Err(error) => {
                let error = full_message(&error);
                let is_tried_again = unread.is_some();
                tracing::error!(error, is_tried_again, "token file cannot be used; the tokens known before stay valid");
            }
        }
    }

    fn take(&self, read: Result<Option<BySecret>, TokenFileError>) -> Result<usize, TokenFileError> {
        let tokens = match read? {
            Some(tokens) => tokens,
            None if self.len() == 0 => BySecret::new(),
            None => return Err(TokenFileError::Vanished { path: self.file.path().to_owned() }),
        };
        let secrets = tokens.len();
        self.by_sha256.store(Arc::new(tokens));
        Ok(secrets)
    }
}

/// Why the file's bytes could not be had; `None` if they were, whatever they are worth. Bytes that are no text were had.
fn not_read(outcome: &Result<usize, TokenFileError>) -> Option<io::ErrorKind> {
    match outcome {
        Err(TokenFileError::Io { source, .. }) => {
            Some(source.kind()).filter(|kind| *kind != io::ErrorKind::InvalidData)
        }
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_file::NewToken;
    use crate::{Scope, TenantAccess};

    /// The disk refuses a file that was just rewritten without a token; nothing happens to the file after.
    #[test]
    fn a_revocation_counts_once_the_file_can_be_read_though_it_did_not_change_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("tokens.json"));
        let (_, token) = file.add(NewToken::new("a", &[Scope::Admin], TenantAccess::Any, 0)).unwrap();
        let tokens = LiveTokens::open(file.clone()).unwrap();
        let is_live = || tokens.get(&token.secrets[0].sha256).is_some();
        let refuse = |file: &TokenFile| {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            Err(TokenFileError::Io { action: "read", path: file.path().to_owned(), source })
        };
        file.remove("a").unwrap();
        tokens.look_by(refuse);
        assert_eq!(tokens.seen.lock().unread.map(|(_, kind)| kind), Some(io::ErrorKind::PermissionDenied));
        tokens.look_by(refuse);
        assert!(is_live(), "what cannot be read changes nothing");
        tokens.look();
        assert!(!is_live(), "revoked");
        assert_eq!(tokens.seen.lock().unread, None);
        tokens.look_by(|_| panic!("this version was read"));
    }

    #[test]
    fn a_broken_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("tokens.json"));
        file.add(NewToken::new("a", &[Scope::Admin], TenantAccess::Any, 0)).unwrap();
        let tokens = LiveTokens::open(file.clone()).unwrap();
        for broken in [&b"broken"[..], b"\xff\xfe"] {
            fs::write(file.path(), broken).unwrap();
            tokens.look();
            assert!(tokens.len() == 1 && tokens.seen.lock().unread.is_none());
            tokens.look_by(|_| panic!("this version was read"));
        }
    }
}
