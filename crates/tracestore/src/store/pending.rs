//! Call counts of a checkpoint that brings several days to disk.
//!
//! The counts of a day reach the disk with its spans, in one flush; but two days are two flushes, and power may fail between
//! them. A replay would then have to count calls of spans whose traces are partly sealed with later records, and
//! could not tell what was counted. So such a checkpoint first says here what it is going to add to each day's
//! counts. After a crash each day that had not reached the position takes its changes from here, and the replay counts only
//! what comes behind.
//!
//! Bytes: `docs/log.md`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use pharos_base::full_message;

use crate::TraceStoreError;
use crate::codec::{DecodeError, Reader, Writer};
use crate::disk::sync_directory;
use crate::partition::CallDelta;
use crate::record::Day;

const FILE: &str = "CALLS";
const UNFINISHED_FILE: &str = "CALLS.new";
const MAGIC: [u8; 8] = *b"PHTRCAL1";

/// What a checkpoint at `position` adds to the call counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PendingCalls {
    pub(super) position: u64,
    pub(super) days: Vec<(Day, Vec<CallDelta>)>,
}

impl PendingCalls {
    /// Makes it durable in `directory`; replaces what was there.
    pub(super) fn write(&self, directory: &Path) -> Result<(), TraceStoreError> {
        let unfinished = directory.join(UNFINISHED_FILE);
        let write = || -> io::Result<()> {
            fs::write(&unfinished, self.encode())?;
            File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, directory.join(FILE))?;
            sync_directory(directory)
        };
        write().map_err(TraceStoreError::io("write", &unfinished))
    }

    /// What an interrupted checkpoint left, if one did.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, TraceStoreError> {
        let path = directory.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(TraceStoreError::io("read", &path))?,
        };
        Self::decode(&bytes).map(Some).map_err(|error| TraceStoreError::Corrupt {
            what: "pending call counts",
            partition: path.display().to_string(),
            detail: error.to_string(),
        })
    }

    /// As [`PendingCalls::read`]. What cannot be read is told and done without: calls of the last spans before a crash may be
    /// missing from the counts, and no more.
    pub(super) fn read_if_sound(directory: &Path) -> Option<Self> {
        Self::read(directory).unwrap_or_else(|error| {
            tracing::error!(error = %full_message(&error), "some calls may be missing from the dependencies");
            None
        })
    }

    /// Forgets it: every day has reached the position.
    pub(super) fn remove(directory: &Path) -> Result<(), TraceStoreError> {
        let path = directory.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_directory(directory)).map_err(TraceStoreError::io("remove", &path)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut content = self.position.to_le_bytes().to_vec();
        content.put_varint(self.days.len() as u64);
        for (day, deltas) in &self.days {
            content.put_varint(u64::from(day.0));
            content.put_varint(deltas.len() as u64);
            for (tenant, minute, parent, child, by) in deltas {
                content.put_bytes(tenant.as_str().as_bytes());
                content.put_varint(u64::from(*minute));
                content.put_bytes(parent.as_bytes());
                content.put_bytes(child.as_bytes());
                content.put_delta(*by as u64, 0);
            }
        }
        [&MAGIC[..], &crc32fast::hash(&content).to_le_bytes(), &content].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (magic, crc) = (reader.array("magic")?, u32::from_le_bytes(reader.array("checksum")?));
        if magic != MAGIC || crc != crc32fast::hash(&bytes[12..]) {
            return Err(DecodeError::OutOfRange("magic or checksum"));
        }
        let position = u64::from_le_bytes(reader.array("position")?);
        let day_count = reader.count("day count")?;
        let mut days = Vec::new();
        for _ in 0..day_count {
            let day = Day(reader.varint_u32("day")?);
            let delta_count = reader.count("delta count")?;
            let mut deltas = Vec::new();
            for _ in 0..delta_count {
                let tenant = reader.text("tenant")?.parse().map_err(|_| DecodeError::OutOfRange("tenant"))?;
                let minute = reader.varint_u32("minute")?;
                let (parent, child) = (Arc::from(reader.text("caller")?), Arc::from(reader.text("called")?));
                deltas.push((tenant, minute, parent, child, reader.delta(0, "calls")? as i64));
            }
            days.push((day, deltas));
        }
        if reader.is_empty() { Ok(Self { position, days }) } else { Err(DecodeError::OutOfRange("length")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_until_it_is_removed_and_damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(PendingCalls::read(directory.path()).unwrap(), None);
        let delta = |by| ("t".parse().unwrap(), 77, Arc::from("web"), Arc::from(""), by);
        let pending =
            PendingCalls { position: 9, days: vec![(Day(3), vec![delta(-5), delta(i64::MAX)]), (Day(4), vec![])] };
        pending.write(directory.path()).unwrap();
        assert_eq!(PendingCalls::read(directory.path()).unwrap().as_ref(), Some(&pending));
        let mut bytes = fs::read(directory.path().join(FILE)).unwrap();
        bytes[20] ^= 1;
        fs::write(directory.path().join(FILE), &bytes).unwrap();
        assert!(PendingCalls::read(directory.path()).unwrap_err().to_string().contains("CALLS"));
        PendingCalls::remove(directory.path()).unwrap();
        PendingCalls::remove(directory.path()).unwrap();
        assert_eq!(PendingCalls::read(directory.path()).unwrap(), None);
    }
}
