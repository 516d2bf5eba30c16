//! Where all translators put series: checks limits once, builds the batch, counts what is refused.
//!
//! Invariants
//! - K1 What comes out is sound: canonical labels with a metric name and inside the limits, valid
//!   histograms, timestamps inside the window. Stores need not look again.
//! - K2 Every sample pushed is either in the batch or counted in exactly one rejection; every exemplar is in the batch or counted as
//!   dropped. A series that is refused for its labels is told even if it has exemplars alone.
//! - K3 What a batch takes in memory is counted while it grows: label text against `label_bytes_max`, everything else against
//!   `decoded_max`, and so is what decoders hold beside it ([`charge`](SeriesSink::charge)).

use pharos_model::{
    BatchBuilder, BucketSide, BucketSpan, Exemplar, Fingerprint, Histogram, Labels, LabelsBuilder, METRIC_NAME,
    MetricBatch, MetricKind, MetricMetadata, Sample,
};
use pharos_storage::{AppendOutcome, RejectReason, Rejection};

use crate::limits::cut;
use crate::{Duplicates, IngestError, Limits, TimeWindow};

/// What a series takes in a batch beside its label text.
const SERIES_BYTES: u64 = 128;
/// What a sample or a histogram takes in the columns of a batch, start included; twice, as columns grow by copying.
const SAMPLE_BYTES: u64 = 48;
/// No message of a sample takes less of a body: tag and length.
const SAMPLE_MESSAGE_BYTES_MIN: u64 = 2;
/// What a histogram takes beside its buckets: itself, and two counts of those who share it.
const HISTOGRAM_BYTES: usize = size_of::<Histogram>() + 16;
/// What an exemplar takes in a batch beside its labels, and what allocations waste.
const EXEMPLAR_BYTES: usize = 2 * size_of::<Exemplar>() + 64;
/// What metadata takes beside its texts, and what allocations waste.
const METADATA_BYTES: usize = 2 * size_of::<MetricMetadata>() + 48;
/// Longest example of a series in a message, bytes.
const EXAMPLE_BYTES_MAX: usize = 256;

/// A translated request: what to store, and what of it was refused.
#[derive(Debug, Clone, Default)]
pub struct DecodedMetrics {
    /// What to store.
    pub batch: MetricBatch,
    /// What is refused, by reason.
    pub rejections: Vec<Rejection>,
    /// Exemplars left out because they break a rule; never a reason to refuse their sample.
    pub exemplars_dropped: u64,
    /// What the sender should know although nothing was refused.
    pub warnings: Vec<String>,
    /// Whether a run of the batch counts up from zero since its start, by its place; empty where nobody asked.
    pub counted: Vec<bool>,
    /// What was left out because another replica of a pair brings it.
    pub duplicates: Duplicates,
}

impl DecodedMetrics {
    /// Leaves out the runs of the batch whose place `keep` does not want, with all that is in them and is known of them.
    pub fn keep_series(&mut self, keep: impl Fn(usize) -> bool) {
        self.batch.keep_series(&keep);
        let mut places = 0..;
        self.counted.retain(|_| places.next().is_some_and(&keep));
    }
}

/// Builds a batch series by series.
#[derive(Debug)]
pub(crate) struct SeriesSink<'a> {
    /// Labels of the current series.
    pub labels: LabelsBuilder,
    /// Whether the current series, and those after it, count up from zero since their start.
    pub counts: bool,
    limits: &'a Limits,
    window: TimeWindow,
    builder: BatchBuilder,
    refused: AppendOutcome,
    exemplars_dropped: u64,
    label_bytes: u64,
    /// What the request may still take in memory beside label text.
    memory_left: u64,
    kept: u64,
    late: [Late; 2],
    /// [`DecodedMetrics::counted`], if it is asked for.
    counted: Option<Vec<bool>>,
}

/// Samples of the current series on one side of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    count: u64,
    example_ms: i64,
}

const LATE_REASONS: [RejectReason; 2] = [RejectReason::TooOld, RejectReason::TooNew];

/// Why a label set is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: RejectReason,
    pub message: String,
}

impl<'a> SeriesSink<'a> {
    pub(crate) fn new(limits: &'a Limits, window: TimeWindow) -> Self {
        Self::with_room(limits, window, 0)
    }

