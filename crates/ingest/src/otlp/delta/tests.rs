//! Deltas through the decoder: against an oracle that adds up all it ever accepted, and case by case.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as OtlpBuckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use pharos_base::ByteSize;
use pharos_model::{LabelRewrite, Labels, MetricKind, ResetHint, TenantId, is_stale_nan};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::otlp::{DeltaMode, MetricsDecoder, WireForm};
use crate::{DecodedMetrics, IngestError, Limits, TimeWindow};

const MS: u64 = 1_000_000;
const DELTA: i32 = 1;

/// A delta of all three kinds of metric.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Delta {
    start_ms: u64,
    end_ms: u64,
    value: u64,
    /// Other bounds, and a coarser scale.
    is_coarse: bool,
}

fn bounds(is_coarse: bool) -> Vec<f64> {
    if is_coarse { vec![5.0] } else { vec![1.0, 10.0] }
}

fn explicit(delta: Delta) -> Vec<u64> {
    if delta.is_coarse { vec![delta.value, 1] } else { vec![delta.value, 2, 1] }
}

/// OTLP's indexes, and their counts.
fn exponential(delta: Delta) -> Vec<(i32, u64)> {
    let counts = if delta.is_coarse { vec![3, delta.value] } else { vec![1, delta.value, 0, 2] };
    (-1..).zip(counts).collect()
}

fn scale(is_coarse: bool) -> i32 {
    i32::from(!is_coarse)
}

fn attributes(stream: usize) -> Vec<KeyValue> {
    let value = Some(AnyValue { value: Some(OtlpValue::IntValue(stream as i64)) });
    vec![KeyValue { key: "stream".into(), value, ..KeyValue::default() }]
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.into(), data: Some(data), ..Metric::default() }
}

fn request(metrics: Vec<Metric>) -> Vec<u8> {
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn number(stream: usize, delta: Delta) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(stream),
        start_time_unix_nano: delta.start_ms * MS,
        time_unix_nano: delta.end_ms * MS,
        value: Some(number_data_point::Value::AsInt(delta.value as i64)),
        ..NumberDataPoint::default()
    }
}

fn sum(points: Vec<NumberDataPoint>) -> Metric {
    metric("s", Data::Sum(Sum { data_points: points, aggregation_temporality: DELTA, is_monotonic: true }))
}

fn all_kinds(stream: usize, delta: Delta) -> Vec<u8> {
    let (start_time_unix_nano, time_unix_nano) = (delta.start_ms * MS, delta.end_ms * MS);
    let counts = explicit(delta);
    let histogram = HistogramDataPoint {
        attributes: attributes(stream),
        start_time_unix_nano,
        time_unix_nano,
        count: counts.iter().sum(),
        sum: Some(delta.value as f64 / 2.0),
        bucket_counts: counts,
        explicit_bounds: bounds(delta.is_coarse),
        ..HistogramDataPoint::default()
    };
    let buckets = exponential(delta);
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes(stream),
        start_time_unix_nano,
        time_unix_nano,
        count: buckets.iter().map(|(_, count)| count).sum(),
        sum: Some(delta.value as f64),
        scale: scale(delta.is_coarse),
        positive: Some(OtlpBuckets { offset: -1, bucket_counts: buckets.iter().map(|(_, count)| *count).collect() }),
        ..ExponentialHistogramDataPoint::default()
    };
    request(vec![
        sum(vec![number(stream, delta)]),
        metric("h", Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: DELTA })),
        metric(
            "e",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                aggregation_temporality: DELTA,
            }),
        ),
    ])
}

