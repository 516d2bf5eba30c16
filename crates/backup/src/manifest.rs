//! Manifests: what a backup consists of. Bytes: `docs/repository.md`.
//!
//! A manifest comes from a storage that others may write to, so nothing in it is believed before it was checked: its
//! checksum, its version, and that every path stays inside the folder it is restored to.

use serde::{Deserialize, Serialize};

use crate::BackupError;
use crate::digest::Digest;

/// All manifests lie below it.
pub(crate) const MANIFESTS: &str = "backups/";
const SUFFIX: &str = ".manifest";
const MAGIC: &str = "pharos-backup ";
const CHECKSUM: &str = "sha256 ";
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u64 = 1;
/// Largest manifest that is read: some two million files.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 512 << 20;
/// Longest path of a file, bytes.
const PATH_BYTES_MAX: usize = 4096;

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// When the backup began, RFC 3339.
    pub(crate) created_at: String,
    /// The version of Pharos that made it.
    pub(crate) made_by: String,
    /// What was on disk and could not be taken along.
    pub(crate) left_out: Vec<String>,
    /// Folders without files, relative to the data folder.
    pub(crate) empty_folders: Vec<String>,
    /// All files.
    pub(crate) files: Vec<ManifestFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// Relative to the data folder, with `/`.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    #[serde(with = "digest_text")]
    pub(crate) sha256: Digest,
}

impl Manifest {
    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// The whole file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{MAGIC}{VERSION}\n").into_bytes();
        serde_json::to_writer(&mut bytes, self).expect("texts and numbers are always JSON");
        bytes.push(b'\n');
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(format!("{CHECKSUM}{digest}\n").as_bytes());
        bytes
    }

    /// Reads and checks a manifest; `name` is the backup's.
    ///
    /// # Errors
    /// [`BackupError::Newer`], [`BackupError::Manifest`].
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Self, BackupError> {
        let damaged = |problem: &str| BackupError::Manifest { name: name.to_owned(), problem: problem.to_owned() };
        let first_line = bytes.split(|byte| *byte == b'\n').next().and_then(|line| std::str::from_utf8(line).ok());
        let version = first_line.and_then(|line| line.strip_prefix(MAGIC)?.parse::<u64>().ok());
        let version = version.ok_or_else(|| damaged("it does not begin as a manifest"))?;
        // Before the checksum: how a newer version is checked is not known here.
        if version > VERSION {
            return Err(BackupError::Newer { name: name.to_owned(), found: version, supported: VERSION });
        }
        let end = bytes.strip_suffix(b"\n").ok_or_else(|| damaged("its end is missing"))?;
        let last_line = end.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let told = std::str::from_utf8(last_line).ok().and_then(|line| Digest::parse(line.strip_prefix(CHECKSUM)?));
        let told = told.ok_or_else(|| damaged("its end is missing"))?;
        let content = &end[..end.len() - last_line.len()];
        if Digest::of(content) != told {
            return Err(damaged("its checksum is wrong"));
        }
        let json = &content[first_line.map_or(0, |line| line.len() + 1)..];
        let manifest: Self = serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        let folders = manifest.empty_folders.iter().map(String::as_str);
        let mut paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).chain(folders).collect();
        if let Some(path) = paths.iter().find(|path| !is_inside(path)) {
            return Err(damaged(&format!("it names the path {path:?}")));
        }
        paths.sort_unstable();
        if let Some((twice, _)) = paths.iter().zip(paths.iter().skip(1)).find(|(path, next)| path == next) {
            return Err(damaged(&format!("it names {twice:?} twice")));
        }
        Ok(manifest)
    }
}

/// Whether a path has only ordinary components, so that it cannot leave the folder it is joined to.
pub(crate) fn is_inside(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && !path.contains('\0')
        && path.split('/').all(|component| !matches!(component, "" | "." | ".."))
}

/// The key of a backup's manifest.
pub(crate) fn manifest_key(name: &str) -> String {
    format!("{MANIFESTS}{name}{SUFFIX}")
}

/// The name of the backup whose manifest a key is.
pub(crate) fn backup_name(key: &str) -> Option<&str> {
    key.strip_prefix(MANIFESTS)?.strip_suffix(SUFFIX).filter(|name| is_name(name))
}

/// Whether a backup may be called so: what [`crate::Repository`] makes, and nothing that could be a path.
pub(crate) fn is_name(name: &str) -> bool {
    const NAME_BYTES_MAX: usize = 64;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

mod digest_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("no SHA-256"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| ManifestFile { path: (*path).to_owned(), bytes: 3, sha256: Digest::of(b"abc") };
        Manifest {
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            made_by: "0.1.0".to_owned(),
            left_out: Vec::new(),
            empty_folders: vec!["metrics/log".to_owned()],
            files: paths.iter().map(file).collect(),
        }
    }

    /// Replaces the JSON below a fresh checksum: an enemy can do that, too.
    fn problem(bytes: &[u8]) -> String {
        Manifest::decode("b", bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let written = manifest(&["metrics/a", "tokens.json"]);
        assert_eq!(Manifest::decode("b", &written.encode()).unwrap(), written);
        assert!(written.encode().starts_with(b"pharos-backup 1\n{"));
    }

    #[test]
    fn no_cut_and_no_flipped_bit_passes() {
        let whole = manifest(&["metrics/a"]).encode();
        for length in 0..whole.len() {
            assert!(Manifest::decode("b", &whole[..length]).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(Manifest::decode("b", &bytes).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_newer_manifest_is_refused_by_its_first_line() {
        let error = Manifest::decode("b", b"pharos-backup 2\nwhatever").unwrap_err();
        assert!(matches!(error, BackupError::Newer { found: 2, supported: 1, .. }), "{error}");
        assert!(error.to_string().contains("newer Pharos"), "{error}");
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a/", "./a", "a\0b"] {
            assert!(problem(&manifest(&[path]).encode()).contains("names the path"), "{path:?}");
        }
        assert!(problem(&manifest(&["a", "a"]).encode()).contains("twice"));
        assert!(is_name("20260101T000000Z-00ff") && !is_name("../x") && !is_name("") && !is_name("a/b"));
    }
}
