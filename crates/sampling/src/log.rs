//! The files of the log of waiting spans. What is in them: [`crate::record`], `docs/log.md`.
//!
//! Invariants
//! - G1 [`Log::append`] returns when everything appended is on disk; the file's own name was before.
//! - G2 A file says where the one before it ends: what lies behind is the rest of a write that did not end, and no damage.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::SamplingError;
use crate::record::{HEADER_BYTES, encode_header};

const SUFFIX: &str = "log";
const DAMAGED_SUFFIX: &str = "damaged";

/// The file that is being written, in a folder of files that are done.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
    file: File,
    number: u64,
    bytes: u64,
}

/// Where a file is.
pub(crate) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.{SUFFIX}"))
}

/// Numbers of the files in a folder, ascending.
pub(crate) fn files(folder: &Path) -> Result<Vec<u64>, SamplingError> {
    numbers(folder, SUFFIX)
}

/// Numbers of the files that were set aside, ascending.
pub(crate) fn damaged_files(folder: &Path) -> Result<Vec<u64>, SamplingError> {
    numbers(folder, DAMAGED_SUFFIX)
}

fn numbers(folder: &Path, suffix: &str) -> Result<Vec<u64>, SamplingError> {
    let fail = SamplingError::io("list", folder);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(&fail)? {
        let path = entry.map_err(&fail)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == 16);
        if path.extension().is_some_and(|extension| extension == suffix)
            && let Some(number) = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The bytes of a file.
pub(crate) fn read(folder: &Path, number: u64) -> Result<Vec<u8>, SamplingError> {
    let path = path_of(folder, number);
    let fail = SamplingError::io("read", &path);
    let mut bytes = Vec::new();
    File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(fail)?;
    Ok(bytes)
}

/// Removes a file whose spans nobody waits for any more. On return it stays away after power loss: what is left of the log
/// is always its end.
pub(crate) fn remove(folder: &Path, number: u64) -> Result<(), SamplingError> {
    let path = path_of(folder, number);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SamplingError::io("remove", &path)(error)),
        _ => sync_folder(folder),
    }
}

/// Gives a damaged file that nobody needs any more another name, under which it stays for inspection.
pub(crate) fn set_aside(folder: &Path, number: u64) -> Result<(), SamplingError> {
    let path = path_of(folder, number);
    fs::rename(&path, path.with_extension(DAMAGED_SUFFIX)).map_err(SamplingError::io("set aside", &path))?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<(), SamplingError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(SamplingError::io("sync", folder))
}

impl Log {
    /// Begins file `number`, which was never written before: what a failed attempt left of it is written over.
    /// `before_bytes`: where the last sound record of the file before ends.
    pub(crate) fn create(folder: &Path, number: u64, before_bytes: u64) -> Result<Self, SamplingError> {
        let path = path_of(folder, number);
        let create = || -> io::Result<File> {
            let mut file = File::create(&path)?;
            file.write_all(&encode_header(before_bytes))?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(SamplingError::io("create", &path))?;
        Ok(Self { folder: folder.to_owned(), file, number, bytes: HEADER_BYTES as u64 })
    }

    /// A file that every write to fails.
    #[cfg(test)]
    pub(crate) fn read_only(folder: &Path, number: u64) -> Self {
        let file = File::open(path_of(folder, number)).unwrap();
        Self { folder: folder.to_owned(), file, number, bytes: HEADER_BYTES as u64 }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes so far: where the next record begins.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends encoded records and brings them to disk.
    pub(crate) fn append(&mut self, records: &[u8]) -> Result<(), SamplingError> {
        let mut write = || -> io::Result<()> {
            self.file.write_all(records)?;
            self.file.sync_data()
        };
        write().map_err(SamplingError::io("write", &path_of(&self.folder, self.number)))?;
        self.bytes += records.len() as u64;
        Ok(())
    }

    /// Goes on in the next file.
    pub(crate) fn next(&self) -> Result<Self, SamplingError> {
        Self::create(&self.folder, self.number + 1, self.bytes)
    }
}
