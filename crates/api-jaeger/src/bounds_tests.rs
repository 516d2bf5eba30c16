//! What keeps answers with many or large traces within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use pharos_base::{Clock, MemoryBudget, SystemClock};
use pharos_gateway::Principal;
use pharos_ingest::otlp::Otlp;
use pharos_model::{AttributeValue, Resource, Scope, Span, SpanBatch, SpanGroup, SpanId, TraceId};
use pharos_storage::{ReadContext, StorageError, Trace};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::rendering::{Rendered, Rendering, Traces};
use crate::router;
use crate::tests::{START_NS, api_over, attribute, batch, text};
use crate::v1::finish_traces;
use crate::v1_json::write_trace;

const WINDOW_V1: &str = "start=1699999000000000&end=1700000000000000";
const WINDOW_V3: &str = "query.startTimeMin=2023-11-14T00:00:00Z&query.startTimeMax=2023-11-15T00:00:00Z";

/// One span in a resource of its own.
fn group(trace_id: TraceId, number: u64, host: &str, name: &str) -> SpanGroup {
    let attributes = vec![attribute("service.name", text("shop")), attribute("host.name", text(host))];
    let span = Span {
        trace_id,
        span_id: SpanId(number.to_be_bytes()),
        name: name.to_owned(),
        start_ns: START_NS + number,
        end_ns: START_NS + number,
        ..Span::default()
    };
    SpanGroup {
        resource: Arc::new(Resource { attributes, ..Resource::default() }),
        scope: Arc::new(Scope::default()),
        spans: vec![span],
    }
}

fn trace(id: u8, groups: Vec<SpanGroup>) -> Trace {
    Trace { trace_id: TraceId([id; 16]), groups, warnings: Vec::new() }
}

