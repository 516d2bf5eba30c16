//! A file read at random, mostly forward, through one window of bounded size.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// Bytes that are read ahead.
const WINDOW_BYTES: usize = 256 << 10;

/// An open file and the piece of it that is in memory.
#[derive(Debug)]
pub(crate) struct WindowFile {
    path: PathBuf,
    file: File,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl WindowFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let len = file.metadata().map_err(DataError::io("read", path))?.len();
        Ok(Self { path: path.to_owned(), file, len, window: Vec::new(), window_at: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `count` bytes at `at`; fewer where the file ends.
    pub(crate) fn read(&mut self, at: u64, count: usize) -> Result<&[u8], DataError> {
        let count = count.min(usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX));
        let end = at + count as u64;
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let wanted = count.max(WINDOW_BYTES).min(usize::try_from(self.len.saturating_sub(at)).unwrap_or(0));
            self.window.resize(wanted, 0);
            self.window_at = at;
            if let Err(source) = self.file.read_exact_at(&mut self.window, at) {
                self.window.clear();
                return Err(DataError::Io { action: "read", path: self.path.clone(), source });
            }
        }
        let from = (at - self.window_at) as usize;
        Ok(&self.window[from..from + count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_is_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..3 * WINDOW_BYTES).map(|at| (at / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut file = WindowFile::open(&path).unwrap();
        for (at, count) in [(0, 5), (WINDOW_BYTES - 2, 10), (7, 3), (100, 2 * WINDOW_BYTES), (bytes.len() - 3, 3)] {
            assert_eq!(file.read(at as u64, count).unwrap(), &bytes[at..at + count]);
        }
        assert_eq!(file.read(bytes.len() as u64 - 1, 9).unwrap().len(), 1);
        assert_eq!(file.read(u64::MAX - 9, 9).unwrap().len(), 0);
    }
}
