//! Pharos as a remote storage, from outside: a real client on loopback, over the in-memory store.

use std::time::Duration;

use axum::body::Body;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_gateway::Principal;
use pharos_model::TraceId;
use pharos_proto::jaeger::storage_v2::any_value::Value;
use pharos_proto::jaeger::storage_v2::capabilities_client::CapabilitiesClient;
use pharos_proto::jaeger::storage_v2::dependency_reader_client::DependencyReaderClient;
use pharos_proto::jaeger::storage_v2::trace_reader_client::TraceReaderClient;
use pharos_proto::jaeger::storage_v2::{
    AnyValue, Dependency, FindTraceIDsRequest, FindTraceSummariesRequest, FindTracesRequest, GetCapabilitiesRequest,
    GetDependenciesRequest, GetOperationsRequest, GetServicesRequest, GetTraceParams, GetTracesRequest, KeyValue,
    Operation, Pagination, TraceQueryParameters,
};
use prost_types::Timestamp;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tower::ServiceExt;

use crate::grpc_routes;
use crate::grpc_tests::{FAILED, Server, all, at, expected, filter, large_batch};
use crate::tests::{START_NS, api_over, batch};

impl Server {
    fn storage(&self) -> TraceReaderClient<Channel> {
        TraceReaderClient::new(self.channel.clone())
    }

    async fn stored(&self, ids: &[Vec<u8>]) -> Result<Vec<TracesData>, Status> {
        let query =
            ids.iter().map(|trace_id| GetTraceParams { trace_id: trace_id.clone(), ..GetTraceParams::default() });
        all(self.storage().get_traces(GetTracesRequest { query: query.collect() }).await?.into_inner()).await
    }

    async fn found(&self, query: TraceQueryParameters) -> Result<Vec<TracesData>, Status> {
        all(self.storage().find_traces(FindTracesRequest { query: Some(query) }).await?.into_inner()).await
    }
}

fn id(last: u8) -> Vec<u8> {
    [vec![0; 15], vec![last]].concat()
}

fn spans(messages: &[TracesData]) -> Vec<u8> {
    let groups = messages.iter().flat_map(|message| &message.resource_spans);
    let spans = groups.flat_map(|group| &group.scope_spans[0].spans);
    let mut ids: Vec<_> = spans.map(|span| span.span_id[0]).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn traces_are_read_by_id_and_absent_ones_left_out() {
    let server = Server::with(batch()).await;
    let mut found = server.stored(&[id(1), id(0xab), id(2)]).await.unwrap();
    let service = |group: &opentelemetry_proto::tonic::trace::v1::ResourceSpans| {
        group.resource.as_ref().unwrap().attributes[0].value.clone()
    };
    found[0].resource_spans.sort_by_key(|group| service(group) != service(&expected().resource_spans[0]));
    assert_eq!(found, [expected()]);
    assert_eq!(server.stored(&[id(1)]).await.unwrap(), [], "an empty stream, no error");
    let refused = server.stored(&[vec![1; 8]]).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "trace_id: 8 bytes, 16 are asked for"));
    // What Go sends for times that were never set.
    let never = Some(Timestamp { seconds: -62_135_596_800, nanos: 0 });
    let params = GetTraceParams { trace_id: id(0xab), start_time: never, end_time: never };
    let found = server.storage().get_traces(GetTracesRequest { query: vec![params] }).await.unwrap();
    assert_eq!(spans(&all(found.into_inner()).await.unwrap()), [1, 2]);
}

