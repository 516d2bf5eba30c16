//! Queries of the running server as operators see them, and PromQL over gRPC.

use pharos_proto::query::v1 as pb;
use pharos_proto::query::v1::query_service_client::QueryServiceClient;
use pharos_testkit::Pharos;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::otlp::{now_ms, push_remote_write, remote_write};

async fn client(address: std::net::SocketAddr) -> QueryServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    QueryServiceClient::new(endpoint.connect().await.unwrap())
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn answer(
    client: &mut QueryServiceClient<Channel>,
    request: Request<pb::QueryRangeRequest>,
) -> Result<Vec<pb::QueryResponse>, Status> {
    let mut stream = client.query_range(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

#[tokio::test]
async fn promql_is_answered_over_grpc_as_over_http() {
    let pharos = Pharos::builder().start().await;
    let end_unix_ms = now_ms() / 1_000 * 1_000;
    let samples: Vec<_> = (0..5).map(|step| (end_unix_ms - 60_000 + step * 15_000, step as f64)).collect();
    assert_eq!(push_remote_write(&pharos, "/api/v1/write", remote_write("asked", &[], &samples)).await.0, 204);
    let asks = |query: &str| pb::QueryRangeRequest {
        query: query.to_owned(),
        start_unix_ms: end_unix_ms - 60_000,
        end_unix_ms,
        step_ms: 15_000,
        options: None,
    };
    let reader = pharos.new_token("grafana", "metrics:read", "0");
    let writer = pharos.new_token("vmagent", "metrics:write", "0");
    assert_eq!(pharos.post("/-/reload", "text/plain", "").await.0, 200);
    for address in [pharos.main_address(), pharos.jaeger_grpc_address()] {
        let mut client = client(address).await;
        let messages = answer(&mut client, with_token(asks("asked * 2"), &reader)).await.unwrap();
        let series = &messages[0].series[0];
        assert_eq!(series.float_values, [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(series.float_times_unix_ms, samples.iter().map(|(at_ms, _)| *at_ms).collect::<Vec<_>>());
        let code = async |client: &mut _, request| answer(client, request).await.unwrap_err().code();
        assert_eq!(code(&mut client, Request::new(asks("asked"))).await, Code::Unauthenticated);
        assert_eq!(code(&mut client, with_token(asks("asked"), &writer)).await, Code::PermissionDenied);
        assert_eq!(code(&mut client, with_token(asks("asked{"), &reader)).await, Code::InvalidArgument);
    }
    let (_, metrics) = pharos.get("/metrics").await;
    let route = "route=\"/pharos.query.v1.QueryService/{method}\"";
    for code in ["200", "UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT"] {
        let line = format!("pharos_http_requests_total{{{route},code=\"{code}\"}} 2");
        assert!(metrics.as_str().unwrap().contains(&line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn queries_are_logged_counted_and_ranked() {
    let pharos = Pharos::builder().option("--query-slow-log-min", "0s").option("--log-format", "json").start().await;
    let at_ms = now_ms() - 1_000;
    let message = remote_write("asked", &[("job", "a \"b\"")], &[(at_ms, 7.0)]);
    assert_eq!(push_remote_write(&pharos, "/api/v1/write", message).await.0, 204);
    assert_eq!(pharos.query("asked{job=~\"a.*\"}", at_ms as f64 / 1_000.0).await[0]["value"][1], "7");
    let log = pharos.log();
    let line = log.lines().find(|line| line.contains("slow query")).unwrap_or_else(|| panic!("no line in {log}"));
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    for (field, value) in [
        ("kind", "instant"),
        ("query", "asked{job=~\"a.*\"}"),
        ("outcome", "ok"),
        ("tenant", "0"),
        ("principal", "test"),
        ("cache", "off"),
    ] {
        assert_eq!(line["fields"][field], value, "{line}");
    }
    assert_eq!((&line["fields"]["series_read"], &line["fields"]["samples_read"]), (&1.into(), &1.into()), "{line}");
    assert!(!log.contains(pharos.token()), "a token is never logged");
    let (_, metrics) = pharos.get("/metrics").await;
    for name in [
        "pharos_query_seconds_count{kind=\"instant\"} 1",
        "pharos_query_samples_read_total{kind=\"instant\"} 1",
        "pharos_query_running 0",
        "pharos_query_memory_bytes 0",
        "# TYPE pharos_tsdb_merges counter",
        "pharos_tsdb_merges_total 0",
    ] {
        assert!(metrics.as_str().unwrap().contains(name), "{name} is not in\n{metrics}");
    }
    let (status, top) = pharos.get("/api/v1/status/top_queries").await;
    assert_eq!((status, &top["topByCount"][0]["query"]), (200, &"asked{job=~\"a.*\"}".into()));
    assert_eq!(pharos.get("/api/v1/status/active_queries").await.1, serde_json::json!({"status": "ok", "data": []}));
    let request = pharos.client().delete(pharos.url("/api/v1/status/active_queries/00000000000000AB"));
    let reader = pharos.new_token("reader", "metrics:read", "*");
    assert_eq!(pharos.post("/-/reload", "text/plain", "").await.0, 200);
    let (as_reader, as_operator) =
        (request.try_clone().unwrap().bearer_auth(reader), request.bearer_auth(pharos.token()));
    assert_eq!(as_reader.send().await.unwrap().status().as_u16(), 403);
    assert_eq!(as_operator.send().await.unwrap().status().as_u16(), 404);
}
