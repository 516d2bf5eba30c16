//! Small messages for tests that care about the door, not about the sender.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use pharos_testkit::Pharos;
use prost::Message;

/// Now, Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(now.as_millis()).expect("it is before the end of time")
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// A remote write 1.0 message with one series, not compressed.
pub(crate) fn remote_write(name: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let pairs = std::iter::once(("__name__", name)).chain(labels.iter().copied());
    let labels = pairs.map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect();
    let samples = samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect();
    WriteRequest { timeseries: vec![TimeSeries { labels, samples }] }.encode_to_vec()
}

/// Pushes a message with snappy, as Prometheus does.
pub(crate) async fn push_remote_write(pharos: &Pharos, path: &str, message: Vec<u8>) -> (u16, String) {
    let body = snap::raw::Encoder::new().compress_vec(&message).expect("it fits in memory");
    let request = pharos
        .client()
        .post(pharos.url(path))
        .bearer_auth(pharos.token())
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(body);
    let answer = request.send().await.expect("the server answers");
    (answer.status().as_u16(), answer.text().await.expect("the answer is text"))
}

/// A message with one span of `service` that began `age_ms` ago and took a millisecond.
pub(crate) fn one_span(service: &str, id: u8, age_ms: i64) -> ExportTraceServiceRequest {
    let value = AnyValue { value: Some(any_value::Value::StringValue(service.to_owned())) };
    let attributes = vec![KeyValue { key: "service.name".to_owned(), value: Some(value), ..KeyValue::default() }];
    let start = u64::try_from(now_ms() - age_ms).expect("it is after 1970") * 1_000_000;
    let span = Span {
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        name: "work".to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000,
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}
