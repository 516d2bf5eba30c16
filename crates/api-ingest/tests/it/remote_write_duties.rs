//! What the specifications of remote write 1.0 and 2.0, and their senders, ask of a receiver, beside what `remote_write` tests.
//!
//! | duty | test |
//! |---|---|
//! | POST alone, below every path of Prometheus, Mimir and VictoriaMetrics | `every_answer_says_what_was_written`, `remote_write::every_path_leads_to_its_tenant` |
//! | 1.0: no content type, `;proto=` in any case and in quotes; 2.0 by its own | `every_way_to_name_a_message`, `remote_write::version_2_answers_with_true_counts` |
//! | snappy, zstd, identity, either under the name of the other; 415 for gzip and deflate | `remote_write::{every_encoding_arrives, what_is_not_spoken_is_415}` |
//! | labels of 1.0 in line, of 2.0 by symbols, the first of which is empty | `pharos_ingest::remote_write::tests`, `the_first_symbol_is_empty` |
//! | labels are sorted on receipt, UTF-8 names are taken | `pharos_ingest::remote_write::tests::{equals_prost, good_series_are_kept_and_bad_ones_told}` |
//! | metadata: a list of its own in 1.0, taken alone as well; with each series in 2.0 | `metadata_alone_is_taken`, `pharos_ingest::remote_write::tests::version_2_resolves_symbols` |
//! | start times of 2.0 | `pharos_ingest::remote_write::tests::version_2_resolves_symbols` |
//! | native histograms of every form; schemas 9 to 52 are lowered | `pharos_ingest::remote_write::tests::{integer_histograms_become_absolute, float_and_custom_histograms_are_kept, fine_schemas_are_lowered_and_unknown_ones_refused}` |
//! | Written headers on every answer, whoever refuses | `every_answer_says_what_was_written`; end to end: `strangers_are_told_that_nothing_was_written` |
//! | 204; 400 for damaged bodies, of which nothing is stored; 405, 413, 415 | `every_answer_says_what_was_written`, `remote_write::damaged_bodies_are_400_and_store_nothing` |
//! | too old, too new, bad labels, bad references, labels over a limit, nothing in a series: those alone, 400, the rest is stored and counted | `remote_write::late_and_early_samples_are_told_and_the_rest_is_stored`, `bad_series_are_refused_singly` |
//! | the same of a series that has exemplars alone | `a_bad_series_of_exemplars_alone_is_told` |
//! | exemplars without a sample, as Prometheus' own queue sends them in 2.0 | `pharos_ingest::remote_write::tests::exemplars_of_version_2_may_come_without_a_sample` |
//! | exemplars in any order; those that break a rule are counted in the header alone | `exemplars_that_break_a_rule_are_told_by_the_header` |
//! | same instant and value again | `the_same_again_is_written_again` |
//! | failures of the store: 5xx with nothing written, when to come again | `remote_write::a_full_disk_is_503_with_the_time_to_come_back`, `every_answer_says_what_was_written` |
//! | 429 says when to come again | `limits` |
//! | a body that meets a fault of ours is not repeated for ever: 409 | `state` (unit test) |
//! | types and units as labels, zeros at starts, neither in what is told as written | `types_units_and_starts_are_stored_when_asked`, `a_zero_that_was_refused_comes_again` |
//! | vmagent: zstd, `get_vm_proto_version`, version of its protocol; 409 for what is refused singly | `remote_write::{every_encoding_arrives, what_is_not_spoken_is_415}`, `vmagent_is_told_to_drop_without_falling_back` |
//! | vmagent repeats 413 for ever: 409 for what is too large, before and after its fall-back | `what_is_too_large_for_good_is_409_to_vmagent`; end to end: `a_block_that_is_too_large_does_not_stop_the_queue_of_vmagent` |
//! | labels of a credential | `a_credential_labels_what_is_written_with_it` |
//! | pairs of replicas | `of_two_replicas_one_is_stored` |
//!
//! On purpose otherwise than Prometheus 3.14: of a request of 1.0, too, what is bad is refused alone and told with 400, where
//! Prometheus skips bad labels silently and rolls everything back for the rest; samples and exemplars may come in any order.
//! An exemplar that breaks a rule (too long, outside of the window) is left out and the answer stays 204, as with Prometheus for all
//! but the order: the header says how many were written, by which senders of 2.0 count what was lost, while 400 would make them
//! log every batch of an instrumentation with long exemplars as one that failed.

