//! A repository in S3-compatible storage. Every request is signed with the hash of its body, which the server checks;
//! failed ones are repeated with growing pauses.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::{Path as Key, PathPart};
use object_store::{
    BackoffConfig, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};

use super::folder::blocking;
use super::{Entry, PIECE_BYTES, S3Options};
use crate::BackupError;
use crate::digest::{Digest, Hasher};

/// How often a request is repeated, and for how long.
const RETRIES_MAX: usize = 8;
const RETRY_TIMEOUT: Duration = Duration::from_mins(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// S3 takes no more parts of one upload.
const PARTS_MAX: u64 = 10_000;

/// A prefix in a bucket.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// As it was given.
    shown: String,
    /// The prefix as its keys begin: bytes that S3 keys should not have are percent-encoded.
    root: Key,
}

impl Bucket {
    pub(crate) fn open(name: &str, prefix: &str, options: &S3Options) -> Result<Self, BackupError> {
        let shown = if prefix.is_empty() { format!("s3://{name}") } else { format!("s3://{name}/{prefix}") };
        let problem = |problem: String| BackupError::Location { given: shown.clone(), problem };
        let mut builder = AmazonS3Builder::new();
        for (variable, value) in &options.variables {
            // Those that are not about access, such as AWS_PAGER, have no key.
            if let Ok(key) = variable.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(endpoint) = &options.endpoint {
            // Else a variable for S3 alone would be more special.
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
            .iter()
            .find_map(|key| builder.get_config_value(key))
            .unwrap_or_default();
        let http_by_variable = options.variables.get("AWS_ALLOW_HTTP").is_some_and(|value| value == "true");
        let allow_http = options.allow_http || http_by_variable;
        if endpoint.starts_with("http://") && !allow_http {
            return Err(problem(format!("{endpoint} is not encrypted; --s3-allow-http if that is meant")));
        }
        let client = ClientOptions::new()
            .with_allow_http(allow_http)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_timeout_disabled();
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT };
        let built = builder
            .with_bucket_name(name)
            .with_virtual_hosted_style_request(options.virtual_hosted)
            .with_client_options(client)
            .with_retry(retry)
            .build();
        let store = built.map_err(|error| problem(error.to_string()))?;
        Ok(Self { store: Arc::new(store), shown, root: parts(prefix).collect() })
    }

    fn key(&self, key: &str) -> Key {
        self.root.parts().chain(parts(key)).collect()
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BackupError> {
        let put = self.store.put(&self.key(key), PutPayload::from_bytes(bytes)).await;
        put.map(|_| ()).map_err(BackupError::storage("write", key))
    }

    pub(crate) async fn put_file(&self, key: &str, source: &Path, expected: (Digest, u64)) -> Result<(), BackupError> {
        let reader = PieceReader::open(source, piece_bytes(expected.1)).await?;
        let mut upload =
            self.store.put_multipart(&self.key(key)).await.map_err(BackupError::storage("begin to write", key))?;
        let sent = send_pieces(upload.as_mut(), reader, key, expected).await;
        if sent.is_err() {
            // Parts that nobody completes would stay and cost money; the bucket's own rules remove them, too.
            let _ = upload.abort().await;
        }
        sent
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<Download>, BackupError> {
        match self.store.get(&self.key(key)).await {
            Ok(found) => Ok(Some(Download { key: key.to_owned(), pieces: found.into_stream() })),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(BackupError::storage("read", key)(error)),
        }
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, BackupError> {
        let root = self.root.as_ref();
        let skipped = if root.is_empty() { 0 } else { root.len() + 1 };
        let listed = self.store.list(Some(&self.key(prefix))).map_ok(|object| Entry {
            key: object.location.as_ref().get(skipped..).unwrap_or_default().to_owned(),
            bytes: object.size,
        });
        listed.try_collect().await.map_err(BackupError::storage("list", prefix))
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), BackupError> {
        match self.store.delete(&self.key(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BackupError::storage("remove", key)(error)),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn parts(key: &str) -> impl Iterator<Item = PathPart<'_>> {
    key.split('/').filter(|part| !part.is_empty()).map(PathPart::from)
}

/// An object on its way here.
pub(crate) struct Download {
    key: String,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl Download {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        self.pieces.next().await.transpose().map_err(BackupError::storage("read", &self.key))
    }
}

/// One piece after the other: files go side by side, the pieces of one do not, so that memory stays bounded.
async fn send_pieces(
    upload: &mut dyn MultipartUpload,
    mut reader: PieceReader,
    key: &str,
    expected: (Digest, u64),
) -> Result<(), BackupError> {
    let mut hasher = Hasher::default();
    let path = reader.path.clone();
    loop {
        let (next, piece) = reader.next().await?;
        reader = next;
        if piece.is_empty() {
            break;
        }
        hasher.update(&piece);
        upload.put_part(PutPayload::from(piece)).await.map_err(BackupError::storage("write", key))?;
    }
    if hasher.finish() != expected {
        return Err(BackupError::Changed { path });
    }
    upload.complete().await.map(|_| ()).map_err(BackupError::storage("finish writing", key))
}

/// Large enough that a file of `bytes` takes no more parts than S3 allows.
fn piece_bytes(bytes: u64) -> usize {
    PIECE_BYTES.max(usize::try_from(bytes.div_ceil(PARTS_MAX)).unwrap_or(usize::MAX))
}

struct PieceReader {
    path: PathBuf,
    file: File,
    piece_bytes: usize,
}

impl PieceReader {
    async fn open(path: &Path, piece_bytes: usize) -> Result<Self, BackupError> {
        let path = path.to_owned();
        blocking(move || {
            let file = File::open(&path).map_err(BackupError::io("open", &path))?;
            Ok(Self { path, file, piece_bytes })
        })
        .await
    }

    async fn next(mut self) -> Result<(Self, Vec<u8>), BackupError> {
        blocking(move || {
            let mut piece = Vec::with_capacity(self.piece_bytes);
            let read = (&mut self.file).take(self.piece_bytes as u64).read_to_end(&mut piece);
            read.map_err(BackupError::io("read", &self.path))?;
            Ok((self, piece))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_file_fits_into_the_parts_that_s3_takes() {
        for bytes in [0, 1, PIECE_BYTES as u64, 100 << 30, 5 << 40] {
            assert!(bytes.div_ceil(piece_bytes(bytes) as u64) <= PARTS_MAX, "{bytes}");
        }
        assert_eq!(piece_bytes(1 << 30), PIECE_BYTES);
    }

    /// A variable for S3 alone is more special than one for all of Amazon's services, a flag more than both.
    #[test]
    fn the_endpoint_that_is_told_last_counts() {
        let mut options = S3Options::default();
        let named = |options: &S3Options| Bucket::open("b", "", options).map(|_| ()).unwrap_err().to_string();
        options.variables.insert("AWS_ENDPOINT_URL".to_owned(), "http://all.example".to_owned());
        assert!(named(&options).contains("all.example"));
        options.variables.insert("AWS_ENDPOINT_URL_S3".to_owned(), "http://s3.example".to_owned());
        assert!(named(&options).contains("s3.example"));
        options.endpoint = Some("http://flag.example".to_owned());
        assert!(named(&options).contains("flag.example"));
    }

    /// Storage in memory lists keys as S3 does: with what `object_store` encodes in them.
    #[tokio::test]
    async fn what_is_written_below_any_prefix_is_listed_under_its_key() {
        for prefix in ["", "plain", "team#1/a%b", "/with//slashes/", "\u{fc}ml\u{e4}ut *"] {
            let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
            let bucket = Bucket { store, shown: String::new(), root: parts(prefix).collect() };
            bucket.put("backups/x.manifest", Bytes::from_static(b"1")).await.unwrap();
            let listed = bucket.list("backups/").await.unwrap();
            assert_eq!(
                listed.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(),
                ["backups/x.manifest"],
                "{prefix}"
            );
            assert!(bucket.read("backups/x.manifest").await.unwrap().is_some(), "{prefix}");
        }
    }

    #[test]
    fn plain_http_must_be_meant() {
        let mut options = S3Options { endpoint: Some("http://127.0.0.1:9".to_owned()), ..S3Options::default() };
        let error = Bucket::open("b", "p", &options).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("--s3-allow-http"), "{error}");
        options.allow_http = true;
        assert_eq!(Bucket::open("b", "p", &options).unwrap().to_string(), "s3://b/p");
    }
}
