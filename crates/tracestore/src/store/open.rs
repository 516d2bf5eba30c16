//! The directory of a store: format, lock, partitions.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DAYS_DIRECTORY, LOG_DIRECTORY, maintain};
use crate::disk::sync_directory;
use crate::partition::{DatabaseMemory, Partition};
use crate::record::Day;
use crate::{Settings, TraceStoreError};

const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "pharos-tracestore 2\n";
const LOCK_FILE: &str = "LOCK";

/// Creates what is missing, checks the format, takes the lock.
pub(super) fn prepare_directory(directory: &Path) -> Result<File, TraceStoreError> {
    for path in [directory.to_owned(), directory.join(LOG_DIRECTORY), directory.join(DAYS_DIRECTORY)] {
        fs::create_dir_all(&path).map_err(TraceStoreError::io("create", &path))?;
    }
    let lock_path = directory.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(TraceStoreError::io("create", &lock_path))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| TraceStoreError::Locked { path: directory.to_owned() })?;
    let format_path = directory.join(FORMAT_FILE);
    match fs::read_to_string(&format_path) {
        Ok(format) if format == FORMAT => {}
        Ok(format) => {
            let found = format.trim().chars().take(64).collect();
            return Err(TraceStoreError::Format { path: directory.to_owned(), found, supported: FORMAT.trim_ascii() });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_format(directory)?;
        }
        Err(source) => return Err(TraceStoreError::io("read", &format_path)(source)),
    }
    Ok(lock)
}

/// Says in a directory what format it has.
pub(super) fn write_format(directory: &Path) -> Result<(), TraceStoreError> {
    // Renamed when it is whole, so that a crash leaves none or all of it.
    let (path, unfinished) = (directory.join(FORMAT_FILE), directory.join("FORMAT.new"));
    let write = || -> std::io::Result<()> {
        fs::write(&unfinished, FORMAT)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_directory(directory)
    };
    write().map_err(TraceStoreError::io("write", &path))
}

/// Opens every partition.
pub(super) fn open_partitions(
    directory: &Path,
    settings: &Settings,
    memory: &DatabaseMemory,
) -> Result<BTreeMap<Day, Arc<Partition>>, TraceStoreError> {
    let open = |(day, path): (Day, PathBuf)| Ok((day, Arc::new(Partition::open(&path, day, memory, settings)?)));
    day_directories(directory)?.into_iter().map(open).collect()
}

/// The partitions' directories, newest first; what was dropped but not removed yet is removed now.
pub(super) fn day_directories(directory: &Path) -> Result<Vec<(Day, PathBuf)>, TraceStoreError> {
    let days = directory.join(DAYS_DIRECTORY);
    let error = |source| TraceStoreError::Io { action: "list", path: days.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&days).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with(maintain::DROPPED_PREFIX) {
            fs::remove_dir_all(&path).map_err(TraceStoreError::io("remove", &path))?;
        } else if let Some(day) = Day::parse(name) {
            found.push((day, path));
        }
    }
    // Newest first: its filters are asked most, and find room first.
    found.sort_by_key(|(day, _)| std::cmp::Reverse(*day));
    Ok(found)
}
