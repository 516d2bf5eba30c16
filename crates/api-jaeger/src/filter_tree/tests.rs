//! Filters as clients write them, and what is said of wrong ones.

use pharos_storage::{
    AttributeLevel, Comparison, SpanCollection, SpanConstant, SpanField, SpanOperand, SpanPredicate, SpanReference,
};

use super::*;

fn read(json: &str) -> Result<SpanPredicate, String> {
    predicate_of(&call_of_json(json)?)
}

fn compared(reference: SpanReference, comparison: Comparison, constant: SpanConstant) -> SpanPredicate {
    let (left, right) = (SpanOperand::Reference(reference), SpanOperand::Constant(constant));
    SpanPredicate::Compare { left, comparison, right }
}

#[test]
fn constants_are_read_by_what_they_stand_beside() {
    let key = |level, key: &str| SpanReference::Attribute { level, key: key.to_owned() };
    let field = SpanReference::Field;
    for (json, reference, comparison, constant) in [
        (
            r#"{"op":"eq","args":[{"attr":{"key":"http.status_code"}},{"scalar":{"value":"500"}}]}"#,
            key(None, "http.status_code"),
            Comparison::Eq,
            SpanConstant::Any("500".to_owned()),
        ),
        (
            r#"{"op":"gt","args":[{"attr":{"key":"a","level":"resource"}},{"scalar":{"value":"5","type":"int"}}]}"#,
            key(Some(AttributeLevel::Resource), "a"),
            Comparison::Gt,
            SpanConstant::Int(5),
        ),
        (
            r#"{"op":"gte","args":[{"field":{"name":"duration","level":"span"}},{"scalar":{"value":"1.5ms"}}]}"#,
            field(SpanField::Duration),
            Comparison::Gte,
            SpanConstant::DurationNs(1_500_000),
        ),
        // The constant came first: the comparison is turned with it.
        (
            r#"{"op":"lt","args":[{"scalar":{"value":"-1us"}},{"field":{"name":"timeSinceStart","level":"event"}}]}"#,
            field(SpanField::EventTimeSinceStart),
            Comparison::Gt,
            SpanConstant::DurationNs(-1_000),
        ),
        (
            r#"{"op":"lte","args":[{"field":{"name":"startTime","level":"span"}},{"scalar":{"value":"1970-01-01T00:00:01.5Z"}}]}"#,
            field(SpanField::Start),
            Comparison::Lte,
            SpanConstant::TimeNs(1_500_000_000),
        ),
        (
            r#"{"op":"ne","args":[{"field":{"name":"status","level":"span"}},{"scalar":{"value":"error","type":"string"}}]}"#,
            field(SpanField::Status),
            Comparison::Ne,
            SpanConstant::Text("error".to_owned()),
        ),
    ] {
        assert_eq!(read(json).unwrap(), compared(reference, comparison, constant), "{json}");
    }
}

#[test]
fn operators_nest() {
    let json = r#"{"op":"and","args":[
        {"call":{"op":"not","args":[{"call":{"op":"exists","args":[{"attr":{"key":"a"}}]}}]}},
        {"call":{"op":"some","args":[{"nested":{"level":"event"}},{"call":{"op":"in","args":[
            {"field":{"name":"name","level":"event"}},{"list":{"values":["x","y"]}}]}}]}},
        {"call":{"op":"regex","args":[{"field":{"name":"kind","level":"span"}},{"scalar":{"value":"^s"}}]}}]}"#;
    let exists = SpanPredicate::Exists(SpanReference::Attribute { level: None, key: "a".to_owned() });
    let values = ["x", "y"].map(|text| SpanConstant::Text(text.to_owned())).to_vec();
    let is_in = SpanPredicate::In { subject: SpanReference::Field(SpanField::EventName), values };
    let expected = SpanPredicate::And(vec![
        SpanPredicate::Not(Box::new(exists)),
        SpanPredicate::Some { of: SpanCollection::Events, predicate: Box::new(is_in) },
        SpanPredicate::Matches {
            subject: SpanReference::Field(SpanField::Kind),
            pattern: SearchPattern::new("^s").unwrap(),
        },
    ]);
    assert_eq!(read(json).unwrap(), expected);
}

