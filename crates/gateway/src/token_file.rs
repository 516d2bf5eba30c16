//! The token file: names, scopes and hashes of the tokens that are live.
//!
//! JSON, `{"version":1,"tokens":[…]}`, mode 0600, replaced atomically (temporary file, sync, rename,
//! sync of the folder). A token is `pharos_` and 43 characters of URL-safe base64, 256 random bits; its
//! SHA-256 is all that is kept, which is enough for a secret of that size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pharos_base::{Secret, random_bytes};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::{Scope, TenantAccess};

const VERSION: u32 = 1;
const PREFIX: &str = "pharos_";
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What can go wrong with the token file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TokenFileError {
    #[error("cannot {action} token file {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("token file {path} is not valid")]
    Format { path: PathBuf, source: serde_json::Error },
    #[error("token file {path} has version {found}; this pharos reads version {VERSION}")]
    Version { path: PathBuf, found: u32 },
    #[error("token file {path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("there is already a token called {name:?}; revoke it first, or choose another name")]
    NameTaken { name: String },
    #[error("there is no token with the name or id {what:?}")]
    Unknown { what: String },
}

/// One live token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// First 8 hexadecimal digits of the hash, to point at it.
    pub id: String,
    /// For people and logs; unique.
    pub name: String,
    /// SHA-256 of the token.
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    pub sha256: [u8; 32],
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Which tenants it reaches.
    #[serde(serialize_with = "as_display", deserialize_with = "from_text")]
    pub tenant: TenantAccess,
    /// When it was made, Unix seconds.
    pub created_at: i64,
    /// When it stops working, Unix seconds; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
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
    /// Now, Unix seconds.
    pub created_at: i64,
    /// When it stops working, Unix seconds.
    pub expires_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    tokens: Vec<TokenEntry>,
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
        let text = match fs::metadata(&self.path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(TokenFileError::TooLarge { path: self.path.clone() });
            }
            Ok(_) => fs::read_to_string(&self.path).map_err(|source| self.io("read", source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.io("read", source)),
        };
        let contents: Contents =
            serde_json::from_str(&text).map_err(|source| TokenFileError::Format { path: self.path.clone(), source })?;
        if contents.version != VERSION {
            return Err(TokenFileError::Version { path: self.path.clone(), found: contents.version });
        }
        Ok(contents.tokens)
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
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
        let sha256 = hash(&secret);
        let entry = TokenEntry {
            id: hex::encode(&sha256[..4]),
            name: new.name,
            sha256,
            scopes: new.scopes,
            tenant: new.tenant,
            created_at: new.created_at,
            expires_at: new.expires_at,
        };
        tokens.push(entry.clone());
        self.write(tokens)?;
        Ok((Secret::new(secret), entry))
    }

    /// Removes the token with this name or id.
    ///
    /// # Errors
    /// [`TokenFileError::Unknown`], or the file cannot be read or written.
    pub fn remove(&self, name_or_id: &str) -> Result<TokenEntry, TokenFileError> {
        let _lock = self.lock()?;
        let mut tokens = self.read()?;
        let found = tokens.iter().position(|token| token.name == name_or_id || token.id == name_or_id);
        let Some(index) = found else { return Err(TokenFileError::Unknown { what: name_or_id.to_owned() }) };
        let removed = tokens.remove(index);
        self.write(tokens)?;
        Ok(removed)
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

    fn write(&self, tokens: Vec<TokenEntry>) -> Result<(), TokenFileError> {
        let text = serde_json::to_string_pretty(&Contents { version: VERSION, tokens })
            .map_err(|source| TokenFileError::Format { path: self.path.clone(), source })?;
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

    fn io(&self, action: &'static str, source: io::Error) -> TokenFileError {
        TokenFileError::Io { action, path: self.path.clone(), source }
    }
}

/// SHA-256 of a secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn as_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(String::deserialize(deserializer)?, &mut bytes).map_err(de::Error::custom)?;
    Ok(bytes)
}

fn as_display<S: Serializer>(tenant: &TenantAccess, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(tenant)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TenantAccess, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn new_token(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            scopes: vec![Scope::MetricsRead],
            tenant: TenantAccess::Any,
            created_at: 1_700_000_000,
            expires_at: None,
        }
    }

    #[test]
    fn the_file_holds_no_secret_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("tokens.json"));
        let (secret, entry) = file.add(new_token("ci")).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(&secret.reveal()[PREFIX.len()..]));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.read().unwrap(), std::slice::from_ref(&entry));
        assert_eq!(hash(secret.reveal()), entry.sha256);
    }

    #[test]
    fn names_are_unique_and_tokens_can_be_revoked_by_name_or_id() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("tokens.json"));
        let (_, first) = file.add(new_token("a")).unwrap();
        assert!(matches!(file.add(new_token("a")), Err(TokenFileError::NameTaken { .. })));
        file.add(new_token("b")).unwrap();
        assert_eq!(file.remove("b").unwrap().name, "b");
        assert_eq!(file.remove(&first.id).unwrap().name, "a");
        assert!(matches!(file.remove("a"), Err(TokenFileError::Unknown { .. })));
    }

    #[test]
    fn a_broken_file_is_named_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("tokens.json"));
        for (text, part) in [("{", "is not valid"), (r#"{"version":9,"tokens":[]}"#, "has version 9")] {
            fs::write(file.path(), text).unwrap();
            assert!(file.read().unwrap_err().to_string().contains(part));
        }
    }
}
