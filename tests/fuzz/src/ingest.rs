//! What senders write: remote write in both versions, metrics and traces of OTLP in both forms.
//!
//! Whatever is taken is sound and bounded, and the same whether its labels were met before or not.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use pharos_base::ByteSize;
use pharos_ingest::otlp::{
    DecodedSpans, DeltaMode, MetricsDecoder, OtlpSettings, TranslationStrategy, WireForm, decode_traces,
};
use pharos_ingest::remote_write::{RemoteWriteSettings, RemoteWriteVersion, Rules, SeriesMemory, decode};
use pharos_ingest::{DecodedMetrics, IngestError, Limits, TimeWindow};
use pharos_model::TenantId;
use prost::Message;

/// Samples outside are refused.
const WINDOW: TimeWindow = TimeWindow { min_ms: 0, max_ms: 1_800_000_000_000 };
const NOW_MS: i64 = 1_700_000_000_000;
/// Bytes of label text, and of what else a request may take, of every input: few enough for an input of a few kilobytes to reach.
const LIMIT_BYTES: u64 = 256 << 10;
/// What is remembered of streams, and what their deltas may take.
const MEMORY_BYTES: u64 = 4 << 20;
/// Delta streams of a tenant.
const DELTA_STREAMS_MAX: usize = 64;

fn limits() -> Limits {
    let limit = ByteSize(LIMIT_BYTES);
    let memory = ByteSize(MEMORY_BYTES);
    Limits { label_bytes_max: limit, decoded_max: limit, otlp_streams_memory_max: memory, ..Limits::default() }
}

/// Remote write 1.0.
pub(crate) fn remote_write_1(bytes: &[u8]) {
    remote_write(bytes, RemoteWriteVersion::V1);
}

/// Remote write 2.0.
pub(crate) fn remote_write_2(bytes: &[u8]) {
    remote_write(bytes, RemoteWriteVersion::V2);
}

fn remote_write(body: &[u8], version: RemoteWriteVersion) {
    let limits = limits();
    for is_asked in [false, true] {
        let settings = RemoteWriteSettings { type_and_unit_labels: is_asked, created_zero: is_asked };
        let (rules, memory) = (Rules { settings: &settings, limits: &limits, window: WINDOW }, SeriesMemory::default());
        let decode = || decode(body, version, rules, &memory);
        check(&decode(), &decode());
    }
}

/// Metrics of OTLP. Input: two bytes of settings, and the request.
pub(crate) fn otlp_metrics(bytes: &[u8]) {
    use TranslationStrategy as S;
    let [settings, more, body @ ..] = bytes else { return };
    let (is, is_more) = (|bit: u8| settings & bit != 0, |bit: u8| more & bit != 0);
    let listed = |bit: u8| if is_more(bit) { RESOURCE_ATTRIBUTES.map(str::to_owned).to_vec() } else { Vec::new() };
    let strategies = [
        S::UnderscoreEscapingWithSuffixes,
        S::UnderscoreEscapingWithoutSuffixes,
        S::NoUTF8EscapingWithSuffixes,
        S::NoTranslation,
    ];
    let rules = OtlpSettings {
        translation_strategy: strategies[usize::from(settings >> 6)],
        promote_all_resource_attributes: is(1),
        convert_histograms_to_nhcb: is(2),
        promote_scope_metadata: is(4),
        keep_identifying_resource_attributes: is(8),
        label_name_preserve_multiple_underscores: is(16),
        created_zero: is(1),
        type_and_unit_labels: is_more(1),
        label_name_underscore_sanitization: !is_more(2),
        promote_resource_attributes: listed(4),
        ignore_resource_attributes: listed(8),
        delta: if is_more(16) { DeltaMode::Refuse } else { DeltaMode::Native },
        delta_streams_max: DELTA_STREAMS_MAX,
        delta_memory_max: ByteSize(MEMORY_BYTES),
        ..OtlpSettings::default()
    };
    let adding = MetricsDecoder::new(OtlpSettings { delta: DeltaMode::Convert, ..rules.clone() }, limits());
    let decoder = MetricsDecoder::new(rules, limits());
    let tenant = TenantId::default();
    let decode = || decoder.decode(&tenant, (body, form(is(32))), WINDOW, NOW_MS);
    check(&decode(), &decode());
    // What is added up the second time differs where more points of a stream come again than are remembered, but it is sound.
    for now_ms in [NOW_MS, NOW_MS + 1] {
        if let Ok(decoded) = adding.decode(&tenant, (body, form(is(32))), WINDOW, now_ms) {
            check_sound(&decoded);
        }
        let (streams, bytes) = adding.delta_streams();
        assert!(
            streams <= DELTA_STREAMS_MAX as u64 && bytes <= MEMORY_BYTES,
            "{streams} delta streams of {bytes} bytes"
        );
    }
    for decoder in [&decoder, &adding] {
        assert!(decoder.known_bytes() <= MEMORY_BYTES);
    }
}

