//! Windows: the samples of `(t − range, t]`, moved along a series step by step.

use pharos_model::{HistogramSample, Labels};

use super::plan::TimeShift;
use super::select::Samples;

/// The samples that one step of a range function sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) labels: &'a Labels,
    pub(super) times_ms: &'a [i64],
    pub(super) values: &'a [f64],
    /// Start timestamps of the floats; empty where none is known.
    pub(super) starts_ms: &'a [i64],
    pub(super) histograms: &'a [HistogramSample],
    pub(super) histogram_starts_ms: &'a [i64],
    /// Just before the first instant inside.
    pub(super) after_ms: i64,
    /// Last instant inside.
    pub(super) end_ms: i64,
    /// The step for which this is evaluated.
    pub(super) step_ms: i64,
    /// Length, as the query says.
    pub(super) range_ms: i64,
}

/// Moves a window over a series. Steps must not fall.
#[derive(Debug)]
pub(super) struct Slider<'a> {
    samples: &'a Samples,
    time: TimeShift,
    range_ms: i64,
    floats: Bounds,
    histograms: Bounds,
}

/// Half-open range of indexes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Bounds {
    /// Moves both ends forward so that the times in `(after, end]` are inside.
    pub(super) fn advance(&mut self, after_ms: i64, end_ms: i64, len: usize, time: impl Fn(usize) -> i64) {
        while self.high < len && time(self.high) <= end_ms {
            self.high += 1;
        }
        while self.low < self.high && time(self.low) <= after_ms {
            self.low += 1;
        }
    }

    pub(super) fn len(self) -> usize {
        self.high - self.low
    }
}

impl<'a> Slider<'a> {
    pub(super) fn new(samples: &'a Samples, time: TimeShift, range_ms: i64) -> Self {
        Self { samples, time, range_ms, floats: Bounds::default(), histograms: Bounds::default() }
    }

    /// The window of `step_ms`.
    pub(super) fn window(&mut self, step_ms: i64) -> Window<'a> {
        let samples = self.samples;
        let end_ms = self.time.apply(step_ms);
        let after_ms = end_ms.saturating_sub(self.range_ms);
        self.floats.advance(after_ms, end_ms, samples.times_ms.len(), |at| samples.times_ms[at]);
        self.histograms.advance(after_ms, end_ms, samples.histograms.len(), |at| samples.histograms[at].timestamp_ms);
        let (floats, histograms) = (self.floats.low..self.floats.high, self.histograms.low..self.histograms.high);
        Window {
            labels: &samples.labels,
            times_ms: &samples.times_ms[floats.clone()],
            values: &samples.values[floats.clone()],
            starts_ms: samples.starts_ms.get(floats).unwrap_or_default(),
            histograms: &samples.histograms[histograms.clone()],
            histogram_starts_ms: samples.histogram_starts_ms.get(histograms).unwrap_or_default(),
            after_ms,
            end_ms,
            step_ms,
            range_ms: self.range_ms,
        }
    }
}

impl Window<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.histograms.is_empty()
    }

    /// Start timestamp of float number `at`; 0 where unknown.
    pub(super) fn start_ms(&self, at: usize) -> i64 {
        self.starts_ms.get(at).copied().unwrap_or(0)
    }

    /// Start timestamp of histogram number `at`; 0 where unknown.
    pub(super) fn histogram_start_ms(&self, at: usize) -> i64 {
        self.histogram_starts_ms.get(at).copied().unwrap_or(0)
    }
}
