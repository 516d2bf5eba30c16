//! A look at a query from outside while it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Of a query that failed for a limit, its time, or its client: how long it went on after that was so.
    pub refusal: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Look {
    ledger: Ledger,
    context: ReadContext,
    begun_at: Instant,
    refusal: Option<Duration>,
}

/// Handle for the caller of a query; clones look at the same one. Run again, it looks at the latest run.
#[derive(Debug, Clone, Default)]
pub struct QueryWatch(Arc<Mutex<Option<Look>>>);

impl QueryWatch {
    /// Its load now, or at its end; zeros before it is evaluated.
    #[must_use]
    pub fn load(&self) -> QueryLoad {
        let Some(Look { ledger, context, refusal, .. }) = self.0.lock().clone() else { return QueryLoad::default() };
        let (own, in_store) = (ledger.counts(), context.meter.counts());
        QueryLoad {
            memory_bytes: context.memory.used_bytes(),
            memory_bytes_peak: context.memory.peak_bytes(),
            samples_held: own.samples_held,
            samples_read: own.samples_read + in_store.samples,
            series_read: own.series_read + in_store.series,
            refusal,
        }
    }

    pub(super) fn look_at(&self, ledger: &Ledger, context: &ReadContext, begun_at: Instant) {
        *self.0.lock() = Some(Look { ledger: ledger.clone(), context: context.clone(), begun_at, refusal: None });
    }

    /// Notes that the query ended without an answer, with everything that it held given back.
    pub(super) fn note_failure(&self, ended_at: Instant) {
        if let Some(look) = &mut *self.0.lock() {
            // What was crossed before it began, in a queue, costs no time here.
            let crossed_at = look.context.crossed_at(ended_at).map(|at| at.max(look.begun_at));
            look.refusal = crossed_at.map(|at| ended_at.saturating_duration_since(at));
        }
    }
}
