//! A batch of samples on its way in: flat columns, no allocation per series or sample.

use std::ops::Range;
use std::sync::Arc;

use crate::labels::{Fingerprint, LabelError, Labels, LabelsBuilder, fingerprint};
use crate::run_group::groups_left;
use crate::{Exemplar, Histogram, HistogramSample, MetricMetadata, RunGroup, Sample};

/// The labels of a run, in canonical form. [`MetricBatch::encoded_labels`] reads both.
#[derive(Debug, Clone)]
pub enum RunLabels {
    /// In the batch itself.
    Inline {
        /// Range in [`MetricBatch::label_bytes`].
        at: Range<usize>,
        /// Their hash, computed once.
        fingerprint: Fingerprint,
    },
    /// Shared with whoever met the series before. A store that keeps this very pointer knows the series again without
    /// looking at a byte ([`Labels::is_same`]).
    Shared(Labels),
}

impl RunLabels {
    const NONE: Self = Self::Inline { at: 0..0, fingerprint: 0 };
}

/// One series' share of a batch: ranges into the batch's columns.
#[derive(Debug, Clone)]
pub struct SeriesRun {
    /// What series it is.
    pub labels: RunLabels,
    /// Range in [`MetricBatch::samples`] (and in `start_ms`, where that is not empty).
    pub samples: Range<usize>,
    /// Range in [`MetricBatch::histograms`].
    pub histograms: Range<usize>,
    /// Range in [`MetricBatch::exemplars`].
    pub exemplars: Range<usize>,
}

impl SeriesRun {
    /// A run without labels and without anything in it, to be filled.
    #[must_use]
    pub fn empty() -> Self {
        Self { labels: RunLabels::NONE, samples: 0..0, histograms: 0..0, exemplars: 0..0 }
    }

    /// What it counts for where it is refused by itself: its samples and histograms, one at least.
    #[must_use]
    pub fn items(&self) -> u64 {
        (self.samples.len() + self.histograms.len()).max(1) as u64
    }
}

/// Samples, histograms, exemplars and metadata of one request, by series, in the order of arrival.
///
/// The same series may occur in several runs. Timestamps may be in any order.
#[derive(Debug, Clone, Default)]
pub struct MetricBatch {
    /// All series runs.
    pub series: Vec<SeriesRun>,
    /// Runs that stand or fall together, ascending and without overlap; each other one stands by itself.
    pub groups: Vec<RunGroup>,
    /// Encoded labels of all runs that have them inline, see [`Labels`].
    pub label_bytes: Vec<u8>,
    /// Float samples of all runs.
    pub samples: Vec<Sample>,
    /// Start timestamp of each sample in Unix milliseconds, 0 where unknown; empty if none is known.
    pub start_ms: Vec<i64>,
    /// Native histograms of all runs.
    pub histograms: Vec<HistogramSample>,
    /// Start timestamp of each histogram, as `start_ms`.
    pub histogram_start_ms: Vec<i64>,
    /// Exemplars of all runs.
    pub exemplars: Vec<Exemplar>,
    /// Metadata of metric families.
    pub metadata: Vec<MetricMetadata>,
}

impl MetricBatch {
    /// The encoded labels of a run.
    #[must_use]
    pub fn encoded_labels<'a>(&'a self, run: &'a SeriesRun) -> &'a [u8] {
        match &run.labels {
            RunLabels::Inline { at, .. } => &self.label_bytes[at.clone()],
            RunLabels::Shared(labels) => labels.encoded(),
        }
    }

    /// The labels of a run.
    ///
    /// # Errors
    /// [`LabelError::Encoding`] if inline ones are not canonical.
    pub fn labels(&self, run: &SeriesRun) -> Result<Labels, LabelError> {
        match &run.labels {
            RunLabels::Inline { .. } => Labels::from_encoded(self.encoded_labels(run)),
            RunLabels::Shared(labels) => Ok(labels.clone()),
        }
    }

    /// The hash of a run's encoded labels.
    #[must_use]
    pub fn fingerprint(&self, run: &SeriesRun) -> Fingerprint {
        match &run.labels {
            RunLabels::Inline { fingerprint, .. } => *fingerprint,
            RunLabels::Shared(labels) => labels.fingerprint(),
        }
    }

