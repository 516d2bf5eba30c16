//! `jaeger.api_v2` from outside: a real client on loopback, over the in-memory store.

use pharos_model::{Attribute, AttributeValue, SpanBatch, SpanId, TraceId};
use pharos_proto::jaeger::api_v2::query_service_client::QueryServiceClient;
use pharos_proto::jaeger::api_v2::{
    ArchiveTraceRequest, DependencyLink, FindTracesRequest, GetDependenciesRequest, GetOperationsRequest,
    GetServicesRequest, GetTraceRequest, KeyValue, Log, Operation, Process, Span, SpanRef, SpansResponseChunk,
    TraceQueryParameters, ValueType,
};
use prost_types::{Duration, Timestamp};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::grpc_tests::{Server, all, at};
use crate::tests::{START_NS, batch};

impl Server {
    fn v2(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel.clone())
    }

    async fn v2_trace(&self, trace_id: Vec<u8>) -> Result<Vec<SpansResponseChunk>, Status> {
        let request = GetTraceRequest { trace_id, raw_traces: true, ..GetTraceRequest::default() };
        all(self.v2().get_trace(request).await?.into_inner()).await
    }

    async fn v2_find(&self, query: TraceQueryParameters) -> Result<Vec<SpansResponseChunk>, Status> {
        all(self.v2().find_traces(FindTracesRequest { query: Some(query) }).await?.into_inner()).await
    }
}

fn id(last: u8) -> Vec<u8> {
    [vec![0; 15], vec![last]].concat()
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), v_str: value.to_owned(), ..KeyValue::default() }
}

fn typed(key: &str, v_type: ValueType) -> KeyValue {
    KeyValue { key: key.to_owned(), v_type: v_type.into(), ..KeyValue::default() }
}

/// The fixture in Jaeger's model, written down by hand.
fn expected() -> [Span; 2] {
    let process = |name: &str| Some(Process { service_name: name.to_owned(), tags: vec![text("host.name", "box")] });
    let root = Span {
        trace_id: id(0xab),
        span_id: vec![1; 8],
        operation_name: "GET /cart".to_owned(),
        flags: 1,
        start_time: at(START_NS),
        duration: Some(Duration { seconds: 0, nanos: 2_000_001 }),
        tags: vec![
            text("otel.scope.name", "lib"),
            text("otel.scope.version", "1.2"),
            KeyValue { v_int64: 500, ..typed("http.status", ValueType::Int64) },
            KeyValue { v_int64: i64::MAX, ..typed("big", ValueType::Int64) },
            KeyValue { v_float64: 0.5, ..typed("ratio", ValueType::Float64) },
            KeyValue { v_bool: false, ..typed("cached", ValueType::Bool) },
            KeyValue { v_binary: vec![1, 2, 3], ..typed("raw", ValueType::Binary) },
            text("list", "[\"a\",1]"),
            text("span.kind", "server"),
            text("otel.status_code", "ERROR"),
            KeyValue { v_bool: true, ..typed("error", ValueType::Bool) },
            text("otel.status_description", "no database"),
        ],
        logs: vec![Log {
            timestamp: at(START_NS + 1_000),
            fields: vec![text("event", "exception"), text("exception.type", "Timeout")],
        }],
        process: process("shop"),
        ..Span::default()
    };
    let child = Span {
        trace_id: id(0xab),
        span_id: vec![2; 8],
        operation_name: "SELECT".to_owned(),
        references: vec![
            SpanRef { trace_id: id(0xab), span_id: vec![1; 8], ref_type: 0 },
            SpanRef { trace_id: vec![9; 16], span_id: vec![8; 8], ref_type: 1 },
        ],
        start_time: at(START_NS + 500),
        duration: Some(Duration { seconds: 0, nanos: 400 }),
        tags: vec![
            text("otel.scope.name", "lib"),
            text("otel.scope.version", "1.2"),
            text("span.kind", "client"),
            text("w3c.tracestate", "k=v"),
        ],
        process: process("db"),
        ..Span::default()
    };
    [root, child]
}

