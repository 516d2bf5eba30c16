//! The same over gRPC: every method of every service that a port has, read off the descriptors that reflection tells.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use pharos_proto::jaeger::{api_v2, api_v3, metrics, storage_v2};
use pharos_proto::query::v1 as query;
use prost::Message;
use prost_types::{Duration, FileDescriptorSet, Timestamp};
use tower::ServiceExt;

use super::super::authz::{House, patterns};
use super::{PEOPLE, TRACE_ID, mark, shared_house};

/// What a method is asked, and what must come of it.
enum Asked {
    /// One's own data.
    Shows(Vec<u8>),
    /// Nobody's data, and why.
    Nothing(&'static str),
}

fn shows(message: &impl Message) -> Asked {
    Asked::Shows(message.encode_to_vec())
}

/// The question to a method that makes it answer with data.
fn question(method: &str, now_ms: i64) -> Asked {
    let timestamp = |at_ms: i64| Some(Timestamp { seconds: at_ms / 1_000, nanos: 0 });
    let (start, end) = (timestamp(now_ms - 600_000), timestamp(now_ms + 1_000));
    let seconds = |seconds: i64| Some(Duration { seconds, nanos: 0 });
    let id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&TRACE_ID[2 * at..2 * at + 2], 16).unwrap()).collect();
    let (service, selectors) = (|| "shop".to_owned(), || vec!["{job=\"shop\"}".to_owned()]);
    let base = || metrics::MetricsQueryBaseRequest {
        service_names: vec![service()],
        group_by_operation: true,
        end_time: timestamp(now_ms),
        lookback: seconds(600),
        step: seconds(60),
        rate_per: seconds(600),
        ..Default::default()
    };
    let v2 = || api_v2::TraceQueryParameters {
        service_name: service(),
        start_time_min: start,
        start_time_max: end,
        search_depth: 20,
        ..Default::default()
    };
    let v3 = || api_v3::TraceQueryParameters {
        service_name: service(),
        start_time_min: start,
        start_time_max: end,
        search_depth: 20,
        ..Default::default()
    };
    let storage = || storage_v2::TraceQueryParameters {
        service_name: service(),
        start_time_min: start,
        start_time_max: end,
        search_depth: 20,
        ..Default::default()
    };
    match method {
        "/jaeger.api_v2.QueryService/GetTrace" => {
            shows(&api_v2::GetTraceRequest { trace_id: id, ..Default::default() })
        }
        "/jaeger.api_v2.QueryService/ArchiveTrace" => Asked::Nothing("there is no archive"),
        "/jaeger.api_v2.QueryService/FindTraces" => shows(&api_v2::FindTracesRequest { query: Some(v2()) }),
        "/jaeger.api_v2.QueryService/GetServices" => shows(&api_v2::GetServicesRequest {}),
        "/jaeger.api_v2.QueryService/GetOperations" => {
            shows(&api_v2::GetOperationsRequest { service: service(), ..Default::default() })
        }
        "/jaeger.api_v2.QueryService/GetDependencies" => {
            shows(&api_v2::GetDependenciesRequest { start_time: start, end_time: end })
        }
        "/jaeger.api_v2.metrics.MetricsQueryService/GetMinStepDuration" => Asked::Nothing("alike for all tenants"),
        "/jaeger.api_v2.metrics.MetricsQueryService/GetLatencies" => {
            shows(&metrics::GetLatenciesRequest { base_request: Some(base()), quantile: 0.5 })
        }
        "/jaeger.api_v2.metrics.MetricsQueryService/GetCallRates" => {
            shows(&metrics::GetCallRatesRequest { base_request: Some(base()) })
        }
        "/jaeger.api_v2.metrics.MetricsQueryService/GetErrorRates" => {
            shows(&metrics::GetErrorRatesRequest { base_request: Some(base()) })
        }
        "/jaeger.api_v3.Capabilities/GetCapabilities" | "/jaeger.storage.v2.Capabilities/GetCapabilities" => {
            Asked::Nothing("alike for all tenants")
        }
        "/jaeger.api_v3.QueryService/GetTrace" => {
            shows(&api_v3::GetTraceRequest { trace_id: TRACE_ID.to_owned(), ..Default::default() })
        }
        "/jaeger.api_v3.QueryService/FindTraces" => shows(&api_v3::FindTracesRequest { query: Some(v3()) }),
        "/jaeger.api_v3.QueryService/FindTraceSummaries" => {
            shows(&api_v3::FindTraceSummariesRequest { query: Some(v3()) })
        }
        "/jaeger.api_v3.QueryService/GetServices" => shows(&api_v3::GetServicesRequest {}),
        "/jaeger.api_v3.QueryService/GetOperations" => {
            shows(&api_v3::GetOperationsRequest { service: service(), ..Default::default() })
        }
        "/jaeger.api_v3.QueryService/GetDependencies" => {
            shows(&api_v3::GetDependenciesRequest { start_time: start, end_time: end })
        }
        "/jaeger.storage.v2.TraceReader/GetTraces" => {
            let one = storage_v2::GetTraceParams { trace_id: id, ..Default::default() };
            shows(&storage_v2::GetTracesRequest { query: vec![one] })
        }
        "/jaeger.storage.v2.TraceReader/GetServices" => shows(&storage_v2::GetServicesRequest {}),
        "/jaeger.storage.v2.TraceReader/GetOperations" => {
            shows(&storage_v2::GetOperationsRequest { service: service(), ..Default::default() })
        }
        "/jaeger.storage.v2.TraceReader/FindTraces" => shows(&storage_v2::FindTracesRequest { query: Some(storage()) }),
        // By the one id that is a mark itself.
        "/jaeger.storage.v2.TraceReader/FindTraceIDs" => {
            shows(&storage_v2::FindTraceIDsRequest { query: Some(storage()) })
        }
        "/jaeger.storage.v2.TraceReader/FindTraceSummaries" => {
            shows(&storage_v2::FindTraceSummariesRequest { query: Some(storage()) })
        }
        "/jaeger.storage.v2.DependencyReader/GetDependencies" => {
            shows(&storage_v2::GetDependenciesRequest { start_time: start, end_time: end })
        }
        "/pharos.query.v1.QueryService/QueryInstant" => {
            shows(&query::QueryInstantRequest { query: "owned".to_owned(), ..Default::default() })
        }
        "/pharos.query.v1.QueryService/QueryRange" => shows(&query::QueryRangeRequest {
            query: "owned".to_owned(),
            start_unix_ms: now_ms - 600_000,
            end_unix_ms: now_ms,
            step_ms: 60_000,
            ..Default::default()
        }),
        "/pharos.query.v1.QueryService/Labels" => {
            shows(&query::LabelsRequest { selectors: selectors(), ..Default::default() })
        }
        "/pharos.query.v1.QueryService/LabelValues" => {
            shows(&query::LabelValuesRequest { name: "owner".to_owned(), ..Default::default() })
        }
        "/pharos.query.v1.QueryService/Series" => {
            shows(&query::SeriesRequest { selectors: selectors(), ..Default::default() })
        }
        // A watch has no end: it is not asked.
        "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/Watch" => Asked::Nothing("the server's own"),
        _ if method.starts_with("/opentelemetry.proto.collector.") && method.ends_with("/Export") => {
            Asked::Nothing("takes data")
        }
        _ => panic!("nobody says what {method} shows: add a question, or the reason why it shows nothing"),
    }
}

