"""The reference workload, part two: every kind of metric, and the series Prometheus clients see."""

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

SERVICE_NAMESPACE = "pharos.examples"
_OUTSIDE = Context()

# An exponential histogram, and an attribute that only exemplars keep.
VIEWS = [
    View(instrument_name="shop.payload.size", aggregation=ExponentialBucketHistogramAggregation(max_size=160, max_scale=20)),
    View(instrument_name="shop.request.duration", attribute_keys={"http.route"}),
]


class Instruments:
    """Every kind of instrument once."""

    def __init__(self, meter: Meter) -> None:
        self._orders = meter.create_counter("shop.orders", "{order}", "Orders placed.")
        self._revenue = meter.create_counter("shop.revenue", "EUR", "Money taken.")
        self._cart_items = meter.create_up_down_counter("shop.cart.items", description="Items in open carts.")
        self._temperature = meter.create_gauge("shop.room.temperature", "Cel", "Cold store.")
        self._duration = meter.create_histogram(
            "shop.request.duration", "s", "Time per request.", explicit_bucket_boundaries_advisory=[0.01, 0.1, 1.0]
        )
        self._payload = meter.create_histogram("shop.payload.size", "By", "Size per request.")
        queue = [lambda _: [Observation(0.25, {"queue": "発送"})]]
        meter.create_observable_gauge("shop.queue.utilization", queue, "1", "Queue fill.")
        meter.create_observable_counter("shop.network.sent", [lambda _: [Observation(2**40)]], "By", "Bytes sent.")
        meter.create_observable_up_down_counter("shop.workers", [lambda _: [Observation(4)]], description="Workers on duty.")

    def record(self, checkout: Context) -> None:
        """Measures outside any span and, for exemplars, once inside `checkout`."""
        labelled = {
            "payment.method": "card",
            "city": "Zürich 東京 🚚",
            "returning": True,
            "tier": 2,
            "share": 0.5,
            "1st.visit": '"yes"',
        }
        self._orders.add(41, labelled, _OUTSIDE)
        self._orders.add(1, labelled, checkout)
        self._orders.add(7, context=_OUTSIDE)
        self._revenue.add(0.1, context=_OUTSIDE)
        self._revenue.add(0.2, context=_OUTSIDE)
        self._cart_items.add(5, context=_OUTSIDE)
        self._cart_items.add(-7, context=_OUTSIDE)
        self._temperature.set(-18.5, context=_OUTSIDE)

        route = {"http.route": "/checkout"}
        self._duration.record(0.005, route, _OUTSIDE)
        self._duration.record(0.25, route | {"customer": "Ünal"}, checkout)
        self._duration.record(3.0, route, _OUTSIDE)
        for size in (0, 1, 2, 2, 4):
            self._payload.record(size, context=_OUTSIDE)
        self._payload.record(8, context=checkout)


def expected(resource: Mapping[str, Any], checkout: SpanContext) -> tuple[list[dict], list[dict]]:
    """What PromQL must answer: series and exemplars."""
    target = {"job": f"{SERVICE_NAMESPACE}/{resource['service.name']}", "instance": resource["service.instance.id"]}
    trace = {"trace_id": format_trace_id(checkout.trace_id), "span_id": format_span_id(checkout.span_id)}
    series: list[dict] = []
    exemplars: list[dict] = []

    def named(name: str, **labels: str) -> dict[str, str]:
        return {"__name__": name, **target, **labels}

    def add(kind: str, help_text: str, value: float, labels: dict[str, str]) -> None:
        series.append({"labels": labels, "type": kind, "help": help_text, "value": repr(value)})

    def exemplar_of(labels: dict[str, str], value: float, **own: str) -> None:
        exemplars.append({"series": labels, "labels": {**trace, **own}, "value": repr(value)})

    orders = named(
        "shop_orders_total",
        payment_method="card",
        city="Zürich 東京 🚚",
        returning="true",
        tier="2",
        share="0.5",
        key_1st_visit='"yes"',
    )
    add("counter", "Orders placed.", 42, orders)
    exemplar_of(orders, 1)
    add("counter", "Orders placed.", 7, named("shop_orders_total"))
    add("counter", "Money taken.", 0.1 + 0.2, named("shop_revenue_EUR_total"))
    add("gauge", "Items in open carts.", -2, named("shop_cart_items"))
    add("gauge", "Cold store.", -18.5, named("shop_room_temperature_celsius"))
    add("gauge", "Queue fill.", 0.25, named("shop_queue_utilization_ratio", queue="発送"))
    add("counter", "Bytes sent.", 2**40, named("shop_network_sent_bytes_total"))
    add("gauge", "Workers on duty.", 4, named("shop_workers"))

    duration, help_text, route = "shop_request_duration_seconds", "Time per request.", {"http_route": "/checkout"}
    for le, count in {"0.01": 1, "0.1": 1, "1": 2, "+Inf": 3}.items():
        add("histogram", help_text, count, named(f"{duration}_bucket", **route, le=le))
    add("histogram", help_text, 3, named(f"{duration}_count", **route))
    add("histogram", help_text, 0.005 + 0.25 + 3.0, named(f"{duration}_sum", **route))
    exemplar_of(named(f"{duration}_bucket", **route, le="1"), 0.25, customer="Ünal")

    # 1, 2, 4 and 8 in 160 buckets: scale 5 is the finest that holds three octaves.
    buckets = [[-1, "1"], [31, "2"], [63, "1"], [95, "1"]]
    payload = {"scale": 5, "zeroCount": "1", "count": "6", "sum": "17", "positive": buckets}
    labels = named("shop_payload_size_bytes")
    series.append({"labels": labels, "type": "histogram", "help": "Size per request.", "histogram": payload})
    exemplar_of(labels, 8)

    identity = ("service.name", "service.namespace", "service.instance.id")  # In job and instance.
    info = {key.replace(".", "_"): _text(value) for key, value in resource.items() if key not in identity}
    add("gauge", "Target metadata", 1, named("target_info", **info))
    return series, exemplars


def _text(value: Any) -> str:
    """A resource attribute as a label value: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
