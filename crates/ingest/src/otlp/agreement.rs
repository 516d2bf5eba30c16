//! Metrics requests of every kind, whole and damaged: what is translated from the wire, cold or from memory, is what the
//! [reference](super::reference) makes of the message that a generated decoder reads.
//!
//! Where the two may differ, on purpose:
//! - of several reasons to refuse a request as a whole, the one met first is named;
//! - `decoded_max` counts what a request takes in memory, which is less where no messages are built;
//! - unknown groups may nest 64 deep, not 100 less what is around them.

pub(super) mod requests;
pub(super) mod scramble;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use pharos_base::ByteSize;
use pharos_model::Histogram;
use proptest::prelude::*;
use prost::Message;

use super::reference;
use super::*;
use requests::Random;

const WINDOW: TimeWindow = TimeWindow { min_ms: 1_600_000_000_000, max_ms: 1_800_000_000_000 };

/// Everything of an answer, in a form that compares to the bit.
fn seen(decoded: &DecodedMetrics) -> Vec<String> {
    let batch = &decoded.batch;
    let runs = batch.series.iter().map(|run| {
        let labels = pharos_model::Labels::from_encoded(batch.encoded_labels(run)).unwrap();
        assert_eq!(labels.fingerprint(), batch.fingerprint(run));
        let samples: Vec<_> =
            batch.samples[run.samples.clone()].iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
        let starts = batch.start_ms.get(run.samples.clone());
        let histograms: Vec<_> = batch.histograms[run.histograms.clone()]
            .iter()
            .map(|sample| (sample.timestamp_ms, bits(&sample.histogram)))
            .collect();
        let histogram_starts = batch.histogram_start_ms.get(run.histograms.clone());
        let exemplars: Vec<_> = batch.exemplars[run.exemplars.clone()]
            .iter()
            .map(|exemplar| (&exemplar.labels, exemplar.timestamp_ms, exemplar.value.to_bits()))
            .collect();
        format!("{labels:?} {samples:?} {starts:?} {histograms:?} {histogram_starts:?} {exemplars:?}")
    });
    let DecodedMetrics { rejections, exemplars_dropped, warnings, .. } = decoded;
    let rest = format!("{:?} {rejections:?} {exemplars_dropped} {warnings:?}", batch.groups);
    runs.chain(batch.metadata.iter().map(|metadata| format!("{metadata:?}"))).chain([rest]).collect()
}

fn bits(histogram: &Histogram) -> String {
    let numbers = [histogram.sum, histogram.count, histogram.zero_count, histogram.zero_threshold];
    format!("{histogram:?} {:?}", numbers.map(f64::to_bits))
}

fn expected(body: &[u8], settings: &OtlpSettings, limits: &Limits) -> Option<Vec<String>> {
    let request = ExportMetricsServiceRequest::decode(body).ok()?;
    reference::translate(&request, settings, limits, WINDOW).ok().map(|decoded| seen(&decoded))
}

