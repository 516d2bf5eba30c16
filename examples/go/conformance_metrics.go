package main

// The reference workload, part two: every kind of metric, and the series Prometheus clients see.

import (
	"context"
	"errors"
	"maps"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

type instruments struct {
	orders      metric.Int64Counter
	revenue     metric.Float64Counter
	cartItems   metric.Int64UpDownCounter
	temperature metric.Float64Gauge
	duration    metric.Float64Histogram
	payload     metric.Int64Histogram
}

func scopeMeterOptions() []metric.MeterOption {
	return []metric.MeterOption{metric.WithInstrumentationVersion(scopeVersion), metric.WithSchemaURL(scopeSchemaURL)}
}

// conformanceViews: an exponential histogram, and an attribute that only exemplars keep.
func conformanceViews() []sdkmetric.View {
	return []sdkmetric.View{
		sdkmetric.NewView(sdkmetric.Instrument{Name: "shop.payload.size"},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}}),
		sdkmetric.NewView(sdkmetric.Instrument{Name: "shop.request.duration"},
			sdkmetric.Stream{AttributeFilter: attribute.NewDenyKeysFilter("customer")}),
	}
}

func newInstruments(meter metric.Meter) (*instruments, error) {
	var i instruments
	errs := make([]error, 9)
	i.orders, errs[0] = meter.Int64Counter("shop.orders", metric.WithDescription("Orders placed."), metric.WithUnit("{order}"))
	i.revenue, errs[1] = meter.Float64Counter("shop.revenue", metric.WithDescription("Money taken."), metric.WithUnit("EUR"))
	i.cartItems, errs[2] = meter.Int64UpDownCounter("shop.cart.items", metric.WithDescription("Items in open carts."))
	i.temperature, errs[3] = meter.Float64Gauge("shop.room.temperature", metric.WithDescription("Cold store."), metric.WithUnit("Cel"))
	i.duration, errs[4] = meter.Float64Histogram("shop.request.duration", metric.WithDescription("Time per request."),
		metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(0.01, 0.1, 1))
	i.payload, errs[5] = meter.Int64Histogram("shop.payload.size", metric.WithDescription("Size per request."), metric.WithUnit("By"))
	_, errs[6] = meter.Float64ObservableGauge("shop.queue.utilization", metric.WithDescription("Queue fill."), metric.WithUnit("1"),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(0.25, metric.WithAttributes(attribute.String("queue", "発送")))
			return nil
		}))
	_, errs[7] = meter.Int64ObservableCounter("shop.network.sent", metric.WithDescription("Bytes sent."), metric.WithUnit("By"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error { o.Observe(1 << 40); return nil }))
	_, errs[8] = meter.Int64ObservableUpDownCounter("shop.workers", metric.WithDescription("Workers on duty."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error { o.Observe(4); return nil }))
	return &i, errors.Join(errs...)
}

// record measures once outside any span and, for exemplars, once inside `checkout`.
func (i *instruments) record(checkout context.Context) {
	outside := context.Background()
	labelled := metric.WithAttributes(attribute.String("payment.method", "card"), attribute.String("city", "Zürich 東京 🚚"),
		attribute.Bool("returning", true), attribute.Int("tier", 2), attribute.Float64("share", 0.5), attribute.String("1st.visit", `"yes"`))
	i.orders.Add(outside, 41, labelled)
	i.orders.Add(checkout, 1, labelled)
	i.orders.Add(outside, 7)
	i.revenue.Add(outside, 0.1)
	i.revenue.Add(outside, 0.2)
	i.cartItems.Add(outside, 5)
	i.cartItems.Add(outside, -7)
	i.temperature.Record(outside, -18.5)

	route := attribute.String("http.route", "/checkout")
	i.duration.Record(outside, 0.005, metric.WithAttributes(route))
	i.duration.Record(checkout, 0.25, metric.WithAttributes(route, attribute.String("customer", "Ünal")))
	i.duration.Record(outside, 3, metric.WithAttributes(route))
	for _, size := range []int64{0, 1, 2, 2, 4} {
		i.payload.Record(outside, size)
	}
	i.payload.Record(checkout, 8)
}