    /// Lets go of all labels: for a store that has found the series of every run.
    pub fn drop_labels(&mut self) {
        self.label_bytes = Vec::new();
        self.series.iter_mut().for_each(|run| run.labels = RunLabels::NONE);
    }

    /// Leaves out the runs whose place `keep` does not want, with all that is in them; metadata stays. Costs a copy of the rest.
    pub fn keep_series(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let before = std::mem::take(self);
        let kept: Vec<bool> = (0..before.series.len()).map(&mut keep).collect();
        let mut builder = BatchBuilder::with_room(before.series.len(), before.samples.len());
        let start = |column: &[i64], at: usize| column.get(at).copied().unwrap_or(0);
        for (run, _) in before.series.iter().zip(&kept).filter(|(_, kept)| **kept) {
            for at in run.samples.clone() {
                builder.push_sample(before.samples[at], start(&before.start_ms, at));
            }
            let to = &mut builder.batch;
            for at in run.histograms.clone() {
                push_start(&mut to.histogram_start_ms, to.histograms.len(), start(&before.histogram_start_ms, at));
                to.histograms.push(before.histograms[at].clone());
            }
            to.exemplars.extend_from_slice(&before.exemplars[run.exemplars.clone()]);
            match &run.labels {
                RunLabels::Inline { at, fingerprint } => {
                    builder.finish_series_known(&before.label_bytes[at.clone()], *fingerprint);
                }
                RunLabels::Shared(labels) => builder.finish_series_shared(labels),
            }
        }
        let groups = groups_left(&before.groups, &kept);
        *self = MetricBatch { groups, metadata: before.metadata, ..builder.build() };
    }

    /// Float samples and histograms together.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    /// Whether there is nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sample_count() == 0 && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Bytes this batch occupies, roughly: what queues and limits count.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.label_bytes.len()
            + size_of_val(self.series.as_slice())
            + size_of_val(self.groups.as_slice())
            + size_of_val(self.samples.as_slice())
            + 8 * (self.start_ms.len() + self.histogram_start_ms.len())
            + self.histograms.iter().map(|h| 128 + 8 * h.histogram.positive.counts.len()).sum::<usize>()
            + self.exemplars.iter().map(|exemplar| 48 + exemplar.labels.encoded().len()).sum::<usize>()
    }
}

/// Builds a [`MetricBatch`] series by series.
///
/// Per series: push samples, histograms and exemplars, then [`finish_series`](Self::finish_series)
/// with its labels, or [`discard_series`](Self::discard_series).
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: MetricBatch,
    samples_done: usize,
    histograms_done: usize,
    exemplars_done: usize,
}

