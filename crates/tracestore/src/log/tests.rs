//! What is left of a log when something fails.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::frame::{FrameMark, SEGMENT_HEADER_BYTES, SegmentHeader, encode_frame};
use super::reader::ScannedLog;
use super::{LogWriter, encode_record, scan};
use crate::TraceStoreError;
use crate::disk::SystemDisk;

fn read(directory: &Path) -> Result<(ScannedLog, Vec<u64>), TraceStoreError> {
    let mut sequences = Vec::new();
    let scanned = scan(directory, |sequence, _| {
        sequences.push(sequence);
        Ok(())
    });
    Ok((scanned?, sequences))
}

fn writer(directory: &Path) -> LogWriter {
    // A frame a segment.
    LogWriter::open(directory, Arc::new(SystemDisk), 1, ScannedLog::default(), 0).unwrap()
}

/// A log of one segment.
fn long_writer(directory: &Path) -> LogWriter {
    LogWriter::open(directory, Arc::new(SystemDisk), u64::MAX, ScannedLog::default(), 0).unwrap()
}

fn append(writer: &mut LogWriter, content: &[u8]) {
    writer.append(&[&encode_record(content).unwrap()], true).unwrap();
}

#[test]
fn a_removal_that_fails_leaves_no_gap_and_is_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    (0..4).for_each(|number| append(&mut writer, &[number]));
    // A directory cannot be removed as a file.
    let second = directory.path().join(format!("{:020}.log", 1));
    let aside = directory.path().join("aside");
    fs::rename(&second, &aside).unwrap();
    fs::create_dir(&second).unwrap();
    assert!(writer.remove_before(3).is_err());
    fs::remove_dir(&second).unwrap();
    fs::rename(&aside, &second).unwrap();
    assert_eq!(read(directory.path()).unwrap().1, [1, 2, 3]);
    writer.remove_before(3).unwrap();
    assert_eq!(read(directory.path()).unwrap().1, [3]);
}

/// Clears some bytes where the first frame begins.
fn clear_first_frame(directory: &Path) {
    let path = directory.join(format!("{:020}.log", 0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[SEGMENT_HEADER_BYTES + 10..SEGMENT_HEADER_BYTES + 20].fill(0);
    fs::write(path, bytes).unwrap();
}

/// What is sent to us may look like frames that say that everything is synced, and be torn: it is cut off as any torn write.
#[test]
fn frames_within_a_torn_frame_are_no_frames() {
    let directory = tempfile::tempdir().unwrap();
    let known = SegmentHeader::decode(b"PHTRLOG1\0\0\0\0\0\0\0\0").unwrap().mark;
    let inner = encode_record(b"inner").unwrap();
    let forged = [known, FrameMark::random()].map(|mark| encode_frame(&mark, 1, u64::MAX, &[&inner])).concat();
    let mut writer = long_writer(directory.path());
    writer.append(&[&forged], false).unwrap();
    drop(writer);
    clear_first_frame(directory.path());
    let (scanned, sequences) = read(directory.path()).unwrap();
    assert_eq!((scanned.next_sequence, sequences), (Some(0), vec![]));
    assert!(scanned.torn_bytes > 0);
}

#[test]
fn a_damaged_frame_before_one_that_says_it_was_synced_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = long_writer(directory.path());
    append(&mut writer, b"first");
    append(&mut writer, b"second");
    drop(writer);
    assert_eq!(read(directory.path()).unwrap().1, [0, 1]);
    clear_first_frame(directory.path());
    assert!(matches!(read(directory.path()), Err(TraceStoreError::CorruptLog { .. })));
}

#[test]
fn a_segment_without_a_header_is_forgotten_only_where_nothing_was_written_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(format!("{:020}.log", 0));
    let header = SegmentHeader::encode(0, &FrameMark::random());
    fs::write(&path, &header[..20]).unwrap();
    let scanned = read(directory.path()).unwrap().0;
    assert!(scanned.segments.is_empty() && path.exists());
    drop(LogWriter::open(directory.path(), Arc::new(SystemDisk), 1, scanned, 7).unwrap());
    assert!(!path.exists());
    fs::remove_file(directory.path().join(format!("{:020}.log", 7))).unwrap();
    let mut bytes = [&header[..], b"a frame"].concat();
    bytes[17] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(directory.path()), Err(TraceStoreError::CorruptLog { .. })));
}
