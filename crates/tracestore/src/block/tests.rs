//! What goes in comes out; what is damaged is an error.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pharos_model::{
    Attribute, AttributeValue, Attributes, Link, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, StatusCode,
    TraceId,
};
use pharos_storage::conformance::traces::SpanGenerator;
use pharos_storage::render_attribute_value;
use proptest::prelude::*;

use super::{Block, BlockBuilder, BlockTrace, Field, Level};
use crate::codec::{DecodeError, OriginHash, RowBuilder, RowReader, encode_origin};

const NOW_NS: u64 = 1_795_230_000_000_000_000;

/// A span and where it comes from.
type Sent = (OriginHash, String, Span);

/// Pushes spans the way rows hold them.
fn push_trace(builder: &mut BlockBuilder, trace_id: TraceId, spans: &[Sent]) {
    let mut row = RowBuilder::default();
    for (origin, service, span) in spans {
        row.push_group(*origin, service, &[span], 0);
    }
    let row = row.finish();
    let reader = RowReader::new(&row, 0).unwrap();
    builder.begin_trace(trace_id);
    for span in reader.spans_with_details() {
        let (span, details) = span.unwrap();
        builder.push(span.origin, span.service, &span.skeleton, details).unwrap();
    }
}

fn block_of(traces: &[(TraceId, Vec<Sent>)]) -> Bytes {
    let mut builder = BlockBuilder::new();
    for (trace_id, spans) in traces {
        push_trace(&mut builder, *trace_id, spans);
    }
    builder.finish().into()
}

fn check(traces: &[(TraceId, Vec<Sent>)]) -> usize {
    let bytes = block_of(traces);
    let block = Block::open(&bytes).unwrap();
    let all: Vec<&Sent> = traces.iter().flat_map(|(_, spans)| spans).collect();
    assert_eq!(block.span_count() as usize, all.len());
    let starts = || all.iter().map(|(_, _, span)| span.start_ns);
    assert_eq!(block.starts(), (starts().min().unwrap_or(0), starts().max().unwrap_or(0)));
    let names: Result<Vec<_>, _> = block.names(0..block.span_count()).unwrap().collect();
    assert_eq!(names.unwrap(), all.iter().map(|(_, _, span)| span.name.as_str()).collect::<Vec<_>>());
    let times: Vec<_> = block.times().collect();
    assert_eq!(times, all.iter().map(|(_, _, span)| (span.start_ns, span.end_ns)).collect::<Vec<_>>());
    let with_spans: Vec<_> = traces.iter().filter(|(_, spans)| !spans.is_empty()).collect();
    assert_eq!(block.traces().len(), with_spans.len());
    for ((trace_id, sent), found) in with_spans.into_iter().zip(block.traces()) {
        assert_eq!(found.trace_id, *trace_id);
        let first: Option<&BlockTrace> = block.runs_of(*trace_id).next();
        assert_eq!(first.map(|first| first.trace_id), Some(*trace_id));
        let spans: Result<Vec<_>, _> = block.spans(*trace_id, found.spans.clone()).unwrap().collect();
        let skeletons: Result<Vec<_>, _> = block.skeletons(found.spans.clone()).unwrap().collect();
        let skeletons = skeletons.unwrap();
        assert_eq!(skeletons.len(), sent.len());
        for (((origin, span), (sent_origin, service, sent)), skeleton) in spans.unwrap().iter().zip(sent).zip(skeletons)
        {
            assert_eq!(format!("{span:?}"), format!("{sent:?}"));
            assert_eq!(span, sent);
            assert_eq!((origin, &skeleton.0, skeleton.1), (sent_origin, sent_origin, service.as_str()));
            assert_eq!((skeleton.2.kind, skeleton.2.status), (sent.kind, sent.status.code));
            assert_eq!((skeleton.2.span_id, skeleton.2.parent_span_id), (sent.span_id, sent.parent_span_id));
            assert_eq!((skeleton.2.start_ns, skeleton.2.end_ns), (sent.start_ns, sent.end_ns));
        }
    }
    bytes.len()
}

