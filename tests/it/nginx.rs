//! Behind nginx with the project's own configuration, all sites: exporters and agents send over TLS, what they sent comes
//! back, and every refusal, nginx's own too, reaches its client in words that this client understands.

mod errors;
mod identity;
mod server;

use std::net::IpAddr;

use opentelemetry_proto::tonic::trace::v1::TracesData;
use pharos_proto::health::v1::{HealthCheckResponse, health_check_response::ServingStatus};
use pharos_proto::jaeger::api_v3;
use pharos_proto::rpc;
use pharos_testkit::{Pharos, find_program, free_address};
use prost::Message;
use serde_json::{Value, json};

use crate::otlp::{now_ms, one_span, remote_write};
use crate::peers::programs::{Agent, NodeExporter, PrometheusServer};
use crate::sdks::programs::{Language, Program, Protocol};
use crate::sdks::reference::Reference;
use errors::{ORIGIN, Reader};
use server::{GrpcStatus, Nginx};

const SITES: [&str; 2] = ["pharos", "pharos-auth-request"];
/// One byte more than nginx and Pharos take.
const TOO_LARGE_BYTES: usize = (64 << 20) + 1;
/// A browser on a busy machine.
const BROWSER_MAX: std::time::Duration = std::time::Duration::from_mins(3);
const PROTOBUF: &str = "application/x-protobuf";
const EXPORT_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A trace of one span with a name of so many bytes.
fn spans(id: u8, name_bytes: usize) -> Vec<u8> {
    let mut message = one_span("behind-nginx", id, 1_000);
    message.resource_spans[0].scope_spans[0].spans[0].name = "n".repeat(name_bytes);
    message.encode_to_vec()
}

fn samples(name: &str) -> Vec<u8> {
    remote_write(name, &[], &[(now_ms(), 1.0)])
}

#[tokio::test]
async fn what_exporters_and_vmagent_send_through_nginx_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let go = Program::build(Language::Go, scratch.path());
    let python = Program::build(Language::Python, scratch.path());
    for site in SITES {
        let pharos = Pharos::builder().start().await;
        let nginx = Nginx::start(site, &pharos).await;
        let url = nginx.url("");
        let exporter = NodeExporter::start(pharos.folder()).await;
        let agent = Agent::new(site, &nginx.url("/api/v1/write"), pharos.token()).trusting(&nginx.certificate());
        let _agent = agent.start(pharos.folder(), &exporter);
        let keys = format!(
            "authorization: {{type: Bearer, credentials: {}}}\n  tls_config: {{ca_file: {}}}",
            pharos.token(),
            nginx.certificate().display()
        );
        let write = nginx.url("/api/v1/write");
        let _prometheus = PrometheusServer::start_writing(pharos.folder(), &exporter, &write, &keys).await;
        let mut references = Vec::new();
        for (program, language) in [(&go, Language::Go), (&python, Language::Python)] {
            let program = program.clone().trusting(&nginx.certificate());
            for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
                let what = format!("{} over {} through {site}", language.name(), protocol.name());
                let file = scratch.path().join(format!("{site}-{}.json", references.len()));
                let refused = program.send(protocol, &url, "not-the-token", &file);
                assert_eq!(refused.status.code(), Some(1), "{what}: a wrong token is noticed");
                let sent = program.send(protocol, &url, pharos.token(), &file);
                assert!(sent.status.success(), "{what}: {}", String::from_utf8_lossy(&sent.stderr));
                references.push((what, Reference::read(&file)));
            }
        }
        crate::sdks::compare_all(&pharos, &references, "behind nginx").await;
        for up in [&format!("up{{door=\"{site}\"}}"), "up{job=\"prometheus\"}"] {
            crate::peers::wait_for(&pharos, up, |found| found.len() == 1 && found[0]["value"][1] == "1").await;
        }
    }
}

