//! The outside of a web token: three parts, a header, and who claims to have issued it. Nothing here is to be believed yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::JwtError;

/// The longest token that is read, bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The longest header of a token, bytes as sent.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// The longest name of a key, bytes.
pub(super) const KID_BYTES_MAX: usize = 256;
/// What a token may call its type: an access token, or nothing in particular. Others, such as logout tokens, are for other uses.
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/at+jwt", "application/jwt"];

/// A token taken apart.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    /// What the signature is of.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: Header,
    payload: Vec<u8>,
}

/// What counts of a token's header. Keys that a header brings along (`jwk`, `jku`, `x5u`, `x5c`) never count.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// Whether a bearer's text has the form of a web token: a JSON object in base64, and two dots.
pub(crate) fn looks_like_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtError> {
        let malformed = |what| JwtError::Malformed { what };
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some((signed, signature, header, payload))
        });
        let (signed, signature, header, payload) = parts.ok_or(malformed("it has not three parts"))?;
        if header.len() > HEADER_BYTES_MAX {
            return Err(malformed("its header is longer than 4096 bytes"));
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("its header is no base64url"))?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| malformed("its header is no such JSON"))?;
        if header.crit.is_some() {
            return Err(malformed("its header has critical extensions (crit), and none is known here"));
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(malformed("its key's name (kid) is longer than 256 bytes"));
        }
        let fits = |typ: &String| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known));
        if !header.typ.as_ref().is_none_or(fits) {
            return Err(malformed("its type (typ) is not one for access"));
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed("its payload is no base64url"))?;
        Ok(Self { signed, signature, header, payload })
    }

    /// Who claims to have issued it.
    pub(super) fn issuer(&self) -> Result<String, JwtError> {
        self.read::<Issuer>("its payload names no issuer (iss)").map(|claims| claims.iss)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, otherwise: &'static str) -> Result<T, JwtError> {
        serde_json::from_slice(&self.payload).map_err(|_| JwtError::Malformed { what: otherwise })
    }
}
