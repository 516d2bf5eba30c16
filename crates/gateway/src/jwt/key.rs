//! Keys of an issuer, and which of them a token's signature is held against.
//!
//! Invariants
//! - K1 A key is for one algorithm, which the key's owner or the settings have named; what a token says can make it fit or not, and
//!   never choose it.
//! - K2 A secret never comes out of a key set, and a public key is never a secret.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::compact::{Compact, KID_BYTES_MAX};
use super::error::JwtError;
use super::settings::{JwtAlgorithm, KeyFile};

/// Keys of one issuer.
const KEYS_MAX: usize = 100;
/// Keys that one token is tried with.
const TRIES_MAX: usize = 4;
/// The shortest secret and RSA modulus, bytes: what RFC 7518 asks for with SHA-256.
const SECRET_BYTES_MIN: usize = 32;
const MODULUS_BYTES_MIN: usize = 256;
/// The largest file with a key, bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("cannot read {path}: {reason}")]
    Read { path: String, reason: String },
    #[error("{path} {problem}")]
    File { path: String, problem: &'static str },
    #[error("this is no key set: {0}")]
    Set(serde_json::Error),
    #[error("the key set has {0} keys; at most {KEYS_MAX} are read")]
    TooMany(usize),
    #[error("none of the key set's {count} keys can be used: {reasons}")]
    NoneUsable { count: usize, reasons: String },
}

/// A key that can check signatures.
pub(super) struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    decoding: DecodingKey,
    print: KeyPrint,
}

/// Tells one key, for its algorithm, from all others, whatever it is called.
pub(super) type KeyPrint = [u8; 32];

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.kid, self.algorithm)
    }
}

/// All keys of an issuer at one time.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Counts changes.
    pub(super) generation: u64,
    /// Of the bytes that the keys were read from.
    pub(super) fingerprint: [u8; 32],
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads the one key of a file.
type ReadKey = fn(&[u8], Algorithm) -> Result<DecodingKey, &'static str>;

impl KeySet {
    /// Reads a key set (RFC 7517). Keys that are not for signatures, or of kinds that are not known, are left out.
    pub(super) fn parse(bytes: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, KeyError> {
        let set: Jwks = serde_json::from_slice(bytes).map_err(KeyError::Set)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeyError::TooMany(set.keys.len()));
        }
        let count = set.keys.len();
        let (mut keys, mut reasons) = (Vec::new(), Vec::new());
        for key in set.keys {
            let read = serde_json::from_value::<Jwk>(key).map_err(|_| "one lacks kty, or has a wrong type somewhere");
            match read.and_then(|jwk| Key::of_jwk(jwk, algorithms)) {
                Ok(key) => keys.push(key),
                Err(reason) if !reasons.contains(&reason) => reasons.push(reason),
                Err(_) => {}
            }
        }
        // A set that became empty ends all tokens: the issuer says so. One that we cannot read does not.
        if keys.is_empty() && count > 0 {
            return Err(KeyError::NoneUsable { count, reasons: reasons.join("; ") });
        }
        Ok(Self { keys, generation: 0, fingerprint: Sha256::digest(bytes).into() })
    }

    /// Reads files with one key each.
    pub(super) fn read_files(pem: &[KeyFile], secrets: &[KeyFile]) -> Result<Self, KeyError> {
        let (mut keys, mut hash) = (Vec::new(), Sha256::new());
        let kinds: [(&[KeyFile], ReadKey); 2] = [(pem, of_pem), (secrets, of_secret)];
        for (files, key_of) in kinds {
            for file in files {
                let bytes = read_bounded(&file.file, KEY_FILE_BYTES_MAX)?;
                hash.update(Sha256::digest(&bytes));
                let algorithm = file.algorithm.algorithm();
                let decoding = key_of(&bytes, algorithm)
                    .map_err(|problem| KeyError::File { path: file.file.display().to_string(), problem })?;
                let print = print_of(algorithm, &[&bytes]);
                keys.push(Key { kid: file.kid.as_deref().map(Box::from), algorithm, decoding, print });
            }
        }
        Ok(Self { keys, generation: 0, fingerprint: hash.finalize().into() })
    }

    /// The same keys, as the `generation`th of their issuer.
    pub(super) fn numbered(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is still this key.
    pub(super) fn has(&self, print: &KeyPrint) -> bool {
        self.keys.iter().any(|key| key.print == *print)
    }

    /// Holds the token's signature against the keys that its header fits; the key that it is by.
    pub(super) fn check(&self, token: &Compact<'_>) -> Result<KeyPrint, JwtError> {
        let kid = token.header.kid.as_deref();
        let named = |key: &&Key| kid.is_some() && key.kid.as_deref() == kid;
        let mut fitting: Vec<_> = self.keys.iter().filter(named).collect();
        if fitting.is_empty() {
            fitting.extend(self.keys.iter().filter(|key| kid.is_none() || key.kid.is_none()));
        }
        if fitting.is_empty() {
            return Err(JwtError::UnknownKey);
        }
        fitting.retain(|key| names_of(key.algorithm).contains(&token.header.alg.as_str()));
        match fitting.len() {
            0 => return Err(JwtError::Algorithm),
            1..=TRIES_MAX => {}
            _ => return Err(JwtError::NoKeyNamed),
        }
        let is_by = |key: &&Key| {
            crypto::verify(token.signature, token.signed.as_bytes(), &key.decoding, key.algorithm).unwrap_or(false)
        };
        fitting.into_iter().find(is_by).map(|key| key.print).ok_or(JwtError::Signature)
    }
}

