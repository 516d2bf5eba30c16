//! Reading the log at start: replay, and the difference between a torn tail and damage.
//!
//! A group is what one sync made durable; the next is begun only after that sync. So an unsound record
//! that a *later group* follows was once synced: that is damage, and recovery stops with file and offset.
//! Without a later group it is the tail that was being written when the power went: never acknowledged,
//! cut off.

use std::path::Path;

use super::frame::{self, Kind, Record, Unsound};
use super::segment::{self, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION};
use crate::TsdbError;
use crate::disk::Disk;

/// What a segment holds, in order.
pub(crate) trait Replay {
    /// Segment `number` begins: ids of the previous one mean nothing any more.
    fn begin_segment(&mut self, number: u64);
    /// One record.
    fn record(&mut self, kind: Kind, plain: &[u8]) -> Result<(), String>;
}

/// Replays all segments and answers the highest number, 0 if there is none.
///
/// # Errors
/// [`TsdbError::DamagedLog`] for damage in what was synced; nothing is changed then.
pub(crate) fn replay(disk: &dyn Disk, log_dir: &Path, sink: &mut impl Replay) -> Result<u64, TsdbError> {
    let numbers = segment::list(log_dir)?;
    let mut last = 0;
    for number in &numbers {
        last = *number;
        let is_last = numbers.last() == Some(number);
        sink.begin_segment(*number);
        replay_segment(disk, &segment::path_of(log_dir, *number), is_last, sink)?;
    }
    Ok(last)
}

fn replay_segment(disk: &dyn Disk, path: &Path, is_last: bool, sink: &mut impl Replay) -> Result<(), TsdbError> {
    let bytes = std::fs::read(path).map_err(TsdbError::io("read", path))?;
    if !check_header(path, &bytes, is_last)? {
        disk.remove_file(path).map_err(TsdbError::io("remove", path))?;
        // Were it to come back after a power loss, it would no longer be the last one.
        let log_dir = path.parent().unwrap_or(path);
        return disk.sync_dir(log_dir).map_err(TsdbError::io("sync", log_dir));
    }
    let mut at = SEGMENT_HEADER_LEN;
    while at < bytes.len() {
        match frame::read(&bytes[at..]) {
            Ok(record) => {
                replay_record(path, at, &record, sink)?;
                at += record.len;
            }
            Err(unsound) => return end_at(disk, path, &bytes, at, is_last, &unsound),
        }
    }
    if is_last {
        // A process that was killed may have written without syncing. The next segment says that this one
        // is durable, and what is replayed is served: make it so.
        disk.truncate(path, bytes.len() as u64).map_err(TsdbError::io("sync", path))?;
    }
    Ok(())
}

fn replay_record(path: &Path, at: usize, record: &Record, sink: &mut impl Replay) -> Result<(), TsdbError> {
    sink.record(record.kind, &record.plain).map_err(|reason| TsdbError::DamagedLog {
        path: path.to_owned(),
        offset: at as u64,
        reason,
    })
}

/// False for a last segment whose header was never synced.
fn check_header(path: &Path, bytes: &[u8], is_last: bool) -> Result<bool, TsdbError> {
    let corrupt = |reason: &str| TsdbError::DamagedLog { path: path.to_owned(), offset: 0, reason: reason.to_owned() };
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_LEN>() else {
        return if is_last { Ok(false) } else { Err(corrupt("the segment header is cut")) };
    };
    if header[..8] != SEGMENT_MAGIC {
        // The header is synced before the first group: without it there is no acknowledged group either.
        let unused = is_last && frame::find_sound(bytes, 0).is_none();
        return if unused { Ok(false) } else { Err(corrupt("the segment header is overwritten")) };
    }
    let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if found != SEGMENT_VERSION {
        return Err(TsdbError::Version { path: path.to_owned(), found, supported: SEGMENT_VERSION });
    }
    Ok(true)
}

fn end_at(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    at: usize,
    is_last: bool,
    unsound: &Unsound,
) -> Result<(), TsdbError> {
    let later_group = std::iter::successors(frame::find_sound(bytes, at + 1), |(found, record)| {
        frame::find_sound(bytes, found + record.len)
    })
    .any(|(found, record)| found.saturating_sub(record.group_offset as usize) > at);
    if !is_last || later_group {
        return Err(TsdbError::DamagedLog { path: path.to_owned(), offset: at as u64, reason: unsound.to_string() });
    }
    tracing::warn!(path = %path.display(), offset = at, cut_bytes = bytes.len() - at, "cut the torn tail of the log");
    disk.truncate(path, at as u64).map_err(TsdbError::io("truncate", path))
}