/// Attributes that resources of the seeds have.
const RESOURCE_ATTRIBUTES: [&str; 3] = ["service.name", "host.name", "_x"];

/// Traces of OTLP. Input: 1 for JSON, else 0; and the request.
pub(crate) fn otlp_traces(bytes: &[u8]) {
    let Some((is_json, body)) = bytes.split_first() else { return };
    let Ok(decoded) = decode_traces(body, form(*is_json == 1), &limits()) else { return };
    for span in decoded.batch.groups.iter().flat_map(|group| &group.spans) {
        assert!(!span.trace_id.is_zero() && !span.span_id.is_zero());
    }
}

/// OTLP in JSON, of either signal: a text that is no request of one of them may be one of the other.
pub(crate) fn otlp_json(text: &[u8]) {
    let rules = OtlpSettings { delta: DeltaMode::Native, ..OtlpSettings::default() };
    let (tenant, decoder) = (TenantId::default(), MetricsDecoder::new(rules, limits()));
    let decode = || decoder.decode(&tenant, (text, WireForm::Json), WINDOW, NOW_MS);
    check(&decode(), &decode());
    if let (Ok(one), Ok(again)) = (traces_of(text), traces_of(text)) {
        assert_eq!(one, again);
    }
    otlp_traces(&[&[1], text].concat());
}

fn traces_of(text: &[u8]) -> Result<DecodedSpans, IngestError> {
    decode_traces(text, WireForm::Json, &limits())
}

fn form(is_json: bool) -> WireForm {
    if is_json { WireForm::Json } else { WireForm::Protobuf }
}

/// # Panics
/// If what was decoded is unsound or too much, or not the same with what is remembered of the first time.
fn check(first: &Result<DecodedMetrics, IngestError>, again: &Result<DecodedMetrics, IngestError>) {
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    if let Ok(decoded) = first {
        check_sound(decoded);
    }
}

/// # Panics
/// If what was decoded is unsound, or more than the limits let pass, whatever the size of its body.
fn check_sound(DecodedMetrics { batch, counted, .. }: &DecodedMetrics) {
    assert!(counted.is_empty() || counted.len() == batch.series.len());
    assert!(batch.memory_bytes() <= 2 * LIMIT_BYTES as usize, "{} bytes", batch.memory_bytes());
    let mut places: Vec<usize> = batch.units().flat_map(|unit| unit.places()).collect();
    places.sort_unstable();
    assert!(places.into_iter().eq(0..batch.series.len()), "every run is of one group, or of none");
    for run in &batch.series {
        let labels = pharos_model::Labels::from_encoded(batch.encoded_labels(run)).expect("labels are canonical");
        assert!(!labels.metric_name().is_empty());
        assert_eq!(labels.fingerprint(), batch.fingerprint(run));
    }
    let mut instants = batch.samples.iter().map(|sample| sample.timestamp_ms);
    assert!(instants.all(|at_ms| (WINDOW.min_ms..=WINDOW.max_ms).contains(&at_ms)));
    for sample in &batch.histograms {
        assert_eq!(sample.histogram.validate(), Ok(()));
    }
}

/// Inputs to begin with: requests that have something of everything.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let json = |name| include_json(name);
    let mut found = vec![
        ("remote-write-1", remote_write_1_seed(&["__name__", "a", "b"])),
        ("remote-write-1", remote_write_1_seed(&["b", "__name__", "a"])),
        ("remote-write-2", remote_write_2_seed(vec![1, 2, 3, 4])),
        ("remote-write-2", remote_write_2_seed(vec![3, 4, 1, 2])),
    ];
    for settings in [0, 1, 2, 4, 8, 64, 128, 192] {
        found.push(("otlp-metrics", with_front(settings, &with_front(0, &metrics()))));
    }
    for more in [1, 2, 4, 8, 16, 31] {
        found.push(("otlp-metrics", with_front(0, &with_front(more, &metrics()))));
    }
    found.push(("otlp-metrics", with_front(32, &with_front(0, &json("metrics")))));
    found.push(("otlp-metrics", with_front(0, &with_front(0, &deltas()))));
    found.push(("otlp-metrics", with_front(1, &with_front(1, &deltas()))));
    found.push(("remote-write-1", small_things(&[&[0x22, 0], &[0x1a, 0], &[0x12, 0]])));
    found.push(("remote-write-1", small_things(&[&[0x22, 4, 0x62, 2, 0, 0]])));
    found.push(("remote-write-2", [0x22, 0].repeat(3000)));
    found.push(("otlp-json", wide_json()));
    found.push(("otlp-traces", with_front(0, &traces())));
    found.push(("otlp-traces", with_front(1, &json("traces"))));
    found.extend(["metrics", "traces"].map(|name| ("otlp-json", json(name))));
    found
}

