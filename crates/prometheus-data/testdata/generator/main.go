// Writes the fixtures of crates/prometheus-data with Prometheus' own storage: for each set of features a data folder as a stopped
// server leaves it (blocks, tombstones, chunks_head, checkpoint, wal, wbl), and what Prometheus itself reads back from it.
//
//	go run . ../fixtures
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"math/rand"
	"os"
	"path/filepath"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
)

const (
	begin  = int64(1_700_000_000_000) / 7_200_000 * 7_200_000
	stepMS = int64(60_000)
	steps  = 300
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: generator FOLDER")
	}
	classic := tsdb.DefaultOptions()
	classic.WALCompression = compression.Snappy
	write(filepath.Join(os.Args[1], "classic"), classic, false)

	modern := tsdb.DefaultOptions()
	modern.WALCompression = compression.Zstd
	modern.FloatChunkEncoding = chunkenc.EncXOR2
	modern.XOR2EncodingAllowed = true
	modern.EnableSTStorage = true
	modern.EnableHistogramSTEncoding = true
	modern.EnableMetadataWALRecords = true
	write(filepath.Join(os.Args[1], "modern"), modern, true)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func name(metric string, pairs ...string) labels.Labels {
	return labels.FromStrings(append([]string{labels.MetricName, metric}, pairs...)...)
}

func write(dir string, opts *tsdb.Options, starts bool) {
	must(os.RemoveAll(dir))
	must(os.MkdirAll(dir, 0o755))
	opts.NoLockfile = true
	opts.EnableExemplarStorage = true
	opts.MaxExemplars = 1000
	opts.RetentionDuration = 0
	opts.OutOfOrderTimeWindow = 24 * 3_600_000
	opts.WALSegmentSize = 32 << 10
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := tsdb.Open(dir, quiet, nil, opts, nil)
	must(err)
	db.DisableCompactions()

	random := rand.New(rand.NewSource(7))
	counter := 0.0
	observed := int64(0)
	for i := int64(0); i < steps; i++ {
		t := begin + i*stepMS
		start := int64(0)
		if starts && i%200 > 3 {
			start = begin + i/200*200*stepMS - 1_500
		}
		counter += float64(random.Intn(50))
		if i%200 == 0 {
			counter, observed = 0, 0
		}
		observed += int64(random.Intn(4))
		app := db.AppenderV2(context.Background())
		add := func(ls labels.Labels, st int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) {
			_, err := app.Append(0, ls, st, t, v, h, fh, o)
			must(err)
		}
		none := storage.AppendV2Options{}
		total := storage.AppendV2Options{
			MetricFamilyName: "requests_total",
			Metadata:         metadata.Metadata{Type: model.MetricTypeCounter, Unit: "requests", Help: "Requests.\nAll of them."},
		}
		if i%50 == 49 {
			total.Exemplars = []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", fmt.Sprintf("%032x", i)), Value: counter, Ts: t - 5, HasTs: true}}
		}
		add(name("requests_total", "job", "api", "path", "/größe"), start, counter, nil, nil, total)
		add(name("requests_total", "job", "web"), 0, float64(i), nil, nil, none)
		add(name("temperature"), 0, math.Round(random.NormFloat64()*1e4)/1e3, nil, nil, none)
		add(name("noise"), start, random.NormFloat64(), nil, nil, none)
		add(name("constant"), 0, 42, nil, nil, none)
		special := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.Float64frombits(value.StaleNaN),
			math.Float64frombits(value.NormalNaN), math.Float64frombits(0x7ff8dead00000001), 5e-324, math.MaxFloat64}
		add(name("special"), 0, special[i%int64(len(special))], nil, nil, none)
		if i%7 != 3 {
			add(name("gappy"), 0, float64(i*i), nil, nil, none)
		}
		if i < 150 {
			add(name("ended"), 0, float64(i), nil, nil, none)
		}
		h := integers(observed, i)
		if i%200 == 199 {
			h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		}
		add(name("latency", "kind", "integer"), start, 0, h, nil, none)
		gauge := integers(int64(random.Intn(20)), i)
		gauge.CounterResetHint = histogram.GaugeType
		add(name("latency", "kind", "gauge"), 0, 0, gauge, nil, none)
		add(name("latency", "kind", "float"), start, 0, nil, floats(float64(observed)/3), none)
		add(name("latency", "kind", "custom"), 0, 0, custom(observed), nil, none)
		add(name("latency", "kind", "custom-float"), 0, 0, nil, custom(observed).ToFloat(nil), none)
		if i%90 > 45 {
			add(name("mixed"), 0, 0, integers(observed, i), nil, none)
		} else {
			add(name("mixed"), 0, float64(i), nil, nil, none)
		}
		must(app.Commit())

		if i == 240 {
			db.EnableCompactions()
			must(db.Compact(context.Background()))
			db.DisableCompactions()
		}
		if i%20 == 19 {
			// Late: between the steps, up to three hours back.
			app := db.AppenderV2(context.Background())
			for back := int64(1); back <= 5; back++ {
				_, err := app.Append(0, name("late"), 0, t-back*2_000_003, float64(i*10+back), nil, nil, none)
				must(err)
			}
			must(app.Commit())
		}
	}
	at := func(step int64) int64 { return begin + step*stepMS }
	equal := labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "constant")
	must(db.Delete(context.Background(), at(10), at(40), equal))
	must(db.Delete(context.Background(), at(270), at(280), equal))
	gone := labels.MustNewMatcher(labels.MatchEqual, "job", "web")
	must(db.Delete(context.Background(), at(100), at(200), gone))
	expect(db, dir+".jsonl.gz")
	must(db.Close())
	must(os.RemoveAll(filepath.Join(dir, "lock")))
}

