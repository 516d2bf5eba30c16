//! Who a request is of behind nginx: web tokens, certificates that nginx has checked, a tenant by the name of the host; and nobody by a
//! header that a client made up.

use pharos_testkit::{Pharos, PharosBuilder};
use reqwest::Method;
use serde_json::{Value, json};

use super::server::Nginx;
use super::{EXPORT_TRACES, PROTOBUF, samples, spans};
use crate::jwt::{Issuer, with_issuer};
use crate::peers::programs::{Agent, NodeExporter, PrometheusServer};
use crate::sdks::programs::{Language, Program, Protocol};
use crate::sdks::reference::Reference;

/// A server that believes nginx on this machine, and knows whose certificates are whose.
fn believing(more: &[Value]) -> PharosBuilder {
    let mut proxies = vec![json!({"networks": ["127.0.0.0/8"], "certificate_header": "X-Client-Cert"})];
    proxies.extend_from_slice(more);
    let certificates = json!([{
        "match": {"uri": "spiffe://test/agent/*"}, "name": "agent {uri}",
        "grant": {"scopes": ["metrics:write", "traces:write", "metrics:read"], "tenant": "0"},
    }]);
    Pharos::builder()
        .option("--identities-proxies", &Value::from(proxies).to_string())
        .option("--identities-certificates", &certificates.to_string())
        .option("--audit-level", "all")
}

#[tokio::test]
async fn a_certificate_that_nginx_has_checked_is_who_pharos_sees() {
    let pharos = believing(&[]).start().await;
    let nginx = Nginx::start("pharos-mtls", &pharos).await;
    let known = nginx.client_with_certificate();
    let write = known.post(nginx.url("/api/v1/write")).header("content-type", PROTOBUF).body(samples("by_certificate"));
    assert_eq!(write.send().await.unwrap().status().as_u16(), 204);
    let shown = [
        "--cert",
        nginx.path("client-cert.pem").to_str().unwrap(),
        "--key",
        nginx.path("client-key.pem").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let shown = shown.each_ref().map(String::as_str);
    assert_eq!(nginx.grpc_call(EXPORT_TRACES, &[], &shown, &spans(1, 10)).0.code, 0);
    assert_eq!(known.get(nginx.url("/api/services")).send().await.unwrap().status().as_u16(), 403, "a scope it lacks");
    let log = pharos.log();
    assert!(log.contains("who=\"agent spiffe://test/agent/a1\" by=\"certificate\""), "{log}");

    // Without one a token is asked for, and a certificate that only a header knows is none.
    assert_eq!(nginx.get("/api/v1/labels", None).await.0, 401);
    assert_eq!(nginx.get("/api/v1/labels", Some(pharos.token())).await.0, 200);
    let made_up = made_up(&nginx);
    let forged = nginx.request(Method::GET, "/api/v1/labels", None).header("X-Client-Cert", &made_up);
    assert_eq!(forged.send().await.unwrap().status().as_u16(), 401);
    let header = format!("X-Client-Cert: {made_up}");
    assert_eq!(nginx.grpc_call(EXPORT_TRACES, &[header], &[], &spans(2, 10)).0.code, 16);

    let strict = Nginx::start_with("pharos-mtls", &pharos, &["--verify-client", "on"]).await;
    let (status, answer) = strict.get("/api/v1/labels", Some(pharos.token())).await;
    assert!(status == 401 && answer["errorType"] == "unauthorized", "{status} {answer}");
    let within = strict.client_with_certificate().get(strict.url("/api/v1/labels")).send().await.unwrap();
    assert_eq!(within.status().as_u16(), 200);
}

/// The client's certificate as nginx would name it.
fn made_up(nginx: &Nginx) -> String {
    let pem = std::fs::read_to_string(nginx.path("client-cert.pem")).unwrap();
    pem.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test]
async fn no_site_lets_a_client_name_itself() {
    for site in ["pharos", "pharos-auth-request", "pharos-tenants"] {
        let people = ["X-Auth-Request-Email", "X-Forwarded-User"].map(|header| {
            json!({"networks": ["127.0.0.0/8"], "header": header, "grant": {"scopes": ["metrics:read"], "tenant": "0"}})
        });
        let pharos = believing(&people).start().await;
        let nginx = Nginx::start(site, &pharos).await;
        let (certificate, person) = (made_up(&nginx), "root@example.com".to_owned());
        for (header, value) in
            [("X-Client-Cert", &certificate), ("X-Auth-Request-Email", &person), ("X-Forwarded-User", &person)]
        {
            let direct = pharos.client().get(pharos.url("/api/v1/labels")).header(header, value).send().await.unwrap();
            assert_eq!(direct.status().as_u16(), 200, "{header}: or the next line shows nothing");
            let forged = nginx.request(Method::GET, "/api/v1/labels", None).header(header, value).send().await.unwrap();
            assert_eq!(forged.status().as_u16(), 401, "{site} {header}");
            let sent = format!("{header}: {value}");
            assert_eq!(nginx.grpc_call(EXPORT_TRACES, &[sent], &[], &spans(1, 10)).0.code, 16, "{site} {header}");
        }
    }
}

#[tokio::test]
async fn agents_and_sdks_send_with_nothing_but_a_certificate() {
    let pharos = believing(&[]).start().await;
    let nginx = Nginx::start("pharos-mtls", &pharos).await;
    let (ca, certificate, key) = (nginx.certificate(), nginx.path("client-cert.pem"), nginx.path("client-key.pem"));
    let exporter = NodeExporter::start(pharos.folder()).await;
    let agent = Agent::new("mtls", &nginx.url("/api/v1/write"), "").trusting(&ca).showing(&certificate, &key);
    let _agent = agent.start(pharos.folder(), &exporter);
    let files = format!("ca_file: {}, cert_file: {}, key_file: {}", ca.display(), certificate.display(), key.display());
    let keys = format!("tls_config: {{{files}}}");
    let _prometheus =
        PrometheusServer::start_writing(pharos.folder(), &exporter, &nginx.url("/api/v1/write"), &keys).await;
    let scratch = tempfile::tempdir().unwrap();
    let program = Program::build(Language::Go, scratch.path()).trusting(&ca).showing(&certificate, &key);
    let mut references = Vec::new();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let what = format!("Go over {} with a certificate that nginx checks", protocol.name());
        let file = scratch.path().join(format!("{}.json", references.len()));
        let sent = program.send(protocol, &nginx.url(""), "", &file);
        assert!(sent.status.success(), "{what}: {}", String::from_utf8_lossy(&sent.stderr));
        references.push((what, Reference::read(&file)));
    }
    crate::sdks::compare_all(&pharos, &references, "behind nginx").await;
    for up in ["up{door=\"mtls\"}", "up{job=\"prometheus\"}"] {
        crate::peers::wait_for(&pharos, up, |found| found.len() == 1 && found[0]["value"][1] == "1").await;
    }
}

