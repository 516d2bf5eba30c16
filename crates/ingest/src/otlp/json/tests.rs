//! OTLP/JSON against protobuf's own messages.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;

use super::*;

fn traces(json: &str) -> Result<ExportTraceServiceRequest, String> {
    let wire = to_wire(json.as_bytes(), &TRACES_REQUEST, 8).map_err(|error| error.to_string())?;
    Ok(ExportTraceServiceRequest::decode(&*wire).expect("own wire form decodes"))
}

fn metrics(json: &str) -> Result<ExportMetricsServiceRequest, String> {
    let wire = to_wire(json.as_bytes(), &METRICS_REQUEST, 8).map_err(|error| error.to_string())?;
    Ok(ExportMetricsServiceRequest::decode(&*wire).expect("own wire form decodes"))
}

fn span_with(fields: &str) -> Result<opentelemetry_proto::tonic::trace::v1::Span, String> {
    let request = traces(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#))?;
    Ok(request.resource_spans[0].scope_spans[0].spans[0].clone())
}

#[test]
fn ids_are_hexadecimal_of_either_case() {
    let span = span_with(r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174""#).unwrap();
    assert_eq!(span.trace_id[..4], [0x5b, 0x8e, 0xff, 0xf7]);
    assert_eq!(span.span_id.len(), 8);
    let error = span_with(r#""traceId":"W47/95gDgQPSabYzgT/GDA==""#).unwrap_err();
    assert!(error.contains("hexadecimal text in \"traceId\""), "{error}");
}

#[test]
fn integers_are_numbers_or_text_and_enumerations_numbers_or_names() {
    for (start, kind) in [("\"1544712660300000001\"", "2"), ("1544712660300000001", "\"SPAN_KIND_SERVER\"")] {
        let span =
            span_with(&format!(r#""startTimeUnixNano":{start},"kind":{kind},"droppedEventsCount":"3","flags":257"#))
                .unwrap();
        assert_eq!(span.start_time_unix_nano, 1_544_712_660_300_000_001);
        assert_eq!((span.kind, span.dropped_events_count, span.flags), (2, 3, 257));
    }
    for wrong in [
        r#""startTimeUnixNano":-1"#,
        r#""startTimeUnixNano":1.5"#,
        r#""kind":"SERVER""#,
        r#""name":7"#,
        r#""flags":4294967296"#,
    ] {
        assert!(span_with(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn unknown_fields_and_nulls_are_ignored_at_every_level() {
    let span = span_with(
        r#""name":"n","future":{"deep":[1,{}]},"status":null,"attributes":[{"key":"k","value":{"newValue":[1],"intValue":"7"}},{"key":"e","value":{}},{"key":"z","value":null}],"links":null"#,
    )
    .unwrap();
    assert_eq!((span.name.as_str(), span.status.is_none(), span.attributes.len()), ("n", true, 3));
    assert_eq!(span.attributes[0].value.as_ref().unwrap().value, Some(Value::IntValue(7)));
}

#[test]
fn attribute_values_of_every_kind() {
    let value = |json: &str| {
        let span = span_with(&format!(r#""attributes":[{{"key":"k","value":{json}}}]"#)).unwrap();
        span.attributes[0].value.clone().unwrap().value.unwrap()
    };
    assert_eq!(value(r#"{"stringValue":"é\n"}"#), Value::StringValue("é\n".into()));
    assert_eq!(value(r#"{"boolValue":true}"#), Value::BoolValue(true));
    assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#), Value::IntValue(i64::MIN));
    assert_eq!(value(r#"{"doubleValue":3}"#), Value::DoubleValue(3.0));
    assert_eq!(value(r#"{"doubleValue":"-Infinity"}"#), Value::DoubleValue(f64::NEG_INFINITY));
    assert_eq!(value(r#"{"bytesValue":"AQI="}"#), Value::BytesValue(vec![1, 2]));
    let Value::ArrayValue(array) = value(r#"{"arrayValue":{"values":[{"intValue":1},{"kvlistValue":{}}]}}"#) else {
        panic!("array")
    };
    assert_eq!(array.values.len(), 2);
    assert!(matches!(value(r#"{"arrayValue":{}}"#), Value::ArrayValue(_)));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let value =
            format!("{}{}{}", r#"{"arrayValue":{"values":["#.repeat(depth), r#"{"intValue":1}"#, "]}}".repeat(depth));
        span_with(&format!(r#""attributes":[{{"key":"k","value":{value}}}]"#))
    };
    assert!(nested(7).is_ok());
    for depth in [20, 10_000] {
        assert!(nested(depth).is_err(), "{depth}");
    }
}

#[test]
fn damaged_json_is_refused() {
    for wrong in ["", "{", "[]", "null", "{} x", r#"{"resourceSpans":{}}"#, r#"{"resourceSpans":[1]}"#, "\u{1}"] {
        assert!(traces(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(traces("{}").unwrap(), ExportTraceServiceRequest::default());
}

/// Upstream's serializer writes every field of every message; what it writes must come back.
#[test]
fn every_field_of_every_message_round_trips() {
    let request = metrics(include_str!("testdata/metrics.json")).unwrap();
    let again = metrics(&serde_json::to_string(&request).unwrap()).unwrap();
    assert_eq!(again, request);
    let upstream: ExportMetricsServiceRequest = serde_json::from_str(include_str!("testdata/metrics.json")).unwrap();
    assert_eq!(upstream, request);
    let request = traces(include_str!("testdata/traces.json")).unwrap();
    assert_eq!(traces(&serde_json::to_string(&request).unwrap()).unwrap(), request);
    let upstream: ExportTraceServiceRequest = serde_json::from_str(include_str!("testdata/traces.json")).unwrap();
    assert_eq!(upstream, request);
}
