//! Points through PromQL: exactly the series that were stated, each with its value, its time and its exemplars.

use std::collections::BTreeMap;

use serde_json::Value;

use super::api::Api;
use super::reference::{Reference, list, text};

/// Everything the workload's metrics become; what Pharos derives from spans has other names.
const WORKLOAD_NAMES: &str = "shop_.+|target_info";
/// Zero is counted in a bucket of this half width, whatever the sender says.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Two spellings of one bucket boundary differ by less; two neighbours at scale 5 by 2 %.
const BOUNDARY_TOLERANCE: f64 = 1e-12;
/// How the query API numbers the kinds of buckets: (lower, upper] and [lower, upper].
const LEFT_OPEN: i64 = 0;
const CLOSED: i64 = 3;

/// What came back differently from what was sent.
pub(crate) async fn check(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let mut wrong = check_samples(api, reference).await;
    wrong.extend(check_exemplars(api, reference).await);
    wrong.extend(check_metadata(api, reference).await);
    wrong
}

/// The selector of all series of one run.
fn selector(reference: &Reference) -> String {
    let labels = &reference.series()[0]["labels"];
    format!("{{__name__=~{WORKLOAD_NAMES:?},job={},instance={}}}", labels["job"], labels["instance"])
}

async fn check_samples(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let (start_ms, end_ms) = reference.window_ms();
    // A range selector answers raw samples; one second later everything of the run is inside.
    let (query, at) = (format!("{}[10m]", selector(reference)), seconds(end_ms + 1000));
    let answer = api.get("/api/v1/query", &[("query", &query), ("time", &at)]).await;
    let mut found: BTreeMap<String, &Value> =
        list(&answer["data"], "result").iter().map(|series| (name_of(&series["metric"]), series)).collect();
    let mut wrong = Vec::new();
    for sent in reference.series() {
        let name = name_of(&sent["labels"]);
        let Some(series) = found.remove(&name) else {
            wrong.push(format!("{name}: no such series"));
            continue;
        };
        let points = list(series, if sent.get("histogram").is_some() { "histograms" } else { "values" });
        if points.is_empty() {
            wrong.push(format!("{name}: no sample of its type in {series}"));
        }
        for point in points {
            let at_ms = point[0].as_f64().map_or(0, |seconds| (seconds * 1000.0).round() as i64);
            if !(start_ms..=end_ms).contains(&at_ms) {
                wrong.push(format!("{name}: observed in {start_ms}..={end_ms}, came back at {at_ms}"));
            }
            match sent.get("histogram") {
                Some(histogram) if is_histogram(histogram, &point[1]) => {}
                Some(histogram) => wrong.push(format!("{name}: sent {histogram}, came back {}", point[1])),
                None if number(&sent["value"]) == number(&point[1]) => {}
                None => wrong.push(format!("{name}: sent {}, came back {}", sent["value"], point[1])),
            }
        }
    }
    wrong.extend(found.keys().map(|name| format!("{name}: never sent")));
    wrong
}

async fn check_exemplars(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let (start_ms, end_ms) = reference.window_ms();
    let (query, start, end) = (selector(reference), seconds(start_ms), seconds(end_ms));
    let parameters = [("query", query.as_str()), ("start", &start), ("end", &end)];
    let answer = api.get("/api/v1/query_exemplars", &parameters).await;
    let mut found = Vec::new();
    for series in list(&answer, "data") {
        let one = |exemplar: &Value| exemplar_line(&series["seriesLabels"], exemplar);
        found.extend(list(series, "exemplars").iter().map(one));
    }
    let mut sent: Vec<String> =
        reference.exemplars().iter().map(|exemplar| exemplar_line(&exemplar["series"], exemplar)).collect();
    found.sort();
    // A program that flushes twice sends its exemplars twice; they are the same ones.
    found.dedup();
    sent.sort();
    let lost = sent.iter().filter(|exemplar| !found.contains(exemplar)).map(|one| format!("exemplar lost: {one}"));
    let new = found.iter().filter(|exemplar| !sent.contains(exemplar)).map(|one| format!("exemplar never sent: {one}"));
    lost.chain(new).collect()
}

async fn check_metadata(api: &Api<'_>, reference: &Reference) -> Vec<String> {
    let mut wrong = Vec::new();
    for sent in reference.series() {
        let name = family(text(&sent["labels"], "__name__"), text(sent, "type"));
        let answer = api.get("/api/v1/metadata", &[("metric", name)]).await;
        let found = list(&answer["data"], name);
        if !found.iter().any(|one| one["type"] == sent["type"] && one["help"] == sent["help"]) {
            wrong.push(format!("metadata of {name}: sent {} {}, came back {found:?}", sent["type"], sent["help"]));
        }
    }
    wrong
}

/// The name under which metadata are kept: a classic histogram has one for its three kinds of series.
fn family<'a>(name: &'a str, kind: &str) -> &'a str {
    let suffixes = if kind == "histogram" { ["_bucket", "_count", "_sum"].as_slice() } else { &[] };
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn exemplar_line(series: &Value, exemplar: &Value) -> String {
    format!("{} {} {:?}", name_of(series), name_of(&exemplar["labels"]), number(&exemplar["value"]))
}

/// Labels in one spelling.
fn name_of(labels: &Value) -> String {
    let labels: BTreeMap<_, _> = labels.as_object().into_iter().flatten().collect();
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Whether a histogram that the query API tells is the stated one: everything exactly, boundaries within the tolerance.
fn is_histogram(stated: &Value, found: &Value) -> bool {
    let scale = stated["scale"].as_i64().expect("a scale") as i32;
    let boundary = |index: i64| (index as f64 * f64::from(-scale).exp2()).exp2();
    let mut buckets = vec![(CLOSED, -ZERO_THRESHOLD, ZERO_THRESHOLD, number(&stated["zeroCount"]))];
    for bucket in list(stated, "positive") {
        let index = bucket[0].as_i64().expect("an index");
        buckets.push((LEFT_OPEN, boundary(index), boundary(index + 1), number(&bucket[1])));
    }
    let is_bucket = |&(rule, lower, upper, count): &(i64, f64, f64, f64), found: &Value| {
        found[0] == rule
            && close(lower, number(&found[1]))
            && close(upper, number(&found[2]))
            && count == number(&found[3])
    };
    let found_buckets = list(found, "buckets");
    number(&stated["count"]) == number(&found["count"])
        && number(&stated["sum"]) == number(&found["sum"])
        && buckets.len() == found_buckets.len()
        && buckets.iter().zip(found_buckets).all(|(stated, found)| is_bucket(stated, found))
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() <= BOUNDARY_TOLERANCE * left.abs()
}

fn number(text: &Value) -> f64 {
    let text = text.as_str().expect("numbers are texts in this API");
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

fn seconds(milliseconds: i64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

#[test]
fn a_histogram_with_one_count_in_the_next_bucket_is_another_one() {
    let stated =
        serde_json::json!({ "scale": 0, "zeroCount": "1", "count": "3", "sum": "5", "positive": [[0, "1"], [1, "1"]] });
    let found = |last: [&str; 2]| {
        serde_json::json!({ "count": "3", "sum": "5", "buckets": [
            [3, "-1e-128", "1e-128", "1"], [0, "1", "2", "1"], [0, last[0], last[1], "1"],
        ] })
    };
    assert!(is_histogram(&stated, &found(["2", "4"])));
    assert!(!is_histogram(&stated, &found(["4", "8"])));
}
