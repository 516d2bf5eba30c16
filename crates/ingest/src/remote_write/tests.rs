//! The own decoder against prost's, on generated, damaged and hostile bytes; and the rules one by one.

use pharos_model::{Labels, Sample};
use pharos_proto::remote_write::{v1, v2};
use pharos_storage::RejectReason;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::sink::rejected;

const V1: RemoteWriteVersion = RemoteWriteVersion::V1;
const V2: RemoteWriteVersion = RemoteWriteVersion::V2;

/// Decodes with an empty memory, and again with what that one remembers: the same must come of it.
fn decode_twice(
    body: &[u8],
    version: RemoteWriteVersion,
    limits: &Limits,
    window: TimeWindow,
) -> Result<DecodedMetrics, IngestError> {
    let memory = SeriesMemory::default();
    let rules = Rules { settings: &RemoteWriteSettings::default(), limits, window };
    let first = decode(body, version, rules, &memory);
    let again = decode(body, version, rules, &memory);
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    first
}

fn decode_all(body: &[u8], version: RemoteWriteVersion) -> DecodedMetrics {
    decode_twice(body, version, &Limits::default(), TimeWindow::ALL).unwrap()
}

/// The series of a batch as text, samples in order.
fn series(decoded: &DecodedMetrics) -> Vec<(String, Vec<Sample>)> {
    let batch = &decoded.batch;
    let labels = |run| Labels::from_encoded(batch.encoded_labels(run)).unwrap().to_string();
    batch.series.iter().map(|run| (labels(run), batch.samples[run.samples.clone()].to_vec())).collect()
}

fn label(name: &str, value: &str) -> v1::Label {
    v1::Label { name: name.into(), value: value.into() }
}

fn series_v1(pairs: &[(&str, &str)], timestamps: &[i64]) -> v1::TimeSeries {
    v1::TimeSeries {
        labels: pairs.iter().map(|(name, value)| label(name, value)).collect(),
        samples: timestamps.iter().map(|&timestamp| v1::Sample { value: 1.5, timestamp }).collect(),
        ..v1::TimeSeries::default()
    }
}

fn request_v1(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    v1::WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec()
}

