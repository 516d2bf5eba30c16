//! TLS of the ports themselves: real clients with certificates, files that change, commands that ask over https.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pharos_testkit::{Pharos, PharosBuilder};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::peers::programs::{Agent, NodeExporter, PrometheusServer};
use crate::sdks::compare_all;
use crate::sdks::programs::{Language, Program};
use crate::sdks::reference::Reference;

/// One authority for servers and clients, and the files of both.
struct Files {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// An authority that nobody knows yet.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Files {
    fn new() -> Self {
        let authority = authority("pharos test authority");
        let files = Self { folder: tempfile::tempdir().unwrap(), authority };
        std::fs::write(files.path("ca.pem"), files.authority.pem()).unwrap();
        files.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
        files.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes `NAME.pem`, `NAME.key` and both as `NAME.both`.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        self.issue_by(&self.authority, name, usage, &[]);
    }

    /// The same by any authority, with alternative names of type URI.
    fn issue_by(
        &self,
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        uris: &[&str],
    ) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, authority).unwrap().pem();
        let key = key.serialize_pem();
        std::fs::write(self.path(&format!("{name}.key")), &key).unwrap();
        std::fs::write(self.path(&format!("{name}.both")), format!("{certificate}{key}")).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate).unwrap();
    }

    /// A server with TLS on all ports, and who is asked for certificates by `listeners`.
    fn server(&self, listeners: &str) -> PharosBuilder {
        Pharos::builder()
            .option("--tls-certificate", &self.text("server.pem"))
            .option("--tls-key", &self.text("server.key"))
            .option("--tls-client-ca", &self.text("ca.pem"))
            .option("--tls-clients", "optional")
            .option("--listeners", listeners)
    }
}

const MAIN_IS_PLAIN: &str = r#"[{"port": "listen", "tls": "off"}]"#;

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*"])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn https(address: SocketAddr, path: &str) -> String {
    format!("https://localhost:{}{path}", address.port())
}

/// Sends with certificates over every protocol; without one nobody gets in.
async fn check_sdk(language: Language) {
    let files = Files::new();
    let listeners = r#"[{"port": "listen", "tls": "off"}, {"port": "jaeger", "tls": "off"}, {"port": "jaeger_grpc", "tls": "off"},
        {"port": "otlp_grpc", "tls": {"clients": "required"}}, {"port": "otlp_http", "tls": {"clients": "required"}}]"#;
    let pharos = files.server(&listeners.replace('\n', "")).start().await;
    let scratch = tempfile::tempdir().unwrap();
    let stranger = Program::build(language, scratch.path()).trusting(&files.path("ca.pem"));
    let program = stranger.clone().showing(&files.path("client.pem"), &files.path("client.key"));
    let mut references = Vec::new();
    for &protocol in language.protocols() {
        let what = format!("{} over {} with TLS", language.name(), protocol.name());
        let port = if protocol.name() == "grpc" { pharos.otlp_grpc_address() } else { pharos.otlp_http_address() };
        let file = scratch.path().join(format!("sent-{}.json", references.len()));
        if references.is_empty() {
            let refused = stranger.send(protocol, &https(port, ""), pharos.token(), &file);
            assert!(!refused.status.success() && !file.exists(), "{what}: no certificate, no entry");
        }
        let sent = program.send(protocol, &https(port, ""), pharos.token(), &file);
        assert!(sent.status.success(), "{what}: {}", text(&sent.stderr));
        references.push((what, Reference::read(&file)));
    }
    compare_all(&pharos, &references, "at once").await;
}

#[tokio::test]
async fn the_go_sdk_sends_with_a_client_certificate() {
    check_sdk(Language::Go).await;
}

#[tokio::test]
async fn the_python_sdk_sends_with_a_client_certificate() {
    check_sdk(Language::Python).await;
}

