//! Who works on a repository: backups side by side, a prune alone.
//!
//! Each first leaves its mark and then looks for others'. Of two that may not work together at least one sees the other
//! and gives up, as long as the storage shows what was written before (folders and S3 do). Marks of the dead stay
//! until `pharos backup unlock`: a clock that says "dead by now" could be wrong, and objects would be lost.

use bytes::Bytes;
use pharos_base::random_bytes;

use crate::BackupError;
use crate::place::Place;

/// All marks lie below it.
pub(crate) const LOCKS: &str = "locks/";

/// What somebody does in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Adds objects and a manifest.
    Backup,
    /// Removes manifests and objects.
    Prune,
}

impl Work {
    fn prefix(self) -> &'static str {
        match self {
            Self::Backup => "locks/backup-",
            Self::Prune => "locks/prune-",
        }
    }

    fn excludes(self, key: &str) -> bool {
        self == Self::Prune || key.starts_with(Self::Prune.prefix())
    }
}

/// A mark that was left.
#[must_use = "a lock that is not released keeps a prune from working"]
pub(crate) struct Lock(String);

impl Lock {
    /// Leaves a mark; `note` is for people.
    ///
    /// # Errors
    /// [`BackupError::Busy`] if somebody's work excludes this.
    pub(crate) async fn take(place: &Place, work: Work, note: &str) -> Result<Self, BackupError> {
        let own = format!("{}{}", work.prefix(), hex::encode(random_bytes::<8>()));
        place.put(&own, Bytes::from(note.to_owned())).await?;
        let lock = Self(own);
        let listed = place.list(LOCKS).await;
        let others = listed.map(|all| all.into_iter().find(|entry| entry.key != lock.0 && work.excludes(&entry.key)));
        match others {
            Ok(None) => Ok(lock),
            Ok(Some(other)) => {
                lock.release(place).await;
                let note = place.get(&other.key, NOTE_BYTES_MAX).await.ok().flatten().unwrap_or_default();
                let note = String::from_utf8_lossy(&note).chars().filter(|c| !c.is_control()).collect();
                let is_prune = other.key.starts_with(Work::Prune.prefix());
                let what = if is_prune { "a prune" } else { "a backup" };
                Err(BackupError::Busy { what, place: place.to_string(), which: note })
            }
            Err(error) => {
                lock.release(place).await;
                Err(error)
            }
        }
    }

    /// Takes the mark away. Where that fails it stays for `unlock`.
    pub(crate) async fn release(self, place: &Place) {
        if let Err(error) = place.delete(&self.0).await {
            tracing::warn!(error = %pharos_base::full_message(&error), "cannot remove the lock");
        }
    }
}

const NOTE_BYTES_MAX: u64 = 1 << 10;

/// Takes all marks away and returns how many there were.
pub(crate) async fn unlock(place: &Place) -> Result<usize, BackupError> {
    let marks = place.list(LOCKS).await?;
    for mark in &marks {
        place.delete(&mark.key).await?;
    }
    Ok(marks.len())
}
