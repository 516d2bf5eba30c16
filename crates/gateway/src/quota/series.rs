//! Which series a credential wrote of late: fingerprints in two generations, of which the older one goes after a while.
//!
//! A series is active that was written within the last one to two [`GENERATION`]s. 16 bytes each, and never more of them than the limit.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::over_limit::OverLimit;

/// A series that was not written for so long begins to be forgotten.
const GENERATION: Duration = Duration::from_mins(30);

/// The active series of one credential.
#[derive(Debug, Default)]
pub(crate) struct ActiveSeries {
    young: HashSet<u64>,
    old: HashSet<u64>,
    turned_ns: u64,
}

impl ActiveSeries {
    /// Lets generations pass.
    pub(crate) fn turn(&mut self, now_ns: u64) {
        let generations = u128::from(now_ns.saturating_sub(self.turned_ns)) / GENERATION.as_nanos();
        if generations == 0 {
            return;
        }
        self.turned_ns = now_ns;
        let young = std::mem::take(&mut self.young);
        self.old = if generations == 1 { young } else { HashSet::new() };
    }

    /// Whether the series is active, or may become so.
    pub(crate) fn admits(&mut self, fingerprint: u64, max: u64) -> bool {
        if self.young.contains(&fingerprint) {
            return true;
        }
        let is_old = self.old.remove(&fingerprint);
        if !is_old && (self.young.len() + self.old.len()) as u64 >= max {
            return false;
        }
        self.young.insert(fingerprint)
    }
}

/// Asks series by series whether a credential may write it.
#[derive(Debug)]
pub struct SeriesGate<'a> {
    pub(super) series: MutexGuard<'a, ActiveSeries>,
    pub(super) max: u64,
    /// What is said of those that it may not.
    pub(super) over: OverLimit,
}

impl SeriesGate<'_> {
    /// Whether it may; a series that is admitted is active from then on.
    pub fn admits(&mut self, fingerprint: u64) -> bool {
        self.series.admits(fingerprint, self.max)
    }

    /// The limit, in words.
    #[must_use]
    pub fn over(&self) -> &OverLimit {
        &self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(generations: f64) -> u64 {
        GENERATION.mul_f64(generations).as_nanos() as u64
    }

    #[test]
    fn known_series_go_on_and_idle_ones_make_room() {
        let mut series = ActiveSeries::default();
        assert!(series.admits(1, 2) && series.admits(2, 2) && series.admits(1, 2));
        assert!(!series.admits(3, 2));
        series.turn(ns(1.1));
        assert!(series.admits(1, 2), "of the older generation");
        assert!(!series.admits(3, 2), "2 is still active");
        series.turn(ns(2.2));
        assert!(series.admits(3, 2) && series.admits(1, 2) && !series.admits(2, 2));
        series.turn(ns(9.0));
        assert!(series.admits(4, 1));
    }
}
