//! Samples: one instant, one value.

use std::sync::Arc;

use crate::Histogram;

/// The bit pattern of the NaN that says "this series ended here" (Prometheus' staleness marker).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker as a value.
#[must_use]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker; other NaNs are ordinary values.
#[must_use]
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One timestamp (Unix milliseconds) and one value of a series.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The value; every bit counts, NaN payloads included.
    pub value: f64,
}

impl PartialEq for Sample {
    /// Equality of bits, so that a stale marker equals itself and `-0.0` differs from `0.0`.
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.value.to_bits() == other.value.to_bits()
    }
}

/// One timestamp (Unix milliseconds) and one native histogram of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// When, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The histogram; shared, because batches, heads and results hand it on.
    pub histogram: Arc<Histogram>,
}
