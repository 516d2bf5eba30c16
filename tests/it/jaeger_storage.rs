//! Pharos as the storage of a Jaeger, end to end: spans in over OTLP's gRPC, traces out over `jaeger.storage.v2` and API v3. The
//! kinds of cases that Jaeger's own storage suite asks of every backend, on our own data, none left out.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData, span};
use pharos_proto::jaeger::storage_v2 as storage;
use pharos_proto::jaeger::storage_v2::trace_reader_client::TraceReaderClient;
use pharos_proto::jaeger::{api_v2, api_v3};
use pharos_testkit::Pharos;
use prost::Message;
use prost_types::{Duration, Timestamp};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::otlp::now_ms;
use crate::span_metrics::send;

const S: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * S;

/// Adds the token.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Guarded = InterceptedService<Channel, Bearer>;

/// A running server with clients of all its doors for traces.
struct Store {
    pharos: Pharos,
    writer: TraceServiceClient<Guarded>,
    reader: TraceReaderClient<Guarded>,
    v3: api_v3::query_service_client::QueryServiceClient<Guarded>,
    v2: api_v2::query_service_client::QueryServiceClient<Guarded>,
}

impl Store {
    async fn start() -> Self {
        let pharos = Pharos::builder().start().await;
        let bearer = Bearer(format!("Bearer {}", pharos.token()).parse().unwrap());
        let connect = async |address: std::net::SocketAddr| {
            let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
            InterceptedService::new(channel, bearer.clone())
        };
        let (write, read) = (connect(pharos.otlp_grpc_address()).await, connect(pharos.jaeger_grpc_address()).await);
        Self {
            writer: TraceServiceClient::new(write),
            reader: TraceReaderClient::new(read.clone()),
            v3: api_v3::query_service_client::QueryServiceClient::new(read.clone()),
            v2: api_v2::query_service_client::QueryServiceClient::new(read),
            pharos,
        }
    }

    async fn write(&mut self, groups: Vec<ResourceSpans>) {
        let answer = self.writer.export(ExportTraceServiceRequest { resource_spans: groups }).await.unwrap();
        assert_eq!(answer.into_inner().partial_success, None);
    }

    async fn trace(&mut self, trace_id: &[u8]) -> Vec<TracesData> {
        let params = storage::GetTraceParams { trace_id: trace_id.to_vec(), ..Default::default() };
        let request = storage::GetTracesRequest { query: vec![params] };
        all(self.reader.get_traces(request).await.unwrap().into_inner()).await
    }

    /// The ids of what a search finds, each told by its first byte, ascending; the same over both APIs.
    async fn find(&mut self, query: storage::TraceQueryParameters) -> Vec<u8> {
        let request = storage::FindTracesRequest { query: Some(query.clone()) };
        let found = ids(&all(self.reader.find_traces(request).await.unwrap().into_inner()).await);
        let text = |value: &storage::AnyValue| match value.value.as_ref().unwrap() {
            storage::any_value::Value::StringValue(text) => text.clone(),
            other => panic!("a text, not {other:?}"),
        };
        let attributes = query.attributes.iter().map(|tag| (tag.key.clone(), text(tag.value.as_ref().unwrap())));
        let far = Timestamp { seconds: 4_000_000_000, nanos: 0 };
        let same = api_v3::TraceQueryParameters {
            service_name: query.service_name,
            operation_name: query.operation_name,
            attributes: attributes.collect(),
            start_time_min: query.start_time_min.or(Some(Timestamp::default())),
            start_time_max: query.start_time_max.or(Some(far)),
            duration_min: query.duration_min,
            duration_max: query.duration_max,
            search_depth: query.search_depth,
            raw_traces: true,
            filter: query.filter,
        };
        let request = api_v3::FindTracesRequest { query: Some(same) };
        let over_v3 = ids(&all(self.v3.find_traces(request).await.unwrap().into_inner()).await);
        assert_eq!(over_v3, found, "API v3 finds the same");
        found
    }
}

async fn all<T>(mut stream: tonic::Streaming<T>) -> Vec<T> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message);
    }
    messages
}

fn spans_of(messages: &[TracesData]) -> Vec<&Span> {
    let groups = messages.iter().flat_map(|message| &message.resource_spans);
    groups.flat_map(|group| &group.scope_spans).flat_map(|scope| &scope.spans).collect()
}