#[tokio::test]
async fn every_door_is_open_with_a_token() {
    for site in SITES {
        let pharos = Pharos::builder().start().await;
        let nginx = Nginx::start(site, &pharos).await;
        let token = Some(pharos.token());
        // Larger than nginx's own default of 1 MB and than its buffers in memory.
        let grpc = nginx.grpc(EXPORT_TRACES, token, &spans(1, 3 << 20));
        assert_eq!(grpc, GrpcStatus { code: 0, message: String::new(), details: None }, "{site}");
        let (status, answer) = nginx.post("/v1/traces", token, PROTOBUF, spans(2, 3 << 20)).await;
        assert_eq!(status, 200, "{site}: {answer}");
        for (name, path) in [("main", "/api/v1/write"), ("insert", "/insert/0/prometheus/api/v1/write")] {
            let (status, answer) = nginx.post(path, token, PROTOBUF, samples(name)).await;
            assert_eq!(status, 204, "{site} {path}: {answer}");
        }
        for id in ["01", "02"] {
            let (status, answer) = nginx.get(&format!("/api/traces/{}", id.repeat(16)), token).await;
            assert_eq!(status, 200, "{site}: {answer}");
            let name = answer["data"][0]["spans"][0]["operationName"].as_str().map(str::len);
            assert_eq!(name, Some(3 << 20), "{site}: the span is whole");
        }
        for prefix in ["", "/prometheus", "/select/0/prometheus"] {
            let (status, answer) =
                nginx.get(&format!("{prefix}/api/v1/query?query=count(main)%2Bcount(insert)"), token).await;
            assert_eq!(
                (status, &answer["data"]["result"][0]["value"][1]),
                (200, &json!("2")),
                "{site} {prefix}: {answer}"
            );
        }
        let (status, page) = nginx.get("/", None).await;
        assert!(status == 200 && page.as_str().is_some_and(|page| page.contains("<html")), "{site}: {page}");
        assert_eq!(nginx.get("/-/ready", None).await.0, 200, "{site}");
        assert_eq!(nginx.post("/-/flush", token, "text/plain", Vec::new()).await.0, 200, "{site}: from this machine");

        // A browser signs in; its cookie is sent over TLS alone.
        let login =
            nginx.client().post(nginx.url("/auth/login")).json(&json!({"token": pharos.token()})).send().await.unwrap();
        assert_eq!(login.status().as_u16(), 204, "{site}");
        let cookie = login.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("Secure") && cookie.contains("HttpOnly"), "{site}: {cookie}");
        let session = cookie.split(';').next().unwrap();
        let listed = nginx.client().get(nginx.url("/api/services")).header("cookie", session).send().await.unwrap();
        assert_eq!(listed.status().as_u16(), 200, "{site}: with the cookie");
    }
}

#[tokio::test]
async fn without_a_token_that_may_nothing_passes() {
    for site in SITES {
        let pharos = Pharos::builder().start().await;
        let nginx = Nginx::start(site, &pharos).await;
        for token in [None, Some("not-the-token")] {
            for path in [EXPORT_TRACES, EXPORT_METRICS] {
                assert_eq!(nginx.grpc(path, token, &spans(1, 10)).code, 16, "{site} {path}");
            }
            for (path, expected) in [
                ("/v1/traces", json!({"code": 16})),
                ("/v1/metrics", json!({"code": 16})),
                ("/api/v1/write", json!({})),
                ("/insert/0/prometheus/api/v1/write", json!({})),
                ("/api/v1/query", json!({"status": "error", "errorType": "unauthorized"})),
                ("/prometheus/api/v1/query_range", json!({"status": "error", "errorType": "unauthorized"})),
                ("/-/flush", json!({})),
            ] {
                // Pharos answers OTLP in the encoding of the request.
                let (content_type, body) = if path.starts_with("/v1/") {
                    ("application/json", b"{}".to_vec())
                } else {
                    (PROTOBUF, samples("stranger"))
                };
                let (status, answer) = nginx.post(path, token, content_type, body).await;
                assert_eq!(status, 401, "{site} {path}: {answer}");
                assert_contains(&answer, &expected, &format!("{site} {path}"));
            }
            for path in [
                "/api/services",
                "/api/v3/services",
                "/api/v1/labels",
                "/select/0/prometheus/api/v1/labels",
                "/metrics",
            ] {
                assert_eq!(nginx.get(path, token).await.0, 401, "{site} {path}");
            }
        }
        let reader = pharos.new_token("reader", "metrics:read", "0");
        crate::tokens::wait_for(&pharos, &reader, "/api/v1/labels", 200).await;
        assert_eq!(nginx.grpc(EXPORT_TRACES, Some(&reader), &spans(1, 10)).code, 7, "{site}");
        let (status, answer) = nginx.post("/v1/metrics", Some(&reader), "application/json", b"{}".to_vec()).await;
        assert!(status == 403 && answer["code"] == 7, "{site}: {status} {answer}");
        assert_eq!(nginx.get("/api/services", Some(&reader)).await.0, 403, "{site}");
        assert_eq!(pharos.get("/api/v1/labels").await.1["data"], json!([]), "{site}: nothing came in");
        assert_eq!(pharos.get("/api/services").await.1["data"], json!([]), "{site}: nothing came in");
    }
}

