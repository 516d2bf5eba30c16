//! The reference workload, part two: every kind of metric, and the series Prometheus clients see.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, Stream};
use serde_json::{Value as Json, json};

use crate::reference::Labels;

pub(crate) const SERVICE_NAMESPACE: &str = "pharos.examples";

/// A view: one instrument becomes an exponential histogram.
pub(crate) fn exponential_histogram(instrument: &Instrument) -> Option<Stream> {
    if instrument.name() != "shop.payload.size" {
        return None;
    }
    let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// Every kind of instrument once; the observed ones live in the meter.
pub(crate) struct Instruments {
    orders: Counter<u64>,
    revenue: Counter<f64>,
    cart_items: UpDownCounter<i64>,
    temperature: Gauge<f64>,
    duration: Histogram<f64>,
    payload: Histogram<u64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        meter
            .f64_observable_gauge("shop.queue.utilization")
            .with_description("Queue fill.")
            .with_unit("1")
            .with_callback(|queue| queue.observe(0.25, &[KeyValue::new("queue", "発送")]))
            .build();
        meter
            .u64_observable_counter("shop.network.sent")
            .with_description("Bytes sent.")
            .with_unit("By")
            .with_callback(|sent| sent.observe(1 << 40, &[]))
            .build();
        meter
            .i64_observable_up_down_counter("shop.workers")
            .with_description("Workers on duty.")
            .with_callback(|workers| workers.observe(4, &[]))
            .build();
        Self {
            orders: meter.u64_counter("shop.orders").with_description("Orders placed.").with_unit("{order}").build(),
            revenue: meter.f64_counter("shop.revenue").with_description("Money taken.").with_unit("EUR").build(),
            cart_items: meter.i64_up_down_counter("shop.cart.items").with_description("Items in open carts.").build(),
            temperature: meter
                .f64_gauge("shop.room.temperature")
                .with_description("Cold store.")
                .with_unit("Cel")
                .build(),
            duration: meter
                .f64_histogram("shop.request.duration")
                .with_description("Time per request.")
                .with_unit("s")
                .with_boundaries(vec![0.01, 0.1, 1.0])
                .build(),
            payload: meter
                .u64_histogram("shop.payload.size")
                .with_description("Size per request.")
                .with_unit("By")
                .build(),
        }
    }

    /// Measures every instrument.
    pub(crate) fn record(&self) {
        let labelled = [
            KeyValue::new("payment.method", "card"),
            KeyValue::new("city", "Zürich 東京 🚚"),
            KeyValue::new("returning", true),
            KeyValue::new("tier", 2),
            KeyValue::new("share", 0.5),
            KeyValue::new("1st.visit", "\"yes\""),
        ];
        self.orders.add(41, &labelled);
        self.orders.add(1, &labelled);
        self.orders.add(7, &[]);
        self.revenue.add(0.1, &[]);
        self.revenue.add(0.2, &[]);
        self.cart_items.add(5, &[]);
        self.cart_items.add(-7, &[]);
        self.temperature.record(-18.5, &[]);
        for seconds in [0.005, 0.25, 3.0] {
            self.duration.record(seconds, &[KeyValue::new("http.route", "/checkout")]);
        }
        for size in [0, 1, 2, 2, 4, 8] {
            self.payload.record(size, &[]);
        }
    }
}

/// What PromQL must answer.
pub(crate) fn expected_metrics(resource: &Resource) -> Vec<Json> {
    let attribute = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string()).unwrap_or_default();
    let (job, instance) =
        (format!("{SERVICE_NAMESPACE}/{}", attribute("service.name")), attribute("service.instance.id"));
    let named = |name: &str, labels: &[(&str, &str)]| -> Labels {
        [("__name__", name), ("job", &job), ("instance", &instance)]
            .iter()
            .chain(labels)
            .map(|&(label, value)| (label.to_owned(), value.to_owned()))
            .collect()
    };
    let sample = |kind: &str, help: &str, value: f64, labels: Labels| json!({ "labels": labels, "type": kind, "help": help, "value": value.to_string() });

    let orders = [
        ("payment_method", "card"),
        ("city", "Zürich 東京 🚚"),
        ("returning", "true"),
        ("tier", "2"),
        ("share", "0.5"),
        ("key_1st_visit", "\"yes\""),
    ];
    let mut series = vec![
        sample("counter", "Orders placed.", 42.0, named("shop_orders_total", &orders)),
        sample("counter", "Orders placed.", 7.0, named("shop_orders_total", &[])),
        sample("counter", "Money taken.", 0.1 + 0.2, named("shop_revenue_EUR_total", &[])),
        sample("gauge", "Items in open carts.", -2.0, named("shop_cart_items", &[])),
        sample("gauge", "Cold store.", -18.5, named("shop_room_temperature_celsius", &[])),
        sample("gauge", "Queue fill.", 0.25, named("shop_queue_utilization_ratio", &[("queue", "発送")])),
        sample("counter", "Bytes sent.", (1_u64 << 40) as f64, named("shop_network_sent_bytes_total", &[])),
        sample("gauge", "Workers on duty.", 4.0, named("shop_workers", &[])),
    ];

    let (help, route) = ("Time per request.", ("http_route", "/checkout"));
    for (le, count) in [("0.01", 1.0), ("0.1", 1.0), ("1", 2.0), ("+Inf", 3.0)] {
        series.push(sample(
            "histogram",
            help,
            count,
            named("shop_request_duration_seconds_bucket", &[route, ("le", le)]),
        ));
    }
    series.push(sample("histogram", help, 3.0, named("shop_request_duration_seconds_count", &[route])));
    series.push(sample("histogram", help, 0.005 + 0.25 + 3.0, named("shop_request_duration_seconds_sum", &[route])));

    // 1, 2, 4 and 8 in 160 buckets: scale 5 is the finest that holds three octaves.
    series.push(json!({
        "labels": named("shop_payload_size_bytes", &[]),
        "type": "histogram",
        "help": "Size per request.",
        "histogram": {
            "scale": 5, "zeroCount": "1", "count": "6", "sum": "17",
            "positive": [[-1, "1"], [31, "2"], [63, "1"], [95, "1"]],
        },
    }));

    let mut info = named("target_info", &[]);
    info.extend(
        resource
            .iter()
            .filter(|(key, _)| !["service.name", "service.namespace", "service.instance.id"].contains(&key.as_str()))
            .map(|(key, value)| (key.as_str().replace('.', "_"), value.to_string())),
    );
    series.push(sample("gauge", "Target metadata", 1.0, info));
    series
}