#[test]
fn what_has_no_meaning_is_refused_with_the_reason() {
    let field = |name: &str, level: &str| format!(r#"{{"field":{{"name":"{name}","level":"{level}"}}}}"#);
    let scalar = |value: &str, kind: &str| format!(r#"{{"scalar":{{"value":"{value}","type":"{kind}"}}}}"#);
    let call = |op: &str, args: &[String]| format!(r#"{{"op":"{op}","args":[{}]}}"#, args.join(","));
    let attr = r#"{"attr":{"key":"a"}}"#.to_owned();
    let yes = format!(r#"{{"call":{}}}"#, call("exists", std::slice::from_ref(&attr)));
    let some = |inner: &str| call("some", &[r#"{"nested":{"level":"event"}}"#.to_owned(), inner.to_owned()]);
    for (json, expected) in [
        (call("like", &[attr.clone(), scalar("x", "")]), "unknown operator \"like\""),
        (call("and", std::slice::from_ref(&yes)), "at least two operands"),
        (call("and", &[yes.clone(), attr.clone()]), "takes a condition"),
        (call("not", &[]), "takes 1 operand(s), got 0"),
        (call("eq", std::slice::from_ref(&attr)), "takes 2 operand(s), got 1"),
        (call("eq", &[attr.clone(), "null".to_owned()]), "an operand is missing"),
        (call("eq", &[attr.clone(), yes.clone()]), "compares references and constants"),
        (call("eq", &[attr.clone(), r#"{"nested":{"level":"event"}}"#.to_owned()]), "first operand of \"some\""),
        (call("exists", &[r#"{"attr":{"key":""}}"#.to_owned()]), "without a key"),
        (call("exists", &[r#"{"attr":{"key":"a","level":"process"}}"#.to_owned()]), "unknown level \"process\""),
        (call("exists", &[field("name", "")]), "there is no field \".name\""),
        (call("exists", &[field("duration", "event")]), "there is no field \"event.duration\""),
        (
            call("gt", &[field("duration", "span"), scalar("banana", "")]),
            "span.duration beside \"banana\": time: invalid duration \"banana\"",
        ),
        (call("gt", &[field("duration", "span"), scalar("5", "int")]), "constant of type \"int\""),
        (call("eq", &[field("kind", "span"), scalar("SERVER", "")]), "none of unspecified, internal, server"),
        (call("gt", &[field("kind", "span"), scalar("server", "")]), "span.kind has no order"),
        (call("gt", &[attr.clone(), scalar("true", "bool")]), "truth values have no order"),
        (call("eq", &[attr.clone(), scalar("x", "int")]), "no 64-bit integer"),
        (call("eq", &[attr.clone(), scalar("x", "uuid")]), "unknown type \"uuid\""),
        (call("eq", &[field("duration", "span"), field("name", "span")]), "another kind of value"),
        (call("lt", &[field("startTime", "span"), scalar("yesterday", "")]), "no RFC 3339 time"),
        (call("regex", &[field("duration", "span"), scalar("5", "")]), "which span.duration is not"),
        (call("regex", &[attr.clone(), scalar("a(", "")]), "missing closing )"),
        (call("regex", &[attr.clone(), attr.clone()]), "takes a constant"),
        (call("in", &[attr.clone(), scalar("x", "")]), "takes a list"),
        (call("in", &[attr.clone(), r#"{"list":{"values":[]}}"#.to_owned()]), "at least one element"),
        (call("in", &[attr.clone(), r#"{"list":{"values":["a"],"type":"int"}}"#.to_owned()]), "no 64-bit integer"),
        (some(&attr), "takes a condition"),
        (some(&format!(r#"{{"call":{}}}"#, some(&yes))), "within another one"),
        (call("some", &[r#"{"nested":{"level":"span"}}"#.to_owned(), yes.clone()]), "not \"span\""),
        (r#"{"op":"and","arguments":[]}"#.to_owned(), "unknown field `arguments`"),
        ("[]".to_owned(), "filter: "),
    ] {
        let error = read(&json).unwrap_err();
        assert!(error.starts_with("filter: ") && error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn limits_have_names() {
    let exists = r#"{"op":"exists","args":[{"attr":{"key":"a"}}]}"#.to_owned();
    let nested = |depth: usize| {
        (1..depth).fold(exists.clone(), |inner, _| format!(r#"{{"op":"not","args":[{{"call":{inner}}}]}}"#))
    };
    assert!(read(&nested(PREDICATE_DEPTH_MAX)).is_ok());
    assert!(read(&nested(PREDICATE_DEPTH_MAX + 1)).unwrap_err().contains("nested deeper than 32"));
    let list = |count: usize| {
        let values = vec!["\"a\""; count].join(",");
        format!(r#"{{"op":"in","args":[{{"attr":{{"key":"a"}}}},{{"list":{{"values":[{values}]}}}}]}}"#)
    };
    assert!(read(&list(PREDICATE_NODES_MAX - 1)).is_ok());
    assert!(read(&list(PREDICATE_NODES_MAX)).unwrap_err().contains("more than 10000"));
}
