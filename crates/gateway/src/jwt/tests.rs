//! Web tokens as issuers make them, and as those do who want to be taken for one.

mod server;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pharos_base::{Clock, SimClock};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use super::*;

const NOW_S: i64 = 1_700_000_000;
const ISSUER: &str = "https://idp.example.com/realms/ops";

/// A key of an issuer, both halves.
struct TestKey {
    private: EncodingKey,
    private_pem: String,
    public_pem: String,
}

impl TestKey {
    fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let (private_pem, public_pem) = (pair.serialize_pem(), pair.public_key_pem());
        let pem = private_pem.as_bytes();
        let private = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_rsa_pem(pem),
        };
        Self { private: private.unwrap(), private_pem, public_pem }
    }

    /// The public half for a key set.
    fn jwk(&self, algorithm: Algorithm, kid: &str) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.private, algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk
    }
}

/// RSA keys take a while to make: all tests share two.
fn rsa() -> &'static [TestKey; 2] {
    static KEYS: OnceLock<[TestKey; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [TestKey::new(Algorithm::RS256), TestKey::new(Algorithm::RS256)])
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "pharos", "sub": "agent-7", "scope": "metrics:write openid", "tenant": "7", "exp": NOW_S + 300})
}

fn token(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    encode(&Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }, claims, key).unwrap()
}

fn settings(json: &Value) -> Vec<IssuerSettings> {
    let mut all = json!({"issuer": ISSUER, "audience": ["pharos", "metrics"]});
    all.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    let settings: IssuerSettings = serde_json::from_value(all).unwrap();
    assert_eq!(settings.faults(), Vec::<String>::new());
    vec![settings]
}

fn clock() -> Arc<SimClock> {
    SimClock::at_ms(NOW_S * 1_000)
}

fn open(json: &Value, clock: &Arc<SimClock>) -> Result<Issuers, Vec<String>> {
    Issuers::open(&settings(json), Arc::clone(clock) as Arc<dyn Clock>)
}

fn written(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

impl Issuers {
    /// What a token brings.
    fn verify(&self, token: &str) -> Result<Arc<Grant>, JwtError> {
        self.verified(token).map(|verified| Arc::clone(&verified.grant))
    }
}
