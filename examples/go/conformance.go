package main

// The reference workload, part one: wiring, and the spans of ../README.md, "The workload".

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	frontendService  = "example-frontend-go"
	warehouseService = "example-warehouse-go"
	serviceNamespace = "pharos.examples"
	scopeName        = "pharos.examples/conformance"
	scopeVersion     = "1.0.0"
	scopeSchemaURL   = "https://opentelemetry.io/schemas/1.26.0"
)

func runConformance(ctx context.Context, path string) error {
	ref, started, instance := newReference(), time.Now(), randomHex(8)
	frontend, frontendSpans, err := conformanceTracers(ctx, conformanceResource(frontendService, instance), sdktrace.NewSpanLimits())
	if err != nil {
		return err
	}
	limits := sdktrace.NewSpanLimits()
	limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 4, 2, 1
	limits.AttributePerEventCountLimit, limits.AttributePerLinkCountLimit = 1, 1
	warehouse, warehouseSpans, err := conformanceTracers(ctx, conformanceResource(warehouseService, instance), limits)
	if err != nil {
		return err
	}
	metrics, err := newMetricExporter(ctx)
	if err != nil {
		return err
	}
	meters := sdkmetric.NewMeterProvider(
		sdkmetric.WithResource(conformanceResource(frontendService, instance)),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics)), sdkmetric.WithView(conformanceViews()...))
	instruments, err := newInstruments(meters.Meter(scopeName, scopeMeterOptions()...))
	if err != nil {
		return err
	}

	checkout := sendSpans(
		frontend.Tracer(scopeName, trace.WithInstrumentationVersion(scopeVersion), trace.WithSchemaURL(scopeSchemaURL),
			trace.WithInstrumentationAttributes(attribute.String("example.scope", "façade"))),
		warehouse.Tracer("warehouse"), started)
	instruments.record(checkout)

	flush, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	if err := errors.Join(frontend.Shutdown(flush), warehouse.Shutdown(flush), meters.Shutdown(flush)); err != nil {
		return err
	}
	ref.Window = object{"startUnixNano": decimal(started.UnixNano()), "endUnixNano": decimal(time.Now().UnixNano())}
	ref.ResourceSpans = []object{frontendSpans.resourceSpans(), warehouseSpans.resourceSpans()}
	expectMetrics(ref, conformanceResource(frontendService, instance), trace.SpanContextFromContext(checkout))
	if err := ref.write(path); err != nil {
		return err
	}
	fmt.Printf("sent %d spans and %d series by %s\n", len(frontendSpans.spans)+len(warehouseSpans.spans), len(ref.Series), protocol())
	return nil
}

func conformanceTracers(ctx context.Context, res *resource.Resource, limits sdktrace.SpanLimits) (*sdktrace.TracerProvider, *recordingExporter, error) {
	exporter, err := newSpanExporter(ctx)
	if err != nil {
		return nil, nil, err
	}
	recording := &recordingExporter{SpanExporter: exporter}
	return sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(recording), sdktrace.WithRawSpanLimits(limits)), recording, nil
}

// conformanceResource: `instance` tells one run from the next.
func conformanceResource(service, instance string) *resource.Resource {
	return resource.NewSchemaless(
		attribute.String("service.name", service),
		attribute.String("service.namespace", serviceNamespace),
		attribute.String("service.instance.id", instance),
		attribute.String("service.version", "1.2.3"),
		attribute.String("deployment.environment.name", "Prüfstand"),
		attribute.Int("example.replicas", 3),
		attribute.Bool("example.canary", true),
		attribute.Float64("example.weight", 0.5),
		attribute.StringSlice("example.zones", []string{"a", "b"}),
		attribute.String("telemetry.sdk.language", "go"),
	)
}

