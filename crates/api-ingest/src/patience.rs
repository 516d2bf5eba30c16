//! How long a request may wait to be read.
//!
//! A burst may wait: it is done as soon as the queue is empty again. A queue that stays is none, it only makes everybody late;
//! then whoever would wait longer than a moment is turned away, until nobody was for a while. So overload bounds what it adds to the
//! latency of those who are let in, and bursts below the capacity are refused nothing.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Overload is over when nobody was refused for so long.
const CALM: Duration = Duration::from_secs(10);

/// Two patiences, and which one holds.
#[derive(Debug)]
pub(crate) struct Patience {
    burst_wait: Duration,
    overload_wait: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when somebody was waiting whenever it was looked at.
    queued_since: Option<Instant>,
    overload_until: Option<Instant>,
}

impl Patience {
    /// `burst_wait` as a rule, `overload_wait` once there was a queue for as long as that, or a refusal.
    pub(crate) fn new(burst_wait: Duration, overload_wait: Duration) -> Self {
        Self { burst_wait, overload_wait: overload_wait.min(burst_wait), state: Mutex::default() }
    }

    /// The one that holds now.
    pub(crate) fn now(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        if state.overload_until.is_some_and(|until| now < until) { self.overload_wait } else { self.burst_wait }
    }

    /// Notes whether somebody waits.
    pub(crate) fn note_queue(&self, has_waiters: bool, now: Instant) {
        let mut state = self.state.lock();
        if !has_waiters {
            state.queued_since = None;
        } else if now.saturating_duration_since(*state.queued_since.get_or_insert(now)) >= self.burst_wait {
            state.overload_until = Some(now + CALM);
        }
    }

    /// Notes that somebody was refused.
    pub(crate) fn note_refusal(&self, now: Instant) {
        self.state.lock().overload_until = Some(now + CALM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_base::{Clock, SystemClock};

    const BURST: Duration = Duration::from_secs(1);
    const OVERLOAD: Duration = Duration::from_millis(50);

    #[test]
    fn a_queue_that_stays_is_overload_and_a_burst_is_not() {
        let (patience, start) = (Patience::new(BURST, OVERLOAD), SystemClock.monotonic());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for ms in (0..5_000).step_by(100) {
            patience.note_queue(ms % 900 != 0, at(ms));
            assert_eq!(patience.now(at(ms)), BURST, "it is empty each 900 ms");
        }
        patience.note_queue(false, at(5_900));
        for ms in (6_000..7_000).step_by(100) {
            patience.note_queue(true, at(ms));
            assert_eq!(patience.now(at(ms)), BURST);
        }
        patience.note_queue(true, at(7_000));
        assert_eq!(patience.now(at(7_001)), OVERLOAD);
        patience.note_queue(false, at(7_500));
        assert_eq!(patience.now(at(16_999)), OVERLOAD, "one empty moment does not end it");
        assert_eq!(patience.now(at(17_000)), BURST);
    }

    #[test]
    fn a_refusal_is_overload_until_there_was_none_for_a_while() {
        let (patience, start) = (Patience::new(BURST, OVERLOAD), SystemClock.monotonic());
        patience.note_refusal(start);
        patience.note_refusal(start + Duration::from_secs(9));
        assert_eq!(patience.now(start + Duration::from_secs(18)), OVERLOAD);
        assert_eq!(patience.now(start + Duration::from_secs(19)), BURST);
        assert_eq!(Patience::new(OVERLOAD, BURST).overload_wait, OVERLOAD, "never the longer one");
    }
}
