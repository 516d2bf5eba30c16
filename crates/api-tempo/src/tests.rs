//! The API from outside, over the in-memory store, asked as Grafana's datasource does.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_base::{MemoryBudget, SimClock};
use pharos_gateway::Principal;
use pharos_http::QueryPool;
use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, SpanKind, SpanStatus,
    StatusCode as Outcome, TenantId, TraceId,
};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, TraceStore};
use prost::Message;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{TempoApi, router};

const START_S: u64 = 1_699_999_990;
const START_NS: u64 = START_S * 1_000_000_000 + 123;
const MS: u64 = 1_000_000;

/// The parts of `tempopb.TraceByIDResponse` that Grafana reads.
#[derive(Clone, PartialEq, Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<()>,
    #[prost(int32, tag = "3")]
    status: i32,
    #[prost(string, tag = "4")]
    message: String,
}

fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.to_owned())
}

fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    let attributes = vec![attribute("service.name", text(service)), attribute("level", text("resource"))];
    let scope = Scope { name: "lib".to_owned(), version: "1.2".to_owned(), ..Scope::default() };
    SpanGroup { resource: Arc::new(Resource { attributes, ..Resource::default() }), scope: Arc::new(scope), spans }
}

/// A request to the shop `number` seconds after the first, which asks the database; the third fails.
fn request(number: u8) -> SpanBatch {
    let start_ns = START_NS + u64::from(number) * 1_000_000_000;
    let root = Span {
        trace_id: TraceId([number + 1; 16]),
        span_id: SpanId([1; 8]),
        name: "GET /cart".to_owned(),
        kind: SpanKind::Server,
        start_ns,
        end_ns: start_ns + u64::from(number + 1) * 100 * MS,
        attributes: vec![
            attribute("http.status_code", AttributeValue::Int(if number == 3 { 500 } else { 200 })),
            attribute("cached", AttributeValue::Bool(number == 0)),
            attribute("level", if number == 0 { text("span") } else { AttributeValue::Int(5) }),
        ],
        events: vec![SpanEvent {
            time_ns: start_ns + 7,
            name: "exception".to_owned(),
            attributes: vec![attribute("exception.type", text("Timeout"))],
            ..SpanEvent::default()
        }],
        status: if number == 3 {
            SpanStatus { code: Outcome::Error, message: "no database".to_owned() }
        } else {
            SpanStatus::default()
        },
        ..Span::default()
    };
    let child = |id: u8| Span {
        trace_id: root.trace_id,
        span_id: SpanId([id; 8]),
        parent_span_id: root.span_id,
        name: "SELECT".to_owned(),
        kind: SpanKind::Client,
        start_ns: start_ns + u64::from(id) * MS,
        end_ns: start_ns + u64::from(id) * 2 * MS,
        attributes: vec![attribute("db.rows", AttributeValue::Double(f64::from(id) / 2.0))],
        ..Span::default()
    };
    let children = (2..7).map(child).collect();
    SpanBatch { groups: vec![group("shop", vec![root]), group("db", children)] }
}

fn api_of(requests: u8) -> TempoApi {
    let store = Arc::new(MemoryTraceStore::new());
    for number in 0..requests {
        store.append(&TenantId::default(), request(number), BatchId::random()).wait().unwrap().unwrap();
    }
    TempoApi {
        store,
        pool: QueryPool::new(1, Duration::from_secs(5)),
        clock: SimClock::at_ms(1_700_000_000_000),
        timeout: Duration::from_mins(10),
        memory: MemoryBudget::unlimited(),
        memory_bytes_max: 1 << 30,
    }
}

fn fixture_of(requests: u8) -> Router {
    router(api_of(requests)).layer(axum::Extension(Principal::anonymous()))
}

fn fixture() -> Router {
    fixture_of(5)
}

async fn get_as(router: &Router, path: &str, accept: &str) -> (StatusCode, String, Bytes) {
    let request = Request::get(path).header(ACCEPT, accept).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let content_type = response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned();
    (response.status(), content_type, to_bytes(response.into_body(), 1 << 24).await.unwrap())
}