// sendSpans sends two traces over two services and returns the context of the first span, for
// exemplars. Times are stated to the nanosecond, so that a backend that rounds is found out.
func sendSpans(frontend, warehouse trace.Tracer, started time.Time) context.Context {
	at := func(nanoseconds int64) trace.SpanEventOption {
		return trace.WithTimestamp(started.Add(time.Duration(nanoseconds)))
	}
	propagator := propagation.TraceContext{}
	incoming := propagator.Extract(context.Background(), propagation.MapCarrier{
		"traceparent": "00-" + randomHex(16) + "-" + randomHex(8) + "-01",
		"tracestate":  "pharos=example,congo=t61rcWkgMzE",
	})

	checkout, checkoutSpan := frontend.Start(incoming, "GET /checkout", at(0),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(everyType()...))

	_, cart := frontend.Start(checkout, "validate cart", at(1_000_001))
	cart.AddEvent("cart.loaded", at(1_000_002),
		trace.WithAttributes(attribute.Int("cart.items", 3), attribute.String("note", "naïve 東京"), attribute.Bool("cached", false)))
	cart.AddEvent("cart.priced", at(1_234_567))
	cart.SetStatus(codes.Ok, "")
	cart.End(at(1_999_999))

	client, clientSpan := frontend.Start(checkout, "POST /reserve", at(2_000_003), trace.WithSpanKind(trace.SpanKindClient))
	wire := propagation.MapCarrier{}
	propagator.Inject(client, wire)
	reserve, reserveSpan := warehouse.Start(propagator.Extract(context.Background(), wire), "reserve stock", at(2_100_007),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithLinks(overLimitLinks(cart, checkoutSpan)...))
	for shelf := range 6 {
		reserveSpan.SetAttributes(attribute.Int(fmt.Sprintf("shelf.%d", shelf), shelf))
	}
	for try := range 3 {
		reserveSpan.AddEvent("try", at(2_200_000+int64(try)),
			trace.WithAttributes(attribute.Int("number", try), attribute.String("beyond", "the limit")))
	}
	_, query := warehouse.Start(reserve, "SELECT stock", at(2_300_000), trace.WithSpanKind(trace.SpanKindClient))
	query.AddEvent("exception", at(2_400_009), trace.WithAttributes(attribute.String("exception.message", "deadlock")))
	query.SetStatus(codes.Error, "deadlock detected: Zeile 7 “stock”")
	query.End(at(2_500_000))
	reserveSpan.End(at(2_600_000))
	clientSpan.End(at(2_700_000))

	_, publish := frontend.Start(checkout, "orders publish", at(3_000_000), trace.WithSpanKind(trace.SpanKindProducer))
	publish.End(at(3_000_900))
	checkoutSpan.End(at(4_000_000))

	process, processSpan := warehouse.Start(context.Background(), "orders process", at(5_000_000), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(trace.Link{SpanContext: publish.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("messaging.operation", "receive")}}))
	_, ship := warehouse.Start(process, "🚚 Versand 発送", at(5_000_001))
	ship.End(at(5_000_001))
	processSpan.End(at(6_000_000))
	return checkout
}

// everyType: one attribute of every type and every awkward value the SDK can express.
func everyType() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("http.request.method", "GET"),
		attribute.String("example.empty", ""),
		attribute.String("example.unicode", "Zürich 東京 🚚 \"quoted\" back\\slash\nnew line"),
		attribute.String("schlüssel", "wert"),
		attribute.Bool("example.true", true),
		attribute.Bool("example.false", false),
		attribute.Int64("example.int", 42),
		attribute.Int64("example.int.beyond_double", 1<<53+1),
		attribute.Int64("example.int.max", math.MaxInt64),
		attribute.Int64("example.int.min", math.MinInt64),
		attribute.Float64("example.double", 0.1),
		attribute.Float64("example.double.digits", 0.0017000000000000001),
		attribute.Float64("example.double.whole", 2),
		attribute.Float64("example.double.tiny", math.SmallestNonzeroFloat64),
		attribute.Float64("example.double.huge", math.MaxFloat64),
		attribute.StringSlice("example.strings", []string{"a", "", "東京"}),
		attribute.BoolSlice("example.bools", []bool{true, false}),
		attribute.Int64Slice("example.ints", []int64{1, -2, 1<<53 + 1}),
		attribute.Float64Slice("example.doubles", []float64{0.1, 2.5}),
		attribute.StringSlice("example.nothing", []string{}),
		attribute.ByteSlice("example.bytes", []byte{0x00, 0x01, 0xfe, 0xff}),
		attribute.Slice("example.mixed", attribute.StringValue("one"), attribute.IntValue(2), attribute.BoolValue(true)),
		attribute.Map("example.map", attribute.String("city", "Zürich"), attribute.Int("zip", 8001)),
	}
}

// overLimitLinks: two links, each with two attributes, where one of each is allowed.
func overLimitLinks(spans ...trace.Span) []trace.Link {
	links := make([]trace.Link, 0, len(spans))
	for number, span := range spans {
		links = append(links, trace.Link{SpanContext: span.SpanContext(), Attributes: []attribute.KeyValue{
			attribute.Int("number", number), attribute.String("beyond", "the limit")}})
	}
	return links
}

func randomHex(bytes int) string {
	id := make([]byte, bytes)
	_, _ = rand.Read(id) // Never fails, by its documentation.
	return hex.EncodeToString(id)
}
