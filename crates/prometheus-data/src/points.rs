//! What chunks and log records hold.

use pharos_model::{Exemplar, Histogram};

/// A float at an instant.
#[derive(Debug, Clone, Copy)]
pub struct FloatPoint {
    /// When, Unix milliseconds.
    pub timestamp_ms: i64,
    /// Start of the count, Unix milliseconds; 0 where unknown.
    pub start_ms: i64,
    /// The value; every bit counts.
    pub value: f64,
}

/// A native histogram at an instant.
#[derive(Debug, Clone)]
pub struct HistogramPoint {
    /// When, Unix milliseconds.
    pub timestamp_ms: i64,
    /// Start of the count, Unix milliseconds; 0 where unknown.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: Histogram,
}

/// Points of one series, each kind in the order it was read.
#[derive(Debug, Clone, Default)]
pub struct Points {
    /// Floats.
    pub floats: Vec<FloatPoint>,
    /// Native histograms.
    pub histograms: Vec<HistogramPoint>,
    /// Exemplars; only logs hold any.
    pub exemplars: Vec<Exemplar>,
}

impl Points {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }

    /// Floats and histograms together.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Keeps the points whose instant passes.
    pub fn retain(&mut self, keep: impl Fn(i64) -> bool) {
        self.floats.retain(|point| keep(point.timestamp_ms));
        self.histograms.retain(|point| keep(point.timestamp_ms));
        self.exemplars.retain(|exemplar| keep(exemplar.timestamp_ms));
    }
}
