package main

// The set-up a service needs: exporters chosen by the standard environment variables, a tracer
// provider and a meter provider. Nothing here is particular to Pharos: it speaks OTLP as it is.
//
//	OTEL_EXPORTER_OTLP_PROTOCOL   grpc or http/protobuf (the default)
//	OTEL_EXPORTER_OTLP_ENDPOINT   e.g. http://localhost:4317 (gRPC) or http://localhost:4318 (HTTP)
//	OTEL_EXPORTER_OTLP_HEADERS    Authorization=Bearer%20TOKEN
//
// The exporters read endpoint, headers, timeout, compression and certificates themselves.

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// protocol is the value of OTEL_EXPORTER_OTLP_PROTOCOL. Go has one package per protocol, so the
// program, not the SDK, has to look at it.
func protocol() string {
	if value := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); value != "" {
		return value
	}
	return protocolHTTP
}

// newSpanExporter opens the span exporter of the chosen protocol.
func newSpanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	switch protocol() {
	case protocolGRPC:
		return otlptracegrpc.New(ctx)
	case protocolHTTP:
		return otlptracehttp.New(ctx)
	default:
		return nil, unknownProtocol()
	}
}

// newMetricExporter opens the metric exporter of the chosen protocol.
func newMetricExporter(ctx context.Context) (sdkmetric.Exporter, error) {
	switch protocol() {
	case protocolGRPC:
		return otlpmetricgrpc.New(ctx)
	case protocolHTTP:
		return otlpmetrichttp.New(ctx)
	default:
		return nil, unknownProtocol()
	}
}

func unknownProtocol() error {
	return fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%s: use %s or %s", protocol(), protocolGRPC, protocolHTTP)
}

// newProviders wires both exporters to one resource: what a service does once, at its start.
func newProviders(ctx context.Context, res *resource.Resource) (*sdktrace.TracerProvider, *sdkmetric.MeterProvider, error) {
	spans, err := newSpanExporter(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("span exporter: %w", err)
	}
	metrics, err := newMetricExporter(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("metric exporter: %w", err)
	}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(spans))
	meters := sdkmetric.NewMeterProvider(
		sdkmetric.WithResource(res), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics)))
	return tracers, meters, nil
}
