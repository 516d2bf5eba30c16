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

    /// Whether none is active.
    pub(crate) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// Whether these series are active, or may become so, all of them.
    pub(crate) fn admits(&mut self, fingerprints: &[u64], max: u64) -> bool {
        let (mut added, mut is_any_old) = (Vec::new(), false);
        for fingerprint in fingerprints {
            if self.young.contains(fingerprint) {
                continue;
            }
            if self.old.contains(fingerprint) {
                is_any_old = true;
                continue;
            }
            if (self.young.len() + self.old.len()) as u64 >= max {
                for fingerprint in added {
                    self.young.remove(&fingerprint);
                }
                return false;
            }
            self.young.insert(*fingerprint);
            added.push(*fingerprint);
        }
        if is_any_old {
            for fingerprint in fingerprints.iter().filter(|fingerprint| self.old.remove(*fingerprint)) {
                self.young.insert(*fingerprint);
            }
        }
        true
    }
}

/// Asks whether a credential may write series.
#[derive(Debug)]
pub struct SeriesGate<'a> {
    pub(super) series: MutexGuard<'a, ActiveSeries>,
    pub(super) max: u64,
    /// What is said of those that it may not.
    pub(super) over: OverLimit,
}

impl SeriesGate<'_> {
    /// Whether it may write these, all of them or none; series that are admitted are active from then on.
    pub fn admits(&mut self, fingerprints: &[u64]) -> bool {
        self.series.admits(fingerprints, self.max)
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
        assert!(series.admits(&[1], 2) && series.admits(&[2], 2) && series.admits(&[1], 2));
        assert!(!series.admits(&[3], 2));
        series.turn(ns(1.1));
        assert!(series.admits(&[1], 2), "of the older generation");
        assert!(!series.admits(&[3], 2), "2 is still active");
        series.turn(ns(2.2));
        assert!(series.admits(&[3], 2) && series.admits(&[1], 2) && !series.admits(&[2], 2));
        series.turn(ns(9.0));
        assert!(series.admits(&[4], 1));
    }

    #[test]
    fn series_that_belong_together_are_admitted_together() {
        let mut series = ActiveSeries::default();
        assert!(series.admits(&[1, 2, 2], 4));
        assert!(!series.admits(&[2, 3, 4, 5], 4), "two are free, and it has three new ones");
        assert!(series.admits(&[3, 4], 4), "nothing of what was refused is active");
        series.turn(ns(1.1));
        assert!(series.admits(&[1, 3], 4) && !series.admits(&[1, 5], 4));
        series.turn(ns(2.2));
        assert!(series.admits(&[5, 6], 4), "2 and 4 have gone");
        assert!(!series.is_empty());
    }
}
