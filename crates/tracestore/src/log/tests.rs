//! What is left of a log when something fails.

use std::fs;
use std::path::Path;
use std::sync::Arc;

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
