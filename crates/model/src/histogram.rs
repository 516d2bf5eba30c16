//! Native histograms: exponential or custom buckets, as Prometheus keeps them.

use serde::{Deserialize, Serialize};

/// The schema number that says "custom bucket bounds".
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;
/// Largest integer that a double holds together with all smaller ones.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// What is known about a counter reset between the previous histogram of the series and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ResetHint {
    /// Nothing: compare the buckets.
    #[default]
    Unknown,
    /// This histogram starts a new count.
    Reset,
    /// It goes on counting.
    NotReset,
    /// It is a gauge histogram: resets have no meaning.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Gap to the end of the previous span; for the first span, the index of its first bucket.
    pub offset: i32,
    /// How many buckets follow each other.
    pub length: u32,
}

/// One side's buckets: spans say where, counts say how many (absolute, not cumulative, not deltas).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BucketSide {
    /// Where the buckets are.
    pub spans: Vec<BucketSpan>,
    /// Observations in each bucket, one per bucket that the spans cover.
    pub counts: Vec<f64>,
}

/// A native histogram at one instant.
///
/// Counts are doubles throughout. Integer histograms are exact in them up to 2^53 observations, and
/// more than that is refused by [`Histogram::validate`] rather than rounded; `is_integer` keeps the
/// form it arrived in for those who ask for it back.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Whether it arrived with integer counts.
    pub is_integer: bool,
    /// Counter reset hint.
    pub reset_hint: ResetHint,
    /// −4 to 8: bucket bounds grow by 2^(2^−schema); −53: bounds are `custom_bounds`.
    pub schema: i32,
    /// Width of the zero bucket; 0 for custom buckets.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale marker here marks the whole sample as stale.
    pub sum: f64,
    /// Buckets of positive observations, or all custom buckets.
    pub positive: BucketSide,
    /// Buckets of negative observations.
    pub negative: BucketSide,
    /// Upper bounds of custom buckets, ascending, without the last one, +Inf.
    pub custom_bounds: Vec<f64>,
}

