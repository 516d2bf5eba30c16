//! Durations counted in buckets: what becomes a native histogram with custom bounds.

use pharos_model::{BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram};

/// Durations in buckets whose bounds are `BUCKETS - 1` in number.
#[derive(Debug, Clone)]
pub(crate) struct Tally<const BUCKETS: usize> {
    counts: [f64; BUCKETS],
    count: f64,
    sum_ns: f64,
}

impl<const BUCKETS: usize> Tally<BUCKETS> {
    pub(crate) const fn new() -> Self {
        Self { counts: [0.0; BUCKETS], count: 0.0, sum_ns: 0.0 }
    }

    /// Counts a duration `weight` times.
    #[inline]
    pub(crate) fn add(&mut self, duration_ns: u64, weight: f64, bounds_ns: &[u64]) {
        debug_assert_eq!(bounds_ns.len() + 1, BUCKETS);
        // Upper bounds are inclusive. The last bucket has none.
        let bucket = bounds_ns.partition_point(|bound| *bound < duration_ns).min(BUCKETS - 1);
        self.counts[bucket] += weight;
        self.count += weight;
        self.sum_ns += duration_ns as f64 * weight;
    }

    /// How many durations were counted.
    #[inline]
    pub(crate) fn count(&self) -> f64 {
        self.count
    }

    /// As a histogram in a unit of so many nanoseconds; `bounds` are in that unit.
    pub(crate) fn histogram(&self, bounds: &[f64], unit_ns: f64) -> Histogram {
        let first = self.counts.iter().position(|count| *count != 0.0);
        let positive = match (first, self.counts.iter().rposition(|count| *count != 0.0)) {
            (Some(first), Some(last)) => BucketSide {
                spans: vec![BucketSpan { offset: first as i32, length: (last - first + 1) as u32 }],
                counts: self.counts[first..=last].to_vec(),
            },
            _ => BucketSide::default(),
        };
        // Weights that are no integers add up to a count that rounds unlike the sum of the buckets.
        let is_integer = self.counts.iter().all(|count| count.fract() == 0.0) && self.count < 9e15;
        Histogram {
            is_integer,
            count: self.count,
            sum: self.sum_ns / unit_ns,
            positive,
            custom_bounds: bounds.to_vec(),
            ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_has_none() {
        let bounds_ns = [10, 20];
        let mut tally = Tally::<3>::new();
        assert!(tally.histogram(&[1.0, 2.0], 10.0).validate().is_ok(), "an empty one is sound");
        for duration_ns in [0, 10, 11, 20, 21, u64::MAX] {
            tally.add(duration_ns, 1.0, &bounds_ns);
        }
        let histogram = tally.histogram(&[1.0, 2.0], 10.0);
        assert_eq!(histogram.validate(), Ok(()));
        assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(0, 2.0), (1, 2.0), (2, 2.0)]);
        assert_eq!((histogram.count, tally.count()), (6.0, 6.0));
    }

    #[test]
    fn weights_that_are_no_integers_make_a_float_histogram() {
        let mut tally = Tally::<3>::new();
        tally.add(15, 1.5, &[10, 20]);
        let histogram = tally.histogram(&[1.0, 2.0], 1.0);
        assert_eq!((histogram.is_integer, histogram.count, histogram.sum), (false, 1.5, 22.5));
        assert_eq!(histogram.validate(), Ok(()));
    }
}
