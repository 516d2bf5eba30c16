package main

// The everyday program: a shop whose frontend serves orders, asks a warehouse and counts what it
// does. Read this one to see how a service is instrumented.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

type shop struct {
	tracer   trace.Tracer
	orders   metric.Int64Counter
	duration metric.Float64Histogram
}

func runShop(ctx context.Context, orders int) error {
	// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over the default given here.
	res, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "example-shop-go")),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	tracers, meters, err := newProviders(ctx, res)
	if err != nil {
		return err
	}

	meter := meters.Meter("pharos.examples/shop")
	counter, countErr := meter.Int64Counter("shop.orders",
		metric.WithDescription("Orders by outcome."), metric.WithUnit("{order}"))
	histogram, histogramErr := meter.Float64Histogram("shop.order.duration",
		metric.WithDescription("Time to place an order."), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.1, 0.25))
	if err := errors.Join(countErr, histogramErr); err != nil {
		return err
	}
	s := shop{tracer: tracers.Tracer("pharos.examples/shop"), orders: counter, duration: histogram}

	var last trace.TraceID
	for number := range orders {
		if ctx.Err() != nil {
			break
		}
		last = s.placeOrder(ctx, number)
	}

	// Shutdown flushes both pipelines; without it the last batch is lost.
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
	defer cancel()
	if err := errors.Join(tracers.Shutdown(flush), meters.Shutdown(flush)); err != nil {
		return err
	}
	fmt.Printf("sent %d orders by %s; the last trace is %s\n", orders, protocol(), last)
	return nil
}

// placeOrder is one traced request; every seventh order meets an empty shelf.
func (s shop) placeOrder(ctx context.Context, number int) trace.TraceID {
	started := time.Now()
	ctx, span := s.tracer.Start(ctx, "POST /orders", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.Int("shop.order.number", number)))
	defer span.End()

	outcome := "accepted"
	if err := s.reserve(ctx, number); err != nil {
		outcome = "sold out"
		span.SetStatus(codes.Error, err.Error())
	}
	labels := metric.WithAttributes(attribute.String("shop.outcome", outcome))
	// With ctx the SDK can attach the trace as an exemplar: one click from the graph to the trace.
	s.orders.Add(ctx, 1, labels)
	s.duration.Record(ctx, time.Since(started).Seconds(), labels)
	return span.SpanContext().TraceID()
}

func (s shop) reserve(ctx context.Context, number int) error {
	_, span := s.tracer.Start(ctx, "reserve stock")
	defer span.End()
	time.Sleep(time.Duration(1+rand.IntN(40)) * time.Millisecond)
	if number%7 == 6 {
		err := errors.New("the shelf is empty")
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
		return err
	}
	span.AddEvent("reserved", trace.WithAttributes(attribute.Int("shop.shelf", number%3)))
	return nil
}