#[test]
fn good_series_are_kept_and_bad_ones_told() {
    let body = request_v1(vec![
        series_v1(&[("b", "2"), ("__name__", "up"), ("a", "1")], &[10, 20]),
        series_v1(&[("job", "nameless")], &[1, 2, 3]),
        series_v1(&[("__name__", "twice"), ("a", "1"), ("a", "2")], &[4]),
        series_v1(&[("__name__", "late")], &[-5, 30, 999]),
    ]);
    let window = TimeWindow { min_ms: 0, max_ms: 100 };
    let decoded = decode_twice(&body, V1, &Limits::default(), window).unwrap();
    let sample = |timestamp_ms| Sample { timestamp_ms, value: 1.5 };
    assert_eq!(
        series(&decoded),
        [(r#"up{a="1", b="2"}"#.into(), vec![sample(10), sample(20)]), ("late".into(), vec![sample(30)])]
    );
    let told: Vec<_> = decoded.rejections.iter().map(|r| (r.reason, r.count)).collect();
    assert_eq!(told, [(RejectReason::InvalidLabels, 4), (RejectReason::TooOld, 1), (RejectReason::TooNew, 1)]);
    assert!(decoded.rejections[0].message.contains("nameless"), "{:?}", decoded.rejections);
}

#[test]
fn label_limits_have_names() {
    let limits = Limits { labels_max: 2, label_name_bytes_max: 8, label_value_bytes_max: 8, ..Limits::default() };
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let decoded = decode_twice(&request_v1(vec![series_v1(pairs, &[1])]), V1, &limits, TimeWindow::ALL).unwrap();
        assert_eq!((decoded.batch.sample_count(), rejected(&decoded.rejections)), (0, 1), "{pairs:?}");
        assert!(decoded.rejections[0].message.contains(expected), "{:?}", decoded.rejections);
    };
    check(&[("__name__", "m"), ("a", "1"), ("b", "1")], "ingest.limits.labels_max = 2");
    check(&[("__name__", "m"), ("a", "123456789")], "ingest.limits.label_value_bytes_max = 8");
    check(&[("__name__", "m"), ("abcdefghi", "1")], "ingest.limits.label_name_bytes_max = 8");
}

#[test]
fn metadata_and_exemplars_are_kept() {
    let exemplar = |labels| v1::Exemplar { labels, value: 3.0, timestamp: 7 };
    let body = v1::WriteRequest {
        timeseries: vec![v1::TimeSeries {
            exemplars: vec![exemplar(vec![label("trace_id", "abc")]), exemplar(vec![label("x", &"é".repeat(200))])],
            ..series_v1(&[("__name__", "m_total")], &[7])
        }],
        metadata: vec![v1::MetricMetadata {
            r#type: 1,
            metric_family_name: "m_total".into(),
            help: "Things.".into(),
            unit: "things".into(),
        }],
    };
    let decoded = decode_all(&body.encode_to_vec(), V1);
    assert_eq!((decoded.batch.exemplars.len(), decoded.exemplars_dropped), (1, 1));
    assert_eq!(decoded.batch.exemplars[0].labels.get("trace_id"), Some("abc"));
    let metadata = &decoded.batch.metadata[0];
    assert_eq!((&*metadata.metric, metadata.kind, &*metadata.help), ("m_total", MetricKind::Counter, "Things."));
}

fn integer_histogram() -> v1::Histogram {
    v1::Histogram {
        count: Some(v1::histogram::Count::CountInt(6)),
        sum: 9.0,
        schema: 0,
        zero_threshold: 1e-128,
        zero_count: Some(v1::histogram::ZeroCount::ZeroCountInt(1)),
        positive_spans: vec![v1::BucketSpan { offset: 1, length: 2 }, v1::BucketSpan { offset: 3, length: 1 }],
        positive_deltas: vec![2, -1, 1],
        timestamp: 5,
        reset_hint: 3,
        ..v1::Histogram::default()
    }
}

fn histogram_of(message: v1::Histogram) -> DecodedMetrics {
    let timeseries = v1::TimeSeries { histograms: vec![message], ..series_v1(&[("__name__", "h")], &[]) };
    decode_all(&request_v1(vec![timeseries]), V1)
}

#[test]
fn integer_histograms_become_absolute() {
    let decoded = histogram_of(integer_histogram());
    let histogram = &decoded.batch.histograms[0].histogram;
    assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(1, 2.0), (2, 1.0), (6, 2.0)]);
    assert!(histogram.is_integer);
    assert_eq!(histogram.reset_hint, pharos_model::ResetHint::Gauge);
}

#[test]
fn float_and_custom_histograms_are_kept() {
    let float = v1::Histogram {
        count: Some(v1::histogram::Count::CountFloat(2.5)),
        schema: pharos_model::CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![v1::BucketSpan { offset: 0, length: 2 }],
        positive_counts: vec![1.0, 1.5],
        custom_values: vec![0.5, 1.0],
        ..v1::Histogram::default()
    };
    let decoded = histogram_of(float);
    let histogram = &decoded.batch.histograms[0].histogram;
    assert_eq!((histogram.is_integer, histogram.custom_bounds.as_slice()), (false, &[0.5, 1.0][..]));
    assert_eq!(histogram.positive.counts, [1.0, 1.5]);
}

#[test]
fn fine_schemas_are_lowered_and_unknown_ones_refused() {
    let fine = histogram_of(v1::Histogram { schema: 10, ..integer_histogram() });
    let histogram = &fine.batch.histograms[0].histogram;
    assert_eq!((histogram.schema, histogram.count), (8, 6.0));
    assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(1, 3.0), (2, 2.0)]);
    for schema in [-5, 53, i32::MAX, i32::MIN] {
        let refused = histogram_of(v1::Histogram { schema, ..integer_histogram() });
        assert_eq!((refused.batch.sample_count(), refused.rejections[0].reason), (0, RejectReason::InvalidHistogram));
    }
}

