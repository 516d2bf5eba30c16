//! Settings of an issuer of web tokens.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use pharos_base::HumanDuration;
use pharos_model::{MatchOp, Matcher};
use serde::{Deserialize, Serialize};

use super::fetch::allowed_url;
use crate::Scope;
use crate::identities::GrantSettings;

/// The most that clocks may differ.
const LEEWAY_MAX: Duration = Duration::from_mins(10);
/// Keys are not asked for more often.
const REFRESH_MIN: Duration = Duration::from_secs(30);

/// One issuer: whose tokens count, with which keys, and what their claims mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// The claim `iss`, byte for byte.
    pub issuer: String,
    /// One of these must be in the claim `aud`.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub keys: KeySettings,
    /// What its keys may be used for. Needed for RSA keys that do not say it themselves, and then one of RS or PS alone; keys that say
    /// something else are not used. Empty: whatever keys say.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Authorities (PEM) of the server that has the keys, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How much its clock may differ from ours. Default 60s, at most 10m.
    pub leeway: HumanDuration,
    /// How often keys behind a URL are asked for. Default 5m, at least 30s.
    pub refresh: HumanDuration,
    /// Which claims say what.
    pub claims: ClaimNames,
    /// What values of the scopes' claim grant; empty: they are our own scopes' names, others mean nothing.
    pub scopes: Vec<ScopeMapping>,
    /// What else must be so, all of it.
    pub require: Vec<Requirement>,
    /// What all of its tokens bring.
    pub grant: GrantSettings,
}

impl Default for IssuerSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: Vec::new(),
            keys: KeySettings::default(),
            algorithms: Vec::new(),
            ca_file: None,
            leeway: HumanDuration(Duration::from_mins(1)),
            refresh: HumanDuration(Duration::from_mins(5)),
            claims: ClaimNames::default(),
            scopes: Vec::new(),
            require: Vec::new(),
            grant: GrantSettings::default(),
        }
    }
}

/// Exactly one of: discovery, a URL, a file of a key set, or files of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// Ask `<issuer>/.well-known/openid-configuration` where the key set is.
    pub discovery: bool,
    /// The key set's URL; https, or http to loopback. A name, a password or parameters in it are never shown.
    pub jwks_url: Option<String>,
    /// A file with a key set.
    pub jwks_file: Option<PathBuf>,
    /// Files with one public key each.
    pub pem: Vec<KeyFile>,
    /// Files with one shared secret each, 32 bytes at least, for HS256, HS384 and HS512.
    pub secrets: Vec<KeyFile>,
}

/// A file with one key, and the one algorithm that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Where it is.
    pub file: PathBuf,
    /// What it is for.
    pub algorithm: JwtAlgorithm,
    /// Its name in tokens; null: it is tried for tokens of any name.
    #[serde(default)]
    pub kid: Option<String>,
}

/// Signatures that can be checked here. There is no `none`, and ES512 is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of RFC 7518, RFC 8037 and, for Ed25519, RFC 9864")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    #[serde(alias = "Ed25519")]
    EdDSA,
}

impl JwtAlgorithm {
    pub(crate) fn algorithm(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }

    pub(crate) fn is_hmac(self) -> bool {
        self.algorithm().family() == AlgorithmFamily::Hmac
    }
}

/// Claims by name; `a.b` is `b` in `a`, unless there is a claim of just that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    /// Who: a text. Default `sub`.
    pub name: String,
    /// What they may do: a text with spaces between, or a list. Default `scope`.
    pub scopes: String,
    /// For which tenants: a text or number, or a list; `*` is every tenant. Default `tenant`.
    pub tenant: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { name: "sub".to_owned(), scopes: "scope".to_owned(), tenant: "tenant".to_owned() }
    }
}

/// What a value of the scopes' claim grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeMapping {
    /// The value, exactly.
    pub value: String,
    /// Our scopes.
    pub grants: Vec<Scope>,
}

/// A claim that must have a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Which.
    pub claim: String,
    /// A regular expression for all of the value, or of one value of a list.
    pub matches: String,
}

impl Requirement {
    pub(crate) fn matcher(&self) -> Result<Matcher, String> {
        Matcher::new(MatchOp::Regex, self.claim.as_str(), self.matches.as_str())
            .map_err(|error| format!("require.matches: {error}"))
    }
}

impl IssuerSettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(text);
        if self.issuer.is_empty() {
            fault("issuer: is needed".to_owned());
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            fault("audience: list what tokens for this server have in aud".to_owned());
        }
        if self.leeway.0 > LEEWAY_MAX {
            fault(format!("leeway: {} is above the maximum 10m", self.leeway));
        }
        if self.refresh.0 < REFRESH_MIN {
            fault(format!("refresh: {} is below the minimum 30s", self.refresh));
        }
        for name in [&self.claims.name, &self.claims.scopes, &self.claims.tenant] {
            if name.is_empty() {
                fault("claims: a name is empty".to_owned());
            }
        }
        for requirement in &self.require {
            if let Err(text) = requirement.matcher() {
                fault(text);
            }
        }
        if let Err(text) = self.grant.tenants() {
            fault(text);
        }
        if let Some(hmac) = self.algorithms.iter().find(|algorithm| algorithm.is_hmac()) {
            fault(format!("algorithms: {hmac:?} is for keys.secrets, which name it themselves"));
        }
        faults.extend(self.key_faults());
        faults
    }

    fn key_faults(&self) -> Vec<String> {
        let keys = &self.keys;
        let has_files = !keys.pem.is_empty() || !keys.secrets.is_empty();
        let kinds = [keys.discovery, keys.jwks_url.is_some(), keys.jwks_file.is_some(), has_files];
        if kinds.into_iter().filter(|is_given| *is_given).count() != 1 {
            return vec!["keys: give one of discovery, jwks_url, jwks_file, or pem and secrets".to_owned()];
        }
        let mut faults = Vec::new();
        let url = if keys.discovery { Some(&self.issuer) } else { keys.jwks_url.as_ref() };
        faults.extend(url.and_then(|url| allowed_url(url).err()).map(|error| format!("keys: {error}")));
        for key in &keys.pem {
            if key.algorithm.is_hmac() {
                faults.push(format!("keys.pem: {:?} is for secrets, not for public keys", key.algorithm));
            }
        }
        for key in &keys.secrets {
            if !key.algorithm.is_hmac() {
                faults.push(format!("keys.secrets: {:?} is for public keys, not for secrets", key.algorithm));
            }
        }
        faults
    }
}