    /// With room for so many series of a sample each.
    pub(crate) fn with_room(limits: &'a Limits, window: TimeWindow, series: usize) -> Self {
        Self {
            labels: LabelsBuilder::default(),
            counts: false,
            counted: None,
            limits,
            window,
            builder: BatchBuilder::with_room(series, series),
            refused: AppendOutcome::default(),
            exemplars_dropped: 0,
            label_bytes: 0,
            memory_left: limits.decoded_max.0,
            kept: 0,
            late: [Late::default(); 2],
        }
    }

    /// The same; if `is_asked`, it notes which series count up from zero.
    pub(crate) fn noting_counts(mut self, is_asked: bool) -> Self {
        self.counted = is_asked.then(Vec::new);
        self
    }

    pub(crate) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// After a series of the batch: notes whether it counts up.
    #[inline]
    fn note_counts(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.resize(self.builder.series_count(), self.counts);
        }
    }

    /// Series of the batch so far.
    pub(crate) fn series_count(&self) -> usize {
        self.builder.series_count()
    }

    /// The labels of a run, if they are shared.
    #[inline]
    pub(crate) fn shared_labels(&self, run: usize) -> Option<&Labels> {
        self.builder.shared_labels(run)
    }

    /// Makes the series since there were `series_before` of them one item, or what is made of others (0): they are stored together
    /// or not at all.
    pub(crate) fn group_since(&mut self, series_before: usize, items: u64) {
        self.builder.group_since(series_before, items);
    }

    /// Samples and histograms in the batch so far.
    pub(crate) fn sample_count(&self) -> usize {
        self.builder.sample_count()
    }

    /// Bytes of label text so far, as `label_bytes_max` counts them.
    pub(crate) fn label_bytes(&self) -> u64 {
        self.label_bytes
    }

    /// Fails if the request may not take so much memory more.
    ///
    /// # Errors
    /// [`IngestError::BatchTooLarge`]: `decoded_max` would be passed.
    pub(crate) fn require(&self, bytes: u64) -> Result<(), IngestError> {
        if bytes <= self.memory_left { Ok(()) } else { Err(beyond_memory(self.limits)) }
    }

    /// Counts memory that the request takes, in the batch or beside it.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    #[inline]
    pub(crate) fn charge(&mut self, bytes: u64) -> Result<(), IngestError> {
        self.memory_left = self.memory_left.checked_sub(bytes).ok_or_else(|| beyond_memory(self.limits))?;
        Ok(())
    }

    /// Fails if the samples of a series' message may not be held, before any is read: they are counted when the series ends.
    /// `count` tells how many there are; it is asked only where as many as the message has room for would be too many.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    #[inline]
    pub(crate) fn require_samples(&self, message_bytes: usize, count: impl FnOnce() -> u64) -> Result<(), IngestError> {
        let count_max = message_bytes as u64 / SAMPLE_MESSAGE_BYTES_MIN;
        if count_max.saturating_mul(SAMPLE_BYTES) <= self.memory_left {
            return Ok(());
        }
        self.require(count().saturating_mul(SAMPLE_BYTES))
    }

    /// Why a sample of this instant is refused, if it is.
    pub(crate) fn outside(&self, timestamp_ms: i64) -> Option<RejectReason> {
        if timestamp_ms < self.window.min_ms {
            Some(RejectReason::TooOld)
        } else if timestamp_ms > self.window.max_ms || timestamp_ms == i64::MAX {
            // The last instant of all is in no half-open range: it could be stored and never be read.
            Some(RejectReason::TooNew)
        } else {
            None
        }
    }

    fn admit(&mut self, timestamp_ms: i64) -> bool {
        let Some(reason) = self.outside(timestamp_ms) else {
            self.kept += 1;
            return true;
        };
        let late = &mut self.late[usize::from(reason == RejectReason::TooNew)];
        late.count += 1;
        late.example_ms = timestamp_ms;
        false
    }

    pub(crate) fn push_sample(&mut self, sample: Sample, start_ms: i64) {
        if self.admit(sample.timestamp_ms) {
            self.builder.push_sample(sample, start_ms);
        }
    }

    /// Adds a histogram that [`check_histogram`](Self::check_histogram) passed, or counts why not.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn push_histogram(
        &mut self,
        timestamp_ms: i64,
        histogram: Histogram,
        start_ms: i64,
    ) -> Result<(), IngestError> {
        if let Err(refusal) = self.check_histogram(&histogram) {
            self.reject(1, refusal);
        } else if self.admit(timestamp_ms) {
            self.charge(histogram_bytes(&histogram) as u64)?;
            self.builder.push_histogram(timestamp_ms, histogram, start_ms);
        }
        Ok(())
    }

    pub(crate) fn check_histogram(&self, histogram: &Histogram) -> Result<(), Refusal> {
        let limit = self.limits.histogram_buckets_max;
        let Histogram { positive, negative, custom_bounds, .. } = histogram;
        // Readers stop at one more than the limit: nobody knows how many there were.
        for (what, count) in [
            ("buckets", positive.counts.len() + negative.counts.len()),
            ("spans of buckets", positive.spans.len().max(negative.spans.len())),
            ("bounds of buckets", custom_bounds.len()),
        ] {
            if count > limit {
                let message =
                    format!("native histogram has more {what} than ingest.limits.histogram_buckets_max = {limit}");
                return Err(Refusal { reason: RejectReason::Limit, message });
            }
        }
        let invalid = |error: pharos_model::HistogramError| Refusal {
            reason: RejectReason::InvalidHistogram,
            message: error.to_string(),
        };
        histogram.validate().map_err(invalid)
    }

    /// Adds an exemplar, or drops it: too many characters, or outside the window.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn push_exemplar(&mut self, exemplar: Exemplar) -> Result<(), IngestError> {
        let chars: usize =
            exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if chars > self.limits.exemplar_label_chars_max || self.outside(exemplar.timestamp_ms).is_some() {
            self.drop_exemplar();
        } else {
            self.charge((EXEMPLAR_BYTES + exemplar.labels.encoded().len()) as u64)?;
            self.builder.push_exemplar(exemplar);
        }
        Ok(())
    }

    pub(crate) fn drop_exemplar(&mut self) {
        self.exemplars_dropped += 1;
    }

    /// Adds metadata; help and unit are cut at their limit, a family without a usable name is left out.
    ///
    /// # Errors
    /// As [`require`](Self::require): a few bytes of a message can name a long text again and again.
    pub(crate) fn push_metadata(
        &mut self,
        metric: &str,
        kind: MetricKind,
        help: &str,
        unit: &str,
    ) -> Result<(), IngestError> {
        if metric.is_empty() || metric.len() > self.limits.label_value_bytes_max {
            return Ok(());
        }
        let [help, unit] = [help, unit].map(|text| cut(text, self.limits.help_bytes_max));
        self.charge((METADATA_BYTES + metric.len() + help.len() + unit.len()) as u64)?;
        self.builder.push_metadata(MetricMetadata {
            metric: metric.to_owned(),
            kind,
            help: help.to_owned(),
            unit: unit.to_owned(),
        });
        Ok(())
    }

    /// Adds a label to the current series. One more than a series may have is kept, so that the series is refused.
    #[inline]
    pub(crate) fn push_label(&mut self, name: &str, value: &str) {
        if self.labels.count() <= self.limits.labels_max {
            self.labels.push(name, value);
        }
    }

    /// Checks the current labels, as if they had `labels_more` labels and a metric name of `name_more`
    /// bytes more than they have.
    pub(crate) fn check_labels(&self, labels_more: usize, name_more: usize) -> Result<(), Refusal> {
        let (mut count, mut named) = (labels_more, false);
        for (name, value) in self.labels.pairs() {
            count += 1;
            let is_metric_name = name == METRIC_NAME;
            named |= is_metric_name;
            let value_more = if is_metric_name { name_more } else { 0 };
            check_pair(name, value.len() + value_more, self.limits).map_err(|message| self.limit(&message))?;
        }
        if count > self.limits.labels_max {
            let limit = self.limits.labels_max;
            return Err(self.limit(&format!("series has more labels than ingest.limits.labels_max = {limit}")));
        }
        if !named {
            let message = format!("series has no metric name (label {METRIC_NAME}): {}", example(&self.labels));
            return Err(Refusal { reason: RejectReason::InvalidLabels, message });
        }
        Ok(())
    }

    fn limit(&self, message: &str) -> Refusal {
        Refusal { reason: RejectReason::Limit, message: format!("{message}: {}", example(&self.labels)) }
    }

    /// Ends the current series: its samples are in the batch, or counted.
    ///
    /// # Errors
    /// [`IngestError::BatchTooLarge`]: the request as a whole is too much.
    pub(crate) fn finish(&mut self) -> Result<(), IngestError> {
        match self.check_labels(0, 0) {
            Ok(()) => self.finish_checked(),
            Err(refusal) => self.discard(refusal),
        }
    }

    /// As [`finish`](Self::finish), after [`check_labels`](Self::check_labels) passed.
    pub(crate) fn finish_checked(&mut self) -> Result<(), IngestError> {
        self.count_label_bytes()?;
        self.reject_late();
        let (kept, exemplars) = (std::mem::take(&mut self.kept), self.builder.current_exemplars() as u64);
        if let Err(error) = self.builder.finish_series(&mut self.labels) {
            self.exemplars_dropped += exemplars;
            self.reject(
                kept.max(exemplars.min(1)),
                Refusal { reason: RejectReason::InvalidLabels, message: error.to_string() },
            );
        }
        self.note_counts();
        Ok(())
    }

    /// As [`finish`](Self::finish), for `count` labels that are sound and inside the limits.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) fn finish_shared(&mut self, labels: &Labels, count: usize) -> Result<(), IngestError> {
        // Each text is longer by its length, mostly one byte.
        self.add_label_bytes((labels.encoded().len() - 2 * count) as u64)?;
        if self.late.iter().any(|late| late.count > 0) {
            for (name, value) in labels.iter() {
                self.labels.push(name, value);
            }
            self.reject_late();
            self.labels.clear();
        }
        self.kept = 0;
        self.builder.finish_series_shared(labels);
        self.note_counts();
        Ok(())
    }

    /// As [`finish_shared`](Self::finish_shared), for canonical labels of `text_bytes` whose hash is known too. No sample of
    /// the series is outside the window.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) fn finish_known(
        &mut self,
        encoded: &[u8],
        fingerprint: Fingerprint,
        text_bytes: u32,
    ) -> Result<(), IngestError> {
        self.add_label_bytes(u64::from(text_bytes))?;
        self.kept = 0;
        self.builder.finish_series_known(encoded, fingerprint);
        self.note_counts();
        Ok(())
    }

    /// As [`finish`](Self::finish); `look_up` answers the shared form of the labels, `encoded` is scratch.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) fn finish_looked_up(
        &mut self,
        encoded: &mut Vec<u8>,
        look_up: impl FnOnce(&[u8]) -> Labels,
    ) -> Result<(), IngestError> {
        encoded.clear();
        match self.check_labels(0, 0) {
            Err(refusal) => self.discard(refusal),
            // Finds the words for what is wrong.
            Ok(()) if self.labels.encode_into(encoded).is_err() => self.finish_checked(),
            Ok(()) => {
                let count = self.labels.pairs().count();
                self.labels.clear();
                self.finish_shared(&look_up(encoded), count)
            }
        }
    }

    /// Drops the current series; all its samples count as refused for this reason. One of exemplars alone counts as one.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) fn discard(&mut self, refusal: Refusal) -> Result<(), IngestError> {
        let count_min = self.builder.current_exemplars().min(1);
        self.discard_counted(refusal, count_min as u64)
    }

    /// As [`discard`](Self::discard), of a series in which nothing was counted yet: it counts as one at least.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub(crate) fn refuse(&mut self, refusal: Refusal) -> Result<(), IngestError> {
        self.discard_counted(refusal, 1)
    }

    fn discard_counted(&mut self, refusal: Refusal, count_min: u64) -> Result<(), IngestError> {
        self.count_label_bytes()?;
        let late: u64 = std::mem::take(&mut self.late).iter().map(|late| late.count).sum();
        let count = (std::mem::take(&mut self.kept) + late).max(count_min);
        self.exemplars_dropped += self.builder.current_exemplars() as u64;
        self.builder.discard_series();
        self.labels.clear();
        self.reject(count, refusal);
        Ok(())
    }

    fn reject_late(&mut self) {
        for (late, reason) in std::mem::take(&mut self.late).into_iter().zip(LATE_REASONS) {
            if late.count > 0 {
                let message = || outside_message(reason, late.example_ms, self.window, &example(&self.labels));
                self.refused.reject(reason, late.count, message);
            }
        }
    }

    fn count_label_bytes(&mut self) -> Result<(), IngestError> {
        self.add_label_bytes(self.labels.pairs().map(|(name, value)| name.len() + value.len()).sum::<usize>() as u64)
    }

    /// Counts what ends with a series: its samples, and text that was copied, kept or not: work is bounded as well as memory.
    fn add_label_bytes(&mut self, text: u64) -> Result<(), IngestError> {
        self.charge(self.kept.saturating_mul(SAMPLE_BYTES))?;
        let limit = self.limits.label_bytes_max.0;
        self.label_bytes += SERIES_BYTES + text;
        if self.label_bytes > limit {
            let (what, setting) = ("bytes of label text", "ingest.limits.label_bytes_max");
            return Err(IngestError::BatchTooLarge { what, setting, limit });
        }
        Ok(())
    }

    /// Counts items as refused.
    pub(crate) fn reject(&mut self, count: u64, refusal: Refusal) {
        if count > 0 {
            self.refused.reject(refusal.reason, count, || refusal.message);
        }
    }

    pub(crate) fn build(self) -> DecodedMetrics {
        DecodedMetrics {
            batch: self.builder.build(),
            rejections: self.refused.rejections,
            exemplars_dropped: self.exemplars_dropped,
            warnings: Vec::new(),
            counted: self.counted.unwrap_or_default(),
            duplicates: Duplicates::default(),
        }
    }

    /// Why a point of `what` at this instant is refused, in words.
    pub(crate) fn outside_refusal(&self, reason: RejectReason, timestamp_ms: i64, what: &str) -> Refusal {
        Refusal { reason, message: outside_message(reason, timestamp_ms, self.window, what) }
    }
}

