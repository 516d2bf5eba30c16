//! TLS as clients meet it: who is believed, what is spoken, and what happens when files change.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::routing::get;
use pharos_base::{HumanDuration, SystemClock};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::conn::{ConnectionGate, ConnectionMetrics, ConnectionSettings};
use crate::server::{ListenerSettings, bind, serve};

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2100, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Leaf { certificate, key: key.serialize_pem() }
    }

    fn server(&self) -> Leaf {
        self.issue(|_| {})
    }

    fn client(&self, name: &str, serial: u64) -> Leaf {
        self.issue(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = vec![
                SanType::URI(format!("spiffe://test/{name}").try_into().unwrap()),
                SanType::DnsName("a.test".try_into().unwrap()),
            ];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.serial_number = Some(SerialNumber::from(serial));
        })
    }

    fn revoked(&self, serials: &[u64]) -> String {
        self.revoked_until(2100, serials)
    }

    /// A list that is followed by the next at the beginning of `year`.
    fn revoked_until(&self, year: i32, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A server with its files.
struct Fixture {
    folder: tempfile::TempDir,
    authority: Authority,
    clients: Authority,
    source: Arc<TlsSource>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn settings(folder: &std::path::Path, clients: ClientCertificates) -> TlsSettings {
    let file = |name: &str| Some(folder.join(name));
    let asks = clients != ClientCertificates::Off;
    TlsSettings {
        certificate: file("server.pem"),
        key: file("server.key"),
        client_ca: if asks { file("clients.pem") } else { None },
        client_crl: if asks { file("clients.crl") } else { None },
        clients,
        min_version: TlsVersion::V1_2,
    }
}

impl Fixture {
    async fn start(clients: ClientCertificates, connections: ConnectionSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, of_clients) = (Authority::new("servers"), Authority::new("clients"));
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let leaf = authority.server();
        write("server.pem", &leaf.certificate);
        write("server.key", &leaf.key);
        write("clients.pem", &of_clients.0.pem());
        write("clients.crl", &of_clients.revoked(&[666]));
        let source = TlsSource::open(settings(folder.path(), clients), SystemClock::shared()).unwrap();
        let source = Arc::new(source);
        let listener = bind("127.0.0.1:0", "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = |certificate: Option<axum::Extension<Arc<ClientCertificate>>>| async move {
            certificate.map_or("nobody".to_owned(), |found| {
                format!("{:?} {:?} {:?}", found.common_name, found.uris, found.dns)
            })
        };
        let gate = ConnectionGate::new(connections, ConnectionMetrics::default());
        let settings = ListenerSettings { port: "test", tls: Some(Arc::clone(&source)), gate };
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(serve(listener, Router::new().route("/", get(who)), settings, stop.clone()));
        Self { folder, authority, clients: of_clients, source, address, stop, tasks }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client that believes our authority and shows `leaf`.
    fn client(&self, leaf: Option<&Leaf>, alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        client.connect(name, TcpStream::connect(self.address).await?).await
    }

    /// The answer to one request over HTTP/1.1, or why there is none.
    async fn ask(&self, client: &TlsConnector) -> std::io::Result<String> {
        let mut stream = self.connect(client).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

/// One request over a connection that stays.
async fn ask_again(stream: &mut TlsStream<TcpStream>) -> std::io::Result<usize> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    let mut answer = [0; 512];
    stream.read(&mut answer).await
}

#[tokio::test]
async fn http_2_is_spoken_where_both_want_it_and_http_1_else() {
    let fixture = Fixture::start(ClientCertificates::Off, ConnectionSettings::default()).await;
    for (offered, expected) in [(&[][..], None), (&[&b"http/1.1"[..]], Some(&b"http/1.1"[..]))] {
        let client = fixture.client(None, offered);
        let answer = fixture.ask(&client).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("nobody"), "{answer}");
        let stream = fixture.connect(&client).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected);
    }
    let stream = fixture.connect(&fixture.client(None, &[b"http/1.1", b"h2"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let mut client = JoinSet::new();
    client.spawn(connection);
    let request = http::Request::get("https://localhost/").body(axum::body::Body::empty()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    drop(sender);
    assert!(fixture.connect(&fixture.client(None, &[b"h3"])).await.is_err(), "no protocol in common");
    fixture.stop().await;
}

#[tokio::test]
async fn a_client_without_tls_is_told_in_one_line_and_a_silent_one_is_cut() {
    let pause = HumanDuration::from_ms(150);
    let settings =
        ConnectionSettings { handshake_timeout: pause, head_timeout: pause, ..ConnectionSettings::default() };
    let fixture = Fixture::start(ClientCertificates::Off, settings).await;
    for said in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.ends_with("this port speaks TLS: use https\n"),
            "{answer}"
        );
    }
    for said in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "{said:?} is cut");
    }
    // A handshake that never stops, and never gets on.
    let stream = TcpStream::connect(fixture.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut slow = JoinSet::new();
    slow.spawn(async move {
        for byte in b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03".iter().chain(std::iter::repeat(&7)) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
    });
    let mut said = Vec::new();
    let read = reader.read_to_end(&mut said);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("it is cut");
    drop(slow);
    let silent = fixture.connect(&fixture.client(None, &[b"h2"])).await.unwrap();
    let (mut reader, _writer) = tokio::io::split(silent);
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says_if_our_authority_says_so_too() {
    let fixture = Fixture::start(ClientCertificates::Required, ConnectionSettings::default()).await;
    let agent = fixture.clients.client("agent", 1);
    let client = fixture.client(Some(&agent), &[]);
    let expected = r#"Some("agent") ["spiffe://test/agent"] ["a.test"]"#;
    for _ in 0..3 {
        // The second and third take up the session of the first.
        let answer = fixture.ask(&client).await.unwrap();
        assert!(answer.ends_with(expected), "{answer}");
    }
    let mut stream = fixture.connect(&client).await.unwrap();
    ask_again(&mut stream).await.unwrap();
    let resumed = stream.get_ref().1.handshake_kind();
    assert_eq!(resumed, Some(rustls::HandshakeKind::Resumed), "or the loop above shows nothing");
    let expired = fixture.clients.issue(|params| {
        params.not_after = date_time_ymd(2020, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let stranger = Authority::new("clients").client("agent", 1);
    let of_servers = fixture.authority.client("agent", 1);
    let revoked = fixture.clients.client("agent", 666);
    for (why, leaf) in [
        ("no certificate", None),
        ("expired", Some(&expired)),
        ("an authority of the same name", Some(&stranger)),
        ("the authority of servers", Some(&of_servers)),
        ("revoked", Some(&revoked)),
    ] {
        assert!(fixture.ask(&fixture.client(leaf, &[])).await.is_err(), "{why}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_client_may_have_no_certificate_where_it_is_optional_and_never_a_wrong_one() {
    let fixture = Fixture::start(ClientCertificates::Optional, ConnectionSettings::default()).await;
    assert!(fixture.ask(&fixture.client(None, &[])).await.unwrap().ends_with("nobody"));
    let agent = fixture.clients.client("agent", 1);
    assert!(fixture.ask(&fixture.client(Some(&agent), &[])).await.unwrap().contains("spiffe://test/agent"));
    let stranger = Authority::new("clients").client("agent", 1);
    assert!(fixture.ask(&fixture.client(Some(&stranger), &[])).await.is_err());
    fixture.stop().await;
}

#[tokio::test]
async fn files_that_do_not_fit_are_named_and_those_before_stay() {
    let fixture = Fixture::start(ClientCertificates::Off, ConnectionSettings::default()).await;
    let before = fixture.source.current();
    assert!(!fixture.source.reload().unwrap(), "nothing changed");
    let good = (
        std::fs::read_to_string(fixture.path("server.pem")).unwrap(),
        std::fs::read_to_string(fixture.path("server.key")).unwrap(),
    );
    let next = fixture.authority.server();
    let expired = fixture.authority.issue(|params| params.not_after = date_time_ymd(2020, 1, 1));
    for (certificate, key, expected) in [
        (next.certificate.as_str(), good.1.as_str(), "cannot be used together"),
        (good.0.as_str(), next.key.as_str(), "cannot be used together"),
        (&next.certificate[..next.certificate.len() / 2], next.key.as_str(), "server.pem"),
        (next.certificate.as_str(), "", "private key"),
        ("", next.key.as_str(), "holds no certificate"),
        (expired.certificate.as_str(), expired.key.as_str(), "not now"),
    ] {
        fixture.write("server.pem", certificate);
        fixture.write("server.key", key);
        let error = pharos_base::full_message(&fixture.source.reload().unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(Arc::ptr_eq(&before, &fixture.source.current()));
        assert!(fixture.ask(&fixture.client(None, &[])).await.is_ok());
    }
    std::fs::remove_file(fixture.path("server.key")).unwrap();
    assert!(fixture.source.reload().unwrap_err().to_string().contains("server.key"));
    fixture.write("server.pem", &next.certificate);
    fixture.write("server.key", &next.key);
    assert!(fixture.source.reload().unwrap());
    assert!(!fixture.source.reload().unwrap());
    fixture.stop().await;
}

#[tokio::test]
async fn certificates_change_under_load_without_one_failed_request() {
    let fixture = Arc::new(Fixture::start(ClientCertificates::Off, ConnectionSettings::default()).await);
    let done = CancellationToken::new();
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (fixture, done) = (Arc::clone(&fixture), done.clone());
        load.spawn(async move {
            let client = fixture.client(None, &[]);
            let mut kept = fixture.connect(&client).await.unwrap();
            let mut asked = 0;
            while !done.is_cancelled() {
                assert!(fixture.ask(&client).await.unwrap().starts_with("HTTP/1.1 200"));
                assert!(ask_again(&mut kept).await.unwrap() > 0, "a connection outlives the certificate it began with");
                asked += 2;
            }
            asked
        });
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let leaf = fixture.authority.server();
        // In place, and not both at once: a moment between is noticed, and nothing is changed then.
        fixture.write("server.pem", &leaf.certificate);
        let _ = fixture.source.reload();
        fixture.write("server.key", &leaf.key);
        assert!(fixture.source.reload().unwrap());
        let stream = fixture.connect(&fixture.client(None, &[])).await.unwrap();
        seen.insert(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec());
    }
    assert_eq!(seen.len(), 10, "each new one is shown at once");
    done.cancel();
    let asked: usize = load.join_all().await.into_iter().sum();
    assert!(asked > 20, "{asked} requests under way");
    Arc::into_inner(fixture).unwrap().stop().await;
}

#[tokio::test]
async fn a_revoked_client_loses_the_connections_it_has() {
    let fixture = Fixture::start(ClientCertificates::Required, ConnectionSettings::default()).await;
    let agent = fixture.clients.client("agent", 7);
    let client = fixture.client(Some(&agent), &[]);
    let mut stream = fixture.connect(&client).await.unwrap();
    assert!(ask_again(&mut stream).await.unwrap() > 0);
    let leaf = fixture.authority.server();
    fixture.write("server.pem", &leaf.certificate);
    fixture.write("server.key", &leaf.key);
    assert!(fixture.source.reload().unwrap());
    assert!(ask_again(&mut stream).await.unwrap() > 0, "a new certificate of ours is no reason to part");
    fixture.write("clients.crl", &fixture.clients.revoked(&[7]));
    assert!(fixture.source.reload().unwrap());
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap_or(0), 0, "it is closed");
    assert!(fixture.ask(&client).await.is_err(), "and its session is not taken up again");
    fixture.stop().await;
}

#[tokio::test]
async fn a_list_that_is_late_still_counts_and_keeps_nobody_else_out() {
    let fixture = Fixture::start(ClientCertificates::Required, ConnectionSettings::default()).await;
    assert!(!fixture.source.are_lists_late());
    fixture.write("clients.crl", &fixture.clients.revoked_until(2022, &[7]));
    assert!(fixture.source.reload().unwrap());
    assert_eq!(fixture.source.lists_due_s(), Some(1_640_995_200));
    assert!(fixture.source.are_lists_late());
    let (good, revoked) = (fixture.clients.client("good", 1), fixture.clients.client("revoked", 7));
    assert!(fixture.ask(&fixture.client(Some(&good), &[])).await.unwrap().contains("spiffe://test/good"));
    assert!(fixture.ask(&fixture.client(Some(&revoked), &[])).await.is_err());
    fixture.stop().await;
}

#[tokio::test]
async fn who_is_revoked_is_out_though_the_server_s_own_certificate_has_expired() {
    let fixture = Fixture::start(ClientCertificates::Required, ConnectionSettings::default()).await;
    let expired = fixture.authority.issue(|params| params.not_after = date_time_ymd(2020, 1, 1));
    fixture.write("server.pem", &expired.certificate);
    fixture.write("server.key", &expired.key);
    let settings = settings(fixture.folder.path(), ClientCertificates::Required);
    let source = TlsSource::open(settings, SystemClock::shared()).unwrap();
    let before = source.current();
    fixture.write("clients.crl", &fixture.clients.revoked(&[7]));
    assert!(source.reload().unwrap());
    assert!(before.retire.is_cancelled() && !Arc::ptr_eq(&before, &source.current()));
    fixture.stop().await;
}

#[test]
fn bytes_that_are_no_certificate_are_an_error() {
    let authority = Authority::new("a");
    let der = authority.0.der().to_vec();
    assert_eq!(ClientCertificate::parse(&[&der[..], b"x"].concat()), Err(CertificateError::Trailing));
    for cut in 0..der.len() {
        assert!(ClientCertificate::parse(&der[..cut]).is_err(), "{cut}");
    }
    let parsed = ClientCertificate::parse(&der).unwrap();
    assert_eq!(parsed.common_name.as_deref(), Some("a"));
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0xff;
        // It may be one still; it must not panic.
        let _ = ClientCertificate::parse(&changed);
    }
}