/// What a request stores: series, instant, start and value, and native histograms as their buckets.
fn stored(decoded: &DecodedMetrics) -> Vec<String> {
    let batch = &decoded.batch;
    let mut lines = Vec::new();
    for run in &batch.series {
        let labels = Labels::from_encoded(batch.encoded_labels(run)).unwrap();
        for at in run.samples.clone() {
            let (sample, start_ms) = (batch.samples[at], batch.start_ms.get(at).copied().unwrap_or(0));
            let value = if is_stale_nan(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
            lines.push(format!("{labels} {start_ms}..{} {value}", sample.timestamp_ms));
        }
        for at in run.histograms.clone() {
            let (sample, start_ms) = (&batch.histograms[at], batch.histogram_start_ms.get(at).copied().unwrap_or(0));
            let histogram = &sample.histogram;
            let buckets: Vec<_> = histogram.positive.iter().filter(|(_, count)| *count > 0.0).collect();
            assert_eq!(histogram.validate(), Ok(()));
            let (schema, count, sum) = (histogram.schema, histogram.count, histogram.sum);
            lines.push(format!("{labels} {start_ms}..{} {schema} {count} {sum} {buckets:?}", sample.timestamp_ms));
        }
    }
    lines
}

/// What all that was accepted of a stream comes to.
fn oracle(stream: usize, accepted: &[Delta]) -> Vec<String> {
    let last = *accepted.last().unwrap();
    let at = |start_ms: u64| format!("{start_ms}..{}", last.end_ms);
    let total = |deltas: &[Delta]| deltas.iter().map(|delta| delta.value).sum::<u64>();
    let mut lines = vec![format!(r#"s_total{{stream="{stream}"}} {} {}"#, at(accepted[0].start_ms), total(accepted))];
    // Explicit buckets begin anew where bounds change.
    let changed = accepted.iter().rposition(|delta| delta.is_coarse != last.is_coarse);
    let same = &accepted[changed.map_or(0, |at| at + 1)..];
    let (at_same, mut cumulative) = (at(same[0].start_ms), 0);
    let count: u64 = same.iter().flat_map(|delta| explicit(*delta)).sum();
    lines.push(format!(r#"h_sum{{stream="{stream}"}} {at_same} {}"#, total(same) as f64 / 2.0));
    lines.push(format!(r#"h_count{{stream="{stream}"}} {at_same} {count}"#));
    for (index, bound) in bounds(last.is_coarse).iter().map(f64::to_string).chain(["+Inf".into()]).enumerate() {
        cumulative += same.iter().map(|delta| explicit(*delta)[index]).sum::<u64>();
        lines.push(format!(r#"h_bucket{{le="{bound}", stream="{stream}"}} {at_same} {cumulative}"#));
    }
    let is_coarse = accepted.iter().any(|delta| delta.is_coarse);
    let mut buckets = BTreeMap::new();
    for delta in accepted {
        let steps = i32::from(is_coarse && !delta.is_coarse);
        for (index, count) in exponential(*delta).into_iter().filter(|(_, count)| *count > 0) {
            *buckets.entry((index >> steps) + 1).or_insert(0.0) += count as f64;
        }
    }
    let count: f64 = buckets.values().sum();
    let buckets: Vec<_> = buckets.into_iter().collect();
    let (start, schema) = (at(accepted[0].start_ms), scale(is_coarse));
    lines.push(format!(r#"e{{stream="{stream}"}} {start} {schema} {count} {} {buckets:?}"#, total(accepted)));
    lines
}

fn decode(decoder: &MetricsDecoder, body: &[u8], now_ms: i64) -> Result<DecodedMetrics, IngestError> {
    decoder.decode(&TenantId::default(), (body, WireForm::Protobuf), TimeWindow::ALL, now_ms)
}

fn decoder(settings: OtlpSettings) -> MetricsDecoder {
    MetricsDecoder::new(settings, Limits::default())
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next interval, after a pause; sent `1 + repeats` times, as if the store had refused it; ahead of it a request
    /// that is damaged at its end.
    Next { pause_ms: u64, value: u64, is_coarse: bool, repeats: usize, is_damaged_first: bool },
    /// A point of before, as late as is remembered.
    Again { back: usize },
    /// Another value for what was counted, or an interval that reaches back.
    Overlap { back_ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let next = (prop_oneof![Just(0), 1..5000_u64], 0..1000_u64, any::<bool>(), 0..3_usize, any::<bool>()).prop_map(
        |(pause_ms, value, is_coarse, repeats, is_damaged_first)| Step::Next {
            pause_ms,
            value,
            is_coarse,
            repeats,
            is_damaged_first,
        },
    );
    let step = prop_oneof![
        5 => next,
        2 => (0..POINTS_MAX).prop_map(|back| Step::Again { back }),
        1 => (0..2000_u64).prop_map(|back_ms| Step::Overlap { back_ms }),
    ];
    proptest::collection::vec((0..3_usize, step), 1..60)
}

proptest! {
    #[test]
    fn sums_are_exact_whatever_is_repeated_refused_or_missing(steps in steps()) {
        let decoder = decoder(OtlpSettings::default());
        let mut accepted: [Vec<Delta>; 3] = Default::default();
        for (stream, step) in steps {
            let log = &mut accepted[stream];
            let last = log.last().copied();
            match step {
                Step::Next { pause_ms, value, is_coarse, repeats, is_damaged_first } => {
                    let start_ms = last.map_or(1_000_000, |last| last.end_ms) + pause_ms;
                    let delta = Delta { start_ms, end_ms: start_ms + 1000, value, is_coarse };
                    let body = all_kinds(stream, delta);
                    if is_damaged_first {
                        let other = all_kinds(stream, Delta { value: value + 1, ..delta });
                        prop_assert!(decode(&decoder, &[&other[..], &[10]].concat(), 0).is_err());
                    }
                    log.push(delta);
                    for _ in 0..=repeats {
                        prop_assert_eq!(stored(&decode(&decoder, &body, 0).unwrap()), oracle(stream, log));
                    }
                }
                Step::Again { back } => {
                    let Some(at) = log.len().checked_sub(back + 1) else { continue };
                    let decoded = decode(&decoder, &all_kinds(stream, log[at]), 0).unwrap();
                    prop_assert_eq!(stored(&decoded), oracle(stream, &log[..=at]));
                }
                Step::Overlap { back_ms } => {
                    let Some(last) = last else { continue };
                    let (start_ms, end_ms) = (last.end_ms - 1 - back_ms, last.end_ms + back_ms);
                    let overlap = Delta { start_ms, end_ms, value: last.value + 1, ..last };
                    let decoded = decode(&decoder, &all_kinds(stream, overlap), 0).unwrap();
                    prop_assert_eq!(stored(&decoded), Vec::<String>::new());
                    let told: Vec<_> = decoded.rejections.iter().map(|told| (told.reason, told.count)).collect();
                    prop_assert_eq!(told, vec![(RejectReason::Unsupported, 3)]);
                }
            }
        }
    }
}

fn delta(start_ms: u64, value: u64) -> Delta {
    Delta { start_ms, end_ms: start_ms + 10, value, is_coarse: false }
}

fn sums(decoder: &MetricsDecoder, points: Vec<NumberDataPoint>, now_ms: i64) -> (Vec<String>, String) {
    let decoded = decode(decoder, &request(vec![sum(points)]), now_ms).unwrap();
    (stored(&decoded), decoded.rejections.first().map_or_else(String::new, |told| told.message.clone()))
}

#[test]
fn full_streams_refuse_new_ones_by_name_and_go_on() {
    let check = |settings: OtlpSettings, name: &str| {
        let decoder = decoder(settings);
        let (first, told) = sums(&decoder, vec![number(0, delta(10, 1)), number(1, delta(10, 1))], 0);
        assert_eq!(first, [r#"s_total{stream="0"} 10..20 1"#]);
        assert!(told.contains(name), "{told}");
        assert_eq!(sums(&decoder, vec![number(0, delta(20, 2))], 0).0, [r#"s_total{stream="0"} 10..30 3"#]);
        // What is stale makes room, and begins anew.
        assert_eq!(sums(&decoder, vec![number(1, delta(30, 4))], 3_700_000).0, [r#"s_total{stream="1"} 30..40 4"#]);
        assert_eq!(decoder.delta_streams().0, 1);
    };
    check(OtlpSettings { delta_streams_max: 1, ..OtlpSettings::default() }, "ingest.otlp.delta_streams_max = 1");
    let one_stream = (STREAM_BYTES + size_of::<Point>()) as u64;
    let delta_memory_max = ByteSize(one_stream);
    check(OtlpSettings { delta_memory_max, ..OtlpSettings::default() }, "ingest.otlp.delta_memory_max");
}

#[test]
fn memory_is_counted_to_the_byte_and_given_back() {
    let settings = OtlpSettings::default();
    let streams = DeltaStreams::new(&settings);
    let of_tenant = streams.of(&TenantId::default(), 0);
    for start in 0..20 {
        let mut pass = DeltaPass::new(&of_tenant, 0, 0);
        let value = Value::Number(Total::new(1.0));
        let interval = Interval { start_ns: start, end_ns: start + 1 };
        pass.add((Default::default(), 0), interval, Some(value), 100).unwrap();
        // Every other request fails.
        if start % 2 == 0 {
            pass.keep();
        }
    }
    assert_eq!(streams.size(), (1, (STREAM_BYTES + POINTS_MAX * size_of::<Point>()) as u64));
    drop(of_tenant);
    streams.of(&TenantId::default(), settings.delta_stale.as_ms() + 1);
    assert_eq!(streams.size(), (0, 0));
}

#[test]
fn a_point_without_a_recorded_value_ends_the_stream() {
    let decoder = decoder(OtlpSettings::default());
    let stale = |start| NumberDataPoint { flags: 1, value: None, ..number(0, delta(start, 0)) };
    sums(&decoder, vec![number(0, delta(10, 5))], 0);
    for _ in 0..2 {
        assert_eq!(sums(&decoder, vec![stale(20)], 0).0, [r#"s_total{stream="0"} 10..30 stale"#]);
    }
    assert_eq!(sums(&decoder, vec![number(0, delta(40, 2))], 0).0, [r#"s_total{stream="0"} 40..50 2"#]);
    assert_eq!(sums(&decoder, vec![number(0, delta(10, 5))], 0).0, [r#"s_total{stream="0"} 10..20 5"#]);
}

#[test]
fn streams_without_a_start_go_on_from_their_last_point() {
    let decoder = decoder(OtlpSettings::default());
    let point = |end_ms, value| number(0, Delta { start_ms: 0, end_ms, value, is_coarse: false });
    let expected = ["0..20 1", "0..30 3"].map(|text| format!(r#"s_total{{stream="0"}} {text}"#));
    assert_eq!(sums(&decoder, vec![point(20, 1), point(30, 2)], 0).0, expected);
    assert!(sums(&decoder, vec![point(30, 3)], 0).1.contains("overlaps"));
}

#[test]
fn deltas_that_would_spoil_the_sum_are_refused() {
    let decoder = decoder(OtlpSettings::default());
    let with = |value| NumberDataPoint { value: Some(value), ..number(0, delta(10, 0)) };
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        let (stored, told) = sums(&decoder, vec![with(number_data_point::Value::AsDouble(value))], 0);
        assert!(stored.is_empty() && told.starts_with("s_total: delta of"), "{told}");
    }
    let backwards = NumberDataPoint { time_unix_nano: 5 * MS, ..number(0, delta(10, 1)) };
    assert!(sums(&decoder, vec![backwards], 0).1.contains("before it starts"));
    assert_eq!(sums(&decoder, vec![number(0, delta(10, 1))], 0).0, [r#"s_total{stream="0"} 10..20 1"#]);
}

/// A delta histogram of both kinds with this sum.
fn histograms_of(start_ms: u64, sum: f64) -> Vec<u8> {
    let (start_time_unix_nano, time_unix_nano) = (start_ms * MS, (start_ms + 10) * MS);
    let explicit = HistogramDataPoint {
        start_time_unix_nano,
        time_unix_nano,
        count: 3,
        sum: Some(sum),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![1.0],
        ..HistogramDataPoint::default()
    };
    let exponential = ExponentialHistogramDataPoint {
        start_time_unix_nano,
        time_unix_nano,
        count: 3,
        sum: Some(sum),
        positive: Some(OtlpBuckets { offset: 0, bucket_counts: vec![3] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let explicit = Data::Histogram(Histogram { data_points: vec![explicit], aggregation_temporality: DELTA });
    let data_points = vec![exponential];
    let exponential = Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: DELTA });
    request(vec![metric("h", explicit), metric("e", exponential)])
}

/// The sum of a stream, which may have no start by which a sender's restart is seen, must outlive one observation of NaN.
#[test]
fn delta_histograms_that_would_spoil_the_sum_are_refused() {
    for is_custom in [false, true] {
        let settings = OtlpSettings { convert_histograms_to_nhcb: is_custom, ..OtlpSettings::default() };
        let decoder = decoder(settings);
        let send = |start_ms, sum| decode(&decoder, &histograms_of(start_ms, sum), 0).unwrap();
        send(10, 1.5);
        for spoilt in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let decoded = send(20, spoilt);
            assert_eq!(stored(&decoded), Vec::<String>::new());
            let told: Vec<_> = decoded.rejections.iter().map(|told| (told.reason, told.count)).collect();
            assert_eq!(told, [(RejectReason::Unsupported, 2)]);
            let message = &decoded.rejections[0].message;
            assert!(message.contains("delta histogram with a sum of") && message.contains("added up"), "{message}");
        }
        // What comes next adds to what was before, a sum below zero as well.
        let lines = stored(&send(30, -0.5)).join("\n");
        let custom = r"h 10..40 -53 6 1 [(0, 2.0), (1, 4.0)]";
        let expected = if is_custom { [custom, custom] } else { ["h_sum 10..40 1", "h_count 10..40 6"] };
        for line in expected.into_iter().chain(["e 10..40 0 6 1 [(1, 6.0)]"]) {
            assert!(lines.contains(line), "{line}: {lines}");
        }
    }
}

#[test]
fn a_sum_that_would_grow_beyond_all_numbers_begins_anew() {
    let decoder = decoder(OtlpSettings::default());
    let large = |start_ms| {
        let value = Some(number_data_point::Value::AsDouble(1e308));
        NumberDataPoint { value, ..number(0, delta(start_ms, 0)) }
    };
    let (lines, _) = sums(&decoder, vec![large(10), large(20), number(0, delta(30, 1))], 0);
    assert!(lines[0].starts_with(r#"s_total{stream="0"} 10..20 1000"#), "{lines:?}");
    assert!(lines[1].starts_with(r#"s_total{stream="0"} 20..30 1000"#), "{lines:?}");
    let histogram = |start_ms| stored(&decode(&decoder, &histograms_of(start_ms, 1e308), 0).unwrap());
    histogram(10);
    let lines = histogram(20);
    assert!(lines.contains(&"h_count 20..30 3".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("e 20..30 0 3 1000")), "{lines:?}");
}

#[test]
fn tenants_and_restarts_of_the_server_begin_anew() {
    let decoder = decoder(OtlpSettings::default());
    let body = |start| request(vec![sum(vec![number(0, delta(start, 1))])]);
    let decode = |tenant: &str, start| {
        let tenant: TenantId = tenant.parse().unwrap();
        let decoded = decoder.decode(&tenant, (&body(start), WireForm::Protobuf), TimeWindow::ALL, 0);
        stored(&decoded.unwrap())
    };
    assert_eq!(decode("a", 10), [r#"s_total{stream="0"} 10..20 1"#]);
    assert_eq!(decode("a", 20), [r#"s_total{stream="0"} 10..30 2"#]);
    assert_eq!(decode("b", 20), [r#"s_total{stream="0"} 20..30 1"#]);
}

#[test]
fn deltas_that_only_labels_of_credentials_tell_apart_are_added_up_apart() {
    let decoder = decoder(OtlpSettings::default());
    let body = |start| request(vec![sum(vec![number(0, delta(start, 1))])]);
    let decode = |cluster: Option<&str>, start| {
        let set = cluster.map(|cluster| [("cluster".to_owned(), cluster.to_owned())]);
        let labels = set.and_then(|set| LabelRewrite::new(&set, None));
        let tenant = TenantId::default();
        let sender = (&tenant, labels.as_ref());
        let decoded = decoder.decode_labelled(sender, (&body(start), WireForm::Protobuf), TimeWindow::ALL, 0);
        stored(&decoded.unwrap())
    };
    for cluster in [None, Some("a"), Some("b")] {
        assert_eq!(decode(cluster, 10), [r#"s_total{stream="0"} 10..20 1"#]);
    }
    for cluster in [Some("b"), None, Some("a")] {
        assert_eq!(decode(cluster, 20), [r#"s_total{stream="0"} 10..30 2"#]);
    }
}

#[test]
fn deltas_become_histograms_with_custom_buckets_too() {
    let decoder = decoder(OtlpSettings { convert_histograms_to_nhcb: true, ..OtlpSettings::default() });
    decode(&decoder, &all_kinds(0, delta(10, 4)), 0).unwrap();
    let decoded = decode(&decoder, &all_kinds(0, delta(20, 5)), 0).unwrap();
    assert!(stored(&decoded).contains(&r#"h{stream="0"} 10..30 -53 15 4.5 [(0, 9.0), (1, 4.0), (2, 2.0)]"#.to_owned()));
}

#[test]
fn native_deltas_are_no_counters() {
    let decoder = decoder(OtlpSettings { delta: DeltaMode::Native, ..OtlpSettings::default() });
    for _ in 0..2 {
        let decoded = decode(&decoder, &all_kinds(0, delta(10, 4)), 0).unwrap();
        assert_eq!(stored(&decoded)[0], r#"s{stream="0"} 10..20 4"#);
        assert!(decoded.batch.metadata.iter().all(|metadata| metadata.kind == MetricKind::Unknown));
        assert_eq!(decoded.batch.histograms[0].histogram.reset_hint, ResetHint::Gauge);
    }
    assert_eq!(decoder.delta_streams(), (0, 0));
}
