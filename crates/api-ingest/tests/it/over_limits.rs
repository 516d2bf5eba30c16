//! Every limit in every dialect: the answer names the limit, its value and the way out; it says when to come again where that helps,
//! and does not where it does not.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use percent_encoding::percent_decode_str;
use pharos_base::ByteSize;
use pharos_gateway::{Grant, IdentitySource, LimitSettings, Principal, Scope, TenantAccess};
use pharos_ingest::{IngestSettings, Limits};
use prost::Message;
use serde_json::json;

use crate::fixture::{Answer, Doors, NOW_MS, STRANGER, doors_with, post, snappy};
use crate::otlp_http::spans;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OtlpProtobuf,
    OtlpJson,
    Grpc,
    RemoteWrite,
    Import,
}

pub(crate) use Dialect::{Grpc, Import, OtlpJson, OtlpProtobuf, RemoteWrite};

pub(crate) const OTLP: &[Dialect] = &[OtlpProtobuf, OtlpJson, Grpc];
/// What takes a body as a whole.
const WHOLE: &[Dialect] = &[OtlpProtobuf, OtlpJson, Grpc, RemoteWrite];
pub(crate) const ALL: &[Dialect] = &[OtlpProtobuf, OtlpJson, Grpc, RemoteWrite, Import];

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Not now: 429 or 503, and when to come again.
    Later,
    /// Never: senders split it, or drop it.
    Never,
    /// What breaks the limit is refused, the rest stored.
    Partly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Metrics,
    Traces,
}

/// Where the limit is set.
#[derive(Debug, Clone)]
enum Set {
    /// For all tenants.
    Tenants(serde_json::Value),
    /// For the credential.
    Credential(serde_json::Value),
    /// For the server.
    Server(fn(&mut Limits)),
    /// The store knows the tenants that it may have.
    Strangers,
    /// Another request holds the memory of all bodies.
    BodiesHeld,
}

struct Case {
    set: Set,
    signal: Signal,
    dialects: &'static [Dialect],
    outcome: Outcome,
    /// What the answer says: the limit with its value.
    says: &'static [&'static str],
}

fn case(
    set: Set,
    signal: Signal,
    dialects: &'static [Dialect],
    outcome: Outcome,
    says: &'static [&'static str],
) -> Case {
    Case { set, signal, dialects, outcome, says }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    use Outcome::{Later, Never, Partly};
    use Set::{BodiesHeld, Credential, Server, Strangers, Tenants};
    use Signal::{Metrics, Traces};
    vec![
        case(
            Tenants(json!({"requests_in_flight": 0})),
            Metrics,
            ALL,
            Later,
            &["tenant 0", "requests_in_flight = 0", "pharos.yaml"],
        ),
        case(
            Credential(json!({"requests_in_flight": 0})),
            Traces,
            OTLP,
            Later,
            &["token \"agent\"", "requests_in_flight = 0", "raise"],
        ),
        case(
            Tenants(json!({"bytes_per_second": "1B", "burst": "1s"})),
            Metrics,
            ALL,
            Later,
            &["bytes_per_second = 1", "pharos.yaml"],
        ),
        case(
            Tenants(json!({"samples_per_second": 1, "burst": "1s"})),
            Metrics,
            ALL,
            Later,
            &["samples_per_second = 1", "pharos.yaml"],
        ),
        case(
            Credential(json!({"samples_per_second": 0})),
            Metrics,
            ALL,
            Later,
            &["token \"agent\"", "samples_per_second = 0"],
        ),
        case(
            Tenants(json!({"spans_per_second": 1, "burst": "1s"})),
            Traces,
            OTLP,
            Later,
            &["spans_per_second = 1", "pharos.yaml"],
        ),
        case(
            Tenants(json!({"body_max": "10B"})),
            Metrics,
            WHOLE,
            Never,
            &["10B", "limits.body_max", "smaller batches"],
        ),
        case(
            Credential(json!({"body_max": "10B"})),
            Traces,
            OTLP,
            Never,
            &["10B", "limits.body_max", "smaller batches"],
        ),
        case(
            Server(|limits| limits.body_max = ByteSize(10)),
            Metrics,
            WHOLE,
            Never,
            &["10B", "ingest.limits.body_max"],
        ),
        case(BodiesHeld, Metrics, WHOLE, Later, &["ingest.limits.bodies_max = 64KiB", "raise"]),
        case(BodiesHeld, Traces, OTLP, Later, &["ingest.limits.bodies_max = 64KiB", "raise"]),
        case(Strangers, Metrics, ALL, Later, &["tenants limit of 7", "raise"]),
        case(Strangers, Traces, OTLP, Later, &["tenants limit of 7", "raise"]),
        case(
            Credential(json!({"series_active": 1})),
            Metrics,
            ALL,
            Partly,
            &["series of bad", "token \"agent\"", "series_active = 1"],
        ),
        case(
            Tenants(json!({"labels_max": 3})),
            Metrics,
            ALL,
            Partly,
            &["series of bad", "4 labels", "limits.labels_max = 3", "raise"],
        ),
        case(
            Credential(json!({"label_name_bytes_max": 8})),
            Metrics,
            ALL,
            Partly,
            &["17 bytes of a label name", "limits.label_name_bytes_max = 8"],
        ),
        case(
            Tenants(json!({"label_value_bytes_max": 5})),
            Metrics,
            ALL,
            Partly,
            &["9 bytes of a label value", "limits.label_value_bytes_max = 5"],
        ),
        case(Server(|limits| limits.labels_max = 3), Metrics, ALL, Partly, &["ingest.limits.labels_max = 3"]),
        case(
            Server(|limits| limits.label_name_bytes_max = 8),
            Metrics,
            ALL,
            Partly,
            &["ingest.limits.label_name_bytes_max = 8"],
        ),
        case(
            Server(|limits| limits.label_value_bytes_max = 5),
            Metrics,
            ALL,
            Partly,
            &["ingest.limits.label_value_bytes_max = 5"],
        ),
        case(
            Tenants(json!({"span_attributes_max": 1})),
            Traces,
            OTLP,
            Partly,
            &["3 attributes of a span", "limits.span_attributes_max = 1", "raise"],
        ),
        case(
            Tenants(json!({"span_events_max": 1})),
            Traces,
            OTLP,
            Partly,
            &["2 events of a span", "limits.span_events_max = 1"],
        ),
        case(
            Credential(json!({"span_links_max": 1})),
            Traces,
            OTLP,
            Partly,
            &["2 links of a span", "limits.span_links_max = 1"],
        ),
        case(
            Server(|limits| limits.span_attributes_max = 1),
            Traces,
            OTLP,
            Partly,
            &["ingest.limits.span_attributes_max = 1"],
        ),
        case(Server(|limits| limits.span_items_max = 1), Traces, OTLP, Partly, &["ingest.limits.span_items_max = 1"]),
        case(Server(|limits| limits.span_events_max = 1), Traces, OTLP, Partly, &["ingest.limits.span_events_max = 1"]),
        case(Server(|limits| limits.span_links_max = 1), Traces, OTLP, Partly, &["ingest.limits.span_links_max = 1"]),
        case(
            Server(|limits| limits.span_value_bytes_max = ByteSize(3)),
            Traces,
            OTLP,
            Partly,
            &["ingest.limits.span_value_bytes_max = 3"],
        ),
    ]
}

