//! What every read carries: cancellation, memory and limits.

use pharos_base::{CancelToken, Interrupted, MemoryBudget};

use crate::StorageError;

/// The bounds of one read.
#[derive(Debug, Clone)]
pub struct ReadContext {
    /// Cancellation and deadline.
    pub cancel: CancelToken,
    /// What the query may hold in memory at a time.
    pub memory: MemoryBudget,
    /// Series that one selection may touch.
    pub series_max: u64,
}

impl ReadContext {
    /// No bounds at all: for tests and tools.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { cancel: CancelToken::new(), memory: MemoryBudget::unlimited(), series_max: u64::MAX }
    }

    /// Asked between series and between blocks.
    ///
    /// # Errors
    /// [`Interrupted`] when the work shall stop.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.cancel.check()
    }

    /// Checks a count of series against the limit.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`] above it.
    pub fn check_series(&self, count: u64) -> Result<(), StorageError> {
        if count > self.series_max {
            let hint = "select fewer series with more matchers, or raise query.series_max";
            return Err(StorageError::LimitExceeded { what: "series per selection", limit: self.series_max, hint });
        }
        Ok(())
    }
}
