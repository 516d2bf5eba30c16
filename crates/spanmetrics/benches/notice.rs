//! What counting costs a span: traces of 20 spans over 12 services, as they come in requests of 50 traces.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pharos_base::SimClock;
use pharos_model::{
    Attribute, AttributeValue, Resource, Scope, Span, SpanBatch, SpanGroup, SpanId, SpanKind, TenantId, TraceId,
};
use pharos_spanmetrics::{ServiceGraphSettings, SpanMeter, SpanMetricsSettings};
use pharos_storage::SpanTap;

const SERVICES: u64 = 12;
const TRACES: u64 = 50;
const SPANS: u64 = 20;
/// Batches of other traces, so that memory of earlier ones is not met by chance.
const BATCHES: u64 = 20;

fn attribute(key: &str, value: AttributeValue) -> Attribute {
    Attribute { key: key.to_owned(), value }
}

/// Span `number` of a trace: a server, its work, the client that calls the next server, and so on; the last client calls
/// somebody who tells nothing.
fn span(trace: u64, number: u64) -> Span {
    let kind = [SpanKind::Server, SpanKind::Internal, SpanKind::Client][(number % 3) as usize];
    let (mut trace_id, start_ns) = ([0; 16], 1_700_000_000_000_000_000 + trace * 1_000_000);
    trace_id[..8].copy_from_slice(&trace.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let text = |text: String| AttributeValue::String(text);
    Span {
        trace_id: TraceId(trace_id),
        span_id: SpanId((trace * SPANS + number + 1).to_be_bytes()),
        parent_span_id: if number == 0 { SpanId::default() } else { SpanId((trace * SPANS + number).to_be_bytes()) },
        name: format!("GET /api/v1/resource/{}", number % 7),
        kind,
        start_ns,
        end_ns: start_ns + (trace * 7_919 + number * 104_729) % 900_000_000,
        attributes: vec![
            attribute("http.request.method", text("GET".to_owned())),
            attribute("url.path", text(format!("/api/v1/resource/{}", number % 7))),
            attribute("http.response.status_code", AttributeValue::Int(200)),
            attribute("user.id", text(format!("user-{trace}"))),
            attribute("server.address", text("shop.example.org".to_owned())),
            attribute("network.protocol.version", text("1.1".to_owned())),
            attribute("cache.hit", AttributeValue::Bool(true)),
            attribute("payload.bytes", AttributeValue::Int(1_234)),
        ],
        ..Span::default()
    }
}

fn batch(number: u64) -> SpanBatch {
    let number_of = |trace| number * TRACES + trace;
    let group = |service: u64| SpanGroup {
        resource: Arc::new(Resource {
            attributes: vec![
                attribute("host.name", AttributeValue::String("host".to_owned())),
                attribute("service.name", AttributeValue::String(format!("service-{service}"))),
            ],
            ..Resource::default()
        }),
        scope: Arc::new(Scope::default()),
        spans: (0..TRACES)
            .flat_map(|trace| (0..SPANS).map(move |span| (trace, span)))
            .filter(|(_, span)| span / 3 % SERVICES == service)
            .map(|(trace, number)| span(number_of(trace), number))
            .collect(),
    };
    SpanBatch { groups: (0..SERVICES).map(group).collect() }
}

fn notice(criterion: &mut Criterion) {
    let batches: Vec<SpanBatch> = (0..BATCHES).map(batch).collect();
    let tenant = TenantId::default();
    let mut group = criterion.benchmark_group("spanmetrics/notice");
    group.throughput(Throughput::Elements(TRACES * SPANS));
    for (name, red, graph) in [("red", true, false), ("graph", false, true), ("both", true, true)] {
        let clock = SimClock::at_ms(1_700_000_000_000);
        let meter = SpanMeter::new(
            SpanMetricsSettings { enabled: red, ..SpanMetricsSettings::default() },
            ServiceGraphSettings { enabled: graph, ..ServiceGraphSettings::default() },
            Arc::clone(&clock) as _,
        )
        .expect("the settings are sound");
        let mut next = 0;
        group.bench_function(name, |bencher| {
            // A copy is as warm in the caches as a batch that was just decoded.
            let setup = || {
                next = (next + 1) % batches.len();
                batches[next].clone()
            };
            let count = |batch: SpanBatch| {
                clock.advance_ms(500);
                meter.notice(&tenant, black_box(&batch)).stored();
                batch
            };
            bencher.iter_batched(setup, count, BatchSize::PerIteration);
        });
    }
    group.finish();
    let clock = SimClock::at_ms(1_700_000_000_000);
    let meter =
        SpanMeter::new(SpanMetricsSettings::default(), ServiceGraphSettings::default(), Arc::clone(&clock) as _)
            .expect("the settings are sound");
    for batch in &batches {
        meter.notice(&tenant, batch).stored();
    }
    let mut group = criterion.benchmark_group("spanmetrics/flush");
    group.throughput(Throughput::Elements(meter.stats().series));
    group.bench_function("series", |bencher| {
        bencher.iter(|| {
            clock.advance_ms(1);
            meter.flush(|_, batch| {
                black_box(batch);
                true
            });
        });
    });
    group.finish();
}

criterion_group!(benches, notice);
criterion_main!(benches);
