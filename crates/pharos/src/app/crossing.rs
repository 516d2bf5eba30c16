//! Tenants are walls: two of them hold data of the same names, times and ids, and on no route of any port does the one read a
//! word that only the other wrote.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use tower::ServiceExt;

use super::authz::{House, patterns};
use super::*;

/// Both tenants have this trace.
const TRACE_ID: &str = "5b8efff798038103d269b633813fc60c";

/// Only data of that tenant hold it; no request does.
fn mark(tenant: &str) -> String {
    format!("kept-by-{tenant}")
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    // A stream without an end says what it has at once.
    let is_endless = response.headers().get("content-type").is_some_and(|found| found == "text/event-stream");
    if is_endless {
        return (status, String::new());
    }
    let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn write(house: &House, tenant: &str, now_ms: i64) {
    let token = &house.tokens["all"];
    let post = |path: &str, body: String| {
        let request = Request::post(path).header("authorization", format!("Bearer {token}"));
        request
            .header("x-scope-orgid", tenant)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap()
    };
    let mark = mark(tenant);
    let line = serde_json::json!({
        "metric": {"__name__": "owned", "job": "shop", "owner": mark}, "values": [1.0, 2.0], "timestamps": [now_ms - 60_000, now_ms],
    });
    let (status, answer) = send(&house.routers[0].1, post("/api/v1/import", format!("{line}\n"))).await;
    assert!(status.is_success(), "{status} {answer}");
    let span = |service: &str, name: &str, span_id: &str| {
        serde_json::json!({
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{"spans": [{
                "traceId": TRACE_ID, "spanId": span_id, "name": name, "kind": 2,
                "startTimeUnixNano": ((now_ms - 60_000) * 1_000_000).to_string(),
                "endTimeUnixNano": ((now_ms - 59_000) * 1_000_000).to_string(),
                "attributes": [{"key": "owner", "value": {"stringValue": mark}}],
            }]}],
        })
    };
    let spans = serde_json::json!({"resourceSpans": [span("shop", &mark, "eee19b7ec3c1b174"), span(&mark, "pay", "eee19b7ec3c1b175")]});
    let (status, answer) = send(&house.routers[0].1, post("/v1/traces", spans.to_string())).await;
    assert!(status.is_success(), "{status} {answer}");
}

