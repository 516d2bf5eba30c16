//! How a place is written on a command line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::BackupError;

/// A folder, or a prefix in a bucket.
#[derive(Debug, Clone)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// S3-compatible storage.
    Bucket {
        /// The bucket, which must exist.
        bucket: String,
        /// Stands before all keys; may be empty.
        prefix: String,
        /// How to reach it.
        options: S3Options,
    },
}

/// How to reach S3-compatible storage.
#[derive(Clone, Default)]
pub struct S3Options {
    /// The usual `AWS_…` variables: keys, session token, region, endpoint, roles. Others are ignored.
    pub variables: BTreeMap<String, String>,
    /// Server other than Amazon's, such as `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` if neither this nor a variable says.
    pub region: Option<String>,
    /// The bucket is part of the host's name instead of the path.
    pub virtual_hosted: bool,
    /// Plain HTTP is fine: data and names travel unencrypted.
    pub allow_http: bool,
}

impl fmt::Debug for S3Options {
    /// Without the variables: they are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Location {
    /// Reads `s3://bucket/prefix`, or else the path of a folder.
    ///
    /// # Errors
    /// [`BackupError::Location`]: another scheme, or no bucket.
    pub fn parse(given: &str, options: S3Options) -> Result<Self, BackupError> {
        let problem = |problem: &str| BackupError::Location { given: given.to_owned(), problem: problem.to_owned() };
        if let Some(rest) = given.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(problem("the bucket is missing in s3://BUCKET/PREFIX"));
            }
            let prefix = prefix.trim_matches('/');
            if !prefix.is_empty() && !crate::manifest::is_inside(prefix) {
                return Err(problem("the prefix has an empty part, \".\" or \"..\""));
            }
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned(), options });
        }
        if given.is_empty() {
            return Err(problem("it is empty"));
        }
        if given.contains("://") {
            return Err(problem("use a folder or s3://BUCKET/PREFIX"));
        }
        Ok(Self::Folder(PathBuf::from(given)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: &str) {
        let told = match Location::parse(given, S3Options::default()) {
            Ok(Location::Folder(path)) => format!("folder {}", path.display()),
            Ok(Location::Bucket { bucket, prefix, .. }) => format!("bucket {bucket} {prefix:?}"),
            Err(error) => error.to_string(),
        };
        assert!(told.contains(expected), "{given}: {told}");
    }

    #[test]
    fn places_are_read_or_refused() {
        check("/mnt/backups", "folder /mnt/backups");
        check("here", "folder here");
        check("s3://b", "bucket b \"\"");
        check("s3://b/deep/er/", "bucket b \"deep/er\"");
        check("s3:///x", "the bucket is missing");
        check("s3://b/../x", "the prefix has");
        check("gs://b/x", "use a folder or s3://BUCKET/PREFIX");
        check("", "it is empty");
    }

    #[test]
    fn secrets_are_not_printed() {
        let variables = BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())]);
        let options = S3Options { variables, ..S3Options::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
