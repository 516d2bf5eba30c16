//! Background work keeps out of the way: a budget of bytes per second, half the speed while others wait, and an
//! end as soon as the store stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::TsdbError;
use crate::shared::Shared;

/// Work between two looks at the clock, bytes.
const STRIDE_BYTES: u64 = 256 << 10;
/// Longest single pause: what was spent is remembered no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Niceness of the thread that merges: it gets what others leave.
const MERGE_NICENESS: i32 = 10;

/// How fast a merge may go.
pub(crate) struct Pace<'a> {
    shared: &'a Shared,
    /// `None` for work that somebody waits for.
    bytes_per_second: Option<f64>,
    yields: bool,
    pending: u64,
    since: Instant,
}

impl<'a> Pace<'a> {
    /// For work in the background.
    pub(crate) fn background(shared: &'a Shared) -> Self {
        let bytes_per_second = shared.settings.merge_rate_max.map(|rate| rate.0 as f64);
        Self { shared, bytes_per_second, yields: true, pending: 0, since: shared.clock.monotonic() }
    }

    /// For work that somebody waits for: only its interruption is left.
    pub(crate) fn at_once(shared: &'a Shared) -> Self {
        Self { shared, bytes_per_second: None, yields: false, pending: 0, since: shared.clock.monotonic() }
    }

    /// Accounts for bytes read or written, and pauses if that was too fast.
    ///
    /// # Errors
    /// [`TsdbError::Stopped`] when the store stops.
    pub(crate) fn spend(&mut self, bytes: u64) -> Result<(), TsdbError> {
        self.pending += bytes;
        if self.pending < STRIDE_BYTES {
            return Ok(());
        }
        let wake = &self.shared.wake;
        if wake.is_stopping() {
            return Err(TsdbError::Stopped);
        }
        let worked = self.shared.clock.monotonic().duration_since(self.since);
        let budget = self.bytes_per_second.map_or(0.0, |rate| self.pending as f64 / rate);
        let mut pause = Duration::from_secs_f64(budget).saturating_sub(worked);
        if self.yields && self.shared.is_busy() {
            pause = pause.max(worked);
        }
        if !pause.is_zero() {
            wake.wait_for_stop(pause.min(PAUSE_MAX));
        }
        self.pending = 0;
        self.since = self.shared.clock.monotonic();
        Ok(())
    }
}

impl Shared {
    /// Whether appends or queries are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.queue.is_waiting() || self.reading.load(Ordering::Relaxed) > 0
    }
}

/// Counts a read under way until it is dropped.
pub(crate) struct Reading(Arc<AtomicUsize>);

impl Reading {
    pub(crate) fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets the calling thread have what others leave of the processors.
pub(crate) fn lower_priority() {
    // On Linux this means the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, MERGE_NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of merging");
    }
}
