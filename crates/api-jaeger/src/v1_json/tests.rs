//! What is written by hand is, byte for byte, what serde makes of the model.

use pharos_model::{Attribute, AttributeValue, Resource, Scope, Span, SpanEvent, SpanGroup, TraceId};
use pharos_storage::conformance::traces::SpanGenerator;
use pharos_storage::{ReadContext, Trace};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;

use super::reference::TraceJson;
use super::write_trace;
use crate::rendering::{Rendered, Rendering};

const NOW_NS: u64 = 1_795_230_000_000_000_000;

fn written(trace: &Trace, pretty: bool) -> String {
    let context = ReadContext::unlimited();
    let rendering = Rendering::held(&context);
    let rendered = rendering.finish_written(pretty, |out| {
        write_trace(out, trace);
        Ok(())
    });
    let Rendered::Held(pieces) = rendered.unwrap() else { panic!("held") };
    String::from_utf8(pieces.concat()).unwrap()
}

fn check(trace: &Trace) -> String {
    let model = TraceJson::from(trace);
    let found = written(trace, false);
    assert_eq!(found, serde_json::to_string(&model).unwrap());
    let mut pretty = Vec::new();
    model.serialize(&mut Serializer::with_formatter(&mut pretty, PrettyFormatter::with_indent(b"    "))).unwrap();
    assert_eq!(written(trace, true), String::from_utf8(pretty).unwrap());
    found
}

#[test]
fn traces_of_any_spans_are_what_the_model_says() {
    let mut bytes = 0;
    for seed in 0..60 {
        let mut generator = SpanGenerator::new(seed, NOW_NS, 3);
        for warnings in [Vec::new(), vec!["cut \"here\"".to_owned(), String::new()]] {
            let groups = (0..8).flat_map(|_| generator.batch().groups).collect();
            let trace_id = if seed % 2 == 0 { TraceId([9; 16]) } else { "abc".parse().unwrap() };
            bytes += check(&Trace { trace_id, groups, warnings }).len();
        }
    }
    assert!(bytes > 1 << 20, "{bytes}");
    check(&Trace { trace_id: TraceId([0; 16]), groups: Vec::new(), warnings: Vec::new() });
}

/// More processes than digits sort alike, texts longer than a piece, and values at the edges of what JSON can hold.
#[test]
fn what_generated_spans_do_not_have_is_what_the_model_says() {
    let attribute = |key: &str, value| Attribute { key: key.to_owned(), value };
    let numbers = [0, 1, -1, (1 << 53) - 1, 1 << 53, 1 - (1 << 53), -(1 << 53), i64::MIN, i64::MAX];
    let doubles = [0.0, -0.0, 0.1, 1e16, 1.5e-7, 5e-324, f64::MAX, f64::NEG_INFINITY, f64::NAN, 100.0, 123_456_789.125];
    let texts = ["", "\"", "\\", "\n\r\t\u{8}\u{c}\0\u{1f}\u{7f}", "\u{e9}\u{2028}\u{1f69a}"];
    let mut attributes: Vec<_> = numbers.map(|number| attribute("int", AttributeValue::Int(number))).into();
    attributes.extend(doubles.map(|number| attribute("double", AttributeValue::Double(number))));
    attributes.extend(texts.map(|text| attribute(text, AttributeValue::String(text.to_owned()))));
    attributes.push(attribute("long", AttributeValue::String("long \u{e9}".repeat(40_000))));
    attributes.push(attribute("long and escaped", AttributeValue::String("\"line\"\n".repeat(20_000))));
    attributes.push(attribute("binary", AttributeValue::Bytes((0..=255).collect())));
    let warnings = ["one", "two \"quoted\""].map(|text| AttributeValue::String(text.to_owned()));
    attributes.push(attribute("@jaeger@warnings", AttributeValue::Array(warnings.into())));
    let events = vec![SpanEvent { name: "e".to_owned(), attributes: attributes.clone(), ..SpanEvent::default() }];
    let span = Span { attributes: attributes.clone(), events, ..Span::default() };
    let group = |number: i64| SpanGroup {
        resource: Resource {
            attributes: [attributes.clone(), vec![attribute("number", AttributeValue::Int(number % 23))]].concat(),
            ..Resource::default()
        }
        .into(),
        scope: Scope { name: "lib".to_owned(), ..Scope::default() }.into(),
        spans: vec![Span { name: format!("{number}"), ..Span::default() }],
    };
    let mut groups: Vec<_> = (0..30).map(group).collect();
    groups[3].spans.push(span);
    check(&Trace { trace_id: TraceId([1; 16]), groups, warnings: Vec::new() });
}