use http::{Request, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, number_data_point,
};
use pharos_base::ByteSize;
use pharos_gateway::{Grant, IdentitySource, Principal, Scope, TenantAccess};
use pharos_ingest::IngestSettings;
use pharos_ingest::remote_write::RemoteWriteSettings;
use pharos_model::{AttributeValue, TenantId};
use pharos_proto::remote_write::{v1, v2};
use pharos_storage::{ReadContext, TraceLookup, TraceStore};
use prost::Message;

use crate::fixture::{
    Answer, Doors, Moody, NOW_MS, doors, doors_for, doors_to, doors_to_a_full_disk, post, principal, small_bodies,
    snappy,
};

const WRITTEN: [&str; 3] = ["samples", "histograms", "exemplars"];
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const VICTORIA: &str = "x-victoriametrics-remote-write-version";

fn written(answer: &Answer) -> [String; 3] {
    WRITTEN.map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")).to_owned())
}

fn body(series: &[(&[(&str, &str)], i64)]) -> Vec<u8> {
    let label = |(name, value): &(&str, &str)| v1::Label { name: (*name).to_owned(), value: (*value).to_owned() };
    let timeseries = series.iter().map(|(labels, timestamp)| v1::TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: vec![v1::Sample { value: 1.0, timestamp: *timestamp }],
        ..v1::TimeSeries::default()
    });
    let request = v1::WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() };
    snappy(&request.encode_to_vec())
}

fn up(timestamp: i64) -> Vec<u8> {
    body(&[(&[("__name__", "up")], timestamp)])
}

async fn write(doors: &Doors, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let request = headers.iter().fold(post("/api/v1/write"), |request, (name, value)| request.header(*name, *value));
    doors.send(request, body).await
}

fn v2_body(symbols: &[&str], series: &[&[u32]], samples: usize) -> Vec<u8> {
    let sample = |at| v2::Sample { value: 1.0, timestamp: NOW_MS + at as i64, start_timestamp: 0 };
    let timeseries = series.iter().map(|references| v2::TimeSeries {
        labels_refs: references.to_vec(),
        samples: (0..samples).map(sample).collect(),
        ..v2::TimeSeries::default()
    });
    let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
    snappy(&v2::Request { symbols, timeseries: timeseries.collect() }.encode_to_vec())
}

