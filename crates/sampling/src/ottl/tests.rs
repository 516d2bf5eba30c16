use std::sync::Arc;

use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanEvent, SpanGroup, SpanKind, SpanStatus, StatusCode, TraceId,
};

use super::*;
use crate::record::Position;

fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::String(text.to_owned())
}

fn trace() -> WaitingTrace {
    let mut trace = WaitingTrace::new(TraceId([1; 16]));
    let group = SpanGroup {
        resource: Arc::new(Resource {
            attributes: vec![attribute("service.name", text("shop"))],
            ..Resource::default()
        }),
        scope: Arc::new(Scope { name: "lib".to_owned(), version: "1.2".to_owned(), ..Scope::default() }),
        spans: Vec::new(),
    };
    let span = Span {
        trace_id: TraceId([1; 16]),
        name: "GET /cart".to_owned(),
        kind: SpanKind::Server,
        start_ns: 1_795_230_000_000_000_000,
        end_ns: 1_795_230_000_750_000_000,
        trace_state: "vendor=gold".to_owned(),
        status: SpanStatus { code: StatusCode::Error, message: "no \"stock\"".to_owned() },
        attributes: vec![
            attribute("http.status_code", AttributeValue::Int(503)),
            attribute("load", AttributeValue::Double(0.75)),
            attribute("vip", AttributeValue::Bool(true)),
            attribute("user", text("ann")),
            attribute("list", AttributeValue::Array(vec![text("a")])),
        ],
        events: vec![SpanEvent {
            name: "exception".to_owned(),
            attributes: vec![attribute("exception.type", text("Timeout"))],
            ..SpanEvent::default()
        }],
        ..Span::default()
    };
    trace.push(&group, span, Position::default());
    trace
}

#[test]
fn conditions_on_spans_mean_what_the_language_says() {
    for (condition, expected) in [
        (r#"attributes["user"] == "ann""#, true),
        (r#"attributes["user"] != "ann""#, false),
        (r#"span.attributes["user"] == "ann""#, true),
        (r#"attributes["user"] == 5"#, false),
        (r#"attributes["user"] != 5"#, true),
        (r#"attributes["absent"] == nil"#, true),
        (r#"attributes["user"] != nil"#, true),
        (r#"attributes["absent"] == "x""#, false),
        (r#"attributes["absent"] != "x""#, true),
        (r#"attributes["absent"] < 5"#, false),
        (r#"attributes["http.status_code"] >= 500"#, true),
        (r#"attributes["http.status_code"] > 503.5"#, false),
        (r#"attributes["http.status_code"] == 503.0"#, true),
        (r#"attributes["load"] < 1"#, true),
        (r#"attributes["vip"] == true"#, true),
        (r#"attributes["vip"] >= true"#, false),
        (r#"attributes["list"] == "a""#, false),
        (r#"resource.attributes["service.name"] == "shop""#, true),
        (r#"instrumentation_scope.name == "lib" and scope.version == "1.2""#, true),
        (r#"name == "GET /cart""#, true),
        ("kind == SPAN_KIND_SERVER", true),
        ("kind == 3", false),
        (r#"kind.string == "Server""#, true),
        ("status.code == STATUS_CODE_ERROR", true),
        (r#"status.message == "no \"stock\"""#, true),
        (r#"trace_state["vendor"] == "gold""#, true),
        (r#"trace_id.string == "01010101010101010101010101010101""#, true),
        ("end_time_unix_nano - start_time_unix_nano > 700000000", true),
        ("(end_time_unix_nano - start_time_unix_nano) > 800000000", false),
        (r#"(end_time - start_time) >= Duration("750ms")"#, true),
        (r#"IsMatch(name, "^GET /")"#, true),
        (r#"IsMatch(attributes["http.status_code"], "5..")"#, true),
        (r#"IsMatch(attributes["absent"], ".*")"#, false),
        ("IsRootSpan()", true),
        ("not IsRootSpan()", false),
        ("true", true),
        ("not (true and false)", true),
        // `and` binds closer than `or`.
        ("true or false and false", true),
        ("(true or false) and false", false),
        (r#"not attributes["user"] == "bob" and kind == 2"#, true),
    ] {
        let found = Conditions::parse(&[condition.to_owned()], &[]).map(|read| read.hold(&trace()));
        assert_eq!(found, Ok(expected), "{condition}");
    }
}

#[test]
fn conditions_on_events_see_the_event_and_its_span() {
    for (condition, expected) in [
        (r#"name == "exception""#, true),
        (r#"attributes["exception.type"] == "Timeout""#, true),
        (r#"spanevent.attributes["user"] == "ann""#, false),
        (r#"span.attributes["user"] == "ann" and name != "x""#, true),
        (r#"span.name == "GET /cart""#, true),
    ] {
        let found = Conditions::parse(&[], &[condition.to_owned()]).map(|read| read.hold(&trace()));
        assert_eq!(found, Ok(expected), "{condition}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_its_place() {
    for (condition, expected) in [
        ("", "expected a path or a literal, at character 1"),
        (r#"attributes["a"]"#, "expected ==, !=, <, <=, > or >=, at character 16"),
        (r#"attributes["a"] = 1"#, "expected ==, !=, <, <=, > or >=, at character 17"),
        (r#"attributes["a"]["b"] == 1"#, "values within values"),
        ("duration > 5", "duration is not supported, at character 1"),
        (r#"Concat(["a"], "") == "a""#, "Concat is not supported, at character 1"),
        (r#"name == "x" or"#, "expected a path or a literal, at character 15"),
        (r#"name == "x" xor name == "y""#, "expected and, or, or the end, at character 13"),
        (r#"name == "x"#, "a text without an end"),
        (r#"IsMatch(name, "(")"#, "error parsing regexp"),
        ("IsMatch(name, name)", "expected a text"),
        ("attributes[\"a\"] == 1.2.3", "expected a number"),
        ("kind == SPAN_KIND_OTHER", "SPAN_KIND_OTHER is not supported"),
        (r#"(end_time - start_time) > Duration("5 apples")"#, "is no duration"),
        (r#"spanevent.name == "x""#, "spanevent.name is not supported"),
    ] {
        let fault = Conditions::parse(&[condition.to_owned()], &[]).unwrap_err();
        assert!(fault.contains(expected), "{condition}: {fault}");
    }
    let deep = format!("{}true{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Conditions::parse(&[deep], &[]).is_err());
    assert!(Conditions::parse(&["not ".repeat(3_000)], &[]).unwrap_err().contains("deeper"));
    assert!(Conditions::parse(&[], &[]).unwrap_err().contains("spanevent"));
}
