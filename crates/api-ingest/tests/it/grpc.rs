//! OTLP over gRPC, with tonic's own client over a real connection.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics};
use pharos_base::ByteSize;
use pharos_gateway::{Principal, Scope};
use pharos_ingest::IngestSettings;
use pharos_proto::rpc;
use prost::Message;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use crate::fixture::{Doors, doors, doors_for, doors_to_a_full_disk, post, principal, small_bodies};
use crate::otlp_http::{TRACE, spans};

/// A connection to the doors, served until dropped.
struct Connection {
    channel: Channel,
    _server: JoinSet<()>,
}

async fn connect(doors: &Doors) -> Connection {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = doors.router.clone();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Connection { channel, _server: server }
}

fn gauges(values: &[(&str, u64)]) -> ExportMetricsServiceRequest {
    let metric = |(name, ms): &(&str, u64)| {
        let point = NumberDataPoint {
            time_unix_nano: ms * 1_000_000,
            value: Some(Value::AsDouble(2.5)),
            ..NumberDataPoint::default()
        };
        Metric {
            name: (*name).to_owned(),
            data: Some(Data::Gauge(Gauge { data_points: vec![point] })),
            ..Metric::default()
        }
    };
    let scope_metrics = vec![ScopeMetrics { metrics: values.iter().map(metric).collect(), ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    }
}

#[tokio::test]
async fn spans_and_points_arrive_compressed_or_not() {
    let doors = doors();
    let connection = connect(&doors).await;
    let mut plain = TraceServiceClient::new(connection.channel.clone());
    assert!(plain.export(spans(&[1])).await.unwrap().into_inner().partial_success.is_none());
    for (id, encoding) in [(2, CompressionEncoding::Gzip), (3, CompressionEncoding::Zstd)] {
        let mut client = TraceServiceClient::new(connection.channel.clone()).send_compressed(encoding);
        client.export(spans(&[id])).await.unwrap();
    }
    let mut names = doors.spans("0", TRACE);
    names.sort();
    assert_eq!(names, ["span 1", "span 2", "span 3"]);
    let mut metrics = MetricsServiceClient::new(connection.channel.clone()).send_compressed(CompressionEncoding::Gzip);
    metrics.export(gauges(&[("a.b", 1_700_000_000_000)])).await.unwrap();
    assert_eq!(doors.stored("0"), ["a_b 2.5@1700000000000"]);
}

#[tokio::test]
async fn partial_success_counts_what_was_refused() {
    let doors = doors();
    let connection = connect(&doors).await;
    let mut client = TraceServiceClient::new(connection.channel.clone());
    let partial = client.export(spans(&[1, 0])).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    let mut client = MetricsServiceClient::new(connection.channel.clone());
    let answer = client.export(gauges(&[("old", 1), ("good", 1_700_000_000_000)])).await.unwrap();
    assert_eq!(answer.into_inner().partial_success.unwrap().rejected_data_points, 1);
}

/// Tonic inflates what it says it accepts; the header tells that there was something to inflate.
#[tokio::test]
async fn answers_are_compressed_as_the_client_asks() {
    let doors = doors();
    let connection = connect(&doors).await;
    let long = "x".repeat(300);
    let old = gauges(&[(long.as_str(), 1)]);
    for (accepted, told) in [
        (&[][..], None),
        (&[CompressionEncoding::Gzip], Some("gzip")),
        (&[CompressionEncoding::Gzip, CompressionEncoding::Zstd], Some("zstd")),
    ] {
        let client = MetricsServiceClient::new(connection.channel.clone());
        let mut client = accepted.iter().fold(client, |client, encoding| client.accept_compressed(*encoding));
        let answer = client.export(old.clone()).await.unwrap();
        let encoding = answer.metadata().get("grpc-encoding").map(|name| name.to_str().unwrap().to_owned());
        assert_eq!(encoding.as_deref(), told);
        assert!(answer.into_inner().partial_success.unwrap().error_message.contains(&long));
        let empty = client.export(ExportMetricsServiceRequest::default()).await.unwrap();
        assert!(empty.metadata().get("grpc-encoding").is_none(), "nothing is not compressed");
    }
}

#[tokio::test]
async fn messages_over_the_limit_are_resource_exhausted_without_retry() {
    let doors = doors_for(Principal::anonymous(), small_bodies(ByteSize(1000)));
    let connection = connect(&doors).await;
    let many: Vec<u8> = (1..100).collect();
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let client = TraceServiceClient::new(connection.channel.clone());
        let mut client = match encoding {
            Some(encoding) => client.send_compressed(encoding),
            None => client,
        };
        let status = client.export(spans(&many)).await.unwrap_err();
        assert_eq!((status.code(), status.details().len()), (Code::ResourceExhausted, 0), "{encoding:?} {status:?}");
        client.export(spans(&[1])).await.expect("the connection lives on");
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_with_retry_info() {
    let connection = connect(&doors_to_a_full_disk()).await;
    let status = TraceServiceClient::new(connection.channel.clone()).export(spans(&[1])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = rpc::Status::decode(status.details()).unwrap().details;
    let retry = rpc::RetryInfo::decode(&*details[0].value).unwrap();
    assert_eq!(
        (details[0].type_url.as_str(), retry.retry_delay.unwrap().seconds),
        ("type.googleapis.com/google.rpc.RetryInfo", 7)
    );
}

#[tokio::test]
async fn scopes_and_logs_are_refused_in_grpc() {
    let doors = doors_for(principal(Scope::MetricsWrite, "*"), IngestSettings::default());
    let connection = connect(&doors).await;
    let status = TraceServiceClient::new(connection.channel.clone()).export(spans(&[1])).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = LogsServiceClient::new(connection.channel.clone())
        .export(ExportLogsServiceRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("OTEL_LOGS_EXPORTER"), "{}", status.message());
}

#[tokio::test]
async fn damaged_messages_are_invalid_arguments() {
    let doors = doors();
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    for (encoding, frame) in [
        ("identity", &b"\x00\x00\x00\x00\x02\x0a\xff"[..]),
        ("identity", b"\x00\x00\x00\x00\x09ab"),
        ("gzip", b"\x01\x00\x00\x00\x03abc"),
        ("identity", b"\x07\x00\x00\x00\x00"),
    ] {
        let request = post(path).header("content-type", "application/grpc").header("grpc-encoding", encoding);
        let answer = doors.send(request, frame.to_vec()).await;
        assert_eq!(answer.header("grpc-status"), (Code::InvalidArgument as i32).to_string(), "{encoding} {frame:?}");
    }
    let browser = doors.send(post(path).header("content-type", "text/html"), "").await;
    assert_eq!(browser.status, http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
