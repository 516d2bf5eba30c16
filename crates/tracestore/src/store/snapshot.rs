//! Snapshots: the store as it is now, in `snapshots/<name>` of its directory, by hard links.
//!
//! A snapshot is what a crash would leave, put together on purpose, and opens as any store after one: the rows of each
//! day by a checkpoint of RocksDB, its index, and the log from the last checkpoint on. The order matters: the log is copied last, so that
//! it has all that came behind the positions of the days, and what is in an index is in the blocks. An index that merges keep
//! changing is left out; it is built from the blocks when the snapshot is opened.
//!
//! All of it happens on the maintenance thread, so that no day is dropped, no index committed and no segment of the
//! log removed meanwhile; batches go on.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use pharos_storage::{StorageError, UNFINISHED_PREFIX, check_snapshot_name};

use super::{DAYS_DIRECTORY, LOG_DIRECTORY, Shared, open};
use crate::TraceStoreError;
use crate::disk::sync_directory;
use crate::error::storage_error;
use crate::log::LogWriteError;

const SNAPSHOTS_DIRECTORY: &str = "snapshots";

impl Shared {
    /// Makes the snapshot `name` of everything acknowledged before the call. The maintenance thread calls it.
    pub(super) fn create_snapshot(&self, name: &str) -> Result<(), TraceStoreError> {
        let root = self.directory.join(SNAPSHOTS_DIRECTORY);
        // Another of this name may have been asked for first.
        if root.join(name).exists() {
            return Err(TraceStoreError::SnapshotExists { name: name.to_owned() });
        }
        fs::create_dir_all(&root).map_err(TraceStoreError::io("create", &root))?;
        sync_directory(&self.directory).map_err(TraceStoreError::io("sync", &self.directory))?;
        remove_unfinished(&root)?;
        let building = root.join(format!("{UNFINISHED_PREFIX}{name}"));
        let built = self.build_snapshot(&building);
        if built.is_err() {
            // The next snapshot would remove it, too; the disk may be full now.
            let _ = fs::remove_dir_all(&building);
        }
        built?;
        for day in self.gone.days_aside() {
            tracing::warn!(snapshot = name, %day, "a damaged day that is set aside is not in the snapshot; a repair would bring it back");
        }
        fs::rename(&building, root.join(name)).map_err(TraceStoreError::io("rename", &building))?;
        sync_directory(&root).map_err(TraceStoreError::io("sync", &root))
    }

    /// Names of all snapshots, ascending.
    pub(super) fn snapshots(&self) -> Result<Vec<String>, TraceStoreError> {
        let mut names = names_in(&self.directory.join(SNAPSHOTS_DIRECTORY))?;
        names.retain(|name| check_snapshot_name(name).is_ok());
        names.sort();
        Ok(names)
    }

    /// Refuses names that cannot be or are taken.
    pub(super) fn check_new_snapshot(&self, name: &str) -> Result<(), StorageError> {
        check_snapshot_name(name)?;
        if self.directory.join(SNAPSHOTS_DIRECTORY).join(name).exists() {
            let error = TraceStoreError::SnapshotExists { name: name.to_owned() };
            return Err(storage_error("snapshot of the trace store")(error));
        }
        Ok(())
    }

    /// Deletes a snapshot; false if there is none of that name.
    pub(super) fn delete_snapshot(&self, name: &str) -> Result<bool, StorageError> {
        check_snapshot_name(name)?;
        let delete = || -> Result<bool, TraceStoreError> {
            let root = self.directory.join(SNAPSHOTS_DIRECTORY);
            let path = root.join(name);
            if !path.is_dir() {
                return Ok(false);
            }
            // First out of sight, so that a crash leaves no half of one.
            let grave = root.join(grave_name(name));
            match fs::rename(&path, &grave) {
                // Another removal was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                renamed => renamed.map_err(TraceStoreError::io("rename", &path))?,
            }
            sync_directory(&root).map_err(TraceStoreError::io("sync", &root))?;
            remove_whole(&grave)?;
            Ok(true)
        };
        delete().map_err(storage_error("removal of a snapshot of the trace store"))
    }

    fn build_snapshot(&self, building: &Path) -> Result<(), TraceStoreError> {
        // So that the copied log is short.
        self.checkpoint()?;
        let (days, log) = (building.join(DAYS_DIRECTORY), building.join(LOG_DIRECTORY));
        for path in [&days, &log] {
            fs::create_dir_all(path).map_err(TraceStoreError::io("create", path))?;
        }
        open::write_format(building)?;
        for partition in self.partitions_newest_first() {
            partition.copy_to(&days.join(partition.day().to_string()))?;
        }
        sync_directory(&days).map_err(TraceStoreError::io("sync", &days))?;
        let segments = self.log.lock().synced_segments().map_err(LogWriteError::into_inner)?;
        for segment in segments {
            let target = log.join(segment.path.file_name().unwrap_or_default());
            copy_start(&segment.path, &target, segment.bytes).map_err(TraceStoreError::io("copy", &segment.path))?;
        }
        for path in [log.as_path(), building] {
            sync_directory(path).map_err(TraceStoreError::io("sync", path))?;
        }
        Ok(())
    }
}

/// Removes what a crash left of snapshots on their way in or out.
fn remove_unfinished(root: &Path) -> Result<(), TraceStoreError> {
    for name in names_in(root)?.iter().filter(|name| name.starts_with(UNFINISHED_PREFIX)) {
        remove_whole(&root.join(name))?;
    }
    Ok(())
}

/// Removes a directory that someone else may be removing, too: the maker of a snapshot clears graves, the removal of one
/// runs on its caller's thread.
fn remove_whole(path: &Path) -> Result<(), TraceStoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(TraceStoreError::io("remove", path)),
    }
}

/// What a snapshot is called while it is removed: a dot is in no name of a snapshot, so that this is never what one
/// is called while it is made.
fn grave_name(name: &str) -> String {
    format!("{UNFINISHED_PREFIX}{name}.removed")
}

/// Copies the first `bytes` of a file that may grow meanwhile.
fn copy_start(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let mut target = File::create_new(to)?;
    let copied = io::copy(&mut File::open(from)?.take(bytes), &mut target)?;
    if copied != bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    target.sync_all()
}

fn names_in(directory: &Path) -> Result<Vec<String>, TraceStoreError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(TraceStoreError::io("list", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(TraceStoreError::io("list", directory))?.file_name().into_string().ok());
    }
    Ok(names)
}
