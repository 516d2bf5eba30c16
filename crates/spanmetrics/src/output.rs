//! Series on their way to the metrics store, in batches of bounded size.

use pharos_model::{BatchBuilder, Exemplar, Histogram, Labels, MetricBatch, MetricMetadata, Sample};

/// Samples after which a batch is handed on.
const BATCH_SAMPLES_MAX: usize = 4_096;

/// What has been written and not handed on yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    builder: BatchBuilder,
}

impl Output {
    pub(crate) fn sample(&mut self, sample: Sample, start_ms: i64) {
        self.builder.push_sample(sample, start_ms);
    }

    pub(crate) fn histogram(&mut self, at_ms: i64, histogram: Histogram, start_ms: i64) {
        self.builder.push_histogram(at_ms, histogram, start_ms);
    }

    pub(crate) fn exemplar(&mut self, exemplar: Exemplar) {
        self.builder.push_exemplar(exemplar);
    }

    pub(crate) fn metadata(&mut self, metadata: MetricMetadata) {
        self.builder.push_metadata(metadata);
    }

    /// Ends the series that the samples since the last call belong to.
    pub(crate) fn finish(&mut self, labels: &Labels) {
        self.builder.finish_series_shared(labels);
    }

    /// Whether it is time to hand on what there is.
    pub(crate) fn is_full(&self) -> bool {
        self.builder.sample_count() >= BATCH_SAMPLES_MAX
    }

    /// What there is.
    pub(crate) fn take(&mut self) -> MetricBatch {
        std::mem::take(&mut self.builder).build()
    }
}
