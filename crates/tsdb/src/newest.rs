//! The newest sample of a series in a range: all that an instant query looks at. Who only counts series needs
//! no more of it than its pulse.

use pharos_model::{TimeRange, is_stale_nan};

use crate::samples::Samples;

/// The newest sample of a series in a range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest {
    pub(crate) time_ms: i64,
    pub(crate) sample: NewestSample,
}

/// What the sample is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewestSample {
    /// Its bits, a stale marker's too.
    Float(f64),
    /// Whoever wants more of it than this reads the series.
    Histogram { is_stale: bool },
}

impl Newest {
    /// Of sorted samples.
    pub(crate) fn of(samples: &Samples, range: TimeRange) -> Option<Self> {
        let inside = |times: &[i64]| {
            let at = times.partition_point(|time| *time < range.end_ms).checked_sub(1)?;
            (times[at] >= range.start_ms).then_some(at)
        };
        let (floats, histograms) = (&samples.floats, &samples.histograms);
        let float = inside(&floats.times)
            .map(|at| Self { time_ms: floats.times[at], sample: NewestSample::Float(floats.values[at]) });
        let histogram = inside(&histograms.times).map(|at| Self {
            time_ms: histograms.times[at],
            sample: NewestSample::Histogram { is_stale: histograms.values[at].is_stale() },
        });
        float.max_by_time(histogram)
    }

    /// Whether it says that the series ended.
    pub(crate) fn is_stale(&self) -> bool {
        match self.sample {
            NewestSample::Float(value) => is_stale_nan(value),
            NewestSample::Histogram { is_stale } => is_stale,
        }
    }

    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { time_ms: self.time_ms, is_stale: self.is_stale() }
    }
}

/// Of the newest sample of a series in a range: when it was taken, and whether it says that the series ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) time_ms: i64,
    pub(crate) is_stale: bool,
}

/// What has an instant.
pub(crate) trait Timed {
    fn time_ms(&self) -> i64;
}

impl Timed for Newest {
    fn time_ms(&self) -> i64 {
        self.time_ms
    }
}

impl Timed for Pulse {
    fn time_ms(&self) -> i64 {
        self.time_ms
    }
}

/// Choosing among histories.
pub(crate) trait ByTime {
    /// The newer of two; `other`, which takes precedence, at one instant.
    fn max_by_time(self, other: Self) -> Self;
}

impl<T: Timed> ByTime for Option<T> {
    fn max_by_time(self, other: Self) -> Self {
        match (self, other) {
            (Some(own), Some(other)) if own.time_ms() > other.time_ms() => Some(own),
            (own, other) => other.or(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pharos_model::Histogram;
    use std::sync::Arc;

    #[test]
    fn the_newest_of_both_kinds_inside_the_range_is_found() {
        let mut samples = Samples::default();
        samples.floats.push(10, 1.0, 0);
        samples.floats.push(30, 3.0, 0);
        samples.histograms.push(20, Arc::new(Histogram::empty(0)), 0);
        let at = |start, end| Newest::of(&samples, TimeRange::new(start, end)).map(|newest| newest.time_ms);
        assert_eq!(
            [at(0, 10), at(0, 11), at(0, 30), at(0, 99), at(31, 99)],
            [None, Some(10), Some(20), Some(30), None]
        );
    }

    #[test]
    fn at_one_instant_the_later_history_wins() {
        let float = |time_ms, value| Some(Newest { time_ms, sample: NewestSample::Float(value) });
        let value = |newest: Option<Newest>| match newest.unwrap().sample {
            NewestSample::Float(value) => value,
            NewestSample::Histogram { .. } => panic!("a float"),
        };
        assert_eq!(value(float(5, 1.0).max_by_time(float(5, 2.0))), 2.0);
        assert_eq!(value(float(6, 1.0).max_by_time(float(5, 2.0))), 1.0);
        assert_eq!(value(None.max_by_time(float(5, 2.0))), 2.0);
        assert_eq!(value(float(5, 1.0).max_by_time(None)), 1.0);
    }
}
