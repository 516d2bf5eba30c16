//! Spans from the wire against spans from the messages that a generated decoder makes: the same is taken, refused and counted,
//! however a request is written, and damage is found where the decoder finds it.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use pharos_base::ByteSize;
use pharos_model::{SpanBatch, SpanGroup};
use pharos_storage::{AppendOutcome, Rejection};
use proptest::prelude::*;
use prost::Message;

use super::agreement::requests::Random;
use super::agreement::scramble;
use super::traces::{resource, scope, span};
use super::*;
use crate::sink::Refusal;

/// The same, message by message.
fn expected(request: ExportTraceServiceRequest, limits: &Limits) -> (SpanBatch, Vec<Rejection>) {
    let (mut batch, mut refused) = (SpanBatch::default(), AppendOutcome::default());
    let mut reject = |count: u64, refusal: &Refusal| {
        if count > 0 {
            refused.reject(refusal.reason, count, || refusal.message.clone());
        }
    };
    for message in request.resource_spans {
        let resource = resource(message.resource.unwrap_or_default(), message.schema_url, limits).map(Arc::new);
        for message in message.scope_spans {
            let scope = scope(message.scope.unwrap_or_default(), message.schema_url, limits).map(Arc::new);
            let count = message.spans.len() as u64;
            match (&resource, scope) {
                (Err(refusal), _) => reject(count, refusal),
                (_, Err(refusal)) => reject(count, &refusal),
                (Ok(resource), Ok(scope)) => {
                    let mut spans = Vec::new();
                    for message in message.spans {
                        match span(message, limits) {
                            Ok(span) => spans.push(span),
                            Err(refusal) => reject(1, &refusal),
                        }
                    }
                    if !spans.is_empty() {
                        batch.groups.push(SpanGroup { resource: Arc::clone(resource), scope, spans });
                    }
                }
            }
        }
    }
    (batch, refused.rejections)
}

#[track_caller]
fn check(body: &[u8], limits: &Limits) {
    let expected = ExportTraceServiceRequest::decode(body).ok().map(|request| expected(request, limits));
    match decode_traces(body, WireForm::Protobuf, limits) {
        Ok(found) => assert_eq!(Some((found.batch, found.rejections)), expected),
        Err(IngestError::Decode { .. }) => assert!(expected.is_none(), "{expected:?}"),
        Err(other) => panic!("{other}"),
    }
}

/// Random messages out of few words.
trait Traces {
    fn any_value(&mut self, depth: usize) -> AnyValue;
    fn key_values(&mut self) -> Vec<KeyValue>;
    fn any_span(&mut self) -> Span;
    fn request_of_spans(&mut self) -> Vec<u8>;
}

fn word(random: &mut Random) -> String {
    ["", "x", "http.request.method", "größe", "a longer value, of more than thirty bytes"][random.below(5)].to_owned()
}

fn id(random: &mut Random, length: usize) -> Vec<u8> {
    match random.below(12) {
        0 => Vec::new(),
        1 => vec![0; length],
        2 => vec![1; length - 1],
        _ => vec![random.below(3) as u8 + 1; length],
    }
}

impl Traces for Random {
    fn any_value(&mut self, depth: usize) -> AnyValue {
        let value = match self.below(if depth == 0 { 7 } else { 10 }) {
            0 => return AnyValue::default(),
            1 | 2 => Value::StringValue(word(self)),
            3 => Value::BoolValue(self.once_in(2)),
            4 => Value::IntValue(self.number() as i64),
            5 => Value::DoubleValue(f64::from_bits(self.number())),
            6 => Value::BytesValue(word(self).into_bytes()),
            7 => Value::StringValueStrindex(3),
            8 => Value::ArrayValue(ArrayValue {
                values: (0..self.below(3)).map(|_| self.any_value(depth - 1)).collect(),
            }),
            _ => {
                let value = Some(self.any_value(depth - 1));
                Value::KvlistValue(KeyValueList {
                    values: vec![KeyValue { key: word(self), value, ..KeyValue::default() }],
                })
            }
        };
        AnyValue { value: Some(value) }
    }

    fn key_values(&mut self) -> Vec<KeyValue> {
        let one = |random: &mut Self| KeyValue {
            key: word(random),
            value: (!random.once_in(9)).then(|| random.any_value(2)),
            key_strindex: i32::from(random.once_in(30)),
        };
        (0..self.below(5)).map(|_| one(self)).collect()
    }

