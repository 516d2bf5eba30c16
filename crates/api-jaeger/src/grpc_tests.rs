//! The gRPC API from outside: a real client on loopback, over the in-memory store.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData, span};
use pharos_gateway::{Principal, Scope};
use pharos_http::{ListenerSettings, bind, serve};
use pharos_model::{AttributeValue, SpanBatch, SpanGroup, SpanId, TraceId};
use pharos_proto::jaeger::api_v3::query_service_client::QueryServiceClient;
use pharos_proto::jaeger::api_v3::{
    Dependency, FindTraceSummariesRequest, FindTracesRequest, GetDependenciesRequest, GetOperationsRequest,
    GetServicesRequest, GetTraceRequest, Operation, ServiceSummary, TraceQueryParameters, TraceSummary,
};
use pharos_proto::jaeger::expression_v1::Call;
use prost::Message;
use prost_types::{Duration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::filter_tree::call_of_json;
use crate::tests::{START_NS, api_over, attribute, batch, text};
use crate::{JaegerApi, grpc_routes};

pub(crate) struct Server {
    pub(crate) channel: Channel,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(api: JaegerApi, principal: Option<Principal>) -> Self {
        let listener = bind("127.0.0.1:0", "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = grpc_routes(api).into_axum_router();
        let router = match principal {
            Some(principal) => router.layer(axum::Extension(principal)),
            None => router,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, router, ListenerSettings::default(), CancellationToken::new()));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self { channel: endpoint.connect().await.unwrap(), _tasks: tasks }
    }

    pub(crate) async fn with(batch: SpanBatch) -> Self {
        Self::start(api_over(batch), Some(Principal::anonymous())).await
    }

    fn query(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel.clone())
    }

    async fn trace(&self, id: &str) -> Result<Vec<TracesData>, tonic::Status> {
        let request = GetTraceRequest { trace_id: id.to_owned(), raw_traces: true, ..GetTraceRequest::default() };
        all(self.query().get_trace(request).await?.into_inner()).await
    }

    async fn find(&self, query: TraceQueryParameters) -> Result<Vec<TracesData>, tonic::Status> {
        all(self.query().find_traces(FindTracesRequest { query: Some(query) }).await?.into_inner()).await
    }
}

pub(crate) async fn all<T>(mut stream: tonic::Streaming<T>) -> Result<Vec<T>, tonic::Status> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields want it")]
pub(crate) fn at(ns: u64) -> Option<Timestamp> {
    Some(Timestamp { seconds: (ns / 1_000_000_000) as i64, nanos: (ns % 1_000_000_000) as i32 })
}

/// A search from the start of the fixture's first span, for a second, for traces as they came.
fn window() -> TraceQueryParameters {
    let (start_time_min, start_time_max) = (at(START_NS), at(START_NS + 1_000_000_000));
    TraceQueryParameters { start_time_min, start_time_max, raw_traces: true, ..TraceQueryParameters::default() }
}

/// A filter that the fixture's first span passes.
pub(crate) const FAILED: &str = r#"{"op":"eq","args":[
    {"field":{"level":"span","name":"status"}},{"scalar":{"value":"error"}}]}"#;

