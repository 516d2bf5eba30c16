//! Merges of segments: they change no answer, and what was deleted or came twice leaves the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pharos_model::{Attribute, AttributeValue, Resource, Span, SpanBatch, SpanGroup, SpanId, TenantId, TraceId};
use pharos_storage::conformance::traces::{SpanGenerator, check_equal, random_query};
use pharos_storage::memory::MemoryTraceStore;
use pharos_storage::{BatchId, ReadContext, TraceLookup, TraceStore};

use crate::support::{Fixture, NOW_NS, settings};

/// Spans `numbers` of an endless run of traces of 20 spans, a millisecond apart.
fn run(numbers: std::ops::Range<u64>) -> SpanBatch {
    let spans = numbers.map(|number| {
        let attribute = Attribute { key: "number".into(), value: AttributeValue::Int(number as i64) };
        Span {
            trace_id: TraceId(u128::from(number / 20 + 1).to_be_bytes()),
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: SpanId(if number % 20 == 0 { 0 } else { number / 20 * 20 + 1 }.to_be_bytes()),
            name: format!("op{}", number % 7),
            start_ns: NOW_NS - 3_600_000_000_000 + number * 1_000_000,
            end_ns: NOW_NS - 3_600_000_000_000 + number * 1_000_000 + 5_000,
            attributes: vec![attribute],
            ..Span::default()
        }
    });
    let name = Attribute { key: "service.name".into(), value: AttributeValue::String("web".into()) };
    let resource = Arc::new(Resource { attributes: vec![name], ..Resource::default() });
    SpanBatch { groups: vec![SpanGroup { resource, scope: Arc::default(), spans: spans.collect() }] }
}

fn both(fixture: &Fixture, oracle: &MemoryTraceStore, batch: SpanBatch) {
    let _ = oracle.append(&TenantId::default(), batch.clone(), BatchId::random()).wait();
    fixture.append(batch).unwrap();
}

/// Blocks that are full are copied, those with traces of two seals are made anew: here each seal cuts a trace.
#[test]
fn traces_that_a_seal_cut_come_together() {
    let mut fixture = Fixture::new(settings());
    let oracle = MemoryTraceStore::new();
    // The third overlaps the second, as a sender that repeats itself does.
    for numbers in [0..3_010, 3_010..7_030, 5_000..9_000, 9_000..9_005] {
        both(&fixture, &oracle, run(numbers));
        fixture.store().flush().unwrap();
    }
    let ids: Vec<_> = (1..=451_u128).map(|number| TraceId(number.to_be_bytes())).collect();
    assert_eq!(fixture.store().stats().segments, 4);
    fixture.store().compact().unwrap();
    assert_eq!(fixture.store().stats().segments, 1);
    check_equal(fixture.store(), &oracle, &TenantId::default(), &ids, &[]);
    let before = fixture.store().stats().row_bytes;
    fixture.store().compact().unwrap();
    assert!(fixture.store().stats().row_bytes <= before, "nothing is left to merge");
    fixture.cut_power();
    check_equal(fixture.store(), &oracle, &TenantId::default(), &ids, &[]);
    // Equal spans are one now: as many bytes as if they had come once.
    let once = Fixture::new(settings());
    once.append(run(0..9_005)).unwrap();
    once.store().flush().unwrap();
    once.store().compact().unwrap();
    let (merged, once) = (fixture.store().stats().row_bytes, once.store().stats().row_bytes);
    assert!(merged < once * 11 / 10, "{merged} and {once}");
}

#[test]
fn many_small_segments_become_few_and_answers_stay() {
    let mut fixture = Fixture::new(settings());
    let oracle = MemoryTraceStore::new();
    let mut generator = SpanGenerator::new(17, NOW_NS, 40);
    for round in 0..70 {
        both(&fixture, &oracle, generator.batch());
        fixture.store().flush().unwrap();
        if round == 40 {
            fixture.cut_power();
        }
    }
    let segments = fixture.store().stats().segments;
    assert!(segments < 3 * 2 * 8, "three days, two orders of size: {segments}");
    let queries: Vec<_> = (0..30).map(|_| random_query(&mut generator)).collect();
    check_equal(fixture.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &queries);
    fixture.reopen();
    check_equal(fixture.store(), &oracle, &TenantId::default(), &generator.trace_ids(), &queries);
}