/// For values that are there and some that are not: the columns find the spans that have them.
fn check_search(traces: &[(TraceId, Vec<Sent>)]) {
    let bytes = block_of(traces);
    let block = Block::open(&bytes).unwrap();
    let spans: Vec<&Span> = traces.iter().flat_map(|(_, spans)| spans.iter().map(|(_, _, span)| span)).collect();
    let mut questions: BTreeSet<(String, String)> = BTreeSet::new();
    for attribute in spans.iter().flat_map(|span| &span.attributes) {
        let value = render_attribute_value(&attribute.value).into_owned();
        questions
            .extend([format!("{value}0"), format!("0{value}"), "+7".to_owned()].map(|no| (attribute.key.clone(), no)));
        questions.insert((attribute.key.clone(), value));
    }
    // Every text at every key would be many.
    let step = questions.len() / 150 + 1;
    for (key, value) in questions.iter().step_by(step) {
        let has = |span: &&Span| {
            span.attributes.iter().any(|one| one.key == *key && render_attribute_value(&one.value) == value.as_str())
        };
        let expected: BTreeSet<usize> = (0..spans.len()).filter(|span| has(&spans[*span])).collect();
        let mut found = BTreeSet::new();
        for column in block.columns().unwrap() {
            if (column.level, column.field, column.key) == (Level::Span, Field::Attribute, key.as_str()) {
                block.visit_shown(column.number, value, |span| found.extend([span])).unwrap();
            }
        }
        assert_eq!(found, expected, "{key}={value}");
    }
}

/// Traces as the conformance suite's generator makes them.
fn generated(seed: u64, batches: usize, traces: u8) -> Vec<(TraceId, Vec<Sent>)> {
    let mut generator = SpanGenerator::new(seed, NOW_NS, traces);
    let mut found: BTreeMap<TraceId, Vec<Sent>> = BTreeMap::new();
    for _ in 0..batches {
        for group in generator.batch().groups {
            let (origin, _) = encode_origin(&group.resource, &group.scope);
            for span in group.spans {
                found.entry(span.trace_id).or_default().push((origin, group.resource.service_name().to_owned(), span));
            }
        }
    }
    found.into_iter().collect()
}

fn sent(span: Span) -> Sent {
    let (origin, _) = encode_origin(&Resource::default(), &Scope::default());
    (origin, "unknown_service".to_owned(), span)
}

fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

#[test]
fn a_block_may_be_empty() {
    check(&[]);
    check(&[(TraceId([1; 16]), vec![])]);
}

#[test]
fn corner_cases_come_back_to_the_bit() {
    let nan = f64::from_bits(0x7ff8_dead_beef_0001);
    let mut deep = AttributeValue::Int(1);
    for _ in 0..60 {
        deep = AttributeValue::Array(vec![deep]);
    }
    let attributes: Attributes = vec![
        attribute("", AttributeValue::Empty),
        attribute("same", AttributeValue::String("a".to_owned())),
        attribute("same", AttributeValue::String("b".to_owned())),
        attribute("same", AttributeValue::Int(i64::MIN)),
        attribute("same", AttributeValue::Int(i64::MAX)),
        attribute("d", AttributeValue::Double(nan)),
        attribute("d", AttributeValue::Double(-0.0)),
        attribute("bytes", AttributeValue::Bytes(vec![0xff, 0, 0xfe])),
        attribute("bytes", AttributeValue::Bytes(vec![])),
        attribute("deep", deep),
        attribute("map", AttributeValue::Map(vec![attribute("k", AttributeValue::Empty); 2])),
        attribute("text", AttributeValue::String("0 00 7 -7 18446744073709551616 1.50 0x00".to_owned())),
    ];
    let event = SpanEvent {
        time_ns: u64::MAX,
        name: String::new(),
        attributes: attributes.clone(),
        dropped_attributes_count: u32::MAX,
    };
    let link = Link {
        trace_id: TraceId::default(),
        span_id: SpanId::default(),
        trace_state: "s=t".to_owned(),
        attributes: attributes.clone(),
        dropped_attributes_count: u32::MAX,
        flags: u32::MAX,
    };
    let mut span = Span {
        start_ns: u64::MAX,
        end_ns: 0,
        span_id: SpanId([9; 8]),
        parent_span_id: SpanId([9; 8]),
        trace_state: "x".to_owned(),
        flags: u32::MAX,
        kind: SpanKind::Consumer,
        attributes,
        dropped_attributes_count: u32::MAX,
        dropped_events_count: u32::MAX,
        dropped_links_count: 1,
        events: vec![event.clone(), SpanEvent::default(), event],
        links: vec![link.clone(), Link::default(), link],
        ..Span::default()
    };
    span.status.code = StatusCode::Error;
    span.status.message = "no\0thing".to_owned();
    let bare = Span { end_ns: u64::MAX, ..Span::default() };
    let stranger = Span { parent_span_id: SpanId([7; 8]), ..span.clone() };
    let mut spans: Vec<Sent> = [span, bare, stranger].map(sent).to_vec();
    for (_, _, span) in &mut spans {
        span.trace_id = TraceId([3; 16]);
    }
    check(&[(TraceId([3; 16]), spans.clone())]);
    check(&[(TraceId([3; 16]), spans.clone()), (TraceId([3; 16]), spans)]);
}