/// The doors of a case.
fn build(case: &Case) -> Doors {
    let (mut settings, mut limits) = (IngestSettings::default(), LimitSettings::default());
    let tenants = if matches!(case.set, Set::Strangers) { STRANGER } else { "0" };
    let mut grant =
        Grant::new("agent", &[Scope::MetricsWrite, Scope::TracesWrite], tenants.parse::<TenantAccess>().unwrap());
    match &case.set {
        Set::Tenants(set) => limits = serde_json::from_value(set.clone()).unwrap(),
        Set::Credential(set) => grant.limits = serde_json::from_value(set.clone()).unwrap(),
        Set::Server(set) => set(&mut settings.limits),
        Set::Strangers => {}
        Set::BodiesHeld => {
            settings.limits.body_max = ByteSize(64 << 10);
            settings.limits.bodies_max = ByteSize(64 << 10);
        }
    }
    doors_with(Principal::of(Arc::new(grant), IdentitySource::Token), settings, &limits)
}

const BAD_LABELS: [(&str, &str); 3] = [("a", "1"), ("longer_than_eight", "123456789"), ("z", "2")];

/// A series that breaks no limit, and one that breaks all of labels.
fn metrics(dialect: Dialect) -> Vec<u8> {
    if dialect == Import {
        let bad: Vec<_> = BAD_LABELS.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        return format!("good{{a=\"1\"}} 1 {NOW_MS}\nbad{{{}}} 2 {NOW_MS}\n", bad.join(",")).into_bytes();
    }
    if dialect == RemoteWrite {
        return [series("good", &BAD_LABELS[..1]), series("bad", &BAD_LABELS)].concat();
    }
    let attribute = |(key, value): &(&str, &str)| KeyValue {
        key: (*key).to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    };
    let metric = |name: &str, labels: &[(&str, &str)]| {
        let point = NumberDataPoint {
            time_unix_nano: NOW_MS.unsigned_abs() * 1_000_000,
            attributes: labels.iter().map(attribute).collect(),
            value: Some(Value::AsDouble(1.0)),
            ..NumberDataPoint::default()
        };
        Metric {
            name: name.to_owned(),
            data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
            ..Metric::default()
        }
    };
    let metrics = vec![metric("good", &BAD_LABELS[..1]), metric("bad", &BAD_LABELS)];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    };
    if dialect == OtlpJson { serde_json::to_vec(&request).unwrap() } else { request.encode_to_vec() }
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }
}

/// A series of remote write 1.0 with one sample.
fn series(name: &str, labels: &[(&str, &str)]) -> Vec<u8> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }
    let mut series = Vec::new();
    for (name, value) in [("__name__", name)].iter().chain(labels) {
        series.extend(field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()));
    }
    let mut sample = [&[1 << 3 | 1][..], &1.0_f64.to_le_bytes(), &[2 << 3]].concat();
    prost::encoding::encode_varint(NOW_MS.unsigned_abs(), &mut sample);
    series.extend(field(2, &sample));
    field(1, &series)
}

