//! A rate: so many units a second, with a burst ahead.
//!
//! What a request costs is known after it was read, so a bucket lends: whoever comes while anything is in it is let in, and what
//! is taken beyond is owed. Over time exactly the rate passes, requests larger than the burst included, and nothing is
//! decoded to be refused. One atomic word: the instant at which all that was taken is paid for (GCRA's theoretical arrival time).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NS_PER_S: u128 = 1_000_000_000;

/// A rate and what it may get ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Units a second; 0 lets nothing in.
    pub per_second: u64,
    /// How long it may be saved up.
    pub burst: Duration,
}

/// What was taken so far. The rate is given with each question, so that it may change while requests are under way.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Nanoseconds on the caller's clock.
    paid_until_ns: AtomicU64,
}

impl Bucket {
    /// How long until something is in it; `None`: now.
    pub(crate) fn wait(&self, rate: Rate, now_ns: u64) -> Option<Duration> {
        if rate.per_second == 0 {
            return Some(Duration::from_hours(1));
        }
        let ahead = self.paid_until_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        let burst = u64::try_from(rate.burst.as_nanos()).unwrap_or(u64::MAX);
        (ahead >= burst.max(1)).then(|| Duration::from_nanos((ahead - burst).max(1)))
    }

    /// Takes `units`, beyond what is in it where it must.
    pub(crate) fn take(&self, rate: Rate, units: u64, now_ns: u64) {
        let cost = cost_ns(rate, units);
        let _ = self
            .paid_until_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| Some(paid.max(now_ns).saturating_add(cost)));
    }

    /// Takes back what [`Bucket::take`] took at the same rate. What is paid for already is gone, as it would be saved up beyond the burst.
    pub(crate) fn give_back(&self, rate: Rate, units: u64) {
        let cost = cost_ns(rate, units);
        let _ = self
            .paid_until_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| Some(paid.saturating_sub(cost)));
    }

    /// Goes on at another rate: what is owed is owed in units, so that who has a higher rate pays it off sooner.
    pub(crate) fn change_rate(&self, from: u64, to: u64, now_ns: u64) {
        let _ = self.paid_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
            let owed = u128::from(paid.checked_sub(now_ns)?) * u128::from(from.max(1)) / u128::from(to.max(1));
            Some(now_ns.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX / 4)))
        });
    }

    /// Whether nothing is owed.
    pub(crate) fn is_paid(&self, now_ns: u64) -> bool {
        self.paid_until_ns.load(Ordering::Relaxed) <= now_ns
    }
}

/// How long it takes until so many units are paid for, nanoseconds.
fn cost_ns(rate: Rate, units: u64) -> u64 {
    let cost = u128::from(units) * NS_PER_S / u128::from(rate.per_second.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (bucket, rate) = (Bucket::default(), Rate { per_second: 100, burst: Duration::from_secs(10) });
        let mut let_in = 0;
        for tick in 0..1_000 {
            let now = 100 * SECOND + tick * SECOND / 10;
            while bucket.wait(rate, now).is_none() {
                bucket.take(rate, 7, now);
                let_in += 7;
            }
        }
        // 10 s ahead and the rate for 99.9 s, the last request whole.
        assert!((10_990..10_997).contains(&let_in), "{let_in}");
    }

    #[test]
    fn a_request_larger_than_the_burst_is_let_in_once_and_paid_for() {
        let (bucket, rate) = (Bucket::default(), Rate { per_second: 10, burst: Duration::from_secs(1) });
        assert_eq!(bucket.wait(rate, SECOND), None);
        bucket.take(rate, 1_000, SECOND);
        assert_eq!(bucket.wait(rate, SECOND), Some(Duration::from_secs(99)));
        assert_eq!(bucket.wait(rate, 99 * SECOND), Some(Duration::from_secs(1)));
        assert_eq!(bucket.wait(rate, 101 * SECOND), None);
    }

    #[test]
    fn what_is_given_back_is_not_owed_and_what_is_paid_is_not_saved_up() {
        let (bucket, rate) = (Bucket::default(), Rate { per_second: 10, burst: Duration::from_secs(1) });
        bucket.take(rate, 1_000, SECOND);
        bucket.give_back(rate, 900);
        assert_eq!(bucket.wait(rate, SECOND), Some(Duration::from_secs(9)));
        assert!(!bucket.is_paid(10 * SECOND) && bucket.is_paid(11 * SECOND));
        bucket.give_back(rate, u64::MAX);
        bucket.take(rate, 20, 100 * SECOND);
        assert_eq!(bucket.wait(rate, 100 * SECOND), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_owed_is_owed_in_units_whatever_the_rate_becomes() {
        let rate = |per_second| Rate { per_second, burst: Duration::from_secs(1) };
        let bucket = Bucket::default();
        bucket.take(rate(10), 1_000, SECOND);
        bucket.change_rate(10, 100, SECOND);
        assert_eq!(bucket.wait(rate(100), SECOND), Some(Duration::from_secs(9)));
        bucket.change_rate(100, 1, 6 * SECOND);
        assert_eq!(bucket.wait(rate(1), 6 * SECOND), Some(Duration::from_secs(499)));
        bucket.change_rate(1, 1_000, 600 * SECOND);
        assert_eq!(bucket.wait(rate(1_000), 600 * SECOND), None, "it was paid");
    }

    #[test]
    fn a_rate_of_none_lets_nothing_in_and_huge_units_do_not_overflow() {
        let rate = |per_second| Rate { per_second, burst: Duration::from_secs(1) };
        assert!(Bucket::default().wait(rate(0), 0).is_some());
        let bucket = Bucket::default();
        bucket.take(rate(1), u64::MAX, SECOND);
        bucket.take(rate(1), u64::MAX, SECOND);
        assert!(bucket.wait(rate(u64::MAX), SECOND).is_some());
    }
}
