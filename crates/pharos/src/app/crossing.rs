//! Tenants are walls: two of them hold data of the same names, times and ids, and on no route of any port, by no method, in no form
//! does the one read a word that only the other wrote.
//!
//! The routes are read off the routers. Each must show its own tenant's data to these questions, or stand among the exceptions with
//! its reason: a route that shows nothing to anyone proves nothing. gRPC is asked in [`grpc`].

mod grpc;

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use pharos_proto::remote_read;
use prost::Message;
use tower::ServiceExt;

use super::authz::{House, patterns};
use super::*;

/// Both tenants have this trace.
const TRACE_ID: &str = "5b8efff798038103d269b633813fc60c";
/// Who asks, their tenant, and the other one.
const PEOPLE: [(&str, &str, &str); 2] = [("seven", "7", "8"), ("eight", "8", "7")];

/// Routes that show nobody's data, by the shortest of their names, and why.
const SHOWS_NOTHING: [(&str, &str); 7] = [
    (
        "the server's own, and only for all tenants",
        "/ /-/healthy /-/ready /-/flush /-/compact /-/reload /metrics /version /api/v1/status/runtimeinfo /api/v1/status/flags
         /api/v1/status/self_metrics /api/v1/admin/tsdb/snapshot /api/v1/admin/tsdb/clean_tombstones /snapshot/create
         /snapshot/list /snapshot/delete /snapshot/delete_all",
    ),
    (
        "alike for all tenants",
        "/api/v1/format_query /api/v1/parse_query /api/v1/features /api/v1/notifications /api/v1/notifications/live
         /api/v1/openapi.yaml /api/v1/status/buildinfo /api/v1/status/walreplay /api/v1/status/config
         /api/v1/status/tsdb/blocks /api/v3/capabilities /tempo/api/echo /tempo/api/status/buildinfo",
    ),
    (
        "nothing is scraped, and no rule evaluated",
        "/api/v1/targets /api/v1/targets/metadata /api/v1/targets/relabel_steps /api/v1/scrape_pools
         /api/v1/scrape_pools/config /api/v1/rules /api/v1/alerts /api/v1/alertmanagers",
    ),
    (
        "takes data, and tells at most what it was sent",
        "/api/v1/write /api/v1/push /api/v1/import /api/v1/import/prometheus /insert/{tenant}/prometheus /v1/metrics /v1/traces
         /v1/logs /api/v1/otlp/v1/metrics /api/v1/otlp/v1/traces /api/v1/otlp/v1/logs /opentelemetry/v1/metrics
         /opentelemetry/v1/traces /opentelemetry/v1/logs /api/transform",
    ),
    (
        "no query is under way while it is asked for",
        "/api/v1/status/active_queries /api/v1/status/active_queries/{id} /api/v1/status/active_queries/{id}/cancel",
    ),
    ("deletes; see below", "/api/v1/admin/tsdb/delete_series /api/v1/admin/traces/delete"),
    ("not supported", "/api/archive/{trace_id} /tempo/api/metrics/query_range /tempo/api/metrics/query"),
];

/// Only data of that tenant hold it; no request of these tests does. It can be the name of anything.
fn mark(tenant: &str) -> String {
    format!("kept_by_{tenant}")
}

