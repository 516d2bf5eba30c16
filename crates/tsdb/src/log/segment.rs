//! Segment files: `log/<number, 16 hex digits>.log`, a header and records.

use std::io;
use std::path::{Path, PathBuf};

use crate::TsdbError;
use crate::disk::{Disk, DiskFile};

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"PHAROSWL";
pub(crate) const SEGMENT_VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER_LEN: usize = 16;

/// The segment being written.
pub(crate) struct SegmentWriter {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Bytes of whole groups.
    pub(crate) length: u64,
}

pub(crate) fn path_of(log_dir: &Path, number: u64) -> PathBuf {
    log_dir.join(format!("{number:016x}.log"))
}

/// The numbers of all segments, ascending.
pub(crate) fn list(log_dir: &Path) -> Result<Vec<u64>, TsdbError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(log_dir).map_err(TsdbError::io("list", log_dir))? {
        let name = entry.map_err(TsdbError::io("list", log_dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 16);
        numbers.extend(number.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(crate) fn header() -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
    header
}

impl SegmentWriter {
    /// Begins a segment in a file just created; its name is durable when this returns.
    pub(crate) fn begin(mut file: Box<dyn DiskFile>, disk: &dyn Disk, log_dir: &Path, number: u64) -> io::Result<Self> {
        file.write_all(&header())?;
        file.sync()?;
        disk.sync_dir(log_dir)?;
        Ok(Self { number, path: path_of(log_dir, number), file, length: SEGMENT_HEADER_LEN as u64 })
    }

    /// Writes a group; the caller adds it to `length` once it counts.
    pub(crate) fn write(&mut self, group: &[u8]) -> io::Result<()> {
        self.file.write_all(group)
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}