// expectMetrics states what PromQL must answer.
func expectMetrics(ref *reference, res *resource.Resource, checkout trace.SpanContext) {
	instance, _ := res.Set().Value("service.instance.id")
	target := map[string]string{"job": serviceNamespace + "/" + frontendService, "instance": instance.AsString()}
	named := func(name string, labels ...string) map[string]string {
		all := maps.Clone(target)
		all["__name__"] = name
		for n := 0; n < len(labels); n += 2 {
			all[labels[n]] = labels[n+1]
		}
		return all
	}
	add := func(kind, help string, value float64, labels map[string]string) {
		ref.Series = append(ref.Series, series{Labels: labels, Type: kind, Help: help, Value: number(value)})
	}
	exemplarOf := func(labels map[string]string, value float64, extra ...string) {
		own := map[string]string{"trace_id": checkout.TraceID().String(), "span_id": checkout.SpanID().String()}
		for n := 0; n < len(extra); n += 2 {
			own[extra[n]] = extra[n+1]
		}
		ref.Exemplars = append(ref.Exemplars, exemplar{Series: labels, Labels: own, Value: number(value)})
	}

	orders := named("shop_orders_total", "payment_method", "card", "city", "Zürich 東京 🚚",
		"returning", "true", "tier", "2", "share", "0.5", "key_1st_visit", `"yes"`)
	add("counter", "Orders placed.", 42, orders)
	exemplarOf(orders, 1)
	add("counter", "Orders placed.", 7, named("shop_orders_total"))
	add("counter", "Money taken.", sum(0.1, 0.2), named("shop_revenue_EUR_total"))
	add("gauge", "Items in open carts.", -2, named("shop_cart_items"))
	add("gauge", "Cold store.", -18.5, named("shop_room_temperature_celsius"))
	add("gauge", "Queue fill.", 0.25, named("shop_queue_utilization_ratio", "queue", "発送"))
	add("counter", "Bytes sent.", 1<<40, named("shop_network_sent_bytes_total"))
	add("gauge", "Workers on duty.", 4, named("shop_workers"))

	const duration, help, route = "shop_request_duration_seconds", "Time per request.", "/checkout"
	for le, count := range map[string]float64{"0.01": 1, "0.1": 1, "1": 2, "+Inf": 3} {
		add("histogram", help, count, named(duration+"_bucket", "http_route", route, "le", le))
	}
	add("histogram", help, 3, named(duration+"_count", "http_route", route))
	add("histogram", help, sum(0.005, 0.25, 3), named(duration+"_sum", "http_route", route))
	exemplarOf(named(duration+"_bucket", "http_route", route, "le", "1"), 0.25, "customer", "Ünal")

	// 1, 2, 4 and 8 in 160 buckets: scale 5 is the finest that holds three octaves.
	ref.Series = append(ref.Series, series{
		Labels: named("shop_payload_size_bytes"), Type: "histogram", Help: "Size per request.",
		Histogram: object{"scale": 5, "zeroCount": "1", "count": "6", "sum": "17",
			"positive": [][2]any{{-1, "1"}, {31, "2"}, {63, "1"}, {95, "1"}}},
	})
	exemplarOf(named("shop_payload_size_bytes"), 8)

	info := named("target_info")
	for _, a := range res.Attributes() {
		switch a.Key {
		case "service.name", "service.namespace", "service.instance.id": // In job and instance.
		default:
			info[strings.ReplaceAll(string(a.Key), ".", "_")] = a.Value.String()
		}
	}
	add("gauge", "Target metadata", 1, info)
}

// sum adds as the SDK does, one double after the other; constants would be added exactly.
func sum(values ...float64) (total float64) {
	for _, value := range values {
		total += value
	}
	return total
}