/// A span that breaks no limit, and one that breaks all.
fn traces(dialect: Dialect) -> Vec<u8> {
    let mut request: ExportTraceServiceRequest = spans(&[1, 2]);
    let bad = &mut request.resource_spans[0].scope_spans[0].spans[1];
    bad.attributes = ["a", "b", "c"]
        .map(|key| KeyValue { key: key.to_owned(), value: Some(text("1234")), ..KeyValue::default() })
        .to_vec();
    bad.events = vec![Event::default(); 2];
    bad.links = vec![Link { trace_id: vec![1; 16], span_id: vec![2; 8], ..Link::default() }; 2];
    if dialect == OtlpJson { serde_json::to_vec(&request).unwrap() } else { request.encode_to_vec() }
}

pub(crate) fn request(dialect: Dialect, signal: Signal) -> http::request::Builder {
    let of = |metrics: &'static str, traces: &'static str| if signal == Signal::Metrics { metrics } else { traces };
    match dialect {
        OtlpProtobuf => post(of("/v1/metrics", "/v1/traces")).header("content-type", "application/x-protobuf"),
        OtlpJson => post(of("/v1/metrics", "/v1/traces")).header("content-type", "application/json"),
        Grpc => post(of(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        ))
        .header("content-type", "application/grpc")
        .version(http::Version::HTTP_2),
        RemoteWrite => post("/api/v1/write").header("content-type", "application/x-protobuf"),
        Import => post("/api/v1/import/prometheus"),
    }
}

pub(crate) fn body(dialect: Dialect, signal: Signal) -> Vec<u8> {
    let plain = if signal == Signal::Metrics { metrics(dialect) } else { traces(dialect) };
    match dialect {
        Grpc => [&[0][..], &u32::try_from(plain.len()).unwrap().to_be_bytes(), &plain].concat(),
        RemoteWrite => snappy(&plain),
        _ => plain,
    }
}

/// What the answer says, and whether it says when to come again.
pub(crate) fn said(dialect: Dialect, answer: &Answer) -> (String, bool) {
    if dialect != Grpc {
        return (answer.text(), !answer.header("retry-after").is_empty());
    }
    let message = percent_decode_str(answer.header("grpc-message")).decode_utf8_lossy().into_owned();
    (message + &answer.text(), !answer.header("grpc-status-details-bin").is_empty())
}

fn check(case: &Case, dialect: Dialect, answer: &Answer) {
    let (text, says_when) = said(dialect, answer);
    let of = format!("{:?} {:?} over {dialect:?}: {} {text:?}", case.set, case.signal, answer.status);
    for word in case.says {
        assert!(text.contains(word) || text.contains(&word.replace('"', "\\\"")), "{word:?} is missing: {of}");
    }
    let (status, code) = (answer.status.as_u16(), answer.header("grpc-status"));
    match (case.outcome, dialect) {
        (Outcome::Later, Grpc) => assert!(says_when && matches!(code, "8" | "14"), "{of}"),
        (Outcome::Later, _) => assert!(says_when && matches!(status, 429 | 503), "{of}"),
        (Outcome::Never, Grpc) => assert!(!says_when && code == "8", "{of}"),
        (Outcome::Never, _) => assert!(!says_when && status == 413, "{of}"),
        (Outcome::Partly, RemoteWrite | Import) => assert!(!says_when && status == 400, "{of}"),
        (Outcome::Partly, _) => assert!(!says_when && status == 200 && code.is_empty(), "{of}"),
    }
}

#[tokio::test]
async fn every_limit_says_its_name_its_value_and_the_way_out_in_every_dialect() {
    for case in cases() {
        for dialect in case.dialects {
            let (dialect, doors) = (*dialect, build(&case));
            let ask = || doors.send(request(dialect, case.signal), body(dialect, case.signal));
            let mut answer = ask().await;
            let is_taken = answer.status.is_success() && answer.header("grpc-status").is_empty();
            if case.outcome == Outcome::Later && is_taken {
                // What is taken beyond a rate is owed by the next one.
                answer = ask().await;
            }
            if matches!(case.set, Set::BodiesHeld) {
                let (first, held) = (Bytes::from(vec![0; 100]), futures::stream::pending());
                let endless = futures::stream::iter([Ok::<_, std::io::Error>(first)]).chain(held);
                let holder = doors.send(request(OtlpProtobuf, case.signal), Body::from_stream(endless));
                answer =
                    tokio::select! { biased; _ = holder => unreachable!("it never ends"), answer = ask() => answer };
            }
            check(&case, dialect, &answer);
            if case.outcome == Outcome::Partly {
                let stored = match case.signal {
                    Signal::Metrics => doors.stored("0"),
                    Signal::Traces => doors.spans("0", crate::otlp_http::TRACE),
                };
                assert_eq!(stored.len(), 1, "{:?} {dialect:?}: the rest is stored: {stored:?}", case.set);
            }
        }
    }
}
