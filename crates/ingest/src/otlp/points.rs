//! Data points: what each kind of OTLP point becomes.
//!
//! A point is checked as a whole before its first series is written, and its series are a group of the batch: it is stored
//! entirely or refused as one.

use pharos_model::{Histogram, ResetHint, ns_to_ms};
use pharos_storage::RejectReason;

use super::Failure;
use super::delta::{Buckets, Cumulative, Interval, Total, Value};
use super::exemplars::ExemplarFields;
use super::message::Merged;
use super::metrics::Translator;
use super::point_fields::{ExponentialFields, HistogramFields, NumberFields, PointFields, SummaryFields, buckets};
use super::point_rules::{PointTime, check_bounds, check_quantiles, custom, exponential, side};
use super::shape::{COUNT, REST, SUM, Shape};
use super::stream_pass::{Deltas, StreamPass};
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
        let (time, value) = match pass.deltas {
            Deltas::AddUp { .. } => {
                let Some((time, value)) = self.add_up(&point, Value::Number(Total::new(value)), pass) else {
                    return Ok(());
                };
                (time, if let Some(Value::Number(total)) = value { total.value() } else { 0.0 })
            }
            Deltas::None | Deltas::Stay => (time, value),
        };
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
            self.classic_histogram(histogram, pass)
        }
    }

    fn classic_histogram(&mut self, histogram: HistogramFields<'_>, pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        if !self.begin(histogram.point.time(), &histogram.point, Shape::Buckets(&histogram.explicit_bounds), pass)? {
            return Ok(());
        }
        let Some((time, histogram)) = self.cumulative_buckets(histogram, pass) else { return Ok(()) };
        let (point, bounds) = (&histogram.point, &histogram.explicit_bounds);
        let before = self.sink.series_count();
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
        self.emit(REST + bounds.len(), time, histogram.count as f64, pass)?;
        self.sink.group_since(before, 1);
        Ok(())
    }

    /// A native histogram with custom buckets.
    fn custom_histogram(&mut self, histogram: HistogramFields<'_>, pass: &mut StreamPass<'_>) -> Result<(), Failure> {
        // A point that will not be stored must not be counted.
        let checked =
            custom(histogram.explicit_bounds.clone(), &histogram.bucket_counts, histogram.count, histogram.sum);
        if !self.begin_native(&histogram.point, &checked, pass)? {
            return Ok(());
        }
        if !matches!(pass.deltas, Deltas::AddUp { .. }) {
            return self.native(&histogram.point, histogram.point.time(), checked, pass);
        }
        let Some((time, HistogramFields { point, count, sum, bucket_counts, explicit_bounds })) =
            self.cumulative_buckets(histogram, pass)
        else {
            return Ok(());
        };
        self.native(&point, time, custom(explicit_bounds, &bucket_counts, count, sum), pass)
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
        if !self.begin_native(&found.point, &histogram, pass)? {
            return Ok(());
        }
        let (time, histogram) = match pass.deltas {
            Deltas::AddUp { .. } => {
                let sum = Total::new(histogram.sum);
                let value = Value::Exponential(Box::new(histogram), sum);
                let Some((time, value)) = self.add_up(&found.point, value, pass) else { return Ok(()) };
                let Some(Value::Exponential(histogram, _)) = value else {
                    return self.native(&found.point, time, Histogram::stale(), pass);
                };
                (time, *histogram)
            }
            Deltas::None | Deltas::Stay => (found.point.time(), histogram),
        };
        self.native(&found.point, time, histogram, pass)
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
        let before = self.sink.series_count();
        self.emit(SUM, time, summary.sum, pass)?;
        self.emit(COUNT, time, summary.count as f64, pass)?;
        let counts = std::mem::take(&mut self.sink.counts);
        for (index, (_, value)) in quantiles.iter().enumerate() {
            self.emit(REST + index, time, *value, pass)?;
        }
        self.sink.counts = counts;
        self.sink.group_since(before, 1);
        Ok(())
    }

    /// Checks a native histogram, and finds or makes its label set; false if the point is refused, and counted.
    fn begin_native(
        &mut self,
        point: &PointFields<'_>,
        histogram: &Histogram,
        pass: &mut StreamPass<'_>,
    ) -> Result<bool, Failure> {
        let time = point.time();
        let checked = if time.is_stale { Ok(()) } else { self.sink.check_histogram(histogram) };
        if let Err(mut refusal) = checked {
            refusal.message = format!("{}: {}", pass.metric.name, refusal.message);
            self.refuse(point, refusal)?;
            return Ok(false);
        }
        self.begin(time, point, Shape::Single, pass)
    }

    fn native(
        &mut self,
        point: &PointFields<'_>,
        time: PointTime,
        mut histogram: Histogram,
        pass: &StreamPass<'_>,
    ) -> Result<(), Failure> {
        if time.is_stale {
            histogram = Histogram::stale();
        } else if pass.deltas == Deltas::Stay {
            histogram.reset_hint = ResetHint::Gauge;
        }
        self.exemplars(&ExemplarFields::read_all(&point.exemplars), |_| true)?;
        self.sink.push_histogram(time.at_ms, histogram, time.start_ms)?;
        Ok(self.finish(SUM, pass)?)
    }

    /// The point's histogram, added up with those before it if it is a delta. `None` if it is refused, and counted.
    fn cumulative_buckets<'m>(
        &mut self,
        mut histogram: HistogramFields<'m>,
        pass: &StreamPass<'_>,
    ) -> Option<(PointTime, HistogramFields<'m>)> {
        if !matches!(pass.deltas, Deltas::AddUp { .. }) {
            return Some((histogram.point.time(), histogram));
        }
        let bounds = histogram.explicit_bounds.clone();
        let delta = Buckets {
            bounds,
            counts: std::mem::take(&mut histogram.bucket_counts),
            count: histogram.count,
            sum: histogram.sum.map(Total::new),
        };
        let stale_counts = vec![0; delta.counts.len()];
        let (time, value) = self.add_up(&histogram.point, Value::Buckets(Box::new(delta)), pass)?;
        if let Some(Value::Buckets(total)) = value {
            let Buckets { counts, count, sum, .. } = *total;
            (histogram.bucket_counts, histogram.count, histogram.sum) = (counts, count, sum.map(Total::value));
        } else {
            histogram.bucket_counts = stale_counts;
        }
        Some((time, histogram))
    }

    /// Adds a delta to its stream, and answers what the stream came to. `None` if the point is refused, and counted.
    fn add_up(
        &mut self,
        point: &PointFields<'_>,
        delta: Value,
        pass: &StreamPass<'_>,
    ) -> Option<(PointTime, Option<Value>)> {
        let mut time = point.time();
        let series = pass.sets(self.rules.now_minute).get(SUM).fingerprint;
        let key = (series, delta.kind());
        let interval = Interval { start_ns: point.start_ns, end_ns: point.time_ns };
        let checked = if time.is_stale { Ok(()) } else { check_delta(&delta, pass.deltas) };
        let deltas = self.deltas.as_mut()?;
        let delta = (!time.is_stale).then_some(delta);
        let added = checked.and_then(|()| deltas.add(key, interval, delta, self.rules.limits.histogram_buckets_max));
        match added {
            Ok(Cumulative { first_ns, value }) => {
                time.start_ms = ns_to_ms(first_ns);
                Some((time, value))
            }
            Err(mut refusal) => {
                refusal.message = format!("{}: {}", pass.metric.name, refusal.message);
                self.seen_ms = self.seen_before_ms;
                self.sink.reject(1, refusal);
                None
            }
        }
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
                self.seen_before_ms = self.seen_ms;
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

/// A delta that would spoil the sum for good is refused, and told: a number that is none, and a histogram whose `sum` is none, as
/// after one observation of NaN. The sum cannot begin anew behind it instead: PromQL sees no reset across a sample of NaN, and
/// would take what came after for a fall.
fn check_delta(delta: &Value, deltas: Deltas) -> Result<(), Refusal> {
    let Some(value) = delta.sum() else { return Ok(()) };
    let is_number = matches!(delta, Value::Number(_));
    let message = if !value.is_finite() {
        let what = if is_number { "delta" } else { "delta histogram with a sum" };
        format!("{what} of {value} cannot be added up")
    } else if is_number && value < 0.0 && deltas == (Deltas::AddUp { is_monotonic: true }) {
        format!("delta of {value}, but the sum is said to be monotonic")
    } else {
        return Ok(());
    };
    Err(Refusal { reason: RejectReason::Unsupported, message })
}
