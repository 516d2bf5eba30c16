//! Ranges and steps of time.

/// Milliseconds in a day.
pub const MS_PER_DAY: i64 = 86_400_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;
/// Nanoseconds in a day.
pub const NS_PER_DAY: u64 = 86_400_000_000_000;

/// Milliseconds of an instant given in nanoseconds, rounded down; saturates at the end of `i64`.
#[must_use]
pub fn ns_to_ms(unix_ns: u64) -> i64 {
    i64::try_from(unix_ns / NS_PER_MS).unwrap_or(i64::MAX)
}

/// Nanoseconds of an instant given in milliseconds; saturates at both ends of `u64`.
#[must_use]
pub fn ms_to_ns(unix_ms: i64) -> u64 {
    u64::try_from(unix_ms).unwrap_or(0).saturating_mul(NS_PER_MS)
}

/// `[start_ms, end_ms)` in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First instant inside.
    pub start_ms: i64,
    /// First instant after.
    pub end_ms: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { start_ms: i64::MIN, end_ms: i64::MAX };

    /// `[start_ms, end_ms)`.
    #[must_use]
    pub const fn new(start_ms: i64, end_ms: i64) -> Self {
        Self { start_ms, end_ms }
    }

    /// From bounds that are both inside, as APIs give them.
    #[must_use]
    pub const fn inclusive(first_ms: i64, last_ms: i64) -> Self {
        Self { start_ms: first_ms, end_ms: last_ms.saturating_add(1) }
    }

    /// Whether nothing is inside.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start_ms >= self.end_ms
    }

    /// Whether `at_ms` is inside.
    #[must_use]
    pub const fn contains(self, at_ms: i64) -> bool {
        self.start_ms <= at_ms && at_ms < self.end_ms
    }

    /// Whether both share an instant.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start_ms < other.end_ms && other.start_ms < self.end_ms
    }
}

/// `[start_ns, end_ns)` in Unix nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRangeNs {
    /// First instant inside.
    pub start_ns: u64,
    /// First instant after.
    pub end_ns: u64,
}

impl TimeRangeNs {
    /// All of time.
    pub const ALL: Self = Self { start_ns: 0, end_ns: u64::MAX };

    /// From bounds that are both inside, as APIs give them.
    #[must_use]
    pub const fn inclusive(first_ns: u64, last_ns: u64) -> Self {
        Self { start_ns: first_ns, end_ns: last_ns.saturating_add(1) }
    }

    /// Whether `at_ns` is inside.
    #[must_use]
    pub const fn contains(self, at_ns: u64) -> bool {
        self.start_ns <= at_ns && at_ns < self.end_ns
    }
}

/// The evaluation times of a query: `start_ms`, `start_ms + step_ms`, … up to and including `end_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepRange {
    /// First evaluation time, Unix milliseconds.
    pub start_ms: i64,
    /// No evaluation time is later than this.
    pub end_ms: i64,
    /// Distance between evaluation times, at least 1 ms.
    pub step_ms: i64,
}

impl StepRange {
    /// The single evaluation time of an instant query.
    #[must_use]
    pub const fn instant(at_ms: i64) -> Self {
        Self { start_ms: at_ms, end_ms: at_ms, step_ms: 1 }
    }

    /// How many evaluation times there are; 0 if the end lies before the start.
    #[must_use]
    pub fn len(self) -> usize {
        if self.end_ms < self.start_ms {
            return 0;
        }
        let distance = self.end_ms.abs_diff(self.start_ms);
        usize::try_from(distance / self.step_ms.unsigned_abs().max(1)).unwrap_or(usize::MAX - 1) + 1
    }

    /// Whether there is no evaluation time.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The evaluation time number `index`.
    #[must_use]
    pub fn at(self, index: usize) -> i64 {
        self.start_ms + index as i64 * self.step_ms
    }

    /// All evaluation times in order.
    #[must_use]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator {
        (0..self.len()).map(move |index| self.at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_include_the_end_only_when_they_reach_it() {
        let steps = |start_ms, end_ms, step_ms| StepRange { start_ms, end_ms, step_ms }.iter().collect::<Vec<_>>();
        assert_eq!(steps(0, 30, 10), [0, 10, 20, 30]);
        assert_eq!(steps(0, 29, 10), [0, 10, 20]);
        assert_eq!(steps(5, 5, 1), [5]);
        assert!(steps(6, 5, 1).is_empty());
    }

    #[test]
    fn ranges_are_half_open() {
        let range = TimeRange::inclusive(10, 20);
        assert!(range.contains(10) && range.contains(20) && !range.contains(21));
        assert!(!TimeRange::new(0, 10).overlaps(range));
    }
}
