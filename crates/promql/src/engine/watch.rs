//! A look at a query from outside while it runs.

use std::sync::Arc;

use parking_lot::Mutex;
use pharos_storage::ReadContext;

use super::ledger::Ledger;

/// What a query holds and has read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryLoad {
    /// Bytes held now.
    pub memory_bytes: u64,
    /// The most bytes held at once.
    pub memory_bytes_peak: u64,
    /// Samples held now.
    pub samples_held: u64,
    /// Samples read from the store.
    pub samples_read: u64,
    /// Series read from the store, once per selector.
    pub series_read: u64,
}

/// Handle for the caller of a query; clones look at the same one. Run again, it looks at the latest run.
#[derive(Debug, Clone, Default)]
pub struct QueryWatch(Arc<Mutex<Option<(Ledger, ReadContext)>>>);

impl QueryWatch {
    /// Its load now, or at its end; zeros before it is evaluated.
    #[must_use]
    pub fn load(&self) -> QueryLoad {
        let Some((ledger, context)) = self.0.lock().clone() else { return QueryLoad::default() };
        let (own, in_store) = (ledger.counts(), context.meter.counts());
        QueryLoad {
            memory_bytes: context.memory.used_bytes(),
            memory_bytes_peak: context.memory.peak_bytes(),
            samples_held: own.samples_held,
            samples_read: own.samples_read + in_store.samples,
            series_read: own.series_read + in_store.series,
        }
    }

    pub(super) fn look_at(&self, ledger: &Ledger, context: &ReadContext) {
        *self.0.lock() = Some((ledger.clone(), context.clone()));
    }
}
