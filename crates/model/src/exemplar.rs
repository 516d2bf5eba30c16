//! Exemplars: a sample's link to a trace.

use crate::Labels;

/// One observation that stands for many, usually with a `trace_id` label.
#[derive(Debug, Clone)]
pub struct Exemplar {
    /// Its own labels, apart from those of the series.
    pub labels: Labels,
    /// When, Unix milliseconds.
    pub timestamp_ms: i64,
    /// The observed value.
    pub value: f64,
}

impl PartialEq for Exemplar {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels
            && self.timestamp_ms == other.timestamp_ms
            && self.value.to_bits() == other.value.to_bits()
    }
}
