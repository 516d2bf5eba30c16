//! The API from outside, over the in-memory store.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use pharos_base::{MemoryBudget, SimClock};
use pharos_gateway::{BodyLimit, Principal, ReaderBodies};
use pharos_http::{BodyBudget, QueryPool};
use pharos_model::{
    Attribute, AttributeValue, Link, Resource, Scope, Span, SpanBatch, SpanEvent, SpanGroup, SpanId, SpanKind,
    SpanStatus, StatusCode as Outcome, TenantId, TraceId,
};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, TraceStore};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{JaegerApi, router};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const START_NS: u64 = 1_699_999_990_000_000_123;

pub(crate) fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

pub(crate) fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.to_owned())
}

/// A request to the shop, which asks the database and fails.
pub(crate) fn batch() -> SpanBatch {
    let resource = |name: &str| {
        let attributes = vec![attribute("service.name", text(name)), attribute("host.name", text("box"))];
        Arc::new(Resource { attributes, schema_url: "https://example.org/r".to_owned(), ..Resource::default() })
    };
    let scope = Arc::new(Scope { name: "lib".to_owned(), version: "1.2".to_owned(), ..Scope::default() });
    let trace_id = TraceId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab]);
    let root = Span {
        trace_id,
        span_id: SpanId([1; 8]),
        flags: 1,
        name: "GET /cart".to_owned(),
        kind: SpanKind::Server,
        start_ns: START_NS,
        end_ns: START_NS + 2_000_001,
        attributes: vec![
            attribute("http.status", AttributeValue::Int(500)),
            attribute("big", AttributeValue::Int(i64::MAX)),
            attribute("ratio", AttributeValue::Double(0.5)),
            attribute("cached", AttributeValue::Bool(false)),
            attribute("raw", AttributeValue::Bytes(vec![1, 2, 3])),
            attribute("list", AttributeValue::Array(vec![text("a"), AttributeValue::Int(1)])),
        ],
        dropped_attributes_count: 3,
        events: vec![SpanEvent {
            time_ns: START_NS + 1_000,
            name: "exception".to_owned(),
            attributes: vec![attribute("exception.type", text("Timeout"))],
            ..SpanEvent::default()
        }],
        status: SpanStatus { code: Outcome::Error, message: "no database".to_owned() },
        ..Span::default()
    };
    let child = Span {
        trace_id,
        span_id: SpanId([2; 8]),
        parent_span_id: SpanId([1; 8]),
        name: "SELECT".to_owned(),
        kind: SpanKind::Client,
        start_ns: START_NS + 500,
        end_ns: START_NS + 900,
        links: vec![Link { trace_id: TraceId([9; 16]), span_id: SpanId([8; 8]), ..Link::default() }],
        trace_state: "k=v".to_owned(),
        ..Span::default()
    };
    let group = |name: &str, span| SpanGroup { resource: resource(name), scope: Arc::clone(&scope), spans: vec![span] };
    SpanBatch { groups: vec![group("shop", root), group("db", child)] }
}

/// Bodies of a megabyte, of which so many bytes fit.
pub(crate) fn bodies(bytes_max: u64) -> ReaderBodies {
    let budget = BodyBudget::new("query.bodies_max", bytes_max);
    let limit = BodyLimit { name: "query.body_max", bytes_max: 1 << 20 };
    ReaderBodies::new(budget, limit, Duration::from_mins(10))
}

/// The API over a store that holds `batch`; one read at a time.
pub(crate) fn api_over(batch: SpanBatch) -> JaegerApi {
    let store = Arc::new(MemoryTraceStore::new());
    store.append(&TenantId::default(), batch, BatchId::random()).wait().unwrap().unwrap();
    JaegerApi {
        store,
        pool: QueryPool::new(1, Duration::from_secs(5)),
        clock: SimClock::at_ms(NOW_MS),
        timeout: Duration::from_mins(10),
        memory: MemoryBudget::unlimited(),
        memory_bytes_max: 1 << 30,
        bodies: bodies(32 << 20),
        settings: Arc::default(),
        monitor: None,
    }
}

