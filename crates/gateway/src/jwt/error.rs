//! Why a web token is refused.

use pharos_base::ErrorClass;

/// Why a web token is refused. Nothing in it comes from a token whose signature was not checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum JwtError {
    #[error("this web token has {bytes} bytes; at most {bytes_max} are read")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("this is no web token: {what}")]
    Malformed { what: &'static str },
    #[error("the issuer of this web token (iss) is not known here")]
    UnknownIssuer,
    #[error("the key of this web token (kid) is not, or no longer, one of its issuer's")]
    UnknownKey,
    #[error("this web token names no key (kid), and its issuer has several for its algorithm")]
    NoKeyNamed,
    #[error("the algorithm of this web token (alg) is not the one of its key")]
    Algorithm,
    #[error("the signature of this web token is wrong")]
    Signature,
    #[error("this web token has expired (exp)")]
    Expired,
    #[error("this web token does not count yet (nbf)")]
    NotYet,
    #[error("this web token is not for this server (aud)")]
    Audience,
    #[error("the claim {claim} of this web token {problem}")]
    Claim { claim: String, problem: &'static str },
    #[error("this web token's claim {claim} does not have what is required here")]
    Requirement { claim: String },
    #[error("the keys of this web token's issuer are being asked for; try again")]
    KeysWanted(KeysWanted),
    #[error("the keys of this web token's issuer cannot be had at the moment; try again later")]
    KeysUnavailable,
}

/// Which issuer should be asked for its keys once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysWanted {
    pub(super) issuer: usize,
    /// How often its keys had been asked for by then.
    pub(super) attempts: u64,
}

impl JwtError {
    /// The kind of failure. What waits for the issuer's server may be repeated.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::KeysWanted(_) | Self::KeysUnavailable => ErrorClass::Unavailable,
            Self::Requirement { .. } => ErrorClass::Forbidden,
            _ => ErrorClass::Unauthenticated,
        }
    }
}
