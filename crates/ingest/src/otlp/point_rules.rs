//! Rules of data points, whoever reads them: when a point was taken, which histograms are sound, and what native
//! histograms they become.

use pharos_model::{
    BucketSide, BucketSpan, CUSTOM_BUCKETS_SCHEMA, Exemplar, Histogram, LabelsBuilder, Sample, ns_to_ms, stale_nan,
};
use pharos_storage::RejectReason;

use super::attribute::Attribute;
use crate::Limits;
use crate::native::{SCHEMA_MAX, SideBuilder, downscale};
use crate::sink::{Refusal, exemplar_labels};

/// Exemplars of a point that are looked at; SDKs keep one per bucket.
pub(super) const EXEMPLARS_MAX: usize = 512;
/// What Prometheus takes where the sender names no width of the zero bucket.
const ZERO_THRESHOLD: f64 = 1e-128;
/// OTLP's flag of a point without a value.
const NO_RECORDED_VALUE: u32 = 1;

/// When a point was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct PointTime {
    pub at_ms: i64,
    pub start_ms: i64,
    /// Flag "no recorded value": the series ended.
    pub is_stale: bool,
}

impl PointTime {
    pub(super) fn new(time_ns: u64, start_ns: u64, flags: u32) -> Self {
        let is_stale = flags & NO_RECORDED_VALUE != 0;
        Self { at_ms: ns_to_ms(time_ns), start_ms: ns_to_ms(start_ns), is_stale }
    }

    pub(super) fn sample(self, value: f64) -> Sample {
        Sample { timestamp_ms: self.at_ms, value: if self.is_stale { stale_nan() } else { value } }
    }
}

/// Bounds ascend and are finite, and there is one bucket more than bounds, or none at all.
pub(super) fn check_bounds(bounds: &[f64], counts: &[u64], limits: &Limits) -> Result<(), Refusal> {
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

/// Every quantile is a series of its own, as a bucket is.
pub(super) fn check_quantiles(count: usize, limits: &Limits) -> Result<(), Refusal> {
    let limit = limits.histogram_buckets_max;
    if count <= limit {
        return Ok(());
    }
    let message = format!("summary has {count} quantiles, more than ingest.limits.histogram_buckets_max = {limit}");
    Err(Refusal { reason: RejectReason::Limit, message })
}

/// An explicit-bucket histogram that [`check_bounds`] passed, as a native one with custom buckets.
pub(super) fn custom(bounds: Vec<f64>, counts: &[u64], count: u64, sum: Option<f64>) -> Histogram {
    let skipped = counts.iter().take_while(|count| **count == 0).count();
    let counts: Vec<f64> = counts[skipped..].iter().map(|count| *count as f64).collect();
    let span = BucketSpan { offset: skipped as i32, length: counts.len() as u32 };
    let spans = if counts.is_empty() { Vec::new() } else { vec![span] };
    Histogram {
        is_integer: true,
        count: count as f64,
        sum: sum.unwrap_or(0.0),
        positive: BucketSide { spans, counts },
        custom_bounds: bounds,
        ..Histogram::empty(CUSTOM_BUCKETS_SCHEMA)
    }
}

/// What an exponential histogram says beside its buckets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exponential {
    pub count: u64,
    pub sum: Option<f64>,
    pub scale: i32,
    pub zero_count: u64,
    pub zero_threshold: f64,
}

/// An exponential histogram as a native one.
pub(super) fn exponential(found: Exponential, positive: BucketSide, negative: BucketSide) -> Histogram {
    let mut histogram = Histogram {
        is_integer: true,
        // A sender that names a width knows it; Prometheus itself ignores the field.
        zero_threshold: if found.zero_threshold > 0.0 { found.zero_threshold } else { ZERO_THRESHOLD },
        zero_count: found.zero_count as f64,
        count: found.count as f64,
        sum: found.sum.unwrap_or(0.0),
        positive,
        negative,
        ..Histogram::empty(found.scale)
    };
    if found.scale > SCHEMA_MAX {
        downscale(&mut histogram);
    }
    histogram
}

/// OTLP's bucket `i` covers `(base^i, base^(i+1)]`, Prometheus' `(base^(i-1), base^i]`.
pub(super) fn side(offset: i32, counts: impl Iterator<Item = u64>) -> BucketSide {
    let mut builder = SideBuilder::default();
    for (index, count) in counts.enumerate().filter(|(_, count)| *count > 0) {
        let index = i64::from(offset) + index as i64 + 1;
        builder.push(index.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32, count as f64);
    }
    builder.build()
}

/// What an exemplar says beside its attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExemplarPoint<'a> {
    pub value: f64,
    pub time_ns: u64,
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
}

