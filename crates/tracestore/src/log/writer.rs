//! Writing the log: one write and one sync for all batches that wait.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{FrameMark, SEGMENT_HEADER_BYTES, SegmentHeader, encode_frame};
use super::reader::{ScannedLog, Segment};
use crate::TraceStoreError;
use crate::disk::{Disk, sync_directory};

/// Why a group was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogWriteError {
    /// Nothing of the group is in the log; a later one may succeed.
    #[error(transparent)]
    Refused(TraceStoreError),
    /// It is not known what is on disk: no more writes until the store is opened anew.
    #[error(transparent)]
    Poisoned(TraceStoreError),
}

impl LogWriteError {
    pub(crate) fn into_inner(self) -> TraceStoreError {
        match self {
            Self::Refused(error) | Self::Poisoned(error) => error,
        }
    }
}

/// The open end of a log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    segment_bytes_max: u64,
    /// Closed segments, oldest first.
    closed: Vec<Segment>,
    current: Segment,
    /// Of the current segment.
    mark: FrameMark,
    file: File,
    /// Bytes of the current segment known to be on stable storage.
    synced_bytes: u64,
    next_sequence: u64,
    is_poisoned: bool,
}

impl LogWriter {
    /// Continues a scanned log: cuts its torn end off and begins a new segment at `next_sequence`.
    pub(crate) fn open(
        directory: &Path,
        disk: Arc<dyn Disk>,
        segment_bytes_max: u64,
        scanned: ScannedLog,
        next_sequence: u64,
    ) -> Result<Self, TraceStoreError> {
        if let Some(unfinished) = &scanned.unfinished {
            fs::remove_file(unfinished).map_err(TraceStoreError::io("remove the torn segment", unfinished))?;
            tracing::warn!(path = %unfinished.display(), "removed a log segment without a header");
        }
        let mut closed = scanned.segments;
        if let Some(last) = closed.last() {
            // Its last frames may be nowhere but in the page cache of a machine whose process was killed. Behind a newer
            // file their loss would be damage.
            let error = TraceStoreError::io("cut the torn end off or sync", &last.path);
            let settle = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).open(&last.path)?;
                if scanned.torn_bytes > 0 {
                    let torn_bytes = scanned.torn_bytes;
                    tracing::warn!(path = %last.path.display(), torn_bytes, "cutting a torn write off the log");
                    file.set_len(last.bytes)?;
                }
                file.sync_all()
            };
            settle().map_err(error)?;
        }
        // An empty segment at the end has the name of the one to be created.
        if closed.last().is_some_and(|last| last.first_sequence == next_sequence)
            && let Some(empty) = closed.pop()
        {
            fs::remove_file(&empty.path).map_err(TraceStoreError::io("remove", &empty.path))?;
        }
        let (current, mark, file) = create_segment(directory, disk.as_ref(), next_sequence)?;
        let synced_bytes = current.bytes;
        let directory = directory.to_owned();
        Ok(Self {
            directory,
            disk,
            segment_bytes_max,
            closed,
            current,
            mark,
            file,
            synced_bytes,
            next_sequence,
            is_poisoned: false,
        })
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.closed.iter().map(|segment| segment.bytes).sum::<u64>() + self.current.bytes
    }

    /// Whether something was written but not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.synced_bytes < self.current.bytes
    }

    /// Writes one frame; returns the first record's sequence. With `sync` it is durable on return.
    pub(crate) fn append(&mut self, records: &[&[u8]], sync: bool) -> Result<u64, LogWriteError> {
        self.check_poison()?;
        if self.current.bytes >= self.segment_bytes_max {
            self.rotate()?;
        }
        let first_sequence = self.next_sequence;
        let frame = encode_frame(&self.mark, first_sequence, self.synced_bytes, records);
        if let Err(source) = self.disk.write_at(&self.file, &frame, self.current.bytes) {
            let error = TraceStoreError::io("write to the log", &self.current.path)(source);
            // L2: no half frame may stay in front of a later one.
            return if let Ok(()) = self.file.set_len(self.current.bytes) {
                Err(LogWriteError::Refused(error))
            } else {
                self.is_poisoned = true;
                Err(LogWriteError::Poisoned(error))
            };
        }
        self.current.bytes += frame.len() as u64;
        self.next_sequence += records.len() as u64;
        if sync {
            self.sync()?;
        }
        Ok(first_sequence)
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), LogWriteError> {
        self.check_poison()?;
        if !self.is_unsynced() {
            return Ok(());
        }
        if let Err(source) = self.disk.sync(&self.file) {
            // L4: after a failed sync the kernel may have dropped the pages; trying again would lie.
            self.is_poisoned = true;
            return Err(LogWriteError::Poisoned(TraceStoreError::io("sync the log", &self.current.path)(source)));
        }
        self.synced_bytes = self.current.bytes;
        Ok(())
    }

    /// All segments, oldest first, after a sync: so many bytes of each are there for good and end with a frame.
    pub(crate) fn synced_segments(&mut self) -> Result<Vec<Segment>, LogWriteError> {
        self.sync()?;
        Ok(self.closed.iter().chain([&self.current]).cloned().collect())
    }

    fn check_poison(&self) -> Result<(), LogWriteError> {
        if !self.is_poisoned {
            return Ok(());
        }
        let source = io::Error::other("an earlier sync failed; restart to replay what is on disk");
        Err(LogWriteError::Poisoned(TraceStoreError::io("write to the log", &self.current.path)(source)))
    }

    fn rotate(&mut self) -> Result<(), LogWriteError> {
        self.sync()?;
        let (current, mark, file) =
            create_segment(&self.directory, self.disk.as_ref(), self.next_sequence).map_err(LogWriteError::Refused)?;
        self.closed.push(std::mem::replace(&mut self.current, current));
        (self.mark, self.file) = (mark, file);
        self.synced_bytes = self.current.bytes;
        Ok(())
    }

    /// Begins a new segment and removes all that hold only records below `sequence`.
    pub(crate) fn remove_before(&mut self, sequence: u64) -> Result<(), TraceStoreError> {
        let has_records = self.current.bytes > SEGMENT_HEADER_BYTES as u64;
        if has_records && self.next_sequence <= sequence {
            self.rotate().map_err(LogWriteError::into_inner)?;
        }
        let ends = self.closed.iter().skip(1).map(|segment| segment.first_sequence);
        let removable = ends.chain([self.current.first_sequence]).take_while(|end| *end <= sequence).count();
        let removable = removable.min(self.closed.len());
        // Oldest first and each for good before the next: whatever fails, what is left has no gap (L1).
        for _ in 0..removable {
            match fs::remove_file(&self.closed[0].path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(TraceStoreError::io("remove", &self.closed[0].path)(error));
                }
                _ => {}
            }
            sync_directory(&self.directory).map_err(TraceStoreError::io("sync", &self.directory))?;
            self.closed.remove(0);
        }
        Ok(())
    }
}

fn create_segment(
    directory: &Path,
    disk: &dyn Disk,
    first_sequence: u64,
) -> Result<(Segment, FrameMark, File), TraceStoreError> {
    let mark = FrameMark::random();
    let path = directory.join(format!("{first_sequence:020}.log"));
    let create = || -> io::Result<File> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        disk.write_at(&file, &SegmentHeader::encode(first_sequence, &mark), 0)?;
        disk.sync(&file)?;
        sync_directory(directory)?;
        Ok(file)
    };
    match create() {
        Ok(file) => Ok((Segment { path, first_sequence, bytes: SEGMENT_HEADER_BYTES as u64 }, mark, file)),
        Err(source) => {
            // A leftover without a header is removed at the next start; try now.
            let _ = fs::remove_file(&path);
            Err(TraceStoreError::Io { action: "create", path, source })
        }
    }
}
