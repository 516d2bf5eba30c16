//! What a read or a search could not read and went on without.

use pharos_base::full_message;
use pharos_storage::StorageError;

use crate::TraceStoreError;
use crate::error::storage_error;

/// Places that were left out, of one answer.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    places: u64,
    /// Why the first of them cannot be read.
    first: Option<TraceStoreError>,
}

impl Unreadable {
    /// A place was left out.
    pub(crate) fn note(&mut self, error: TraceStoreError) {
        self.places += 1;
        self.first.get_or_insert(error);
    }

    /// What stands beside an answer that is not whole: `lacking` says what may be missing and what could not be read.
    pub(crate) fn warning(&self, lacking: &str) -> Option<String> {
        let first = full_message(self.first.as_ref()?);
        Some(format!("{lacking}: {}; the first: {first}", self.places))
    }

    /// Why there is no answer, if nothing at all could be read.
    pub(crate) fn take_failure(&mut self) -> Option<StorageError> {
        self.first.take().map(storage_error("read of the trace store"))
    }
}
