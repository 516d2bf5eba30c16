//! `POST /api/transform` and `POST /api/archive/{id}`.

use super::*;

async fn post(api: JaegerApi, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let router = router(api).layer(axum::Extension(Principal::anonymous()));
    let response = router.oneshot(Request::post(path).body(body.into()).unwrap()).await.unwrap();
    let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 24).await.unwrap());
    (status, serde_json::from_slice(&body).unwrap())
}

fn span(trace_id: &str, number: u8, name: &str) -> Value {
    json!({
        "traceId": trace_id, "spanId": format!("{number:016x}"), "name": name,
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": 1_700_000_000_000_005_000_u64,
    })
}

fn request(spans: &[Value]) -> Value {
    let service = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
    json!({"resourceSpans": [{"resource": service, "scopeSpans": [{"scope": {"name": "lib"}, "spans": spans}]}]})
}

const A: &str = "5b8efff798038103d269b633813fc60c";
const B: &str = "0000000000000000d269b633813fc60c";

#[tokio::test]
async fn otlp_in_json_comes_back_as_traces_of_v1() {
    let api = api_over(batch());
    let body = request(&[span(A, 1, "one"), span(B, 1, "alone"), span(A, 2, "two")]);
    let (status, answer) = post(api, "/api/transform", body.to_string()).await;
    assert_eq!((status, &answer["errors"], &answer["total"]), (StatusCode::OK, &Value::Null, &json!(0)));
    let traces = answer["data"].as_array().unwrap();
    let names = |trace: &Value| -> Vec<Value> {
        trace["spans"].as_array().unwrap().iter().map(|span| span["operationName"].clone()).collect()
    };
    assert_eq!((&traces[0]["traceID"], names(&traces[0])), (&json!(A), vec![json!("one"), json!("two")]));
    assert_eq!((&traces[1]["traceID"], names(&traces[1])), (&json!("d269b633813fc60c"), vec![json!("alone")]));
    assert_eq!(traces[1]["processes"], json!({"p1": {"serviceName": "shop", "tags": []}}));
    assert_eq!(
        (&traces[0]["spans"][0]["startTime"], &traces[0]["spans"][0]["duration"]),
        (&json!(1_700_000_000_000_000_u64), &json!(5))
    );
}

#[tokio::test]
async fn nothing_comes_of_nothing_and_what_is_refused_is_told() {
    for nothing in ["{}", r#"{"resourceSpans": []}"#] {
        let (status, answer) = post(api_over(batch()), "/api/transform", nothing).await;
        assert_eq!((status, &answer["data"], &answer["errors"]), (StatusCode::OK, &json!([]), &Value::Null));
    }
    let body = request(&[span(A, 1, "one"), span("", 2, "without an id")]);
    let (status, answer) = post(api_over(batch()), "/api/transform", body.to_string()).await;
    assert_eq!((status, answer["data"][0]["spans"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let told = answer["errors"][0]["msg"].as_str().unwrap();
    assert!(told.contains("without an id"), "{told}");
}

#[tokio::test]
async fn what_is_no_otlp_or_too_large_is_refused() {
    for wrong in ["", "no json", "[]", r#"{"resourceSpans": 1}"#] {
        let (status, answer) = post(api_over(batch()), "/api/transform", wrong).await;
        assert_eq!((status, &answer["errors"][0]["code"]), (StatusCode::BAD_REQUEST, &json!(400)), "{wrong}");
        let told = answer["errors"][0]["msg"].as_str().unwrap();
        assert!(told.starts_with("cannot unmarshal OTLP : "), "{told}");
    }
    let mut api = api_over(batch());
    let settings = crate::Settings { transform_body_max: pharos_base::ByteSize(1 << 10), ..crate::Settings::default() };
    api.settings = Arc::new(settings);
    let body = request(&[span(A, 1, &"n".repeat(2_000))]).to_string();
    let (status, answer) = post(api.clone(), "/api/transform", body.clone()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer["errors"][0]["msg"].as_str().unwrap().contains("jaeger_api.transform_body_max = 1KiB"), "{answer}");
    // What is decoded of it does not fit, though it may be read.
    api.settings = Arc::default();
    api.memory_bytes_max = 1 << 20;
    let (status, answer) = post(api, "/api/transform", body).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
}

/// What of bodies is being read is bounded, all uploads together.
#[tokio::test]
async fn bodies_that_are_being_read_have_a_common_limit() {
    let mut api = api_over(batch());
    api.bodies = bodies(64 << 10);
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("{")]);
    let endless = Body::from_stream(futures::StreamExt::chain(begun, futures::stream::pending()));
    let mut others = tokio::task::JoinSet::new();
    others.spawn(post(api.clone(), "/api/transform", endless));
    while api.bodies.held_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    let body = request(&[span(A, 1, &"n".repeat(8 << 10))]).to_string();
    let router = || router(api.clone()).layer(axum::Extension(Principal::anonymous()));
    let send = || router().oneshot(Request::post("/api/transform").body(Body::from(body.clone())).unwrap());
    let refused = send().await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    let told = to_bytes(refused.into_body(), 1 << 20).await.unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert!(told.contains("query.bodies_max = 64KiB"), "{told}");
    others.shutdown().await;
    assert_eq!(send().await.unwrap().status(), StatusCode::OK);
    assert_eq!((api.bodies.held_bytes(), api.memory.used_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_holds_nothing_for_ever() {
    let api = api_over(batch());
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("{")]);
    let endless = Body::from_stream(futures::StreamExt::chain(begun, futures::stream::pending()));
    let (status, answer) = post(api.clone(), "/api/transform", endless).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert_eq!(api.bodies.held_bytes(), 0);
}

#[tokio::test]
async fn there_is_no_archive_and_that_is_said_as_jaeger_says_it() {
    let (status, answer) = post(api_over(batch()), "/api/archive/ab", "").await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    let error = json!({"code": 501, "msg": "archive span storage was not configured"});
    assert_eq!(answer, json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [error]}));
    for wrong in ["/api/archive/xyz!", "/api/archive/ab?start=x"] {
        assert_eq!(post(api_over(batch()), wrong, "").await.0, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
