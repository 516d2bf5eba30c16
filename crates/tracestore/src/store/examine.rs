//! A store that no server runs on, looked through: is all of it sound, and its search indexes anew.

use std::path::Path;

use pharos_base::full_message;

use super::pending::PendingCalls;
use super::{LOG_DIRECTORY, SpanStore, open};
use crate::log::scan;
use crate::partition::{DatabaseMemory, Partition};
use crate::record::decode_change;
use crate::{Settings, TraceStoreError};

/// What a store has, and what of it is damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examination {
    /// UTC days.
    pub days: u64,
    /// Segments of all days.
    pub segments: u64,
    /// Their blocks.
    pub blocks: u64,
    /// Spans in sound blocks; those that are in the log alone are not among them.
    pub spans: u64,
    /// Records of the log.
    pub log_records: u64,
    /// A line for each block that cannot be read, or whose resources cannot, for each entry beside them, for each day and for
    /// a log that cannot be read to its end, for each damaged search index, and for each day that is set aside.
    pub damage: Vec<String>,
    /// Days whose search index was built anew; one with damage keeps the index it has.
    pub rebuilt_days: u64,
}

impl SpanStore {
    /// Reads all that the store in `directory` has, on which no server runs. If `rebuild_index`, the search indexes of sound
    /// days are built anew; else nothing is changed.
    ///
    /// # Errors
    /// - [`TraceStoreError::Locked`]: a server runs on it.
    /// - [`TraceStoreError::Format`]: another version wrote it.
    /// - others: the directory cannot be listed.
    pub fn examine(directory: &Path, settings: &Settings, rebuild_index: bool) -> Result<Examination, TraceStoreError> {
        let _lock = open::lock_existing(directory)?;
        let memory = DatabaseMemory::new(settings.rows_memory, settings.filter_memory, settings.open_blocks_memory);
        let mut examination = Examination::default();
        examination.damage.extend(PendingCalls::read(directory).err().map(|error| full_message(&error)));
        let read = scan(&directory.join(LOG_DIRECTORY), |sequence, content| {
            let corrupt = TraceStoreError::corrupt("log record", format!("record {sequence}"));
            decode_change(&content).map(drop).map_err(corrupt)?;
            examination.log_records += 1;
            Ok(())
        });
        examination.damage.extend(read.err().map(|error| full_message(&error)));
        for aside in open::damaged_days(directory)?.into_iter().filter(|aside| !aside.is_repaired) {
            let path = aside.path.display();
            examination
                .damage
                .push(format!("{} is set aside and nobody sees it: {path}; a repair reads what is sound", aside.day));
        }
        for (day, path) in open::list_days(directory)? {
            examination.days += 1;
            let damage_before = examination.damage.len();
            if let Err(error) = Partition::examine(&path, day, &memory, &mut examination) {
                examination.damage.push(format!("{day} cannot be read on: {}", full_message(&error)));
            }
            if examination.damage.len() == damage_before
                && let Err(error) = Partition::examine_tenants(&path, day, &memory)
            {
                examination.damage.push(format!("{day}: {}; a start makes the second list anew", full_message(&error)));
            }
            if rebuild_index && examination.damage.len() == damage_before {
                match Partition::rebuild_index(&path, day, &memory, settings) {
                    Ok(()) => examination.rebuilt_days += 1,
                    Err(error) => {
                        let error = full_message(&error);
                        examination.damage.push(format!("the index of {day} cannot be built anew: {error}"));
                    }
                }
            } else if let Err(error) = Partition::examine_index(&path) {
                let message = full_message(&error);
                examination.damage.push(format!("{day}: {message}; a start, or a rebuild here, makes the index anew"));
            }
        }
        Ok(examination)
    }
}