/// Checks the length of one label; the error says what is wrong.
fn check_pair(name: &str, value_bytes: usize, limits: &Limits) -> Result<(), String> {
    let (name_max, value_max) = (limits.label_name_bytes_max, limits.label_value_bytes_max);
    let start = cut(name, 64);
    if name.len() > name_max {
        let length = name.len();
        return Err(format!(
            "label name {start:?}… has {length} bytes, more than ingest.limits.label_name_bytes_max = {name_max}"
        ));
    }
    if value_bytes > value_max {
        return Err(format!(
            "value of label {start:?} has {value_bytes} bytes, more than ingest.limits.label_value_bytes_max = {value_max}"
        ));
    }
    Ok(())
}

/// Checks labels that many series are to share, before they are copied into each.
pub(crate) fn check_shared(pairs: &[(String, String)], limits: &Limits) -> Result<(), Refusal> {
    let refuse = |message| Refusal { reason: RejectReason::Limit, message };
    if pairs.len() > limits.labels_max {
        let (count, limit) = (pairs.len(), limits.labels_max);
        return Err(refuse(format!(
            "{count} labels of resource or scope, more than ingest.limits.labels_max = {limit}"
        )));
    }
    pairs.iter().try_for_each(|(name, value)| check_pair(name, value.len(), limits).map_err(refuse))
}

