//! Decoding, from inflated bytes to batches: what every sample and span costs before it reaches a store.
//!
//! `remote_write/prost` and `otlp/prost` are the oracles of the tests, here as the yardstick: decoding alone, without
//! labels, limits or batch.
#![allow(missing_docs, reason = "a bench")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use pharos_base::{ByteSize, SimClock};
use pharos_ingest::otlp::{MetricsDecoder, OtlpSettings, WireForm, decode_traces};
use pharos_ingest::remote_write::{RemoteWriteSettings, RemoteWriteVersion, Rules, SeriesMemory, decode};
use pharos_ingest::{Encoding, IngestComponents, IngestSettings, Ingestor, Limits, TimeWindow};
use pharos_model::{LabelRewrite, TenantId};
use pharos_proto::remote_write::{v1, v2};
use pharos_storage::memory::{MemoryMetricStore, MemoryTraceStore};
use prost::Message;

/// Samples, points or spans of a request.
const SERIES: usize = 2_000;
/// How many of them are of one series.
const SHAPES: [usize; 3] = [1, 10, 100];
const NOW_MS: i64 = 1_700_000_000_000;
const NOW_NS: u64 = 1_700_000_000_000_000_000;
const LABELS: [(&str, &str); 9] = [
    ("__name__", "http_server_request_duration_seconds_bucket"),
    ("cluster", "production-eu-1"),
    ("http_method", "GET"),
    ("http_route", "/api/v1/orders/{id}"),
    ("instance", "10.12.3.4:9100"),
    ("job", "orders/order-service"),
    ("le", "0.25"),
    ("namespace", "orders"),
    ("pod", "order-service-7d9f8b6c5d-abcde"),
];

/// Of a series' samples, fifteen seconds apart.
fn instant_ms(at: usize) -> i64 {
    NOW_MS + at as i64 * 15_000
}

/// Ten sorted labels, one of them different in each series.
fn labels(index: usize) -> Vec<(String, String)> {
    let fixed = LABELS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    fixed.chain([("series".to_owned(), format!("s{index:06}"))]).collect()
}

fn remote_write_v1(samples: usize) -> Vec<u8> {
    let series = |index| v1::TimeSeries {
        labels: labels(index).into_iter().map(|(name, value)| v1::Label { name, value }).collect(),
        samples: (0..samples).map(|at| v1::Sample { value: (index + at) as f64, timestamp: instant_ms(at) }).collect(),
        ..v1::TimeSeries::default()
    };
    v1::WriteRequest { timeseries: (0..SERIES / samples).map(series).collect(), metadata: Vec::new() }.encode_to_vec()
}

fn remote_write_v2(samples: usize) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut reference = |text: &str| {
        let found = symbols.iter().position(|symbol| symbol == text);
        found.unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        }) as u32
    };
    let sample = |index: usize, at: usize| v2::Sample {
        value: (index + at) as f64,
        timestamp: instant_ms(at),
        start_timestamp: 0,
    };
    let timeseries = (0..SERIES / samples)
        .map(|index| v2::TimeSeries {
            labels_refs: labels(index).iter().flat_map(|(name, value)| [reference(name), reference(value)]).collect(),
            samples: (0..samples).map(|at| sample(index, at)).collect(),
            ..v2::TimeSeries::default()
        })
        .collect();
    v2::Request { symbols, timeseries }.encode_to_vec()
}

fn attributes(count: usize, index: usize) -> Vec<KeyValue> {
    let text = |key: String, value: String| KeyValue {
        key,
        value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
        ..KeyValue::default()
    };
    (0..count).map(|at| text(format!("http.attribute.{at}"), format!("value {at} of {index}"))).collect()
}

fn resource() -> Resource {
    let mut attributes = attributes(10, 0);
    attributes.push(KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue("shop".to_owned())) }),
        ..KeyValue::default()
    });
    Resource { attributes, ..Resource::default() }
}

