//! SHA-256 of contents, and the keys of objects made of it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::BackupError;

/// All objects lie below it, in 256 folders.
pub(crate) const OBJECTS: &str = "objects/";
/// Read at once from a file.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From 64 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok().filter(|()| is_canonical)?;
        Some(Self(bytes))
    }

    /// Where the object with these contents lies.
    pub(crate) fn key(self) -> String {
        let name = self.to_string();
        format!("{OBJECTS}{}/{name}", &name[..2])
    }

    /// The digest that a key names; none for keys of other things.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let digest = Self::parse(key.rsplit('/').next()?)?;
        (digest.key() == key).then_some(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes bytes as they pass and counts them.
#[derive(Default)]
pub(crate) struct Hasher {
    hash: Sha256,
    bytes: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The digest, and how many bytes it is of.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest(self.hash.finalize().into()), self.bytes)
    }
}

/// Digest and length of a file.
pub(crate) fn digest_file(path: &Path) -> Result<(Digest, u64), BackupError> {
    let mut file = File::open(path).map_err(BackupError::io("open", path))?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer).map_err(BackupError::io("read", path))? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