fn negated(filter: &str) -> String {
    format!(r#"{{"op":"not","args":[{{"call":{filter}}}]}}"#)
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields want it")]
pub(crate) fn filter(json: &str) -> Option<Call> {
    Some(call_of_json(json).unwrap())
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn string(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

/// What the fixture's trace looks like in OTLP, written down by hand.
pub(crate) fn expected() -> TracesData {
    let group = |service: &str, span| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![key_value("service.name", string(service)), key_value("host.name", string("box"))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "lib".to_owned(),
                version: "1.2".to_owned(),
                ..InstrumentationScope::default()
            }),
            spans: vec![span],
            schema_url: String::new(),
        }],
        schema_url: "https://example.org/r".to_owned(),
    };
    let trace_id = [vec![0; 15], vec![0xab]].concat();
    let list = vec![AnyValue { value: Some(string("a")) }, AnyValue { value: Some(Value::IntValue(1)) }];
    let root = Span {
        trace_id: trace_id.clone(),
        span_id: vec![1; 8],
        flags: 1,
        name: "GET /cart".to_owned(),
        kind: 2,
        start_time_unix_nano: START_NS,
        end_time_unix_nano: START_NS + 2_000_001,
        attributes: vec![
            key_value("http.status", Value::IntValue(500)),
            key_value("big", Value::IntValue(i64::MAX)),
            key_value("ratio", Value::DoubleValue(0.5)),
            key_value("cached", Value::BoolValue(false)),
            key_value("raw", Value::BytesValue(vec![1, 2, 3])),
            key_value("list", Value::ArrayValue(ArrayValue { values: list })),
        ],
        dropped_attributes_count: 3,
        events: vec![span::Event {
            time_unix_nano: START_NS + 1_000,
            name: "exception".to_owned(),
            attributes: vec![key_value("exception.type", string("Timeout"))],
            dropped_attributes_count: 0,
        }],
        status: Some(Status { message: "no database".to_owned(), code: 2 }),
        ..Span::default()
    };
    let child = Span {
        trace_id,
        span_id: vec![2; 8],
        parent_span_id: vec![1; 8],
        trace_state: "k=v".to_owned(),
        name: "SELECT".to_owned(),
        kind: 3,
        start_time_unix_nano: START_NS + 500,
        end_time_unix_nano: START_NS + 900,
        links: vec![span::Link { trace_id: vec![9; 16], span_id: vec![8; 8], ..span::Link::default() }],
        status: Some(Status::default()),
        ..Span::default()
    };
    TracesData { resource_spans: vec![group("shop", root), group("db", child)] }
}

#[tokio::test]
async fn a_trace_comes_back_field_by_field() {
    let server = Server::with(batch()).await;
    let mut found = server.trace("ab").await.unwrap();
    assert_eq!(found.len(), 1, "a small trace is one message");
    // Groups have no order of their own.
    let service = |group: &ResourceSpans| group.resource.as_ref().unwrap().attributes[0].value.clone();
    found[0].resource_spans.sort_by_key(|group| service(group) != service(&expected().resource_spans[0]));
    assert_eq!(found, [expected()]);
    assert_eq!(server.find(window()).await.unwrap(), server.trace("000000000000000000000000000000AB").await.unwrap());
}

#[tokio::test]
async fn traces_are_adjusted_unless_they_are_wanted_as_they_came() {
    let server = Server::with(batch()).await;
    let request = GetTraceRequest { trace_id: "ab".to_owned(), ..GetTraceRequest::default() };
    let read = all(server.query().get_trace(request).await.unwrap().into_inner()).await.unwrap();
    let found = server.find(TraceQueryParameters { raw_traces: false, ..window() }).await.unwrap();
    for message in [&read[0], &found[0]] {
        let resource = message.resource_spans[0].resource.as_ref().unwrap();
        let keys: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(keys, ["host.name", "service.name"], "sorted");
    }
}

/// What adjusting takes counts in the memory of the read, whichever service it is for.
#[tokio::test]
async fn adjusting_a_large_trace_needs_memory() {
    use pharos_proto::jaeger::api_v2::{GetTraceRequest as V2Request, query_service_client as v2};

    let mut groups = batch().groups;
    let span = groups[0].spans[0].clone();
    groups[0].spans.extend((0..5_000_u64).map(|number| {
        let span_id = SpanId((number + 100).to_be_bytes());
        pharos_model::Span { span_id, attributes: Vec::new(), events: Vec::new(), ..span.clone() }
    }));
    let mut api = api_over(SpanBatch { groups });
    api.memory_bytes_max = 1 << 20;
    let server = Server::start(api.clone(), Some(Principal::anonymous())).await;
    assert!(server.trace("ab").await.is_ok(), "as it came it needs none");
    let request = GetTraceRequest { trace_id: "ab".to_owned(), ..GetTraceRequest::default() };
    let refused = server.query().get_trace(request).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let request = V2Request { trace_id: [&[0; 15][..], &[0xab]].concat(), ..V2Request::default() };
    let refused = v2::QueryServiceClient::new(server.channel.clone()).get_trace(request).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(api.memory.used_bytes(), 0);
}

