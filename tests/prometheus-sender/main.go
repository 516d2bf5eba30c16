// Sends a small workload by remote write as Prometheus 3.14 does: its own log of samples, read by its own queue manager.
//
//	prometheus-sender -url URL -token TOKEN -message prometheus.WriteRequest|io.prometheus.write.v2.Request
//
// When everything is sent, or lost, it writes what its metrics say about it, one JSON object. The workload: a counter of three
// samples with a start, an exemplar with the last one, a gauge, a NaN, an integer and a custom native
// histogram.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const (
	configuration = `
remote_write:
- url: %q
  protobuf_message: %s
  authorization: {type: Bearer, credentials: %q}
  send_exemplars: true
  send_native_histograms: true
  metadata_config: {send: false}
  queue_config: {min_shards: 1, max_shards: 1, batch_send_deadline: 200ms, retry_on_http_429: true}
`
	arrivalMax = time.Minute
	pause      = 50 * time.Millisecond
)

func main() {
	url := flag.String("url", "", "where to send")
	token := flag.String("token", "", "bearer token")
	message := flag.String("message", "", "prometheus.WriteRequest or io.prometheus.write.v2.Request")
	flag.Parse()
	expected := map[string]float64{"samples": 5, "histograms": 2, "exemplars": 1}
	if *message == "prometheus.WriteRequest" {
		// 1.0 has no word for custom buckets: the queue drops that one.
		expected["histograms"] = 1
	}
	if err := run(fmt.Sprintf(configuration, *url, *message, *token), expected); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(configuration string, expected map[string]float64) error {
	folder, err := os.MkdirTemp("", "prometheus-sender-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	settings, err := config.Load(configuration, slog.Default())
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	start := func() (int64, error) { return 0, nil }
	sender := remote.NewStorage(slog.Default(), registry, start, folder, 10*time.Second, nil, false)
	defer sender.Close()
	options := tsdb.DefaultOptions()
	options.EnableExemplarStorage, options.MaxExemplars = true, 100
	options.EnableSTStorage, options.EnableMetadataWALRecords = true, true
	options.FloatChunkEncoding, options.XOR2EncodingAllowed = chunkenc.EncXOR2, true
	store, err := tsdb.Open(folder, slog.Default(), nil, options, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	store.SetWriteNotified(sender)
	if err := sender.ApplyConfig(settings); err != nil {
		return err
	}
	// The queue sends what is younger than itself.
	time.Sleep(time.Second)
	if err := write(store); err != nil {
		return err
	}
	told, err := wait(registry, expected)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

// write appends the workload. It ends at the current second, so that the caller knows its instants.
func write(store *tsdb.DB) error {
	now := time.Now().UnixMilli()
	born := now - 30_000
	app := store.AppenderV2(context.Background())
	add := func(name string, kind model.MetricType, unit string, st, at int64, value float64, h *histogram.Histogram, found ...exemplar.Exemplar) error {
		described := metadata.Metadata{Type: kind, Unit: unit, Help: "Help of " + name + "."}
		set := labels.FromStrings(labels.MetricName, name, "job", "sender", "city", "Zürich 東京")
		_, err := app.Append(0, set, st, at, value, h, nil, storage.AOptions{MetricFamilyName: name, Metadata: described, Exemplars: found})
		return err
	}
	integer := &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128, ZeroCount: 1, Count: 7, Sum: 12.5,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{1, 1, 0},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{1},
	}
	custom := &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 5, Sum: 9, CustomValues: []float64{0.5, 2},
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 0, 2},
	}
	link := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"), Value: 2, Ts: now, HasTs: true}
	steps := []func() error{
		func() error { return add("sent_total", model.MetricTypeCounter, "bytes", born, now-200, 3, nil) },
		func() error { return add("sent_total", model.MetricTypeCounter, "bytes", born, now-100, 5, nil) },
		func() error { return add("sent_total", model.MetricTypeCounter, "bytes", born, now, 8, nil, link) },
		func() error { return add("room_celsius", model.MetricTypeGauge, "celsius", 0, now, -18.5, nil) },
		func() error { return add("size", model.MetricTypeHistogram, "bytes", born, now, 0, integer) },
		func() error { return add("custom", model.MetricTypeHistogram, "", 0, now, 0, custom) },
		func() error { return add("not_a_number", model.MetricTypeUnknown, "", 0, now, math.NaN(), nil) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return app.Commit()
}

// wait answers the sender's counters once nothing is pending and everything is accounted for.
func wait(registry *prometheus.Registry, expected map[string]float64) (map[string]float64, error) {
	const prefix = "prometheus_remote_storage_"
	answer := map[string]float64{}
	for begun := time.Now(); time.Since(begun) < arrivalMax; time.Sleep(pause) {
		families, err := registry.Gather()
		if err != nil {
			return nil, err
		}
		told := map[string]float64{}
		for _, family := range families {
			for _, metric := range family.Metric {
				told[family.GetName()] += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
		isDone := true
		for what, count := range expected {
			isDone = isDone && told[prefix+what+"_total"] >= count && told[prefix+what+"_pending"] == 0
			for _, end := range []string{"_total", "_failed_total", "_dropped_total", "_retried_total", "_pending"} {
				answer[what+end] = told[prefix+what+end]
			}
		}
		if isDone {
			return answer, nil
		}
	}
	return nil, fmt.Errorf("not everything was sent within %s: %v", arrivalMax, answer)
}