/// The same as a trace's id: sixteen letters.
fn marked_trace_id(tenant: &str) -> String {
    let letters: [u8; 16] = format!("{:_<16}", mark(tenant)).into_bytes().try_into().unwrap();
    format!("{:032x}", u128::from_be_bytes(letters))
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    // A stream without an end says what it has at once.
    if header("content-type").is_some_and(|found| found == "text/event-stream") {
        return (status, String::new());
    }
    let is_snappy = header("content-encoding").is_some_and(|found| found == "snappy");
    let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
    let body = if is_snappy { snap::raw::Decoder::new().decompress_vec(&body).unwrap() } else { body.to_vec() };
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn write(house: &House, tenant: &str, now_ms: i64) {
    let (token, router, mark) = (&house.tokens["all"], &house.routers[0].1, mark(tenant));
    let post = async |path: &str, body: String| {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("x-scope-orgid", tenant)
            .header("content-type", "application/json");
        let (status, answer) = send(router, request.body(Body::from(body)).unwrap()).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
    };
    post("/api/v1/import", lines(&mark, now_ms)).await;
    post("/v1/metrics", otlp_metrics(&mark, now_ms).to_string()).await;
    post("/v1/traces", otlp_traces(tenant, now_ms).to_string()).await;
    // The text of a query is known to its tenant alone.
    let (who, ..) = PEOPLE.into_iter().find(|(_, own, _)| *own == tenant).unwrap();
    let query = format!("/api/v1/query?query=owned%7Bowner%3D%22{mark}%22%7D");
    let request = Request::get(query).header("authorization", format!("Bearer {}", house.tokens[who]));
    let (status, answer) = send(router, request.body(Body::empty()).unwrap()).await;
    assert!(status.is_success() && answer.contains(&mark), "{status} {answer}");
}

/// Series whose name, a label's name or a label's value is the mark, and what the monitor of services reads.
fn lines(mark: &str, now_ms: i64) -> String {
    let minutes: Vec<i64> = (0..=20).rev().map(|minute| now_ms - minute * 60_000).collect();
    let growing: Vec<i64> = (0..=20).map(|count| 10 * count).collect();
    let monitored = |name: &str, label: &str, value: &str| {
        serde_json::json!({
            "__name__": format!("traces_span_metrics_{name}"), "service_name": "shop", "span_name": mark,
            "span_kind": "SPAN_KIND_SERVER", label: value,
        })
    };
    let metrics = [
        serde_json::json!({"__name__": "owned", "job": "shop", "owner": mark, mark: "x"}),
        serde_json::json!({"__name__": mark, "job": "shop", "owner": mark}),
        monitored("calls_total", "status_code", "STATUS_CODE_ERROR"),
        monitored("duration_milliseconds_bucket", "le", "10"),
        monitored("duration_milliseconds_bucket", "le", "+Inf"),
    ];
    let line = |metric| serde_json::json!({"metric": metric, "values": growing, "timestamps": minutes}).to_string();
    metrics.map(line).join("\n")
}

/// A metric with a description and an exemplar.
fn otlp_metrics(mark: &str, now_ms: i64) -> serde_json::Value {
    let attributes = serde_json::json!([{"key": "owner", "value": {"stringValue": mark}}]);
    let at = ((now_ms - 30_000) * 1_000_000).to_string();
    let exemplar = serde_json::json!({"filteredAttributes": attributes, "timeUnixNano": at, "asDouble": 1.0, "traceId": TRACE_ID, "spanId": "eee19b7ec3c1b174"});
    let point = serde_json::json!({
        "attributes": attributes, "startTimeUnixNano": "1", "timeUnixNano": at, "asDouble": 1.0, "exemplars": [exemplar],
    });
    let sum = serde_json::json!({"isMonotonic": true, "aggregationTemporality": 2, "dataPoints": [point]});
    let metric = serde_json::json!({"name": "owned", "description": mark, "sum": sum});
    serde_json::json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeMetrics": [{"metrics": [metric]}],
    }]})
}

/// One trace with an id that both tenants have, whose shop calls the service of the mark, and one with an id of its own.
fn otlp_traces(tenant: &str, now_ms: i64) -> serde_json::Value {
    let mark = mark(tenant);
    let span = |service: &str, more: serde_json::Value| {
        let mut span = serde_json::json!({
            "startTimeUnixNano": ((now_ms - 60_000) * 1_000_000).to_string(),
            "endTimeUnixNano": ((now_ms - 59_000) * 1_000_000).to_string(),
            "attributes": [
                {"key": "owner", "value": {"stringValue": mark}}, {"key": mark, "value": {"stringValue": "x"}},
            ],
        });
        span.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::json!({
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
            "scopeSpans": [{"spans": [span]}],
        })
    };
    let first = "eee19b7ec3c1b174";
    serde_json::json!({"resourceSpans": [
        span("shop", serde_json::json!({"traceId": TRACE_ID, "spanId": first, "name": mark, "kind": 3})),
        span(&mark, serde_json::json!({
            "traceId": TRACE_ID, "spanId": "eee19b7ec3c1b175", "parentSpanId": first, "name": "pay", "kind": 2,
        })),
        span("shop", serde_json::json!({
            "traceId": marked_trace_id(tenant), "spanId": first, "name": mark, "kind": 2,
        })),
    ]})
}

