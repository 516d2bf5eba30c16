//! What clients send, replayed: Grafana's Jaeger datasource, and both generations of Jaeger's own page. Times and ids are
//! this test's, names and order of parameters are theirs.

use http::header::CONTENT_TYPE;

use super::*;

async fn plain(path: &str) -> (StatusCode, String, String) {
    let response = fixture().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let kind = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 24).await.unwrap());
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

/// How many traces an answer has, and that all have spans: without any the datasource panics.
fn traces(answer: &Value) -> usize {
    let traces = answer["data"].as_array().unwrap();
    assert!(traces.iter().all(|trace| !trace["spans"].as_array().unwrap().is_empty()));
    traces.len()
}

#[tokio::test]
async fn grafanas_datasource_gets_what_it_asks_for() {
    let router = fixture();
    // Its health check takes any 2xx with JSON.
    assert_eq!(get(&router, "/api/services").await.1["data"], json!(["db", "shop"]));
    assert_eq!(get(&router, "/api/services/shop/operations").await.1["data"], json!(["GET /cart"]));
    assert_eq!(get(&router, "/api/services/no%20such%2Fservice/operations").await.1["data"], json!([]));
    let window = "start=1699999000000000&end=1700000000000000";
    for (query, found) in [
        ("end=1700000000000000&limit=20&operation=GET+%2Fcart&service=shop&start=1699999000000000".to_owned(), 1),
        (
            format!(
                "{window}&limit=20&service=shop&tags=%7B%22error%22%3A%22true%22%7D&minDuration=100us&maxDuration=1.2s"
            ),
            1,
        ),
        (format!("{window}&service=shop&minDuration=3ms"), 0),
        (format!("{window}&service=nobody&limit=20"), 0),
    ] {
        let (status, answer) = get(&router, &format!("/api/traces?{query}")).await;
        assert_eq!((status, traces(&answer), &answer["errors"]), (StatusCode::OK, found, &Value::Null), "{query}");
    }
    // With times it sends milliseconds; the trace lies within, before, after.
    let id = format!("{:032x}", 0xab);
    for times in ["", "?start=1699999000000&end=1700000000000", "?start=1699999000000000&end=1700000000000000000"] {
        let (status, answer) = get(&router, &format!("/api/traces/{id}{times}")).await;
        assert_eq!((status, traces(&answer)), (StatusCode::OK, 1), "{times}");
        assert_eq!(answer["data"][0]["spans"].as_array().unwrap().len(), 2, "{times}: whole");
    }
    let (status, kind, body) = plain(&format!("/api/traces/{}", "ff".repeat(16))).await;
    assert_eq!((status, kind.as_str()), (StatusCode::NOT_FOUND, "text/plain; charset=utf-8"));
    let error = r#"{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":404,"msg":"trace not found"}]}"#;
    assert_eq!(body, format!("{error}\n"));
    let (status, answer) = get(&router, "/api/dependencies?endTs=1700000000000&lookback=3600000").await;
    assert_eq!((status, &answer["errors"]), (StatusCode::OK, &Value::Null), "any error would be shown");
    assert_eq!(answer["data"], json!([{"parent": "shop", "child": "db", "callCount": 1}]));
    // The toggle for API v3.
    assert_eq!(get(&router, "/api/v3/services").await.1, json!({"services": ["db", "shop"]}));
    let operations = get(&router, "/api/v3/operations?service=db").await.1;
    assert_eq!(operations, json!({"operations": [{"name": "SELECT", "spanKind": "client"}]}));
    assert_eq!(get(&router, &format!("/api/v3/traces/{id}")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn jaegers_older_page_lives_on_v1() {
    let router = fixture();
    assert_eq!(get(&router, "/api/services").await.0, StatusCode::OK);
    let (_, operations) = get(&router, "/api/operations?service=shop").await;
    assert_eq!(operations["data"], json!([{"name": "GET /cart", "spanKind": "server"}]));
    let search =
        "end=1700000000000000&limit=20&lookback=1h&maxDuration&minDuration&service=shop&start=1699996400000000";
    assert_eq!(traces(&get(&router, &format!("/api/traces?{search}")).await.1), 1);
    // To compare traces, and to find by id.
    let (status, answer) =
        get(&router, "/api/traces?traceID=ab&traceID=00000000000000000000000000000eee&traceID=AB").await;
    assert_eq!((status, traces(&answer)), (StatusCode::OK, 1));
    assert_eq!(answer["errors"], json!([{"msg": "trace not found", "traceID": "0000000000000eee"}]));
    assert_eq!(traces(&get(&router, "/api/traces/ab?raw=true&prettyPrint=true").await.1), 1);
    let (_, calls) = get(&router, "/api/dependencies?endTs=1700000000000&lookback=604800000&service=db").await;
    assert_eq!(calls["data"].as_array().unwrap().len(), 1);
    let (_, calls) = get(&router, "/api/dependencies?endTs=1700000000000&lookback=604800000&service=nobody").await;
    assert_eq!(calls["data"], json!([]));
}

#[tokio::test]
async fn jaegers_newer_page_lists_and_searches_by_v3_and_opens_by_v1() {
    let router = fixture();
    assert_eq!(get(&router, "/api/v3/services").await.1["services"], json!(["db", "shop"]));
    let window = "query.startTimeMin=2023-11-14T20%3A13%3A20.000Z&query.startTimeMax=2023-11-14T22%3A13%3A20.000Z";
    let search =
        format!("query.serviceName=shop&{window}&query.searchDepth=20&query.attributes=%7B%22error%22%3A%22true%22%7D");
    let (status, found) = get(&router, &format!("/api/v3/trace-summaries?{search}")).await;
    assert_eq!((status, found["summaries"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let id = found["summaries"][0]["traceId"].as_str().unwrap();
    assert!(id.len() == 32, "its pattern insists");
    assert_eq!(traces(&get(&router, &format!("/api/traces/{id}")).await.1), 1);
    let nothing = search.replace("shop", "nobody");
    assert_eq!(get(&router, &format!("/api/v3/trace-summaries?{nothing}")).await.1, json!({"summaries": []}));
    let (status, kind, body) = plain(&format!("/api/v3/traces?{nothing}")).await;
    assert_eq!((status, kind.as_str()), (StatusCode::NOT_FOUND, "text/plain; charset=utf-8"));
    let error: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(error["error"]["message"], "No traces found");
    let calls = "/api/v3/dependencies?startTime=2023-11-14T20:13:20Z&endTime=2023-11-14T22:13:20Z";
    let expected = json!({"dependencies": [{"parent": "shop", "child": "db", "callCount": "1"}]});
    assert_eq!(get(&router, calls).await.1, expected);
    assert_eq!(get(&router, "/api/v3/dependencies").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_empty_store_answers_with_empty_lists() {
    let router = router(api_over(SpanBatch::default())).layer(axum::Extension(Principal::anonymous()));
    for (path, expected) in [
        ("/api/services", json!({"data": [], "total": 0, "limit": 0, "offset": 0, "errors": null})),
        ("/api/v3/services", json!({"services": []})),
        ("/api/v3/operations?service=shop", json!({"operations": []})),
    ] {
        assert_eq!(get(&router, path).await, (StatusCode::OK, expected), "{path}");
    }
}

#[tokio::test]
async fn answers_for_people_are_indented_by_four_everywhere() {
    for path in [
        "/api/services?prettyPrint=true",
        "/api/services/shop/operations?prettyPrint=1",
        "/api/operations?service=shop&prettyPrint=true",
        "/api/dependencies?prettyPrint=true",
        "/api/traces?prettyPrint=true",
        "/api/traces/ab?prettyPrint=x",
    ] {
        let (status, kind, body) = plain(path).await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"), "{path}");
        assert!(body.starts_with("{\n    \"data\": ["), "{path}: {body}");
    }
    for path in ["/api/services?prettyPrint=false", "/api/services?prettyPrint="] {
        assert!(!plain(path).await.2.contains('\n'), "{path}");
    }
}