async fn get(router: &Router, path: &str) -> Value {
    let (status, content_type, body) = get_as(router, path, "application/json").await;
    assert_eq!((status, &*content_type), (StatusCode::OK, "application/json"), "{path}: {body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// Searches; the numbers of the requests found, in their order, and how many spans of each passed.
async fn search(router: &Router, query: &str, more: &str) -> Vec<(u8, u64)> {
    let answer = get(router, &format!("/tempo/api/search?q={}{more}", encoded(query))).await;
    let number = |trace: &Value| u8::from_str_radix(&trace["traceID"].as_str().unwrap()[..2], 16).unwrap() - 1;
    let traces = answer["traces"].as_array().unwrap().iter();
    traces.map(|trace| (number(trace), trace["spanSets"][0]["matched"].as_u64().unwrap())).collect()
}

fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02x}"))
}

#[tokio::test]
async fn the_datasource_finds_a_tempo() {
    let router = fixture();
    assert_eq!(get_as(&router, "/tempo/api/echo", "*/*").await.2, "echo");
    assert!(get(&router, "/tempo/api/status/buildinfo").await["version"].is_string());
    for path in ["query_range?q=%7B%7D%7Crate()", "query?q=%7B%7D%7Crate()"] {
        let (status, _, body) = get_as(&router, &format!("/tempo/api/metrics/{path}"), "*/*").await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        assert!(body.starts_with(b"metrics by TraceQL are not supported"));
    }
}

#[tokio::test]
async fn a_trace_by_id_is_protobuf_for_grafana() {
    let router = fixture();
    let id = "04".repeat(16);
    let accept = "application/protobuf";
    let (status, content_type, body) = get_as(&router, &format!("/tempo/api/v2/traces/{id}"), accept).await;
    assert_eq!((status, &*content_type), (StatusCode::OK, accept));
    let answer = TraceByIdResponse::decode(body).unwrap();
    assert_eq!((answer.metrics, answer.status), (Some(()), 0));
    let groups = answer.trace.unwrap().resource_spans;
    let spans: Vec<_> = groups.iter().flat_map(|group| &group.scope_spans[0].spans).collect();
    assert_eq!((groups.len(), spans.len()), (2, 6));
    let root = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap();
    assert_eq!((root.trace_id.as_slice(), root.name.as_str(), root.kind), (&[4; 16][..], "GET /cart", 2));
    assert_eq!(root.end_time_unix_nano - root.start_time_unix_nano, 400 * MS);
    assert_eq!(root.status.as_ref().unwrap().message, "no database");

    let (_, _, bare) = get_as(&router, &format!("/tempo/api/traces/{id}?start=0&end=0"), accept).await;
    assert_eq!(TracesData::decode(bare).unwrap().resource_spans, groups);
}

#[tokio::test]
async fn a_trace_by_id_is_json_for_others() {
    let router = fixture();
    let path = format!("traces/{}?start={}&end={}", "02".repeat(16), START_S - 10, START_S + 10);
    let v2 = get(&router, &format!("/tempo/api/v2/{path}")).await;
    let v1 = get(&router, &format!("/tempo/api/{path}")).await;
    assert_eq!(v2["trace"]["resourceSpans"], v1["batches"]);
    assert_eq!(v1["batches"].as_array().unwrap().len(), 2);
    let spans =
        v1["batches"].as_array().unwrap().iter().flat_map(|group| group["scopeSpans"][0]["spans"].as_array().unwrap());
    let root = spans.clone().find(|span| span["name"] == "GET /cart").unwrap();
    assert_eq!((&root["traceId"], &root["spanId"]), (&json!("02".repeat(16)), &json!("01".repeat(8))));
    assert_eq!(spans.count(), 6);
}