/// Texts of every form: few, numbered, long ones that repeat, long ones that do not, ids.
#[test]
fn texts_of_every_form_come_back() {
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 20
    };
    let spans = (0..700).map(|index| {
        let (a, b) = (next(), next());
        let words: String = (0..40).map(|_| ["alpha ", "beta ", "gamma ", "ß "][next() as usize % 4]).collect();
        let texts = [
            format!("GET items:{}", a % 1000),
            format!("{}.{}.{}", a % 10, b % 300, if a % 2 == 0 { "x".to_owned() } else { b.to_string() }),
            format!("{a:08x}-{:04x}-4{:03x}-8{:03x}-{b:012x}", b % 65536, a % 4096, b % 4096),
            format!("{a:016x}{b:016x}"),
            words.clone(),
            format!("{words} {a}").repeat(if index == 5 { 90 } else { 1 }),
            ["x", "y", "0", "00"][a as usize % 4].to_owned(),
            if a % 2 == 0 { format!("{:016}", a % 100_000) } else { format!("{:08x}{:08}", a as u32, b % 100_000_000) },
        ];
        let attributes = texts.iter().enumerate().filter(|(at, _)| (a >> at) % 8 > 0).flat_map(|(at, text)| {
            [
                attribute(&format!("text {at}"), AttributeValue::String(text.clone())),
                attribute(&format!("bytes {at}"), AttributeValue::Bytes(text.clone().into_bytes())),
            ]
        });
        sent(Span {
            name: format!("op {}", a % 500),
            start_ns: a,
            end_ns: b,
            attributes: attributes.collect(),
            ..Span::default()
        })
    });
    let traces: Vec<(TraceId, Vec<Sent>)> = vec![(TraceId::default(), spans.collect())];
    check(&traces);
    check_search(&traces);
    let bytes = block_of(&traces);
    let block = Block::open(&bytes).unwrap();
    for first in [1, 77, 350, 699] {
        let found: Result<Vec<_>, _> = block.spans(TraceId::default(), first..700).unwrap().collect();
        assert!(
            found
                .unwrap()
                .iter()
                .map(|(_, span)| span)
                .eq(traces[0].1[first as usize..].iter().map(|(_, _, span)| span))
        );
    }
}

#[test]
fn a_builder_is_as_good_as_new_after_each_block() {
    let mut builder = BlockBuilder::new();
    for seed in 0..4 {
        let traces = generated(seed, 8, 3);
        for (trace_id, spans) in &traces {
            push_trace(&mut builder, *trace_id, spans);
        }
        assert_eq!(builder.finish(), block_of(&traces));
        assert_eq!(builder.span_count(), 0);
    }
}

#[test]
fn every_flipped_bit_is_an_error_of_the_checksum() {
    let bytes = block_of(&generated(5, 4, 3));
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert_eq!(Block::open(&damaged.into()).err(), Some(DecodeError::Checksum("block")), "byte {at}");
    }
    for len in 0..bytes.len() {
        assert!(Block::open(&bytes.slice(..len)).is_err());
    }
}

/// Reads all that a block offers.
fn read_all(content: &[u8]) -> Result<(), DecodeError> {
    let block = Block::open_content(&Bytes::copy_from_slice(content))?;
    block.skeletons(0..block.span_count())?.try_for_each(|skeleton| skeleton.map(drop))?;
    block.names(0..block.span_count())?.try_for_each(|name| name.map(drop))?;
    for trace in block.traces() {
        block.spans(trace.trace_id, trace.spans.clone())?.try_for_each(|span| span.map(drop))?;
    }
    for column in block.columns()? {
        for text in ["500", "ada", "", "72.5"] {
            block.visit_shown(column.number, text, |_| {})?;
        }
        block.visit_passing(column.number, |_| true, |_| {})?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn generated_spans_come_back(seed in any::<u64>(), batches in 1_usize..30, traces in 1_u8..40) {
        let traces = generated(seed, batches, traces);
        check(&traces);
        check_search(&traces);
    }
}

proptest! {
    #[test]
    fn damage_with_a_right_checksum_does_not_panic(
        seed in 0_u64..20,
        changes in proptest::collection::vec((any::<u32>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut bytes = block_of(&generated(seed, 4, 3)).to_vec();
        bytes.truncate(bytes.len() - 8);
        let mut bytes = Block::with_plain_catalogue(&bytes).unwrap();
        prop_assert!(read_all(&bytes).is_ok());
        for (at, byte, how) in changes {
            let at = at as usize % bytes.len();
            match how {
                0 => bytes.truncate(bytes.len() - 1),
                1 => bytes.insert(at, byte),
                _ => bytes[at] = byte,
            }
        }
        let _ = read_all(&bytes);
    }
}