/// Why a histogram is not well formed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum HistogramError {
    #[error("histogram schema {schema} is not supported: use -4 to 8, or -53 for custom buckets")]
    Schema { schema: i32 },
    #[error("histogram has {counts} {side} bucket counts but spans for {spanned}")]
    SpanLength { side: &'static str, counts: usize, spanned: u64 },
    #[error("histogram has a negative gap between {side} spans")]
    SpanOffset { side: &'static str },
    #[error("histogram has a negative or undefined {what}: {value}")]
    Count { what: &'static str, value: f64 },
    #[error("histogram counts {found} observations in buckets but {count} in all")]
    Total { found: f64, count: f64 },
    #[error("integer histogram counts more than 2^53 observations, which a double cannot hold exactly")]
    TooLarge,
    #[error("custom bucket bounds must ascend, be finite and belong to schema -53 without zero or negative buckets")]
    CustomBounds,
}

impl Histogram {
    /// An empty histogram of `schema`.
    #[must_use]
    pub fn empty(schema: i32) -> Self {
        Self {
            is_integer: false,
            reset_hint: ResetHint::Unknown,
            schema,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: BucketSide::default(),
            negative: BucketSide::default(),
            custom_bounds: Vec::new(),
        }
    }

    /// The histogram that says "this series ended here".
    #[must_use]
    pub fn stale() -> Self {
        Self { sum: crate::stale_nan(), ..Self::empty(0) }
    }

    /// Whether this is a staleness marker.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    /// Whether its bounds are custom.
    #[must_use]
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Equality of every bit, NaN payloads included, as duplicates and round trips need it.
    #[must_use]
    pub fn bits_equal(&self, other: &Self) -> bool {
        let side = |side: &BucketSide| (side.spans.clone(), bits(&side.counts));
        self.is_integer == other.is_integer
            && self.reset_hint == other.reset_hint
            && self.schema == other.schema
            && bits(&[self.zero_threshold, self.zero_count, self.count, self.sum])
                == bits(&[other.zero_threshold, other.zero_count, other.count, other.sum])
            && side(&self.positive) == side(&other.positive)
            && side(&self.negative) == side(&other.negative)
            && bits(&self.custom_bounds) == bits(&other.custom_bounds)
    }

    /// Checks the rules that every stored histogram keeps.
    ///
    /// # Errors
    /// The first rule broken, as [`HistogramError`].
    ///
    /// Source: Prometheus native histogram specification, "Data model".
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.is_stale() {
            return Ok(());
        }
        if !EXPONENTIAL_SCHEMAS.contains(&self.schema) && !self.has_custom_buckets() {
            return Err(HistogramError::Schema { schema: self.schema });
        }
        self.positive.validate("positive")?;
        self.negative.validate("negative")?;
        for (what, value) in
            [("count", self.count), ("zero count", self.zero_count), ("zero threshold", self.zero_threshold)]
        {
            if value.is_nan() || value < 0.0 {
                return Err(HistogramError::Count { what, value });
            }
        }
        self.validate_custom_bounds()?;
        self.validate_total()
    }

    fn validate_custom_bounds(&self) -> Result<(), HistogramError> {
        let sound = if self.has_custom_buckets() {
            let ascending = self.custom_bounds.is_sorted_by(|a, b| a < b);
            let finite = self.custom_bounds.iter().all(|bound| bound.is_finite());
            let reach: i64 = self.positive.spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
            ascending
                && finite
                && reach <= self.custom_bounds.len() as i64 + 1
                && self.negative.counts.is_empty()
                && self.zero_count == 0.0
                && self.zero_threshold == 0.0
        } else {
            self.custom_bounds.is_empty()
        };
        if sound { Ok(()) } else { Err(HistogramError::CustomBounds) }
    }

    fn validate_total(&self) -> Result<(), HistogramError> {
        if !self.is_integer {
            return Ok(());
        }
        if self.count > EXACT_INTEGER_MAX {
            return Err(HistogramError::TooLarge);
        }
        let found = self.positive.counts.iter().chain(&self.negative.counts).sum::<f64>() + self.zero_count;
        // With a NaN sum, observations of NaN are in `count` but in no bucket.
        let sound = if self.sum.is_nan() { found <= self.count } else { found == self.count };
        if sound { Ok(()) } else { Err(HistogramError::Total { found, count: self.count }) }
    }
}

impl BucketSide {
    /// Index and count of every bucket that the spans cover.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let mut next = 0_i32;
        let indexes = self.spans.iter().flat_map(move |span| {
            let first = next.saturating_add(span.offset);
            next = first.saturating_add_unsigned(span.length);
            first..next
        });
        indexes.zip(self.counts.iter().copied())
    }

    fn validate(&self, side: &'static str) -> Result<(), HistogramError> {
        if self.spans.iter().skip(1).any(|span| span.offset < 0) {
            return Err(HistogramError::SpanOffset { side });
        }
        let spanned: u64 = self.spans.iter().map(|span| u64::from(span.length)).sum();
        if spanned != self.counts.len() as u64 {
            return Err(HistogramError::SpanLength { side, counts: self.counts.len(), spanned });
        }
        match self.counts.iter().find(|count| count.is_nan() || **count < 0.0) {
            Some(&value) => Err(HistogramError::Count { what: "bucket count", value }),
            None => Ok(()),
        }
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_buckets() -> Histogram {
        Histogram {
            is_integer: true,
            count: 6.0,
            zero_count: 1.0,
            sum: 9.0,
            positive: BucketSide {
                spans: vec![BucketSpan { offset: -1, length: 1 }, BucketSpan { offset: 2, length: 1 }],
                counts: vec![2.0, 3.0],
            },
            ..Histogram::empty(0)
        }
    }

    #[test]
    fn buckets_know_their_indexes() {
        assert_eq!(two_buckets().positive.iter().collect::<Vec<_>>(), [(-1, 2.0), (2, 3.0)]);
    }

    #[test]
    fn broken_histograms_are_named() {
        assert_eq!(two_buckets().validate(), Ok(()));
        let broken = |change: fn(&mut Histogram)| {
            let mut histogram = two_buckets();
            change(&mut histogram);
            histogram.validate().unwrap_err()
        };
        assert!(matches!(broken(|h| h.schema = 9), HistogramError::Schema { schema: 9 }));
        assert!(matches!(broken(|h| h.count = 7.0), HistogramError::Total { .. }));
        assert!(matches!(broken(|h| h.positive.counts[0] = -2.0), HistogramError::Count { .. }));
        assert!(matches!(broken(|h| h.positive.spans[1].offset = -1), HistogramError::SpanOffset { .. }));
        assert!(matches!(broken(|h| h.positive.spans[1].length = u32::MAX), HistogramError::SpanLength { .. }));
        assert!(matches!(broken(|h| h.custom_bounds = vec![1.0]), HistogramError::CustomBounds));
        assert!(matches!(broken(|h| h.count = 1e300), HistogramError::TooLarge));
    }
}