/// The names of an algorithm in tokens and keys.
fn names_of(algorithm: Algorithm) -> &'static [&'static str] {
    match algorithm {
        Algorithm::HS256 => &["HS256"],
        Algorithm::HS384 => &["HS384"],
        Algorithm::HS512 => &["HS512"],
        Algorithm::RS256 => &["RS256"],
        Algorithm::RS384 => &["RS384"],
        Algorithm::RS512 => &["RS512"],
        Algorithm::PS256 => &["PS256"],
        Algorithm::PS384 => &["PS384"],
        Algorithm::PS512 => &["PS512"],
        Algorithm::ES256 => &["ES256"],
        Algorithm::ES384 => &["ES384"],
        // RFC 9864 names the curve instead; keys here are on that one alone.
        Algorithm::EdDSA => &["EdDSA", "Ed25519"],
        // Fits no token.
        _ => &[],
    }
}

fn print_of(algorithm: Algorithm, parts: &[&[u8]]) -> KeyPrint {
    let mut hash = Sha256::new();
    for part in names_of(algorithm).iter().map(|name| name.as_bytes()).chain(parts.iter().copied()) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

const RSA: [JwtAlgorithm; 6] = [
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
];

impl Key {
    fn of_jwk(jwk: Jwk, configured: &[JwtAlgorithm]) -> Result<Self, &'static str> {
        if jwk.usage.as_ref().is_some_and(|usage| usage != "sig") {
            return Err("one is not for signatures (use)");
        }
        if jwk.key_ops.as_ref().is_some_and(|all| !all.iter().any(|operation| operation == "verify")) {
            return Err("one is not for signatures (key_ops)");
        }
        if jwk.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err("one has a kid of more than 256 bytes");
        }
        let possible: &[JwtAlgorithm] = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => &RSA,
            ("EC", Some("P-256")) => &[JwtAlgorithm::ES256],
            ("EC", Some("P-384")) => &[JwtAlgorithm::ES384],
            ("OKP", Some("Ed25519")) => &[JwtAlgorithm::EdDSA],
            ("oct", _) => return Err("one is a secret (oct), and secrets come from files alone"),
            _ => return Err("one is of a kind (kty, crv) that is not known here"),
        };
        let said = |algorithm: &JwtAlgorithm| {
            jwk.alg.as_deref().is_none_or(|alg| names_of(algorithm.algorithm()).contains(&alg))
        };
        let allowed = |algorithm: &JwtAlgorithm| configured.is_empty() || configured.contains(algorithm);
        let mut fitting = possible.iter().filter(|algorithm| said(algorithm) && allowed(algorithm));
        let algorithm = fitting.next().ok_or("one is for an algorithm (alg) that is not allowed")?.algorithm();
        if fitting.next().is_some() {
            return Err("one does not say which algorithm it is for (alg): name one in `algorithms`");
        }
        let part = |part: &Option<String>, bytes: std::ops::RangeInclusive<usize>| {
            let decoded = part.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
            decoded
                .filter(|decoded| bytes.contains(&decoded.len()))
                .ok_or("one lacks a part of its key, or has one of a wrong size")
        };
        let (decoding, print) = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let size = if algorithm == Algorithm::ES256 { 32 } else { 48 };
                let (x, y) = (part(&jwk.x, size..=size)?, part(&jwk.y, size..=size)?);
                (DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()), print_of(algorithm, &[&x, &y]))
            }
            Algorithm::EdDSA => {
                let x = part(&jwk.x, 32..=32)?;
                (DecodingKey::from_ed_der(&x), print_of(algorithm, &[&x]))
            }
            _ => {
                let n = part(&jwk.n, 1..=1025)?;
                // Some write the sign's zero byte.
                let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
                if n.len() < MODULUS_BYTES_MIN {
                    return Err("one is an RSA key of less than 2048 bits");
                }
                let e = part(&jwk.e, 1..=8)?;
                (DecodingKey::from_rsa_raw_components(n, &e), print_of(algorithm, &[n, &e]))
            }
        };
        Ok(Self { kid: jwk.kid.map(Box::from), algorithm, decoding, print })
    }
}

