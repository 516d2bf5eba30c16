//! The moment at which a piece of work crossed one of its limits: from then on it shall end soon.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::clock::{Clock, SystemClock};

/// When a limit was crossed first; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Crossing(Arc<OnceLock<Instant>>);

impl Crossing {
    /// Notes that it is now; what comes after the first time is ignored.
    pub fn note(&self) {
        self.0.get_or_init(|| SystemClock.monotonic());
    }

    /// When it was, if it was.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_counts_for_all_clones() {
        let crossing = Crossing::default();
        let clone = crossing.clone();
        assert_eq!(clone.at(), None);
        crossing.note();
        let first = clone.at();
        assert!(first.is_some());
        while SystemClock.monotonic() <= first.unwrap() {}
        clone.note();
        assert_eq!(crossing.at(), first);
    }
}
