//! The format of messages: one `MetricFamily` behind its length for each run of samples of one name and kind.

use pharos_model::{BucketSide, Histogram, ResetHint};
use pharos_promql::engine::SampleValue;
use pharos_proto::exposition::{self as wire, Metric, MetricFamily, MetricType};
use prost::Message;

use super::format::Names;
use super::{Newest, classic_buckets, told_labels};

/// Families of the samples, which are sorted by name.
pub(super) fn encode(samples: &[Newest], names: Names) -> Vec<u8> {
    let mut out = Vec::new();
    // One name may have several families, which only Prometheus reads well: so does upstream it.
    for run in samples.chunk_by(|a, b| a.0.metric_name() == b.0.metric_name() && kind(&a.2) == kind(&b.2)) {
        let family = MetricFamily {
            name: Some(names.write(run[0].0.metric_name(), true).into_owned()),
            r#type: Some(kind(&run[0].2) as i32),
            metric: run.iter().map(|sample| metric(sample, names)).collect(),
            ..MetricFamily::default()
        };
        out.extend_from_slice(&family.encode_length_delimited_to_vec());
    }
    out
}

fn kind(value: &SampleValue) -> MetricType {
    match value {
        SampleValue::Float(_) => MetricType::Untyped,
        SampleValue::Histogram(histogram) if histogram.reset_hint == ResetHint::Gauge => MetricType::GaugeHistogram,
        SampleValue::Histogram(_) => MetricType::Histogram,
    }
}

fn metric((labels, at_ms, value): &Newest, names: Names) -> Metric {
    let label = |(name, value): (&str, &str)| wire::LabelPair {
        name: Some(names.write(name, false).into_owned()),
        value: Some(value.to_owned()),
    };
    let mut metric =
        Metric { label: told_labels(labels).map(label).collect(), timestamp_ms: Some(*at_ms), ..Metric::default() };
    match value {
        SampleValue::Float(value) => metric.untyped = Some(wire::Untyped { value: Some(*value) }),
        SampleValue::Histogram(histogram) if histogram.has_custom_buckets() => {
            metric.histogram = Some(classic(histogram));
        }
        SampleValue::Histogram(histogram) => metric.histogram = Some(native(histogram)),
    }
    metric
}

fn classic(histogram: &Histogram) -> wire::Histogram {
    let bucket = |(bound, count)| wire::Bucket {
        cumulative_count_float: Some(count),
        upper_bound: Some(bound),
        ..wire::Bucket::default()
    };
    wire::Histogram {
        sample_count_float: Some(histogram.count),
        sample_sum: Some(histogram.sum),
        bucket: classic_buckets(histogram).chain([(f64::INFINITY, histogram.count)]).map(bucket).collect(),
        ..wire::Histogram::default()
    }
}

/// Counts are doubles here, whatever form they arrived in, as upstream's.
fn native(histogram: &Histogram) -> wire::Histogram {
    let spans = |side: &BucketSide| {
        let span =
            |span: &pharos_model::BucketSpan| wire::BucketSpan { offset: Some(span.offset), length: Some(span.length) };
        side.spans.iter().map(span).collect()
    };
    wire::Histogram {
        sample_count_float: Some(histogram.count),
        sample_sum: Some(histogram.sum),
        schema: Some(histogram.schema),
        zero_threshold: Some(histogram.zero_threshold),
        zero_count_float: Some(histogram.zero_count),
        negative_span: spans(&histogram.negative),
        negative_count: histogram.negative.counts.clone(),
        positive_span: spans(&histogram.positive),
        positive_count: histogram.positive.counts.clone(),
        ..wire::Histogram::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pharos_model::BucketSpan;

    use super::super::tests::{custom, labels};
    use super::*;

    fn decoded(mut bytes: &[u8]) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        while !bytes.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
        }
        families
    }

    #[test]
    fn each_name_and_kind_is_a_family_behind_its_length() {
        let value = |histogram| SampleValue::Histogram(Arc::new(histogram));
        let side = BucketSide { spans: vec![BucketSpan { offset: -2, length: 2 }], counts: vec![1.0, 2.5] };
        let exponential = Histogram {
            count: 4.5,
            sum: 9.0,
            zero_count: 1.0,
            zero_threshold: 0.1,
            positive: side,
            ..Histogram::empty(3)
        };
        let gauge = Histogram { reset_hint: ResetHint::Gauge, ..exponential.clone() };
        let of = |series: &str| labels(&[("__name__", "h.x"), ("s", series)]);
        let samples = [
            (labels(&[("__name__", "a"), ("instance", "i")]), 1, SampleValue::Float(f64::NAN)),
            (of("1"), 2, value(exponential)),
            (of("2"), 3, value(custom())),
            (of("3"), 4, value(gauge)),
        ];
        let families = decoded(&encode(&samples, Names::Underscores));
        let told: Vec<_> = families
            .iter()
            .map(|family| (family.name.clone().unwrap(), family.r#type(), family.metric.len()))
            .collect();
        let name = || "h_x".to_owned();
        assert_eq!(
            told,
            [
                ("a".to_owned(), MetricType::Untyped, 1),
                (name(), MetricType::Histogram, 2),
                (name(), MetricType::GaugeHistogram, 1)
            ]
        );
        let untyped = &families[0].metric[0];
        assert!(untyped.untyped.as_ref().unwrap().value.unwrap().is_nan());
        assert_eq!((untyped.label.len(), untyped.timestamp_ms), (1, Some(1)), "it has an instance");
        let native = families[1].metric[0].histogram.as_ref().unwrap();
        assert_eq!((native.schema, native.sample_count_float, native.zero_threshold), (Some(3), Some(4.5), Some(0.1)));
        assert_eq!((native.positive_count.as_slice(), native.positive_span[0].offset), (&[1.0, 2.5][..], Some(-2)));
        assert!(native.bucket.is_empty() && native.negative_span.is_empty());
        let classic = families[1].metric[1].histogram.as_ref().unwrap();
        let buckets: Vec<_> =
            classic.bucket.iter().map(|b| (b.upper_bound.unwrap(), b.cumulative_count_float.unwrap())).collect();
        assert_eq!(buckets, [(0.5, 2.0), (1.0, 2.0), (f64::INFINITY, 5.0)]);
        assert_eq!((classic.schema, classic.sample_sum), (None, Some(7.5)));
        let instance = &families[1].metric[1].label[1];
        assert_eq!((instance.name.as_deref(), instance.value.as_deref()), (Some("instance"), Some("")));
    }
}
