//! Nothing secret comes out: every kind of secret is used, in requests that are let in, refused and not understood, at the most talkative
//! log; then everything that the server says of itself is searched for them.

use std::fs;
use std::path::Path;
use std::process::Command;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pharos_testkit::{Pharos, find_program};
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::otlp::now_ms;

/// The shared secret of an issuer, as its file has it.
const HMAC_KEY: &str = "correct-horse-battery-staple-0123456789";
/// The password and the parameter in the URL of an issuer's keys.
const URL_PASSWORD: &str = "a-password-that-only-the-idp-knows";
const URL_PARAMETER: &str = "a-parameter-that-opens-the-key-set";
/// What somebody mistyped: it is nobody's, and nearly somebody's.
const MISTYPED: &str = "pharos_almostTheRightSecretButNotQuite0123456789abc";

/// What a search looks for: a secret under the name it has in messages of failures.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    /// The parts of a text that nobody may see, each long enough that nothing else has it by chance.
    fn add(&mut self, what: &'static str, text: &str) {
        assert!(text.len() >= 16, "{what}: too short to search for");
        self.0.push((what, text.to_owned()));
    }

    fn assert_absent(&self, place: &str, text: &str) {
        for (what, secret) in &self.0 {
            let at = text.find(secret.as_str());
            let around = at.map(|at| &text[text.floor_char_boundary(at.saturating_sub(300))..at]);
            assert!(at.is_none(), "{what} is in {place}, after:\n{}", around.unwrap_or_default());
        }
    }
}

/// Every way to show a token: in a bearer's header, as a password, under another name, in the question nginx asks, and where it does not
/// belong.
fn shown(pharos: &Pharos, token: &str) -> Vec<RequestBuilder> {
    let get = |path: &str| pharos.client().get(pharos.url(path));
    let verify = get("/auth/verify").header("X-Original-URI", "/api/v1/query").header("X-Original-Method", "GET");
    vec![
        get("/api/v1/query?query=1").bearer_auth(token),
        get("/api/v1/query?query=unknown_function(1)").bearer_auth(token),
        get("/api/services").basic_auth("grafana", Some(token)),
        get("/api/v1/labels").header("X-API-Key", token),
        get("/api/v1/labels").header("authorization", token),
        get("/api/v1/labels").header("authorization", format!("Token {token}")),
        get("/api/v1/labels")
            .header("authorization", format!("Bearer {token}"))
            .header("authorization", "Bearer second"),
        get(&format!("/api/v1/labels?access_token={token}")),
        verify.bearer_auth(token),
        pharos.client().post(pharos.url("/auth/login")).json(&json!({"token": token})),
        pharos.client().post(pharos.url("/auth/login")).json(&json!({"tokens": token})),
        pharos
            .client()
            .post(pharos.url("/v1/traces"))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body("{"),
        pharos.client().post(pharos.url("/api/v1/write")).bearer_auth(token).body("no protobuf"),
        pharos.client().post(pharos.url("/-/reload")).bearer_auth(token),
        pharos.client().request(Method::DELETE, pharos.url("/nowhere")).bearer_auth(token),
    ]
}

