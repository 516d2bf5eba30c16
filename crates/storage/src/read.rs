//! What every read carries: cancellation, memory and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

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
    /// Counts what the store evaluated by itself.
    pub meter: ReadMeter,
}

/// What a store read for grid and aggregate plans and did not hand out; clones count together. What it hands out
/// raw is counted by who takes it.
#[derive(Debug, Clone, Default)]
pub struct ReadMeter(Arc<Meter>);

#[derive(Debug, Default)]
struct Meter {
    series: AtomicU64,
    samples: AtomicU64,
    samples_queryable: AtomicU64,
    samples_largest: AtomicU64,
    cells: AtomicU64,
}

/// The counts of a [`ReadMeter`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Series read.
    pub series: u64,
    /// Samples read.
    pub samples: u64,
    /// Samples that windows and lookbacks touched, over all steps.
    pub samples_queryable: u64,
    /// Samples of the largest series.
    pub samples_largest: u64,
    /// Cells of rollups read in place of samples.
    pub cells: u64,
}

impl ReadMeter {
    /// Counts one series.
    pub fn count(&self, samples: usize, samples_queryable: u64) {
        let samples = samples as u64;
        self.add(ReadCounts { series: 1, samples, samples_queryable, samples_largest: samples, cells: 0 });
    }

    /// Counts what was counted elsewhere.
    pub fn add(&self, more: ReadCounts) {
        self.0.series.fetch_add(more.series, Relaxed);
        self.0.samples.fetch_add(more.samples, Relaxed);
        self.0.samples_queryable.fetch_add(more.samples_queryable, Relaxed);
        self.0.samples_largest.fetch_max(more.samples_largest, Relaxed);
        self.0.cells.fetch_add(more.cells, Relaxed);
    }

    /// All so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        ReadCounts {
            series: self.0.series.load(Relaxed),
            samples: self.0.samples.load(Relaxed),
            samples_queryable: self.0.samples_queryable.load(Relaxed),
            samples_largest: self.0.samples_largest.load(Relaxed),
            cells: self.0.cells.load(Relaxed),
        }
    }
}

impl ReadContext {
    /// No bounds at all: for tests and tools.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            cancel: CancelToken::new(),
            memory: MemoryBudget::unlimited(),
            series_max: u64::MAX,
            meter: ReadMeter::default(),
        }
    }

    /// Asked between series and between blocks.
    ///
    /// # Errors
    /// [`Interrupted`] when the work shall stop.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.cancel.check()
    }

    /// When the work first crossed one of its bounds, as far as it is known at `now`: a limit, its deadline, or that it was
    /// cancelled.
    #[must_use]
    pub fn crossed_at(&self, now: Instant) -> Option<Instant> {
        self.memory.crossing().at().into_iter().chain(self.cancel.interrupted_at(now)).min()
    }

    /// Checks a count of series against the limit.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`] above it.
    pub fn check_series(&self, count: u64) -> Result<(), StorageError> {
        if count > self.series_max {
            self.memory.crossing().note();
            let hint = "select fewer series with more matchers, or raise query.series_max (limits.query_series_max where a tenant or credential has its own)";
            return Err(StorageError::LimitExceeded { what: "series per selection", limit: self.series_max, hint });
        }
        Ok(())
    }
}