fn with_front(front: u8, body: &[u8]) -> Vec<u8> {
    [&[front], body].concat()
}

/// The same metrics, as deltas.
fn deltas() -> Vec<u8> {
    use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality::Delta;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let mut request = ExportMetricsServiceRequest::decode(&*metrics()).expect("a request");
    let scopes = request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        match &mut metric.data {
            Some(Data::Sum(sum)) => sum.aggregation_temporality = Delta.into(),
            Some(Data::Histogram(histogram)) => histogram.aggregation_temporality = Delta.into(),
            Some(Data::ExponentialHistogram(histogram)) => histogram.aggregation_temporality = Delta.into(),
            _ => {}
        }
    }
    request.encode_to_vec()
}

/// Fields that are small in a message and large in memory, hundreds of each in one series of 1.0.
fn small_things(things: &[&[u8]]) -> Vec<u8> {
    let name = [0x0a, 13, 0x0a, 8, b'_', b'_', b'n', b'a', b'm', b'e', b'_', b'_', 0x12, 1, b'm'];
    let series = things.iter().fold(name.to_vec(), |series, thing| [series, thing.repeat(900)].concat());
    let mut message = vec![0x0a];
    prost::encoding::encode_varint(series.len() as u64, &mut message);
    [message, series].concat()
}

/// Lists whose elements are two bytes here and eight in a message, and numbers in unusual forms.
fn wide_json() -> Vec<u8> {
    let list = vec!["0"; 900].join(",");
    let point = format!(
        r#"{{"timeUnixNano":1.7e18,"count":"1e0","bucketCounts":[{list}],"explicitBounds":[{list}],"exemplars":[{{"traceId":"xyz","asInt":"1.0"}}]}}"#
    );
    let metric = format!(r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{point}]}}}}"#);
    format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}"#).into_bytes()
}

fn include_json(name: &str) -> Vec<u8> {
    let text: &[u8] = match name {
        "metrics" => include_bytes!("../../../crates/ingest/src/otlp/json/testdata/metrics.json"),
        _ => include_bytes!("../../../crates/ingest/src/otlp/json/testdata/traces.json"),
    };
    text.to_vec()
}

pub(crate) fn remote_write_1_seed(names: &[&str]) -> Vec<u8> {
    use pharos_proto::remote_write::v1;
    let label = |name: &&str| v1::Label { name: (*name).to_owned(), value: "up".to_owned() };
    let histogram = v1::Histogram {
        count: Some(v1::histogram::Count::CountInt(6)),
        sum: 9.0,
        zero_threshold: 1e-128,
        zero_count: Some(v1::histogram::ZeroCount::ZeroCountInt(1)),
        positive_spans: vec![v1::BucketSpan { offset: 1, length: 2 }, v1::BucketSpan { offset: 3, length: 1 }],
        positive_deltas: vec![2, -1, 1],
        timestamp: NOW_MS,
        ..v1::Histogram::default()
    };
    let series = v1::TimeSeries {
        labels: names.iter().map(label).collect(),
        samples: vec![v1::Sample { value: 1.5, timestamp: NOW_MS }],
        exemplars: vec![v1::Exemplar { labels: vec![label(&"trace_id")], value: 3.0, timestamp: NOW_MS }],
        histograms: vec![histogram],
    };
    let metadata = v1::MetricMetadata { r#type: 1, metric_family_name: "up".into(), ..Default::default() };
    v1::WriteRequest { timeseries: vec![series.clone(), series], metadata: vec![metadata] }.encode_to_vec()
}

fn remote_write_2_seed(labels_refs: Vec<u32>) -> Vec<u8> {
    use pharos_proto::remote_write::v2;
    let series = v2::TimeSeries {
        labels_refs,
        samples: vec![v2::Sample { value: 4.0, timestamp: NOW_MS, start_timestamp: 10 }],
        exemplars: vec![v2::Exemplar { labels_refs: vec![5, 6], value: 0.3, timestamp: NOW_MS }],
        metadata: Some(v2::Metadata { r#type: 3, help_ref: 6, unit_ref: 0 }),
        ..v2::TimeSeries::default()
    };
    let symbols = ["", "__name__", "rpc_seconds_bucket", "le", "0.5", "trace_id", "abc"];
    let symbols = symbols.map(str::to_owned).to_vec();
    v2::Request { symbols, timeseries: vec![series.clone(), series] }.encode_to_vec()
}

fn metrics() -> Vec<u8> {
    serde_json::from_slice::<ExportMetricsServiceRequest>(&include_json("metrics")).expect("a request").encode_to_vec()
}

fn traces() -> Vec<u8> {
    serde_json::from_slice::<ExportTraceServiceRequest>(&include_json("traces")).expect("a request").encode_to_vec()
}
