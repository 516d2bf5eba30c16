//! The API from outside, over the in-memory store.

mod bodies;
mod hangup;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::testing::fixture;

#[tokio::test]
async fn an_instant_query_answers_below_every_prefix_and_by_post() {
    let fixture = fixture();
    let expected = json!({"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"__name__": "requests_total", "job": "api"}, "value": [1_700_000_000, "4"]}]}});
    let query = "query?query=requests_total%7Bjob%3D%22api%22%7D&time=1700000000";
    for prefix in ["/api/v1", "/prometheus/api/v1", "/select/0/prometheus/api/v1"] {
        assert_eq!(fixture.get(&format!("{prefix}/{query}")).await, (StatusCode::OK, expected.clone()), "{prefix}");
    }
    let post = Request::post("/api/v1/query?time=1700000000")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("query=requests_total{job=\"api\"}"))
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&fixture.text(post).await.1).unwrap(), expected);
    let (_, other) = fixture.get(&format!("/select/9/prometheus/api/v1/{query}")).await;
    assert_eq!(other["data"]["result"], json!([]), "another tenant sees nothing");
}

#[tokio::test]
async fn what_is_sent_twice_counts_in_the_form_first() {
    let fixture = fixture();
    let post = |query: &str, form: &'static str| {
        let request = Request::post(format!("/api/v1/query?time=1700000000{query}"));
        request.header("content-type", "application/x-www-form-urlencoded").body(Body::from(form)).unwrap()
    };
    let (_, text) = fixture.text(post("&query=1", "query=2")).await;
    assert!(text.contains(r#""2"]"#), "{text}");
    let (status, _) = fixture.text(post("&query=1", "query=")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "an empty value in front hides the others");
}

#[tokio::test]
async fn the_sentinels_of_time_are_times() {
    let fixture = fixture();
    for time in ["-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z"] {
        let (status, answer) = fixture.get(&format!("/api/v1/query?query=requests_total&time={time}")).await;
        assert_eq!((status, &answer["data"]["result"]), (StatusCode::OK, &json!([])), "{time}");
    }
    let all = "start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z";
    assert_eq!(fixture.get(&format!("/api/v1/labels?{all}")).await.1["data"], json!(["__name__", "job"]));
}

#[tokio::test]
async fn deep_expressions_are_drawn_and_formatted_too() {
    let fixture = fixture();
    let chain = vec!["a"; 499].join("%2B");
    for path in ["parse_query", "format_query"] {
        let (status, answer) =
            fixture.text(Request::get(format!("/api/v1/{path}?query={chain}")).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
}

#[tokio::test]
async fn statistics_come_when_asked_for() {
    let fixture = fixture();
    let (_, answer) = fixture.get("/api/v1/query?query=sum(requests_total)&stats=all").await;
    assert_eq!(answer["data"]["stats"]["samples"]["totalQueryableSamples"], 2);
    assert!(answer["data"]["stats"]["timings"]["execTotalTime"].is_number());
    assert!(answer["data"]["stats"]["timings"]["execQueueTime"].is_number() && answer.get("warnings").is_none());
    let samples = &answer["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamplesPerStep"], json!([[1_700_000_000, 2]]));
    let range =
        "query_range?query=count_over_time(requests_total%5B30s%5D)&start=1699999940&end=1699999970.5&step=15.25";
    let (_, answer) = fixture.get(&format!("/api/v1/{range}&stats=all")).await;
    let samples = &answer["data"]["stats"]["samples"];
    assert_eq!(
        samples["totalQueryableSamplesPerStep"],
        json!([[1_699_999_940, 2], [1_699_999_955.25, 4], [1_699_999_970.5, 4]])
    );
    assert_eq!(samples["samplesReadPerStep"].as_array().unwrap().len(), 3);
    let (_, answer) = fixture.get(&format!("/api/v1/{range}&stats=true")).await;
    assert!(answer["data"]["stats"]["samples"].get("totalQueryableSamplesPerStep").is_none());
    assert!(fixture.get("/api/v1/query?query=1").await.1["data"].get("stats").is_none());
    let (_, answer) = fixture.get("/api/v1/query?query=1&stats=%22yes").await;
    let warning = "value \"\\\"yes\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"";
    assert_eq!((&answer["warnings"], answer["data"]["stats"].is_object()), (&json!([warning]), true));
}

#[tokio::test]
async fn methods_are_those_of_prometheus() {
    let fixture = fixture();
    for (method, path, status) in [
        ("POST", "/api/v1/parse_query?query=up", 200),
        ("GET", "/api/v1/parse_query?query=up", 200),
        ("HEAD", "/api/v1/query?query=1", 200),
        ("POST", "/api/v1/label/job/values", 405),
        ("DELETE", "/api/v1/series", 405),
        ("OPTIONS", "/prometheus/api/v1/query_range", 204),
        ("GET", "/api/v1/read", 405),
        ("GET", "/version", 200),
        ("GET", "/api/v1/nothing", 404),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        assert_eq!(fixture.text(request).await.0.as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_range_query_answers_a_matrix() {
    let fixture = fixture();
    let (_, answer) =
        fixture.get("/api/v1/query_range?query=sum(requests_total)&start=1699999970&end=1700000000&step=15").await;
    let values = json!([[1_699_999_970, "4"], [1_699_999_985, "6"], [1_700_000_000, "8"]]);
    assert_eq!(answer["data"], json!({"resultType": "matrix", "result": [{"metric": {}, "values": values}]}));
}

#[tokio::test]
async fn what_is_wrong_is_told_in_prometheus_words() {
    let fixture = fixture();
    for (path, status, kind, part) in [
        ("query", 400, "bad_data", "invalid parameter \"query\": "),
        ("query?query=up&timeout=0", 503, "timeout", "timed out"),
        ("query?query=up&timeout=soon", 400, "bad_data", "cannot parse \"soon\" to a valid duration"),
        (
            "query?query=up&lookback_delta=-1m",
            400,
            "bad_data",
            "error parsing lookback delta duration: cannot parse \"-1m\" to a valid duration",
        ),
        ("query?query=up&timeout=1e10", 400, "bad_data", "to a valid duration. It overflows int64"),
        ("query?query=up&nocache=no", 400, "bad_data", "invalid parameter \"nocache\": unable to parse boolean \"no\""),
        ("targets/metadata?limit=x", 400, "bad_data", "limit must be a number"),
        ("targets/metadata?match_target=%7B", 400, "bad_data", "invalid parameter \"match_target\": 1:2: parse error"),
        ("targets/relabel_steps", 400, "bad_data", "no scrapePool parameter provided"),
        ("targets/relabel_steps?scrapePool=a", 400, "bad_data", "no labels parameter provided"),
        ("targets/relabel_steps?scrapePool=a&labels=[]", 400, "bad_data", "error parsing labels: "),
        ("targets/relabel_steps?scrapePool=a&labels={}", 404, "not_found", "scrape pool \"a\" not found"),
        ("rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\""),
        ("rules?exclude_alerts=x", 400, "bad_data", "invalid parameter \"exclude_alerts\""),
        ("rules?group_limit=0", 400, "bad_data", "invalid parameter \"group_limit\""),
        (
            "rules?group_limit=1&group_next_token=a",
            400,
            "bad_data",
            "invalid group_next_token. were rule groups changed?",
        ),
        ("status/self_metrics?metric_name_pattern=(", 400, "bad_data", "invalid parameter \"metric_name_pattern\""),
        ("query_range?query=up&start=1&end=5", 400, "bad_data", "cannot parse \"\" to a valid duration"),
        ("query_range?query=up&end=5&step=1", 400, "bad_data", "cannot parse \"\" to a valid timestamp"),
        ("parse_query?query=sum(", 400, "bad_data", "invalid parameter \"query\": "),
        ("metadata?limit_per_metric=x", 400, "bad_data", "limit_per_metric must be a number"),
        ("scrape_pools/config?scrapePool=a", 404, "not_found", "scrape pool \"a\" not found"),
        (
            "query?query=up&time=noon",
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"noon\" to a valid timestamp",
        ),
        ("labels?limit=x", 400, "bad_data", "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"),
        ("query?query=sum(", 400, "bad_data", "parse error"),
        ("query?query=up&limit=-1", 400, "bad_data", "limit must be non-negative"),
        ("query_range?query=up&start=10&end=5&step=1", 400, "bad_data", "end timestamp must not be before start"),
        ("query_range?query=up&start=1&end=5&step=0", 400, "bad_data", "zero or negative query resolution"),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing",
        ),
        ("query_range?query=up[5m]&start=0&end=10&step=1", 400, "bad_data", "invalid expression type"),
        ("series", 400, "bad_data", "no match[]"),
        ("series?match[]=%zz", 400, "bad_data", "error parsing form values: invalid URL escape \"%zz\""),
        ("labels?match[]=up&start=1%", 400, "bad_data", "error parsing form values: invalid URL escape \"%\""),
        ("query?query=up&time=%4", 400, "bad_data", "error parsing form values: invalid URL escape \"%4\""),
        (
            "series?match[]={job=~\".*\"}",
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        ("labels?match[]=a%20b", 400, "bad_data", "1:3: parse error: "),
        ("query_exemplars?query=up&start=9&end=1", 400, "bad_data", "end timestamp must not be before start timestamp"),
        ("status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number"),
        ("status/tsdb?limit=99999", 400, "bad_data", "limit must not exceed 10000"),
    ] {
        let (found, answer) =
            fixture.get(&format!("/api/v1/{}", path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D"))).await;
        assert_eq!(
            (found.as_u16(), &answer["status"], &answer["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{path}"
        );
        assert!(answer["error"].as_str().unwrap().contains(part), "{path}: {answer}");
    }
}

#[tokio::test]
async fn labels_values_series_and_metadata_are_listed() {
    let fixture = fixture();
    let data = async |path: &str| fixture.get(&format!("/api/v1/{path}")).await.1["data"].clone();
    assert_eq!(data("labels").await, json!(["__name__", "job"]));
    assert_eq!(data("label/job/values?match[]=requests_total").await, json!(["api", "web"]));
    assert_eq!(data("label/job/values?end=1000").await, json!([]));
    assert_eq!(
        data("series?match[]=requests_total").await,
        json!([
        {"__name__": "requests_total", "job": "api"}, {"__name__": "requests_total", "job": "web"}])
    );
    assert_eq!(
        data("metadata").await,
        json!({"requests_total": [{"type": "counter", "unit": "", "help": "Requests."}]})
    );
    assert_eq!(data("metadata?limit=0").await, json!({}));
    assert_eq!(data("metadata?limit=-1&limit_per_metric=1").await, data("metadata").await);
    let (_, limited) = fixture.get("/api/v1/label/job/values?limit=1").await;
    assert_eq!((&limited["data"], &limited["warnings"]), (&json!(["api"]), &json!(["results truncated due to limit"])));
}

#[tokio::test]
async fn exemplars_are_found_through_any_expression() {
    let fixture = fixture();
    let (_, answer) =
        fixture.get("/api/v1/query_exemplars?query=rate(requests_total%7Bjob%3D%22web%22%7D%5B1m%5D)").await;
    let exemplars = json!([{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": 1_699_999_999.5}]);
    let series = json!({"seriesLabels": {"__name__": "requests_total", "job": "web"}, "exemplars": exemplars});
    assert_eq!(answer["data"], json!([series]));
    assert_eq!(fixture.get("/api/v1/query_exemplars?query=1").await.0, StatusCode::NO_CONTENT);
    let probe = fixture.get("/api/v1/query_exemplars?query=test&start=1700000000000&end=1700000600000").await.1;
    assert_eq!(probe["status"], "success");
}

#[tokio::test]
async fn federation_leaves_ended_series_out() {
    let fixture = fixture();
    let (_, text) =
        fixture.text(Request::get("/federate?match[]=%7B__name__=~%22.%2B%22%7D").body(Body::empty()).unwrap()).await;
    assert_eq!(
        text,
        "# TYPE requests_total untyped\nrequests_total{job=\"api\",instance=\"\"} 4 1700000000000\n\
         requests_total{job=\"web\",instance=\"\"} 4 1700000000000\n"
    );
}

#[tokio::test]
async fn the_status_of_series_and_build_is_told() {
    let fixture = fixture();
    let (_, tsdb) = fixture.get("/api/v1/status/tsdb").await;
    assert_eq!(tsdb["data"]["headStats"]["numSeries"], 3);
    assert_eq!(tsdb["data"]["seriesCountByMetricName"][0], json!({"name": "requests_total", "value": 2}));
    assert_eq!(fixture.get("/api/v1/status/tsdb/blocks").await.1["data"], json!({"blocks": []}));
    let (_, flags) = fixture.get("/api/v1/status/flags").await;
    assert_eq!((&flags["data"]["query.timeout"], &flags["data"]["query.lookback-delta"]), (&json!("2m"), &json!("5m")));
    let (_, own) = fixture.get("/api/v1/status/self_metrics?metric_name_pattern=pharos_.*").await;
    assert_eq!(own["data"][0]["name"], "pharos_up");
    assert_eq!(fixture.get("/api/v1/status/self_metrics?metric_name_pattern=pharos").await.1["data"], json!([]));
    assert_eq!(fixture.get("/api/v1/rules?type=alert&exclude_alerts=1").await.1["data"], json!({"groups": []}));
    let (_, runtime) = fixture.get("/api/v1/status/runtimeinfo").await;
    assert_eq!((&runtime["data"]["corruptionCount"], &runtime["data"]["storageRetention"]), (&json!(0), &json!("30d")));
    let (_, build) = fixture.get("/api/v1/status/buildinfo").await;
    assert!(build["data"].get("features").is_none(), "Grafana takes a server with features for Mimir");
}