#[tokio::test]
async fn a_search_reads_every_parameter() {
    let server = Server::with(batch()).await;
    let tag = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let ms = |ms: i32| Some(Duration { seconds: 0, nanos: ms * 1_000_000 });
    for (query, found, why) in [
        (window(), 1, "all"),
        (TraceQueryParameters { service_name: "shop".to_owned(), ..window() }, 1, "service"),
        (TraceQueryParameters { service_name: "nobody".to_owned(), ..window() }, 0, "unknown service"),
        (TraceQueryParameters { operation_name: "SELECT".to_owned(), ..window() }, 1, "operation"),
        (
            TraceQueryParameters { service_name: "shop".to_owned(), operation_name: "SELECT".to_owned(), ..window() },
            0,
            "on one span",
        ),
        (TraceQueryParameters { attributes: tag("http.status", "500"), ..window() }, 1, "attribute"),
        (TraceQueryParameters { attributes: tag("http.status", "501"), ..window() }, 0, "another value"),
        (TraceQueryParameters { attributes: tag("error", "true"), ..window() }, 1, "status"),
        (TraceQueryParameters { duration_min: ms(2), ..window() }, 1, "at least"),
        (TraceQueryParameters { duration_min: ms(3), ..window() }, 0, "too short"),
        (TraceQueryParameters { duration_min: ms(1), duration_max: ms(2), ..window() }, 0, "too long"),
        (TraceQueryParameters { duration_max: ms(0), ..window() }, 1, "zero is no bound"),
        (TraceQueryParameters { search_depth: -1, ..window() }, 1, "depth as usual"),
        (TraceQueryParameters { filter: filter(FAILED), ..window() }, 1, "filter"),
        (TraceQueryParameters { filter: filter(&negated(FAILED)), ..window() }, 1, "the other span passes"),
        (TraceQueryParameters { filter: filter(&FAILED.replace("error", "ok")), ..window() }, 0, "filter"),
        (TraceQueryParameters { start_time_min: at(START_NS + 501), ..window() }, 0, "later"),
        (TraceQueryParameters { start_time_min: at(START_NS - 9), start_time_max: at(START_NS), ..window() }, 0, "end"),
    ] {
        assert_eq!(server.find(query).await.unwrap().len(), found, "{why}");
    }
}

#[tokio::test]
async fn the_newest_traces_come_first_and_no_more_than_asked_for() {
    let traces = (1..=5_u8).flat_map(|number| {
        let later = move |mut group: SpanGroup| {
            for span in &mut group.spans {
                span.trace_id = TraceId([number; 16]);
                span.start_ns += u64::from(number) * 1_000;
            }
            group
        };
        batch().groups.into_iter().map(later)
    });
    let server = Server::with(SpanBatch { groups: traces.collect() }).await;
    let found = server.find(TraceQueryParameters { search_depth: 3, ..window() }).await.unwrap();
    let ids: Vec<_> = found.iter().map(|one| one.resource_spans[0].scope_spans[0].spans[0].trace_id[0]).collect();
    assert_eq!(ids, [5, 4, 3]);
}

/// A trace of spans of 128 KiB.
pub(crate) fn large_batch(spans: u8) -> SpanBatch {
    let mut group = batch().groups.remove(0);
    let model = group.spans.remove(0);
    group.spans = (1..=spans)
        .map(|number| pharos_model::Span {
            span_id: SpanId([number; 8]),
            attributes: vec![attribute("padding", text(&"x".repeat(128 << 10)))],
            ..model.clone()
        })
        .collect();
    SpanBatch { groups: vec![group] }
}