fn ids(messages: &[TracesData]) -> Vec<u8> {
    let mut ids: Vec<_> = spans_of(messages).iter().map(|span| span.trace_id[0]).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Some hours ago, on a whole second.
fn base_ns() -> u64 {
    (u64::try_from(now_ms()).unwrap() / 1_000 - 6 * 3_600) * S
}

/// A span of trace `number` that begins so long after [`base_ns`] and takes so long, nanoseconds.
fn span(number: u8, id: u64, after_ns: u64, took_ns: u64) -> Span {
    let start_time_unix_nano = base_ns() + after_ns;
    Span {
        trace_id: vec![number; 16],
        span_id: id.to_be_bytes().to_vec(),
        name: "operation".to_owned(),
        start_time_unix_nano,
        end_time_unix_nano: start_time_unix_nano + took_ns,
        ..Span::default()
    }
}

fn group(service: &str, more: Vec<KeyValue>, scope: InstrumentationScope, spans: Vec<Span>) -> ResourceSpans {
    let attributes = std::iter::once(pair("service.name", text(service))).chain(more).collect();
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

fn of_service(service: &str, spans: Vec<Span>) -> ResourceSpans {
    group(service, Vec::new(), InstrumentationScope::default(), spans)
}

/// Tags of all types, with the texts they are searched by.
fn tags() -> Vec<(KeyValue, &'static str)> {
    vec![
        (pair("same.text", text("value 1")), "value 1"),
        (pair("same.int", Value::IntValue(123)), "123"),
        (pair("same.double", Value::DoubleValue(72.5)), "72.5"),
        (pair("same.bool", Value::BoolValue(true)), "true"),
    ]
}

fn tagged(tags: impl IntoIterator<Item = (KeyValue, &'static str)>) -> storage::TraceQueryParameters {
    let attributes = tags.into_iter().map(|(tag, shown)| {
        let value = Some(storage::any_value::Value::StringValue(shown.to_owned()));
        storage::KeyValue { key: tag.key, value: Some(storage::AnyValue { value }) }
    });
    storage::TraceQueryParameters { attributes: attributes.collect(), search_depth: 1_000, ..Default::default() }
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields want it")]
fn at(ns: u64) -> Option<Timestamp> {
    Some(Timestamp { seconds: i64::try_from(ns / S).unwrap(), nanos: i32::try_from(ns % S).unwrap() })
}

#[expect(clippy::unnecessary_wraps, reason = "as the fields want it")]
fn lasting(ns: i32) -> Option<Duration> {
    Some(Duration { seconds: 0, nanos: ns })
}

#[tokio::test]
async fn a_trace_is_read_as_it_was_written() {
    let mut store = Store::start().await;
    let bytes = pair("raw", Value::BytesValue(vec![0, 255]));
    let whole = Span {
        trace_state: "a=b".to_owned(),
        parent_span_id: vec![9; 8],
        flags: 0x101,
        kind: span::SpanKind::Consumer.into(),
        attributes: tags().into_iter().map(|(tag, _)| tag).chain([bytes.clone()]).collect(),
        events: vec![span::Event {
            time_unix_nano: base_ns() + 7,
            name: "happened".to_owned(),
            attributes: vec![bytes.clone(), pair("b", text("2"))],
            dropped_attributes_count: 1,
        }],
        links: vec![span::Link {
            trace_id: vec![8; 16],
            span_id: vec![7; 8],
            trace_state: "c=d".to_owned(),
            attributes: vec![pair("why", text("because"))],
            ..span::Link::default()
        }],
        dropped_links_count: 3,
        ..span(1, 1, 5, 2_001)
    };
    let scope = InstrumentationScope {
        name: "library".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![pair("scoped", Value::IntValue(5))],
        ..InstrumentationScope::default()
    };
    let written = group("writer", vec![pair("host", text("h")), bytes], scope, vec![whole]);
    store.write(vec![written.clone()]).await;
    let mut found = store.trace(&[1; 16]).await;
    // What was never set is told as set to nothing.
    let read = &mut found[0].resource_spans[0];
    read.scope_spans[0].spans[0].status = None;
    assert_eq!(*read, written);
    assert!(store.trace(&[2; 16]).await.is_empty());
    let absent = api_v3::GetTraceRequest { trace_id: "02".repeat(16), ..Default::default() };
    let refused = store.v3.get_trace(absent).await.map(|_| ()).unwrap_err();
    assert!(refused.code() == Code::NotFound && refused.message().contains("trace not found"), "{refused}");
}

#[tokio::test]
async fn a_trace_of_ten_thousand_spans_over_hours_comes_whole() {
    const SPANS: u64 = 10_008;
    let mut store = Store::start().await;
    for first in (1..=SPANS).step_by(1_000) {
        let numbers = first..=SPANS.min(first + 999);
        // Some 500 bytes each: more than a message of 4 MiB holds.
        let padded = |number| Span {
            attributes: vec![pair("padding", text(&format!("{number:0>480}")))],
            ..span(1, number, number * S, S)
        };
        store.write(vec![of_service("large", numbers.map(padded).collect())]).await;
    }
    let messages = store.trace(&[1; 16]).await;
    assert!(messages.len() > 1 && messages.iter().all(|message| message.encoded_len() < 4 << 20));
    let mut numbers: Vec<_> = spans_of(&messages).iter().map(|span| span.span_id.clone()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=SPANS).map(|number| number.to_be_bytes().to_vec()).collect::<Vec<_>>());

    let request = api_v2::GetTraceRequest { trace_id: vec![1; 16], raw_traces: true, ..Default::default() };
    let chunks = all(store.v2.get_trace(request).await.unwrap().into_inner()).await;
    assert!(chunks.iter().all(|chunk| (1..=10).contains(&chunk.spans.len())));
    assert_eq!(chunks.iter().map(|chunk| chunk.spans.len()).sum::<usize>(), 10_008);
}

#[tokio::test]
async fn span_ids_that_come_twice_with_other_content_are_both_kept() {
    let mut store = Store::start().await;
    let spans: Vec<_> = (0..200_u64).map(|number| span(1, number + 1 - number % 20 / 19 * 19, number * S, S)).collect();
    store.write(vec![of_service("twice", spans.clone())]).await;
    store.write(vec![of_service("twice", spans)]).await;
    assert_eq!(spans_of(&store.trace(&[1; 16]).await).len(), 200, "equal spans once, others all");
}

#[tokio::test]
async fn tags_are_found_wherever_a_span_has_them() {
    let mut store = Store::start().await;
    let all_tags = || tags().into_iter().map(|(tag, _)| tag).collect::<Vec<_>>();
    let none = InstrumentationScope::default;
    let event = |attributes| span::Event { attributes, time_unix_nano: base_ns(), ..span::Event::default() };
    let link = |attributes| span::Link { attributes, trace_id: vec![9; 16], span_id: vec![9; 8], ..Default::default() };
    let named = InstrumentationScope { name: "library".to_owned(), version: "7".to_owned(), ..none() };
    let [a, b, c, d] = <[KeyValue; 4]>::try_from(all_tags()).unwrap();
    store
        .write(vec![
            of_service("span", vec![Span { attributes: all_tags(), ..span(1, 1, 0, 10) }]),
            of_service("event", vec![Span { events: vec![event(all_tags())], ..span(2, 1, 0, 10) }]),
            group("resource", all_tags(), none(), vec![span(3, 1, 0, 10)]),
            group("scope", vec![], InstrumentationScope { attributes: all_tags(), ..none() }, vec![span(4, 1, 0, 10)]),
            of_service("link", vec![Span { links: vec![link(all_tags())], ..span(5, 1, 0, 10) }]),
            group(
                "spread",
                vec![a],
                InstrumentationScope { attributes: vec![b], ..none() },
                vec![Span { attributes: vec![c], events: vec![event(vec![d])], ..span(6, 1, 0, 10) }],
            ),
            // On two spans: no one has all.
            of_service(
                "apart",
                vec![
                    Span { attributes: all_tags().split_off(2), ..span(7, 1, 0, 10) },
                    Span { attributes: all_tags()[..2].to_vec(), ..span(7, 2, 0, 10) },
                ],
            ),
            group("named", vec![], named, vec![Span { attributes: all_tags(), ..span(8, 1, 0, 10) }]),
        ])
        .await;
    assert_eq!(store.find(tagged(tags())).await, [1, 2, 3, 4, 5, 6, 8], "any service");
    for (service, expected) in
        [("span", 1), ("event", 2), ("resource", 3), ("scope", 4), ("link", 5), ("spread", 6), ("named", 8)]
    {
        let query = storage::TraceQueryParameters { service_name: service.to_owned(), ..tagged(tags()) };
        assert_eq!(store.find(query).await, [expected], "{service}");
    }
    let library = [(pair("scope.name", text("")), "library"), (pair("scope.version", text("")), "7")];
    assert_eq!(store.find(tagged(tags().into_iter().chain(library))).await, [8]);
    assert_eq!(store.find(tagged([(pair("same.int", text("")), "124")])).await, [0_u8; 0]);
}

#[tokio::test]
async fn durations_count_nanoseconds_and_windows_return_whole_traces() {
    let mut store = Store::start().await;
    let named = |name: &str, span: Span| Span { name: name.to_owned(), ..span };
    let mut crossing = span(4, 2, 0, 100);
    crossing.start_time_unix_nano -= DAY;
    crossing.end_time_unix_nano -= DAY;
    store
        .write(vec![of_service(
            "timed",
            vec![
                named("short", span(1, 1, 0, 999)),
                named("longer", span(2, 1, S, 2_000)),
                named("longer", span(3, 1, 2 * S, 5_000)),
                span(4, 1, 3_600 * S, 10),
                crossing,
            ],
        )])
        .await;
    let query = |min, max| storage::TraceQueryParameters {
        service_name: "timed".to_owned(),
        duration_min: lasting(min),
        duration_max: lasting(max),
        search_depth: 1_000,
        ..Default::default()
    };
    for (min, max, expected) in [
        (0, 1_000, &[1, 4][..]),
        (0, 998, &[4]),
        (2_000, 2_000, &[2]),
        (2_001, 0, &[3]),
        (4_500, 5_500, &[3]),
        (5_001, 0, &[]),
    ] {
        assert_eq!(store.find(query(min, max)).await, expected, "{min} to {max} ns");
    }
    let operation = |min| storage::TraceQueryParameters { operation_name: "longer".to_owned(), ..query(min, 0) };
    assert_eq!(store.find(operation(0)).await, [2, 3]);
    assert_eq!(store.find(operation(3_000)).await, [3]);

    // The window has one span of the trace; the other began the day before.
    let window = storage::TraceQueryParameters {
        start_time_min: at(base_ns() + 3_599 * S),
        start_time_max: at(base_ns() + 3_601 * S),
        ..query(0, 0)
    };
    let request = storage::FindTracesRequest { query: Some(window) };
    let messages = all(store.reader.find_traces(request).await.unwrap().into_inner()).await;
    assert_eq!((ids(&messages), spans_of(&messages).len()), (vec![4], 2));
}

#[tokio::test]
async fn names_and_summaries_tell_what_is_stored() {
    let mut store = Store::start().await;
    let with = |name: &str, kind: span::SpanKind, span: Span| Span { name: name.to_owned(), kind: kind.into(), ..span };
    let child = Span { parent_span_id: 1_u64.to_be_bytes().to_vec(), ..span(1, 2, 5, 10) };
    store
        .write(vec![
            of_service(
                "one",
                vec![
                    with("plain", span::SpanKind::Unspecified, span(1, 1, 0, 100)),
                    with("served", span::SpanKind::Server, child),
                ],
            ),
            of_service("two", vec![with("called", span::SpanKind::Client, span(2, 1, S, 7))]),
        ])
        .await;
    let services = store.reader.get_services(storage::GetServicesRequest {}).await.unwrap().into_inner().services;
    assert_eq!(services, ["one", "two"]);
    let request = storage::GetOperationsRequest { service: "one".to_owned(), span_kind: String::new() };
    let found = store.reader.get_operations(request).await.unwrap().into_inner().operations;
    let told: BTreeMap<_, _> = found.into_iter().map(|found| (found.name, found.span_kind)).collect();
    assert_eq!(told, [("plain", ""), ("served", "server")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    let query = storage::TraceQueryParameters::default();
    let request = storage::FindTraceSummariesRequest { query: Some(query) };
    let found = all(store.reader.find_trace_summaries(request).await.unwrap().into_inner()).await;
    let told: Vec<_> = found.iter().flat_map(|chunk| &chunk.summaries).collect();
    let [newest, other] = told[..] else { panic!("two summaries, newest first: {told:?}") };
    assert_eq!((newest.trace_id[0], newest.span_count, newest.root_operation_name.as_str()), (2, 1, "called"));
    assert_eq!((other.trace_id[0], other.span_count, other.orphan_span_count), (1, 2, 0));
    assert_eq!(other.min_start_time_unix_nano, newest.min_start_time_unix_nano - S);
    assert_eq!(other.max_end_time_unix_nano, other.min_start_time_unix_nano + 100);

    // Nothing of it to whoever may not read traces.
    let address = store.pharos.jaeger_grpc_address();
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let refused = TraceReaderClient::new(channel).get_services(storage::GetServicesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_monitor_is_answered_from_spans() {
    let pharos = Pharos::builder().option("--span-metrics-flush-interval", "1s").start().await;
    send(&pharos).await;
    let path = "/api/metrics/errors?service=shop&lookback=0&ratePer=60000";
    for _ in 0..200 {
        let (status, answer) = pharos.get(path).await;
        assert_eq!((status, &answer["name"]), (200, &"service_error_rate".into()), "{answer}");
        let rate = answer["metrics"][0]["metricPoints"][0]["gaugeValue"]["doubleValue"].as_f64();
        // Every other call of the shop fails. The two counters may begin with different flushes, so their rates are
        // extrapolated from slightly different times.
        if rate.is_some_and(|rate| (rate - 0.5).abs() < 0.05) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no rate of errors came:\n{}", pharos.log());
}
