//! The token file: names, scopes and hashes of the tokens that are live.
//!
//! JSON (`token_file/format.rs` specifies it), mode 0600, replaced atomically (temporary file, sync, rename, sync of the
//! folder). A secret is `pharos_` and 43 characters of URL-safe base64, 256 random bits; its SHA-256 is all that is kept, which
//! is enough for a secret of that size. A token may have several secrets at a time, so that senders can change over one by one.

mod format;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pharos_base::{Secret, random_bytes};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use self::format::Malformed;
use crate::{AccessRules, Grant, LimitOverrides, Scope, TenantAccess};

const PREFIX: &str = "pharos_";
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Secrets that one token may have at a time.
const SECRETS_MAX: usize = 8;

/// What can go wrong with the token file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TokenFileError {
    #[error("cannot {action} token file {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("token file {path} is not valid")]
    Format { path: PathBuf, source: serde_json::Error },
    #[error("token file {path} has version {found}; this pharos reads versions 1 and 2")]
    Version { path: PathBuf, found: u32 },
    #[error("token file {path}: {what}")]
    Content { path: PathBuf, what: String },
    #[error("token file {path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("token file {path} is gone")]
    Vanished { path: PathBuf },
    #[error("there is already a token called {name:?}; rotate or revoke it, or choose another name")]
    NameTaken { name: String },
    #[error("there is no token with the name or id {what:?}")]
    Unknown { what: String },
    #[error("token {name:?} has {SECRETS_MAX} secrets already; revoke one of them by its id first")]
    TooManySecrets { name: String },
}

/// One live token, without what its holders show.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEntry {
    /// For people, logs, limits and metrics; unique.
    pub name: String,
    /// What opens it: any of these.
    pub secrets: Vec<TokenSecret>,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Which tenants it reaches.
    pub tenant: TenantAccess,
    /// Labels of everything that is written with it.
    pub extra_labels: BTreeMap<String, String>,
    /// How much it may.
    pub limits: LimitOverrides,
    /// From where, which paths, which methods.
    pub rules: AccessRules,
    /// When it begins to work, Unix seconds; at once if absent.
    pub not_before: Option<i64>,
    /// When it was made, Unix seconds.
    pub created_at: i64,
    /// When it stops working, Unix seconds; never if absent.
    pub expires_at: Option<i64>,
}

/// One of the secrets of a token, by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSecret {
    /// First 8 hexadecimal digits of the hash, to point at it.
    pub id: String,
    /// SHA-256 of the secret.
    pub sha256: [u8; 32],
    /// When it was made, Unix seconds.
    pub created_at: i64,
    /// When this secret stops working, Unix seconds; with its token if absent.
    pub expires_at: Option<i64>,
}

impl TokenEntry {
    /// What it brings to a request.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant {
            extra_labels: self.extra_labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            rules: self.rules.clone(),
            limits: self.limits.clone(),
            not_before_s: self.not_before,
            expires_s: self.expires_at,
            ..Grant::new(&self.name, &self.scopes, self.tenant.clone())
        }
    }
}

/// What a new token shall be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Which tenants it reaches.
    pub tenant: TenantAccess,
    /// Labels of everything that is written with it.
    pub extra_labels: BTreeMap<String, String>,
    /// How much it may.
    pub limits: LimitOverrides,
    /// From where, which paths, which methods.
    pub rules: AccessRules,
    /// When it begins to work, Unix seconds.
    pub not_before: Option<i64>,
    /// Now, Unix seconds.
    pub created_at: i64,
    /// When it stops working, Unix seconds.
    pub expires_at: Option<i64>,
}

impl NewToken {
    /// A token without labels, limits, rules or times.
    #[must_use]
    pub fn new(name: &str, scopes: &[Scope], tenant: TenantAccess, now_s: i64) -> Self {
        Self {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            tenant,
            extra_labels: BTreeMap::new(),
            limits: LimitOverrides::default(),
            rules: AccessRules::default(),
            not_before: None,
            created_at: now_s,
            expires_at: None,
        }
    }
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq)]
pub enum Revoked {
    /// The token as a whole.
    Token(Box<TokenEntry>),
    /// One of the secrets of the token called `name`; the others still work.
    Secret {
        /// The token's name.
        name: String,
        /// The secret's id.
        id: String,
    },
}

