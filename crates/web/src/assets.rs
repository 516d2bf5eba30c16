//! The files of `ui/dist`, as compiled into the binary.
//!
//! Invariants
//! - A1 The table is complete after its first use and never changes: entity tags hold for the life of the process.
//! - A2 A file whose name carries a content hash never changes under that name, so it may be cached for ever.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

/// `allow_missing`: a checkout without the built UI still compiles, see `build.rs`.
#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Dist;

/// Shortest hash that the bundler puts into a name; fewer characters are taken for a word.
const NAME_HASH_CHARS: usize = 8;

/// One file, ready to be sent.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its bytes as built.
    pub(crate) body: Bytes,
    /// Hex of the first half of the SHA-256 of `body`.
    pub(crate) hash: String,
    pub(crate) content_type: &'static str,
    /// Its name carries a content hash (A2).
    pub(crate) immutable: bool,
    gzip: OnceLock<Option<Bytes>>,
}

static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    Dist::iter()
        .filter_map(|path| Some((path.to_string(), Dist::get(&path)?)))
        .map(|(path, file)| {
            let body = match file.data {
                std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
            };
            let asset = Asset::new(&path, body, &file.metadata.sha256_hash());
            (path, asset)
        })
        .collect()
});

/// The file at `path` below `ui/dist`, without a leading slash.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.get(path)
}

/// Paths of all files, ascending.
#[cfg(test)]
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    ASSETS.keys().map(String::as_str)
}

impl Asset {
    fn new(path: &str, body: Bytes, sha256: &[u8; 32]) -> Self {
        let hash = sha256[..16].iter().fold(String::with_capacity(32), |text, byte| text + &format!("{byte:02x}"));
        Self { body, hash, content_type: content_type(path), immutable: has_name_hash(path), gzip: OnceLock::new() }
    }

    /// The gzip form, made once; `None` where compressing does not pay.
    pub(crate) fn gzip(&self) -> Option<&Bytes> {
        self.gzip.get_or_init(|| compress(&self.body).filter(|packed| packed.len() < self.body.len())).as_ref()
    }
}

fn compress(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), Compression::best());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Media type by extension; the bundle holds no others.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Does the name end in the bundler's `-HASH.ext`? Only files below `assets/` do. The hash may itself hold a dash.
fn has_name_hash(path: &str) -> bool {
    let Some(name) = path.strip_prefix("assets/") else {
        return false;
    };
    let Some((stem, _)) = name.rsplit_once('.') else {
        return false;
    };
    let Some(at) = stem.len().checked_sub(NAME_HASH_CHARS + 1) else {
        return false;
    };
    stem.is_char_boundary(at)
        && stem[at..].starts_with('-')
        && stem[at + 1..].bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a2_only_names_with_a_hash_are_immutable() {
        assert!(has_name_hash("assets/index-C0iGkf4p.js"));
        assert!(has_name_hash("assets/Explore-cND-a_bY.js"));
        assert!(!has_name_hash("assets/theme.js"));
        assert!(!has_name_hash("assets/a.js"));
        assert!(!has_name_hash("index-C0iGkf4p.html"));
    }

    #[test]
    fn a_file_that_does_not_shrink_has_no_gzip_form() {
        let asset = Asset::new("x.bin", Bytes::from_static(&[1]), &[0; 32]);
        assert!(asset.gzip().is_none());
        assert_eq!(asset.content_type, "application/octet-stream");
    }
}
