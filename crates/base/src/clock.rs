//! Time as a value: engines are handed a [`Clock`] and never ask the system themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where "now" comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Nanoseconds since the Unix epoch, wall clock. May jump.
    fn unix_ns(&self) -> i64;

    /// Milliseconds since the Unix epoch, wall clock. May jump.
    fn unix_ms(&self) -> i64 {
        self.unix_ns().div_euclid(1_000_000)
    }

    /// A point on the monotonic clock, for deadlines and measuring.
    fn monotonic(&self) -> Instant;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The system clock behind the shared pointer that components take.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn unix_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct SimClock {
    unix_ns: AtomicI64,
    origin: Instant,
    origin_ns: i64,
}

impl SimClock {
    /// Starts at `unix_ms`.
    #[must_use]
    pub fn at_ms(unix_ms: i64) -> Arc<Self> {
        let origin_ns = unix_ms.saturating_mul(1_000_000);
        Arc::new(Self { unix_ns: AtomicI64::new(origin_ns), origin: SystemClock.monotonic(), origin_ns })
    }

    /// Moves both clocks forward by `ms` milliseconds.
    pub fn advance_ms(&self, ms: i64) {
        self.unix_ns.fetch_add(ms.saturating_mul(1_000_000), Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn unix_ns(&self) -> i64 {
        self.unix_ns.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Instant {
        let passed = u64::try_from(self.unix_ns() - self.origin_ns).unwrap_or(0);
        self.origin + std::time::Duration::from_nanos(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_moves_only_when_told() {
        let clock = SimClock::at_ms(1_000);
        let before = clock.monotonic();
        assert_eq!(clock.unix_ms(), 1_000);
        clock.advance_ms(250);
        assert_eq!(clock.unix_ms(), 1_250);
        assert_eq!((clock.monotonic() - before).as_millis(), 250);
    }
}