    fn any_span(&mut self) -> Span {
        let event = |random: &mut Self| Event {
            time_unix_nano: random.number(),
            name: word(random),
            attributes: random.key_values(),
            dropped_attributes_count: random.below(2) as u32,
        };
        let link = |random: &mut Self| Link {
            trace_id: id(random, 16),
            span_id: id(random, 8),
            trace_state: word(random),
            attributes: random.key_values(),
            dropped_attributes_count: random.below(2) as u32,
            flags: random.number() as u32,
        };
        Span {
            trace_id: id(self, 16),
            span_id: id(self, 8),
            trace_state: word(self),
            parent_span_id: if self.once_in(2) { Vec::new() } else { id(self, 8) },
            flags: self.number() as u32,
            name: word(self),
            kind: self.below(8) as i32 - 1,
            start_time_unix_nano: self.number(),
            end_time_unix_nano: self.number(),
            attributes: self.key_values(),
            dropped_attributes_count: self.below(3) as u32,
            events: (0..self.below(3)).map(|_| event(self)).collect(),
            dropped_events_count: self.below(3) as u32,
            links: (0..self.below(3) / 2).map(|_| link(self)).collect(),
            dropped_links_count: self.below(3) as u32,
            status: self.once_in(2).then(|| Status { message: word(self), code: self.below(4) as i32 }),
        }
    }

    fn request_of_spans(&mut self) -> Vec<u8> {
        let scope = |random: &mut Self| ScopeSpans {
            scope: (!random.once_in(4)).then(|| InstrumentationScope {
                name: word(random),
                attributes: random.key_values(),
                ..InstrumentationScope::default()
            }),
            spans: (0..random.below(4)).map(|_| random.any_span()).collect(),
            schema_url: word(random),
        };
        let resource = |random: &mut Self| ResourceSpans {
            resource: (!random.once_in(4)).then(|| Resource { attributes: random.key_values(), ..Resource::default() }),
            scope_spans: (0..random.below(3)).map(|_| scope(random)).collect(),
            schema_url: word(random),
        };
        let resource_spans = (0..=self.below(2)).map(|_| resource(self)).collect();
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..5_usize, any::<bool>()).prop_map(|(few, is_strict)| {
        if !is_strict {
            return Limits::default();
        }
        Limits {
            span_items_max: few,
            span_events_max: few / 2,
            span_links_max: few / 3,
            span_attributes_max: 2 * few,
            span_value_bytes_max: ByteSize(30),
            nesting_max: few / 2,
            ..Limits::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whole_requests(seed in any::<u64>(), limits in limits()) {
        check(&Random::new(seed).request_of_spans(), &limits);
    }

    /// Fields in any order, several times, with keys and lengths longer than they need to be, and with unknown ones.
    #[test]
    fn requests_written_in_unusual_ways(seed in any::<u64>(), limits in limits()) {
        let usual = Random::new(seed).request_of_spans();
        check(&scramble::message(&usual, &json::TRACES_REQUEST, &mut Random::new(!seed)), &limits);
    }

    #[test]
    fn damaged_requests(seed in any::<u64>(), limits in limits()) {
        let (whole, mut random) = (Random::new(seed).request_of_spans(), Random::new(!seed));
        for _ in 0..8 {
            check(&scramble::damaged(&whole, &mut random), &limits);
        }
    }

    #[test]
    fn hostile_bytes(body in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), 0..80_u8, any::<u8>()], 0..200)) {
        check(&body, &Limits::default());
    }
}

/// What is written as usual does not take the general way: that is all there is to gain.
#[test]
fn usual_spans_are_read_from_the_wire() {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let attribute = |key: &str| KeyValue { key: key.to_owned(), value: text("v"), ..KeyValue::default() };
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "GET /".to_owned(),
        kind: 2,
        attributes: vec![attribute("a"), attribute("b")],
        events: vec![Event { name: "e".to_owned(), attributes: vec![attribute("c")], ..Event::default() }],
        links: vec![Link { trace_id: vec![1; 16], span_id: vec![3; 8], ..Link::default() }],
        status: Some(Status { code: 2, message: "no".to_owned() }),
        flags: 257,
        ..Span::default()
    };
    let (bytes, limits) = (span.encode_to_vec(), Limits::default());
    let usual = |bytes_max| usual_span::usual_span(&bytes, &limits, bytes_max, &mut usual_span::Hints::default());
    let (found, taken) = usual(1 << 20).expect("it is usual");
    assert_eq!(found, traces::span(span, &limits).unwrap());
    assert!(usual(taken).is_some() && usual(taken - 1).is_none());
}
