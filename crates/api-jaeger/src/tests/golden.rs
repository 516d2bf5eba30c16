//! One trace with everything that the translation to API v1 has a rule for, and what comes of it: as v1 shows it, adjusted
//! and as it came, and as v3 gives it back. `UPDATE_GOLDEN=1` rewrites the files.

use std::path::Path;

use pharos_testkit::assert_golden;

use super::*;

fn resource(attributes: Vec<Attribute>) -> Arc<Resource> {
    Arc::new(Resource {
        attributes,
        schema_url: "https://example.org/resource".to_owned(),
        dropped_attributes_count: 1,
    })
}

fn scope(name: &str, version: &str) -> Arc<Scope> {
    Arc::new(Scope {
        name: name.to_owned(),
        version: version.to_owned(),
        attributes: vec![attribute("lost.in.v1", text("of the scope"))],
        schema_url: "https://example.org/scope".to_owned(),
        ..Scope::default()
    })
}

const ID: TraceId =
    TraceId([0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c]);
const OTHER: TraceId = TraceId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xef]);

fn span(number: u8, parent: u8, name: &str) -> Span {
    Span {
        trace_id: ID,
        span_id: SpanId([0, 0, 0, 0, 0, 0, 0, number]),
        parent_span_id: SpanId([0, 0, 0, 0, 0, 0, 0, parent]),
        name: name.to_owned(),
        start_ns: START_NS + u64::from(number) * 1_000,
        end_ns: START_NS + 1_000_000,
        ..Span::default()
    }
}

fn link(trace_id: TraceId, number: u8, ref_type: Option<&str>) -> Link {
    Link {
        trace_id,
        span_id: SpanId([0, 0, 0, 0, 0, 0, 0, number]),
        trace_state: "lost=1".to_owned(),
        attributes: ref_type.map(|word| attribute("opentracing.ref_type", text(word))).into_iter().collect(),
        ..Link::default()
    }
}

/// Every type of value, at the edges of what JSON can hold.
fn every_type() -> Vec<Attribute> {
    let array = AttributeValue::Array(vec![text("a"), AttributeValue::Int(1), AttributeValue::Double(0.5)]);
    let map = AttributeValue::Map(vec![
        attribute("z", AttributeValue::Bool(true)),
        attribute("a", AttributeValue::Bytes(vec![0xfb, 0xff])),
    ]);
    vec![
        attribute("text", text("quo\"te <b> \u{e9}\u{1f69a}")),
        attribute("none", AttributeValue::Empty),
        attribute("yes", AttributeValue::Bool(true)),
        attribute("int.exact", AttributeValue::Int((1 << 53) - 1)),
        attribute("int.large", AttributeValue::Int(1 << 53)),
        attribute("int.least", AttributeValue::Int(i64::MIN)),
        attribute("double", AttributeValue::Double(72.5)),
        attribute("double.whole", AttributeValue::Double(2.0)),
        attribute("double.tiny", AttributeValue::Double(1.5e-7)),
        attribute("double.nan", AttributeValue::Double(f64::NAN)),
        attribute("bytes", AttributeValue::Bytes(vec![0xfb, 0xff, 0])),
        attribute("array", array),
        attribute("map", map),
    ]
}

fn every_rule() -> SpanBatch {
    let event = |offset_ns: u64, name: &str, attributes| SpanEvent {
        time_ns: START_NS + offset_ns,
        name: name.to_owned(),
        attributes,
        ..SpanEvent::default()
    };
    let server = Span {
        flags: 0x101,
        kind: SpanKind::Server,
        attributes: every_type(),
        events: vec![
            event(3_000, "exception", vec![attribute("exception.type", text("Timeout"))]),
            event(2_000, "named twice", vec![attribute("event", text("by an attribute"))]),
            event(2_500, "", vec![attribute("nameless", AttributeValue::Int(1))]),
        ],
        status: SpanStatus { code: Outcome::Error, message: "no database".to_owned() },
        trace_state: "vendor=1".to_owned(),
        ..span(1, 0, "GET /cart")
    };
    // The parent is a reference already: a link to it says of which type.
    let client = Span {
        kind: SpanKind::Client,
        attributes: vec![
            attribute("error", text("told by itself")),
            attribute("peer.ipv4", AttributeValue::Int(0x0a00_0001)),
        ],
        links: vec![
            link(OTHER, 7, None),
            link(ID, 1, Some("follows_from")),
            link(OTHER, 8, Some("child_of")),
            link(TraceId([0; 16]), 9, None),
        ],
        status: SpanStatus { code: Outcome::Error, message: String::new() },
        ..span(2, 1, "SELECT")
    };
    // As Zipkin does: the id of its client.
    let database = Span { kind: SpanKind::Server, start_ns: START_NS + 4_000, ..span(2, 1, "execute") };
    let warned = Span {
        kind: SpanKind::Internal,
        attributes: vec![
            attribute("@jaeger@warnings", AttributeValue::Array(vec![text("made up"), text("and told")])),
            attribute("telemetry.sdk.name", text("opentelemetry")),
        ],
        status: SpanStatus { code: Outcome::Ok, ..SpanStatus::default() },
        ..span(4, 2, "fsync")
    };
    let backwards = Span { kind: SpanKind::Producer, end_ns: START_NS, ..span(5, 1, "ends before it starts") };
    let bare = Span { kind: SpanKind::Consumer, ..span(6, 99, "without its parent") };
    let group = |resource: &Arc<Resource>, scope: &Arc<Scope>, spans| SpanGroup {
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
        spans,
    };
    let host = || attribute("host.name", text("box"));
    let shop =
        resource(vec![attribute("service.name", text("shop")), host(), attribute("count", AttributeValue::Int(3))]);
    // As processes the same: what tells them apart has no place in v1.
    let again = Arc::new(Resource { schema_url: String::new(), ..(*shop).clone() });
    let db = resource(vec![host(), attribute("service.name", text("db"))]);
    let nobody = Arc::new(Resource::default());
    let (lib, other) = (scope("lib", "1.2"), scope("other", ""));
    SpanBatch {
        groups: vec![
            group(&shop, &lib, vec![server, client]),
            group(&db, &other, vec![database, warned]),
            group(&again, &lib, vec![backwards]),
            group(&nobody, &Arc::new(Scope::default()), vec![bare]),
        ],
    }
}

async fn check(path: &str, file: &str) {
    let router = router(api_over(every_rule())).layer(axum::Extension(Principal::anonymous()));
    let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let mut found = String::from_utf8(body.to_vec()).unwrap();
    if path.contains("/v3/") {
        found = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&found).unwrap()).unwrap();
    }
    found.push('\n');
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file);
    assert_golden(&file, &found);
}

#[tokio::test]
async fn every_rule_of_the_translation_has_its_line() {
    check(&format!("/api/traces/{ID}?prettyPrint=true"), "v1/adjusted.json").await;
    check(&format!("/api/traces/{ID}?prettyPrint=yes&raw=true"), "v1/raw.json").await;
    check(&format!("/api/v3/traces/{ID}?rawTraces=true"), "v3/raw.json").await;
    check(&format!("/api/v3/traces/{ID}"), "v3/adjusted.json").await;
}