#[test]
fn a_trace_of_as_many_resources_as_spans_is_rendered_in_time() {
    let id = TraceId([1; 16]);
    // Every second resource repeats the one before it.
    let groups = (1..=40_000).map(|number| group(id, number, &format!("box-{}", number / 2), "op")).collect();
    let trace = trace(1, groups);
    let began_at = SystemClock.monotonic();
    let context = ReadContext::unlimited();
    let rendering = Rendering::held(&context);
    let rendered = rendering.finish_written(false, |out| {
        write_trace(out, &trace);
        Ok(())
    });
    let Ok(Rendered::Held(pieces)) = rendered else { panic!("{rendered:?}") };
    let rendered: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    let took = SystemClock.monotonic() - began_at;
    assert_eq!(rendered["processes"].as_object().unwrap().len(), 20_001);
    let spans = rendered["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 40_000);
    for (span, process_id) in [(&spans[0], "p1"), (&spans[1], "p2"), (&spans[2], "p2"), (&spans[39_999], "p20001")] {
        assert_eq!(span["processID"], process_id);
    }
    assert_eq!(rendered["processes"]["p20001"]["tags"][0]["value"], "box-20000");
    assert!(took < Duration::from_secs(5), "took {took:?}: are processes searched one by one?");
}

async fn get(memory_bytes_max: u64, path: &str) -> (StatusCode, Value) {
    let id = TraceId([7; 16]);
    let name = "n".repeat(10_000);
    let groups = (1..=40).map(|number| group(id, number, "box", &name)).collect();
    let mut api = api_over(SpanBatch { groups });
    api.memory_bytes_max = memory_bytes_max;
    let router = router(api).layer(axum::Extension(Principal::anonymous()));
    let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (status, body) = (response.status(), to_bytes(response.into_body(), 1 << 24).await.unwrap());
    (status, serde_json::from_slice(&body).unwrap())
}

fn paths() -> [String; 5] {
    let id = "07".repeat(16);
    [
        format!("/api/traces/{id}"),
        format!("/api/traces?traceID={id}&prettyPrint=true"),
        format!("/api/traces?service=shop&{WINDOW_V1}"),
        format!("/api/v3/traces/{id}"),
        format!("/api/v3/traces?query.serviceName=shop&{WINDOW_V3}"),
    ]
}

#[tokio::test]
async fn an_answer_larger_than_the_memory_of_a_query_is_refused_in_each_dialect() {
    for path in paths() {
        let (status, answer) = get(200_000, &path).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let error = if path.contains("/v3/") { &answer["error"]["message"] } else { &answer["errors"][0]["msg"] };
        let message = error.as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
        for part in ["query.memory_max", "200000", "lower `limit`, narrow the time range"] {
            assert!(message.contains(part), "{path}: {message}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_many_pieces_arrives_whole() {
    for path in paths() {
        let (status, answer) = get(2_000_000, &path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let names: Vec<&Value> = if path.contains("/v3/") {
            let groups = answer["result"]["resourceSpans"].as_array().unwrap().iter();
            let spans = groups.flat_map(|group| group["scopeSpans"][0]["spans"].as_array().unwrap());
            spans.map(|span| &span["name"]).collect()
        } else {
            answer["data"][0]["spans"].as_array().unwrap().iter().map(|span| &span["operationName"]).collect()
        };
        let name = json!("n".repeat(10_000));
        assert!(names.len() == 40 && names.iter().all(|found| **found == name), "{path}: {} names", names.len());
    }
}

#[tokio::test]
async fn the_whole_envelope_of_v1_keeps_its_order() {
    let router = router(api_over(batch())).layer(axum::Extension(Principal::anonymous()));
    let request = Request::get("/api/traces?traceID=ff&traceID=fe").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let absent = |id: &str| format!(r#"{{"msg":"trace not found","traceID":"{id:0>16}"}}"#);
    let errors = [absent("ff"), absent("fe")].join(",");
    let expected = format!(r#"{{"data":[],"total":0,"limit":0,"offset":0,"errors":[{errors}]}}"#);
    assert_eq!(to_bytes(response.into_body(), 1 << 20).await.unwrap(), expected);
}

#[test]
fn a_client_that_leaves_between_traces_ends_the_reading() {
    let context = ReadContext::unlimited();
    let cancel = context.cancel.clone();
    let stream = (1..=3_u8).map(move |id| {
        assert!(id < 3, "read on after the cancellation");
        if id == 2 {
            cancel.cancel();
        }
        Ok(trace(id, vec![group(TraceId([id; 16]), 1, "box", "op")]))
    });
    let rendering = Rendering::held(&context);
    let traces = Traces::new(&rendering, Box::new(stream), None);
    let rendered = finish_traces(&rendering, &traces, &(), false);
    assert!(matches!(rendered, Err(StorageError::Interrupted(_))), "{rendered:?}");
}

#[test]
fn a_store_that_fails_halfway_fails_the_answer_with_its_own_error() {
    let context = ReadContext { memory: MemoryBudget::new(1 << 20), ..ReadContext::unlimited() };
    let broken = StorageError::unavailable("the disk is gone");
    let stream = [Ok(trace(1, Vec::new())), Err(broken)].into_iter();
    let rendering = Rendering::held(&context);
    let traces = Traces::new(&rendering, Box::new(stream), None);
    let rendered = finish_traces(&rendering, &traces, &(), false);
    assert!(matches!(&rendered, Err(StorageError::Unavailable { reason, .. }) if reason == "the disk is gone"));
    assert_eq!(context.memory.used_bytes(), 0);
    assert!(context.memory.peak_bytes() > 0, "the begun answer was counted");
}

#[test]
fn v3_writes_members_in_the_order_of_otlp_and_leaves_defaults_out() {
    let mut group = group(TraceId([1; 16]), 2, "box", "op");
    group.spans[0].attributes = vec![
        attribute("none", AttributeValue::Empty),
        attribute("half", AttributeValue::Double(0.5)),
        attribute("nan", AttributeValue::Double(f64::NAN)),
        attribute("list", AttributeValue::Array(Vec::new())),
        attribute("map", AttributeValue::Map(vec![attribute("yes", AttributeValue::Bool(true))])),
    ];
    let resource = concat!(
        r#"{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},"#,
        r#"{"key":"host.name","value":{"stringValue":"box"}}]}"#
    );
    let attributes = concat!(
        r#"[{"key":"none","value":{}},{"key":"half","value":{"doubleValue":0.5}},"#,
        r#"{"key":"nan","value":{"doubleValue":"NaN"}},{"key":"list","value":{"arrayValue":{"values":[]}}},"#,
        r#"{"key":"map","value":{"kvlistValue":{"values":[{"key":"yes","value":{"boolValue":true}}]}}}]"#
    );
    let (trace_id, ns) = ("01".repeat(16), START_NS + 2);
    let span = format!(
        concat!(
            r#"{{"traceId":"{}","spanId":"0000000000000002","name":"op","startTimeUnixNano":"{}","#,
            r#""endTimeUnixNano":"{}","attributes":{},"status":{{}}}}"#
        ),
        trace_id, ns, ns, attributes
    );
    let expected = format!(r#"{{"resource":{resource},"scopeSpans":[{{"scope":{{}},"spans":[{span}]}}]}}"#);
    assert_eq!(serde_json::to_string(&Otlp(&group)).unwrap(), expected);
}
