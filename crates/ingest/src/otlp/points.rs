//! Data points: what each kind of OTLP point becomes.
//!
//! A point is checked as a whole before its first series is written: it is stored entirely or
//! refused as one.

use pharos_model::{BucketSide, Histogram, HistogramSample};
use pharos_storage::RejectReason;

use super::Failure;
use super::exemplars::ExemplarFields;
use super::message::Merged;
use super::metrics::Translator;
use super::point_fields::{ExponentialFields, HistogramFields, NumberFields, PointFields, SummaryFields, buckets};
use super::point_rules::{PointTime, check_bounds, check_quantiles, custom, exponential, side};
use super::shape::{COUNT, REST, SUM, Shape};
use super::stream_pass::StreamPass;
use crate::IngestError;
use crate::sink::Refusal;

/// A quantile of a summary takes so much in memory, two bytes of the wire at least.
const QUANTILE_GROWTH: usize = 8;

impl PointFields<'_> {
    fn time(&self) -> PointTime {
        PointTime::new(self.time_ns, self.start_ns, self.flags)
    }
}

impl Translator<'_> {
    /// Gauges and sums.
    pub(super) fn number(
        &mut self,
        message: &[u8],
        has_exemplars: bool,
        pass: &mut StreamPass<'_>,
    ) -> Result<(), Failure> {
        let NumberFields { point, value } = NumberFields::read(message, pass.expected())?;
        let time = point.time();
        let value = match value {
            Some(value) => value,
            None if time.is_stale => 0.0,
            None => {
                let message = format!("data point of {} has no value", pass.metric.name);
                return self.refuse(&point, Refusal { reason: RejectReason::Unsupported, message });
            }
        };
        if !self.begin(time, &point, Shape::Single, pass)? {
            return Ok(());
        }
        if has_exemplars {
            self.exemplars(&ExemplarFields::read_all(&point.exemplars), |_| true)?;
        }
        Ok(self.emit(SUM, time, value, pass)?)
    }

    /// An explicit-bucket histogram, as the settings want it.
    pub(super) fn histogram(&mut self, message: &[u8], pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        self.require(message.len())?;
        let histogram = HistogramFields::read(message, pass.expected())?;
        let checked = check_bounds(&histogram.explicit_bounds, &histogram.bucket_counts, self.rules.limits);
        if let Err(refusal) = checked {
            return self.refuse(&histogram.point, refusal);
        }
        if self.rules.settings.convert_histograms_to_nhcb {
            self.custom_histogram(histogram, pass)
        } else {
            self.classic_histogram(&histogram, pass)
        }
    }

    fn classic_histogram(&mut self, histogram: &HistogramFields<'_>, pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        let (point, bounds) = (&histogram.point, &histogram.explicit_bounds);
        let time = point.time();
        if !self.begin(time, point, Shape::Buckets(bounds), pass)? {
            return Ok(());
        }
        if let Some(sum) = histogram.sum {
            self.emit(SUM, time, sum, pass)?;
        }
        self.emit(COUNT, time, histogram.count as f64, pass)?;
        let exemplars = ExemplarFields::read_all(&point.exemplars);
        let (mut cumulative, mut lower) = (0_u64, f64::NEG_INFINITY);
        for (index, (&bound, &count)) in bounds.iter().zip(&histogram.bucket_counts).enumerate() {
            cumulative = cumulative.saturating_add(count);
            self.exemplars(&exemplars, |value| lower < value && value <= bound)?;
            self.emit(REST + index, time, cumulative as f64, pass)?;
            lower = bound;
        }
        self.exemplars(&exemplars, |value| lower < value || value == f64::NEG_INFINITY || value.is_nan())?;
        Ok(self.emit(REST + bounds.len(), time, histogram.count as f64, pass)?)
    }

    /// A native histogram with custom buckets.
    fn custom_histogram(&mut self, histogram: HistogramFields<'_>, pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        let HistogramFields { point, count, sum, bucket_counts, explicit_bounds } = histogram;
        let histogram = custom(explicit_bounds, &bucket_counts, count, sum);
        self.native(&point, histogram, pass)
    }

    /// An exponential histogram as a native one.
    pub(super) fn exponential_histogram(&mut self, message: &[u8], pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        // Packed counts of one byte become words.
        self.require(size_of::<f64>() * message.len())?;
        let found = ExponentialFields::read(message, pass.expected())?;
        let ExponentialFields { numbers, positive, negative, .. } = &found;
        let side = |message: &Merged<'_>| {
            let (offset, counts) = buckets(message.get().unwrap_or_default());
            side(offset, counts)
        };
        let histogram = exponential(*numbers, side(positive), side(negative));
        self.native(&found.point, histogram, pass)
    }

    /// A summary as its quantiles, sum and count.
    pub(super) fn summary(&mut self, message: &[u8], pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        self.require(QUANTILE_GROWTH * message.len())?;
        let summary = SummaryFields::read(message, pass.expected())?;
        let (point, quantiles) = (&summary.point, &summary.quantiles);
        if let Err(refusal) = check_quantiles(quantiles.len(), self.rules.limits) {
            return self.refuse(point, refusal);
        }
        let time = point.time();
        if !self.begin(time, point, Shape::Quantiles(quantiles), pass)? {
            return Ok(());
        }
        self.emit(SUM, time, summary.sum, pass)?;
        self.emit(COUNT, time, summary.count as f64, pass)?;
        for (index, (_, value)) in quantiles.iter().enumerate() {
            self.emit(REST + index, time, *value, pass)?;
        }
        Ok(())
    }

    fn native(
        &mut self,
        point: &PointFields<'_>,
        histogram: Histogram,
        pass: &mut StreamPass<'_>,
    ) -> Result<(), Failure> {
        let time = point.time();
        let histogram = if time.is_stale { Histogram::stale() } else { histogram };
        if let Err(mut refusal) = self.sink.check_histogram(&histogram) {
            refusal.message = format!("{}: {}", pass.metric.name, refusal.message);
            return self.refuse(point, refusal);
        }
        if !self.begin(time, point, Shape::Single, pass)? {
            return Ok(());
        }
        self.exemplars(&ExemplarFields::read_all(&point.exemplars), |_| true)?;
        self.charge(histogram_bytes(&histogram))?;
        self.sink.push_histogram(time.at_ms, histogram, time.start_ms);
        Ok(self.finish(SUM, pass)?)
    }

    /// Refuses a point whose labels nobody looked at.
    fn refuse(&mut self, point: &PointFields<'_>, refusal: Refusal) -> Result<(), Failure> {
        point.attributes.check()?;
        self.sink.reject(1, refusal);
        Ok(())
    }

    /// Finds or makes the point's label sets; false if the point is refused, and counted.
    #[inline]
    fn begin(
        &mut self,
        time: PointTime,
        point: &PointFields<'_>,
        shape: Shape<'_>,
        pass: &mut StreamPass<'_>,
    ) -> Result<bool, Failure> {
        let checked = match self.sink.outside(time.at_ms) {
            None => self.find_or_make(&point.attributes, shape, pass)?,
            Some(reason) => {
                point.attributes.check()?;
                Err(self.sink.outside_refusal(reason, time.at_ms, &pass.metric.name))
            }
        };
        match checked {
            Ok(()) => {
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

    fn emit(&mut self, series: usize, time: PointTime, value: f64, pass: &StreamPass<'_>) -> Result<(), IngestError> {
        self.sink.push_sample(time.sample(value), time.start_ms);
        self.finish(series, pass)
    }

    /// Ends a series of the current point.
    fn finish(&mut self, series: usize, pass: &StreamPass<'_>) -> Result<(), IngestError> {
        let labels = pass.sets(self.rules.now_minute).get(series);
        self.sink.finish_known(labels.encoded, labels.fingerprint, labels.text_bytes)
    }
}

/// What a histogram takes in a batch.
fn histogram_bytes(histogram: &Histogram) -> usize {
    let side = |side: &BucketSide| size_of_val(side.spans.as_slice()) + size_of_val(side.counts.as_slice());
    let bounds = size_of_val(histogram.custom_bounds.as_slice());
    size_of::<HistogramSample>()
        + size_of::<Histogram>()
        + side(&histogram.positive)
        + side(&histogram.negative)
        + bounds
}