/// A house in which both tenants have written.
async fn shared_house() -> (House, i64) {
    let (house, now_ms) = (House::open().await, SystemClock.unix_ms());
    for (_, tenant, _) in PEOPLE {
        write(&house, tenant, now_ms).await;
    }
    (house, now_ms)
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

/// The shortest pattern of the same door.
fn short(pattern: &str) -> &str {
    let prefixes = [
        "/select/{tenant}/prometheus",
        "/select/{tenant}/jaeger",
        "/select/{tenant}",
        "/insert/{tenant}/prometheus",
        "/insert/{tenant}",
        "/delete/{tenant}/prometheus",
        "/prometheus",
        "/jaeger",
    ];
    let mut rests = prefixes.iter().filter_map(|prefix| pattern.strip_prefix(prefix));
    rests.find(|rest| rest.starts_with('/') && pattern != "/insert/{tenant}/prometheus").unwrap_or(pattern)
}

/// Parameters that make one route or another answer with data; those that it does not know it ignores.
fn queries(now_ms: i64) -> [String; 3] {
    let (now_s, now_us) = (now_ms / 1_000, now_ms * 1_000);
    let (before_s, before_us) = (now_s - 600, now_us - 600_000_000);
    let forms = [
        format!(
            "query={{job=\"shop\"}}&match[]={{job=\"shop\"}}&label=owner&time={now_s}&start={before_s}&end={now_s}&step=15"
        ),
        format!(
            "service=shop&start={before_us}&end={now_us}&endTs={now_ms}&lookback=3600000&limit=20&step=60000&ratePer=600000\
             &groupByOperation=true&quantile=0.5"
        ),
        format!(
            "q={{}}&start={before_s}&end={now_s}&limit=20&query.service_name=shop&service=shop\
             &query.start_time_min=2020-01-01T00:00:00Z&query.start_time_max=2100-01-01T00:00:00Z&query.search_depth=20\
             &start_time=2020-01-01T00:00:00Z&end_time=2100-01-01T00:00:00Z"
        ),
    ];
    // As a URL and a form may have them.
    let escapes = [("{", "%7B"), ("}", "%7D"), ("[", "%5B"), ("]", "%5D"), ("\"", "%22")];
    forms
        .map(|form| escapes.iter().fold(form, |form, (from, to)| form.replace(from, to)))
        .map(|form| form.replace("job=%22", "job%3D%22"))
}

/// A request for all series of the shop, as remote read has it.
fn remote_read_of(now_ms: i64) -> Vec<u8> {
    let matcher = remote_read::LabelMatcher { r#type: 0, name: "job".to_owned(), value: "shop".to_owned() };
    let query = remote_read::Query {
        start_timestamp_ms: now_ms - 3_600_000,
        end_timestamp_ms: now_ms,
        matchers: vec![matcher],
    };
    let request = remote_read::ReadRequest { queries: vec![query], accepted_response_types: vec![0] };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

/// One way to ask a route.
#[derive(Debug, Clone)]
enum Question {
    Get(String),
    Form(String),
    RemoteRead(Vec<u8>),
}

impl Question {
    /// All ways by one method.
    fn all(method: &str, pattern: &str, now_ms: i64) -> Vec<Self> {
        match method {
            "GET" => queries(now_ms).map(Self::Get).into(),
            _ if short(pattern) == "/api/v1/read" => vec![Self::RemoteRead(remote_read_of(now_ms))],
            _ => queries(now_ms).map(Self::Form).into(),
        }
    }

    async fn ask(&self, router: &Router, path: &str, token: &str, header: Option<&str>) -> (StatusCode, String) {
        let mut request = match self {
            Self::Get(query) => Request::get(format!("{path}?{query}")),
            Self::Form(_) => Request::post(path).header("content-type", "application/x-www-form-urlencoded"),
            Self::RemoteRead(_) => {
                let request = Request::post(path).header("content-type", "application/x-protobuf");
                request.header("content-encoding", "snappy")
            }
        };
        request = request.header("authorization", format!("Bearer {token}"));
        if let Some(header) = header {
            request = request.header("x-scope-orgid", header);
        }
        let body = match self {
            Self::Get(_) => Body::empty(),
            Self::Form(form) => Body::from(form.clone()),
            Self::RemoteRead(bytes) => Body::from(bytes.clone()),
        };
        send(router, request.body(body).unwrap()).await
    }
}

/// What asking one route by one method showed.
#[derive(Debug, Default)]
struct Shown {
    leaks: Vec<String>,
    /// To how many of the two their own data.
    own: usize,
    is_served: bool,
}

async fn cross(house: &House, router: &Router, pattern: &str, method: &str, now_ms: i64) -> Shown {
    let mut shown = Shown::default();
    for (who, own, other) in PEOPLE {
        let token = &house.tokens[who];
        let mut showing = Vec::new();
        let questions = Question::all(method, pattern, now_ms);
        for question in &questions {
            let (status, body) = question.ask(router, &path_of(pattern, own), token, None).await;
            if status == StatusCode::METHOD_NOT_ALLOWED {
                return shown;
            }
            shown.is_served = true;
            if body.contains(&mark(other)) {
                shown.leaks.push(format!("{method} {pattern} shows {who} what {other} wrote ({status}): {question:?}"));
            }
            if status.is_success() && body.contains(&mark(own)) {
                showing.push(question);
            }
        }
        shown.own += usize::from(!showing.is_empty());
        // What shows one's own data is asked for the other's in every way there is.
        let in_path = pattern.contains("{tenant}");
        if in_path {
            // Who may ask for anybody is told of the tenant in the path.
            for question in &showing {
                let (_, body) = question.ask(router, &path_of(pattern, own), &house.tokens["all"], None).await;
                if body.contains(&mark(other)) || !body.contains(&mark(own)) {
                    shown.leaks.push(format!("{method} {pattern} does not show {own} to who may see all: {body:.200}"));
                }
            }
        }
        for question in if showing.is_empty() { questions.iter().take(1).collect() } else { showing } {
            for (tenant, header) in
                [(own, Some(own)), (own, Some(other)), (other, None), (other, Some(own)), (other, Some(other))]
            {
                if tenant == other && !in_path {
                    continue;
                }
                let (status, body) = question.ask(router, &path_of(pattern, tenant), token, header).await;
                if body.contains(&mark(other)) {
                    let how = format!("path {tenant}, header {header:?}");
                    shown.leaks.push(format!("{method} {pattern} shows {who} what {other} wrote ({status}): {how}"));
                }
            }
        }
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_of_any_port_shows_one_tenant_what_another_wrote() {
    let (house, now_ms) = shared_house().await;
    let excepted: BTreeMap<&str, &str> = SHOWS_NOTHING
        .iter()
        .flat_map(|(why, routes)| routes.split_whitespace().map(move |route| (route, *why)))
        .collect();
    let mut faults = Vec::new();
    for (port, router) in &house.routers {
        for pattern in patterns(router) {
            let is_grpc = pattern.split('/').nth(1).is_some_and(|service| service.contains('.'));
            // Sessions hold no data, and end by being asked for.
            if is_grpc || pattern.starts_with("/auth/") {
                continue;
            }
            let exception = excepted.get(short(&pattern));
            for method in ["GET", "POST"] {
                let is_drastic =
                    exception.is_some_and(|why| why.starts_with("deletes") || why.starts_with("the server's"));
                if method == "POST" && is_drastic {
                    continue;
                }
                let shown = cross(&house, router, &pattern, method, now_ms).await;
                faults.extend(shown.leaks.iter().map(|leak| format!("{port} {leak}")));
                match exception {
                    None if shown.is_served && shown.own < PEOPLE.len() => {
                        faults.push(format!("{port} {method} {pattern} shows {} of two their own data", shown.own));
                    }
                    Some(why) if shown.own > 0 => {
                        faults.push(format!("{port} {method} {pattern} shows data, and is excepted: {why}"));
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    let served: Vec<_> = house.routers.iter().flat_map(|(_, router)| patterns(router)).collect();
    for (route, why) in excepted {
        assert!(served.iter().any(|pattern| short(pattern) == route), "nobody serves {route}, excepted: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_deletes_what_another_tenant_wrote() {
    let (house, now_ms) = shared_house().await;
    let router = &house.routers[0].1;
    let [(who, own, other), (neighbour, ..)] = PEOPLE;
    let form = format!("match%5B%5D=%7Bjob%3D%22shop%22%7D&trace_id={TRACE_ID}");
    let mut asked = 0;
    for pattern in patterns(router) {
        if !["/api/v1/admin/tsdb/delete_series", "/api/v1/admin/traces/delete"].contains(&short(&pattern)) {
            continue;
        }
        for (tenant, header, expected) in [
            (own, Some(other), false),
            (other, None, false),
            (other, Some(own), false),
            (own, Some(own), true),
            (own, None, true),
        ] {
            if tenant == other && !pattern.contains("{tenant}") {
                continue;
            }
            let question = Question::Form(form.clone());
            let (status, body) = question.ask(router, &path_of(&pattern, tenant), &house.tokens[who], header).await;
            assert_eq!(status.is_success(), expected, "{pattern} of {tenant} with header {header:?}: {status} {body}");
            asked += 1;
        }
    }
    assert!(asked > 12, "{asked}");
    let [metrics, traces, _] = queries(now_ms);
    for (path, query) in [("/api/v1/series", metrics), (&*format!("/api/traces/{TRACE_ID}"), traces)] {
        let question = Question::Get(query);
        let (_, gone) = question.ask(router, path, &house.tokens[who], None).await;
        assert!(!gone.contains(&mark(own)), "{path} still shows what was deleted: {gone}");
        let (_, kept) = question.ask(router, path, &house.tokens[neighbour], None).await;
        assert!(kept.contains(&mark(other)), "{path} lost what {neighbour} wrote: {kept}");
    }
}