impl BatchBuilder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty builder with room for so many series and samples.
    #[must_use]
    pub fn with_room(series: usize, samples: usize) -> Self {
        let mut builder = Self::default();
        builder.batch.series.reserve(series);
        builder.batch.samples.reserve(samples);
        builder
    }

    /// Adds a float sample to the current series; `start_ms` is 0 where unknown.
    #[inline]
    pub fn push_sample(&mut self, sample: Sample, start_ms: i64) {
        push_start(&mut self.batch.start_ms, self.batch.samples.len(), start_ms);
        self.batch.samples.push(sample);
    }

    /// Adds a native histogram to the current series; `start_ms` is 0 where unknown.
    pub fn push_histogram(&mut self, timestamp_ms: i64, histogram: Histogram, start_ms: i64) {
        push_start(&mut self.batch.histogram_start_ms, self.batch.histograms.len(), start_ms);
        self.batch.histograms.push(HistogramSample { timestamp_ms, histogram: Arc::new(histogram) });
    }

    /// Adds an exemplar to the current series.
    pub fn push_exemplar(&mut self, exemplar: Exemplar) {
        self.batch.exemplars.push(exemplar);
    }

    /// Exemplars of the current series so far.
    #[must_use]
    pub fn current_exemplars(&self) -> usize {
        self.batch.exemplars.len() - self.exemplars_done
    }

    /// Adds metadata of a metric family.
    pub fn push_metadata(&mut self, metadata: MetricMetadata) {
        self.batch.metadata.push(metadata);
    }

    /// Ends the current series; `labels` is emptied for the next one. Without a sample nothing is added.
    ///
    /// # Errors
    /// [`LabelError::Name`]: nothing of the series is kept.
    pub fn finish_series(&mut self, labels: &mut LabelsBuilder) -> Result<(), LabelError> {
        let start = self.batch.label_bytes.len();
        let encoded = labels.encode_into(&mut self.batch.label_bytes);
        labels.clear();
        match encoded {
            Ok(()) => {
                self.finish_run(start, fingerprint(&self.batch.label_bytes[start..]));
                Ok(())
            }
            Err(error) => {
                self.discard_series();
                Err(error)
            }
        }
    }

    /// As [`finish_series`](Self::finish_series), for labels that are encoded already.
    pub fn finish_series_encoded(&mut self, labels: &Labels) {
        self.finish_series_known(labels.encoded(), labels.fingerprint());
    }

    /// As [`finish_series`](Self::finish_series), for who has the canonical form of [`Labels`] and its
    /// [`fingerprint`](crate::fingerprint): stores take the bytes at their word.
    pub fn finish_series_known(&mut self, encoded: &[u8], fingerprint: Fingerprint) {
        debug_assert_eq!(fingerprint, crate::fingerprint(encoded), "the fingerprint is that of the labels");
        let start = self.batch.label_bytes.len();
        self.batch.label_bytes.extend_from_slice(encoded);
        self.finish_run(start, fingerprint);
    }

    /// As [`finish_series`](Self::finish_series), for labels that were met before.
    #[inline]
    pub fn finish_series_shared(&mut self, labels: &Labels) {
        self.push_run(|| RunLabels::Shared(labels.clone()));
    }

    /// Makes the runs since there were `runs_before` of them ([`series_count`](Self::series_count)) stand or fall together, and count for
    /// `items` of their sender's where they are refused.
    pub fn group_since(&mut self, runs_before: usize, items: u64) {
        let runs = runs_before..self.batch.series.len();
        if !runs.is_empty() {
            self.batch.groups.push(RunGroup { runs, added: 0..0, items });
        }
    }

    /// Drops what was pushed for the current series.
    pub fn discard_series(&mut self) {
        self.batch.samples.truncate(self.samples_done);
        self.batch.start_ms.truncate(self.samples_done);
        self.batch.histograms.truncate(self.histograms_done);
        self.batch.histogram_start_ms.truncate(self.histograms_done);
        self.batch.exemplars.truncate(self.exemplars_done);
    }

    /// Samples and histograms so far.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.batch.sample_count()
    }

    /// Runs so far.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.batch.series.len()
    }

    /// The labels of a run so far, if they are shared.
    #[must_use]
    #[inline]
    pub fn shared_labels(&self, run: usize) -> Option<&Labels> {
        match &self.batch.series.get(run)?.labels {
            RunLabels::Shared(labels) => Some(labels),
            RunLabels::Inline { .. } => None,
        }
    }

    /// The batch; where only some samples have start timestamps, the others have 0.
    #[must_use]
    pub fn build(mut self) -> MetricBatch {
        self.discard_series();
        pad_starts(&mut self.batch.start_ms, self.batch.samples.len());
        pad_starts(&mut self.batch.histogram_start_ms, self.batch.histograms.len());
        self.batch
    }

    fn finish_run(&mut self, labels_start: usize, fingerprint: Fingerprint) {
        let labels = RunLabels::Inline { at: labels_start..self.batch.label_bytes.len(), fingerprint };
        if !self.push_run(|| labels) {
            self.batch.label_bytes.truncate(labels_start);
        }
    }

    /// Adds a run of what was pushed since the last one; false if that is nothing.
    #[inline]
    fn push_run(&mut self, labels: impl FnOnce() -> RunLabels) -> bool {
        let batch = &mut self.batch;
        let samples = self.samples_done..batch.samples.len();
        let histograms = self.histograms_done..batch.histograms.len();
        let exemplars = self.exemplars_done..batch.exemplars.len();
        if samples.is_empty() && histograms.is_empty() && exemplars.is_empty() {
            return false;
        }
        self.samples_done = samples.end;
        self.histograms_done = histograms.end;
        self.exemplars_done = exemplars.end;
        batch.series.push(SeriesRun { labels: labels(), samples, histograms, exemplars });
        true
    }
}

