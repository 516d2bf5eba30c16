//! Background work keeps out of the way: a budget of bytes per second, half the speed while others wait, and an
//! end as soon as the store stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::TsdbError;
use crate::shared::Shared;

/// Work between two looks at the clock, bytes.
const STRIDE_BYTES: u64 = 256 << 10;
/// Longest single pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Niceness of the thread that merges: it gets what others leave.
pub(crate) const MERGE_NICENESS: i32 = 10;

/// How fast a merge may go.
pub(crate) struct Pace<'a> {
    shared: &'a Shared,
    budget: Budget,
}

impl<'a> Pace<'a> {
    /// For work in the background.
    pub(crate) fn background(shared: &'a Shared) -> Self {
        let bytes_per_second = shared.settings.merge_rate_max.map(|rate| rate.0 as f64);
        Self { shared, budget: Budget::new(bytes_per_second, true, shared.clock.monotonic()) }
    }

    /// For work that somebody waits for: only its interruption is left.
    pub(crate) fn at_once(shared: &'a Shared) -> Self {
        Self { shared, budget: Budget::new(None, false, shared.clock.monotonic()) }
    }

    /// Accounts for bytes read or written, and pauses if that was too fast.
    ///
    /// # Errors
    /// [`TsdbError::Stopped`] when the store stops.
    pub(crate) fn spend(&mut self, bytes: u64) -> Result<(), TsdbError> {
        let Self { shared, budget } = self;
        if !budget.spend(bytes) {
            return Ok(());
        }
        if shared.wake.is_stopping() {
            return Err(TsdbError::Stopped);
        }
        let pause = budget.pause(shared.clock.monotonic(), || shared.is_busy());
        if !pause.is_zero() {
            shared.wake.wait_for_stop(pause);
        }
        budget.resume(shared.clock.monotonic());
        Ok(())
    }
}

/// What was spent, and when that is allowed to be spent: knows no clock.
#[derive(Debug)]
struct Budget {
    /// `None` for work that somebody waits for, or without a limit.
    bytes_per_second: Option<f64>,
    /// Whether it goes at half speed while others are busy.
    yields: bool,
    /// Bytes since the last look at the clock.
    pending: u64,
    /// When the work went on last.
    since: Instant,
    /// When all that was spent is paid for: what one pause is too short for stays owed.
    paid_at: Instant,
}

impl Budget {
    fn new(bytes_per_second: Option<f64>, yields: bool, now: Instant) -> Self {
        Self { bytes_per_second, yields, pending: 0, since: now, paid_at: now }
    }

    /// Whether it is time to look at the clock.
    fn spend(&mut self, bytes: u64) -> bool {
        self.pending += bytes;
        self.pending >= STRIDE_BYTES
    }

    /// How long to rest now.
    fn pause(&mut self, now: Instant, is_busy: impl FnOnce() -> bool) -> Duration {
        let cost = self.bytes_per_second.map_or(0.0, |rate| self.pending as f64 / rate);
        self.pending = 0;
        // Slowness is no credit: what was not spent in time is not spent later on top.
        self.paid_at = self.paid_at.max(self.since) + Duration::from_secs_f64(cost);
        let owed = self.paid_at.saturating_duration_since(now);
        let pause = if self.yields && is_busy() { owed.max(now.duration_since(self.since)) } else { owed };
        pause.min(PAUSE_MAX)
    }

    fn resume(&mut self, now: Instant) {
        self.since = now;
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

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_base::{Clock, SimClock};

    /// Seconds that work of so many strides takes, each of them `work_ms` without pauses.
    fn seconds(budget: &mut Budget, clock: &SimClock, strides: u32, work_ms: i64, is_busy: bool) -> f64 {
        let from = clock.monotonic();
        for _ in 0..strides {
            clock.advance_ms(work_ms);
            assert!(budget.spend(STRIDE_BYTES));
            let pause = budget.pause(clock.monotonic(), || is_busy);
            assert!(pause <= PAUSE_MAX);
            clock.advance_ms(i64::try_from(pause.as_millis()).unwrap());
            budget.resume(clock.monotonic());
        }
        clock.monotonic().duration_since(from).as_secs_f64()
    }

    fn budget(bytes_per_second: Option<f64>, yields: bool) -> (Budget, std::sync::Arc<SimClock>) {
        let clock = SimClock::at_ms(0);
        (Budget::new(bytes_per_second, yields, clock.monotonic()), clock)
    }

    #[test]
    fn a_merge_goes_no_faster_than_its_rate() {
        let rate = STRIDE_BYTES as f64 * 10.0;
        let (mut budget, clock) = budget(Some(rate), true);
        let took = seconds(&mut budget, &clock, 100, 20, false);
        assert!((9.9..10.2).contains(&took), "{took} s for ten seconds' worth");
        // Slower than that by itself, it does not rest, and gets nothing for it afterwards.
        let slow = seconds(&mut budget, &clock, 50, 200, false);
        assert!((10.0..10.2).contains(&slow), "{slow} s");
        let took = seconds(&mut budget, &clock, 100, 20, false);
        assert!((9.7..10.2).contains(&took), "{took} s again");
    }

    #[test]
    fn what_one_pause_is_too_short_for_stays_owed() {
        // Five seconds for each stride.
        let (mut budget, clock) = budget(Some(STRIDE_BYTES as f64 / 5.0), true);
        seconds(&mut budget, &clock, 4, 0, false);
        let mut rests = 4;
        while !budget.pause(clock.monotonic(), || false).is_zero() {
            clock.advance_ms(1000);
            budget.resume(clock.monotonic());
            rests += 1;
        }
        assert_eq!(rests, 20);
    }

    #[test]
    fn a_merge_goes_at_half_speed_while_others_are_busy() {
        let (mut background, clock) = budget(None, true);
        assert!((1.99..2.01).contains(&seconds(&mut background, &clock, 100, 10, true)));
        assert!((0.99..1.01).contains(&seconds(&mut background, &clock, 100, 10, false)));
        let (mut at_once, clock) = budget(None, false);
        assert!((0.99..1.01).contains(&seconds(&mut at_once, &clock, 100, 10, true)), "somebody waits for it");
    }

    #[test]
    fn the_clock_is_looked_at_once_a_stride() {
        let (mut budget, _) = budget(None, true);
        assert!(!budget.spend(STRIDE_BYTES - 1));
        assert!(budget.spend(1));
    }
}
