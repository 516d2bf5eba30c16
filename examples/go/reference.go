package main

// What was sent, as ../README.md specifies it: spans as OTLP/JSON, taken from the SDK on their way
// to the exporter; metric series as Prometheus shows them, stated beside each instrument.

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const referenceSchema = "pharos-example-reference/1"

type object = map[string]any

type reference struct {
	Schema        string     `json:"schema"`
	SDK           object     `json:"sdk"`
	Window        object     `json:"window"`
	ResourceSpans []object   `json:"resourceSpans"`
	Series        []series   `json:"series"`
	Exemplars     []exemplar `json:"exemplars"`
}

type series struct {
	Labels    map[string]string `json:"labels"`
	Type      string            `json:"type"`
	Help      string            `json:"help,omitempty"`
	Value     string            `json:"value,omitempty"`
	Histogram object            `json:"histogram,omitempty"`
}

type exemplar struct {
	Series map[string]string `json:"series"`
	Labels map[string]string `json:"labels"`
	Value  string            `json:"value"`
}

func newReference() *reference {
	return &reference{
		Schema: referenceSchema,
		SDK:    object{"language": "go", "version": otel.Version(), "protocol": protocol()},
	}
}

func (r *reference) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// recordingExporter keeps what it passes on.
type recordingExporter struct {
	sdktrace.SpanExporter
	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan
}

func (e *recordingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spans = append(e.spans, spans...)
	return nil
}

// resourceSpans renders the recorded spans, which share one resource and one scope.
func (e *recordingExporter) resourceSpans() object {
	e.mu.Lock()
	defer e.mu.Unlock()
	first, rendered := e.spans[0], make([]object, 0, len(e.spans))
	for _, span := range e.spans {
		rendered = append(rendered, otlpSpan(span))
	}
	return object{
		"resource":  object{"attributes": otlpAttributes(first.Resource().Attributes())},
		"schemaUrl": first.Resource().SchemaURL(),
		"scopeSpans": []object{{
			"scope":     otlpScope(first.InstrumentationScope()),
			"schemaUrl": first.InstrumentationScope().SchemaURL,
			"spans":     rendered,
		}},
	}
}

func otlpScope(scope instrumentation.Scope) object {
	return object{"name": scope.Name, "version": scope.Version, "attributes": otlpAttributes(scope.Attributes.ToSlice())}
}

func otlpSpan(span sdktrace.ReadOnlySpan) object {
	context, parent := span.SpanContext(), span.Parent()
	parentID := ""
	if parent.SpanID().IsValid() {
		parentID = parent.SpanID().String()
	}
	events := make([]object, 0, len(span.Events()))
	for _, event := range span.Events() {
		events = append(events, object{
			"name": event.Name, "timeUnixNano": decimal(event.Time.UnixNano()),
			"attributes": otlpAttributes(event.Attributes), "droppedAttributesCount": event.DroppedAttributeCount,
		})
	}
	links := make([]object, 0, len(span.Links()))
	for _, link := range span.Links() {
		// No traceState: the exporter of 1.47 does not send the one the SDK has.
		links = append(links, object{
			"traceId": link.SpanContext.TraceID().String(), "spanId": link.SpanContext.SpanID().String(),
			"traceState": "", "flags": otlpFlags(link.SpanContext, link.SpanContext),
			"attributes": otlpAttributes(link.Attributes), "droppedAttributesCount": link.DroppedAttributeCount,
		})
	}
	return object{
		"traceId": context.TraceID().String(), "spanId": context.SpanID().String(), "parentSpanId": parentID,
		"traceState": context.TraceState().String(), "flags": otlpFlags(context, parent),
		"name": span.Name(), "kind": otlpKind(span.SpanKind()),
		"startTimeUnixNano": decimal(span.StartTime().UnixNano()), "endTimeUnixNano": decimal(span.EndTime().UnixNano()),
		"attributes": otlpAttributes(span.Attributes()), "events": events, "links": links,
		"droppedAttributesCount": span.DroppedAttributes(),
		"droppedEventsCount":     span.DroppedEvents(), "droppedLinksCount": span.DroppedLinks(),
		"status": object{"code": otlpStatus(span.Status().Code), "message": span.Status().Description},
	}
}

// otlpFlags are the W3C flags and, above them, whether the parent is known to be remote.
func otlpFlags(context, parent trace.SpanContext) int {
	const hasIsRemote, isRemote = 0x100, 0x200
	flags := int(context.TraceFlags()) | hasIsRemote
	if parent.IsRemote() {
		flags |= isRemote
	}
	return flags
}

// otlpKind: the SDK counts from unspecified, internal on exactly as OTLP does.
func otlpKind(kind trace.SpanKind) int { return int(kind) }

// otlpStatus: OTLP has ok = 1 and error = 2, the SDK the other way round.
func otlpStatus(code codes.Code) int {
	switch code {
	case codes.Ok:
		return 1
	case codes.Error:
		return 2
	default:
		return 0
	}
}

func otlpAttributes(attributes []attribute.KeyValue) []object {
	rendered := make([]object, 0, len(attributes))
	for _, a := range attributes {
		rendered = append(rendered, object{"key": string(a.Key), "value": otlpValue(a.Value)})
	}
	return rendered
}

func otlpValue(value attribute.Value) object {
	switch value.Type() {
	case attribute.BOOL:
		return object{"boolValue": value.AsBool()}
	case attribute.INT64:
		return object{"intValue": decimal(value.AsInt64())}
	case attribute.FLOAT64:
		return object{"doubleValue": value.AsFloat64()}
	case attribute.STRING:
		return object{"stringValue": value.AsString()}
	case attribute.BYTESLICE:
		return object{"bytesValue": base64.StdEncoding.EncodeToString(value.AsByteSlice())}
	case attribute.BOOLSLICE:
		return otlpArray(value.AsBoolSlice(), attribute.BoolValue)
	case attribute.INT64SLICE:
		return otlpArray(value.AsInt64Slice(), attribute.Int64Value)
	case attribute.FLOAT64SLICE:
		return otlpArray(value.AsFloat64Slice(), attribute.Float64Value)
	case attribute.STRINGSLICE:
		return otlpArray(value.AsStringSlice(), attribute.StringValue)
	case attribute.SLICE:
		return otlpArray(value.AsSlice(), func(v attribute.Value) attribute.Value { return v })
	case attribute.MAP:
		return object{"kvlistValue": object{"values": otlpAttributes(value.AsMap())}}
	default:
		return object{}
	}
}

func otlpArray[T any](values []T, wrap func(T) attribute.Value) object {
	rendered := make([]object, 0, len(values))
	for _, value := range values {
		rendered = append(rendered, otlpValue(wrap(value)))
	}
	return object{"arrayValue": object{"values": rendered}}
}

func decimal(value int64) string { return strconv.FormatInt(value, 10) }

// number writes a sample as the Prometheus API does.
func number(value float64) string {
	if math.IsInf(value, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(value, 'f', -1, 64)
}
