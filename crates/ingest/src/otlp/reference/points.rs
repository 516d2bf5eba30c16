//! Data points: what each kind of OTLP point becomes.
//!
//! A point is checked as a whole before its first series is written: it is stored entirely or
//! refused as one.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    DataPointFlags, Exemplar as OtlpExemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint,
    SummaryDataPoint, exemplar, number_data_point,
};
use pharos_model::{
    BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Exemplar, Histogram, LabelsBuilder, METRIC_NAME, Sample, ns_to_ms,
    stale_nan,
};
use pharos_storage::RejectReason;

use super::Translator;
use super::attributes::text;
use crate::native::{SCHEMA_MAX, SideBuilder, downscale};
use crate::sink::{Refusal, exemplar_labels};
use crate::{IngestError, Limits};

/// Exemplars of a point that are looked at; SDKs keep one per bucket.
const EXEMPLARS_MAX: usize = 512;
/// What Prometheus takes where the sender names no width of the zero bucket.
const ZERO_THRESHOLD: f64 = 1e-128;
/// The longest suffix of a metric name, and the most labels, that a point's series add.
const SUFFIX_BYTES_MAX: usize = "_bucket".len();

/// When a point was taken.
#[derive(Debug, Clone, Copy)]
struct PointTime {
    at_ms: i64,
    start_ms: i64,
    /// Flag "no recorded value": the series ended.
    is_stale: bool,
}

impl PointTime {
    fn new(time_unix_nano: u64, start_time_unix_nano: u64, flags: u32) -> Self {
        let is_stale = flags & DataPointFlags::NoRecordedValueMask as u32 != 0;
        Self { at_ms: ns_to_ms(time_unix_nano), start_ms: ns_to_ms(start_time_unix_nano), is_stale }
    }

    fn sample(self, value: f64) -> Sample {
        Sample { timestamp_ms: self.at_ms, value: if self.is_stale { stale_nan() } else { value } }
    }
}

