//! The reference workload, part one: wiring, and the spans of `../README.md`, "The workload".

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanLimits};
use serde_json::json;

use crate::conformance_metrics::{Instruments, SERVICE_NAMESPACE, expected_metrics, exponential_histogram};
use crate::reference::{Delivered, RecordingExporter, SCHEMA, resource_spans, unix_nano};
use crate::{Outcome, telemetry};

const FRONTEND_SERVICE: &str = "example-frontend-rust";
const WAREHOUSE_SERVICE: &str = "example-warehouse-rust";
/// The SDK does not tell its own version except as a resource attribute.
const SDK_VERSION_KEY: &str = "telemetry.sdk.version";

/// Sends the workload, waits until it is delivered, writes the reference.
pub(crate) fn run(path: &Path, protocol: &str) -> Outcome<()> {
    let (started, instance) = (SystemTime::now(), random_hex::<8>());
    let (frontend_resource, warehouse_resource) =
        (resource(FRONTEND_SERVICE, &instance), resource(WAREHOUSE_SERVICE, &instance));
    let limits = SpanLimits {
        max_attributes_per_span: 4,
        max_events_per_span: 2,
        max_links_per_span: 1,
        max_attributes_per_event: 1,
        max_attributes_per_link: 1,
    };
    let (frontend, frontend_spans) = tracer_provider(&frontend_resource, SpanLimits::default())?;
    let (warehouse, warehouse_spans) = tracer_provider(&warehouse_resource, limits)?;
    let meters = SdkMeterProvider::builder()
        .with_resource(frontend_resource.clone())
        .with_periodic_exporter(MetricExporter::builder().build()?)
        .with_view(exponential_histogram)
        .build();

    let scope = InstrumentationScope::builder("pharos.examples/conformance")
        .with_version("1.0.0")
        .with_schema_url("https://opentelemetry.io/schemas/1.26.0")
        .with_attributes([KeyValue::new("example.scope", "façade")])
        .build();
    let instruments = Instruments::new(&meters.meter_with_scope(scope.clone()));
    let warehouse_scope = InstrumentationScope::builder("warehouse").build();
    send_spans(
        &frontend.tracer_with_scope(scope.clone()),
        &warehouse.tracer_with_scope(warehouse_scope.clone()),
        started,
    );
    instruments.record();
    telemetry::close(&[&frontend, &warehouse], &meters)?;

    let frontend_spans = frontend_spans.lock().unwrap_or_else(PoisonError::into_inner);
    let warehouse_spans = warehouse_spans.lock().unwrap_or_else(PoisonError::into_inner);
    let series = expected_metrics(&frontend_resource);
    let sdk_version = Resource::builder().build().get(&SDK_VERSION_KEY.into()).map(|version| version.to_string());
    let reference = json!({
        "schema": SCHEMA,
        "sdk": { "language": "rust", "version": sdk_version, "protocol": protocol },
        "window": { "startUnixNano": unix_nano(started), "endUnixNano": unix_nano(SystemTime::now()) },
        "resourceSpans": [
            resource_spans(&frontend_resource, &scope, &frontend_spans),
            resource_spans(&warehouse_resource, &warehouse_scope, &warehouse_spans),
        ],
        "series": series,
        "exemplars": [], // The SDK of 0.33 does not collect any.
    });
    fs::write(path, format!("{reference:#}\n"))?;
    println!("sent {} spans and {} series by {protocol}", frontend_spans.len() + warehouse_spans.len(), series.len());
    Ok(())
}

fn tracer_provider(resource: &Resource, limits: SpanLimits) -> Outcome<(SdkTracerProvider, Delivered)> {
    let (exporter, delivered) = RecordingExporter::new(SpanExporter::builder().build()?);
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_limits(limits)
        .with_batch_exporter(exporter)
        .build();
    Ok((provider, delivered))
}

/// `instance` tells one run from the next.
fn resource(service: &'static str, instance: &str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.namespace", SERVICE_NAMESPACE),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", "1.2.3"),
            KeyValue::new("deployment.environment.name", "Prüfstand"),
            KeyValue::new("example.replicas", 3),
            KeyValue::new("example.canary", true),
            KeyValue::new("example.weight", 0.5),
            KeyValue::new("example.zones", strings(&["a", "b"])),
            KeyValue::new("telemetry.sdk.language", "rust"),
        ])
        .build()
}