fn fixture() -> Router {
    router(api_over(batch())).layer(axum::Extension(Principal::anonymous()))
}

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 24).await.unwrap());
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn services_and_operations_are_listed() {
    let router = fixture();
    let all = json!({"data": ["db", "shop"], "total": 2, "limit": 0, "offset": 0, "errors": null});
    assert_eq!(get(&router, "/api/services").await, (StatusCode::OK, all.clone()));
    assert_eq!(get(&router, "/jaeger/api/services").await.1, all);
    assert_eq!(get(&router, "/api/services/shop/operations").await.1["data"], json!(["GET /cart"]));
    let (_, operations) = get(&router, "/api/operations?service=shop&spanKind=server").await;
    assert_eq!(operations["data"], json!([{"name": "GET /cart", "spanKind": "server"}]));
    assert_eq!(get(&router, "/api/operations").await.0, StatusCode::BAD_REQUEST);
    let (_, v3) = get(&router, "/api/v3/operations?service=db").await;
    assert_eq!(v3, json!({"operations": [{"name": "SELECT", "spanKind": "client"}]}));
    assert_eq!(get(&router, "/api/v3/services").await.1, json!({"services": ["db", "shop"]}));
}

#[tokio::test]
async fn a_trace_in_v1_has_jaegers_shape() {
    let (status, answer) = get(&fixture(), "/api/traces/ab?raw=true").await;
    assert_eq!(status, StatusCode::OK);
    let trace = &answer["data"][0];
    assert_eq!(trace["traceID"], "00000000000000ab");
    let spans = trace["spans"].as_array().unwrap();
    let root = spans.iter().find(|span| span["operationName"] == "GET /cart").unwrap();
    let child = spans.iter().find(|span| span["operationName"] == "SELECT").unwrap();
    assert_eq!((&root["startTime"], &root["duration"]), (&json!(START_NS / 1_000), &json!(2_000)));
    assert_eq!(
        root["tags"],
        json!([
            {"key": "otel.scope.name", "type": "string", "value": "lib"},
            {"key": "otel.scope.version", "type": "string", "value": "1.2"},
            {"key": "http.status", "type": "int64", "value": 500},
            {"key": "big", "type": "int64", "value": "9223372036854775807"},
            {"key": "ratio", "type": "float64", "value": 0.5},
            {"key": "cached", "type": "bool", "value": false},
            {"key": "raw", "type": "binary", "value": "AQID"},
            {"key": "list", "type": "string", "value": "[\"a\",1]"},
            {"key": "span.kind", "type": "string", "value": "server"},
            {"key": "otel.status_code", "type": "string", "value": "ERROR"},
            {"key": "error", "type": "bool", "value": true},
            {"key": "otel.status_description", "type": "string", "value": "no database"},
        ])
    );
    let fields = json!([
        {"key": "event", "type": "string", "value": "exception"},
        {"key": "exception.type", "type": "string", "value": "Timeout"}]);
    assert_eq!(root["logs"], json!([{"timestamp": (START_NS + 1_000) / 1_000, "fields": fields}]));
    assert_eq!(
        child["references"],
        json!([
            {"refType": "CHILD_OF", "traceID": "00000000000000ab", "spanID": "0101010101010101"},
            {"refType": "FOLLOWS_FROM", "traceID": "09".repeat(16), "spanID": "0808080808080808"},
        ])
    );
    let process = &trace["processes"][root["processID"].as_str().unwrap()];
    let host = json!([{"key": "host.name", "type": "string", "value": "box"}]);
    assert_eq!(process, &json!({"serviceName": "shop", "tags": host}));
}

