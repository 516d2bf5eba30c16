"""The everyday program: a shop that serves orders, asks a warehouse and counts what it does.

Read this one to see how a service is instrumented.
"""

import random
import time

from opentelemetry.metrics import Meter
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, format_trace_id

import telemetry


class EmptyShelf(Exception):
    """The warehouse has nothing left."""


class Shop:
    """One service with its tracer and its instruments."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._orders = meter.create_counter("shop.orders", "{order}", "Orders by outcome.")
        self._duration = meter.create_histogram(
            "shop.order.duration",
            "s",
            "Time to place an order.",
            explicit_bucket_boundaries_advisory=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25],
        )

    def place_order(self, number: int) -> int:
        """Serves one traced request and returns its trace id; every seventh meets an empty shelf."""
        started = time.perf_counter()
        attributes = {"shop.order.number": number}
        with self._tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER, attributes=attributes) as span:
            outcome = "accepted"
            try:
                self._reserve(number)
            except EmptyShelf as error:
                outcome = "sold out"
                span.set_status(Status(StatusCode.ERROR, str(error)))
            # Measured inside the span, so that the SDK can attach the trace as an exemplar:
            # one click from the graph to the trace.
            self._orders.add(1, {"shop.outcome": outcome})
            self._duration.record(time.perf_counter() - started, {"shop.outcome": outcome})
            return span.get_span_context().trace_id

    def _reserve(self, number: int) -> None:
        # The context manager records the exception and sets the status by itself.
        with self._tracer.start_as_current_span("reserve stock") as span:
            time.sleep(random.uniform(0.001, 0.04))
            if number % 7 == 6:
                raise EmptyShelf("the shelf is empty")
            span.add_event("reserved", {"shop.shelf": number % 3})


def run(orders: int) -> None:
    """Places `orders` orders and sends everything before it returns."""
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over the default given here.
    defaults = Resource({"service.name": "example-shop-python"})
    tracers, meters = telemetry.providers(defaults.merge(_from_environment()))
    shop = Shop(tracers.get_tracer("pharos.examples/shop"), meters.get_meter("pharos.examples/shop"))
    last = 0
    for number in range(orders):
        last = shop.place_order(number)
    # Shutdown flushes both pipelines; without it the last batch is lost.
    tracers.shutdown()
    meters.shutdown()
    print(f"sent {orders} orders by {telemetry.protocol()}; the last trace is {format_trace_id(last)}")


def _from_environment() -> Resource:
    """What the environment says, without the SDK's own `unknown_service`."""
    found = Resource.create()
    named = not found.attributes["service.name"].startswith("unknown_service")
    return Resource({k: v for k, v in found.attributes.items() if named or k != "service.name"})