func integers(observed, i int64) *histogram.Histogram {
	h := &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128, ZeroCount: uint64(observed), Count: uint64(observed), Sum: float64(observed) * 1.25,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}},
	}
	// The layout grows with time: chunks are cut, or buckets filled in.
	if i >= 60 {
		h.PositiveSpans = []histogram.Span{{Offset: -2, Length: 3}, {Offset: 2, Length: 2}}
	}
	buckets := int64(0)
	for _, span := range h.PositiveSpans {
		buckets += int64(span.Length)
	}
	previous := int64(0)
	for b := int64(0); b < buckets; b++ {
		count := observed * (b + 1) / 2
		h.PositiveBuckets = append(h.PositiveBuckets, count-previous)
		previous = count
		h.Count += uint64(count)
	}
	h.NegativeBuckets = []int64{observed * 3}
	h.Count += uint64(observed * 3)
	return h
}

func floats(observed float64) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		Schema: -1, ZeroThreshold: 0.001, ZeroCount: observed / 7, Count: observed/7 + observed*2.5, Sum: observed * 9.5,
		PositiveSpans:   []histogram.Span{{Offset: 0, Length: 2}},
		PositiveBuckets: []float64{observed * 1.5, observed},
	}
}

func custom(observed int64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: uint64(observed * 3), Sum: float64(observed) / 3,
		CustomValues:    []float64{0.005, 0.1, 1, 2.5, 1.0 / 3 * 10, 1e9},
		PositiveSpans:   []histogram.Span{{Offset: 0, Length: 2}, {Offset: 4, Length: 1}},
		PositiveBuckets: []int64{observed, -observed, observed * 2},
	}
}

type point struct {
	T     int64  `json:"t"`
	Start int64  `json:"st,omitempty"`
	Bits  string `json:"v,omitempty"`
	H     *hist  `json:"h,omitempty"`
}

type hist struct {
	Integer bool         `json:"integer"`
	Gauge   bool         `json:"gauge"`
	Schema  int32        `json:"schema"`
	Values  []string     `json:"values"` // zero threshold, zero count, count, sum
	Spans   [2][][]int64 `json:"spans"`
	Counts  [2][]string  `json:"counts"`
	Bounds  []string     `json:"bounds"`
}

type line struct {
	Labels map[string]string `json:"labels"`
	Points []point           `json:"points"`
}

func bits(values ...float64) []string {
	out := []string{}
	for _, v := range values {
		out = append(out, fmt.Sprintf("%016x", math.Float64bits(v)))
	}
	return out
}

func expect(db *tsdb.DB, path string) {
	file, err := os.Create(path)
	must(err)
	out := gzip.NewWriter(file)
	querier, err := db.Querier(math.MinInt64, math.MaxInt64)
	must(err)
	set := querier.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	for set.Next() {
		l := line{Labels: set.At().Labels().Map()}
		it := set.At().Iterator(nil)
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			p := point{}
			switch kind {
			case chunkenc.ValFloat:
				var v float64
				p.T, v = it.At()
				p.Bits = bits(v)[0]
			case chunkenc.ValHistogram:
				t, h := it.AtHistogram(nil)
				p.T = t
				p.H = shown(h.ToFloat(nil), true)
			case chunkenc.ValFloatHistogram:
				t, h := it.AtFloatHistogram(nil)
				p.T = t
				p.H = shown(h, false)
			}
			p.Start = it.AtST()
			l.Points = append(l.Points, p)
		}
		must(it.Err())
		text, err := json.Marshal(l)
		must(err)
		_, err = out.Write(append(text, '\n'))
		must(err)
	}
	must(set.Err())
	must(querier.Close())
	must(out.Close())
	must(file.Close())
}

func shown(h *histogram.FloatHistogram, integer bool) *hist {
	s := &hist{Integer: integer, Gauge: h.CounterResetHint == histogram.GaugeType, Schema: h.Schema,
		Values: bits(h.ZeroThreshold, h.ZeroCount, h.Count, h.Sum), Bounds: bits(h.CustomValues...)}
	for side, spans := range [][]histogram.Span{h.PositiveSpans, h.NegativeSpans} {
		s.Spans[side] = [][]int64{}
		for _, span := range spans {
			s.Spans[side] = append(s.Spans[side], []int64{int64(span.Offset), int64(span.Length)})
		}
	}
	s.Counts = [2][]string{bits(h.PositiveBuckets...), bits(h.NegativeBuckets...)}
	return s
}
