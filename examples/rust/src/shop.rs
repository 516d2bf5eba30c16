//! The everyday program: a shop that serves orders, asks a warehouse and counts what it does.
//! Read this one to see how a service is instrumented.

use std::time::{Duration, Instant};

use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry::trace::{
    FutureExt as _, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracer;

use crate::{Outcome, telemetry};

/// Places `orders` orders and sends everything before it returns.
pub(crate) async fn run(orders: u32, service_name: &str, protocol: &str) -> Outcome<()> {
    // OTEL_RESOURCE_ATTRIBUTES adds to what is given here.
    let resource = Resource::builder_empty()
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_service_name(service_name.to_owned())
        .build();
    let (tracers, meters) = telemetry::providers(&resource)?;
    let shop = Shop::new(tracers.tracer("pharos.examples/shop"), &meters.meter("pharos.examples/shop"));
    let mut last = TraceId::INVALID;
    for number in 0..orders {
        last = shop.place_order(number).await;
    }
    telemetry::close(&[&tracers], &meters)?;
    println!("sent {orders} orders by {protocol}; the last trace is {last}");
    Ok(())
}

struct Shop {
    tracer: SdkTracer,
    orders: Counter<u64>,
    duration: Histogram<f64>,
}

impl Shop {
    fn new(tracer: SdkTracer, meter: &Meter) -> Self {
        Self {
            tracer,
            orders: meter
                .u64_counter("shop.orders")
                .with_description("Orders by outcome.")
                .with_unit("{order}")
                .build(),
            duration: meter
                .f64_histogram("shop.order.duration")
                .with_description("Time to place an order.")
                .with_unit("s")
                .with_boundaries(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25])
                .build(),
        }
    }

    /// Serves one traced request; every seventh order meets an empty shelf.
    async fn place_order(&self, number: u32) -> TraceId {
        let started = Instant::now();
        let span = self
            .tracer
            .span_builder("POST /orders")
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("shop.order.number", i64::from(number))])
            .start(&self.tracer);
        let request = Context::current_with_span(span);
        // The future carries the span, so that what it starts becomes a child.
        let outcome = match self.reserve(number).with_context(request.clone()).await {
            Ok(()) => "accepted",
            Err(reason) => {
                request.span().set_status(Status::error(reason));
                "sold out"
            }
        };
        let labels = [KeyValue::new("shop.outcome", outcome)];
        self.orders.add(1, &labels);
        self.duration.record(started.elapsed().as_secs_f64(), &labels);
        request.span().span_context().trace_id()
    }

    async fn reserve(&self, number: u32) -> Result<(), &'static str> {
        let request = Context::current_with_span(self.tracer.start("reserve stock"));
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..=40))).await;
        if number % 7 == 6 {
            let reason = "the shelf is empty";
            request.span().set_status(Status::error(reason));
            return Err(reason);
        }
        request.span().add_event("reserved", vec![KeyValue::new("shop.shelf", i64::from(number % 3))]);
        Ok(())
    }
}