#[tokio::test]
async fn every_answer_says_what_was_written() {
    let open = doors;
    let reader = || doors_for(principal(Scope::MetricsRead, "*"), IngestSettings::default());
    let small = || doors_for(Principal::anonymous(), small_bodies(ByteSize(20)));
    let other = || doors_for(principal(Scope::MetricsWrite, "7"), IngestSettings::default());
    let with = |name: &str, value: &str| post("/api/v1/write").header(name, value);
    for (status, doors, request, body) in [
        (204, open(), post("/api/v1/write"), up(NOW_MS)),
        (400, open(), post("/api/v1/push"), b"\xff\xff\xff".to_vec()),
        (403, reader(), post("/api/v1/write"), up(NOW_MS)),
        (403, other(), post("/insert/8/prometheus"), up(NOW_MS)),
        (405, open(), Request::builder().uri("/api/v1/write"), Vec::new()),
        (405, open(), Request::builder().method("PUT").uri("/prometheus/api/v1/write"), up(NOW_MS)),
        (405, open(), Request::builder().method("DELETE").uri("/insert/0/prometheus/api/v1/write"), Vec::new()),
        (413, small(), post("/api/v1/write"), body(&[(&[("__name__", "a_name_that_is_rather_long")], NOW_MS)])),
        (415, open(), with("content-encoding", "gzip"), up(NOW_MS)),
        (415, open(), with("content-type", "application/json"), up(NOW_MS)),
        (415, open(), with(VICTORIA, "2"), up(NOW_MS)),
        (503, doors_to_a_full_disk(), post("/api/v1/write"), up(NOW_MS)),
    ] {
        let answer = doors.send(request, body).await;
        let stored = if status == 204 { "1" } else { "0" };
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        assert_eq!(written(&answer), [stored, "0", "0"], "{status}");
    }
    // Nobody gets to the door here: so do the refusals of whoever stands before it.
    let stopped = axum::Router::new()
        .fallback(async || StatusCode::TOO_MANY_REQUESTS)
        .layer(axum::middleware::from_fn(pharos_api_ingest::say_what_was_written));
    let before = Doors { router: stopped, ..doors() };
    assert_eq!(written(&before.send(post("/api/v1/write"), "").await), ["0", "0", "0"]);
    assert_eq!(written(&before.send(post("/v1/metrics"), "").await), ["", "", ""]);
}