#[tokio::test]
async fn a_search_finds_by_every_parameter_and_also_without_a_service() {
    let router = fixture();
    let window = "start=1699999000000000&end=1700000000000000";
    for (query, found) in [
        ("service=shop", 1),
        ("service=shop&operation=SELECT", 0),
        ("service=db&operation=SELECT", 1),
        ("", 1),
        ("tags=%7B%22error%22%3A%22true%22%7D", 1),
        ("service=db&tag=error:true", 0),
        ("tag=http.status:500", 1),
        ("tag=host.name:box", 1),
        ("tag=exception.type:Timeout", 1),
        ("tag=span.kind:client", 1),
        ("tag=otel.scope.name:lib", 1),
        ("minDuration=2ms", 1),
        ("minDuration=3ms", 0),
        ("maxDuration=1us", 1),
        ("service=nobody", 0),
    ] {
        let (status, answer) = get(&router, &format!("/api/traces?{window}&{query}")).await;
        assert_eq!((status, answer["data"].as_array().unwrap().len()), (StatusCode::OK, found), "{query}");
    }
    assert_eq!(get(&router, "/api/traces?service=shop&start=1&end=2").await.1["data"], json!([]));
    let (_, by_id) = get(&router, "/api/traces?traceID=ab&traceID=ff").await;
    assert_eq!(by_id["data"].as_array().unwrap().len(), 1);
    assert_eq!(by_id["errors"][0]["msg"], "trace not found");
}

#[tokio::test]
async fn what_is_wrong_is_told_in_jaegers_words() {
    let router = fixture();
    for (path, status) in [
        ("/api/traces/xyz", 400),
        ("/api/traces/ff", 404),
        ("/api/traces?limit=0x", 400),
        ("/api/traces?tags=broken", 400),
        ("/api/traces?minDuration=2s&maxDuration=1s", 400),
    ] {
        let (found, answer) = get(&router, path).await;
        assert_eq!(found.as_u16(), status, "{path}");
        assert_eq!((&answer["data"], &answer["errors"][0]["code"]), (&Value::Null, &json!(status)), "{path}");
    }
    let (status, answer) = get(&router, "/api/v3/traces/ff").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        answer["error"],
        json!({"grpcCode": 5, "httpCode": 404, "message": "No traces found", "httpStatus": "Not Found"})
    );
    let missing = get(&router, "/api/v3/traces?query.serviceName=shop").await;
    assert_eq!(missing.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn v3_gives_back_what_was_sent_with_its_types() {
    let router = fixture();
    let window = "query.startTimeMin=2023-11-14T00:00:00Z&query.startTimeMax=2023-11-15T00:00:00Z";
    let (_, found) = get(&router, &format!("/api/v3/traces?{window}&query.serviceName=shop&query.rawTraces=1")).await;
    assert_eq!(get(&router, "/api/v3/traces/ab?rawTraces=1").await.1, found);
    let groups = found["result"]["resourceSpans"].as_array().unwrap();
    let shop =
        groups.iter().find(|group| group["resource"]["attributes"][0]["value"]["stringValue"] == "shop").unwrap();
    assert_eq!(shop["schemaUrl"], "https://example.org/r");
    let span = &shop["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "000000000000000000000000000000ab");
    assert_eq!(span["startTimeUnixNano"], START_NS.to_string());
    assert_eq!(span["droppedAttributesCount"], 3);
    assert_eq!(span["attributes"][1], json!({"key": "big", "value": {"intValue": "9223372036854775807"}}));
    assert_eq!(span["attributes"][4], json!({"key": "raw", "value": {"bytesValue": "AQID"}}));
    assert_eq!(span["status"], json!({"message": "no database", "code": 2}));
}

#[tokio::test]
async fn summaries_and_dependencies_are_told() {
    let router = fixture();
    let window = "query.startTimeMin=2023-11-14T00:00:00Z&query.startTimeMax=2023-11-15T00:00:00Z";
    let (_, found) = get(&router, &format!("/api/v3/trace-summaries?{window}")).await;
    assert_eq!(
        found["summaries"],
        json!([{
            "traceId": "000000000000000000000000000000ab",
            "rootServiceName": "shop",
            "rootOperationName": "GET /cart",
            "minStartTimeUnixNano": START_NS.to_string(),
            "maxEndTimeUnixNano": (START_NS + 2_000_001).to_string(),
            "spanCount": 2,
            "errorSpanCount": 1,
            "services": [{"name": "db", "spanCount": 1}, {"name": "shop", "spanCount": 1, "errorSpanCount": 1}],
        }])
    );
    let (_, calls) = get(&router, "/api/dependencies?endTs=1700000000000&lookback=604800000").await;
    assert_eq!(calls["data"], json!([{"parent": "shop", "child": "db", "callCount": 1}]));
}

mod clients;
mod golden;
mod limits;
mod transform;
mod warnings;