impl Translator<'_> {
    /// Gauges and sums.
    pub(super) fn number(&mut self, point: &NumberDataPoint, has_exemplars: bool) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let value = match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None if time.is_stale => 0.0,
            None => {
                let message = format!("data point of {} has no value", self.name);
                self.sink.reject(1, Refusal { reason: RejectReason::Unsupported, message });
                return Ok(());
            }
        };
        if !self.begin(time, &point.attributes, false)? {
            return Ok(());
        }
        if has_exemplars {
            self.exemplars(&point.exemplars, |_| true);
        }
        self.emit("", None, time, value)
    }

    /// An explicit-bucket histogram as Prometheus' classic one.
    pub(super) fn classic_histogram(&mut self, point: &HistogramDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if let Err(refusal) = check_bounds(point, self.sink.limits()) {
            self.sink.reject(1, refusal);
            return Ok(());
        }
        if !self.begin(time, &point.attributes, true)? {
            return Ok(());
        }
        if let Some(sum) = point.sum {
            self.emit("_sum", None, time, sum)?;
        }
        self.emit("_count", None, time, point.count as f64)?;
        let (mut cumulative, mut lower) = (0_u64, f64::NEG_INFINITY);
        for (&bound, &count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            cumulative = cumulative.saturating_add(count);
            self.exemplars(&point.exemplars, |value| lower < value && value <= bound);
            self.emit("_bucket", Some(("le", &bound.to_string())), time, cumulative as f64)?;
            lower = bound;
        }
        self.exemplars(&point.exemplars, |value| lower < value || value == f64::NEG_INFINITY || value.is_nan());
        self.emit("_bucket", Some(("le", "+Inf")), time, point.count as f64)
    }

    /// An explicit-bucket histogram as a native one with custom buckets.
    pub(super) fn custom_histogram(&mut self, point: &HistogramDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if let Err(refusal) = check_bounds(point, self.sink.limits()) {
            self.sink.reject(1, refusal);
            return Ok(());
        }
        let skipped = point.bucket_counts.iter().take_while(|count| **count == 0).count();
        let counts: Vec<f64> = point.bucket_counts[skipped..].iter().map(|count| *count as f64).collect();
        let span = BucketSpan { offset: skipped as i32, length: counts.len() as u32 };
        let spans = if counts.is_empty() { Vec::new() } else { vec![span] };
        let histogram = Histogram {
            is_integer: true,
            count: point.count as f64,
            sum: point.sum.unwrap_or(0.0),
            positive: BucketSide { spans, counts },
            custom_bounds: point.explicit_bounds.clone(),
            ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
        };
        self.native(time, &point.attributes, &point.exemplars, histogram)
    }

    /// An exponential histogram as a native one.
    pub(super) fn exponential_histogram(&mut self, point: &ExponentialHistogramDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let mut histogram = Histogram {
            is_integer: true,
            // A sender that names a width knows it; Prometheus itself ignores the field.
            zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD },
            zero_count: point.zero_count as f64,
            count: point.count as f64,
            sum: point.sum.unwrap_or(0.0),
            positive: side(point.positive.as_ref()),
            negative: side(point.negative.as_ref()),
            ..Histogram::empty(point.scale)
        };
        if point.scale > SCHEMA_MAX {
            downscale(&mut histogram);
        }
        self.native(time, &point.attributes, &point.exemplars, histogram)
    }

    /// A summary as its quantiles, sum and count.
    pub(super) fn summary(&mut self, point: &SummaryDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if !self.begin(time, &point.attributes, true)? {
            return Ok(());
        }
        self.emit("_sum", None, time, point.sum)?;
        self.emit("_count", None, time, point.count as f64)?;
        for value in &point.quantile_values {
            self.emit("", Some(("quantile", &value.quantile.to_string())), time, value.value)?;
        }
        Ok(())
    }

    fn native(
        &mut self,
        time: PointTime,
        attributes: &[KeyValue],
        exemplars: &[OtlpExemplar],
        histogram: Histogram,
    ) -> Result<(), IngestError> {
        let histogram = if time.is_stale { Histogram::stale() } else { histogram };
        if let Err(mut refusal) = self.sink.check_histogram(&histogram) {
            refusal.message = format!("{}: {}", self.name, refusal.message);
            self.sink.reject(1, refusal);
            return Ok(());
        }
        if !self.begin(time, attributes, false)? {
            return Ok(());
        }
        self.exemplars(exemplars, |_| true);
        self.sink.push_histogram(time.at_ms, histogram, time.start_ms);
        self.push_labels("", None);
        self.sink.finish_checked()
    }

    /// Prepares the point's labels; false if the point is refused, and counted.
    fn begin(&mut self, time: PointTime, attributes: &[KeyValue], has_suffixes: bool) -> Result<bool, IngestError> {
        match self.check(time, attributes, has_suffixes) {
            Ok(()) => {
                self.sink.labels.clear();
                let (first_ms, last_ms) = self.seen_ms.unwrap_or((time.at_ms, time.at_ms));
                self.seen_ms = Some((first_ms.min(time.at_ms), last_ms.max(time.at_ms)));
                Ok(true)
            }
            Err(refusal) => {
                self.sink.reject(1, refusal.clone());
                self.sink.discard(refusal)?;
                Ok(false)
            }
        }
    }

    fn check(&mut self, time: PointTime, attributes: &[KeyValue], has_suffixes: bool) -> Result<(), Refusal> {
        if let Some(reason) = self.sink.outside(time.at_ms) {
            return Err(self.sink.outside_refusal(reason, time.at_ms, &self.name));
        }
        let labels_max = self.sink.limits().labels_max;
        self.labels.build(attributes, &self.resource, &self.scope, self.settings, labels_max)?;
        self.push_labels("", None);
        let (labels_more, name_more) = if has_suffixes { (1, SUFFIX_BYTES_MAX) } else { (0, 0) };
        self.sink.check_labels(labels_more, name_more)?;
        let invalid = |error: pharos_model::LabelError| Refusal {
            reason: RejectReason::InvalidLabels,
            message: error.to_string(),
        };
        self.sink.labels.clone().build().map(drop).map_err(invalid)
    }

    fn push_labels(&mut self, suffix: &str, extra: Option<(&str, &str)>) {
        let labels = &mut self.sink.labels;
        for (name, value) in self.labels.base.pairs() {
            labels.push(name, value);
        }
        if suffix.is_empty() {
            labels.push(METRIC_NAME, &self.name);
        } else {
            self.name.push_str(suffix);
            labels.push(METRIC_NAME, &self.name);
            self.name.truncate(self.name.len() - suffix.len());
        }
        if let Some((name, value)) = extra {
            labels.set(name, value);
        }
    }

    fn emit(
        &mut self,
        suffix: &str,
        extra: Option<(&str, &str)>,
        time: PointTime,
        value: f64,
    ) -> Result<(), IngestError> {
        self.push_labels(suffix, extra);
        self.sink.push_sample(time.sample(value), time.start_ms);
        self.sink.finish_checked()
    }

    fn exemplars(&mut self, exemplars: &[OtlpExemplar], mut belongs: impl FnMut(f64) -> bool) {
        for exemplar in exemplars.iter().take(EXEMPLARS_MAX) {
            let value = match exemplar.value {
                Some(exemplar::Value::AsDouble(value)) => value,
                Some(exemplar::Value::AsInt(value)) => value as f64,
                None => 0.0,
            };
            if belongs(value) {
                let chars_max = self.sink.limits().exemplar_label_chars_max;
                match model_exemplar(exemplar, value, chars_max) {
                    Some(exemplar) => self.sink.push_exemplar(exemplar),
                    None => self.sink.drop_exemplar(),
                }
            }
        }
    }
}

