//! Removing old backups, and then the objects that no backup needs any more.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};

use crate::BackupError;
use crate::digest::{Digest, OBJECTS};
use crate::manifest::manifest_key;
use crate::repository::Repository;

/// What a prune removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Backups that are gone, oldest first.
    pub removed: Vec<String>,
    /// Backups that stay, oldest first.
    pub kept: Vec<String>,
    /// Objects that are gone.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Repository {
    /// Nobody else works here, or this is a dry run.
    pub(crate) async fn prune_alone(&self, keep: usize, dry_run: bool) -> Result<Pruned, BackupError> {
        let mut removed = self.names().await?;
        let kept = removed.split_off(removed.len().saturating_sub(keep));
        // B4: before anything goes, what the others need is known.
        let mut needed = HashSet::new();
        for name in &kept {
            needed.extend(self.manifest(name).await?.files.iter().map(|file| file.sha256));
        }
        // A damaged or newer manifest may be all that is left of a backup: that it goes is its owner's decision.
        for name in &removed {
            self.manifest(name).await?;
        }
        // Without a manifest there is no backup; objects go only then, so that none is ever half there.
        if !dry_run {
            for name in &removed {
                self.place.delete(&manifest_key(name)).await?;
            }
            self.place.settle().await?;
        }
        let listed = self.place.list(OBJECTS).await?;
        let unneeded = |key: &str| Digest::of_key(key).is_some_and(|digest| !needed.contains(&digest));
        let doomed: Vec<_> = listed.into_iter().filter(|entry| unneeded(&entry.key)).collect();
        if !dry_run {
            stream::iter(&doomed)
                .map(|entry| self.place.delete(&entry.key))
                .buffer_unordered(self.concurrency)
                .try_collect::<()>()
                .await?;
            self.place.sweep().await?;
            self.place.settle().await?;
        }
        let bytes = doomed.iter().map(|entry| entry.bytes).sum();
        Ok(Pruned { removed, kept, objects: doomed.len() as u64, bytes })
    }
}
