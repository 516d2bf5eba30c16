//! Reading the log at start: replay, and the difference between a torn tail and damage.
//!
//! A group is what one sync made durable; the next is begun only after that sync. So an unsound record
//! that a *later group* follows was once synced: that is damage, and recovery stops with file and offset.
//! Without a later group it is the tail that was being written when the power went: never acknowledged,
//! cut off. A record whose checksum is right is no such tail, even if nobody here can read it.

//!
//! One thread reads, checks and decodes, the other replays. Nothing on disk is changed before all is replayed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};

use super::frame::{self, Unsound};
use super::record::Decoded;
use super::segment::{self, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION};
use crate::TsdbError;
use crate::disk::Disk;

/// Records decoded ahead of those replayed.
const RECORDS_AHEAD: usize = 16;
const READ_BYTES: usize = 1 << 20;

/// What segments hold, in order.
pub(crate) trait Replay {
    /// Segment `number` begins: ids of the previous one mean nothing any more.
    fn begin_segment(&mut self, number: u64);
    /// One record.
    fn record(&mut self, record: Decoded) -> Result<(), String>;
}

/// From the thread that reads to the one that replays.
enum Step {
    Begin(u64),
    Record { segment: u64, offset: u64, record: Box<Decoded> },
}

/// What the last segment needs when all is replayed.
enum Ending {
    Nothing,
    /// A process that was killed may have written without syncing. The next segment says that this one is durable, and
    /// what is replayed is served: make it so.
    Sync {
        path: PathBuf,
        length: u64,
    },
    Cut {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    /// Its header was never synced.
    Remove(PathBuf),
}

/// Replays all segments and answers the highest number, 0 if there is none.
///
/// # Errors
/// [`TsdbError::DamagedLog`] for damage in what was synced; nothing is changed then.
pub(crate) fn replay(disk: &dyn Disk, log_dir: &Path, sink: &mut impl Replay) -> Result<u64, TsdbError> {
    let numbers = segment::list(log_dir)?;
    let (sender, steps) = mpsc::sync_channel(RECORDS_AHEAD);
    let read = {
        let numbers = &numbers;
        // The sender ends with the reading, and the replay with the sender.
        move || read_all(log_dir, numbers, &sender)
    };
    let replay = || {
        for step in steps {
            match step {
                Step::Begin(number) => sink.begin_segment(number),
                Step::Record { segment, offset, record } => {
                    let path = || segment::path_of(log_dir, segment);
                    sink.record(*record).map_err(|reason| TsdbError::DamagedLog { path: path(), offset, reason })?;
                }
            }
        }
        Ok::<(), TsdbError>(())
    };
    let ran = pharos_base::run_beside("tsdb-recovery", read, replay);
    let (ending, replayed) = ran.map_err(|source| TsdbError::Thread { name: "tsdb-recovery", source })?;
    // What could not be replayed comes before what could not be read.
    replayed?;
    end(disk, log_dir, ending?)?;
    Ok(numbers.last().copied().unwrap_or(0))
}

fn end(disk: &dyn Disk, log_dir: &Path, ending: Ending) -> Result<(), TsdbError> {
    match ending {
        Ending::Nothing => Ok(()),
        Ending::Sync { path, length } => disk.truncate(&path, length).map_err(TsdbError::io("sync", &path)),
        Ending::Cut { path, offset, length } => {
            let cut_bytes = length - offset;
            tracing::warn!(path = %path.display(), offset, cut_bytes, "cut the torn tail of the log");
            disk.truncate(&path, offset).map_err(TsdbError::io("truncate", &path))
        }
        Ending::Remove(path) => {
            disk.remove_file(&path).map_err(TsdbError::io("remove", &path))?;
            // Were it to come back after a power loss, it would no longer be the last one.
            disk.sync_dir(log_dir).map_err(TsdbError::io("sync", log_dir))
        }
    }
}

fn read_all(log_dir: &Path, numbers: &[u64], steps: &SyncSender<Step>) -> Result<Ending, TsdbError> {
    let mut ending = Ending::Nothing;
    for number in numbers {
        let is_last = numbers.last() == Some(number);
        if steps.send(Step::Begin(*number)).is_err() {
            // The other side met an error and says which.
            break;
        }
        ending = read_segment(log_dir, *number, is_last, steps)?;
    }
    Ok(ending)
}

fn read_segment(log_dir: &Path, number: u64, is_last: bool, steps: &SyncSender<Step>) -> Result<Ending, TsdbError> {
    let path = segment::path_of(log_dir, number);
    let failed = |error| TsdbError::io("read", &path)(error);
    let mut file = File::open(&path).map(|file| BufReader::with_capacity(READ_BYTES, file)).map_err(failed)?;
    let length = file.get_ref().metadata().map_err(failed)?.len();
    if !check_header(&path, &mut file, is_last)? {
        return Ok(Ending::Remove(path));
    }
    let (mut offset, mut scratch) = (SEGMENT_HEADER_LEN as u64, Vec::new());
    while offset < length {
        let record = match frame::read_from(&mut file, length - offset, &mut scratch).map_err(failed)? {
            Ok(record) => record,
            Err(unsound) => return tear_at(path, offset, is_last, &unsound),
        };
        let decoded = Decoded::of(&record);
        let decoded = decoded.map_err(|reason| TsdbError::DamagedLog { path: path.clone(), offset, reason })?;
        if steps.send(Step::Record { segment: number, offset, record: Box::new(decoded) }).is_err() {
            return Ok(Ending::Nothing);
        }
        offset += record.len as u64;
    }
    Ok(if is_last { Ending::Sync { path, length } } else { Ending::Nothing })
}

/// Leaves the file behind the header; false for a last segment whose header was never synced.
fn check_header(path: &Path, file: &mut impl Read, is_last: bool) -> Result<bool, TsdbError> {
    let corrupt = |reason: &str| TsdbError::DamagedLog { path: path.to_owned(), offset: 0, reason: reason.to_owned() };
    let mut bytes = Vec::new();
    file.by_ref().take(SEGMENT_HEADER_LEN as u64).read_to_end(&mut bytes).map_err(TsdbError::io("read", path))?;
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_LEN>() else {
        return if is_last { Ok(false) } else { Err(corrupt("the segment header is cut")) };
    };
    if header[..8] != SEGMENT_MAGIC {
        // The header is synced before the first group: without it there is no acknowledged group either.
        let all = std::fs::read(path).map_err(TsdbError::io("read", path))?;
        let unused = is_last && frame::find_sound(&all, 0).is_none();
        return if unused { Ok(false) } else { Err(corrupt("the segment header is overwritten")) };
    }
    let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if found != SEGMENT_VERSION {
        return Err(TsdbError::Version { path: path.to_owned(), found, supported: SEGMENT_VERSION });
    }
    Ok(true)
}

/// Ends a segment at bytes that are no sound record: the torn tail of the log, or damage.
fn tear_at(path: PathBuf, offset: u64, is_last: bool, unsound: &Unsound) -> Result<Ending, TsdbError> {
    let bytes = std::fs::read(&path).map_err(TsdbError::io("read", &path))?;
    let at = offset as usize;
    let later_group = std::iter::successors(frame::find_sound(&bytes, at + 1), |(found, record)| {
        frame::find_sound(&bytes, found + record.len)
    })
    .any(|(found, record)| found.saturating_sub(record.group_offset as usize) > at);
    // A right checksum is no accident: a later version wrote it, or it was damaged before it was written.
    let is_whole = matches!(unsound, Unsound::Content(_));
    if !is_last || later_group || is_whole {
        return Err(TsdbError::DamagedLog { path, offset, reason: unsound.to_string() });
    }
    Ok(Ending::Cut { path, offset, length: bytes.len() as u64 })
}