/// What is told where a request takes more memory than it may.
pub(crate) fn beyond_memory(limits: &Limits) -> IngestError {
    let (what, setting) = ("bytes of memory", "ingest.limits.decoded_max");
    IngestError::BatchTooLarge { what, setting, limit: limits.decoded_max.0 }
}

/// What a histogram takes beside its place in a column.
fn histogram_bytes(histogram: &Histogram) -> usize {
    let side =
        |side: &BucketSide| size_of::<BucketSpan>() * side.spans.capacity() + size_of::<f64>() * side.counts.capacity();
    let bounds = size_of::<f64>() * histogram.custom_bounds.capacity();
    HISTOGRAM_BYTES + side(&histogram.positive) + side(&histogram.negative) + bounds
}

/// Labels as text for a message, cut.
fn example(labels: &LabelsBuilder) -> String {
    let text = labels.clone().build().unwrap_or_default().to_string();
    let start = cut(&text, EXAMPLE_BYTES_MAX);
    if start.len() < text.len() { format!("{start}…") } else { text }
}

fn outside_message(reason: RejectReason, timestamp_ms: i64, window: TimeWindow, what: &str) -> String {
    if reason == RejectReason::TooOld {
        format!("sample at {timestamp_ms} ms is older than retention keeps ({} ms): {what}", window.min_ms)
    } else {
        format!(
            "sample at {timestamp_ms} ms is too far ahead of the server's clock (at most {} ms): {what}",
            window.max_ms
        )
    }
}

/// Labels of an exemplar; `None` if they are no label set.
pub(crate) fn exemplar_labels(builder: &mut LabelsBuilder) -> Option<Labels> {
    let labels = builder.build().ok();
    builder.clear();
    labels
}

/// The sum of all rejections.
pub(crate) fn rejected(rejections: &[Rejection]) -> u64 {
    rejections.iter().map(|rejection| rejection.count).sum()
}
