//! Points of several series under limits of series: stored whole or refused as one, and counted as the one that was sent.

use std::sync::Arc;

use http::StatusCode;
use pharos_gateway::{Grant, IdentitySource, Principal, Scope, TenantAccess};
use pharos_ingest::IngestSettings;
use pharos_proto::remote_write::v2;
use prost::Message;
use serde_json::{Value, json};

use crate::fixture::{Answer, Doors, NOW_MS, doors_for, doors_to_few_series, post, snappy};

/// An explicit histogram of a bound and a start, a summary of a quantile, a gauge, and a resource with a `target_info`:
/// 4 + 3 + 1 + 1 series, of 3 points.
fn request() -> String {
    let ns = |after_ms: i64| format!("{}000000", NOW_MS + after_ms);
    let at = json!({"timeUnixNano": ns(1_000), "startTimeUnixNano": ns(500)});
    let point = |fields: Value| {
        let mut point = at.clone();
        point.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        point
    };
    let histogram = point(json!({"count": 2, "sum": 3.0, "bucketCounts": ["1", "1"], "explicitBounds": [1.0]}));
    let summary = point(json!({"count": 2, "sum": 3.0, "quantileValues": [{"quantile": 0.5, "value": 1.0}]}));
    let metrics = json!([
        {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [histogram]}},
        {"name": "s", "summary": {"dataPoints": [summary]}},
        {"name": "g", "gauge": {"dataPoints": [point(json!({"asDouble": 1.0}))]}},
    ]);
    let attribute = |key: &str| json!({"key": key, "value": {"stringValue": "x"}});
    let resource = json!({"attributes": [attribute("service.name"), attribute("host.name")]});
    let groups = json!([{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]);
    json!({"resourceMetrics": groups}).to_string()
}

/// With a limit of the credential, and with one of the store.
fn limited(series_max: usize, settings: &IngestSettings) -> [Doors; 2] {
    let mut grant = Grant::new("agent", &[Scope::MetricsWrite], TenantAccess::Any);
    grant.limits = serde_json::from_value(json!({"series_active": series_max})).unwrap();
    let principal = Principal::of(Arc::new(grant), IdentitySource::Token);
    [doors_for(principal, settings.clone()), doors_to_few_series(settings.clone(), series_max)]
}

async fn send(doors: &Doors) -> Value {
    let answer = doors.send(post("/v1/metrics").header("content-type", "application/json"), request()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

/// Names of stored series, each with its samples' count.
fn names(doors: &Doors) -> Vec<(String, usize)> {
    let mut names = Vec::<(String, usize)>::new();
    for line in doors.stored("0") {
        let name = line.split(['{', ' ']).next().unwrap().to_owned();
        match names.last_mut().filter(|(last, _)| *last == name) {
            Some((_, count)) => *count += 1,
            None => names.push((name, 1)),
        }
    }
    names
}

#[tokio::test]
async fn a_point_is_stored_whole_or_refused_as_one() {
    let histogram: &[(&str, usize)] = &[("h_bucket", 2), ("h_count", 1), ("h_sum", 1)];
    let summary: &[(&str, usize)] = &[("s_count", 1), ("s_sum", 1), ("s", 1)];
    let (gauge, info): (&[_], &[_]) = (&[("g", 1)], &[("target_info", 1)]);
    for (series_max, refused, stored) in [
        (9, None, [gauge, histogram, summary, info].concat()),
        (8, Some("0"), [gauge, histogram, summary].concat()),
        (7, Some("1"), [histogram, summary].concat()),
        (6, Some("1"), [gauge, histogram, info].concat()),
        (3, Some("2"), summary.to_vec()),
        (2, Some("2"), [gauge, info].concat()),
        (0, Some("3"), Vec::new()),
    ] {
        for doors in limited(series_max, &IngestSettings::default()) {
            // The same again: nothing that was refused has taken a place.
            for _ in 0..2 {
                let told = send(&doors).await;
                assert_eq!(told["partialSuccess"]["rejectedDataPoints"].as_str(), refused, "{series_max}: {told}");
                let message = told["partialSuccess"]["errorMessage"].as_str().unwrap_or("");
                assert_eq!(message.contains("series_limit"), refused.is_some(), "{series_max}: {told}");
                let stored: Vec<_> = stored.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
                assert_eq!(names(&doors), stored, "{series_max}");
            }
        }
    }
}

/// Zeros where counters start are of their points, too.
#[tokio::test]
async fn a_point_with_zeros_is_stored_whole_or_refused_as_one() {
    let mut settings = IngestSettings::default();
    settings.otlp.created_zero = true;
    for (series_max, refused, zeros) in [(9, None, true), (5, Some("1"), true), (3, Some("2"), false)] {
        for doors in limited(series_max, &settings) {
            let told = send(&doors).await;
            assert_eq!(told["partialSuccess"]["rejectedDataPoints"].as_str(), refused, "{series_max}: {told}");
            let of_histogram = names(&doors).into_iter().find(|(name, _)| name == "h_sum").map(|(_, count)| count);
            assert_eq!(of_histogram, zeros.then_some(2), "{series_max}: a zero and its sample");
        }
    }
}

/// A request of 2.0 with counters that started just now.
fn counters(names: &[&str], second: i64) -> Vec<u8> {
    let mut symbols = vec![String::new(), "__name__".to_owned()];
    symbols.extend(names.iter().map(|name| (*name).to_owned()));
    let at_ms = NOW_MS + 1_000 * second;
    let sample = v2::Sample { value: 3.0, timestamp: at_ms + 500, start_timestamp: at_ms };
    let metadata = Some(v2::Metadata { r#type: 1, help_ref: 0, unit_ref: 0 });
    let of = |place: u32| v2::TimeSeries {
        labels_refs: vec![1, place],
        samples: vec![sample],
        metadata,
        ..v2::TimeSeries::default()
    };
    let timeseries = (2..symbols.len() as u32).map(of).collect();
    snappy(&v2::Request { symbols, timeseries }.encode_to_vec())
}

#[tokio::test]
async fn a_zero_that_the_store_refuses_is_not_taken_off_what_was_written() {
    let mut settings = IngestSettings::default();
    settings.remote_write.created_zero = true;
    let doors = doors_to_few_series(settings, 2);
    let write = async |names: &[&str], second| -> Answer {
        let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        doors.send(post("/api/v1/write").header("content-type", content_type), counters(names, second)).await
    };
    let written = |answer: &Answer| answer.header("x-prometheus-remote-write-samples-written").to_owned();
    assert_eq!(written(&write(&["a", "b"], 1).await), "2");
    let partly = write(&["a", "b", "c"], 2).await;
    assert_eq!((partly.status, written(&partly).as_str()), (StatusCode::BAD_REQUEST, "2"), "{}", partly.text());
    assert!(partly.text().starts_with("1 refused"), "{}", partly.text());
    assert_eq!(names(&doors), [("a".to_owned(), 4), ("b".to_owned(), 4)]);
}