/// Sends two traces over two services. Times are stated to the nanosecond, so that a backend that rounds
/// is found out.
fn send_spans(frontend: &SdkTracer, warehouse: &SdkTracer, started: SystemTime) {
    let at = |nanoseconds: u64| started + Duration::from_nanos(nanoseconds);
    let propagator = TraceContextPropagator::new();
    let headers = HashMap::from([
        ("traceparent".to_owned(), format!("00-{}-{}-01", random_hex::<16>(), random_hex::<8>())),
        ("tracestate".to_owned(), "pharos=example,congo=t61rcWkgMzE".to_owned()),
    ]);
    let incoming = propagator.extract_with_context(&Context::new(), &headers);
    let checkout = span(frontend, "GET /checkout", SpanKind::Server, at(0), &incoming, |builder| {
        builder.with_attributes(every_type())
    });

    let cart = span(frontend, "validate cart", SpanKind::Internal, at(1_000_001), &checkout, |builder| builder);
    let loaded =
        vec![KeyValue::new("cart.items", 3), KeyValue::new("note", "naïve 東京"), KeyValue::new("cached", false)];
    cart.span().add_event_with_timestamp("cart.loaded", at(1_000_002), loaded);
    cart.span().add_event_with_timestamp("cart.priced", at(1_234_567), Vec::new());
    cart.span().set_status(Status::Ok);
    cart.span().end_with_timestamp(at(1_999_999));

    let client = span(frontend, "POST /reserve", SpanKind::Client, at(2_000_003), &checkout, |builder| builder);
    let mut wire = HashMap::new();
    propagator.inject_context(&client, &mut wire);
    // Two links, each with two attributes, where one of each is allowed.
    let links = [&cart, &checkout].into_iter().zip(0..).map(|(linked, number)| {
        link(linked, vec![KeyValue::new("number", number), KeyValue::new("beyond", "the limit")])
    });
    let received = propagator.extract_with_context(&Context::new(), &wire);
    let reserve = span(warehouse, "reserve stock", SpanKind::Server, at(2_100_007), &received, |builder| {
        builder.with_links(links.collect())
    });
    for shelf in 0..6 {
        reserve.span().set_attribute(KeyValue::new(format!("shelf.{shelf}"), shelf));
    }
    for number in 0..3 {
        let attributes = vec![KeyValue::new("number", number), KeyValue::new("beyond", "the limit")];
        reserve.span().add_event_with_timestamp("try", at(2_200_000 + number.unsigned_abs()), attributes);
    }
    let query = span(warehouse, "SELECT stock", SpanKind::Client, at(2_300_000), &reserve, |builder| builder);
    query.span().add_event_with_timestamp(
        "exception",
        at(2_400_009),
        vec![KeyValue::new("exception.message", "deadlock")],
    );
    query.span().set_status(Status::error("deadlock detected: Zeile 7 “stock”"));
    query.span().end_with_timestamp(at(2_500_000));
    reserve.span().end_with_timestamp(at(2_600_000));
    client.span().end_with_timestamp(at(2_700_000));

    let publish = span(frontend, "orders publish", SpanKind::Producer, at(3_000_000), &checkout, |builder| builder);
    publish.span().end_with_timestamp(at(3_000_900));
    checkout.span().end_with_timestamp(at(4_000_000));

    let process = span(warehouse, "orders process", SpanKind::Consumer, at(5_000_000), &Context::new(), |builder| {
        builder.with_links(vec![link(&publish, vec![KeyValue::new("messaging.operation", "receive")])])
    });
    let ship = span(warehouse, "🚚 Versand 発送", SpanKind::Internal, at(5_000_001), &process, |builder| builder);
    ship.span().end_with_timestamp(at(5_000_001));
    process.span().end_with_timestamp(at(6_000_000));
}

/// Starts a span below `parent` and returns the context that carries it.
fn span(
    tracer: &SdkTracer,
    name: &'static str,
    kind: SpanKind,
    started: SystemTime,
    parent: &Context,
    more: impl FnOnce(SpanBuilder) -> SpanBuilder,
) -> Context {
    let builder = more(tracer.span_builder(name).with_kind(kind).with_start_time(started));
    parent.with_span(builder.start_with_context(tracer, parent))
}

fn link(to: &Context, attributes: Vec<KeyValue>) -> Link {
    let context: SpanContext = to.span().span_context().clone();
    Link::new(context, attributes, 0)
}

/// One attribute of every type and every awkward value the SDK can express.
fn every_type() -> Vec<KeyValue> {
    const BEYOND_DOUBLE: i64 = (1 << 53) + 1;
    vec![
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("example.empty", ""),
        KeyValue::new("example.unicode", "Zürich 東京 🚚 \"quoted\" back\\slash\nnew line"),
        KeyValue::new("schlüssel", "wert"),
        KeyValue::new("example.true", true),
        KeyValue::new("example.false", false),
        KeyValue::new("example.int", 42),
        KeyValue::new("example.int.beyond_double", BEYOND_DOUBLE),
        KeyValue::new("example.int.max", i64::MAX),
        KeyValue::new("example.int.min", i64::MIN),
        KeyValue::new("example.double", 0.1),
        KeyValue::new("example.double.digits", 0.001_700_000_000_000_000_1),
        KeyValue::new("example.double.whole", 2.0),
        KeyValue::new("example.double.tiny", 5e-324),
        KeyValue::new("example.double.huge", f64::MAX),
        KeyValue::new("example.strings", strings(&["a", "", "東京"])),
        KeyValue::new("example.bools", Value::Array(Array::Bool(vec![true, false]))),
        KeyValue::new("example.ints", Value::Array(Array::I64(vec![1, -2, BEYOND_DOUBLE]))),
        KeyValue::new("example.doubles", Value::Array(Array::F64(vec![0.1, 2.5]))),
        KeyValue::new("example.nothing", strings(&[])),
    ]
}

fn strings(values: &[&'static str]) -> Value {
    Value::Array(Array::String(values.iter().map(|&value| value.into()).collect()))
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes);
    hex::encode(bytes)
}