/// Whether `answer` has every member of `expected` with its value.
fn assert_contains(answer: &Value, expected: &Value, what: &str) {
    for (key, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(&answer[key], value, "{what}: {answer}");
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_by_nginx() {
    for site in SITES {
        let pharos = allowing(ORIGIN).start().await;
        let nginx = Nginx::start_with(site, &pharos, &["--origin", ORIGIN]).await;
        let (token, large) = (Some(pharos.token()), vec![0_u8; TOO_LARGE_BYTES]);
        let refused = nginx.grpc(EXPORT_TRACES, token, &large);
        assert!(refused.code == 8 && refused.message.contains("client_max_body_size"), "{site}: {refused:?}");
        for reader in [Reader::OtlpProtobuf, Reader::OtlpJson, Reader::RemoteWrite, Reader::Prometheus] {
            let (paths, content_type) = reader.asks();
            let request = nginx.request(reqwest::Method::POST, paths[0], token).header("content-type", content_type);
            let answer = request.header("origin", ORIGIN).body(large.clone()).send().await.expect("nginx answers");
            reader.check(answer, 413, site).await;
        }
        // vmagent repeats 413 for ever and drops what is 409.
        for (name, value) in [("user-agent", "vmagent"), ("x-victoriametrics-remote-write-version", "1")] {
            for path in Reader::RemoteWrite.asks().0 {
                let request = nginx.request(reqwest::Method::POST, path, token).header(name, value);
                let answer = request.header("origin", ORIGIN).body(large.clone()).send().await.expect("nginx answers");
                Reader::RemoteWrite.check(answer, 409, &format!("{site} {path}")).await;
            }
        }
        assert_eq!(nginx.post("/v1/traces", token, PROTOBUF, spans(1, 10)).await.0, 200, "{site}: it lives on");
    }
}

/// A server that lets pages of one origin read.
fn allowing(origin: &str) -> pharos_testkit::PharosBuilder {
    Pharos::builder().option("--cors-origins", &json!([origin]).to_string())
}

#[tokio::test]
async fn every_client_is_refused_in_its_own_words() {
    for site in SITES {
        let pharos = allowing(ORIGIN).start().await;
        let nginx = Nginx::start_with(site, &pharos, &["--origin", ORIGIN]).await;
        let other = pharos.new_token("other", "debug", "0");
        crate::tokens::wait_for(&pharos, &other, "/api/v1/labels", 403).await;
        for reader in Reader::ALL.into_iter().filter(|reader| *reader != Reader::Page) {
            for path in reader.asks().0 {
                reader.check(reader.ask(&nginx, path, None).await, 401, &format!("{site} {path}")).await;
                reader.check(reader.ask(&nginx, path, Some(&other)).await, 403, &format!("{site} {path}")).await;
            }
        }
    }
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_again() {
    for site in SITES {
        let pharos = allowing(ORIGIN).start().await;
        let nginx = Nginx::start_with(site, &pharos, &["--origin", ORIGIN, "--one-request"]).await;
        let token = pharos.token();
        for reader in [Reader::OtlpProtobuf, Reader::Prometheus] {
            let path = reader.asks().0[0];
            // Two at most are let through in a minute; the question nginx asks in between is not counted.
            let mut answer = reader.ask(&nginx, path, Some(token)).await;
            for _ in 0..3 {
                answer = reader.ask(&nginx, path, Some(token)).await;
            }
            reader.check(answer, 429, site).await;
        }
        for reader in Reader::ALL {
            for path in reader.asks().0 {
                reader.check(reader.ask(&nginx, path, Some(token)).await, 429, &format!("{site} {path}")).await;
            }
        }
        check_grpc_retry(&nginx.grpc(EXPORT_TRACES, Some(token), &spans(1, 10)), site);
    }
}

/// UNAVAILABLE, and when to come again.
fn check_grpc_retry(status: &GrpcStatus, what: &str) {
    use base64::Engine;
    assert_eq!(status.code, 14, "{what}: {status:?}");
    let details = status.details.as_deref().expect("the details say when");
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).expect("details are base64");
    let read = rpc::Status::decode(&*details).expect("they are a google.rpc.Status");
    assert_eq!((read.code, &read.message), (14, &status.message), "{what}");
    let retry = rpc::RetryInfo::decode(&*read.details[0].value).expect("RetryInfo");
    assert!(read.details[0].type_url.ends_with(rpc::RetryInfo::NAME) && retry.retry_delay.is_some(), "{what}");
}

#[tokio::test]
async fn while_pharos_is_away_clients_are_told_to_come_back() {
    for site in SITES {
        let mut pharos = allowing(ORIGIN).start().await;
        let nginx = Nginx::start_with(site, &pharos, &["--origin", ORIGIN]).await;
        let token = pharos.token().to_owned();
        let token = Some(token.as_str());
        assert_eq!(nginx.grpc(EXPORT_TRACES, token, &spans(1, 10)).code, 0, "{site}");
        pharos.kill();
        check_grpc_retry(&nginx.grpc(EXPORT_TRACES, token, &spans(2, 10)), site);
        for reader in Reader::ALL {
            for path in reader.asks().0 {
                reader.check(reader.ask(&nginx, path, token).await, 503, &format!("{site} {path}")).await;
            }
        }
        pharos.restart().await;
        assert_eq!(nginx.grpc(EXPORT_TRACES, token, &spans(3, 10)).code, 0, "{site}");
        assert_eq!(nginx.post("/v1/traces", token, PROTOBUF, spans(4, 10)).await.0, 200, "{site}");
        let found = nginx.get(&format!("/api/traces/{}", "03".repeat(16)), token).await;
        assert_eq!(found.0, 200, "{site}: {}", found.1);
    }
}

#[tokio::test]
async fn a_page_of_another_site_sends_with_the_exporter_for_browsers() {
    crate::ui::install_packages();
    for site in SITES {
        let port = free_address().port().to_string();
        let origin = format!("http://127.0.0.1:{port}");
        let pharos = allowing(&origin).start().await;
        let nginx = Nginx::start_with(site, &pharos, &["--origin", &origin]).await;
        for path in ["/v1/traces", "/api/v1/query", "/api/services"] {
            let asked = nginx.request(reqwest::Method::OPTIONS, path, None).header("origin", &origin);
            let asked = asked.header("access-control-request-method", "POST");
            let answer =
                asked.header("access-control-request-headers", "authorization,content-type").send().await.unwrap();
            assert!(answer.status().is_success(), "{site} {path}: {}", answer.status());
            assert_eq!(answer.headers()["access-control-allow-origin"], origin.as_str(), "{site} {path}");
            assert!(answer.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
        }
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("it/nginx/browser-exporter.mjs");
        let walk = tokio::process::Command::new(find_program(&["node"]))
            .arg(script)
            .args([&port, &nginx.url("/v1/traces"), pharos.token()])
            .kill_on_drop(true)
            .output();
        let output =
            tokio::time::timeout(BROWSER_MAX, walk).await.expect("the page ends").expect("node can be started");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{site}: {told}{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_str(&told).expect("one line of JSON");
        assert_eq!(told["sent"], json!({"code": 0, "error": ""}), "{site}");
        let refused = told["refused"]["error"].as_str().unwrap();
        assert!(told["refused"]["code"] == 1 && refused.contains("401"), "{site}: the page sees why: {told}");
        assert_eq!(
            (&told["read"]["status"], &told["read"]["body"]["code"]),
            (&json!(401), &json!(16)),
            "{site}: {told}"
        );
        let (_, found) = pharos.get("/api/traces?service=browser").await;
        assert_eq!(found["data"][0]["spans"][0]["operationName"], "click", "{site}: {found}");
    }
}

#[tokio::test]
async fn jaeger_is_asked_over_grpc_and_health_without_a_token() {
    for site in SITES {
        let pharos = Pharos::builder().start().await;
        let nginx = Nginx::start(site, &pharos).await;
        let token = format!("authorization: Bearer {}", pharos.token());
        assert_eq!(nginx.grpc(EXPORT_TRACES, Some(pharos.token()), &spans(1, 10)).code, 0, "{site}");
        let question = api_v3::GetTraceRequest { trace_id: "01".repeat(16), ..api_v3::GetTraceRequest::default() };
        let method = "/jaeger.api_v3.QueryService/GetTrace";
        let (status, answers) = nginx.grpc_call(method, &[token], &[], &question.encode_to_vec());
        assert_eq!(status.code, 0, "{site}: {status:?}");
        let found: Vec<_> = answers.iter().map(|answer| TracesData::decode(&**answer).expect("OTLP")).collect();
        let names = found.iter().flat_map(|data| &data.resource_spans).flat_map(|of| &of.scope_spans);
        let names: Vec<_> = names.flat_map(|of| &of.spans).map(|span| span.name.len()).collect();
        assert_eq!(names, [10], "{site}");
        assert_eq!(nginx.grpc(method, None, &question.encode_to_vec()).code, 16, "{site}");

        let (status, answers) = nginx.grpc_call("/grpc.health.v1.Health/Check", &[], &[], b"");
        assert_eq!(status.code, 0, "{site}: {status:?}");
        let health = HealthCheckResponse::decode(&*answers[0]).expect("a health check's answer");
        assert_eq!(health.status(), ServingStatus::Serving, "{site}");
        let reflection = nginx.grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None, b"");
        assert_eq!(reflection.code, 16, "{site}: over gRPC, too");
    }
}

#[tokio::test]
async fn operation_and_nginx_own_questions_are_closed_to_others() {
    for site in SITES {
        let pharos = Pharos::builder().start().await;
        let nginx = Nginx::start(site, &pharos).await;
        // All of 127.0.0.0/8 is this machine, and nginx lets in 127.0.0.1 alone: another address of it is another host.
        let elsewhere = nginx.client_from(IpAddr::from([127, 0, 0, 2]));
        let status = async |method: reqwest::Method, path: &str| {
            let request = elsewhere.request(method, nginx.url(path)).bearer_auth(pharos.token());
            request.send().await.unwrap().status().as_u16()
        };
        for path in [
            "/-/flush",
            "/-/compact",
            "/-/reload",
            "/prometheus/-/flush",
            "/api/v1/admin/tsdb/delete_series",
            "/api/v1/%61dmin/tsdb/delete_series",
            "/prometheus/api/v1/admin/tsdb/delete_series",
            "/delete/0/prometheus/api/v1/admin/tsdb/delete_series",
            "/snapshot/create",
        ] {
            assert_eq!(status(reqwest::Method::POST, path).await, 403, "{site} {path}");
        }
        assert_eq!(status(reqwest::Method::GET, "/metrics").await, 403, "{site}");
        assert_eq!(status(reqwest::Method::GET, "/-/healthy").await, 200, "{site}");
        assert_eq!(status(reqwest::Method::GET, "/-/ready").await, 200, "{site}");
        assert_eq!(nginx.get("/auth/verify", Some(pharos.token())).await.0, 404, "{site}");
        if site == "pharos-auth-request" {
            assert_eq!(nginx.get("/-pharos-auth", Some(pharos.token())).await.0, 404, "it is internal");
        }

        // Without TLS there is nothing but the way to it.
        let plain = |method: reqwest::Method| nginx.client().request(method, nginx.plain_url("/api/v1/write"));
        let redirect = plain(reqwest::Method::GET).send().await.unwrap();
        assert_eq!(redirect.status().as_u16(), 301, "{site}");
        assert_eq!(redirect.headers()["location"], "https://localhost/api/v1/write", "{site}");
        assert_eq!(plain(reqwest::Method::POST).body("x").send().await.unwrap().status().as_u16(), 403, "{site}");
        let page = nginx.client().get(nginx.url("/")).send().await.unwrap();
        assert!(page.headers().contains_key("strict-transport-security"), "{site}");
    }
}
