//! Translation, through the public functions: JSON requests in, series and spans out.

use std::fmt::Write;

use pharos_base::ByteSize;
use pharos_model::{AttributeValue, Labels, MetricKind, SpanKind, StatusCode};
use pharos_storage::{RejectReason, Rejection};

use super::*;

const MS: &str = "1700000000000";
pub(super) const NS: &str = "1700000000000000000";

pub(super) fn decode_with(settings: &OtlpSettings, limits: &Limits, resource: &str, metrics: &str) -> DecodedMetrics {
    let json = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"scope":{{"name":"lib","version":"2","attributes":[{{"key":"tier","value":{{"stringValue":"x"}}}}]}},"metrics":[{metrics}]}}]}}]}}"#
    );
    let window = TimeWindow { min_ms: 1_600_000_000_000, max_ms: 1_800_000_000_000 };
    let decoder = MetricsDecoder::new(settings.clone(), limits.clone());
    decoder.decode(&TenantId::default(), (json.as_bytes(), WireForm::Json), window, 0).unwrap()
}

fn decode(metrics: &str) -> DecodedMetrics {
    decode_with(&OtlpSettings::default(), &Limits::default(), "", metrics)
}

/// All float samples as `series value`, or `series stale`; with `@ms` where not at [`MS`].
pub(super) fn samples(decoded: &DecodedMetrics) -> Vec<String> {
    let batch = &decoded.batch;
    let mut lines = Vec::new();
    for run in &batch.series {
        let labels = Labels::from_encoded(batch.encoded_labels(run)).unwrap();
        for sample in &batch.samples[run.samples.clone()] {
            let mut line = format!("{labels} ");
            if pharos_model::is_stale_nan(sample.value) {
                line.push_str("stale");
            } else {
                write!(line, "{}", sample.value).unwrap();
            }
            if sample.timestamp_ms.to_string() != MS {
                write!(line, "@{}", sample.timestamp_ms).unwrap();
            }
            lines.push(line);
        }
    }
    lines
}