#[tokio::test]
async fn web_tokens_pass_and_are_judged_by_their_claims() {
    let issuer = Issuer::start().await;
    let pharos = with_issuer(&issuer).await;
    let viewer = issuer.token("current", &json!({"padding": "x".repeat(6_000)}));
    let expired = issuer.token("current", &json!({"exp": 1_000_000_000}));
    for site in super::SITES {
        let nginx = Nginx::start(site, &pharos).await;
        assert_eq!(nginx.get("/api/v1/labels", Some(&viewer)).await.0, 200, "{site}: as long as they may be");
        assert_eq!(nginx.get("/select/7/prometheus/api/v1/labels", Some(&viewer)).await.0, 200, "{site}");
        for (path, token, expected) in [
            ("/select/8/prometheus/api/v1/labels", &viewer, 403),
            ("/api/services", &viewer, 403),
            ("/api/v1/labels", &expired, 401),
        ] {
            let (status, answer) = nginx.get(path, Some(token)).await;
            assert!(status == expected && answer.is_object(), "{site} {path}: {status} {answer}");
        }
        assert_eq!(nginx.grpc(EXPORT_TRACES, Some(&viewer), &spans(1, 10)).code, 7, "{site}");
    }
}

#[tokio::test]
async fn the_name_of_the_host_is_the_tenant_whatever_the_sender_says() {
    let pharos = Pharos::builder().start().await;
    let nginx = Nginx::start("pharos-tenants", &pharos).await;
    let one = pharos.new_token("seven", "metrics:write,metrics:read,traces:write", "team-seven");
    crate::tokens::wait_for(&pharos, &one, "/api/v1/labels", 200).await;
    let ask = async |host: &str, path: &str, token: &str, body: Option<Vec<u8>>| {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let host = format!("{host}.pharos.example.com");
        let request = nginx.client_of_host(&host).request(method, nginx.url_of_host(&host, path)).bearer_auth(token);
        // It counts as little as if it were not there.
        let request = request.header("X-Scope-OrgID", "team-eight").header("content-type", PROTOBUF);
        let answer = request.body(body.unwrap_or_default()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap_or_default())
    };
    let any = pharos.token();
    for host in ["team-seven", "team-eight"] {
        assert_eq!(ask(host, "/api/v1/write", any, Some(samples(&host.replace('-', "_")))).await.0, 204);
    }
    for host in ["team-seven", "team-eight"] {
        let (_, answer) = ask(host, "/api/v1/label/__name__/values", any, None).await;
        assert_eq!(answer["data"], json!([host.replace('-', "_")]), "{host}");
    }
    assert_eq!(ask("team-seven", "/api/v1/labels", &one, None).await.0, 200);
    assert_eq!(ask("team-eight", "/api/v1/labels", &one, None).await.0, 403);
    for (host, code) in [("team-seven", 0), ("team-eight", 7)] {
        let (url, token) = (
            nginx.url_of_host(&format!("{host}.pharos.example.com"), EXPORT_TRACES),
            format!("authorization: Bearer {one}"),
        );
        let connect = nginx.url("").replace("https://", "::");
        assert_eq!(nginx.grpc_call(&url, &[token], &["--connect-to", &connect], &spans(1, 10)).0.code, code, "{host}");
    }
}
