"""The reference workload, part one: wiring, and the spans of ../README.md, "The workload"."""

import secrets
import sys
import time
from pathlib import Path

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import conformance_metrics
import reference
import telemetry

FRONTEND_SERVICE = "example-frontend-python"
WAREHOUSE_SERVICE = "example-warehouse-python"
SCOPE = ("pharos.examples/conformance", "1.0.0")
SCOPE_SCHEMA_URL = "https://opentelemetry.io/schemas/1.26.0"


def run(path: Path, lost: telemetry.LostTelemetry) -> None:
    """Sends the workload, waits until it is delivered, writes the reference unless something was lost."""
    started, instance = time.time_ns(), secrets.token_hex(8)
    limits = SpanLimits(max_span_attributes=4, max_events=2, max_links=1, max_event_attributes=1, max_link_attributes=1)
    frontend, frontend_spans = _tracers(_resource(FRONTEND_SERVICE, instance), SpanLimits())
    warehouse, warehouse_spans = _tracers(_resource(WAREHOUSE_SERVICE, instance), limits)
    metric_resource = _resource(FRONTEND_SERVICE, instance)
    reader = PeriodicExportingMetricReader(telemetry.metric_exporter())
    meters = MeterProvider([reader], metric_resource, views=conformance_metrics.VIEWS)
    instruments = conformance_metrics.Instruments(meters.get_meter(*SCOPE, schema_url=SCOPE_SCHEMA_URL))

    tracer = frontend.get_tracer(*SCOPE, schema_url=SCOPE_SCHEMA_URL, attributes={"example.scope": "façade"})
    checkout = _send_spans(tracer, warehouse.get_tracer("warehouse"), started)
    instruments.record(set_span_in_context(checkout))
    for provider in (frontend, warehouse, meters):
        provider.shutdown()
    if lost.happened:
        return

    series, exemplars = conformance_metrics.expected(metric_resource.attributes, checkout.get_span_context())
    recorded = [frontend_spans.resource_spans(), warehouse_spans.resource_spans()]
    reference.write(path, telemetry.protocol(), (started, time.time_ns()), recorded, series, exemplars)
    count = len(frontend_spans.spans) + len(warehouse_spans.spans)
    print(f"sent {count} spans and {len(series)} series by {telemetry.protocol()}")


def _tracers(resource: Resource, limits: SpanLimits) -> tuple[TracerProvider, reference.RecordingExporter]:
    recording = reference.RecordingExporter(telemetry.span_exporter())
    tracers = TracerProvider(resource=resource, span_limits=limits)
    tracers.add_span_processor(BatchSpanProcessor(recording))
    return tracers, recording


def _resource(service: str, instance: str) -> Resource:
    """`instance` tells one run from the next."""
    return Resource(
        {
            "service.name": service,
            "service.namespace": conformance_metrics.SERVICE_NAMESPACE,
            "service.instance.id": instance,
            "service.version": "1.2.3",
            "deployment.environment.name": "Prüfstand",
            "example.replicas": 3,
            "example.canary": True,
            "example.weight": 0.5,
            "example.zones": ["a", "b"],
            "telemetry.sdk.language": "python",
        }
    )


def _send_spans(frontend: Tracer, warehouse: Tracer, started: int) -> Span:
    """Sends two traces over two services and returns the first span, for exemplars.

    Times are stated to the nanosecond, so that a backend that rounds is found out.
    """
    propagator = TraceContextTextMapPropagator()
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    incoming = propagator.extract({"traceparent": traceparent, "tracestate": "pharos=example,congo=t61rcWkgMzE"})
    checkout = frontend.start_span("GET /checkout", incoming, SpanKind.SERVER, _every_type(), start_time=started)
    inside = set_span_in_context(checkout)

    cart = frontend.start_span("validate cart", inside, start_time=started + 1_000_001)
    cart.add_event("cart.loaded", {"cart.items": 3, "note": "naïve 東京", "cached": False}, started + 1_000_002)
    cart.add_event("cart.priced", timestamp=started + 1_234_567)
    cart.set_status(Status(StatusCode.OK))
    cart.end(started + 1_999_999)

    client = frontend.start_span("POST /reserve", inside, SpanKind.CLIENT, start_time=started + 2_000_003)
    wire: dict[str, str] = {}
    propagator.inject(wire, set_span_in_context(client))
    # Two links, each with two attributes, where one of each is allowed.
    links = [
        Link(span.get_span_context(), {"number": number, "beyond": "the limit"}) for number, span in enumerate((cart, checkout))
    ]
    reserve = warehouse.start_span(
        "reserve stock", propagator.extract(wire), SpanKind.SERVER, links=links, start_time=started + 2_100_007
    )
    for shelf in range(6):
        reserve.set_attribute(f"shelf.{shelf}", shelf)
    for number in range(3):
        reserve.add_event("try", {"number": number, "beyond": "the limit"}, started + 2_200_000 + number)
    query = warehouse.start_span("SELECT stock", set_span_in_context(reserve), SpanKind.CLIENT, start_time=started + 2_300_000)
    query.add_event("exception", {"exception.message": "deadlock"}, started + 2_400_009)
    query.set_status(Status(StatusCode.ERROR, "deadlock detected: Zeile 7 “stock”"))
    query.end(started + 2_500_000)
    reserve.end(started + 2_600_000)
    client.end(started + 2_700_000)

    publish = frontend.start_span("orders publish", inside, SpanKind.PRODUCER, start_time=started + 3_000_000)
    publish.end(started + 3_000_900)
    checkout.end(started + 4_000_000)

    received = [Link(publish.get_span_context(), {"messaging.operation": "receive"})]
    process = warehouse.start_span("orders process", Context(), SpanKind.CONSUMER, links=received, start_time=started + 5_000_000)
    ship = warehouse.start_span("🚚 Versand 発送", set_span_in_context(process), start_time=started + 5_000_001)
    ship.end(started + 5_000_001)
    process.end(started + 6_000_000)
    return checkout


def _every_type() -> dict:
    """One attribute of every type and every awkward value the SDK can express."""
    return {
        "http.request.method": "GET",
        "example.empty": "",
        "example.unicode": 'Zürich 東京 🚚 "quoted" back\\slash\nnew line',
        "schlüssel": "wert",
        "example.true": True,
        "example.false": False,
        "example.int": 42,
        "example.int.beyond_double": 2**53 + 1,
        "example.int.max": 2**63 - 1,
        "example.int.min": -(2**63),
        "example.double": 0.1,
        "example.double.digits": 0.0017000000000000001,
        "example.double.whole": 2.0,
        "example.double.tiny": 5e-324,
        "example.double.huge": sys.float_info.max,
        "example.strings": ["a", "", "東京"],
        "example.bools": [True, False],
        "example.ints": [1, -2, 2**53 + 1],
        "example.doubles": [0.1, 2.5],
        "example.nothing": [],
        "example.bytes": b"\x00\x01\xfe\xff",
        "example.mixed": ["one", 2, True],
        "example.map": {"city": "Zürich", "zip": 8001},
    }
