//! A store that no server runs on, looked through: is all of it sound, and its search indexes anew.

use std::path::Path;

use pharos_base::full_message;

use super::pending::PendingCalls;
use super::{SpanStore, open};
use crate::partition::{DatabaseMemory, Partition};
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
    /// A line for each block that cannot be read, or whose resources cannot, for each day that cannot be read to its end, and for
    /// each damaged search index.
    pub damage: Vec<String>,
    /// Days whose search index was built anew; one with damage keeps the index it has.
    pub rebuilt_days: u64,
}

impl SpanStore {
    /// Reads every sealed span of the store in `directory`, on which no server runs, and if `rebuild_index` builds the search
    /// indexes of sound days anew. Nothing else is changed.
    ///
    /// # Errors
    /// - [`TraceStoreError::Locked`]: a server runs on it.
    /// - [`TraceStoreError::Format`]: another version wrote it.
    /// - others: the directory cannot be listed, an index not be built.
    pub fn examine(directory: &Path, settings: &Settings, rebuild_index: bool) -> Result<Examination, TraceStoreError> {
        let _lock = open::prepare_directory(directory)?;
        let memory = DatabaseMemory::new(settings.rows_memory, settings.filter_memory, settings.open_blocks_memory);
        let mut examination = Examination::default();
        examination.damage.extend(PendingCalls::read(directory).err().map(|error| full_message(&error)));
        for (day, path) in open::day_directories(directory)? {
            examination.days += 1;
            let damage_before = examination.damage.len();
            if let Err(error) = Partition::examine(&path, day, &memory, &mut examination) {
                examination.damage.push(format!("{day} cannot be read on: {}", full_message(&error)));
            }
            if rebuild_index && examination.damage.len() == damage_before {
                Partition::rebuild_index(&path, day, &memory, settings)?;
                examination.rebuilt_days += 1;
            } else if let Err(error) = Partition::examine_index(&path) {
                let message = full_message(&error);
                examination.damage.push(format!("{day}: {message}; a start, or a rebuild here, makes the index anew"));
            }
        }
        Ok(examination)
    }
}