/// The path of a pattern, for what both tenants have.
fn path_of(pattern: &str, tenant: &str) -> String {
    let fill = |segment: &str| match segment {
        "{tenant}" => tenant.to_owned(),
        "{trace_id}" | "{id}" => TRACE_ID.to_owned(),
        "{service}" => "shop".to_owned(),
        "{name}" | "{tag}" => "owner".to_owned(),
        "{*rest}" | "{*path}" => "x".to_owned(),
        other => other.to_owned(),
    };
    pattern.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// Parameters that make one route or another answer with data; those that it does not know it ignores.
fn queries(now_ms: i64) -> [String; 3] {
    let (now_s, now_us) = (now_ms / 1_000, now_ms * 1_000);
    let (before_s, before_us) = (now_s - 600, now_us - 600_000_000);
    [
        format!("query=owned&match[]=owned&time={now_s}&start={before_s}&end={now_s}&step=15"),
        format!("service=shop&start={before_us}&end={now_us}&endTs={now_ms}&lookback=3600000&limit=20"),
        format!(
            "q={{}}&start={before_s}&end={now_s}&limit=20&query.service_name=shop&service=shop\
                 &query.start_time_min=2020-01-01T00:00:00Z&query.start_time_max=2100-01-01T00:00:00Z&query.search_depth=20"
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_of_any_port_shows_one_tenant_what_another_wrote() {
    let house = House::open().await;
    let now_ms = SystemClock.unix_ms();
    for tenant in ["7", "8"] {
        write(&house, tenant, now_ms).await;
    }
    let (mut leaks, mut shown) = (Vec::new(), 0);
    for (port, router) in &house.routers {
        for pattern in patterns(router) {
            // Ends sessions, stops nothing, holds no data.
            if pattern.starts_with("/auth/") {
                continue;
            }
            let mut shows_own = false;
            for query in queries(now_ms) {
                for (who, own, other) in [("seven", "7", "8"), ("eight", "8", "7")] {
                    let get = |tenant: &str, header: Option<&str>| {
                        let mut request = Request::get(format!("{}?{}", path_of(&pattern, tenant), encoded(&query)))
                            .header("authorization", format!("Bearer {}", house.tokens[who]));
                        if let Some(header) = header {
                            request = request.header("x-scope-orgid", header);
                        }
                        request.body(Body::empty()).unwrap()
                    };
                    for (tenant, header) in
                        [(own, None), (own, Some(own)), (own, Some(other)), (other, None), (other, Some(own))]
                    {
                        let (status, body) = send(router, get(tenant, header)).await;
                        if body.contains(&mark(other)) {
                            leaks.push(format!("{port} {pattern} shows {who} what {other} wrote ({status})"));
                        }
                        shows_own |=
                            header.is_none() && tenant == own && status.is_success() && body.contains(&mark(own));
                    }
                }
            }
            shown += usize::from(shows_own);
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
    assert!(shown >= 30, "only {shown} routes showed their own tenant's data: this test asks the wrong questions");
}

/// Braces and brackets as a URL may have them.
fn encoded(query: &str) -> String {
    query.replace('{', "%7B").replace('}', "%7D").replace('[', "%5B").replace(']', "%5D")
}

/// A gRPC call with one message; what comes back, as it is.
async fn call(
    house: &House,
    port: usize,
    method: &str,
    who: &str,
    tenant: Option<&str>,
    message: &[u8],
) -> (bool, String) {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let mut request = Request::post(method)
        .header("authorization", format!("Bearer {}", house.tokens[who]))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(tenant) = tenant {
        request = request.header("x-scope-orgid", tenant);
    }
    let response = house.routers[port].1.clone().oneshot(request.body(Body::from(frame)).unwrap()).await.unwrap();
    let is_denied = response.headers().get("grpc-status").is_some_and(|code| code == "7");
    let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
    (is_denied, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grpc_service_shows_one_tenant_what_another_wrote() {
    let house = House::open().await;
    let now_ms = SystemClock.unix_ms();
    for tenant in ["7", "8"] {
        write(&house, tenant, now_ms).await;
    }
    let field = |number: u8, bytes: &[u8]| {
        let mut message = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        message.extend(bytes);
        message
    };
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&TRACE_ID[2 * at..2 * at + 2], 16).unwrap()).collect();
    for (method, message) in [
        ("/jaeger.api_v2.QueryService/GetServices", Vec::new()),
        ("/jaeger.api_v2.QueryService/GetOperations", field(1, b"shop")),
        ("/jaeger.api_v2.QueryService/GetTrace", field(1, &id)),
        ("/jaeger.api_v3.QueryService/GetServices", Vec::new()),
        ("/jaeger.api_v3.QueryService/GetOperations", field(1, b"shop")),
        ("/jaeger.api_v3.QueryService/GetTrace", field(1, TRACE_ID.as_bytes())),
        ("/pharos.query.v1.QueryService/QueryInstant", field(1, b"owned")),
    ] {
        for port in [0, 4] {
            for (who, own, other) in [("seven", "7", "8"), ("eight", "8", "7")] {
                let (_, answer) = call(&house, port, method, who, None, &message).await;
                assert!(answer.contains(&mark(own)) && !answer.contains(&mark(other)), "{method} for {who}: {answer}");
                let (is_denied, answer) = call(&house, port, method, who, Some(other), &message).await;
                assert!(is_denied && !answer.contains(&mark(other)), "{method} for {who} asking for {other}: {answer}");
            }
        }
    }
}
