//! The directory of a store: format, lock, partitions.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pharos_base::full_message;

use super::retention::{DROPPED_PREFIX, DamagedDay};
use super::{DAYS_DIRECTORY, LOG_DIRECTORY};
use crate::disk::sync_directory;
use crate::partition::{DatabaseMemory, Partition};
use crate::record::Day;
use crate::{Settings, TraceStoreError};

const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "pharos-tracestore 2\n";
const LOCK_FILE: &str = "LOCK";
/// A day that could not be opened bears this before its name, and a number behind it.
const DAMAGED_PREFIX: &str = "damaged-";
/// So does one whose spans were taken up again, as far as they can be read.
const REPAIRED_PREFIX: &str = "repaired-";
/// So many directories of one day.
const NUMBERS_MAX: u32 = 1000;
/// `2026-11-21`.
const DAY_NAME_LENGTH: usize = 10;

/// Creates what is missing, checks the format, takes the lock.
pub(super) fn prepare_directory(directory: &Path) -> Result<File, TraceStoreError> {
    let is_new = !directory.exists();
    for path in [directory.to_owned(), directory.join(LOG_DIRECTORY), directory.join(DAYS_DIRECTORY)] {
        fs::create_dir_all(&path).map_err(TraceStoreError::io("create", &path))?;
    }
    if let Some(parent) = directory.parent().filter(|parent| is_new && !parent.as_os_str().is_empty()) {
        sync_directory(parent).map_err(TraceStoreError::io("sync", parent))?;
    }
    let lock_path = directory.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(TraceStoreError::io("create", &lock_path))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => TraceStoreError::Locked { path: directory.to_owned() },
        _ => TraceStoreError::io("lock", &lock_path)(error.into()),
    })?;
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

/// Takes the lock of a store that is there, if a server ever ran on it, and checks the format. Creates nothing.
pub(super) fn lock_existing(directory: &Path) -> Result<Option<File>, TraceStoreError> {
    let lock_path = directory.join(LOCK_FILE);
    let lock = match File::open(&lock_path) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(TraceStoreError::io("open", &lock_path)(source)),
    };
    if let Some(lock) = &lock {
        rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| TraceStoreError::Locked { path: directory.to_owned() })?;
    }
    let format_path = directory.join(FORMAT_FILE);
    let format = fs::read_to_string(&format_path).map_err(TraceStoreError::io("read", &format_path))?;
    if format != FORMAT {
        let found = format.trim().chars().take(64).collect();
        return Err(TraceStoreError::Format { path: directory.to_owned(), found, supported: FORMAT.trim_ascii() });
    }
    Ok(lock)
}

/// The partitions' directories, newest first. Changes nothing.
pub(super) fn list_days(directory: &Path) -> Result<Vec<(Day, PathBuf)>, TraceStoreError> {
    let days = directory.join(DAYS_DIRECTORY);
    let error = |source| TraceStoreError::Io { action: "list", path: days.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&days).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if let Some(day) = path.file_name().and_then(|name| name.to_str()).and_then(Day::parse) {
            found.push((day, path));
        }
    }
    found.sort_by_key(|(day, _)| std::cmp::Reverse(*day));
    Ok(found)
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

/// Opens every partition. One that is damaged so that it cannot be opened is set aside, that the others can be used and the day can
/// go on; nothing in it is changed.
pub(super) fn open_partitions(
    directory: &Path,
    settings: &Settings,
    memory: &DatabaseMemory,
) -> Result<BTreeMap<Day, Arc<Partition>>, TraceStoreError> {
    let mut partitions = BTreeMap::new();
    for (day, path) in day_directories(directory)? {
        match Partition::open(&path, day, memory, settings) {
            Ok(partition) => {
                partitions.insert(day, Arc::new(partition));
            }
            Err(damage) if damage.is_damage() => set_aside(&path, day, &damage)?,
            Err(error) => return Err(error),
        }
    }
    Ok(partitions)
}

/// Renames a damaged day; what is in it stays as it is.
pub(super) fn set_aside(path: &Path, day: Day, damage: &TraceStoreError) -> Result<(), TraceStoreError> {
    let aside = rename_day(path, DAMAGED_PREFIX, day)?;
    tracing::error!(
        %day, error = %full_message(damage), path = %aside.display(),
        "a day of traces is damaged: it is set aside as it is, and the store goes on without it until `pharos doctor --repair`"
    );
    Ok(())
}

/// Renames a day that was set aside and whose spans were taken up again.
pub(super) fn keep_repaired(path: &Path, day: Day) -> Result<PathBuf, TraceStoreError> {
    rename_day(path, REPAIRED_PREFIX, day)
}

fn rename_day(path: &Path, prefix: &str, day: Day) -> Result<PathBuf, TraceStoreError> {
    let days = path.parent().unwrap_or(path);
    let name = |number: u32| days.join(format!("{prefix}{day}-{number}"));
    let renamed = (1..NUMBERS_MAX).map(name).find(|renamed| !renamed.exists()).unwrap_or_else(|| name(0));
    fs::rename(path, &renamed).map_err(TraceStoreError::io("rename", path))?;
    sync_directory(days).map_err(TraceStoreError::io("sync", days))?;
    Ok(renamed)
}

/// The days that were set aside, now or earlier, and what is kept of repaired ones.
pub(super) fn damaged_days(directory: &Path) -> Result<Vec<DamagedDay>, TraceStoreError> {
    let days = directory.join(DAYS_DIRECTORY);
    let error = |source| TraceStoreError::Io { action: "list", path: days.clone(), source };
    let mut damaged = Vec::new();
    for entry in fs::read_dir(&days).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let (name, is_repaired) = match (name.strip_prefix(DAMAGED_PREFIX), name.strip_prefix(REPAIRED_PREFIX)) {
            (Some(name), _) => (name, false),
            (None, Some(name)) => (name, true),
            (None, None) => continue,
        };
        if let Some(day) = name.get(..DAY_NAME_LENGTH).and_then(Day::parse) {
            let bytes = directory_bytes(&path);
            damaged.push(DamagedDay { day, path, bytes, is_repaired });
        }
    }
    Ok(damaged)
}

fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(bytes).sum()
}

/// The partitions' directories, newest first; what was dropped but not removed yet is removed now.
pub(super) fn day_directories(directory: &Path) -> Result<Vec<(Day, PathBuf)>, TraceStoreError> {
    let days = directory.join(DAYS_DIRECTORY);
    let error = |source| TraceStoreError::Io { action: "list", path: days.clone(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&days).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with(DROPPED_PREFIX) {
            fs::remove_dir_all(&path).map_err(TraceStoreError::io("remove", &path))?;
        } else if let Some(day) = Day::parse(name) {
            found.push((day, path));
        }
    }
    // Newest first: its filters are asked most, and find room first.
    found.sort_by_key(|(day, _)| std::cmp::Reverse(*day));
    Ok(found)
}