#[test]
fn a_stale_histogram_is_only_that() {
    let stale = v1::Histogram {
        sum: pharos_model::stale_nan(),
        positive_spans: vec![v1::BucketSpan { offset: -9, length: u32::MAX }],
        ..integer_histogram()
    };
    let decoded = histogram_of(stale);
    assert!(decoded.batch.histograms[0].histogram.is_stale());
    assert!(decoded.batch.histograms[0].histogram.positive.spans.is_empty());
}

fn request_v2() -> v2::Request {
    let symbols = ["", "__name__", "rpc_seconds_bucket", "le", "0.5", "Help.", "trace_id", "abc"];
    v2::Request {
        symbols: symbols.map(str::to_owned).to_vec(),
        timeseries: vec![v2::TimeSeries {
            labels_refs: vec![1, 2, 3, 4],
            samples: vec![v2::Sample { value: 4.0, timestamp: 20, start_timestamp: 10 }],
            exemplars: vec![v2::Exemplar { labels_refs: vec![6, 7], value: 0.3, timestamp: 19 }],
            metadata: Some(v2::Metadata { r#type: 3, help_ref: 5, unit_ref: 0 }),
            ..v2::TimeSeries::default()
        }],
    }
}

#[test]
fn version_2_resolves_symbols() {
    let decoded = decode_all(&request_v2().encode_to_vec(), V2);
    assert_eq!(
        series(&decoded),
        [(r#"rpc_seconds_bucket{le="0.5"}"#.into(), vec![Sample { timestamp_ms: 20, value: 4.0 }])]
    );
    assert_eq!(decoded.batch.start_ms, [10]);
    assert_eq!(decoded.batch.exemplars[0].labels.get("trace_id"), Some("abc"));
    let metadata = &decoded.batch.metadata[0];
    assert_eq!((&*metadata.metric, metadata.kind, &*metadata.help), ("rpc_seconds", MetricKind::Histogram, "Help."));
}

/// As Prometheus sends them, though the protocol knows no such series.
#[test]
fn exemplars_of_version_2_may_come_without_a_sample() {
    let mut request = request_v2();
    request.timeseries[0].samples.clear();
    let decoded = decode_all(&request.encode_to_vec(), V2);
    assert_eq!((decoded.batch.exemplars.len(), decoded.batch.series.len(), decoded.rejections.len()), (1, 1, 0));
}

#[test]
fn version_2_refuses_series_one_by_one() {
    let mut request = request_v2();
    let with = |labels_refs: Vec<u32>| v2::TimeSeries { labels_refs, ..request_v2().timeseries[0].clone() };
    request.timeseries.extend([with(vec![1, 99]), with(vec![1, 2, 3]), with(vec![3, 4])]);
    request.timeseries.push(v2::TimeSeries { labels_refs: vec![1, 2], ..v2::TimeSeries::default() });
    let decoded = decode_all(&request.encode_to_vec(), V2);
    assert_eq!(decoded.batch.sample_count(), 1);
    let told: Vec<_> = decoded.rejections.iter().map(|r| (r.reason, r.count)).collect();
    assert_eq!(told, [(RejectReason::InvalidLabels, 3), (RejectReason::Unsupported, 1)]);
}

/// The series that one of these labels becomes, with what 2.0 says of it.
fn described(settings: &RemoteWriteSettings, refs: &[u32], metadata: v2::Metadata) -> DecodedMetrics {
    let symbols = ["", "__name__", "m", "__type__", "gauge", "__unit__", "bytes", "quantile", "0.5", "le"];
    let series = v2::TimeSeries {
        labels_refs: refs.to_vec(),
        samples: vec![v2::Sample { value: 4.0, timestamp: 20, start_timestamp: 10 }],
        metadata: Some(metadata),
        ..v2::TimeSeries::default()
    };
    let request =
        v2::Request { symbols: symbols.map(str::to_owned).to_vec(), timeseries: vec![series.clone(), series] };
    let (memory, limits) = (SeriesMemory::default(), Limits::default());
    let rules = Rules { settings, limits: &limits, window: TimeWindow::ALL };
    let decode = || decode(&request.encode_to_vec(), V2, rules, &memory).unwrap();
    let (first, again) = (decode(), decode());
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    first
}

#[test]
fn types_and_units_become_labels_when_asked() {
    let asked = RemoteWriteSettings { type_and_unit_labels: true, ..RemoteWriteSettings::default() };
    let name = |settings: &RemoteWriteSettings, refs: &[u32], r#type, unit_ref| {
        let metadata = v2::Metadata { r#type, help_ref: 0, unit_ref };
        series(&described(settings, refs, metadata))[0].0.clone()
    };
    let usual = RemoteWriteSettings::default();
    let counter = r#"m{__type__="counter", __unit__="bytes"}"#;
    assert_eq!(name(&asked, &[1, 2], 1, 6), counter);
    assert_eq!(name(&asked, &[1, 2], 1, 0), r#"m{__type__="counter"}"#);
    assert_eq!(name(&asked, &[1, 2], 0, 6), r#"m{__unit__="bytes"}"#);
    // What the sender says in labels gives way, unless it says nothing of it in metadata.
    assert_eq!(name(&asked, &[1, 2, 3, 4, 5, 4], 1, 6), counter);
    assert_eq!(name(&asked, &[1, 2, 3, 4, 5, 4], 1, 0), r#"m{__type__="counter"}"#);
    assert_eq!(name(&asked, &[1, 2, 3, 4], 0, 0), r#"m{__type__="gauge"}"#);
    assert_eq!(
        (name(&usual, &[1, 2], 1, 6), name(&usual, &[1, 2, 3, 4], 1, 6)),
        ("m".into(), r#"m{__type__="gauge"}"#.into())
    );
}

#[test]
fn what_counts_up_is_told_when_asked() {
    let asked = RemoteWriteSettings { created_zero: true, ..RemoteWriteSettings::default() };
    let counted = |settings: &RemoteWriteSettings, refs: &[u32], r#type| {
        described(settings, refs, v2::Metadata { r#type, ..v2::Metadata::default() }).counted
    };
    // Unknown, counter, gauge, histogram, gauge histogram, summary, info, state set.
    let up = [true, true, false, true, false, true, false, false];
    for (kind, up) in up.into_iter().enumerate() {
        assert_eq!(counted(&asked, &[1, 2, 9, 8], kind as i32), [up, up], "{kind}");
    }
    assert_eq!(counted(&asked, &[1, 2, 7, 8], 5), [false, false], "a quantile goes up and down");
    assert_eq!(counted(&RemoteWriteSettings::default(), &[1, 2], 1), [false; 0]);
}

#[test]
fn a_few_references_cannot_grow_without_bound() {
    let mut request =
        v2::Request { symbols: vec![String::new(), "__name__".into(), "x".repeat(4096)], ..v2::Request::default() };
    let one =
        v2::TimeSeries { labels_refs: vec![1, 2], samples: vec![v2::Sample::default()], ..v2::TimeSeries::default() };
    request.timeseries = vec![one; 100];
    let limits = Limits { label_bytes_max: pharos_base::ByteSize(100_000), ..Limits::default() };
    let refused = decode_twice(&request.encode_to_vec(), V2, &limits, TimeWindow::ALL);
    assert!(matches!(refused, Err(IngestError::BatchTooLarge { limit: 100_000, .. })), "{refused:?}");
}

/// A series of 1.0 named `m` that has this field so many times; ten of its bytes are its name.
fn repeated_v1(field: &[u8], times: usize) -> Vec<u8> {
    let series = [series_v1(&[("__name__", "m")], &[]).encode_to_vec(), field.repeat(times)].concat();
    let mut body = vec![1 << 3 | 2];
    prost::encoding::encode_varint(series.len() as u64, &mut body);
    [body, series].concat()
}

/// Two bytes of a message can be two hundred in memory, whatever they are.
#[test]
fn what_a_request_takes_in_memory_is_limited() {
    let help_of_others = |times: usize| {
        let families = (0..times).map(|at| format!("f{at}"));
        let symbols = [String::new(), "__name__".into(), "x".repeat(2000)].into_iter().chain(families).collect();
        let metadata = Some(v2::Metadata { r#type: 1, help_ref: 2, unit_ref: 0 });
        let described = |at| v2::TimeSeries { labels_refs: vec![1, at], metadata, ..v2::TimeSeries::default() };
        v2::Request { symbols, timeseries: (3..3 + times as u32).map(described).collect() }.encode_to_vec()
    };
    let family = [3 << 3 | 2, 3, 2 << 3 | 2, 1, b'a'];
    let repeated = |field: &[u8]| -> Box<dyn Fn(usize) -> Vec<u8>> {
        let field = field.to_vec();
        Box::new(move |times| repeated_v1(&field, times))
    };
    let of_body = |field: &'static [u8]| -> Box<dyn Fn(usize) -> Vec<u8>> { Box::new(|times| field.repeat(times)) };
    for (what, version, of, bytes_each) in [
        ("samples", V1, repeated(&[2 << 3 | 2, 0]), 48),
        ("samples with an instant", V1, repeated(&[2 << 3 | 2, 2, 2 << 3, 7]), 48),
        ("exemplars", V1, repeated(&[3 << 3 | 2, 0]), 100),
        ("histograms", V1, repeated(&[4 << 3 | 2, 0]), 200),
        ("metadata", V1, Box::new(|times| family.repeat(times)), 160),
        ("symbols", V2, of_body(&[4 << 3 | 2, 0]), 32),
        ("metadata that names one text", V2, Box::new(help_of_others), 2000),
    ] {
        let body = of(100);
        let decode = |bytes| {
            let limits = Limits { decoded_max: pharos_base::ByteSize(bytes), ..Limits::default() };
            decode_twice(&body, version, &limits, TimeWindow::ALL)
        };
        let refused = decode(100 * bytes_each - 1);
        let expected = "ingest.limits.decoded_max";
        assert!(
            matches!(refused, Err(IngestError::BatchTooLarge { setting, .. }) if setting == expected),
            "{what}: {refused:?}"
        );
        assert!(decode(100 * (2 * bytes_each + 200)).is_ok(), "{what}");
    }
}

/// What a body of this length can hold at most is not what it holds: a large series of few samples is taken.
#[test]
fn samples_are_counted_before_they_are_refused() {
    let sample = [&[2 << 3 | 2, 10, 2 << 3, 7][..], &[6 << 3, 1].repeat(4)].concat();
    let (body, limit) = (repeated_v1(&sample, 100), 100 * 48);
    for (bytes, is_taken) in [(limit, true), (limit - 1, false)] {
        let limits = Limits { decoded_max: pharos_base::ByteSize(bytes), ..Limits::default() };
        assert_eq!(decode_twice(&body, V1, &limits, TimeWindow::ALL).is_ok(), is_taken, "{bytes}");
    }
}

/// What a limit refuses is not collected first.
#[test]
fn lists_end_at_their_limits() {
    const MANY: usize = 100_000;
    let limits = Limits { histogram_buckets_max: 3, labels_max: 3, exemplar_label_chars_max: 3, ..Limits::default() };
    let packed = |field: u8, element: &[u8]| {
        let mut message = vec![field << 3 | 2];
        prost::encoding::encode_varint((MANY * element.len()) as u64, &mut message);
        [message, element.repeat(MANY)].concat()
    };
    let lists = [
        ("negative spans", [8 << 3 | 2, 0].repeat(MANY)),
        ("negative deltas", packed(9, &[0])),
        ("negative counts", [&[2 << 3 | 1][..], &[0; 8], &packed(10, &[0; 8])].concat()),
        ("positive spans", [11 << 3 | 2, 0].repeat(MANY)),
        ("positive deltas", packed(12, &[0])),
        ("positive deltas, not packed", [12 << 3, 0].repeat(MANY)),
        ("positive counts", [&[2 << 3 | 1][..], &[0; 8], &packed(13, &[0; 8])].concat()),
        ("bounds", [&[0x82, 0x01][..], &packed(16, &[0; 8])[1..]].concat()),
    ];
    for (what, message) in lists {
        let Ok(point) = histogram::decode(&message, limits.histogram_buckets_max) else { panic!("{what}") };
        let histogram = &point.histogram;
        let sizes = [&histogram.positive, &histogram.negative].map(|side| side.counts.len().max(side.spans.len()));
        assert_eq!(sizes.into_iter().max().max(Some(histogram.custom_bounds.len())), Some(4), "{what}: one too many");
        let mut field = vec![4 << 3 | 2];
        prost::encoding::encode_varint(message.len() as u64, &mut field);
        let body = repeated_v1(&[field, message].concat(), 1);
        let decoded = decode_twice(&body, V1, &limits, TimeWindow::ALL).unwrap();
        let told: Vec<_> = decoded.rejections.iter().map(|r| (r.reason, r.count)).collect();
        assert_eq!((decoded.batch.sample_count(), told), (0, vec![(RejectReason::Limit, 1)]), "{what}");
        assert!(decoded.rejections[0].message.contains("histogram_buckets_max = 3"), "{what}: {decoded:?}");
    }
    // Labels: of a series in either form, and of an exemplar, which is dropped.
    let body = repeated_v1(&[&[2 << 3 | 2, 0][..], &[1 << 3 | 2, 3, 2 << 3 | 2, 1, b'v'].repeat(MANY)].concat(), 1);
    let usual = repeated_v1(
        &[[1 << 3 | 2, 6, 1 << 3 | 2, 1, b'n', 2 << 3 | 2, 1, b'v'].repeat(MANY), vec![2 << 3 | 2, 0]].concat(),
        1,
    );
    for body in [body, usual] {
        let decoded = decode_twice(&body, V1, &limits, TimeWindow::ALL).unwrap();
        assert_eq!((decoded.batch.sample_count(), decoded.rejections[0].reason), (0, RejectReason::Limit));
        assert!(decoded.rejections[0].message.contains("labels_max = 3"), "{decoded:?}");
    }
    let labels = (0..4).map(|at| label(&at.to_string(), "v")).collect();
    let exemplar = v1::Exemplar { labels, value: 1.0, timestamp: 1 };
    let one = v1::TimeSeries { exemplars: vec![exemplar], ..series_v1(&[("__name__", "m")], &[1]) };
    let decoded = decode_twice(&request_v1(vec![one]), V1, &limits, TimeWindow::ALL).unwrap();
    assert_eq!((decoded.batch.sample_count(), decoded.exemplars_dropped), (1, 1));
}

fn arb_label() -> impl Strategy<Value = v1::Label> {
    ("[a-e_]{0,3}", ".{0,6}").prop_map(|(name, value)| v1::Label { name, value })
}

prop_compose! {
    fn arb_histogram()(
        is_float in any::<bool>(), sum in any::<f64>(), schema in -6..12_i32, spans in prop::collection::vec((-3..4_i32, 0..3_u32), 0..3),
        deltas in prop::collection::vec(-3..9_i64, 0..5), counts in prop::collection::vec(0.0..9.0, 0..5), timestamp in any::<i64>(),
    ) -> v1::Histogram {
        let spans: Vec<_> = spans.into_iter().map(|(offset, length)| v1::BucketSpan { offset, length }).collect();
        let mut count = 0;
        let total: i64 = deltas.iter().map(|delta| { count += delta; count }).sum();
        let count = if is_float { v1::histogram::Count::CountFloat(9.0) } else { v1::histogram::Count::CountInt(total as u64) };
        v1::Histogram {
            count: Some(count), sum, schema, positive_spans: spans.clone(), positive_deltas: deltas, positive_counts: counts.clone(),
            negative_spans: spans, negative_counts: counts, timestamp, ..v1::Histogram::default()
        }
    }
}

prop_compose! {
    fn arb_series()(
        named in any::<bool>(), labels in prop::collection::vec(arb_label(), 0..4),
        samples in prop::collection::vec((any::<f64>(), any::<i64>()), 0..4), histograms in prop::collection::vec(arb_histogram(), 0..2),
    ) -> v1::TimeSeries {
        let name = named.then(|| label("__name__", "metric"));
        v1::TimeSeries {
            labels: name.into_iter().chain(labels).collect(),
            samples: samples.into_iter().map(|(value, timestamp)| v1::Sample { value, timestamp }).collect(),
            histograms,
            ..v1::TimeSeries::default()
        }
    }
}

/// What the decoder must give, by way of prost and the slow constructors.
fn expected(request: &v1::WriteRequest) -> (Vec<(String, Vec<Sample>)>, u64) {
    let (mut kept, mut refused) = (Vec::new(), 0);
    for one in &request.timeseries {
        let samples: Vec<_> =
            one.samples.iter().map(|s| Sample { timestamp_ms: s.timestamp, value: s.value }).collect();
        let labels = Labels::from_pairs(one.labels.iter().map(|label| (&label.name, &label.value)));
        match labels.ok().filter(|labels| !labels.metric_name().is_empty()) {
            Some(labels) if !samples.is_empty() => kept.push((labels.to_string(), samples)),
            Some(_) => {}
            None => refused += samples.len() as u64,
        }
    }
    (kept, refused)
}

proptest! {
    #[test]
    fn equals_prost(timeseries in prop::collection::vec(arb_series(), 0..4)) {
        let request = v1::WriteRequest { timeseries, metadata: Vec::new() };
        let body = request.encode_to_vec();
        let decoded = decode_all(&body, V1);
        // Through the wire, as prost does not send a value of -0.0.
        let (kept, refused) = expected(&v1::WriteRequest::decode(&*body).unwrap());
        let with_samples: Vec<_> = series(&decoded).into_iter().filter(|(_, samples)| !samples.is_empty()).collect();
        prop_assert_eq!(with_samples, kept);
        let histograms: usize = request.timeseries.iter().map(|one| one.histograms.len()).sum();
        prop_assert_eq!(
            rejected(&decoded.rejections) + decoded.batch.histograms.len() as u64,
            refused + histograms as u64,
            "every sample is stored or told"
        );
        for sample in &decoded.batch.histograms {
            prop_assert_eq!(sample.histogram.validate(), Ok(()));
        }
    }

    /// Damage anywhere: whatever prost takes, we take; whatever it refuses, we refuse.
    #[test]
    fn damaged_requests_are_judged_as_prost_does(
        timeseries in prop::collection::vec(arb_series(), 1..3), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut body = request_v1(timeseries);
        prop_assume!(!body.is_empty());
        let (memory, limits, settings) = (SeriesMemory::default(), Limits::default(), RemoteWriteSettings::default());
        let rules = Rules { settings: &settings, limits: &limits, window: TimeWindow::ALL };
        decode(&body, V1, rules, &memory).unwrap();
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte }
        let oracle = v1::WriteRequest::decode(&*body);
        let ours = decode_twice(&body, V1, &Limits::default(), TimeWindow::ALL);
        prop_assert_eq!(oracle.is_ok(), ours.is_ok(), "{:?} {:?}", oracle, ours);
        // What is remembered of the sound request does not make the damaged one another.
        let with_memory = decode(&body, V1, rules, &memory);
        prop_assert_eq!(format!("{:?}", ours), format!("{:?}", with_memory));
    }

    #[test]
    fn hostile_bytes_neither_panic_nor_grow(bytes in prop::collection::vec(any::<u8>(), 0..300), version in prop::sample::select(vec![V1, V2])) {
        if let Ok(decoded) = decode_twice(&bytes, version, &Limits::default(), TimeWindow::ALL) {
            prop_assert!(decoded.batch.memory_bytes() <= 200 * bytes.len() + 1);
        }
    }
}