/// A token file at a path.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// The file at `path`, which need not exist yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all tokens; none if there is no file.
    ///
    /// # Errors
    /// [`TokenFileError`] if there is a file that cannot be read.
    pub fn read(&self) -> Result<Vec<TokenEntry>, TokenFileError> {
        Ok(self.read_if_there()?.unwrap_or_default())
    }

    /// Reads all tokens; `None` if there is no file.
    pub(crate) fn read_if_there(&self) -> Result<Option<Vec<TokenEntry>>, TokenFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.io("read", source)),
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        if read.map_err(|source| self.io("read", source))? as u64 > FILE_BYTES_MAX {
            return Err(TokenFileError::TooLarge { path: self.path.clone() });
        }
        format::read(&text).map(Some).map_err(|malformed| self.malformed(malformed))
    }

    /// Makes a token, stores its hash and hands out the secret, once.
    ///
    /// # Errors
    /// [`TokenFileError::NameTaken`], or the file cannot be read or written.
    pub fn add(&self, new: NewToken) -> Result<(Secret, TokenEntry), TokenFileError> {
        let _lock = self.lock()?;
        let mut tokens = self.read()?;
        if tokens.iter().any(|token| token.name == new.name) {
            return Err(TokenFileError::NameTaken { name: new.name });
        }
        let (secret, kept) = new_secret(new.created_at);
        let entry = TokenEntry {
            name: new.name,
            secrets: vec![kept],
            scopes: new.scopes,
            tenant: new.tenant,
            extra_labels: new.extra_labels,
            limits: new.limits,
            rules: new.rules,
            not_before: new.not_before,
            created_at: new.created_at,
            expires_at: new.expires_at,
        };
        tokens.push(entry.clone());
        self.write(&tokens)?;
        Ok((secret, entry))
    }

    /// Gives a token a new secret; those it has work for `grace_s` seconds more at most. With a grace of 0 they stop at once.
    ///
    /// # Errors
    /// [`TokenFileError::Unknown`], [`TokenFileError::TooManySecrets`], or the file cannot be read or written.
    pub fn rotate(&self, name: &str, now_s: i64, grace_s: i64) -> Result<(Secret, TokenEntry), TokenFileError> {
        let _lock = self.lock()?;
        let mut tokens = self.read()?;
        let found = tokens.iter_mut().find(|token| token.name == name);
        let token = found.ok_or_else(|| TokenFileError::Unknown { what: name.to_owned() })?;
        let end = now_s.saturating_add(grace_s.max(0));
        for secret in &mut token.secrets {
            secret.expires_at = Some(secret.expires_at.map_or(end, |earlier| earlier.min(end)));
        }
        token.secrets.retain(|secret| secret.expires_at.is_none_or(|expires_at| expires_at > now_s));
        if token.secrets.len() >= SECRETS_MAX {
            return Err(TokenFileError::TooManySecrets { name: name.to_owned() });
        }
        let (secret, kept) = new_secret(now_s);
        token.secrets.push(kept);
        let token = token.clone();
        self.write(&tokens)?;
        Ok((secret, token))
    }

    /// Removes the token with this name, or the secret with this id; with its last secret a token goes, too.
    ///
    /// # Errors
    /// [`TokenFileError::Unknown`], or the file cannot be read or written.
    pub fn remove(&self, name_or_id: &str) -> Result<Revoked, TokenFileError> {
        let _lock = self.lock()?;
        let mut tokens = self.read()?;
        let by_name = tokens.iter().position(|token| token.name == name_or_id);
        let by_id = || tokens.iter().position(|token| token.secrets.iter().any(|secret| secret.id == name_or_id));
        let Some(index) = by_name.or_else(by_id) else {
            return Err(TokenFileError::Unknown { what: name_or_id.to_owned() });
        };
        let token = &mut tokens[index];
        let revoked = if by_name.is_none() && token.secrets.len() > 1 {
            token.secrets.retain(|secret| secret.id != name_or_id);
            Revoked::Secret { name: token.name.clone(), id: name_or_id.to_owned() }
        } else {
            Revoked::Token(Box::new(tokens.remove(index)))
        };
        self.write(&tokens)?;
        Ok(revoked)
    }

    /// Held while the file is read, changed and replaced: two commands at once must not undo each other.
    fn lock(&self) -> Result<File, TokenFileError> {
        let path = self.path.with_extension("lock");
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            self.keep_owner(&file)?;
            Ok(file)
        };
        open().map_err(|source| self.io("lock", source))
    }

    /// Gives a file that root made to the owner of the folder, whose server must read it.
    fn keep_owner(&self, file: &File) -> io::Result<()> {
        let folder = fs::metadata(self.folder())?;
        if file.metadata()?.uid() == 0 && folder.uid() != 0 {
            fchown(file, Some(folder.uid()), Some(folder.gid()))?;
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn write(&self, tokens: &[TokenEntry]) -> Result<(), TokenFileError> {
        let text = format::write(tokens).map_err(|malformed| self.malformed(malformed))?;
        let temporary = self.path.with_extension("json.new");
        let write = || -> io::Result<()> {
            // Left over from a crash, perhaps with other rights; the lock says that nobody else is at it.
            let _ = fs::remove_file(&temporary);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            self.keep_owner(&file)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(self.folder())?.sync_all()
        };
        write().map_err(|source| self.io("write", source))
    }

    fn malformed(&self, malformed: Malformed) -> TokenFileError {
        let path = self.path.clone();
        match malformed {
            Malformed::Json(source) => TokenFileError::Format { path, source },
            Malformed::Version(found) => TokenFileError::Version { path, found },
            Malformed::Content(what) => TokenFileError::Content { path, what },
        }
    }

    fn io(&self, action: &'static str, source: io::Error) -> TokenFileError {
        TokenFileError::Io { action, path: self.path.clone(), source }
    }
}

/// What a text holds, and how it is written again; `None` if it is no token file.
#[cfg(feature = "fuzzing")]
pub(crate) fn rewritten(text: &str) -> Option<(Vec<TokenEntry>, String)> {
    let tokens = format::read(text).ok()?;
    let written = format::write(&tokens).expect("what was read can be written");
    Some((tokens, written))
}

/// A secret, to be shown once, and what is kept of it.
fn new_secret(now_s: i64) -> (Secret, TokenSecret) {
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    let sha256 = hash(&secret);
    let kept = TokenSecret { id: hex::encode(&sha256[..4]), sha256, created_at: now_s, expires_at: None };
    (Secret::new(secret), kept)
}

/// SHA-256 of a secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests;