#[tokio::test]
async fn browsers_and_curl_speak_either_version_and_plain_http_is_told() {
    let files = Files::new();
    let pharos = files.server(MAIN_IS_PLAIN).start().await;
    let url = https(pharos.jaeger_address(), "/api/services");
    let token = format!("Authorization: Bearer {}", pharos.token());
    let ca = files.text("ca.pem");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let shown = "%{http_version} %{http_code}";
        let answer = curl(&["--cacert", &ca, flag, "-o", "/dev/null", "-w", shown, "-H", &token, &url]);
        assert_eq!(text(&answer.stdout), format!("{version} 200"), "{}", text(&answer.stderr));
    }
    let (certificate, key) = (files.text("client.pem"), files.text("client.key"));
    let answer = curl(&["--cacert", &ca, "--cert", &certificate, "--key", &key, "--fail", "-H", &token, &url]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    assert!(!curl(&["-H", &token, &url]).status.success(), "the system does not know our authority");
    let plain = curl(&[&url.replace("https:", "http:")]);
    assert_eq!(text(&plain.stdout), "this port speaks TLS: use https\n");
    let log = pharos.log();
    assert!(log.contains(&format!("https://{}", pharos.jaeger_address())), "{log}");
    assert!(!log.contains(&format!("https://{}", pharos.main_address())), "{log}");
}