#[test]
fn deleted_traces_leave_the_disk_with_a_full_merge() {
    const BYTES: u64 = 400_000;
    let mut fixture = Fixture::new(settings());
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let large = Attribute { key: "k".into(), value: AttributeValue::Bytes((0..BYTES).map(|_| noise()).collect()) };
    let mut sent = run(0..40);
    sent.groups[0].spans[25].attributes.push(large);
    fixture.append(sent).unwrap();
    fixture.store().flush().unwrap();
    assert!(fixture.store().stats().row_bytes > BYTES);
    fixture.store().delete_trace(&TenantId::default(), TraceId(2_u128.to_be_bytes())).unwrap();
    fixture.store().compact().unwrap();
    assert!(fixture.store().stats().row_bytes < BYTES / 2);
    fixture.reopen();
    let lookups = [1_u128, 2].map(|number| TraceLookup { trace_id: TraceId(number.to_be_bytes()), range: None });
    let traces = fixture.store().traces(&TenantId::default(), &lookups, &ReadContext::unlimited()).unwrap();
    let traces: Vec<_> = traces.map(Result::unwrap).collect();
    assert_eq!(traces.len(), 1);
    assert_eq!(traces[0].groups[0].spans.len(), 20);
}

/// Whoever reads while segments are merged away finds everything all the time.
#[test]
fn reads_go_on_while_segments_are_merged() {
    let fixture = Fixture::new(settings());
    fixture.append(run(0..400)).unwrap();
    fixture.store().flush().unwrap();
    let is_done = AtomicBool::new(false);
    let lookups: Vec<_> =
        (1..=20_u128).map(|number| TraceLookup { trace_id: TraceId(number.to_be_bytes()), range: None }).collect();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !is_done.load(Ordering::SeqCst) || reads == 0 {
                let found = fixture.store().traces(&TenantId::default(), &lookups, &ReadContext::unlimited()).unwrap();
                let spans = found.map(|trace| trace.unwrap().groups[0].spans.len()).collect::<Vec<_>>();
                assert_eq!(spans, [20; 20]);
                reads += 1;
            }
        });
        for round in 1..=12 {
            fixture.append(run(round * 1000..round * 1000 + 30)).unwrap();
            fixture.store().flush().unwrap();
            if round % 4 == 0 {
                fixture.store().compact().unwrap();
            }
        }
        is_done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
}

/// Spans of traces that are not whole wait in memory; above its limit a trace is cut, and is whole in every read.
#[test]
fn traces_above_the_memory_of_a_merge_are_cut_and_read_whole() {
    const SPANS: u64 = 3_000;
    let mut fixture = Fixture::new(settings());
    let oracle = MemoryTraceStore::new();
    // A few traces that last all the time, with twice as much as a merge keeps of them (half of `rows_memory`).
    for part in 0..4 {
        let mut sent = run(part * SPANS..(part + 1) * SPANS);
        for (number, span) in (part * SPANS..).zip(&mut sent.groups[0].spans) {
            span.trace_id = TraceId(u128::from(number % 7 + 1).to_be_bytes());
            let mut noise = number;
            let text = std::iter::repeat_with(|| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b'a' + (noise >> 60) as u8)
            });
            let value = AttributeValue::String(text.take(800).collect());
            span.attributes.push(Attribute { key: "text".into(), value });
        }
        both(&fixture, &oracle, sent);
        fixture.store().flush().unwrap();
    }
    let ids: Vec<_> = (1..=7_u128).map(|number| TraceId(number.to_be_bytes())).collect();
    fixture.store().compact().unwrap();
    assert_eq!(fixture.store().stats().segments, 1);
    check_equal(fixture.store(), &oracle, &TenantId::default(), &ids, &[]);
    fixture.reopen();
    check_equal(fixture.store(), &oracle, &TenantId::default(), &ids, &[]);
}

/// What the merges of a day that gets no more spans wrote does not stay in memory, and what they merged not on disk.
#[test]
fn a_day_that_is_over_takes_no_more_than_its_spans() {
    const ROUNDS: u64 = 6;
    let spans = |number: u64| run(number * 3_010..(number + 1) * 3_010);
    let fixture = Fixture::new(settings());
    for number in 0..ROUNDS {
        fixture.append(spans(number)).unwrap();
        fixture.store().flush().unwrap();
    }
    let before = fixture.store().stats();
    assert_eq!(before.segments, ROUNDS);
    fixture.clock.advance_ms(36 * 3_600_000);
    for _ in 0..4 {
        fixture.store().flush().unwrap();
    }
    let after = fixture.store().stats();
    assert_eq!((after.segments, after.indexed_spans), (1, before.indexed_spans));
    assert!(after.row_bytes < before.row_bytes * 11 / 10, "{after:?} of {before:?}");
    // All of it is on disk: a copy of the days alone has the same spans.
    let image = crate::support::fast_directory();
    crate::support::copy_tree(fixture.directory.path(), image.path());
    std::fs::remove_dir_all(image.path().join("log")).unwrap();
    let copy = fixture.try_open(image.path()).unwrap();
    assert_eq!((copy.stats().segments, copy.stats().indexed_spans), (1, before.indexed_spans));
}