#[tokio::test]
async fn large_traces_come_in_parts_one_trace_after_the_other() {
    let mut two = large_batch(40);
    let mut other = two.groups[0].clone();
    other.spans.iter_mut().for_each(|span| span.trace_id = TraceId([7; 16]));
    two.groups.push(other);
    let server = Server::with(two).await;
    let messages = server.stored(&[vec![7; 16], id(0xab)]).await.unwrap();
    let mut order = Vec::new();
    for message in &messages {
        let groups = message.resource_spans.iter().flat_map(|group| &group.scope_spans);
        let mut ids: Vec<_> = groups.flat_map(|group| &group.spans).map(|span| span.trace_id[15]).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1, "spans of one trace, at least one");
        order.extend(ids);
    }
    assert!(messages.len() >= 4, "{} messages", messages.len());
    order.dedup();
    assert_eq!(order, [7, 0xab], "in the order they were asked for");
}

#[tokio::test]
async fn searches_need_neither_service_nor_times() {
    let server = Server::with(batch()).await;
    let typed =
        |key: &str, value: Value| KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) };
    let tagged = |key: &str, value: Value| TraceQueryParameters {
        attributes: vec![typed(key, value)],
        ..TraceQueryParameters::default()
    };
    for (query, found, why) in [
        (TraceQueryParameters::default(), 1, "everything"),
        (tagged("http.status", Value::StringValue("500".to_owned())), 1, "as text"),
        (tagged("http.status", Value::IntValue(500)), 1, "by type"),
        (tagged("http.status", Value::IntValue(501)), 0, "another value"),
        (tagged("ratio", Value::DoubleValue(0.5)), 1, "a double"),
        (tagged("cached", Value::BoolValue(false)), 1, "a truth value"),
        (tagged("raw", Value::BytesValue(vec![1, 2, 3])), 1, "bytes"),
        (tagged("error", Value::StringValue("true".to_owned())), 1, "not an attribute"),
        (TraceQueryParameters { filter: filter(FAILED), ..Default::default() }, 1, "filter"),
        // Unlike in API v3 the last instant is inside.
        (TraceQueryParameters { start_time_max: at(START_NS), ..Default::default() }, 1, "end"),
        (TraceQueryParameters { start_time_max: at(START_NS - 1), ..Default::default() }, 0, "before"),
        (TraceQueryParameters { start_time_min: at(START_NS + 501), ..Default::default() }, 0, "after"),
    ] {
        assert_eq!(server.found(query.clone()).await.unwrap().len(), found, "{why}");
        let ids = server.storage().find_trace_i_ds(FindTraceIDsRequest { query: Some(query) }).await.unwrap();
        assert_eq!(ids.into_inner().trace_ids.len(), found, "ids: {why}");
    }
    for (query, word) in [
        (TraceQueryParameters { pagination: Some(Pagination::default()), ..Default::default() }, "one page"),
        (TraceQueryParameters { filter: filter("{}"), ..Default::default() }, "query.filter: unknown operator"),
        (TraceQueryParameters { search_depth: 10_001, ..Default::default() }, "at most 10000"),
    ] {
        let refused = server.found(query).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(word), "{}", refused.message());
    }
    let refused = server.storage().find_traces(FindTracesRequest { query: None }).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "query is required"));
}

#[tokio::test]
async fn summaries_names_and_calls_are_told() {
    let server = Server::with(batch()).await;
    let mut storage = server.storage();
    let request = FindTraceSummariesRequest { query: Some(TraceQueryParameters::default()) };
    let found = all(storage.find_trace_summaries(request).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(found.len(), 1);
    let summary = &found[0].summaries[0];
    assert_eq!((summary.trace_id.as_slice(), summary.span_count, summary.error_span_count), (&*id(0xab), 2, 1));
    assert_eq!((summary.root_service_name.as_str(), summary.root_operation_name.as_str()), ("shop", "GET /cart"));
    let services: Vec<_> = summary.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(services, ["db", "shop"]);

    assert_eq!(storage.get_services(GetServicesRequest {}).await.unwrap().into_inner().services, ["db", "shop"]);
    let operations = |kind: &str| GetOperationsRequest { service: "shop".to_owned(), span_kind: kind.to_owned() };
    let expected = [Operation { name: "GET /cart".to_owned(), span_kind: "server".to_owned() }];
    assert_eq!(storage.get_operations(operations("")).await.unwrap().into_inner().operations, expected);
    assert_eq!(storage.get_operations(operations("client")).await.unwrap().into_inner().operations, []);
    let refused = storage.get_operations(GetOperationsRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "service is required"));

    let range = GetDependenciesRequest { start_time: at(START_NS), end_time: at(START_NS + 1_000) };
    let found = DependencyReaderClient::new(server.channel.clone()).get_dependencies(range).await.unwrap();
    let call =
        Dependency { parent: "shop".to_owned(), child: "db".to_owned(), call_count: 1, source: "pharos".to_owned() };
    assert_eq!(found.into_inner().dependencies, [call]);
}

