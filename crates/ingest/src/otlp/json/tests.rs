//! OTLP/JSON against protobuf's own messages.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;

use super::*;

fn traces(json: &str) -> Result<ExportTraceServiceRequest, String> {
    let wire = to_wire(json.as_bytes(), &TRACES_REQUEST, 8, u64::MAX).map_err(|error| error.to_string())?;
    Ok(ExportTraceServiceRequest::decode(&*wire).expect("own wire form decodes"))
}

fn metrics(json: &str) -> Result<ExportMetricsServiceRequest, String> {
    let wire = to_wire(json.as_bytes(), &METRICS_REQUEST, 8, u64::MAX).map_err(|error| error.to_string())?;
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
    for wrong in ["W47/95gDgQPSabYzgT/GDA==", "xyz", "abc", "5B8EFFF798038103D269B633813FC60"] {
        let span = span_with(&format!(r#""traceId":"{wrong}","spanId":"{wrong}","parentSpanId":"{wrong}""#)).unwrap();
        assert_eq!([span.trace_id, span.span_id, span.parent_span_id], [[0], [0], [0]], "{wrong}: of no id's length");
    }
    assert!(span_with(r#""traceId":7"#).is_err());
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
    for (start, expected) in [
        ("1.7e18", 1_700_000_000_000_000_000),
        ("\"1.700000000123456789e18\"", 1_700_000_000_123_456_789),
        ("1.8446744073709549568e19", u64::MAX - 2047),
        ("\"1e3\"", 1000),
        ("\"1.0\"", 1),
        ("-0.0", 0),
    ] {
        assert_eq!(
            span_with(&format!(r#""startTimeUnixNano":{start}"#)).unwrap().start_time_unix_nano,
            expected,
            "{start}"
        );
    }
    for wrong in [
        r#""startTimeUnixNano":1.8446744073709551616e19"#,
        r#""startTimeUnixNano":"1.5e0""#,
        r#""startTimeUnixNano":1e300"#,
        r#""startTimeUnixNano":-1e3"#,
        r#""kind":3e9"#,
        r#""flags":4.294967296e9"#,
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

/// An element of two bytes is one of eight in a message: what is written has a limit.
#[test]
fn a_message_may_not_be_longer_than_its_limit() {
    let counts = vec!["0"; 1000].join(",");
    let body = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"bucketCounts":[{counts}]}}]}}}}]}}]}}]}}"#
    );
    let written = |bytes_max| to_wire(body.as_bytes(), &METRICS_REQUEST, 8, bytes_max);
    // Packed: eight bytes an element, and key and length of each message around.
    let length = written(u64::MAX).unwrap().len();
    assert_eq!(length, 8000 + 6 * 3);
    assert_eq!(written(length as u64).unwrap().len(), length);
    for limit in [0, 100, 7999, length as u64 - 1] {
        assert!(matches!(written(limit), Err(JsonError::TooLong)), "{limit}");
    }
    assert!(matches!(to_wire(b"{]", &METRICS_REQUEST, 8, 0), Err(JsonError::Text(_))));
}

#[test]
fn lists_of_numbers_are_packed() {
    let point = r#"{"bucketCounts":[],"explicitBounds":[1.5,"NaN",2],"timeUnixNano":"7"}"#;
    let request = |point: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
        )
    };
    let wire = to_wire(request(point).as_bytes(), &METRICS_REQUEST, 8, u64::MAX).unwrap();
    let packed =
        [&[7 << 3 | 2, 24][..], &1.5_f64.to_le_bytes(), &f64::NAN.to_le_bytes(), &2_f64.to_le_bytes()].concat();
    assert!(wire.windows(packed.len()).any(|window| window == packed), "{wire:?}");
    let found = ExportMetricsServiceRequest::decode(&*wire).unwrap();
    assert!(format!("{found:?}").contains("bucket_counts: [], explicit_bounds: [1.5, NaN, 2.0]"), "{found:?}");
    for wrong in ["[1,null]", "[\"x\"]", "[[1]]", "7"] {
        assert!(metrics(&request(&format!(r#"{{"bucketCounts":{wrong}}}"#))).is_err(), "{wrong}");
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
