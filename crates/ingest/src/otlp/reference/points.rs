//! Data points: what each kind of OTLP point becomes.
//!
//! A point is checked as a whole before its first series is written: it is stored entirely or
//! refused as one.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar as OtlpExemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, SummaryDataPoint,
    exemplar, number_data_point,
};
use pharos_model::{Histogram, METRIC_NAME};
use pharos_storage::RejectReason;

use super::{Translator, messages};
use crate::IngestError;
use crate::otlp::attribute::Attribute;
use crate::otlp::labels::{check_count, point_labels};
use crate::otlp::point_rules::{
    self, EXEMPLARS_MAX, ExemplarPoint, Exponential, PointTime, check_bounds, check_quantiles, custom, exponential,
    side,
};
use crate::sink::Refusal;

/// The longest suffix of a metric name, and the most labels, that a point's series add.
const SUFFIX_BYTES_MAX: usize = "_bucket".len();

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
            self.exemplars(&point.exemplars, |_| true)?;
        }
        self.emit("", None, time, value)
    }

    /// An explicit-bucket histogram as Prometheus' classic one.
    pub(super) fn classic_histogram(&mut self, point: &HistogramDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if let Err(refusal) = check_bounds(&point.explicit_bounds, &point.bucket_counts, self.limits) {
            self.sink.reject(1, refusal);
            return Ok(());
        }
        if !self.begin(time, &point.attributes, true)? {
            return Ok(());
        }
        let before = self.sink.series_count();
        if let Some(sum) = point.sum {
            self.emit("_sum", None, time, sum)?;
        }
        self.emit("_count", None, time, point.count as f64)?;
        let (mut cumulative, mut lower) = (0_u64, f64::NEG_INFINITY);
        for (&bound, &count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            cumulative = cumulative.saturating_add(count);
            self.exemplars(&point.exemplars, |value| lower < value && value <= bound)?;
            self.emit("_bucket", Some(("le", &bound.to_string())), time, cumulative as f64)?;
            lower = bound;
        }
        self.exemplars(&point.exemplars, |value| lower < value || value == f64::NEG_INFINITY || value.is_nan())?;
        self.emit("_bucket", Some(("le", "+Inf")), time, point.count as f64)?;
        self.sink.group_since(before, 1);
        Ok(())
    }

    /// An explicit-bucket histogram as a native one with custom buckets.
    pub(super) fn custom_histogram(&mut self, point: &HistogramDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if let Err(refusal) = check_bounds(&point.explicit_bounds, &point.bucket_counts, self.limits) {
            self.sink.reject(1, refusal);
            return Ok(());
        }
        let histogram = custom(point.explicit_bounds.clone(), &point.bucket_counts, point.count, point.sum);
        self.native(time, &point.attributes, &point.exemplars, histogram)
    }

    /// An exponential histogram as a native one.
    pub(super) fn exponential_histogram(&mut self, point: &ExponentialHistogramDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        let numbers = Exponential {
            count: point.count,
            sum: point.sum,
            scale: point.scale,
            zero_count: point.zero_count,
            zero_threshold: point.zero_threshold,
        };
        let buckets = |buckets: Option<&Buckets>| {
            buckets.map(|found| side(found.offset, found.bucket_counts.iter().copied())).unwrap_or_default()
        };
        let histogram = exponential(numbers, buckets(point.positive.as_ref()), buckets(point.negative.as_ref()));
        self.native(time, &point.attributes, &point.exemplars, histogram)
    }

    /// A summary as its quantiles, sum and count.
    pub(super) fn summary(&mut self, point: &SummaryDataPoint) -> Result<(), IngestError> {
        let time = PointTime::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
        if let Err(refusal) = check_quantiles(point.quantile_values.len(), self.limits) {
            self.sink.reject(1, refusal);
            return Ok(());
        }
        if !self.begin(time, &point.attributes, true)? {
            return Ok(());
        }
        let before = self.sink.series_count();
        self.emit("_sum", None, time, point.sum)?;
        self.emit("_count", None, time, point.count as f64)?;
        for value in &point.quantile_values {
            self.emit("", Some(("quantile", &value.quantile.to_string())), time, value.value)?;
        }
        self.sink.group_since(before, 1);
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
        self.exemplars(exemplars, |_| true)?;
        self.sink.push_histogram(time.at_ms, histogram, time.start_ms)?;
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
        check_count(attributes.len(), self.limits)?;
        let attributes = messages(attributes);
        let mut attributes: Vec<_> = attributes.iter().map(|message| Attribute::new(message)).collect();
        let rules = (self.settings, self.limits);
        point_labels(&mut self.base, &mut attributes, &self.resource, &self.scope, rules)?;
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
        for (name, value) in self.base.pairs() {
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

    fn exemplars(
        &mut self,
        exemplars: &[OtlpExemplar],
        mut belongs: impl FnMut(f64) -> bool,
    ) -> Result<(), IngestError> {
        for exemplar in exemplars.iter().take(EXEMPLARS_MAX) {
            let value = match exemplar.value {
                Some(exemplar::Value::AsDouble(value)) => value,
                Some(exemplar::Value::AsInt(value)) => value as f64,
                None => 0.0,
            };
            if belongs(value) {
                let point = ExemplarPoint {
                    value,
                    time_ns: exemplar.time_unix_nano,
                    trace_id: &exemplar.trace_id,
                    span_id: &exemplar.span_id,
                };
                let attributes = messages(&exemplar.filtered_attributes);
                let attributes = attributes.iter().map(|message| Attribute::new(message));
                match point_rules::exemplar(point, attributes, self.limits) {
                    Some(exemplar) => self.sink.push_exemplar(exemplar)?,
                    None => self.sink.drop_exemplar(),
                }
            }
        }
        Ok(())
    }
}
