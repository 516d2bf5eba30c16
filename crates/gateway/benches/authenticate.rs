//! What it costs to tell who sent a request: a token of the file among few or many, a web token seen for the first time, one seen before,
//! and a certificate, of the connection or as a proxy hands it on.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pharos_base::{Clock, SimClock};
use pharos_gateway::{
    AuthSettings, Authenticator, Identities, IdentitySettings, NewToken, Presented, Scope, TenantAccess, TokenFile,
};
use pharos_http::ClientCertificate;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const NOW_S: i64 = 1_700_000_000;
const ISSUER: &str = "https://idp.example.com/realms/ops";

struct Bench {
    folder: tempfile::TempDir,
    runtime: Runtime,
    clock: Arc<SimClock>,
    key: EncodingKey,
    public_pem: String,
}

impl Bench {
    fn new() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("keys can be made");
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            runtime: Builder::new_current_thread().build().expect("a runtime"),
            clock: SimClock::at_ms(NOW_S * 1_000),
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("its own key"),
            public_pem: pair.public_key_pem(),
        }
    }

    /// One that knows so many tokens, and one of these.
    fn authenticator(&self, tokens: usize) -> (Authenticator, String) {
        let clock = || Arc::clone(&self.clock) as Arc<dyn Clock>;
        let path = self.folder.path().join(format!("tokens-{tokens}.json"));
        let token_file = TokenFile::at(&path);
        let new = NewToken::new("shown", &[Scope::MetricsWrite], TenantAccess::Any, NOW_S);
        let (secret, _) = token_file.add(new).expect("it can be written");
        // Each `add` would write the whole file.
        let mut file: Value = serde_json::from_slice(&std::fs::read(&path).expect("it is there")).expect("JSON");
        let listed = file["tokens"].as_array_mut().expect("a list");
        for number in 1..tokens {
            let mut other = listed[0].clone();
            other["name"] = json!(format!("token-{number}"));
            other["id"] = json!(format!("{number:08x}"));
            other["sha256"] = json!(format!("{number:064x}"));
            listed.push(other);
        }
        std::fs::write(&path, file.to_string()).expect("it can be written");
        let file = self.folder.path().join("key.pem");
        std::fs::write(&file, &self.public_pem).expect("it can be written");
        let settings: IdentitySettings = serde_json::from_value(json!({"jwt": [{
            "issuer": ISSUER, "audience": ["pharos"], "keys": {"pem": [{"file": file, "algorithm": "ES256"}]},
        }], "certificates": [{
            "match": {"uri": "spiffe://prod/agent/*"}, "grant": {"scopes": ["metrics:write"], "tenant": "7"},
        }], "proxies": [{"networks": ["127.0.0.0/8"], "certificate_header": "X-Client-Cert"}]}))
        .expect("settings");
        let identities = Identities::open(&settings, clock()).expect("settings without faults");
        let auth = AuthSettings::with_tokens(token_file);
        let opened = Authenticator::open(auth, clock()).expect("a token file").with_identities(Arc::new(identities));
        (opened, secret.reveal().to_owned())
    }

    /// As a token of Keycloak is in size: about 1 KB.
    fn web_token(&self, number: u64) -> String {
        let claims = json!({
            "iss": ISSUER, "aud": ["pharos", "account"], "sub": format!("agent-{number}"), "exp": NOW_S + 300, "iat": NOW_S,
            "scope": "openid profile metrics:write traces:write", "tenant": "7", "typ": "Bearer", "azp": "collector",
            "realm_access": {"roles": ["default-roles-ops", "offline_access", "uma_authorization"]},
            "resource_access": {"account": {"roles": ["manage-account", "manage-account-links", "view-profile"]}},
            "padding": "x".repeat(300),
        });
        encode(&Header::new(Algorithm::ES256), &claims, &self.key).expect("it can be signed")
    }

    fn identify(&self, authenticator: &Authenticator, headers: &HeaderMap, certificate: Option<&ClientCertificate>) {
        let presented = Presented {
            method: &Method::POST,
            path: "/api/v1/write",
            headers,
            peer: Some(IpAddr::from([127, 0, 0, 1])),
            over_tls: certificate.is_some(),
            certificate,
        };
        let found = self.runtime.block_on(authenticator.authenticate(&presented));
        black_box(found.expect("a good credential"));
    }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"))])
}

/// An agent's, as workloads get them.
fn certificate() -> rcgen::Certificate {
    let pair = rcgen::KeyPair::generate().expect("keys can be made");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://prod/agent/a1".try_into().expect("ASCII"))];
    params.self_signed(&pair).expect("it can be signed")
}

fn authenticate(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("gateway/authenticate");
    for tokens in [1, 100, 10_000] {
        let (authenticator, token) = bench.authenticator(tokens);
        let headers = bearer(&token);
        let name = format!("static_token_of_{tokens}");
        group.bench_function(name, |b| b.iter(|| bench.identify(&authenticator, &headers, None)));
    }
    let (authenticator, _) = bench.authenticator(2);
    let headers = bearer(&bench.web_token(0));
    group.bench_function("jwt_cached", |b| b.iter(|| bench.identify(&authenticator, &headers, None)));
    let mut number = 1;
    group.bench_function("jwt_es256_first", |b| {
        let fresh = || {
            number += 1;
            bearer(&bench.web_token(number))
        };
        b.iter_batched(fresh, |headers| bench.identify(&authenticator, &headers, None), BatchSize::SmallInput);
    });
    let made = certificate();
    let parsed = ClientCertificate::parse(made.der()).expect("its own certificate");
    let none = HeaderMap::new();
    group.bench_function("certificate", |b| b.iter(|| bench.identify(&authenticator, &none, Some(&parsed))));
    let escaped = made.pem().replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B").replace('/', "%2F");
    let handed_on =
        HeaderMap::from_iter([(HeaderName::from_static("x-client-cert"), escaped.parse().expect("a header"))]);
    group.bench_function("certificate_by_proxy", |b| b.iter(|| bench.identify(&authenticator, &handed_on, None)));
    group.finish();
}

criterion_group!(benches, authenticate);
criterion_main!(benches);
