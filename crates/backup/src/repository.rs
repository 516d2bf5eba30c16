//! The repository: which backups there are, and what may be done with them.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use pharos_base::Clock;

use crate::locks::{Lock, Work, unlock};
use crate::manifest::{MANIFEST_BYTES_MAX, MANIFESTS, Manifest, backup_name, is_name, manifest_key};
use crate::place::Place;
use crate::{BackupError, Location, Pruned, Restored, Saved, SourceTree, Verified};

/// Files under way at once unless told otherwise.
const CONCURRENCY_DEFAULT: usize = 4;
/// Most files under way at once: each may hold a piece or two in memory.
const CONCURRENCY_MAX: usize = 64;

/// How a repository is worked on.
#[derive(Debug, Clone, Copy)]
pub struct RepositorySettings {
    /// Files under way at once, 1 to 64; 4 by default.
    pub concurrency: usize,
}

impl Default for RepositorySettings {
    fn default() -> Self {
        Self { concurrency: CONCURRENCY_DEFAULT }
    }
}

/// Is told how far a long task is, and may end it.
pub trait Observer: Send + Sync {
    /// So many bytes are to be done in all.
    fn total(&self, bytes: u64);
    /// So many bytes more are done.
    fn done(&self, bytes: u64);
    /// Whether to end, in order, with [`BackupError::Interrupted`]. Asked before each file.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn total(&self, _bytes: u64) {}
    fn done(&self, _bytes: u64) {}
}

/// A backup as a list shows it.
#[derive(Debug)]
pub struct BackupEntry {
    /// Its name; names sort by time.
    pub name: String,
    /// What its manifest says, or why it cannot be read.
    pub told: Result<BackupNote, BackupError>,
}

/// What a manifest says, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupNote {
    /// When it began, RFC 3339.
    pub created_at: String,
    /// How many files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Folders that are not in it.
    pub left_out: Vec<String>,
}

/// A place with backups. Its futures do nothing unless polled and may be dropped: what was begun is then
/// as after a crash.
pub struct Repository {
    pub(crate) place: Place,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) concurrency: usize,
}

impl Repository {
    /// Opens the place; nothing is read yet.
    ///
    /// # Errors
    /// [`BackupError::Location`]: it cannot be reached as told.
    pub fn open(location: &Location, settings: RepositorySettings, clock: Arc<dyn Clock>) -> Result<Self, BackupError> {
        Ok(Self { place: Place::open(location)?, clock, concurrency: settings.concurrency.clamp(1, CONCURRENCY_MAX) })
    }

    /// Makes a backup. What the repository has already is not sent again.
    ///
    /// # Errors
    /// [`BackupError::Busy`], [`BackupError::Changed`], [`BackupError::Interrupted`], and what disks and storage say. There
    /// is no backup then; objects already sent are used by the next one.
    pub async fn save(&self, tree: SourceTree, observer: &dyn Observer) -> Result<Saved, BackupError> {
        let name = self.new_name();
        let lock = Lock::take(&self.place, Work::Backup, &self.note(&name)).await?;
        let saved = self.save_as(name, tree, observer).await;
        lock.release(&self.place).await;
        saved
    }

    /// All backups, oldest first.
    ///
    /// # Errors
    /// What disks and storage say; a manifest that cannot be read is told in its entry.
    pub async fn list(&self) -> Result<Vec<BackupEntry>, BackupError> {
        let mut entries = Vec::new();
        for name in self.names().await? {
            let told = match self.manifest(&name).await {
                Ok(manifest) => Ok(BackupNote {
                    files: manifest.files.len() as u64,
                    bytes: manifest.bytes(),
                    created_at: manifest.created_at,
                    left_out: manifest.left_out,
                }),
                Err(error @ (BackupError::Manifest { .. } | BackupError::Newer { .. })) => Err(error),
                Err(error) => return Err(error),
            };
            entries.push(BackupEntry { name, told });
        }
        Ok(entries)
    }

