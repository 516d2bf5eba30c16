//! The simulation as OTLP messages.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::calls::{SERVICES, Work};
use crate::meters::{DURATION_BOUNDS, Durations, Meters, Route};
use crate::traffic::{Side, SimulatedSpan};

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn resource(service: &str) -> Resource {
    let attributes = vec![
        text("service.name", service),
        text("service.namespace", "shop"),
        text("service.instance.id", &format!("{service}-1")),
        text("service.version", "1.4.2"),
        text("deployment.environment.name", "demo"),
        text("host.name", "demo-host"),
    ];
    Resource { attributes, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "pharos-demo".to_owned(), version: "1.0".to_owned(), ..Default::default() }
}

/// Spans grouped by service.
pub(crate) fn trace_request(spans: &[SimulatedSpan]) -> ExportTraceServiceRequest {
    let mut by_service: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for simulated in spans {
        by_service.entry(simulated.service).or_default().push(span(simulated));
    }
    let groups = by_service.into_iter().map(|(service, spans)| ResourceSpans {
        resource: Some(resource(service)),
        scope_spans: vec![ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: groups.collect() }
}

fn span(simulated: &SimulatedSpan) -> Span {
    let kind = if simulated.side == Side::Server { SpanKind::Server } else { SpanKind::Client };
    let mut span = Span {
        trace_id: simulated.trace_id.to_vec(),
        span_id: simulated.span_id.to_vec(),
        parent_span_id: simulated.parent_id.map(|id| id.to_vec()).unwrap_or_default(),
        name: simulated.call.name.to_owned(),
        kind: kind as i32,
        start_time_unix_nano: simulated.start_ns,
        end_time_unix_nano: simulated.end_ns,
        attributes: attributes(simulated),
        flags: 1,
        ..Span::default()
    };
    if simulated.failed {
        let message = if simulated.service == "payment" { "the provider timed out" } else { "a call failed" };
        span.status = Some(Status { code: StatusCode::Error as i32, message: message.to_owned() });
        span.events.push(Event {
            time_unix_nano: simulated.end_ns - 500,
            name: "exception".to_owned(),
            attributes: vec![text("exception.type", "CallFailed"), text("exception.message", message)],
            ..Event::default()
        });
    }
    span
}

fn attributes(simulated: &SimulatedSpan) -> Vec<KeyValue> {
    let call = simulated.call;
    let (verb, rest) = call.name.split_once(' ').unwrap_or((call.name, ""));
    match call.work {
        Work::Http => vec![
            text("http.request.method", verb),
            text("http.route", rest),
            attribute("http.response.status_code", any_value::Value::IntValue(status_code(simulated.failed))),
            text("server.address", call.service),
            attribute("shop.customer", any_value::Value::IntValue(i64::from(simulated.customer))),
        ],
        Work::Database | Work::Cache => vec![
            text("db.system.name", call.service),
            text("db.operation.name", verb),
            text("db.collection.name", rest),
            text("server.address", call.service),
        ],
    }
}

fn status_code(failed: bool) -> i64 {
    if failed { 500 } else { 200 }
}

/// All measurements at `at_ns`; the links to traces are handed over and forgotten.
pub(crate) fn metrics_request(meters: &mut Meters, started_at_ns: u64, at_ns: u64) -> ExportMetricsServiceRequest {
    let at = Instant { started_at_ns, at_ns };
    let resource_metrics = SERVICES.iter().map(|service| {
        let mut metrics = vec![at.request_durations(meters, service), at.memory(service)];
        if *service == "checkout" {
            metrics.extend(at.business(meters));
        }
        ResourceMetrics {
            resource: Some(resource(service)),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }
    });
    let request = ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() };
    meters.durations.values_mut().for_each(|durations| durations.links.clear());
    request
}

/// When points were measured, and since when they count.
#[derive(Clone, Copy)]
struct Instant {
    started_at_ns: u64,
    at_ns: u64,
}

impl Instant {
    fn request_durations(self, meters: &Meters, service: &str) -> Metric {
        let routes = meters.durations.iter().filter(|(route, _)| route.service == service);
        let data = metric::Data::Histogram(Histogram {
            data_points: routes.map(|(route, durations)| self.histogram_point(route, durations)).collect(),
            aggregation_temporality: CUMULATIVE,
        });
        metric_of("http.server.request.duration", "Duration of requests answered.", "s", data)
    }

    fn histogram_point(self, route: &Route, durations: &Durations) -> HistogramDataPoint {
        let (verb, path) = route.name.split_once(' ').unwrap_or((route.name, ""));
        let exemplars = durations.links.values().map(|link| Exemplar {
            time_unix_nano: link.at_ns,
            span_id: link.span_id.to_vec(),
            trace_id: link.trace_id.to_vec(),
            value: Some(exemplar::Value::AsDouble(link.seconds)),
            ..Exemplar::default()
        });
        HistogramDataPoint {
            attributes: vec![
                text("http.request.method", verb),
                text("http.route", path),
                attribute("http.response.status_code", any_value::Value::IntValue(status_code(route.failed))),
            ],
            start_time_unix_nano: self.started_at_ns,
            time_unix_nano: self.at_ns,
            count: durations.count,
            sum: Some(durations.sum),
            bucket_counts: durations.buckets.to_vec(),
            explicit_bounds: DURATION_BOUNDS.to_vec(),
            exemplars: exemplars.collect(),
            ..HistogramDataPoint::default()
        }
    }

    fn memory(self, service: &str) -> Metric {
        let bytes = number_data_point::Value::AsInt(Meters::memory_bytes(service, self.at_ns));
        let data = metric::Data::Gauge(Gauge { data_points: vec![self.point(Vec::new(), bytes)] });
        metric_of("process.memory.usage", "Memory in use.", "By", data)
    }

    fn business(self, meters: &Meters) -> [Metric; 3] {
        let count = |number: u64| number_data_point::Value::AsInt(number.cast_signed());
        let orders = vec![
            self.point(vec![text("outcome", "paid")], count(meters.orders)),
            self.point(vec![text("outcome", "failed")], count(meters.orders_failed)),
        ];
        let revenue = vec![self.point(Vec::new(), number_data_point::Value::AsDouble(meters.revenue))];
        let carts = vec![self.point(Vec::new(), number_data_point::Value::AsInt(meters.open_carts))];
        [
            metric_of("shop.orders", "Orders placed.", "{order}", sum(orders)),
            metric_of("shop.revenue", "Revenue of paid orders.", "{EUR}", sum(revenue)),
            metric_of(
                "shop.open_carts",
                "Carts with something in them.",
                "",
                metric::Data::Gauge(Gauge { data_points: carts }),
            ),
        ]
    }

    fn point(self, attributes: Vec<KeyValue>, value: number_data_point::Value) -> NumberDataPoint {
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.started_at_ns,
            time_unix_nano: self.at_ns,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }
}

fn sum(data_points: Vec<NumberDataPoint>) -> metric::Data {
    metric::Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
}

fn metric_of(name: &str, description: &str, unit: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}
