"""The set-up a service needs: exporters chosen by the standard environment variables.

Nothing here is particular to Pharos: it speaks OTLP as it is.

    OTEL_EXPORTER_OTLP_PROTOCOL   grpc or http/protobuf (the default)
    OTEL_EXPORTER_OTLP_ENDPOINT   e.g. http://localhost:4317 (gRPC) or http://localhost:4318 (HTTP)
    OTEL_EXPORTER_OTLP_HEADERS    Authorization=Bearer%20TOKEN

The exporters read endpoint, headers, timeout, compression and certificates themselves.
"""

import logging
import os

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

_EXPORTERS = {
    "grpc": (GrpcSpanExporter, GrpcMetricExporter),
    "http/protobuf": (HttpSpanExporter, HttpMetricExporter),
}


class LostTelemetry(logging.Handler):
    """Remembers that the SDK reported an error: it logs a failed export and goes on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.happened = False
        logging.getLogger("opentelemetry").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.happened = True


def protocol() -> str:
    """The value of OTEL_EXPORTER_OTLP_PROTOCOL.

    Python has one package per protocol, so the program, not the SDK, has to look at it.
    """
    value = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if value not in _EXPORTERS:
        raise SystemExit(f"OTEL_EXPORTER_OTLP_PROTOCOL={value}: use {' or '.join(_EXPORTERS)}")
    return value


def span_exporter() -> SpanExporter:
    """Opens the span exporter of the chosen protocol."""
    return _EXPORTERS[protocol()][0]()


def metric_exporter() -> MetricExporter:
    """Opens the metric exporter of the chosen protocol."""
    return _EXPORTERS[protocol()][1]()


def providers(resource: Resource) -> tuple[TracerProvider, MeterProvider]:
    """Wires both exporters to one resource: what a service does once, at its start."""
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(span_exporter()))
    meters = MeterProvider([PeriodicExportingMetricReader(metric_exporter())], resource)
    return tracers, meters