#[tokio::test]
async fn a_large_trace_is_cut_into_messages_that_every_client_takes() {
    // 12 MiB; the client refuses messages above 4 MiB by itself.
    let server = Server::with(large_batch(96)).await;
    let found = server.trace("ab").await.unwrap();
    assert!((4..=5).contains(&found.len()), "{} messages", found.len());
    let mut ids = Vec::new();
    for message in &found {
        assert!(message.encoded_len() <= 3_584 << 10, "{} bytes", message.encoded_len());
        for group in &message.resource_spans {
            assert_eq!(group.resource, expected().resource_spans[0].resource);
            assert_eq!(group.schema_url, "https://example.org/r");
            assert_eq!(group.scope_spans[0].scope, expected().resource_spans[0].scope_spans[0].scope);
            ids.extend(group.scope_spans[0].spans.iter().map(|span| span.span_id[0]));
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=96).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_to_the_next() {
    // 32 MiB, far more than the messages and windows between store and client hold.
    let server = Server::with(large_batch(255)).await;
    for _ in 0..3 {
        let request = GetTraceRequest { trace_id: "ab".to_owned(), ..GetTraceRequest::default() };
        let mut stream = server.query().get_trace(request).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
    }
    // The pool has one place: a read that was left behind would hold it.
    let services = server.query().get_services(GetServicesRequest {}).await.unwrap().into_inner();
    assert_eq!(services.services, ["shop"]);
}

#[tokio::test]
async fn mistakes_and_absent_traces_are_told_by_code() {
    let server = Server::with(batch()).await;
    let absent = server.trace("ff").await.unwrap_err();
    assert_eq!((absent.code(), absent.message()), (Code::NotFound, "trace not found"));
    for (query, word) in [
        (TraceQueryParameters { start_time_min: None, ..window() }, "start_time_min is required"),
        (TraceQueryParameters { start_time_max: None, ..window() }, "start_time_max is required"),
        (TraceQueryParameters { start_time_max: at(START_NS), ..window() }, "must lie before"),
        (TraceQueryParameters { start_time_min: Some(Timestamp { seconds: -1, nanos: 0 }), ..window() }, "1970"),
        (TraceQueryParameters { search_depth: 10_001, ..window() }, "at most 10000 traces"),
        (TraceQueryParameters { filter: filter("{}"), ..window() }, "query.filter: unknown operator"),
        (
            TraceQueryParameters { filter: filter(FAILED), service_name: "shop".to_owned(), ..window() },
            "query.filter excludes service",
        ),
        (
            TraceQueryParameters {
                duration_min: Some(Duration { seconds: 2, nanos: 0 }),
                duration_max: Some(Duration { seconds: 1, nanos: 0 }),
                ..window()
            },
            "greater than",
        ),
        (TraceQueryParameters { duration_min: Some(Duration { seconds: i64::MAX, nanos: 0 }), ..window() }, "duration"),
    ] {
        let refused = server.find(query).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{word}");
        assert!(refused.message().contains(word), "{}", refused.message());
    }
    assert_eq!(server.trace("xyz").await.unwrap_err().code(), Code::InvalidArgument);
    let empty = server.query().find_traces(FindTracesRequest { query: None }).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let nameless = server.query().get_operations(GetOperationsRequest::default()).await.unwrap_err();
    assert_eq!(nameless.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_who_may_read_traces_does_and_only_of_the_own_tenant() {
    let nobody = Server::start(api_over(batch()), None).await;
    assert_eq!(nobody.trace("ab").await.unwrap_err().code(), Code::Unauthenticated);
    let of = |scope, tenant: &str| Some(Principal::new("test", &[scope], tenant.parse().unwrap()));
    let writer = Server::start(api_over(batch()), of(Scope::TracesWrite, "*")).await;
    assert_eq!(writer.find(window()).await.unwrap_err().code(), Code::PermissionDenied);
    let refused = writer.query().get_services(GetServicesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let stranger = Server::start(api_over(batch()), of(Scope::TracesRead, "7")).await;
    assert_eq!(stranger.trace("ab").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(stranger.find(window()).await.unwrap(), []);
}

#[tokio::test]
async fn services_operations_and_calls_are_listed() {
    let server = Server::with(batch()).await;
    let mut query = server.query();
    let services = query.get_services(GetServicesRequest {}).await.unwrap().into_inner();
    assert_eq!(services.services, ["db", "shop"]);
    for (service, kind, expected) in [
        ("shop", "", Some(("GET /cart", "server"))),
        ("db", "CLIENT", Some(("SELECT", "client"))),
        ("db", "server", None),
    ] {
        let request = GetOperationsRequest { service: service.to_owned(), span_kind: kind.to_owned() };
        let found = query.get_operations(request).await.unwrap().into_inner().operations;
        let expected = expected.map(|(name, kind)| Operation { name: name.to_owned(), span_kind: kind.to_owned() });
        assert_eq!(found, Vec::from_iter(expected), "{service} {kind}");
    }
    let request = GetDependenciesRequest { start_time: at(START_NS), end_time: at(START_NS + 1) };
    let calls = query.get_dependencies(request).await.unwrap().into_inner().dependencies;
    assert_eq!(calls, [Dependency { parent: "shop".to_owned(), child: "db".to_owned(), call_count: 1 }]);
    let long_ago = GetDependenciesRequest { start_time: at(0), end_time: at(1) };
    assert_eq!(query.get_dependencies(long_ago).await.unwrap().into_inner().dependencies, []);
}

#[tokio::test]
async fn summaries_tell_traces_in_short() {
    let server = Server::with(batch()).await;
    let request = FindTraceSummariesRequest { query: Some(window()) };
    let found = all(server.query().find_trace_summaries(request).await.unwrap().into_inner()).await.unwrap();
    let service =
        |name: &str, error_span_count| ServiceSummary { name: name.to_owned(), span_count: 1, error_span_count };
    let expected = TraceSummary {
        trace_id: "000000000000000000000000000000ab".to_owned(),
        root_service_name: "shop".to_owned(),
        root_operation_name: "GET /cart".to_owned(),
        min_start_time_unix_nano: START_NS,
        max_end_time_unix_nano: START_NS + 2_000_001,
        span_count: 2,
        error_span_count: 1,
        orphan_span_count: 0,
        services: vec![service("db", 0), service("shop", 1)],
    };
    assert_eq!(found.iter().map(|message| message.summaries.clone()).collect::<Vec<_>>(), [vec![expected]]);
}

#[tokio::test]
async fn every_type_of_value_survives() {
    let mut sent = batch();
    let nested = AttributeValue::Map(vec![
        attribute("empty", AttributeValue::Empty),
        attribute("nan", AttributeValue::Double(f64::from_bits(0x7ff0_0000_0000_0002))),
        attribute("deep", AttributeValue::Array(vec![AttributeValue::Map(vec![attribute("k", text("v"))])])),
    ]);
    sent.groups.truncate(1);
    sent.groups[0].spans[0].attributes = vec![attribute("nested", nested)];
    let scope = Arc::make_mut(&mut sent.groups[0].scope);
    scope.attributes = vec![attribute("lang", text("rust"))];
    (scope.dropped_attributes_count, scope.schema_url) = (4, "https://example.org/s".to_owned());
    Arc::make_mut(&mut sent.groups[0].resource).dropped_attributes_count = 5;
    let server = Server::with(sent).await;
    let found = server.trace("ab").await.unwrap().remove(0).resource_spans.remove(0);
    assert_eq!(found.resource.unwrap().dropped_attributes_count, 5);
    let scope_spans = &found.scope_spans[0];
    assert_eq!(scope_spans.schema_url, "https://example.org/s");
    let scope = scope_spans.scope.as_ref().unwrap();
    assert_eq!((scope.dropped_attributes_count, &scope.attributes[..]), (4, &[key_value("lang", string("rust"))][..]));
    let Some(Value::KvlistValue(map)) = &scope_spans.spans[0].attributes[0].value.as_ref().unwrap().value else {
        panic!("{:?}", scope_spans.spans[0].attributes)
    };
    assert_eq!(map.values[0].value, Some(AnyValue { value: None }));
    let Some(Value::DoubleValue(nan)) = map.values[1].value.as_ref().unwrap().value else { panic!("{map:?}") };
    assert_eq!(nan.to_bits(), 0x7ff0_0000_0000_0002);
    let Some(Value::ArrayValue(deep)) = &map.values[2].value.as_ref().unwrap().value else { panic!("{map:?}") };
    let Some(Value::KvlistValue(inner)) = &deep.values[0].value else { panic!("{deep:?}") };
    assert_eq!(inner.values, [key_value("k", string("v"))]);
}