    /// Reads all objects of one backup, or of all.
    ///
    /// # Errors
    /// What disks and storage say; damage is no error here but in the answer.
    pub async fn verify(&self, name: Option<&str>, observer: &dyn Observer) -> Result<Verified, BackupError> {
        self.verify_named(name, observer).await
    }

    /// Restores a backup, the newest by default, into `data_dir`, which must be new or empty and which nobody else may use
    /// meanwhile.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`], [`BackupError::NotEmpty`], [`BackupError::Manifest`], [`BackupError::Newer`],
    /// [`BackupError::Damaged`], [`BackupError::Interrupted`], and what disks and storage say. `data_dir` is as empty as
    /// before, but for B5.
    pub async fn restore(
        &self,
        name: Option<&str>,
        data_dir: &Path,
        observer: &dyn Observer,
    ) -> Result<Restored, BackupError> {
        let name = self.chosen(name).await?;
        let manifest = self.manifest(&name).await?;
        self.restore_manifest(name, &manifest, data_dir, observer).await
    }

    /// Removes all backups but the newest `keep`, and the objects that none of those needs. With `dry_run` it only tells.
    ///
    /// # Errors
    /// [`BackupError::NoBackup`], [`BackupError::Busy`]; [`BackupError::Manifest`] and [`BackupError::Newer`] if it cannot be known what a backup
    /// needs: nothing is removed then. What disks and storage say.
    pub async fn prune(&self, keep: std::num::NonZeroUsize, dry_run: bool) -> Result<Pruned, BackupError> {
        if self.names().await?.is_empty() {
            return Err(self.no_backup(""));
        }
        if dry_run {
            return self.prune_alone(keep.get(), true).await;
        }
        let lock = Lock::take(&self.place, Work::Prune, &self.note("a prune")).await?;
        let pruned = self.prune_alone(keep.get(), false).await;
        lock.release(&self.place).await;
        pruned
    }

    /// Removes the locks of those who were killed, and returns how many there were. Only when nobody works there.
    ///
    /// # Errors
    /// What disks and storage say.
    pub async fn unlock(&self) -> Result<usize, BackupError> {
        unlock(&self.place).await
    }

    /// Names of all backups, oldest first.
    pub(crate) async fn names(&self) -> Result<Vec<String>, BackupError> {
        let listed = self.place.list(MANIFESTS).await?;
        let mut names: Vec<_> = listed.iter().filter_map(|entry| backup_name(&entry.key)).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// The name that was asked for, or the newest.
    pub(crate) async fn chosen(&self, name: Option<&str>) -> Result<String, BackupError> {
        match name {
            Some(name) if is_name(name) => Ok(name.to_owned()),
            Some(name) => Err(self.no_backup(name)),
            None => self.names().await?.pop().ok_or_else(|| self.no_backup("")),
        }
    }

    pub(crate) async fn manifest(&self, name: &str) -> Result<Manifest, BackupError> {
        let bytes = self.place.get(&manifest_key(name), MANIFEST_BYTES_MAX).await?;
        Manifest::decode(name, &bytes.ok_or_else(|| self.no_backup(name))?)
    }

    fn no_backup(&self, name: &str) -> BackupError {
        let wanted = if name.is_empty() { String::new() } else { format!("{name:?} ") };
        BackupError::NoBackup { wanted, place: self.place.to_string() }
    }

    /// Names sort by time, to the millisecond: one backup may follow another at once.
    fn new_name(&self) -> String {
        let random = hex::encode(pharos_base::random_bytes::<4>());
        format!("{}-{random}", self.now().strftime("%Y%m%dT%H%M%S%3fZ"))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.unix_ms()).unwrap_or_default()
    }

    fn note(&self, what: &str) -> String {
        format!("{what}, process {}, since {}", std::process::id(), self.now().strftime("%Y-%m-%d %H:%M:%S UTC"))
    }
}