/// All methods of the services that a port has.
fn methods(served: &BTreeSet<String>) -> Vec<String> {
    let services: BTreeSet<&str> = served
        .iter()
        .filter_map(|pattern| pattern.strip_prefix('/')?.split_once('/'))
        .map(|(service, _)| service)
        .filter(|service| service.contains('.') && !service.starts_with("grpc.reflection."))
        .collect();
    let described = FileDescriptorSet::decode(pharos_proto::DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    let mut found = BTreeSet::new();
    for file in &described.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            if services.contains(name.as_str()) {
                methods.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
                found.insert(name);
            }
        }
    }
    let missing: Vec<_> = services.into_iter().filter(|service| !found.contains(*service)).collect();
    assert!(missing.is_empty(), "reflection does not know {missing:?}");
    methods
}

/// A call with one message; whether it was denied, and what comes back, as it is.
async fn call(
    house: &House,
    port: usize,
    method: &str,
    who: &str,
    tenant: Option<&str>,
    message: &[u8],
) -> (bool, String) {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let mut request = Request::post(method)
        .header("authorization", format!("Bearer {}", house.tokens[who]))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(tenant) = tenant {
        request = request.header("x-scope-orgid", tenant);
    }
    let response = house.routers[port].1.clone().oneshot(request.body(Body::from(frame)).unwrap()).await.unwrap();
    let is_denied = response.headers().get("grpc-status").is_some_and(|code| code == "7");
    let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
    (is_denied, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_method_of_any_grpc_service_shows_one_tenant_what_another_wrote() {
    let (house, now_ms) = shared_house().await;
    let (mut faults, mut asked) = (Vec::new(), 0);
    for (port, (name, router)) in house.routers.iter().enumerate() {
        for method in methods(&patterns(router)) {
            let (message, exception) = match question(&method, now_ms) {
                Asked::Shows(message) => (message, None),
                Asked::Nothing(_) if method.ends_with("/Watch") => continue,
                Asked::Nothing(why) => (Vec::new(), Some(why)),
            };
            for (who, own, other) in PEOPLE {
                let (_, answer) = call(&house, port, &method, who, None, &message).await;
                if answer.contains(&mark(other)) || answer.contains(&mark(own)) == exception.is_some() {
                    faults.push(format!("{name} {method} for {who}: {answer:?} (excepted: {exception:?})"));
                }
                let (is_denied, answer) = call(&house, port, &method, who, Some(other), &message).await;
                let is_public = method.starts_with("/grpc.health.");
                if is_denied == is_public || answer.contains(&mark(other)) {
                    faults.push(format!("{name} {method} for {who} asking for {other}: {answer:?}"));
                }
            }
            asked += 1;
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(asked > 50, "{asked} methods on all ports");
}
