//! Searches from outside.

use axum::body::Body;
use http::{Request, StatusCode};

use crate::testing::{Fixture, fixture};

async fn search(fixture: &Fixture, path: &str) -> (StatusCode, String, String) {
    let request = Request::get(format!("/api/v1/search/{path}")).body(Body::empty()).unwrap();
    let (status, content_type, body) = fixture.bytes(request).await;
    (status, content_type, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn results_come_in_batches_and_a_last_line_says_how_it_ended() {
    let fixture = fixture();
    let done = "{\"status\":\"success\",\"has_more\":false}\n";
    for (path, expected) in [
        ("metric_names", format!("{{\"results\":[{{\"name\":\"ended\"}},{{\"name\":\"requests_total\"}}]}}\n{done}")),
        (
            "metric_names?search[]=req&include_score=true&include_metadata=1",
            format!(
                "{{\"results\":[{{\"name\":\"requests_total\",\"score\":1,\"type\":\"counter\",\"help\":\"Requests.\"}}]}}\n{done}"
            ),
        ),
        ("metric_names?search[]=zzz", format!("{{\"results\":[]}}\n{done}")),
        ("metric_names?end=1000", format!("{{\"results\":[]}}\n{done}")),
        (
            "label_values?label=job&batch_size=1&sort_by=alpha&sort_dir=dsc",
            format!("{{\"results\":[{{\"name\":\"web\"}}]}}\n{{\"results\":[{{\"name\":\"api\"}}]}}\n{done}"),
        ),
        (
            "label_names?limit=1&match[]=requests_total",
            "{\"results\":[{\"name\":\"__name__\"}]}\n{\"status\":\"success\",\"has_more\":true}\n".to_owned(),
        ),
        // `aip` resembles `api`, `job` nothing.
        (
            "label_values?label=job&search[]=aip&fuzz_alg=jarowinkler&fuzz_threshold=50&sort_by=score",
            format!("{{\"results\":[{{\"name\":\"api\"}}]}}\n{done}"),
        ),
    ] {
        let (status, content_type, body) = search(&fixture, path).await;
        assert_eq!((status, content_type.as_str()), (StatusCode::OK, "application/x-ndjson; charset=utf-8"), "{path}");
        assert_eq!(body, expected, "{path}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_before_the_first_line() {
    let fixture = fixture();
    let (many, long) = ("search[]=a&".repeat(33), "a".repeat(5_000));
    for (path, part) in [
        ("label_values", "missing required parameter \\\"label\\\""),
        ("metric_names?fuzz_threshold=101", "invalid fuzz_threshold \\\"101\\\": must be 0-100"),
        ("metric_names?fuzz_alg=x", "unsupported fuzz_alg \\\"x\\\": must be one of [subsequence jarowinkler]"),
        ("metric_names?case_sensitive=x", "invalid case_sensitive \\\"x\\\": must be boolean"),
        (
            "metric_names?sort_by=x",
            "invalid sort_by \\\"x\\\" for metric_names: must be \\\"alpha\\\" or \\\"score\\\"",
        ),
        ("metric_names?sort_by=score", "sort_by=score requires search[] to be set"),
        ("metric_names?sort_dir=asc", "sort_dir is only valid when sort_by is set"),
        ("metric_names?sort_by=alpha&sort_dir=up", "invalid sort_dir \\\"up\\\""),
        ("metric_names?search[]=a&sort_by=score&sort_dir=asc", "sort_dir is not supported for sort_by=score"),
        ("metric_names?limit=-1", "invalid limit \\\"-1\\\": must be non-negative integer"),
        ("metric_names?limit=10001", "limit 10001 exceeds the maximum of 10000"),
        ("metric_names?start=x", "\"invalid time value for 'start': cannot parse"),
        (&format!("metric_names?{many}"), "too many search[] values: 33, at most 32"),
        (&format!("metric_names?search[]={long}"), "a search[] value has 5000 bytes"),
    ] {
        let (status, _, body) = search(&fixture, path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(body.contains("\"errorType\":\"bad_data\"") && body.contains(part), "{path}: {body}");
    }
}