#[tokio::test]
async fn absent_traces_and_wrong_ids_are_told_in_a_line_of_text() {
    let router = fixture();
    for (path, expected, words) in [
        ("traces/ff", StatusCode::NOT_FOUND, "trace not found\n"),
        ("traces/xyz", StatusCode::BAD_REQUEST, "invalid trace id \"xyz\""),
        ("traces/ff?start=x", StatusCode::BAD_REQUEST, "invalid start"),
        ("traces/ff?start=5&end=4", StatusCode::BAD_REQUEST, "http parameter start must be before end"),
    ] {
        for version in ["", "v2/"] {
            let (status, content_type, body) =
                get_as(&router, &format!("/tempo/api/{version}{path}"), "application/protobuf").await;
            assert_eq!((status, &*content_type), (expected, "text/plain; charset=utf-8"), "{path}");
            assert!(body.starts_with(words.as_bytes()), "{path}: {body:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_a_search_has_tempos_shape() {
    let query = encoded("{ resource.service.name = \"db\" && span.db.rows >= 1.5 } | select(status, .level)");
    let range = format!("start={}&end={}", START_S, START_S + 3);
    let answer = get(&fixture(), &format!("/tempo/api/search?q={query}&limit=2&spss=2&{range}")).await;
    assert_eq!(answer["metrics"]["inspectedTraces"], 2);
    let traces = answer["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 2);
    let start_ns = START_NS + 3_000_000_000;
    let span = |id: u8| {
        json!({
            "spanID": format!("{id:02x}").repeat(8),
            "name": "SELECT",
            "startTimeUnixNano": (start_ns + u64::from(id) * MS).to_string(),
            "durationNanos": (u64::from(id) * MS).to_string(),
            "attributes": [
                {"key": "status", "value": {"stringValue": "unset"}},
                {"key": "level", "value": {"stringValue": "resource"}},
                {"key": "service.name", "value": {"stringValue": "db"}},
                {"key": "db.rows", "value": {"doubleValue": f64::from(id) / 2.0}},
            ],
        })
    };
    let set = json!({"spans": [span(3), span(4)], "matched": 4});
    assert_eq!(
        traces[0],
        json!({
            "traceID": "04".repeat(16),
            "rootServiceName": "shop",
            "rootTraceName": "GET /cart",
            "startTimeUnixNano": start_ns.to_string(),
            "durationMs": 400,
            "spanSet": set,
            "spanSets": [set],
            "serviceStats": {"db": {"spanCount": 5}, "shop": {"spanCount": 1, "errorCount": 1}},
        })
    );
    assert_eq!(traces[1]["traceID"], "03".repeat(16));
}

#[tokio::test]
async fn searches_are_exact() {
    let router = fixture();
    let newest_first = [4, 3, 2, 1, 0];
    let all = |matched: u64| newest_first.map(|number| (number, matched)).to_vec();
    let those = |numbers: &[u8]| numbers.iter().map(|number| (*number, 1)).collect::<Vec<_>>();
    for (query, expected) in [
        ("{}", all(6)),
        ("{ false }", vec![]),
        ("{ name = \"SELECT\" }", all(5)),
        ("{ name != \"SELECT\" }", all(1)),
        ("{ name =~ \"SEL\" }", vec![]),
        ("{ name =~ \"SEL.*\" }", all(5)),
        ("{ name !~ \"SEL.*\" }", all(1)),
        ("{ kind = client }", all(5)),
        ("{ status = error }", those(&[3])),
        ("{ statusMessage = \"no database\" }", those(&[3])),
        ("{ statusMessage = \"\" && kind = server }", those(&[4, 2, 1, 0])),
        ("{ duration >= 300ms }", those(&[4, 3, 2])),
        ("{ .http.status_code = 500 }", those(&[3])),
        ("{ .http.status_code = \"500\" }", vec![]),
        ("{ .http.status_code != 500 }", those(&[4, 2, 1, 0])),
        ("{ .http.status_code != \"500\" }", vec![]),
        ("{ .http.status_code =~ \"5..\" }", vec![]),
        ("{ span.http.status_code > 200.5 }", those(&[3])),
        ("{ resource.http.status_code = 500 }", vec![]),
        ("{ .cached }", those(&[0])),
        ("{ !.cached && kind = server }", those(&[4, 3, 2, 1])),
        ("{ .cached != true }", those(&[4, 3, 2, 1])),
        // The span's own comes before the resource's.
        ("{ .level = \"resource\" }", all(5)),
        ("{ .level = \"span\" }", those(&[0])),
        ("{ resource.level = \"resource\" }", all(6)),
        ("{ .level != \"span\" }", all(5)),
        ("{ span.db.rows = nil }", all(1)),
        ("{ .db.rows != nil && .db.rows < 1.5 }", all(1)),
        ("{ resource.service.name = \"db\" || status = error }", vec![(4, 5), (3, 6), (2, 5), (1, 5), (0, 5)]),
        ("{ resource.service.name = \"d\" }", vec![]),
        ("{ resource.service.name = \"\" }", vec![]),
        ("{ event.exception.type = \"Timeout\" && event:name =~ \"exc.*\" }", all(1)),
        ("{ event.exception.type !~ \"T.*\" }", vec![]),
        ("{ instrumentation:name = \"lib\" && nestedSetParent < 0 }", all(1)),
        ("{ span:parentID = \"0101010101010101\" }", all(5)),
        ("{ rootName = \"GET /cart\" && kind = server }", all(1)),
        ("{ rootServiceName != \"shop\" }", vec![]),
        ("{ traceDuration > 250ms }", vec![(4, 6), (3, 6), (2, 6)]),
        ("{ !(traceDuration > 250ms) && name = \"SELECT\" }", vec![(1, 5), (0, 5)]),
        ("{ traceDuration < 150ms || status = error }", vec![(3, 1), (0, 6)]),
        ("{ .http.status_code = 500 } || { .cached }", those(&[3, 0])),
    ] {
        assert_eq!(search(&router, query, "").await, expected, "{query}");
    }
}

#[tokio::test]
async fn the_newest_are_found_however_many_candidates_fail() {
    let router = fixture_of(200);
    // Candidates come newest first, and of these the last pass alone.
    assert_eq!(search(&router, "{ traceDuration <= 200ms && kind = server }", "&limit=1").await, [(1, 1)]);
    assert_eq!(search(&router, "{ traceDuration <= 300ms && kind = server }", "&limit=2").await, [(2, 1), (1, 1)]);
    assert_eq!(search(&router, "{ traceDuration <= 100ms && kind = server }", "&limit=9").await, [(0, 1)]);
    assert_eq!(search(&router, "{}", "").await.len(), 20);
    let cut = format!("&limit=3&end={}", START_S + 7);
    let found = search(&router, "{ rootName =~ \"GET.*\" }", &cut).await;
    assert_eq!(found, [(7, 6), (6, 6), (5, 6)]);
}

#[tokio::test]
async fn searches_by_tags_are_understood() {
    let router = fixture();
    for (params, expected) in [
        ("tags=http.status_code%3D500", 1),
        ("tags=http.status_code%3D200%20cached%3Dtrue", 1),
        ("tags=name%3DSELECT%20service.name%3Ddb&minDuration=300ms", 3),
        ("tags=root.name%3D%22GET%20%2Fcart%22&maxDuration=300ms", 3),
        ("tags=status.code%3Derror", 1),
        ("minDuration=10s", 0),
        ("", 5),
    ] {
        let answer = get(&router, &format!("/tempo/api/search?{params}")).await;
        assert_eq!(answer["traces"].as_array().unwrap().len(), expected, "{params}");
    }
}

#[tokio::test]
async fn wrong_searches_are_refused_with_the_place() {
    let router = fixture();
    for (params, words) in [
        (
            format!("q={}", encoded("{ .a } >> { .b }")),
            "invalid TraceQL query: parse error at line 1, col 8: \">>\" between",
        ),
        (format!("q={}", encoded("{} | rate()")), "invalid TraceQL query: parse error at line 1, col 6"),
        ("q=%7B%7D&tags=a%3Db".to_owned(), "invalid request"),
        ("tags=a".to_owned(), "invalid tags"),
        ("limit=x".to_owned(), "invalid limit"),
        ("limit=10001".to_owned(), "invalid limit: at most 10000"),
        ("spss=101".to_owned(), "invalid spss: at most 100"),
        ("start=5&end=2".to_owned(), "http parameter start"),
        ("minDuration=5".to_owned(), "invalid minDuration"),
    ] {
        let (status, content_type, body) = get_as(&router, &format!("/tempo/api/search?{params}"), "*/*").await;
        assert_eq!((status, &*content_type), (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8"), "{params}");
        assert!(body.starts_with(words.as_bytes()), "{params}: {body:?}");
    }
}

#[tokio::test]
async fn tags_are_listed_by_scope() {
    let router = fixture();
    let range = format!("start={}&end={}", START_S, START_S + 10);
    let tags =
        async |params: &str| get(&router, &format!("/tempo/api/v2/search/tags?{params}")).await["scopes"].clone();
    let scopes = tags(&format!("{range}&limit=5000")).await;
    let names: Vec<_> = scopes.as_array().unwrap().iter().map(|scope| scope["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["resource", "span", "event", "link", "instrumentation", "intrinsic"]);
    assert_eq!(scopes[0]["tags"], json!(["level", "service.name"]));
    assert_eq!(scopes[1]["tags"], json!(["cached", "db.rows", "http.status_code", "level"]));
    assert_eq!((&scopes[2]["tags"], &scopes[3]["tags"]), (&json!(["exception.type"]), &json!([])));
    assert_eq!(tags("scope=resource").await, json!([{"name": "resource", "tags": ["level", "service.name"]}]));
    let db = encoded("{ resource.service.name = \"db\" }");
    assert_eq!(tags(&format!("scope=span&q={db}")).await, json!([{"name": "span", "tags": ["db.rows"]}]));
    assert_eq!(tags("scope=span&q=%7Bfalse%7D").await, json!([{"name": "span", "tags": []}]));
    // What is asked of traces narrows nothing.
    let slow = encoded("{ traceDuration > 1h && kind = client }");
    assert_eq!(tags(&format!("scope=span&q={slow}")).await, json!([{"name": "span", "tags": ["db.rows"]}]));
    let cut = get(&router, "/tempo/api/v2/search/tags?scope=span&limit=2").await;
    assert_eq!((cut["scopes"][0]["tags"].as_array().unwrap().len(), &cut["status"]), (2, &json!("PARTIAL")));
    assert_eq!(tags("scope=span&start=1&end=2").await, json!([{"name": "span", "tags": []}]));
    let flat = get(&router, "/tempo/api/search/tags").await;
    for name in ["duration", "db.rows", "service.name"] {
        assert!(flat["tagNames"].as_array().unwrap().contains(&json!(name)), "{name}");
    }
    assert_eq!(flat.get("status"), None);
}

#[tokio::test]
async fn values_of_tags_are_listed() {
    let router = fixture();
    let values = async |tag: &str, params: &str| {
        let path = format!("/tempo/api/{tag}/values?{params}");
        get(&router, &path).await["tagValues"].clone()
    };
    let strings = |values: &[&str]| {
        json!(values.iter().map(|value| json!({"type": "string", "value": value})).collect::<Vec<_>>())
    };
    for (tag, expected) in [
        ("resource.service.name", strings(&["db", "shop"])),
        (".service.name", strings(&["db", "shop"])),
        ("service.name", strings(&["db", "shop"])),
        ("name", strings(&["GET /cart", "SELECT"])),
        ("rootServiceName", strings(&["shop"])),
        ("rootName", strings(&["GET /cart"])),
        ("event:name", strings(&["exception"])),
        ("statusMessage", strings(&["no database"])),
        ("instrumentation:version", strings(&["1.2"])),
        ("span.nothing", json!([])),
        ("duration", json!([])),
        ("span.http.status_code", json!([{"type": "int", "value": "200"}, {"type": "int", "value": "500"}])),
        ("span.cached", json!([{"type": "bool", "value": "false"}, {"type": "bool", "value": "true"}])),
        (
            ".level",
            json!([{"type": "int", "value": "5"}, {"type": "string", "value": "resource"}, {"type": "string", "value": "span"}]),
        ),
        ("resource.level", strings(&["resource"])),
    ] {
        assert_eq!(values(&format!("v2/search/tag/{tag}"), "").await, expected, "{tag}");
    }
    let rows = values("v2/search/tag/span.db.rows", "limit=2").await;
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(rows[0]["type"], "float");
    let failed = encoded("{ status = error }");
    let q = format!("q={failed}");
    assert_eq!(values("v2/search/tag/span.http.status_code", &q).await, json!([{"type": "int", "value": "500"}]));
    assert_eq!(values("v2/search/tag/resource.service.name", &q).await, strings(&["shop"]));
    assert_eq!(values("v2/search/tag/resource.service.name", "start=1&end=2").await, json!([]));
    assert_eq!(values("search/tag/service.name", "").await, json!(["db", "shop"]));
    assert_eq!(values("search/tag/level", "").await, json!(["5", "resource", "span"]));
    let status = values("v2/search/tag/status", "q=%7B%7D&limit=2").await;
    assert_eq!(status, json!([{"type": "keyword", "value": "error"}, {"type": "keyword", "value": "ok"}]));
    for path in [
        "v2/search/tags?scope=x",
        "v2/search/tags?limit=10001",
        "v2/search/tags?start=x",
        "v2/search/tags?q=%7B",
        "v2/search/tag/name/values?q=%7B",
        "v2/search/tag/a%7D/values",
    ] {
        assert_eq!(get_as(&router, &format!("/tempo/api/{path}"), "*/*").await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn numbers_that_json_does_not_know_are_told_as_protobuf_does() {
    let api = api_of(0);
    let attributes = vec![
        attribute("nan", AttributeValue::Double(f64::NAN)),
        attribute("least", AttributeValue::Double(f64::NEG_INFINITY)),
    ];
    let span =
        Span { trace_id: TraceId([9; 16]), span_id: SpanId([1; 8]), start_ns: START_NS, attributes, ..Span::default() };
    let batch = SpanBatch { groups: vec![group("odd", vec![span])] };
    api.store.append(&TenantId::default(), batch, BatchId::random()).wait().unwrap().unwrap();
    let router = router(api).layer(axum::Extension(Principal::anonymous()));
    let trace = get(&router, &format!("/tempo/api/traces/{}", "09".repeat(16))).await;
    let span = &trace["batches"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["attributes"][0]["value"], json!({"doubleValue": "NaN"}));
    assert_eq!(span["attributes"][1]["value"], json!({"doubleValue": "-Infinity"}));
    let found =
        get(&router, &format!("/tempo/api/search?q={}", encoded("{ span.nan != nil } | select(span.least)"))).await;
    let shown = &found["traces"][0]["spanSets"][0]["spans"][0]["attributes"];
    assert_eq!(shown[0], json!({"key": "least", "value": {"stringValue": "-Inf"}}), "{shown}");
}

#[tokio::test]
async fn patterns_of_a_query_are_bounded() {
    let router = fixture();
    let many = |count: usize, pattern: &str| {
        let tests: Vec<_> = (0..count).map(|_| format!("name =~ \"{pattern}\"")).collect();
        encoded(&format!("{{ {} }}", tests.join(" || ")))
    };
    for (query, expected, words) in [
        (many(64, "a.*b"), StatusCode::OK, ""),
        (many(65, "a.*b"), StatusCode::BAD_REQUEST, "a search has at most 64 patterns"),
        (many(64, "\\\\pL{150}"), StatusCode::BAD_REQUEST, "the automata of a search's patterns exceed"),
    ] {
        for path in ["search?q=", "v2/search/tags?q=", "v2/search/tag/name/values?q="] {
            let (status, _, body) = get_as(&router, &format!("/tempo/api/{path}{query}"), "*/*").await;
            let body = String::from_utf8_lossy(&body);
            assert_eq!(status, expected, "{path}: {body}");
            assert!(body.contains(words), "{path}: {body}");
        }
    }
}

#[tokio::test]
async fn without_a_credential_nothing_is_told() {
    let router = router(api_of(1));
    for path in ["search", "traces/1", "v2/traces/1", "search/tags", "v2/search/tags", "search/tag/name/values"] {
        let (status, _, body) = get_as(&router, &format!("/tempo/api/{path}"), "*/*").await;
        assert_eq!((status, &*body), (StatusCode::UNAUTHORIZED, &b"no credential\n"[..]), "{path}");
    }
}

#[tokio::test]
async fn what_is_missing_is_told_beside_what_is_there() {
    let store = Arc::new(MemoryTraceStore::new());
    store.append(&TenantId::default(), request(0), BatchId::random()).wait().unwrap().unwrap();
    store.warn(&["a search"], &["a trace"]);
    let router = router(TempoApi { store, ..api_of(0) }).layer(axum::Extension(Principal::anonymous()));
    let id = "01".repeat(16);
    let found = get(&router, "/tempo/api/search?q=%7B%7D").await;
    assert_eq!(
        (&found["status"], &found["message"]),
        (&json!("PARTIAL"), &json!(format!("a search; trace {id}: a trace")))
    );
    let whole = get(&router, &format!("/tempo/api/v2/traces/{id}")).await;
    assert_eq!((&whole["status"], &whole["message"]), (&json!("PARTIAL"), &json!("a trace")));
    let bare = get(&router, &format!("/tempo/api/traces/{id}")).await;
    let attributes = bare["batches"][0]["scopeSpans"][0]["spans"][0]["attributes"].as_array().unwrap();
    let told = attributes.iter().find(|attribute| attribute["key"] == "@jaeger@warnings").unwrap();
    assert_eq!(told["value"]["arrayValue"]["values"], json!([{"stringValue": "a trace"}]));
    let (_, _, body) = get_as(&router, &format!("/tempo/api/v2/traces/{id}"), "application/protobuf").await;
    let answer = TraceByIdResponse::decode(body).unwrap();
    assert_eq!((answer.status, &*answer.message), (1, "a trace"));
    assert!(answer.trace.is_some());
}