#[tokio::test]
async fn everything_a_search_can_ask_is_offered() {
    let server = Server::with(batch()).await;
    let told = CapabilitiesClient::new(server.channel.clone()).get_capabilities(GetCapabilitiesRequest {}).await;
    let search = told.unwrap().into_inner().search.unwrap();
    assert!(search.without_service_name && search.same_span_conjunction);
    let offered = search.filter.unwrap();
    assert_eq!(offered.levels, ["span", "resource", "scope", "event", "link"]);
    assert_eq!(offered.operators.len(), 14);
}

/// A byte of a message may be a hundred in memory: what is too much does not wait for its turn with it.
#[tokio::test]
async fn a_question_is_bounded_before_it_waits() {
    use pharos_proto::jaeger::expression_v1::{Call, Expression, List, expression::Term};

    let server = Server::with(batch()).await;
    let search = |query: TraceQueryParameters| {
        let mut storage = server.storage();
        async move { storage.find_trace_i_ds(FindTraceIDsRequest { query: Some(query) }).await.unwrap_err() }
    };
    let attributes = vec![KeyValue::default(); 10_001];
    let refused = search(TraceQueryParameters { attributes, ..TraceQueryParameters::default() }).await;
    assert_eq!(refused.message(), "query.attributes: 10001, more than 10000: ask for less at a time");
    let list = List { values: vec![String::new(); 30_000], ..List::default() };
    let expression = |term| Expression { term: Some(term) };
    let call = Call { op: "in".to_owned(), args: vec![expression(Term::List(list))] };
    let filter = Some(Call { op: "not".to_owned(), args: vec![expression(Term::Call(call))] });
    let refused = search(TraceQueryParameters { filter, ..TraceQueryParameters::default() }).await;
    assert_eq!(refused.message(), "query.filter: more than 30000 operands and list elements");
    let query = vec![GetTraceParams::default(); 10_001];
    let refused = server.storage().get_traces(GetTracesRequest { query }).await.unwrap_err();
    assert_eq!(refused.message(), "query: 10001, more than 10000: ask for less at a time");
}

#[tokio::test]
async fn a_call_without_credential_or_with_a_past_deadline_reads_nothing() {
    let anonymous = Server::start(api_over(batch()), None).await;
    let refused = anonymous.storage().get_services(GetServicesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let server = Server::with(batch()).await;
    let mut timely = Request::new(GetServicesRequest {});
    timely.set_timeout(Duration::from_mins(1));
    assert!(server.storage().get_services(timely).await.is_ok());

    // Clients watch over their own deadlines; this is what the server does with one.
    let router = grpc_routes(api_over(batch())).into_axum_router().layer(axum::Extension(Principal::anonymous()));
    for (method, timeout, code) in [
        ("GetServices", "0n", Code::DeadlineExceeded),
        ("GetTraces", "0n", Code::DeadlineExceeded),
        ("GetServices", "soon", Code::InvalidArgument),
    ] {
        let request = http::Request::post(format!("/jaeger.storage.v2.TraceReader/{method}"))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout)
            .body(Body::from(vec![0; 5]))
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], (code as i32).to_string(), "{method} {timeout}");
    }
}