/// The exemplar with its trace and span; its attributes only if all of them fit.
fn model_exemplar(exemplar: &OtlpExemplar, value: f64, chars_max: usize) -> Option<Exemplar> {
    let mut labels = LabelsBuilder::default();
    for (name, id) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        if id.iter().any(|byte| *byte != 0) {
            labels.push(name, &hex::encode(id));
        }
    }
    let chars = |name: &str, value: &str| name.chars().count() + value.chars().count();
    let linked: usize = labels.pairs().map(|(name, value)| chars(name, value)).sum();
    let attributes: Vec<_> = exemplar
        .filtered_attributes
        .iter()
        .map(|attribute| (&*attribute.key, text(attribute.value.as_ref())))
        .collect();
    if linked + attributes.iter().map(|(name, value)| chars(name, value)).sum::<usize>() <= chars_max {
        for (name, value) in attributes {
            if !labels.contains(name) {
                labels.push(name, &value);
            }
        }
    }
    let timestamp_ms = ns_to_ms(exemplar.time_unix_nano);
    exemplar_labels(&mut labels).map(|labels| Exemplar { labels, timestamp_ms, value })
}

/// Bounds ascend and are finite, and there is one bucket more than bounds, or none at all.
fn check_bounds(point: &HistogramDataPoint, limits: &Limits) -> Result<(), Refusal> {
    let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
    let (count, limit) = (bounds.len().max(counts.len()), limits.histogram_buckets_max);
    if count > limit {
        let message = format!("histogram has {count} buckets, more than ingest.limits.histogram_buckets_max = {limit}");
        return Err(Refusal { reason: RejectReason::Limit, message });
    }
    let message = if !bounds.is_sorted_by(|a, b| a < b) || bounds.iter().any(|bound| !bound.is_finite()) {
        "histogram bounds must ascend and be finite"
    } else if counts.len() != bounds.len() + 1 && !(counts.is_empty() && bounds.is_empty()) {
        "histogram must have one bucket count more than bounds"
    } else {
        return Ok(());
    };
    Err(Refusal { reason: RejectReason::InvalidHistogram, message: message.to_owned() })
}

/// OTLP's bucket `i` covers `(base^i, base^(i+1)]`, Prometheus' `(base^(i-1), base^i]`.
fn side(buckets: Option<&Buckets>) -> BucketSide {
    let mut builder = SideBuilder::default();
    if let Some(buckets) = buckets {
        for (index, &count) in buckets.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let index = i64::from(buckets.offset) + index as i64 + 1;
            builder.push(index.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32, count as f64);
        }
    }
    builder.build()
}