fn serial_shown(address: SocketAddr) -> String {
    let connect = format!("openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    text(&Command::new("sh").args(["-c", &connect]).output().unwrap().stdout)
}

fn hang_up(pharos: &Pharos) {
    assert!(Command::new("kill").args(["-HUP", &pharos.id().to_string()]).status().unwrap().success());
}

async fn wait_for_log(pharos: &Pharos, part: &str, count: usize) {
    let begun = Instant::now();
    while pharos.log().matches(part).count() < count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{part:?} is not there {count} times:\n{}", pharos.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_hangup_reads_tokens_and_certificates_again_and_ends_nothing() {
    let files = Files::new();
    let mut pharos = files.server(MAIN_IS_PLAIN).start().await;
    let before = serial_shown(pharos.jaeger_address());
    assert!(before.starts_with("serial="), "{before}");
    files.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    hang_up(&pharos);
    wait_for_log(&pharos, "tokens: reloaded; limits: reloaded; tls of", 1).await;
    let after = serial_shown(pharos.jaeger_address());
    assert_ne!(after, before, "the new certificate is shown");

    std::fs::copy(files.path("client.key"), files.path("server.key")).unwrap();
    hang_up(&pharos);
    wait_for_log(&pharos, "kept as it was", 1).await;
    let (status, answer) = pharos.post("/-/reload", "text/plain", "").await;
    let answer = answer.to_string();
    assert!(
        status == 500 && answer.contains("tokens: reloaded") && answer.contains("cannot be used together"),
        "{answer}"
    );
    assert_eq!(serial_shown(pharos.jaeger_address()), after, "what was in use stays");

    // Nobody says a word this time: the files are looked at.
    files.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    let begun = Instant::now();
    while serial_shown(pharos.jaeger_address()) == after {
        assert!(begun.elapsed() < Duration::from_secs(30), "new files are noticed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (_, metrics) = pharos.get("/metrics").await;
    let metrics = metrics.as_str().unwrap_or_default().to_owned();
    assert!(metrics.contains("pharos_tls_certificate_expiry_timestamp_seconds{port=\"jaeger\"}"), "{metrics}");
    assert!(pharos.stop().await.success());
}

#[tokio::test]
async fn commands_ask_over_https() {
    let files = Files::new();
    let pharos = files.server("[]").over_tls().start().await;
    let url = https(pharos.main_address(), "");
    let snapshot = |arguments: &[&str], variables: &[(&str, &Path)]| {
        let mut command = Command::new(Pharos::program());
        command.args(["snapshot", "list", "--url", &url]).args(arguments).env("PHAROS_TOKEN", pharos.token());
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let ca = files.text("ca.pem");
    for (arguments, variables) in [
        (&["--ca-file", &ca][..], &[][..]),
        (&[], &[("PHAROS_CA_FILE", files.path("ca.pem").as_path())][..]),
        (&["--ca-file", &ca, "--client-certificate-file", &files.text("client.both")], &[]),
    ] {
        let listed = snapshot(arguments, variables);
        assert!(listed.status.success(), "{arguments:?}: {}", text(&listed.stderr));
    }
    let refused = snapshot(&[], &[]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("--ca-file"), "{}", text(&refused.stderr));
    let wrong = snapshot(&["--ca-file", &files.text("client.key")], &[]);
    assert!(text(&wrong.stderr).contains("holds no certificate in PEM"), "{}", text(&wrong.stderr));
    let health = Pharos::run(&["healthcheck", "--address", &https(pharos.main_address(), "")]);
    assert!(health.status.success(), "{}", text(&health.stderr));
    let plain = Pharos::run(&["healthcheck", "--address", &pharos.main_address().to_string()]);
    assert!(!plain.status.success(), "plain HTTP is not ready on a port with TLS");
}

/// Who has which certificate, as an operator writes it.
fn identities() -> String {
    serde_json::json!([
        {"match": {"uri": "spiffe://prod/agent/*"}, "name": "agent {uri}",
         "grant": {"scopes": ["metrics:write", "traces:write"], "tenant": "0", "extra_labels": {"site": "north"}}},
        {"match": {"common_name": "reader-*"}, "grant": {"scopes": ["metrics:read"], "tenant": "0"}},
    ])
    .to_string()
}

#[tokio::test]
async fn agents_and_sdks_are_who_their_certificates_say_and_need_no_token() {
    let files = Files::new();
    files.issue_by(&files.authority, "whoever", ExtendedKeyUsagePurpose::ClientAuth, &["spiffe://prod/agent/a1"]);
    files.issue("reader-1", ExtendedKeyUsagePurpose::ClientAuth);
    let pharos = files
        .server(&MAIN_IS_PLAIN.replace(']', r#", {"port": "jaeger_grpc", "tls": "off"}]"#))
        .option("--identities-certificates", &identities())
        .option("--audit-level", "all")
        .start()
        .await;
    let (ca, agent) = (files.path("ca.pem"), (files.path("whoever.pem"), files.path("whoever.key")));
    let scratch = tempfile::tempdir().unwrap();
    let mut sent_traces = 0;
    for language in [Language::Go, Language::Python] {
        let program = Program::build(language, scratch.path()).trusting(&ca).showing(&agent.0, &agent.1);
        for &protocol in language.protocols() {
            let what = format!("{} over {} with a certificate alone", language.name(), protocol.name());
            let port = if protocol.name() == "grpc" { pharos.otlp_grpc_address() } else { pharos.otlp_http_address() };
            let file = scratch.path().join(format!("certificate-{sent_traces}.json"));
            let sent = program.send(protocol, &https(port, ""), "", &file);
            assert!(sent.status.success(), "{what}: {}", text(&sent.stderr));
            let wrong = program.send(protocol, &https(port, ""), "not-the-token", &file.with_extension("wrong"));
            assert!(!wrong.status.success(), "{what}: a good certificate does not mend a wrong token");
            sent_traces += Reference::read(&file).traces().len();
        }
    }
    // Its labels are on everything it sent.
    for count in [r#"count({site="north"})"#, r#"count({__name__=~".+",__name__!~"traces_.*",site=""}) or vector(0)"#] {
        let found = pharos.query(count, crate::otlp::now_ms() as f64 / 1_000.0).await;
        let number: f64 = found[0]["value"][1].as_str().unwrap().parse().unwrap();
        assert_eq!(number > 0.0, count.contains("north"), "{count}: {found}");
    }
    assert!(sent_traces > 0);
    let (_, services) = pharos.get("/api/services").await;
    assert!(services["data"].as_array().is_some_and(|services| services.len() >= 2), "{services}");
    let log = pharos.log();
    assert!(log.contains("who=\"agent spiffe://prod/agent/a1\" by=\"certificate\""), "{log}");

    let jaeger = |path: &str| https(pharos.jaeger_address(), path);
    let ask = |name: &str, path: &str| {
        let (certificate, key) = (files.text(&format!("{name}.pem")), files.text(&format!("{name}.key")));
        let shown = [
            "--cacert",
            ca.to_str().unwrap(),
            "--cert",
            &certificate,
            "--key",
            &key,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]
        .map(str::to_owned);
        let url = jaeger(path);
        text(&curl(&shown.iter().map(String::as_str).chain([url.as_str()]).collect::<Vec<_>>()).stdout)
    };
    assert_eq!(ask("reader-1", "/api/v1/labels"), "200", "by its common name");
    assert_eq!(ask("reader-1", "/api/services"), "403", "a scope it lacks");
    assert_eq!(ask("whoever", "/api/v1/labels"), "403");
    assert_eq!(ask("client", "/api/v1/labels"), "401", "one that no rule fits");
}

#[tokio::test]
async fn vmagent_and_prometheus_write_with_a_certificate_alone() {
    let files = Files::new();
    files.issue_by(&files.authority, "whoever", ExtendedKeyUsagePurpose::ClientAuth, &["spiffe://prod/agent/a1"]);
    let pharos = files.server("[]").option("--identities-certificates", &identities()).over_tls().start().await;
    let exporter = NodeExporter::start(pharos.folder()).await;
    let write = https(pharos.main_address(), "/api/v1/write");
    let (ca, certificate, key) = (files.path("ca.pem"), files.path("whoever.pem"), files.path("whoever.key"));
    let agent = Agent::new("own-tls", &write, "").trusting(&ca).showing(&certificate, &key);
    let _agent = agent.start(pharos.folder(), &exporter);
    let shown = format!("ca_file: {}, cert_file: {}, key_file: {}", ca.display(), certificate.display(), key.display());
    let keys = format!("tls_config: {{{shown}}}");
    let _prometheus = PrometheusServer::start_writing(pharos.folder(), &exporter, &write, &keys).await;
    for up in ["up{door=\"own-tls\",site=\"north\"}", "up{job=\"prometheus\",site=\"north\"}"] {
        crate::peers::wait_for(&pharos, up, |found| found.len() == 1 && found[0]["value"][1] == "1").await;
    }
}

#[tokio::test]
async fn an_authority_of_clients_is_followed_by_the_next_without_a_gap() {
    let files = Files::new();
    let next = authority("the next authority");
    files.issue_by(&files.authority, "old", ExtendedKeyUsagePurpose::ClientAuth, &["spiffe://prod/agent/a1"]);
    files.issue_by(&next, "new", ExtendedKeyUsagePurpose::ClientAuth, &["spiffe://prod/agent/a1"]);
    std::fs::copy(files.path("ca.pem"), files.path("clients.pem")).unwrap();
    let listeners = serde_json::json!([
        {"port": "listen", "tls": "off"},
        {"port": "jaeger", "tls": {"clients": "required", "client_ca": files.text("clients.pem")}},
    ]);
    let identities = identities().replace("metrics:write", "metrics:read");
    let pharos = files.server(&listeners.to_string()).option("--identities-certificates", &identities).start().await;
    let url = https(pharos.jaeger_address(), "/api/v1/labels");
    let enters = |name: &str| {
        let (ca, certificate, key) =
            (files.text("ca.pem"), files.text(&format!("{name}.pem")), files.text(&format!("{name}.key")));
        curl(&["--cacert", &ca, "--cert", &certificate, "--key", &key, "--fail", "-o", "/dev/null", &url])
            .status
            .success()
    };
    assert!(enters("old") && !enters("new"));
    let (old_pem, new_pem) = (files.authority.pem(), next.pem());
    for (round, (known, old, new)) in
        [(format!("{old_pem}{new_pem}"), true, true), (new_pem.clone(), false, true)].into_iter().enumerate()
    {
        std::fs::write(files.path("clients.pem"), known).unwrap();
        hang_up(&pharos);
        wait_for_log(&pharos, "tokens: reloaded; limits: reloaded; tls of", round + 1).await;
        assert_eq!((enters("old"), enters("new")), (old, new), "round {round}");
    }
}
