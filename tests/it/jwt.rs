//! Web tokens against the real binary: an issuer on loopback, its keys by discovery, every door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pharos_testkit::Pharos;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An issuer: a key, and a server that has discovery and the key set.
pub(crate) struct Issuer {
    url: String,
    key: EncodingKey,
    fetches: Arc<AtomicUsize>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!("current");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let (keys, fetches) = (json!({"keys": [jwk]}).to_string(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&fetches);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (discovery, keys, counted) = (discovery.clone(), keys.clone(), Arc::clone(&counted));
                tokio::spawn(async move { answer(stream, &discovery, &keys, &counted).await });
            }
        });
        Self { url, key, fetches }
    }

    pub(crate) fn token(&self, kid: &str, extra: &Value) -> String {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims =
            json!({"iss": self.url, "aud": ["pharos"], "sub": "ann", "exp": now_s + 300, "roles": ["viewer"]});
        claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        encode(&Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) }, &claims, &self.key).unwrap()
    }
}

/// One request a connection is all that is needed.
async fn answer(mut stream: TcpStream, discovery: &str, keys: &str, fetches: &AtomicUsize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let body = if head.starts_with(b"GET /keys ") {
        fetches.fetch_add(1, Ordering::SeqCst);
        keys
    } else {
        discovery
    };
    let length = body.len();
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.write_all(text.as_bytes()).await;
}

pub(crate) async fn with_issuer(issuer: &Issuer) -> Pharos {
    let settings = json!([{
        "issuer": issuer.url, "audience": ["pharos"], "keys": {"discovery": true},
        "claims": {"scopes": "roles"},
        "scopes": [{"value": "viewer", "grants": ["metrics:read"]}, {"value": "writer", "grants": ["metrics:write"]}],
        "grant": {"tenant": "7"},
    }]);
    Pharos::builder().option("--identities-jwt", &settings.to_string()).start().await
}

async fn status(pharos: &Pharos, token: &str, path: &str) -> u16 {
    let request = pharos.client().get(pharos.url(path)).bearer_auth(token);
    request.send().await.expect("the server answers").status().as_u16()
}

#[tokio::test]
async fn web_tokens_open_what_their_claims_say() {
    let issuer = Issuer::start().await;
    let pharos = with_issuer(&issuer).await;
    let viewer = issuer.token("current", &json!({}));
    let begun = Instant::now();
    assert_eq!(status(&pharos, &viewer, "/api/v1/labels").await, 200);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(status(&pharos, &viewer, "/select/7/prometheus/api/v1/labels").await, 200);
    assert_eq!(status(&pharos, &viewer, "/select/8/prometheus/api/v1/labels").await, 403, "the grant's tenant");
    assert_eq!(status(&pharos, &viewer, "/api/services").await, 403, "a scope it lacks");
    let elsewhere = issuer.token("current", &json!({"tenant": ["8", "9"]}));
    assert_eq!(status(&pharos, &elsewhere, "/select/8/prometheus/api/v1/labels").await, 200);
    assert_eq!(status(&pharos, &elsewhere, "/select/7/prometheus/api/v1/labels").await, 403);
    assert_eq!(status(&pharos, pharos.token(), "/api/v1/labels").await, 200, "tokens of the file go on");

    // Grafana's basic authentication, and the question nginx asks.
    let basic = pharos.client().get(pharos.url("/api/v1/labels")).basic_auth("grafana", Some(&viewer));
    assert_eq!(basic.send().await.unwrap().status().as_u16(), 200);
    let asked = pharos.client().get(pharos.url("/auth/verify")).bearer_auth(&viewer);
    let asked = asked.header("X-Original-URI", "/api/v1/query?query=up").header("X-Original-Method", "GET");
    let answer = asked.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-pharos-principal"]), (204, &"ann".parse().unwrap()));

    let expired = issuer.token("current", &json!({"exp": 1_000_000_000}));
    let refused = pharos.client().get(pharos.url("/api/v1/labels")).bearer_auth(&expired).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 401);
    assert!(refused.text().await.unwrap().contains("expired"));
    let other = issuer.token("current", &json!({"aud": "other"}));
    assert_eq!(status(&pharos, &other, "/api/v1/labels").await, 401);
    for _ in 0..20 {
        assert_eq!(status(&pharos, &issuer.token("unknown", &json!({})), "/api/v1/labels").await, 401);
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1, "strangers do not make us ask");
    let (_, metrics) = pharos.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    let of_issuer = format!("{{issuer=\"{}\"}}", issuer.url);
    assert!(metrics.contains(&format!("pharos_gateway_issuer_keys{of_issuer} 1\n")), "{metrics}");
    let refreshed = format!("pharos_gateway_issuer_keys_refreshed_timestamp_seconds{of_issuer} 1");
    assert!(metrics.contains(&refreshed), "{metrics}");
    let log = pharos.log();
    for token in [&viewer, &expired, &other] {
        assert!(!log.contains(token.rsplit('.').next().unwrap()), "no signature is logged");
    }
}

#[tokio::test]
async fn faults_in_the_settings_are_told_together_and_before_the_start() {
    let settings =
        json!([{"issuer": "https://idp", "keys": {"jwks_url": "http://idp/keys"}}, {"issuer": "https://idp"}]);
    let run = Pharos::run(&["serve", "--data-dir", "/nonexistent", "--identities-jwt", &settings.to_string()]);
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success());
    for part in ["jwt[0].audience", "jwt[0].keys", "jwt[1].issuer", "jwt[1].keys"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