/// Points of a stream, as many one behind the other.
fn otlp_metrics(points: usize) -> Vec<u8> {
    let point = |index: usize| NumberDataPoint {
        attributes: attributes(6, index / points),
        time_unix_nano: instant_ms(index % points) as u64 * 1_000_000,
        value: Some(number_data_point::Value::AsInt(index as i64)),
        ..NumberDataPoint::default()
    };
    let metric = |index: usize| Metric {
        name: format!("http.server.requests.{index}"),
        unit: "{request}".to_owned(),
        data: Some(Data::Sum(Sum {
            data_points: (0..SERIES / 20).map(point).collect(),
            aggregation_temporality: 2,
            is_monotonic: true,
        })),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: (0..20).map(metric).collect(), ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(resource()), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn otlp_spans() -> Vec<u8> {
    let span = |index: usize| Span {
        trace_id: (index as u128 / 10 + 1).to_be_bytes().to_vec(),
        span_id: (index as u64 + 1).to_be_bytes().to_vec(),
        name: "GET /api/v1/orders/{id}".to_owned(),
        kind: 2,
        start_time_unix_nano: NOW_NS,
        end_time_unix_nano: NOW_NS + 1_000_000,
        attributes: attributes(11, index),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..SERIES).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource()), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn decoding(c: &mut Criterion) {
    let limits = Limits::default();
    let memory = SeriesMemory::default();
    let rules = Rules { settings: &RemoteWriteSettings::default(), limits: &limits, window: TimeWindow::ALL };
    let mut group = c.benchmark_group("ingest/decode");
    group.throughput(Throughput::Elements(SERIES as u64));
    for samples in SHAPES {
        for (version, name, body) in [
            (RemoteWriteVersion::V1, "v1", remote_write_v1(samples)),
            (RemoteWriteVersion::V2, "v2", remote_write_v2(samples)),
        ] {
            group.bench_function(format!("remote_write/{name}/{samples}"), |b| {
                b.iter(|| decode(black_box(&body), version, rules, &memory).map(|d| d.batch.series.len()));
            });
        }
    }
    let body = remote_write_v1(1);
    group.bench_function("remote_write/prost", |b| {
        b.iter(|| v1::WriteRequest::decode(black_box(&*body)).map(|request| request.timeseries.len()));
    });
    for (name, body) in [("v1", remote_write_v1(1)), ("v2", remote_write_v2(1))] {
        labelled(&mut group, name, body);
    }
    let tenant = TenantId::default();
    for points in SHAPES {
        let (body, decoder) = (otlp_metrics(points), MetricsDecoder::new(OtlpSettings::default(), limits.clone()));
        group.bench_function(format!("otlp/points/{points}"), |b| {
            b.iter(|| {
                let request = (black_box(&*body), WireForm::Protobuf);
                let decoded = decoder.decode(&tenant, request, TimeWindow::ALL, NOW_MS);
                decoded.map(|decoded| decoded.batch.samples.len())
            });
        });
    }
    let body = otlp_metrics(1);
    let points = |decoder: &MetricsDecoder| {
        let decoded = decoder.decode(&tenant, (black_box(&*body), WireForm::Protobuf), TimeWindow::ALL, NOW_MS);
        decoded.map(|decoded| decoded.batch.series.len())
    };
    group.bench_function("otlp/points_never_seen", |b| {
        b.iter(|| points(&MetricsDecoder::new(OtlpSettings::default(), limits.clone())));
    });
    // As where there are more streams than memory for them.
    let forgetful = Limits { otlp_streams_memory_max: ByteSize(0), ..limits.clone() };
    let decoder = MetricsDecoder::new(OtlpSettings::default(), forgetful);
    group.bench_function("otlp/points_forgotten", |b| b.iter(|| points(&decoder)));
    group.bench_function("otlp/prost", |b| {
        b.iter(|| ExportMetricsServiceRequest::decode(black_box(&*body)).map(|request| request.resource_metrics.len()));
    });
    let body = otlp_spans();
    group.bench_function("otlp/spans", |b| {
        b.iter(|| {
            decode_traces(black_box(&body), WireForm::Protobuf, &limits).map(|decoded| decoded.batch.span_count())
        });
    });
    group.finish();
}

/// The same by way of an ingestor, with and without labels that a credential sets.
fn labelled(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, body: Vec<u8>) {
    let components = IngestComponents {
        metrics: Arc::new(MemoryMetricStore::new()),
        traces: Arc::new(MemoryTraceStore::new()),
        clock: SimClock::at_ms(NOW_MS),
        metrics_retention: None,
    };
    let (ingestor, tenant) = (Ingestor::new(components, IngestSettings::default()), TenantId::default());
    let version = if name == "v1" { RemoteWriteVersion::V1 } else { RemoteWriteVersion::V2 };
    let set = [("team".to_owned(), "orders".to_owned())];
    let body = Bytes::from(body);
    for (what, labels) in [("plain", None), ("labelled", LabelRewrite::new(&set, None).map(Arc::new))] {
        group.bench_function(format!("remote_write/{name}_{what}"), |b| {
            b.iter(|| {
                let decoded = {
                    let body_max = ingestor.settings().limits.body_max;
                    ingestor.decode_remote_write(&tenant, body.clone(), Some(Encoding::Identity), version, body_max)
                };
                decoded.map(|mut decoded| {
                    ingestor.label_metrics(&tenant, &mut decoded, labels.as_ref());
                    decoded.batch.series.len()
                })
            });
        });
    }
}

criterion_group!(benches, decoding);
criterion_main!(benches);
