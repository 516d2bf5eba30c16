"""What was sent, as ../README.md specifies it.

Spans are OTLP/JSON, taken from the SDK on their way to the exporter; metric series are as
Prometheus shows them, stated beside each instrument.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import SpanContext, TraceState, format_span_id, format_trace_id

SCHEMA = "pharos-example-reference/1"
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200


class RecordingExporter(SpanExporter):
    """Keeps what it passes on."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.spans.extend(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def resource_spans(self) -> dict[str, Any]:
        """The recorded spans, which share one resource and one scope."""
        resource, scope = self.spans[0].resource, self.spans[0].instrumentation_scope
        return {
            "resource": {"attributes": _attributes(resource.attributes)},
            "schemaUrl": resource.schema_url,
            "scopeSpans": [
                {
                    "scope": {"name": scope.name, "version": scope.version or "", "attributes": _attributes(scope.attributes)},
                    "schemaUrl": scope.schema_url or "",
                    "spans": [_span(span) for span in self.spans],
                }
            ],
        }


def write(path: Path, protocol: str, window: tuple[int, int], resource_spans: list, series: list, exemplars: list) -> None:
    """Writes the reference file."""
    content = {
        "schema": SCHEMA,
        "sdk": {"language": "python", "version": sdk_version, "protocol": protocol},
        "window": {"startUnixNano": str(window[0]), "endUnixNano": str(window[1])},
        "resourceSpans": resource_spans,
        "series": series,
        "exemplars": exemplars,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "traceId": format_trace_id(context.trace_id),
        "spanId": format_span_id(context.span_id),
        "parentSpanId": format_span_id(span.parent.span_id) if span.parent else "",
        "traceState": _trace_state(context.trace_state),
        "flags": _flags(span.parent),
        "name": span.name,
        "kind": span.kind.value + 1,  # The SDK counts from internal = 0, OTLP from unspecified = 0.
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes),
        "events": [
            {
                "name": event.name,
                "timeUnixNano": str(event.timestamp),
                "attributes": _attributes(event.attributes),
                "droppedAttributesCount": event.dropped_attributes,
            }
            for event in span.events
        ],
        "links": [
            {
                "traceId": format_trace_id(link.context.trace_id),
                "spanId": format_span_id(link.context.span_id),
                "traceState": "",  # The exporter of 1.45 does not send the one the SDK has.
                "flags": _flags(link.context),
                "attributes": _attributes(link.attributes),
                "droppedAttributesCount": link.dropped_attributes,
            }
            for link in span.links
        ],
        "droppedAttributesCount": span.dropped_attributes,
        "droppedEventsCount": span.dropped_events,
        "droppedLinksCount": span.dropped_links,
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
    }


def _flags(parent: SpanContext | None) -> int:
    """Whether the parent is known to be remote; the exporter of 1.45 leaves the W3C flags out."""
    return _HAS_IS_REMOTE | (_IS_REMOTE if parent and parent.is_remote else 0)


def _trace_state(state: TraceState) -> str:
    return ",".join(f"{key}={value}" for key, value in state.items())


def _attributes(attributes: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in (attributes or {}).items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():  # Before int: in Python a bool is one.
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case Mapping():
            return {"kvlistValue": {"values": _attributes(value)}}
        case Sequence():
            return {"arrayValue": {"values": [_value(one) for one in value]}}
        case _:
            return {}