/// Keeps the column empty until the first known start, as most senders give none.
fn push_start(column: &mut Vec<i64>, index: usize, start_ms: i64) {
    if start_ms != 0 {
        column.resize(index, 0);
        column.push(start_ms);
    } else if !column.is_empty() {
        column.resize(index, 0);
        column.push(0);
    }
}

fn pad_starts(column: &mut Vec<i64>, length: usize) {
    if !column.is_empty() {
        column.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(timestamp_ms: i64) -> Sample {
        Sample { timestamp_ms, value: 1.0 }
    }

    #[test]
    fn a_series_with_bad_labels_takes_its_samples_along() {
        let (mut builder, mut labels) = (BatchBuilder::new(), LabelsBuilder::default());
        builder.push_sample(sample(1), 0);
        labels.push("__name__", "good");
        builder.finish_series(&mut labels).unwrap();
        builder.push_sample(sample(2), 7);
        labels.push("twice", "1");
        labels.push("twice", "2");
        assert!(builder.finish_series(&mut labels).is_err());
        builder.push_sample(sample(3), 9);
        labels.push("__name__", "also_good");
        builder.finish_series(&mut labels).unwrap();
        let batch = builder.build();
        assert_eq!(batch.samples, [sample(1), sample(3)]);
        assert_eq!(batch.start_ms, [0, 9]);
        assert_eq!(batch.series.len(), 2);
        let names: Vec<_> = batch
            .series
            .iter()
            .map(|run| Labels::from_encoded(batch.encoded_labels(run)).unwrap().to_string())
            .collect();
        assert_eq!(names, ["good", "also_good"]);
    }

    #[test]
    fn series_are_left_out_with_all_that_is_in_them() {
        let labels = |name: &str| Labels::from_pairs([("__name__", name)]).unwrap();
        let mut builder = BatchBuilder::new();
        for (index, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let at = index as i64 + 1;
            builder.push_sample(sample(at), if name == "c" { 7 } else { 0 });
            builder.push_histogram(at, Histogram::empty(0), 10 * at);
            builder.push_exemplar(Exemplar { labels: labels("x"), timestamp_ms: at, value: 1.0 });
            if index % 2 == 0 {
                builder.finish_series_shared(&labels(name));
            } else {
                builder.finish_series_encoded(&labels(name));
            }
        }
        let mut batch = builder.build();
        batch.keep_series(|place| place % 3 != 0);
        let names: Vec<_> = batch.series.iter().map(|run| batch.labels(run).unwrap().to_string()).collect();
        assert_eq!((names, batch.samples.clone()), (vec!["b".to_owned(), "c".to_owned()], vec![sample(2), sample(3)]));
        assert_eq!((batch.start_ms.clone(), batch.histogram_start_ms.clone()), (vec![0, 7], vec![20, 30]));
        let second = &batch.series[1];
        assert_eq!((second.samples.clone(), second.histograms.clone(), second.exemplars.clone()), (1..2, 1..2, 1..2));
        assert_eq!(batch.exemplars[1].timestamp_ms, 3);
        batch.keep_series(|_| false);
        assert!(batch.is_empty());
    }

    #[test]
    fn shared_and_inline_labels_are_read_alike() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
        let mut builder = BatchBuilder::with_room(2, 2);
        builder.finish_series_shared(&labels);
        builder.push_sample(sample(1), 0);
        builder.finish_series_shared(&labels);
        builder.push_sample(sample(2), 0);
        builder.finish_series_encoded(&labels);
        let mut batch = builder.build();
        assert_eq!(batch.series.len(), 2, "nothing was pushed before the first");
        for run in &batch.series {
            assert_eq!(batch.encoded_labels(run), labels.encoded());
            assert_eq!(batch.fingerprint(run), labels.fingerprint());
        }
        assert!(matches!(&batch.series[0].labels, RunLabels::Shared(shared) if shared.is_same(&labels)));
        batch.drop_labels();
        assert_eq!(batch.series.iter().map(|run| batch.encoded_labels(run).len()).sum::<usize>(), 0);
    }

    #[test]
    fn samples_that_were_never_finished_are_dropped() {
        let mut builder = BatchBuilder::new();
        builder.push_sample(sample(1), 0);
        assert!(builder.build().is_empty());
    }
}
