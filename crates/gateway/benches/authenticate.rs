//! What it costs to tell who sent a request: a token of the file, a web token seen for the first time, and one seen before.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pharos_base::{Clock, SimClock};
use pharos_gateway::{
    AuthSettings, Authenticator, Identities, IdentitySettings, NewToken, Presented, Scope, TenantAccess, TokenFile,
};
use serde_json::json;
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

    fn authenticator(&self, tokens: usize) -> (Authenticator, String) {
        let clock = || Arc::clone(&self.clock) as Arc<dyn Clock>;
        let token_file = TokenFile::at(self.folder.path().join("tokens.json"));
        let mut last = None;
        for number in 0..tokens {
            let new = NewToken::new(&format!("token-{number}"), &[Scope::MetricsWrite], TenantAccess::Any, NOW_S);
            last = Some(token_file.add(new).expect("it can be written").0);
        }
        let file = self.folder.path().join("key.pem");
        std::fs::write(&file, &self.public_pem).expect("it can be written");
        let settings: IdentitySettings = serde_json::from_value(json!({"jwt": [{
            "issuer": ISSUER, "audience": ["pharos"], "keys": {"pem": [{"file": file, "algorithm": "ES256"}]},
        }]}))
        .expect("settings");
        let identities = Identities::open(&settings, clock()).expect("settings without faults");
        let auth = AuthSettings::with_tokens(token_file);
        let opened = Authenticator::open(auth, clock()).expect("a token file").with_identities(Arc::new(identities));
        (opened, last.map(|token| token.reveal().to_owned()).unwrap_or_default())
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

    fn identify(&self, authenticator: &Authenticator, headers: &HeaderMap) {
        let presented = Presented {
            method: &Method::POST,
            path: "/api/v1/write",
            headers,
            peer: None,
            over_tls: false,
            certificate: None,
        };
        let found = self.runtime.block_on(authenticator.authenticate(&presented));
        black_box(found.expect("a good credential"));
    }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"))])
}

fn authenticate(c: &mut Criterion) {
    let bench = Bench::new();
    let (authenticator, token) = bench.authenticator(100);
    let mut group = c.benchmark_group("gateway/authenticate");
    let headers = bearer(&token);
    group.bench_function("static_token", |b| b.iter(|| bench.identify(&authenticator, &headers)));
    let headers = bearer(&bench.web_token(0));
    group.bench_function("jwt_cached", |b| b.iter(|| bench.identify(&authenticator, &headers)));
    let mut number = 1;
    group.bench_function("jwt_es256_first", |b| {
        let fresh = || {
            number += 1;
            bearer(&bench.web_token(number))
        };
        b.iter_batched(fresh, |headers| bench.identify(&authenticator, &headers), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, authenticate);
criterion_main!(benches);