#[tokio::test]
async fn every_way_to_name_a_message() {
    for content_type in [
        "application/x-protobuf",
        "application/x-protobuf;proto=prometheus.WriteRequest",
        "Application/X-Protobuf; Proto=\"prometheus.WriteRequest\"",
        "",
    ] {
        let answer = write(&doors(), &[("content-type", content_type)], up(NOW_MS)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{content_type}");
    }
}

#[tokio::test]
async fn metadata_alone_is_taken() {
    let metadata =
        vec![v1::MetricMetadata { r#type: 1, metric_family_name: "a".to_owned(), ..v1::MetricMetadata::default() }];
    let request = v1::WriteRequest { timeseries: Vec::new(), metadata };
    let answer = write(&doors(), &[], snappy(&request.encode_to_vec())).await;
    assert_eq!((answer.status, written(&answer)), (StatusCode::NO_CONTENT, ["0", "0", "0"].map(str::to_owned)));
}

#[tokio::test]
async fn the_first_symbol_is_empty() {
    let doors = doors();
    let answer = write(&doors, &[("content-type", V2)], v2_body(&["__name__", "up"], &[&[0, 1]], 1)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("first symbol"), "{}", answer.text());
    assert!(doors.stored("0").is_empty());
    let nothing = write(&doors, &[("content-type", V2)], v2_body(&[], &[], 0)).await;
    assert_eq!(nothing.status, StatusCode::NO_CONTENT, "{}", nothing.text());
}

#[tokio::test]
async fn bad_series_are_refused_singly() {
    let symbols = ["", "__name__", "up", "a"];
    for (series, samples, told) in [
        (&[1, 2, 3][..], 1, "odd number"),
        (&[1, 2], 0, "neither sample nor histogram"),
        (&[3, 2], 1, "no metric name"),
        (&[1, 2, 1, 2], 1, "__name__"),
        (&[1, 9], 1, "symbol 9"),
    ] {
        let answer = write(&doors(), &[("content-type", V2)], v2_body(&symbols, &[series], samples)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.text().contains(told), "{}", answer.text());
        assert_eq!(written(&answer), ["0", "0", "0"]);
    }
}

#[tokio::test]
async fn the_same_again_is_written_again() {
    let doors = doors();
    for _ in 0..2 {
        let answer = write(&doors, &[], up(NOW_MS)).await;
        assert_eq!((answer.status, written(&answer)[0].as_str()), (StatusCode::NO_CONTENT, "1"));
    }
    assert_eq!(doors.stored("0").len(), 1);
}

#[tokio::test]
async fn vmagent_is_told_to_drop_without_falling_back() {
    let doors = doors();
    let half = || body(&[(&[("__name__", "up")], NOW_MS), (&[("__name__", "up")], 1)]);
    for (headers, status) in [(&[(VICTORIA, "1")][..], StatusCode::CONFLICT), (&[], StatusCode::BAD_REQUEST)] {
        let answer = write(&doors, headers, half()).await;
        assert_eq!((answer.status, written(&answer)[0].as_str()), (status, "1"));
        assert!(answer.text().contains("the rest of the request is stored"), "{}", answer.text());
    }
    // What cannot be read at all may be read in another packing.
    assert_eq!(write(&doors, &[(VICTORIA, "1")], b"\xff".to_vec()).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(write(&doors, &[(VICTORIA, "1")], up(NOW_MS)).await.status, StatusCode::NO_CONTENT);
    let other = write(&doors, &[(VICTORIA, "7")], up(NOW_MS)).await;
    assert!(other.text().contains("version \"7\"") && other.status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn what_is_too_large_for_good_is_409_to_vmagent() {
    let small_body = || doors_for(Principal::anonymous(), small_bodies(ByteSize(20)));
    let small_batch = || {
        let mut settings = IngestSettings::default();
        settings.limits.label_bytes_max = ByteSize(100);
        doors_for(Principal::anonymous(), settings)
    };
    for (headers, status) in [
        (&[][..], 413),
        (&[("user-agent", "Prometheus/3.14.0")], 413),
        (&[(VICTORIA, "1")], 409),
        // What is left to know it by after its fall-back to snappy.
        (&[("user-agent", "vmagent")], 409),
    ] {
        for (doors, limit) in [(small_body(), "body_max"), (small_batch(), "label_bytes_max")] {
            let answer = write(&doors, headers, body(&[(&[("__name__", "a_name_that_is_rather_long")], NOW_MS)])).await;
            assert_eq!(answer.status.as_u16(), status, "{headers:?} {}", answer.text());
            assert!(answer.text().contains(limit) && answer.text().contains("smaller batches"), "{}", answer.text());
            assert_eq!(written(&answer), ["0", "0", "0"]);
        }
    }
    // What is not for good stays what it is.
    let full = write(&doors_to_a_full_disk(), &[("user-agent", "vmagent")], up(NOW_MS)).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// A series of 2.0 that has no more than these exemplars, each with its labels' references and its instant.
fn exemplars(symbols: &[&str], series: &[u32], exemplars: &[(&[u32], i64)]) -> Vec<u8> {
    let exemplar = |(references, timestamp): &(&[u32], i64)| v2::Exemplar {
        labels_refs: references.to_vec(),
        value: 0.5,
        timestamp: *timestamp,
    };
    let series = v2::TimeSeries {
        labels_refs: series.to_vec(),
        exemplars: exemplars.iter().map(exemplar).collect(),
        ..v2::TimeSeries::default()
    };
    let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
    snappy(&v2::Request { symbols, timeseries: vec![series] }.encode_to_vec())
}

#[tokio::test]
async fn a_bad_series_of_exemplars_alone_is_told() {
    let long = "x".repeat(600);
    let symbols = ["", "__name__", "up", "trace_id", "abc", &long];
    for (series, told) in [
        (&[1, 9][..], "symbol 9"),
        (&[1, 2, 3], "odd number"),
        (&[5, 2], "label_name_bytes_max"),
        (&[3, 2], "no metric name"),
        (&[1, 2, 3, 2, 3, 2], "trace_id"),
    ] {
        let doors = doors();
        let answer = write(&doors, &[("content-type", V2)], exemplars(&symbols, series, &[(&[3, 4], NOW_MS)])).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{series:?}");
        assert!(answer.text().contains(told) && answer.text().contains("1 refused"), "{}", answer.text());
        assert_eq!(written(&answer), ["0", "0", "0"]);
        let own = doors.own_metrics();
        assert!(own.contains(r#"ingest_exemplars_dropped_total{protocol="remote_write"} 1"#), "{own}");
    }
}

#[tokio::test]
async fn exemplars_that_break_a_rule_are_told_by_the_header() {
    let long = "x".repeat(200);
    let symbols = ["", "__name__", "up", "trace_id", "abc", &long];
    let sent: [(&[u32], i64); 5] =
        [(&[3, 4], NOW_MS), (&[3, 4], NOW_MS - 1_000), (&[3, 5], NOW_MS), (&[3, 4], 1), (&[3, 9], NOW_MS)];
    let doors = doors();
    let answer = write(&doors, &[("content-type", V2)], exemplars(&symbols, &[1, 2], &sent)).await;
    assert_eq!((answer.status, written(&answer)), (StatusCode::NO_CONTENT, ["0", "0", "2"].map(str::to_owned)));
    let own = doors.own_metrics();
    assert!(own.contains(r#"ingest_exemplars_dropped_total{protocol="remote_write"} 3"#), "{own}");
}

fn labelled(extra: &[(&str, &str)]) -> Principal {
    let mut grant = Grant::new("test", &Scope::ALL, TenantAccess::Any);
    grant.extra_labels = extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Principal::of(grant.into(), IdentitySource::Token)
}

#[tokio::test]
async fn a_credential_labels_what_is_written_with_it() {
    let doors = doors_for(labelled(&[("team", "a")]), IngestSettings::default());
    let series = || body(&[(&[("__name__", "up"), ("team", "sender")], NOW_MS)]);
    assert_eq!(write(&doors, &[], series()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(doors.stored("0"), [r#"up{team="a"} 1@1700000000000"#]);

    let exposition = post("/api/v1/import/prometheus?extra_label=team=asked");
    assert_eq!(doors.send(exposition, format!("imported 2 {NOW_MS}\n")).await.status, StatusCode::NO_CONTENT);
    let lines = format!(r#"{{"metric":{{"__name__":"line"}},"values":[3],"timestamps":[{NOW_MS}]}}"#);
    assert_eq!(doors.send(post("/api/v1/import"), lines).await.status, StatusCode::NO_CONTENT);
    let point = NumberDataPoint {
        time_unix_nano: NOW_MS as u64 * 1_000_000,
        value: Some(number_data_point::Value::AsInt(4)),
        ..NumberDataPoint::default()
    };
    let data = Some(Data::Gauge(Gauge { data_points: vec![point] }));
    let metrics = vec![Metric { name: "otlp".to_owned(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let protobuf = |path: &str| post(path).header("content-type", "application/x-protobuf");
    let request = ExportMetricsServiceRequest { resource_metrics };
    assert_eq!(doors.send(protobuf("/v1/metrics"), request.encode_to_vec()).await.status, StatusCode::OK);
    let expected = ["imported", "line", "otlp", "up"].iter().zip([2, 3, 4, 1]);
    let expected: Vec<_> = expected.map(|(name, value)| format!(r#"{name}{{team="a"}} {value}@{NOW_MS}"#)).collect();
    assert_eq!(doors.stored("0"), expected);

    let spans = crate::otlp_http::spans(&[1]).encode_to_vec();
    assert_eq!(doors.send(protobuf("/v1/traces"), spans).await.status, StatusCode::OK);
    let lookup = TraceLookup { trace_id: crate::otlp_http::TRACE.parse().unwrap(), range: None };
    let traces = doors.traces.traces(&TenantId::default(), &[lookup], &ReadContext::unlimited()).unwrap();
    let resources: Vec<_> = traces.flat_map(|trace| trace.unwrap().groups).map(|group| group.resource).collect();
    let team = resources[0].attributes.iter().find(|attribute| attribute.key == "team").unwrap();
    assert_eq!(team.value, AttributeValue::String("a".to_owned()));
}

fn pair_settings() -> IngestSettings {
    let mut settings = IngestSettings::default();
    settings.ha.replica_label = Some("__replica__".to_owned());
    settings
}

#[tokio::test]
async fn of_two_replicas_one_is_stored() {
    let doors = doors_for(Principal::anonymous(), pair_settings());
    let from = |replica, at| body(&[(&[("__name__", "up"), ("__replica__", replica), ("cluster", "c")], at)]);
    let send = async |replica, at| {
        let answer = write(&doors, &[], from(replica, at)).await;
        assert_eq!((answer.status, written(&answer)), (StatusCode::NO_CONTENT, ["1", "0", "0"].map(str::to_owned)));
    };
    send("a", NOW_MS).await;
    send("b", NOW_MS + 1).await;
    doors.clock.advance_ms(29_999);
    send("b", NOW_MS + 2).await;
    doors.clock.advance_ms(1);
    send("b", NOW_MS + 3).await;
    send("a", NOW_MS + 4).await;
    // Both are one series, without the label.
    let stored = [NOW_MS, NOW_MS + 3].map(|at| format!(r#"up{{cluster="c"}} 1@{at}"#));
    assert_eq!(doors.stored("0"), stored);
    let own = doors.own_metrics();
    for told in ["ingest_ha_dropped_total 3", "ingest_ha_switches_total 1", "ingest_ha_clusters 1"] {
        assert!(own.contains(told), "{own}");
    }
    assert!(own.contains(r#"ingest_samples_total{protocol="remote_write"} 2"#), "{own}");

    // A request of several senders: what belongs to nobody's pair, and to other pairs, is stored.
    let mixed = body(&[
        (&[("__name__", "mixed"), ("__replica__", "a"), ("cluster", "c")], NOW_MS),
        (&[("__name__", "mixed"), ("__replica__", "b"), ("cluster", "c")], NOW_MS),
        (&[("__name__", "mixed"), ("__replica__", "b")], NOW_MS),
        (&[("__name__", "mixed")], NOW_MS),
    ]);
    assert_eq!(written(&write(&doors, &[], mixed).await)[0], "4");
    let stored: Vec<_> = doors.stored("0").into_iter().filter(|line| line.starts_with("mixed")).collect();
    let expected = ["mixed 1@", r#"mixed{__replica__="b"} 1@"#, r#"mixed{cluster="c"} 1@"#];
    assert_eq!(stored, expected.map(|series| format!("{series}{NOW_MS}")));
}

/// What is limited is what is stored: the series of a pair are the same whoever is elected, and those that are left out take no
/// place from them.
#[tokio::test]
async fn a_pair_has_its_series_once_whoever_is_elected() {
    let mut grant = Grant::new("pair", &Scope::ALL, TenantAccess::Any);
    grant.limits = serde_json::from_value(serde_json::json!({"series_active": 2, "labels_max": 3})).unwrap();
    let doors = doors_for(Principal::of(grant.into(), IdentitySource::Token), pair_settings());
    let from = |replica, at| {
        let of = |name| [("__name__", name), ("__replica__", replica), ("cluster", "c"), ("job", "x")];
        body(&[(&of("up"), at), (&of("down"), at)])
    };
    let send = async |replica, at| {
        let answer = write(&doors, &[], from(replica, at)).await;
        assert_eq!(
            (answer.status, written(&answer)[0].as_str()),
            (StatusCode::NO_CONTENT, "2"),
            "{replica}: {}",
            answer.text()
        );
    };
    send("a", NOW_MS).await;
    send("b", NOW_MS + 1).await;
    doors.clock.advance_ms(30_000);
    send("b", NOW_MS + 2).await;
    let at = |series: &str| [NOW_MS, NOW_MS + 2].map(|at| format!(r#"{series}{{cluster="c", job="x"}} 1@{at}"#));
    assert_eq!(doors.stored("0"), [at("down"), at("up")].concat());
}

/// A counter of 2.0 with its unit: value, instant and start.
fn counter(samples: &[(f64, i64, i64)]) -> Vec<u8> {
    let sample = |(value, timestamp, start_timestamp): &(f64, i64, i64)| v2::Sample {
        value: *value,
        timestamp: *timestamp,
        start_timestamp: *start_timestamp,
    };
    let series = v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples: samples.iter().map(sample).collect(),
        metadata: Some(v2::Metadata { r#type: 1, help_ref: 0, unit_ref: 3 }),
        ..v2::TimeSeries::default()
    };
    let symbols = ["", "__name__", "c_total", "bytes"].map(str::to_owned).to_vec();
    snappy(&v2::Request { symbols, timeseries: vec![series] }.encode_to_vec())
}

#[tokio::test]
async fn types_units_and_starts_are_stored_when_asked() {
    let remote_write = RemoteWriteSettings { type_and_unit_labels: true, created_zero: true };
    let settings = IngestSettings { remote_write, ..IngestSettings::default() };
    let samples = [(3.0, NOW_MS + 2_000, NOW_MS + 1_000), (4.0, NOW_MS + 3_000, NOW_MS + 1_000)];
    let series = r#"c_total{__type__="counter", __unit__="bytes"}"#;
    let stored = |values: &[(i64, i64)]| -> Vec<String> {
        values.iter().map(|(value, at)| format!("{series} {value}@{}", NOW_MS + at)).collect()
    };
    let doors = doors_for(Principal::anonymous(), settings);
    for _ in 0..2 {
        let answer = write(&doors, &[("content-type", V2)], counter(&samples)).await;
        // Zeros are nobody's samples: a sender that is told of more than it sent would be told wrong.
        assert_eq!((answer.status, written(&answer)), (StatusCode::NO_CONTENT, ["2", "0", "0"].map(str::to_owned)));
        assert_eq!(doors.stored("0"), stored(&[(0, 1_000), (3, 2_000), (4, 3_000)]));
    }
    assert!(doors.own_metrics().contains("ingest_start_series 1"), "{}", doors.own_metrics());

    let usual = self::doors();
    assert_eq!(write(&usual, &[("content-type", V2)], counter(&samples)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        usual.stored("0"),
        [(3, 2_000), (4, 3_000)].map(|(value, at)| format!("c_total {value}@{}", NOW_MS + at))
    );
}

/// What failed comes again, and its zero with it.
#[tokio::test]
async fn a_zero_that_was_refused_comes_again() {
    let mut settings = IngestSettings::default();
    settings.remote_write.created_zero = true;
    let mood = Moody { refuses: 1.into(), takes: 9.into(), ..Moody::default() };
    let doors = doors_to(settings, mood);
    let body = || counter(&[(3.0, NOW_MS + 2_000, NOW_MS + 1_000)]);
    assert_eq!(write(&doors, &[("content-type", V2)], body()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(doors.stored("0").is_empty());
    assert_eq!(write(&doors, &[("content-type", V2)], body()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        doors.stored("0"),
        [(0, 1_000), (3, 2_000)].map(|(value, at)| format!("c_total {value}@{}", NOW_MS + at))
    );
}

#[tokio::test]
async fn one_cluster_too_many_is_told() {
    let mut settings = pair_settings();
    settings.ha.clusters_max = 1;
    let doors = doors_for(Principal::anonymous(), settings);
    let two = body(&[
        (&[("__name__", "up"), ("__replica__", "a"), ("cluster", "c")], NOW_MS),
        (&[("__name__", "up"), ("__replica__", "a"), ("cluster", "d")], NOW_MS),
    ]);
    let answer = write(&doors, &[], two).await;
    assert_eq!((answer.status, written(&answer)[0].as_str()), (StatusCode::BAD_REQUEST, "1"));
    assert!(answer.text().contains("ingest.ha.clusters_max = 1"), "{}", answer.text());
}