fn of_pem(bytes: &[u8], algorithm: Algorithm) -> Result<DecodingKey, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "holds no public key in PEM")?;
    if text.contains("PRIVATE KEY-----") {
        return Err("holds a private key; give the public one, and keep the other to its owner");
    }
    let is_public = text.contains("-----BEGIN PUBLIC KEY-----") || text.contains("-----BEGIN RSA PUBLIC KEY-----");
    if !is_public || text.matches("-----BEGIN ").count() != 1 {
        return Err("holds no public key in PEM, or several");
    }
    let length_of = |key: &DecodingKey| key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let (key, fits): (_, fn(usize) -> bool) = match algorithm {
        Algorithm::ES256 => (DecodingKey::from_ec_pem(bytes), |length| length == 65),
        Algorithm::ES384 => (DecodingKey::from_ec_pem(bytes), |length| length == 97),
        Algorithm::EdDSA => (DecodingKey::from_ed_pem(bytes), |length| length == 32),
        _ => (DecodingKey::from_rsa_pem(bytes), |length| length > MODULUS_BYTES_MIN),
    };
    let key = key.map_err(|_| "holds a key of another kind than its algorithm")?;
    if fits(length_of(&key)) { Ok(key) } else { Err("holds a key of another size than its algorithm needs") }
}

/// A line's end after the secret is not part of it: editors and `echo` leave one.
fn of_secret(bytes: &[u8], algorithm: Algorithm) -> Result<DecodingKey, &'static str> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.windows(11).any(|part| part == b"-----BEGIN ") {
        return Err("holds a key in PEM, which is no secret");
    }
    let bytes_min = match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => SECRET_BYTES_MIN,
    };
    if secret.len() < bytes_min {
        return Err("holds a secret that is too short: HS256 needs 32 bytes, HS384 48, HS512 64");
    }
    Ok(DecodingKey::from_secret(secret))
}

/// Reads a file that is no larger than it may be.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, KeyError> {
    use std::io::Read;
    let failed = |error: std::io::Error| KeyError::Read { path: path.display().to_string(), reason: error.to_string() };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(KeyError::File {
            path: path.display().to_string(),
            problem: "is too large for what it should hold",
        });
    }
    Ok(bytes)
}