fn grpc(pharos: &Pharos, token: &str) -> String {
    let output = Command::new(find_program(&["curl"]))
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--http2-prior-knowledge",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "xx"])
        .args(["-H", &format!("authorization: Bearer {token}")])
        .arg(format!(
            "http://{}/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            pharos.otlp_grpc_address()
        ))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where the keys of an issuer are, with secrets in the URL.
fn keys_url(place: &str) -> String {
    format!("http://pharos:{URL_PASSWORD}@{place}/keys?token={URL_PARAMETER}")
}

/// Issuers of web tokens: one with a shared secret in a file, one whose keys are at `place`.
fn issuers(secret_file: &Path, place: &str) -> String {
    json!([{
        "issuer": "https://idp.example.com", "audience": ["pharos"],
        "keys": {"secrets": [{"file": secret_file, "algorithm": "HS256"}]}, "grant": {"tenant": "0"},
    }, {
        "issuer": "https://other.example.com", "audience": ["pharos"], "keys": {"jwks_url": keys_url(place)},
    }])
    .to_string()
}

/// A server that logs whatever it can, with every kind of secret in its settings.
async fn talkative(folder: &Path, pair: &KeyPair, issuers: &str) -> Pharos {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(pair).unwrap();
    fs::write(path("server.pem"), certificate.pem()).unwrap();
    fs::write(path("server.key"), pair.serialize_pem()).unwrap();
    Pharos::builder()
        .option("--log-level", "trace")
        .option("--audit-level", "all")
        .option("--audit-per-second-max", "100000")
        .option("--query-slow-log-min", "0s")
        .option("--identities-headers", r#"["X-API-Key"]"#)
        .option("--identities-jwt", issuers)
        .option("--tls-certificate", &path("server.pem"))
        .option("--tls-key", &path("server.key"))
        .option("--listeners", r#"[{"port": "listen", "tls": "off"}, {"port": "otlp_grpc", "tls": "off"}]"#)
        .start()
        .await
}

#[tokio::test]
async fn no_secret_is_in_logs_answers_metrics_or_listings() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate().unwrap();
    let secret_file = folder.path().join("hmac");
    fs::write(&secret_file, format!("{HMAC_KEY}\n")).unwrap();
    // Nobody listens there: that the keys cannot be had is told with the first attempt.
    let closed = pharos_testkit::free_address().to_string();
    let pharos = talkative(folder.path(), &pair, &issuers(&secret_file, &closed)).await;
    let claims = json!({"iss": "https://idp.example.com", "aud": "pharos", "sub": "ann", "exp": now_ms() / 1_000 + 600, "scope": "metrics:read"});
    let web_token =
        |key: &str| encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(key.as_bytes())).unwrap();
    let (good, forged) = (web_token(HMAC_KEY), web_token("another-secret-of-somebody-else-012345"));
    let reader = pharos.new_token("reader", "metrics:read", "7");
    crate::tokens::wait_for(&pharos, &reader, "/select/7/prometheus/api/v1/labels", 200).await;
    let login = pharos.client().post(pharos.url("/auth/login")).json(&json!({"token": reader})).send().await.unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().to_owned();
    let (_, session) = cookie.split(';').next().unwrap().split_once('=').unwrap();

    let mut secrets = Secrets(Vec::new());
    let key_text: String = pair.serialize_pem().lines().filter(|line| !line.starts_with('-')).collect();
    for (what, text) in [
        ("a token", pharos.token()),
        ("a token of one tenant", &reader),
        ("a token that is nobody's", MISTYPED),
        ("a session", session),
        ("an issuer's secret", HMAC_KEY),
        ("the password in an issuer's URL", URL_PASSWORD),
        ("the parameter in an issuer's URL", URL_PARAMETER),
        ("the signature of a web token", good.rsplit('.').next().unwrap()),
        ("the signature of a forged web token", forged.rsplit('.').next().unwrap()),
        ("the key of a certificate", &key_text[..40]),
    ] {
        secrets.add(what, text);
    }
    // As passwords they go over the wire in base64.
    let passwords = [pharos.token(), reader.as_str(), MISTYPED, good.as_str()].map(|token| ("grafana", token));
    for (name, password) in passwords.into_iter().chain([("pharos", URL_PASSWORD)]) {
        use base64::Engine;
        let sent = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        secrets.add("a password", &sent[..40]);
    }

    let mut statuses = std::collections::BTreeSet::new();
    for token in [pharos.token(), &reader, MISTYPED, &good, &forged] {
        for request in shown(&pharos, token) {
            let answer = request.send().await.unwrap();
            statuses.insert(answer.status().as_u16());
            let (url, headers) = (answer.url().path().to_owned(), format!("{:?}", answer.headers()));
            // The one answer whose purpose is a secret.
            if url != "/auth/login" || !answer.status().is_success() {
                secrets.assert_absent(&format!("headers of {url}"), &headers);
            }
            secrets.assert_absent(&format!("the answer of {url}"), &answer.text().await.unwrap());
        }
        secrets.assert_absent("an answer over gRPC", &grpc(&pharos, token));
    }
    let with_cookie =
        pharos.client().get(pharos.url("/auth/session")).header("cookie", format!("pharos_session={session}"));
    secrets.assert_absent("the session's listing", &with_cookie.send().await.unwrap().text().await.unwrap());
    let wrong =
        pharos.client().get(pharos.url("/api/v1/labels")).header("cookie", format!("pharos_session={MISTYPED}"));
    assert_eq!(wrong.send().await.unwrap().status().as_u16(), 401);
    for status in [200, 204, 400, 401, 403] {
        assert!(statuses.contains(&status), "requests of every kind: {statuses:?} lacks {status}");
    }

    for path in [
        "/metrics",
        "/api/v1/status/config",
        "/api/v1/status/flags",
        "/api/v1/status/runtimeinfo",
        "/api/v1/status/self_metrics",
        "/api/v1/status/active_queries",
        "/api/v1/status/top_queries",
        "/api/v1/status/buildinfo",
    ] {
        let (status, answer) = pharos.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        secrets.assert_absent(path, &answer.to_string());
    }
    let data = pharos.data_dir();
    let listed = Pharos::run(&["token", "list", "--data-dir", data.to_str().unwrap()]);
    secrets.assert_absent("pharos token list", &String::from_utf8_lossy(&listed.stdout));
    secrets.assert_absent("the token file", &fs::read_to_string(data.join("tokens.json")).unwrap());
    let wrong = issuers(&secret_file, "idp.example.com").replace("HS256", "RS256");
    let files = ["serve", "--data-dir", "/nonexistent", "--identities-jwt", &wrong];
    let faults = String::from_utf8_lossy(&Pharos::run(&files).stderr).into_owned();
    assert!(faults.contains("must begin with https://"), "or it shows nothing: {faults}");
    secrets.assert_absent("a fault of settings", &faults);

    let log = pharos.log();
    assert!(
        log.contains("TRACE") && log.contains("request refused") && log.contains("request admitted"),
        "or it shows nothing"
    );
    assert!(log.contains(&format!("cannot get http://{closed}/keys")), "the place of the keys is named");
    assert!(log.contains("who=\"reader\"") && log.contains("who=\"ann\""), "people are named");
    secrets.assert_absent("the log", &log);
}