fn decode(decoder: &MetricsDecoder, body: &[u8], now_ms: i64) -> Option<Vec<String>> {
    match decoder.decode(&TenantId::default(), (body, WireForm::Protobuf), WINDOW, now_ms) {
        Ok(decoded) => Some(seen(&decoded)),
        Err(IngestError::Decode { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Decodes the bodies one after the other, twice, and compares each answer.
#[track_caller]
fn check(bodies: &[Vec<u8>], settings: &OtlpSettings, limits: &Limits) {
    let decoder = MetricsDecoder::new(settings.clone(), limits.clone());
    let expected: Vec<_> = bodies.iter().map(|body| expected(body, settings, limits)).collect();
    for minute in 0..2 {
        for (body, expected) in bodies.iter().zip(&expected) {
            assert_eq!(&decode(&decoder, body, minute * 60_000), expected, "minute {minute}");
        }
    }
    assert!(decoder.known_bytes() <= limits.otlp_streams_memory_max.0);
}

/// The reference adds nothing up.
fn refusing() -> OtlpSettings {
    OtlpSettings { delta: DeltaMode::Refuse, ..OtlpSettings::default() }
}

fn settings() -> impl Strategy<Value = OtlpSettings> {
    (any::<[bool; 7]>(), 0..4_usize).prop_map(|([all, keep, nhcb, scope, sanitize, multiple, some], strategy)| {
        use TranslationStrategy as S;
        OtlpSettings {
            translation_strategy: [
                S::UnderscoreEscapingWithSuffixes,
                S::UnderscoreEscapingWithoutSuffixes,
                S::NoUTF8EscapingWithSuffixes,
                S::NoTranslation,
            ][strategy],
            promote_resource_attributes: if some { vec!["host.name".into(), "a.b".into()] } else { Vec::new() },
            promote_all_resource_attributes: all,
            ignore_resource_attributes: vec!["a-b".into()],
            keep_identifying_resource_attributes: keep,
            convert_histograms_to_nhcb: nhcb,
            promote_scope_metadata: scope,
            label_name_underscore_sanitization: sanitize,
            label_name_preserve_multiple_underscores: multiple,
            ..refusing()
        }
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let memory = prop_oneof![Just(64 << 20), Just(0), 500..20_000_u64];
    (memory, 3..12_usize, any::<bool>()).prop_map(|(memory, few, is_strict)| {
        let usual = Limits { otlp_streams_memory_max: ByteSize(memory), ..Limits::default() };
        if !is_strict {
            return usual;
        }
        Limits {
            labels_max: few,
            label_name_bytes_max: 20,
            label_value_bytes_max: 30,
            exemplar_label_chars_max: 40,
            histogram_buckets_max: few,
            help_bytes_max: 3,
            ..usual
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whole_requests(seeds in proptest::collection::vec(any::<u64>(), 1..4), settings in settings(), limits in limits()) {
        let bodies: Vec<_> = seeds.iter().map(|seed| Random::new(*seed).request().encode_to_vec()).collect();
        check(&bodies, &settings, &limits);
    }

    /// Fields in any order, several times, with keys and lengths longer than they need to be, and with unknown ones.
    #[test]
    fn requests_written_in_unusual_ways(seed in any::<u64>(), settings in settings(), limits in limits()) {
        let usual = Random::new(seed).request().encode_to_vec();
        let unusual = scramble::message(&usual, &json::METRICS_REQUEST, &mut Random::new(!seed));
        check(&[usual, unusual], &settings, &limits);
    }

    /// The undamaged request comes first, so that damage is looked for in what is known, too.
    #[test]
    fn damaged_requests(seed in any::<u64>(), settings in settings()) {
        let whole = Random::new(seed).request().encode_to_vec();
        let mut random = Random::new(!seed);
        let damaged = (0..8).map(|_| scramble::damaged(&whole, &mut random));
        let bodies: Vec<_> = [whole.clone()].into_iter().chain(damaged).collect();
        check(&bodies, &settings, &Limits::default());
    }

    #[test]
    fn hostile_bytes(body in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), 0..80_u8, any::<u8>()], 0..200)) {
        check(&[body], &refusing(), &Limits::default());
    }
}

fn with_attribute(attribute: KeyValue) -> Vec<u8> {
    let point = NumberDataPoint { attributes: vec![attribute], ..NumberDataPoint::default() };
    let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
    let scope = ScopeMetrics { metrics: vec![Metric { data, ..Metric::default() }], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
}

#[test]
fn values_nest_as_deep_as_messages_may() {
    let mut value = AnyValue { value: Some(Value::IntValue(1)) };
    let mut passed = 0;
    for _ in 0..60 {
        let attribute = KeyValue { key: "deep".into(), value: Some(value.clone()), ..KeyValue::default() };
        let body = with_attribute(attribute);
        passed += usize::from(ExportMetricsServiceRequest::decode(&*body).is_ok());
        check(&[body], &refusing(), &Limits::default());
        value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    assert!((40..50).contains(&passed), "{passed}");
}
