//! Reading the log at start: what is whole, where it ends, and what is damage.

use std::fs;
use std::path::{Path, PathBuf};

use super::decode_record;
use super::frame::{SEGMENT_HEADER_BYTES, SegmentHeader, decode_frame, synced_bytes_after};
use crate::TraceStoreError;
use crate::codec::Reader;

/// A segment that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first_sequence: u64,
    pub(crate) bytes: u64,
}

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct ScannedLog {
    /// Segments, oldest first; the torn end of the last one is not counted in its bytes.
    pub(crate) segments: Vec<Segment>,
    /// The sequence the next record gets; `None` in an empty log.
    pub(crate) next_sequence: Option<u64>,
    /// Bytes of a torn write at the end of the last segment, to be cut off.
    pub(crate) torn_bytes: u64,
    /// A last segment whose header was not written any more, to be removed.
    pub(crate) unfinished: Option<PathBuf>,
}

/// Reads all segments in `directory` and hands each record's sequence and content to `replay`. Changes nothing.
///
/// # Errors
/// - [`TraceStoreError::CorruptLog`]: bytes that had been synced are damaged.
/// - Whatever `replay` returns.
pub(crate) fn scan(
    directory: &Path,
    mut replay: impl FnMut(u64, Vec<u8>) -> Result<(), TraceStoreError>,
) -> Result<ScannedLog, TraceStoreError> {
    let paths = segment_paths(directory)?;
    let mut scanned = ScannedLog::default();
    for (index, path) in paths.iter().enumerate() {
        let is_last = index + 1 == paths.len();
        let bytes = fs::read(path).map_err(TraceStoreError::io("read", path))?;
        let Some(header) = SegmentHeader::decode(&bytes) else {
            // Power failed while the segment was created: a header is synced before any frame is written.
            if is_last && bytes.len() <= SEGMENT_HEADER_BYTES {
                scanned.unfinished = Some(path.clone());
                break;
            }
            return Err(corrupt(path, 0, "no segment header"));
        };
        let first_sequence = header.first_sequence;
        if scanned.next_sequence.is_some_and(|expected| expected != first_sequence) {
            return Err(corrupt(path, 8, "records are missing before this segment"));
        }
        let (next_sequence, end) = replay_segment(path, &bytes, &header, &mut replay)?;
        scanned.next_sequence = Some(next_sequence);
        if end < bytes.len() {
            let synced = synced_bytes_after(&header.mark, &bytes[end..]);
            if !is_last || synced.is_some_and(|synced| synced > end as u64) {
                return Err(corrupt(path, end as u64, "a synced frame does not match its checksum"));
            }
            scanned.torn_bytes = (bytes.len() - end) as u64;
        }
        scanned.segments.push(Segment { path: path.clone(), first_sequence, bytes: end as u64 });
    }
    Ok(scanned)
}

fn segment_paths(directory: &Path) -> Result<Vec<PathBuf>, TraceStoreError> {
    let error = |source| TraceStoreError::Io { action: "list", path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    // Names are zero-padded first sequences.
    paths.sort();
    Ok(paths)
}

/// Replays whole frames; returns the sequence after the last record and where whole frames end.
fn replay_segment(
    path: &Path,
    bytes: &[u8],
    header: &SegmentHeader,
    replay: &mut impl FnMut(u64, Vec<u8>) -> Result<(), TraceStoreError>,
) -> Result<(u64, usize), TraceStoreError> {
    let (mut sequence, mut at) = (header.first_sequence, header.bytes);
    while let Some((frame, frame_bytes)) = decode_frame(&header.mark, &bytes[at..]) {
        if frame.first_sequence != sequence {
            return Err(corrupt(path, at as u64, "a frame is out of sequence"));
        }
        let mut records = Reader::new(frame.records);
        while !records.is_empty() {
            let record = records.bytes("record").ok().and_then(decode_record);
            let content = record.ok_or_else(|| {
                corrupt(
                    path,
                    (at + header.mark.frame_header_bytes()) as u64,
                    "a record below a sound checksum cannot be read",
                )
            })?;
            replay(sequence, content)?;
            sequence += 1;
        }
        at += frame_bytes;
    }
    Ok((sequence, at))
}

fn corrupt(path: &Path, offset: u64, what: &'static str) -> TraceStoreError {
    TraceStoreError::CorruptLog { path: path.to_owned(), offset, what }
}