pub(super) fn text(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

pub(super) fn gauge(name: &str, attributes: &str) -> String {
    format!(
        r#"{{"name":"{name}","gauge":{{"dataPoints":[{{"timeUnixNano":"{NS}","asDouble":1.5,"attributes":[{attributes}]}}]}}}}"#
    )
}

fn told(rejections: &[Rejection]) -> Vec<(RejectReason, u64)> {
    rejections.iter().map(|rejection| (rejection.reason, rejection.count)).collect()
}

#[test]
fn numbers_become_gauges_and_counters() {
    let decoded = decode(&format!(
        r#"{{"name":"queue.size","unit":"{{item}}","gauge":{{"dataPoints":[{{"timeUnixNano":"{NS}","asInt":"7"}}]}}}},
           {{"name":"http.requests","description":"All.","sum":{{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[
              {{"startTimeUnixNano":"1699999999000000000","timeUnixNano":"{NS}","asInt":"12","attributes":[{}],
                "exemplars":[{{"timeUnixNano":"{NS}","asDouble":1,"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","filteredAttributes":[{}]}}]}}]}}}},
           {{"name":"pool.used","unit":"1","sum":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NS}","asDouble":3}}]}}}}"#,
        text("http.route", "/a"),
        text("user", "7")
    ));
    assert_eq!(samples(&decoded), ["queue_size 7", r#"http_requests_total{http_route="/a"} 12"#, "pool_used 3"]);
    assert_eq!(decoded.batch.start_ms, [0, 1_699_999_999_000, 0]);
    let exemplar = &decoded.batch.exemplars[0].labels;
    assert_eq!(exemplar.get("trace_id"), Some("5b8efff798038103d269b633813fc60c"));
    assert_eq!((exemplar.get("span_id"), exemplar.get("user")), (Some("eee19b7ec3c1b174"), Some("7")));
    let metadata: Vec<_> = decoded.batch.metadata.iter().map(|m| (&*m.metric, m.kind, &*m.help)).collect();
    assert_eq!(
        metadata,
        [
            ("queue_size", MetricKind::Gauge, ""),
            ("http_requests_total", MetricKind::Counter, "All."),
            ("pool_used", MetricKind::Gauge, "")
        ]
    );
}

#[test]
fn attributes_that_meet_under_one_label_are_joined() {
    let attributes =
        [text("a.b", "2"), text("a_b", "3"), text("a-b", "1"), text("__name__", "no"), text("empty", "")].join(",");
    let decoded = decode(&gauge("g", &attributes));
    assert_eq!(samples(&decoded), [r#"g{a_b="1;2;3"} 1.5"#]);
}

#[test]
fn resource_becomes_job_instance_and_target_info() {
    let resource = [
        text("service.name", "shop"),
        text("service.namespace", "eu"),
        text("service.instance.id", "i1"),
        text("host.name", "h"),
        text("job", "overridden"),
    ]
    .join(",");
    let settings = OtlpSettings { promote_resource_attributes: vec!["host.name".into()], ..OtlpSettings::default() };
    let decoded = decode_with(&settings, &Limits::default(), &resource, &gauge("g", &text("host.name", "mine")));
    assert_eq!(
        samples(&decoded),
        [
            r#"g{host_name="mine", instance="i1", job="eu/shop"} 1.5"#,
            r#"target_info{host_name="h", instance="i1", job="eu/shop"} 1"#
        ]
    );
    let decoded = decode_with(&settings, &Limits::default(), &resource, &gauge("g", ""));
    assert_eq!(samples(&decoded)[0], r#"g{host_name="h", instance="i1", job="eu/shop"} 1.5"#);
    let only_identity = decode_with(&settings, &Limits::default(), &text("service.name", "shop"), &gauge("g", ""));
    assert_eq!(samples(&only_identity), [r#"g{job="shop"} 1.5"#]);
}

/// The series of a point stand or fall together, and count as it; `target_info` counts as nothing that was sent.
#[test]
fn points_of_several_series_are_groups() {
    let metrics = format!(
        r#"{{"name":"g","gauge":{{"dataPoints":[{{"timeUnixNano":"{NS}","asDouble":1}}]}}}},
           {{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[
              {{"timeUnixNano":"{NS}","count":"3","sum":1,"bucketCounts":["1","2"],"explicitBounds":[1]}},
              {{"timeUnixNano":"{NS}","count":"3","bucketCounts":[],"attributes":[{}]}}]}}}},
           {{"name":"s","summary":{{"dataPoints":[{{"timeUnixNano":"{NS}","count":"3","sum":1}}]}}}}"#,
        text("a", "b")
    );
    let resource = [text("service.name", "s"), text("a", "b")].join(",");
    let decoded = decode_with(&OtlpSettings::default(), &Limits::default(), &resource, &metrics);
    let units: Vec<_> = decoded.batch.units().map(|unit| (unit.runs, unit.items)).collect();
    assert_eq!(units, [(0..1, 1), (1..5, 1), (5..7, 1), (7..9, 1), (9..10, 0)]);
    assert_eq!(decoded.batch.groups.len(), 4, "what stands alone costs nothing");
    let nhcb = OtlpSettings { convert_histograms_to_nhcb: true, ..OtlpSettings::default() };
    let native = decode_with(&nhcb, &Limits::default(), "", &metrics);
    assert_eq!(native.batch.groups.len(), 1, "a native histogram is one series");
}

#[test]
fn target_info_covers_the_span_of_its_points() {
    let point = |ms: i64| format!(r#"{{"timeUnixNano":"{ms}000000","asInt":1}}"#);
    let metric = format!(
        r#"{{"name":"g","gauge":{{"dataPoints":[{},{}]}}}}"#,
        point(1_700_000_400_000),
        point(1_700_000_000_000)
    );
    let resource = [text("service.name", "s"), text("a", "b")].join(",");
    let decoded = decode_with(&OtlpSettings::default(), &Limits::default(), &resource, &metric);
    let info: Vec<_> = samples(&decoded)
        .into_iter()
        .filter_map(|line| Some(line.strip_prefix("target_info{a=\"b\", job=\"s\"} ")?.to_owned()))
        .collect();
    assert_eq!(info, ["1", "1@1700000150000", "1@1700000300000", "1@1700000400000"]);
}

#[test]
fn target_info_has_two_samples_in_what_queries_look_back() {
    let point = |ms: i64| format!(r#"{{"timeUnixNano":"{ms}000000","asInt":1}}"#);
    let body = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{},{}]}},"scopeMetrics":[{{"metrics":[{{"name":"g","gauge":{{"dataPoints":[{},{}]}}}}]}}]}}]}}"#,
        text("service.name", "s"),
        text("a", "b"),
        point(0),
        point(90_000)
    );
    let decoder = MetricsDecoder::new(OtlpSettings::default(), Limits::default()).with_lookback_ms(60_000);
    let request = (body.as_bytes(), WireForm::Json);
    let decoded = decoder.decode(&TenantId::default(), request, TimeWindow::ALL, 0).unwrap();
    let info: Vec<_> = samples(&decoded).into_iter().filter(|line| line.starts_with("target_info")).collect();
    let at = |ms: &str| format!(r#"target_info{{a="b", job="s"}} 1@{ms}"#);
    assert_eq!(info, ["0", "30000", "60000", "90000"].map(at));
}

#[test]
fn types_and_units_are_labels_when_asked() {
    let settings = OtlpSettings { type_and_unit_labels: true, ..OtlpSettings::default() };
    let sum = format!(
        r#"{{"name":"n","unit":"By","sum":{{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NS}","asInt":1}}]}}}}"#
    );
    let point = histogram(r#""count":"1","bucketCounts":["1"],"explicitBounds":[]"#);
    let resource = [text("service.name", "s"), text("a", "b")].join(",");
    let metrics = [gauge("g", &text("__type__", "mine")), sum, point].join(",");
    let decoded = decode_with(&settings, &Limits::default(), &resource, &metrics);
    assert_eq!(
        samples(&decoded),
        [
            r#"g{__type__="gauge", job="s"} 1.5"#,
            r#"n_bytes_total{__type__="counter", __unit__="bytes", job="s"} 1"#,
            r#"h_seconds_count{__type__="histogram", __unit__="seconds", job="s"} 1"#,
            r#"h_seconds_bucket{__type__="histogram", __unit__="seconds", job="s", le="+Inf"} 1"#,
            r#"target_info{a="b", job="s"} 1"#
        ]
    );
}

#[test]
fn scopes_are_labels_when_asked() {
    let settings = OtlpSettings { promote_scope_metadata: true, ..OtlpSettings::default() };
    let decoded = decode_with(&settings, &Limits::default(), "", &gauge("g", ""));
    assert_eq!(samples(&decoded), [r#"g{otel_scope_name="lib", otel_scope_tier="x", otel_scope_version="2"} 1.5"#]);
}

fn histogram(point: &str) -> String {
    format!(
        r#"{{"name":"h","unit":"s","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NS}",{point}}}]}}}}"#
    )
}

#[test]
fn explicit_histograms_become_classic_ones() {
    let exemplar = |value: f64| format!(r#"{{"timeUnixNano":"{NS}","asDouble":{value},"traceId":"01"}}"#);
    let exemplars = [0.5, 0.7, 30.0].map(exemplar).join(",");
    let decoded = decode(&histogram(&format!(
        r#""count":"6","sum":9.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,10],"exemplars":[{exemplars}]"#
    )));
    assert_eq!(
        samples(&decoded),
        [
            "h_seconds_sum 9.5",
            "h_seconds_count 6",
            r#"h_seconds_bucket{le="0.5"} 1"#,
            r#"h_seconds_bucket{le="10"} 3"#,
            r#"h_seconds_bucket{le="+Inf"} 6"#
        ]
    );
    let values: Vec<_> = decoded
        .batch
        .series
        .iter()
        .map(|run| decoded.batch.exemplars[run.exemplars.clone()].iter().map(|e| e.value).collect::<Vec<_>>())
        .collect();
    assert_eq!(values, [vec![], vec![], vec![0.5], vec![0.7], vec![30.0]]);
    assert_eq!(decoded.batch.metadata[0].metric, "h_seconds");
    assert_eq!(decoded.batch.metadata[0].unit, "seconds");
}

#[test]
fn a_point_without_a_recorded_value_ends_its_series() {
    let decoded = decode(&histogram(r#""flags":1,"count":"0","bucketCounts":["0","0"],"explicitBounds":[1]"#));
    assert_eq!(
        samples(&decoded),
        ["h_seconds_count stale", r#"h_seconds_bucket{le="1"} stale"#, r#"h_seconds_bucket{le="+Inf"} stale"#]
    );
    let decoded = decode(&format!(r#"{{"name":"g","gauge":{{"dataPoints":[{{"timeUnixNano":"{NS}","flags":1}}]}}}}"#));
    assert_eq!(samples(&decoded), ["g stale"]);
}

#[test]
fn explicit_histograms_become_native_ones_when_asked() {
    let settings = OtlpSettings { convert_histograms_to_nhcb: true, ..OtlpSettings::default() };
    let point = histogram(r#""count":"5","sum":9.5,"bucketCounts":["0","2","3"],"explicitBounds":[0.5,10]"#);
    let decoded = decode_with(&settings, &Limits::default(), "", &point);
    let histogram = &decoded.batch.histograms[0].histogram;
    assert!(histogram.has_custom_buckets());
    assert_eq!(histogram.custom_bounds, [0.5, 10.0]);
    assert_eq!(histogram.positive.iter().collect::<Vec<_>>(), [(1, 2.0), (2, 3.0)]);
}

fn exponential(point: &str) -> DecodedMetrics {
    decode(&format!(
        r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NS}",{point}}}]}}}}"#
    ))
}

#[test]
fn exponential_histograms_become_native_ones() {
    let decoded = exponential(
        r#""count":"7","sum":3.5,"scale":1,"zeroCount":"1","positive":{"offset":-1,"bucketCounts":["2","0","0","0","0","3"]},"negative":{"offset":0,"bucketCounts":["1"]}"#,
    );
    let histogram = &decoded.batch.histograms[0].histogram;
    assert_eq!((histogram.schema, histogram.count, histogram.sum, histogram.zero_threshold), (1, 7.0, 3.5, 1e-128));
    assert_eq!(histogram.positive.iter().filter(|(_, count)| *count > 0.0).collect::<Vec<_>>(), [(0, 2.0), (5, 3.0)]);
    assert_eq!(histogram.negative.iter().collect::<Vec<_>>(), [(1, 1.0)]);
    assert!(histogram.is_integer);
}

#[test]
fn fine_scales_are_lowered_and_coarse_ones_refused() {
    let decoded = exponential(r#""count":"6","scale":10,"positive":{"offset":0,"bucketCounts":["1","1","1","1","2"]}"#);
    let histogram = &decoded.batch.histograms[0].histogram;
    // Buckets 1 to 4 of schema 10 are bucket 1 of schema 8, bucket 5 lies in bucket 2.
    assert_eq!((histogram.schema, histogram.positive.iter().collect::<Vec<_>>()), (8, vec![(1, 4.0), (2, 2.0)]));
    let refused = exponential(r#""count":"1","scale":-5,"positive":{"offset":0,"bucketCounts":["1"]}"#);
    assert_eq!(told(&refused.rejections), [(RejectReason::InvalidHistogram, 1)]);
    let wrong_count = exponential(r#""count":"9","scale":0,"positive":{"offset":0,"bucketCounts":["1"]}"#);
    assert_eq!(told(&wrong_count.rejections), [(RejectReason::InvalidHistogram, 1)]);
}

#[test]
fn summaries_become_quantiles_sum_and_count() {
    let decoded = decode(&format!(
        r#"{{"name":"q","summary":{{"dataPoints":[{{"timeUnixNano":"{NS}","count":"4","sum":2.5,"quantileValues":[{{"quantile":0.99,"value":1.25}},{{"quantile":1,"value":2}}]}}]}}}}"#
    ));
    assert_eq!(samples(&decoded), ["q_sum 2.5", "q_count 4", r#"q{quantile="0.99"} 1.25"#, r#"q{quantile="1"} 2"#]);
}

/// Quantiles go up and down, and so does what is neither monotonic nor cumulative.
#[test]
fn what_counts_up_is_told_when_asked() {
    let settings = OtlpSettings { created_zero: true, delta: DeltaMode::Native, ..OtlpSettings::default() };
    let sum = |name: &str, temporality: u8, is_monotonic: bool| {
        format!(
            r#"{{"name":"{name}","sum":{{"isMonotonic":{is_monotonic},"aggregationTemporality":{temporality},"dataPoints":[{{"timeUnixNano":"{NS}","asInt":1}}]}}}}"#
        )
    };
    let summary = format!(
        r#"{{"name":"q","summary":{{"dataPoints":[{{"timeUnixNano":"{NS}","count":"4","sum":2.5,"quantileValues":[{{"quantile":0.99,"value":1.25}}]}}]}}}}"#
    );
    let exponential = format!(
        r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NS}","count":"1","zeroCount":"1"}}]}}}}"#
    );
    let point = histogram(r#""count":"1","sum":3,"bucketCounts":["1","0"],"explicitBounds":[1]"#);
    let metrics =
        [gauge("g", ""), sum("up", 2, true), sum("both", 2, false), sum("delta", 1, true), point, summary, exponential];
    let resource = [text("service.name", "s"), text("a", "b")].join(",");
    let decoded = decode_with(&settings, &Limits::default(), &resource, &metrics.join(","));
    let name = |run| decoded.batch.labels(run).unwrap().metric_name().to_owned();
    let counted: Vec<_> =
        decoded.batch.series.iter().zip(&decoded.counted).filter(|(_, up)| **up).map(|(run, _)| name(run)).collect();
    let expected = [
        "up_total",
        "h_seconds_sum",
        "h_seconds_count",
        "h_seconds_bucket",
        "h_seconds_bucket",
        "q_sum",
        "q_count",
        "e",
    ];
    assert_eq!(counted, expected);
    assert_eq!(decoded.counted.len(), decoded.batch.series.len());
    assert!(decode(&gauge("g", "")).counted.is_empty());
}

#[test]
fn refused_points_are_counted_exactly_and_the_rest_is_kept() {
    let delta = format!(
        r#"{{"name":"d","sum":{{"isMonotonic":true,"aggregationTemporality":1,"dataPoints":[{{"timeUnixNano":"{NS}","asInt":1}},{{"timeUnixNano":"{NS}","asInt":2}}]}}}}"#
    );
    let old = r#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1","count":"3","sum":1,"bucketCounts":["1","2"],"explicitBounds":[1]}]}}"#;
    let valueless = format!(r#"{{"name":"v","gauge":{{"dataPoints":[{{"timeUnixNano":"{NS}"}}]}}}}"#);
    let bounds = histogram(r#""count":"1","bucketCounts":["1"],"explicitBounds":[2,1]"#);
    let metrics =
        [delta, old.to_owned(), valueless, bounds, gauge("...", ""), gauge("g", &text("..", "x")), gauge("good", "")]
            .join(",");
    let settings = OtlpSettings { delta: DeltaMode::Refuse, ..OtlpSettings::default() };
    let decoded = decode_with(&settings, &Limits::default(), "", &metrics);
    assert_eq!(samples(&decoded), ["good 1.5"]);
    assert_eq!(
        told(&decoded.rejections),
        [
            (RejectReason::Unsupported, 3),
            (RejectReason::TooOld, 1),
            (RejectReason::InvalidHistogram, 1),
            (RejectReason::InvalidLabels, 2)
        ]
    );
    assert!(decoded.rejections[0].message.contains("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"));
}

#[test]
fn a_histogram_point_is_stored_whole_or_refused_as_one() {
    let limits = Limits { labels_max: 2, ..Limits::default() };
    let point = format!(
        r#""count":"3","sum":1,"bucketCounts":["1","2"],"explicitBounds":[1],"attributes":[{}]"#,
        text("a", "1")
    );
    let decoded = decode_with(&OtlpSettings::default(), &limits, "", &histogram(&point));
    assert_eq!((samples(&decoded).len(), told(&decoded.rejections)), (0, vec![(RejectReason::Limit, 1)]));
}

/// What every point would copy is refused once, before it is copied.
#[test]
fn what_points_share_is_limited_too() {
    let long = "x".repeat(5000);
    let check = |resource: &str, metrics: &str, expected: &str| {
        let decoded = decode_with(&OtlpSettings::default(), &Limits::default(), resource, metrics);
        assert_eq!((samples(&decoded).len(), told(&decoded.rejections)), (0, vec![(RejectReason::Limit, 1)]));
        assert!(decoded.rejections[0].message.contains(expected), "{:?}", decoded.rejections);
    };
    check(&text("service.name", &long), &gauge("g", ""), "label_value_bytes_max");
    check("", &gauge(&long, ""), "metric name");
    let many: Vec<_> = (0..100).map(|at| text(&format!("k{at}"), "v")).collect();
    check("", &gauge("g", &many.join(",")), "100 attributes");
    let bounds: Vec<_> = (0..3000).map(|bound| bound.to_string()).collect();
    let counts = vec!["0"; 3001].join(",");
    let wide = format!(r#""count":"0","bucketCounts":[{counts}],"explicitBounds":[{}]"#, bounds.join(","));
    check("", &histogram(&wide), "histogram_buckets_max");
    let resource = [text("service.name", "s"), text("long", &long)].join(",");
    let decoded = decode_with(&OtlpSettings::default(), &Limits::default(), &resource, &gauge("g", ""));
    assert_eq!(samples(&decoded), [r#"g{job="s"} 1.5"#]);
    assert!(decoded.warnings[0].contains("target_info is left out"), "{:?}", decoded.warnings);
}

/// A body of a few bytes can be a batch of many: what it takes is counted as it grows.
#[test]
fn memory_of_a_request_is_limited() {
    let check = |metrics: &str, settings: &OtlpSettings| {
        let body = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#);
        let decode = |bytes| {
            let limits = Limits { decoded_max: ByteSize(bytes), ..Limits::default() };
            let decoder = MetricsDecoder::new(settings.clone(), limits);
            decoder.decode(&TenantId::default(), (body.as_bytes(), WireForm::Json), TimeWindow::ALL, 0)
        };
        assert!(decode(100_000).is_ok());
        let refused = decode(2_000);
        let expected = "ingest.limits.decoded_max";
        assert!(
            matches!(refused, Err(IngestError::BatchTooLarge { setting, .. }) if setting == expected),
            "{refused:?}"
        );
    };
    let usual = OtlpSettings::default();
    let families: Vec<_> = (0..30).map(|at| gauge(&format!("family{at}"), "")).collect();
    check(&families.join(","), &usual);
    let exemplars = vec![r#"{"timeUnixNano":"7"}"#; 60].join(",");
    check(&histogram(&format!(r#""count":"0","exemplars":[{exemplars}]"#)), &usual);
    let quantiles = vec![r#"{"value":1}"#; 100].join(",");
    check(&format!(r#"{{"name":"q","summary":{{"dataPoints":[{{"quantileValues":[{quantiles}]}}]}}}}"#), &usual);
    let counts = vec!["1"; 250].join(",");
    check(
        &format!(
            r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{"count":"250","positive":{{"bucketCounts":[{counts}]}}}}]}}}}"#
        ),
        &usual,
    );
    let bounds: Vec<_> = (0..150).map(|bound| bound.to_string()).collect();
    let counts = vec!["1"; 151].join(",");
    let custom = OtlpSettings { convert_histograms_to_nhcb: true, ..OtlpSettings::default() };
    let wide = format!(r#""count":"151","bucketCounts":[{counts}],"explicitBounds":[{}]"#, bounds.join(","));
    check(&histogram(&wide), &custom);
}

/// A list of two bytes an element is a hundred in memory: what no label can hold is not looked into, wherever it stands.
#[test]
fn lists_that_no_label_can_hold_are_refused_before_they_grow() {
    let values = vec!["{}"; 200_000].join(",");
    let list = format!(r#"{{"key":"list","value":{{"arrayValue":{{"values":[{values}]}}}}}}"#);
    let settings = OtlpSettings { promote_scope_metadata: true, ..OtlpSettings::default() };
    let check = |resource: &str, metrics: &str| {
        let decoded = decode_with(&settings, &Limits::default(), resource, metrics);
        let told: Vec<_> = decoded.rejections.iter().map(|rejection| &*rejection.message).collect();
        (samples(&decoded).len(), told.join(";"), decoded.warnings.join(";"), decoded.batch.exemplars.len())
    };
    let refused = "value of attribute \"list\" is longer than ingest.limits.label_value_bytes_max = 4096";
    let (stored, told, _, _) = check("", &[gauge("g", &list), gauge("good", "")].join(","));
    assert_eq!((stored, &*told), (1, refused));
    let resource = [text("service.name", "s"), list.clone()].join(",");
    let (stored, told, warned, _) = check(&resource, &gauge("g", ""));
    assert_eq!((stored, told, warned), (1, String::new(), format!("target_info is left out: {refused}")));
    let identity = list.replace("list", "service.name");
    assert_eq!(check(&identity, &gauge("g", "")).1, refused.replace("list", "service.name"));
    let exemplar =
        format!(r#"{{"timeUnixNano":"{NS}","asDouble":1,"spanId":"eee19b7ec3c1b174","filteredAttributes":[{list}]}}"#);
    let (stored, told, _, exemplars) = check("", &histogram(&format!(r#""count":"0","exemplars":[{exemplar}]"#)));
    assert_eq!((stored, &*told, exemplars), (2, "", 1), "without its attributes");
}

/// Each quantile is a series.
#[test]
fn quantiles_of_a_summary_are_limited() {
    let limits = Limits { histogram_buckets_max: 2, ..Limits::default() };
    let summary = |quantiles: usize| {
        let values: Vec<_> = (0..quantiles).map(|at| format!(r#"{{"quantile":{at},"value":1}}"#)).collect();
        let point = format!(r#"{{"timeUnixNano":"{NS}","quantileValues":[{}]}}"#, values.join(","));
        let metric = format!(r#"{{"name":"q","summary":{{"dataPoints":[{point}]}}}}"#);
        let decoded = decode_with(&OtlpSettings::default(), &limits, "", &metric);
        (samples(&decoded).len(), told(&decoded.rejections))
    };
    assert_eq!(summary(2), (4, vec![]));
    assert_eq!(summary(3), (0, vec![(RejectReason::Limit, 1)]));
}

#[test]
fn metrics_without_points_are_warned_of() {
    let decoded = decode(r#"{"name":"nothing"},{"name":"empty","gauge":{}}"#);
    assert!(decoded.batch.is_empty() && decoded.rejections.is_empty());
    assert_eq!(decoded.warnings.len(), 2);
}

#[test]
fn spans_are_kept_in_full() {
    let decoded =
        decode_traces(include_bytes!("json/testdata/traces.json"), WireForm::Json, &Limits::default()).unwrap();
    assert!(decoded.rejections.is_empty());
    let group = &decoded.batch.groups[0];
    assert_eq!(group.resource.service_name(), "shop");
    assert_eq!(
        (group.resource.dropped_attributes_count, &*group.resource.schema_url),
        (1, "https://example.com/resource")
    );
    assert_eq!(
        (&*group.scope.name, &*group.scope.version, &*group.scope.schema_url),
        ("lib", "1.2", "https://example.com/scope")
    );
    assert_eq!((group.scope.attributes.len(), group.scope.dropped_attributes_count), (1, 2));
    let span = &group.spans[0];
    assert_eq!(span.trace_id.to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(
        (span.span_id.to_string(), span.parent_span_id.to_string()),
        ("eee19b7ec3c1b174".into(), "eee19b7ec3c1b173".into())
    );
    assert_eq!((&*span.trace_state, span.flags, &*span.name, span.kind), ("k=v", 257, "GET /", SpanKind::Server));
    assert_eq!((span.start_ns, span.duration_ns()), (1_544_712_660_000_000_000, 1_000_000_000));
    assert_eq!((span.status.code, &*span.status.message), (StatusCode::Error, "boom"));
    let value = |key: &str| span.attributes.iter().find(|attribute| attribute.key == key).unwrap().value.clone();
    assert_eq!(value("int"), AttributeValue::Int(-3));
    assert_eq!(value("double"), AttributeValue::Double(2.5));
    assert_eq!(value("bytes"), AttributeValue::Bytes(vec![1, 2, 3]));
    assert_eq!(value("array"), AttributeValue::Array(vec![AttributeValue::String("x".into())]));
    assert!(matches!(value("map"), AttributeValue::Map(pairs) if pairs[0].key == "in"));
    let (event, link) = (&span.events[0], &span.links[0]);
    assert_eq!(
        (event.time_ns, &*event.name, event.attributes.len(), event.dropped_attributes_count),
        (1_544_712_660_500_000_000, "e", 1, 4)
    );
    assert_eq!((link.span_id.to_string(), &*link.trace_state, link.flags), ("eee19b7ec3c1b175".into(), "l=1", 1));
    assert_eq!((link.attributes.len(), link.dropped_attributes_count), (1, 6));
    assert_eq!((span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count), (3, 5, 7));
}

fn spans(spans: &str, limits: &Limits) -> DecodedSpans {
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    decode_traces(json.as_bytes(), WireForm::Json, limits).unwrap()
}

#[test]
fn spans_without_valid_ids_are_refused_one_by_one() {
    let span =
        |trace: &str, span: &str, more: &str| format!(r#"{{"name":"n","traceId":"{trace}","spanId":"{span}"{more}}}"#);
    let (trace, id) = ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174");
    let all = [
        span(trace, id, ""),
        span(&"0".repeat(32), id, ""),
        span(trace, &"0".repeat(16), ""),
        span("5b8e", id, ""),
        span(trace, "", ""),
        span(trace, id, r#","parentSpanId":"0102""#),
        span(trace, id, r#","links":[{"traceId":"01"}]"#),
        span(trace, id, r#","links":[{}],"parentSpanId":"0000000000000000""#),
        // What is no hexadecimal text costs its own span, no other.
        span("xyz", id, ""),
        span(&trace[1..], id, ""),
        span(trace, "eee19b7ec3c1b17g", ""),
        span(trace, id, r#","parentSpanId":"xyz""#),
        span(trace, id, r#","links":[{"spanId":"0"}]"#),
    ];
    let decoded = spans(&all.join(","), &Limits::default());
    assert_eq!((decoded.batch.span_count(), told(&decoded.rejections)), (2, vec![(RejectReason::InvalidSpan, 11)]));
    assert!(decoded.rejections[0].message.contains("in JSON 32 and 16 hexadecimal digits"), "{:?}", decoded.rejections);
}

#[test]
fn an_exemplar_is_kept_without_ids_that_are_none() {
    let decoded = decode(&histogram(&format!(
        r#""count":"1","bucketCounts":[1],"exemplars":[{{"timeUnixNano":"{NS}","traceId":"xyz","spanId":"eee19b7ec3c1b174","asInt":"1"}}]"#
    )));
    let kept: Vec<_> = decoded.batch.exemplars.iter().map(|exemplar| exemplar.labels.to_string()).collect();
    assert_eq!((kept, decoded.exemplars_dropped), (vec![r#"{span_id="eee19b7ec3c1b174"}"#.to_owned()], 0));
}

/// JSON is read as the message that it becomes, which counts.
#[test]
fn json_that_becomes_more_than_a_request_may_take_is_too_large() {
    let limits = Limits { decoded_max: ByteSize(2000), ..Limits::default() };
    let text = |bytes: usize| format!(r#"{{"resourceSpans":[{{"schemaUrl":"{}"}}]}}"#, "x".repeat(bytes));
    for (bytes, is_too_large) in [(500, false), (2000, true)] {
        let decoded = decode_traces(text(bytes).as_bytes(), WireForm::Json, &limits);
        let told = matches!(decoded, Err(IngestError::BatchTooLarge { setting: "ingest.limits.decoded_max", .. }));
        assert_eq!(told, is_too_large, "{bytes}: {decoded:?}");
    }
}

#[test]
fn span_limits_have_names() {
    let limits = Limits {
        span_items_max: 1,
        span_events_max: 2,
        span_links_max: 3,
        span_value_bytes_max: ByteSize(10),
        nesting_max: 1,
        ..Limits::default()
    };
    let ids = r#""traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174""#;
    let check_with = |limits: &Limits, more: &str, expected: &str| {
        let decoded = spans(&format!("{{{ids},{more}}}"), limits);
        assert_eq!(
            (decoded.batch.span_count(), told(&decoded.rejections)),
            (0, vec![(RejectReason::Limit, 1)]),
            "{more}"
        );
        assert!(decoded.rejections[0].message.contains(expected), "{:?}", decoded.rejections);
    };
    let check = |more: &str, expected: &str| check_with(&limits, more, expected);
    check(r#""events":[{},{},{}]"#, "3 events, more than ingest.limits.span_events_max = 2");
    check(r#""links":[{},{},{},{}]"#, "4 links, more than ingest.limits.span_links_max = 3");
    let values = r#"{"stringValue":"0123"},{"kvlistValue":{"values":[{"key":"abc","value":{"intValue":1}}]}}"#;
    for (value, bytes) in [
        (r#"{"stringValue":"01234567890"}"#.to_owned(), 11),
        (r#"{"bytesValue":"AAAAAAAAAAAAAAAA"}"#.to_owned(), 12),
        (format!(r#"{{"arrayValue":{{"values":[{values}]}}}}"#), 15),
    ] {
        let expected = format!("\"k\" has a value of {bytes} bytes, more than ingest.limits.span_value_bytes_max = 10");
        for owner in ["", r#""events":[{"#, r#""links":[{"#] {
            let end = if owner.is_empty() { "" } else { "}]" };
            let limits = Limits { nesting_max: 9, ..limits.clone() };
            check_with(&limits, &format!(r#"{owner}"attributes":[{{"key":"k","value":{value}}}]{end}"#), &expected);
        }
    }
    let fits = format!(r#"{{{ids},"attributes":[{{"key":"k","value":{{"stringValue":"0123456789"}}}}]}}"#);
    assert_eq!(spans(&fits, &limits).batch.span_count(), 1);
    check(r#""attributes":[{},{}]"#, "2 attributes, more than ingest.limits.span_items_max = 1");
    let limits = Limits { span_attributes_max: 1, ..limits.clone() };
    let decoded =
        spans(&format!(r#"{{{ids},"events":[{{"attributes":[{{}}]}}],"links":[{{"attributes":[{{}}]}}]}}"#), &limits);
    assert_eq!(told(&decoded.rejections), vec![(RejectReason::Limit, 1)]);
    assert!(decoded.rejections[0].message.contains("2 attributes of a span, its events and links"));
    check(
        r#""attributes":[{"key":"k","value":{"arrayValue":{"values":[{"arrayValue":{}}]}}}]"#,
        "deeper than ingest.limits.nesting_max = 1",
    );
}

#[test]
fn damaged_protobuf_is_refused() {
    for body in [&b"\x0a\x05a"[..], b"\xff\xff\xff"] {
        assert!(matches!(decode_traces(body, WireForm::Protobuf, &Limits::default()), Err(IngestError::Decode { .. })));
        let decoder = MetricsDecoder::new(OtlpSettings::default(), Limits::default());
        let metrics = decoder.decode(&TenantId::default(), (body, WireForm::Protobuf), TimeWindow::ALL, 0);
        assert!(matches!(metrics, Err(IngestError::Decode { .. })));
    }
}