#[tokio::test]
async fn a_trace_comes_back_in_jaegers_model() {
    let server = Server::with(batch()).await;
    let mut found = server.v2_trace(id(0xab)).await.unwrap();
    assert_eq!(found.len(), 1);
    found[0].spans.sort_by_key(|span| span.span_id.clone());
    assert_eq!(found[0].spans, expected());
    assert_eq!(server.v2_trace(vec![0, 0, 0, 0, 0, 0, 0, 0xab]).await.unwrap().len(), 1, "the lower half alone");
    let absent = server.v2_trace(id(1)).await.unwrap_err();
    assert_eq!((absent.code(), absent.message()), (Code::NotFound, "trace not found"));
    for (wrong, words) in [(vec![0; 16], "uninitialized TraceID"), (vec![1; 3], "3 bytes"), (vec![], "0 bytes")] {
        let refused = server.v2_trace(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{}", refused.message());
    }
}

#[tokio::test]
async fn messages_hold_ten_spans_of_one_trace_and_no_more_than_clients_take() {
    let mut many = batch();
    let group = &mut many.groups[0];
    let model = group.spans.remove(0);
    for trace in [1_u8, 2] {
        group.spans.extend((1..=23_u8).map(|number| pharos_model::Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId([number; 8]),
            ..model.clone()
        }));
    }
    let padding = AttributeValue::String("x".repeat(1 << 20));
    let padded = Attribute { key: "padding".to_owned(), value: padding };
    group.spans.extend((1..=7_u8).map(|number| pharos_model::Span {
        trace_id: TraceId([3; 16]),
        span_id: SpanId([number; 8]),
        attributes: vec![padded.clone()],
        ..model.clone()
    }));
    let server = Server::with(SpanBatch { groups: vec![many.groups.remove(0)] }).await;
    let found = server.v2_find(TraceQueryParameters::default()).await.unwrap();
    let shapes: Vec<_> = found.iter().map(|chunk| (chunk.spans[0].trace_id[0], chunk.spans.len())).collect();
    assert_eq!(shapes, [(1, 10), (1, 10), (1, 3), (2, 10), (2, 10), (2, 3), (3, 3), (3, 3), (3, 1)]);
}

#[tokio::test]
async fn searches_read_every_parameter() {
    let server = Server::with(batch()).await;
    let tag = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let never = Some(Timestamp { seconds: -62_135_596_800, nanos: 0 });
    let zero = Some(Duration::default());
    for (query, found, why) in [
        (TraceQueryParameters::default(), 1, "everything"),
        (TraceQueryParameters { start_time_min: never, start_time_max: never, ..Default::default() }, 1, "Go's zero"),
        (TraceQueryParameters { duration_min: zero, duration_max: zero, ..Default::default() }, 1, "no bounds"),
        (TraceQueryParameters { service_name: "shop".to_owned(), ..Default::default() }, 1, "service"),
        (TraceQueryParameters { operation_name: "nothing".to_owned(), ..Default::default() }, 0, "operation"),
        (TraceQueryParameters { tags: tag("http.status", "500"), ..Default::default() }, 1, "tag"),
        (TraceQueryParameters { start_time_max: at(START_NS - 1), ..Default::default() }, 0, "before"),
        (
            TraceQueryParameters { duration_max: Some(Duration { seconds: 0, nanos: 399 }), ..Default::default() },
            0,
            "nanoseconds",
        ),
    ] {
        assert_eq!(server.v2_find(query).await.unwrap().len(), found, "{why}");
    }
    let refused = server.v2().find_traces(FindTracesRequest { query: None }).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "missing query"));
}

#[tokio::test]
async fn names_and_calls_are_told_and_there_is_no_archive() {
    let server = Server::with(batch()).await;
    let mut client = server.v2();
    assert_eq!(client.get_services(GetServicesRequest {}).await.unwrap().into_inner().services, ["db", "shop"]);
    let request = GetOperationsRequest { service: "shop".to_owned(), span_kind: String::new() };
    let found = client.get_operations(request).await.unwrap().into_inner();
    assert_eq!(found.operation_names, ["GET /cart"]);
    assert_eq!(found.operations, [Operation { name: "GET /cart".to_owned(), span_kind: "server".to_owned() }]);
    let range = GetDependenciesRequest { start_time: at(START_NS), end_time: at(START_NS + 1_000) };
    let found = client.get_dependencies(range).await.unwrap().into_inner().dependencies;
    let call =
        DependencyLink { parent: "shop".to_owned(), child: "db".to_owned(), call_count: 1, ..Default::default() };
    assert_eq!(found, [call]);
    let refused = client.get_dependencies(GetDependenciesRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "start_time is required"));
    let archive = |trace_id| ArchiveTraceRequest { trace_id, ..ArchiveTraceRequest::default() };
    assert_eq!(client.archive_trace(archive(id(1))).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(client.archive_trace(archive(vec![])).await.unwrap_err().code(), Code::InvalidArgument);
}
