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

/// When the data were written, and what all of them have in common.
struct Data {
    now_ms: i64,
}

impl Data {
    fn at(&self, offset_ms: i64) -> Timestamp {
        Timestamp { seconds: (self.now_ms + offset_ms) / 1_000, nanos: 0 }
    }

    /// From before the first span to after the last one.
    fn range(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (Some(self.at(-600_000)), Some(self.at(1_000)))
    }

    fn trace_id() -> Vec<u8> {
        (0..16).map(|at| u8::from_str_radix(&TRACE_ID[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn service() -> String {
        "shop".to_owned()
    }

    /// The question to a method that makes it answer with data.
    fn question(&self, method: &str) -> Asked {
        let (service, method) = method[1..].split_once('/').expect("a service and its method");
        let found = match service {
            "jaeger.api_v2.QueryService" => self.of_api_v2(method),
            "jaeger.api_v2.metrics.MetricsQueryService" => self.of_monitor(method),
            "jaeger.api_v3.QueryService" => self.of_api_v3(method),
            "jaeger.storage.v2.TraceReader" | "jaeger.storage.v2.DependencyReader" => self.of_storage(method),
            "jaeger.api_v3.Capabilities" | "jaeger.storage.v2.Capabilities" if method == "GetCapabilities" => {
                Some(Asked::Nothing("alike for all tenants"))
            }
            "pharos.query.v1.QueryService" => self.of_promql(method),
            "grpc.health.v1.Health" => Some(Asked::Nothing("the server's own")),
            _ if service.starts_with("opentelemetry.proto.collector.") => Some(Asked::Nothing("takes data")),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("what does {service}/{method} show? add a question, or the reason why nothing"))
    }

    fn of_api_v2(&self, method: &str) -> Option<Asked> {
        let (start_time, end_time) = self.range();
        let query = api_v2::TraceQueryParameters {
            service_name: Self::service(),
            start_time_min: start_time,
            start_time_max: end_time,
            search_depth: 20,
            ..Default::default()
        };
        Some(match method {
            "GetTrace" => shows(&api_v2::GetTraceRequest { trace_id: Self::trace_id(), ..Default::default() }),
            "ArchiveTrace" => Asked::Nothing("there is no archive"),
            "FindTraces" => shows(&api_v2::FindTracesRequest { query: Some(query) }),
            "GetServices" => shows(&api_v2::GetServicesRequest {}),
            "GetOperations" => shows(&api_v2::GetOperationsRequest { service: Self::service(), ..Default::default() }),
            "GetDependencies" => shows(&api_v2::GetDependenciesRequest { start_time, end_time }),
            _ => return None,
        })
    }

    fn of_api_v3(&self, method: &str) -> Option<Asked> {
        let (start_time, end_time) = self.range();
        let query = api_v3::TraceQueryParameters {
            service_name: Self::service(),
            start_time_min: start_time,
            start_time_max: end_time,
            search_depth: 20,
            ..Default::default()
        };
        Some(match method {
            "GetTrace" => shows(&api_v3::GetTraceRequest { trace_id: TRACE_ID.to_owned(), ..Default::default() }),
            "FindTraces" => shows(&api_v3::FindTracesRequest { query: Some(query) }),
            "FindTraceSummaries" => shows(&api_v3::FindTraceSummariesRequest { query: Some(query) }),
            "GetServices" => shows(&api_v3::GetServicesRequest {}),
            "GetOperations" => shows(&api_v3::GetOperationsRequest { service: Self::service(), ..Default::default() }),
            "GetDependencies" => shows(&api_v3::GetDependenciesRequest { start_time, end_time }),
            _ => return None,
        })
    }

    fn of_storage(&self, method: &str) -> Option<Asked> {
        let (start_time, end_time) = self.range();
        let query = storage_v2::TraceQueryParameters {
            service_name: Self::service(),
            start_time_min: start_time,
            start_time_max: end_time,
            search_depth: 20,
            ..Default::default()
        };
        let one = storage_v2::GetTraceParams { trace_id: Self::trace_id(), ..Default::default() };
        Some(match method {
            "GetTraces" => shows(&storage_v2::GetTracesRequest { query: vec![one] }),
            "GetServices" => shows(&storage_v2::GetServicesRequest {}),
            "GetOperations" => {
                shows(&storage_v2::GetOperationsRequest { service: Self::service(), ..Default::default() })
            }
            "FindTraces" => shows(&storage_v2::FindTracesRequest { query: Some(query) }),
            // One of the ids is a mark itself.
            "FindTraceIDs" => shows(&storage_v2::FindTraceIDsRequest { query: Some(query) }),
            "FindTraceSummaries" => shows(&storage_v2::FindTraceSummariesRequest { query: Some(query) }),
            "GetDependencies" => shows(&storage_v2::GetDependenciesRequest { start_time, end_time }),
            _ => return None,
        })
    }

    fn of_monitor(&self, method: &str) -> Option<Asked> {
        let seconds = |seconds: i64| Some(Duration { seconds, nanos: 0 });
        let base_request = Some(metrics::MetricsQueryBaseRequest {
            service_names: vec![Self::service()],
            group_by_operation: true,
            end_time: Some(self.at(0)),
            lookback: seconds(600),
            step: seconds(60),
            rate_per: seconds(600),
            ..Default::default()
        });
        Some(match method {
            "GetMinStepDuration" => Asked::Nothing("alike for all tenants"),
            "GetLatencies" => shows(&metrics::GetLatenciesRequest { base_request, quantile: 0.5 }),
            "GetCallRates" => shows(&metrics::GetCallRatesRequest { base_request }),
            "GetErrorRates" => shows(&metrics::GetErrorRatesRequest { base_request }),
            _ => return None,
        })
    }

    fn of_promql(&self, method: &str) -> Option<Asked> {
        let (query, selectors) = ("owned".to_owned(), vec!["{job=\"shop\"}".to_owned()]);
        Some(match method {
            "QueryInstant" => shows(&query::QueryInstantRequest { query, ..Default::default() }),
            "QueryRange" => shows(&query::QueryRangeRequest {
                query,
                start_unix_ms: self.now_ms - 600_000,
                end_unix_ms: self.now_ms,
                step_ms: 60_000,
                ..Default::default()
            }),
            "Labels" => shows(&query::LabelsRequest { selectors, ..Default::default() }),
            "LabelValues" => shows(&query::LabelValuesRequest { name: "owner".to_owned(), ..Default::default() }),
            "Series" => shows(&query::SeriesRequest { selectors, ..Default::default() }),
            _ => return None,
        })
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
            let (message, exception) = match (Data { now_ms }).question(&method) {
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
