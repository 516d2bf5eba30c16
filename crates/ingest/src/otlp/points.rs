//! Data points: what each kind of OTLP point becomes.
//!
//! A point is checked as a whole before its first series is written: it is stored entirely or
//! refused as one.

use pharos_model::{
    BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, HistogramSample, Sample, ns_to_ms, stale_nan,
};
use pharos_storage::RejectReason;

use super::Failure;
use super::exemplars::ExemplarFields;
use super::metrics::Translator;
use super::point_fields::{ExponentialFields, HistogramFields, NumberFields, PointFields, SummaryFields, buckets};
use super::shape::{COUNT, REST, SUM, Shape};
use super::stream_pass::StreamPass;
use crate::native::{SCHEMA_MAX, SideBuilder, downscale};
use crate::sink::Refusal;
use crate::{IngestError, Limits};

/// What Prometheus takes where the sender names no width of the zero bucket.
const ZERO_THRESHOLD: f64 = 1e-128;
/// OTLP's flag of a point without a value.
const NO_RECORDED_VALUE: u32 = 1;
/// A quantile of a summary takes so much in memory, two bytes of the wire at least.
const QUANTILE_GROWTH: usize = 8;

/// When a point was taken.
#[derive(Debug, Clone, Copy)]
struct PointTime {
    at_ms: i64,
    start_ms: i64,
    /// Flag "no recorded value": the series ended.
    is_stale: bool,
}

impl PointTime {
    fn new(point: &PointFields<'_>) -> Self {
        let is_stale = point.flags & NO_RECORDED_VALUE != 0;
        Self { at_ms: ns_to_ms(point.time_ns), start_ms: ns_to_ms(point.start_ns), is_stale }
    }

    fn sample(self, value: f64) -> Sample {
        Sample { timestamp_ms: self.at_ms, value: if self.is_stale { stale_nan() } else { value } }
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
        let time = PointTime::new(&point);
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
        if let Err(refusal) = check_bounds(&histogram, self.rules.limits) {
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
        let time = PointTime::new(point);
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
        let skipped = bucket_counts.iter().take_while(|count| **count == 0).count();
        let counts: Vec<f64> = bucket_counts[skipped..].iter().map(|count| *count as f64).collect();
        let span = BucketSpan { offset: skipped as i32, length: counts.len() as u32 };
        let spans = if counts.is_empty() { Vec::new() } else { vec![span] };
        let histogram = Histogram {
            is_integer: true,
            count: count as f64,
            sum: sum.unwrap_or(0.0),
            positive: BucketSide { spans, counts },
            custom_bounds: explicit_bounds,
            ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
        };
        self.native(&point, histogram, pass)
    }

    /// An exponential histogram as a native one.
    pub(super) fn exponential_histogram(&mut self, message: &[u8], pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        // Packed counts of one byte become words.
        self.require(size_of::<f64>() * message.len())?;
        let found = ExponentialFields::read(message, pass.expected())?;
        let mut histogram = Histogram {
            is_integer: true,
            // A sender that names a width knows it; Prometheus itself ignores the field.
            zero_threshold: if found.zero_threshold > 0.0 { found.zero_threshold } else { ZERO_THRESHOLD },
            zero_count: found.zero_count as f64,
            count: found.count as f64,
            sum: found.sum.unwrap_or(0.0),
            positive: side(found.positive.get()),
            negative: side(found.negative.get()),
            ..Histogram::empty(found.scale)
        };
        if found.scale > SCHEMA_MAX {
            downscale(&mut histogram);
        }
        self.native(&found.point, histogram, pass)
    }

    /// A summary as its quantiles, sum and count.
    pub(super) fn summary(&mut self, message: &[u8], pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        self.require(QUANTILE_GROWTH * message.len())?;
        let summary = SummaryFields::read(message, pass.expected())?;
        let (point, quantiles) = (&summary.point, &summary.quantiles);
        let time = PointTime::new(point);
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
        let time = PointTime::new(point);
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

/// Bounds ascend and are finite, and there is one bucket more than bounds, or none at all.
fn check_bounds(point: &HistogramFields<'_>, limits: &Limits) -> Result<(), Refusal> {
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
fn side(message: Option<&[u8]>) -> BucketSide {
    let mut builder = SideBuilder::default();
    let (offset, counts) = buckets(message.unwrap_or_default());
    for (index, count) in counts.enumerate().filter(|(_, count)| *count > 0) {
        let index = i64::from(offset) + index as i64 + 1;
        builder.push(index.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32, count as f64);
    }
    builder.build()
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