/// The exemplar with its trace and span; its attributes only if all of them fit. `None` if its labels are no label set,
/// or an id is too long for one.
pub(super) fn exemplar<'a>(
    point: ExemplarPoint<'_>,
    attributes: impl Iterator<Item = Attribute<'a>> + Clone,
    limits: &Limits,
) -> Option<Exemplar> {
    let mut labels = LabelsBuilder::default();
    for (name, id) in [("trace_id", point.trace_id), ("span_id", point.span_id)] {
        if id.len() > limits.exemplar_label_chars_max {
            return None;
        }
        if id.iter().any(|byte| *byte != 0) {
            labels.push(name, &hex::encode(id));
        }
    }
    let chars = |name: &str, value: &str| name.chars().count() + value.chars().count();
    let linked: usize = labels.pairs().map(|(name, value)| chars(name, value)).sum();
    let all_fit = attributes.clone().try_fold(linked, |taken, attribute| {
        let taken = taken + chars(attribute.key, &attribute.text(limits).ok()?);
        (taken <= limits.exemplar_label_chars_max).then_some(taken)
    });
    if all_fit.is_some() {
        for attribute in attributes {
            if !labels.contains(attribute.key) {
                labels.push(attribute.key, &attribute.text(limits).unwrap_or_default());
            }
        }
    }
    let timestamp_ms = ns_to_ms(point.time_ns);
    exemplar_labels(&mut labels).map(|labels| Exemplar { labels, timestamp_ms, value: point.value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_counts_must_fit_one_another() {
        let limits = Limits { histogram_buckets_max: 3, ..Limits::default() };
        let refusal = |bounds: &[f64], counts: &[u64]| {
            check_bounds(bounds, counts, &limits).err().map_or("", |refusal| refusal.reason.as_str())
        };
        for sound in [(&[1.0, 2.0][..], &[0, 0, 0][..]), (&[], &[7]), (&[], &[]), (&[-1.0, 0.0], &[1, 2, 3])] {
            assert_eq!(refusal(sound.0, sound.1), "", "{sound:?}");
        }
        let nan = f64::NAN;
        for (bounds, counts) in [
            (&[2.0, 1.0][..], &[0, 0, 0][..]),
            (&[1.0, 1.0], &[0, 0, 0]),
            (&[nan], &[0, 0]),
            (&[f64::INFINITY], &[0, 0]),
            (&[1.0], &[]),
            (&[1.0], &[1]),
            (&[], &[1, 2]),
        ] {
            assert_eq!(refusal(bounds, counts), RejectReason::InvalidHistogram.as_str(), "{bounds:?} {counts:?}");
        }
        assert_eq!(refusal(&[1.0, 2.0, 3.0], &[0; 4]), RejectReason::Limit.as_str());
        assert_eq!(refusal(&[1.0, 2.0, 3.0, 4.0], &[]), RejectReason::Limit.as_str());
        assert!(check_quantiles(3, &limits).is_ok());
        assert!(check_quantiles(4, &limits).unwrap_err().message.contains("4 quantiles, more than ingest.limits."));
    }

    #[test]
    fn custom_buckets_begin_at_the_first_that_is_not_empty() {
        let histogram = custom(vec![1.0, 2.0], &[0, 2, 3], 5, None);
        assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(1, 2.0), (2, 3.0)]);
        assert_eq!((histogram.count, histogram.sum, histogram.validate()), (5.0, 0.0, Ok(())));
        let empty = custom(vec![1.0], &[0, 0], 0, Some(0.0));
        assert_eq!((empty.positive.spans.len(), empty.validate()), (0, Ok(())));
    }

    #[test]
    fn exponential_buckets_are_counted_from_one_and_far_ones_stay_in_range() {
        assert_eq!(side(-1, [1, 0, 2].into_iter()).iter().collect::<Vec<_>>(), [(0, 1.0), (1, 0.0), (2, 2.0)]);
        assert_eq!(side(0, [0, 0].into_iter()), BucketSide::default());
        assert_eq!(side(i32::MAX, [1].into_iter()).spans[0].offset, i32::MAX);
        let found = Exponential { count: 3, sum: Some(9.0), scale: 9, zero_count: 0, zero_threshold: 0.0 };
        let histogram = exponential(found, side(0, [1, 2].into_iter()), BucketSide::default());
        assert_eq!((histogram.schema, histogram.zero_threshold, histogram.validate()), (8, ZERO_THRESHOLD, Ok(())));
        assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(1, 3.0)]);
    }

    #[test]
    fn stale_points_have_the_stale_value() {
        let time = PointTime::new(1_500_000, 500_000, 3);
        assert_eq!((time.at_ms, time.start_ms, time.is_stale), (1, 0, true));
        assert!(pharos_model::is_stale_nan(time.sample(7.0).value));
        assert_eq!(PointTime::new(0, 0, 2).sample(7.0).value, 7.0);
    }

    #[test]
    fn attributes_of_an_exemplar_are_there_all_or_none() {
        let limits = Limits { exemplar_label_chars_max: 20, ..Limits::default() };
        let point = ExemplarPoint { value: 1.0, time_ns: 0, trace_id: &[], span_id: &[0xab] };
        // Key and text of one byte each: `KeyValue { key, value: AnyValue { string_value } }`.
        let short = [10, 1, b'k', 18, 3, 10, 1, b'v'];
        let long = [&[10, 12][..], &[b'x'; 12]].concat();
        let with = |messages: &[&'static [u8]]| exemplar(point, messages.iter().map(|m| Attribute::new(m)), &limits);
        let short: &'static [u8] = short.to_vec().leak();
        let long: &'static [u8] = long.leak();
        assert_eq!(with(&[short]).unwrap().labels.to_string(), r#"{k="v", span_id="ab"}"#);
        assert_eq!(with(&[short, long]).unwrap().labels.to_string(), r#"{span_id="ab"}"#);
        let endless = ExemplarPoint { trace_id: &[1; 21], ..point };
        assert_eq!(exemplar(endless, std::iter::empty(), &limits), None);
    }
}
