//! Reading everything again: is each object what its name says?

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use pharos_base::full_message;

use crate::BackupError;
use crate::digest::{Digest, Hasher};
use crate::manifest::ManifestFile;
use crate::repository::{Observer, Repository};
use crate::restore::difference;

/// What reading everything found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Backups that were looked at.
    pub backups: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// What is damaged; none is good.
    pub faults: Vec<Fault>,
}

/// Something damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key of the object or manifest.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// The backups that cannot be restored because of it.
    pub backups: Vec<String>,
    /// A file that it is, in the first of these; empty for a manifest.
    pub file: String,
}

/// An object, and who needs it.
struct Needed {
    file: ManifestFile,
    backups: Vec<String>,
}

impl Repository {
    pub(crate) async fn verify_named(
        &self,
        name: Option<&str>,
        observer: &dyn Observer,
    ) -> Result<Verified, BackupError> {
        let names = match name {
            Some(name) => vec![self.chosen(Some(name)).await?],
            None => self.names().await?,
        };
        let (mut needed, mut faults) = (BTreeMap::<(Digest, u64), Needed>::new(), Vec::new());
        for name in &names {
            match self.manifest(name).await {
                Ok(manifest) => manifest.files.into_iter().for_each(|file| {
                    let key = (file.sha256, file.bytes);
                    let needed = needed.entry(key).or_insert_with(|| Needed { file, backups: Vec::new() });
                    if needed.backups.last() != Some(name) {
                        needed.backups.push(name.clone());
                    }
                }),
                Err(error @ (BackupError::Manifest { .. } | BackupError::Newer { .. })) => faults.push(Fault {
                    key: crate::manifest::manifest_key(name),
                    problem: error.to_string(),
                    backups: vec![name.clone()],
                    file: String::new(),
                }),
                Err(error) => return Err(error),
            }
        }
        let bytes = needed.values().map(|needed| needed.file.bytes).sum();
        observer.total(bytes);
        let objects = needed.len() as u64;
        let found: Vec<Option<Fault>> = stream::iter(needed.into_values())
            .map(|needed| self.check(needed, observer))
            .buffered(self.concurrency)
            .try_collect()
            .await?;
        faults.extend(found.into_iter().flatten());
        Ok(Verified { backups: names.len() as u64, objects, bytes, faults })
    }

    async fn check(&self, needed: Needed, observer: &dyn Observer) -> Result<Option<Fault>, BackupError> {
        let key = needed.file.sha256.key();
        let problem = match self.problem_of(&key, &needed.file, observer).await {
            // A file that its disk does not give back is as damaged as one with other contents; the rest is of interest.
            Err(error @ BackupError::Io { .. }) => Some(full_message(&error)),
            told => told?,
        };
        Ok(problem.map(|problem| Fault { key, problem, backups: needed.backups, file: needed.file.path }))
    }

    async fn problem_of(
        &self,
        key: &str,
        file: &ManifestFile,
        observer: &dyn Observer,
    ) -> Result<Option<String>, BackupError> {
        let Some(mut contents) = self.place.read(key).await? else { return Ok(Some("it is missing".to_owned())) };
        let mut hasher = Hasher::default();
        while let Some(piece) = contents.next().await? {
            if observer.is_interrupted() {
                return Err(BackupError::Interrupted);
            }
            hasher.update(&piece);
            observer.done(piece.len() as u64);
        }
        Ok(difference(hasher, file))
    }
}
