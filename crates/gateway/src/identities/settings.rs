//! Settings of identities beside the token file: issuers of web tokens, clients' certificates, trusted proxies.

use std::collections::BTreeMap;

use http::HeaderName;
use ipnet::IpNet;
use pharos_base::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::jwt::IssuerSettings;
use crate::{AccessRule, AccessRules, Grant, LimitOverrides, Scope, TenantAccess};

/// Headers that may bring a token beside `Authorization`.
const HEADERS_MAX: usize = 8;
/// How long a browser's session may last, milliseconds.
const SESSIONS_MS: std::ops::RangeInclusive<i64> = 60_000..=365 * 86_400_000;
/// Headers that have a meaning of their own, and are nobody's name or secret.
const TAKEN_HEADERS: [&str; 7] =
    ["authorization", "content-length", "content-type", "cookie", "host", "transfer-encoding", "x-scope-orgid"];

/// How else than by a bearer's token of the file one may say who one is. Every list is empty by default: then nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// Headers that may bring a token where there is no `Authorization`, such as `X-API-Key`.
    pub headers: Vec<String>,
    /// How long a browser stays logged in.
    pub sessions: HumanDuration,
    /// Issuers whose JSON web tokens count, each once.
    pub jwt: Vec<IssuerSettings>,
    /// Which client certificates are whose; the first rule that fits counts.
    pub certificates: Vec<CertificateSettings>,
    /// Proxies that have authenticated the sender, and say so in a header.
    pub proxies: Vec<ProxySettings>,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            sessions: HumanDuration::from_ms(12 * 3_600_000),
            jwt: Vec::new(),
            certificates: Vec::new(),
            proxies: Vec::new(),
        }
    }
}

/// One rule: certificates with such a name are this identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateSettings {
    /// The name a certificate must have.
    #[serde(rename = "match")]
    pub matches: CertificateMatch,
    /// What the identity is called: `{uri}`, `{dns}` and `{common_name}` stand for the name that fitted. That name alone if empty.
    pub name: String,
    /// What it may do.
    pub grant: GrantSettings,
}

/// Exactly one of the three; a `*` stands for any text within one segment (between `/` of a URI, between `.` of the others).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateMatch {
    /// An alternative name of type URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// An alternative name of type DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// The subject's common name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
}

/// A proxy in front that authenticates, such as oauth2-proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// Where the proxy's connections come from; the header of anyone else means nothing.
    pub networks: Vec<IpNet>,
    /// The header in which the proxy names the sender. The proxy must remove it from what senders say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub header: String,
    /// Instead of `header`: the one with the certificate that the sender showed to the proxy, which has checked it. Whose it is
    /// `certificates` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_header: Option<String>,
    /// The header in which it names the sender's tenants; null: those of the grant.
    pub tenant_header: Option<String>,
    /// What its senders may do.
    pub grant: GrantSettings,
}

/// What an identity brings, beside what its credential says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantSettings {
    /// What it may do; for web tokens in addition to what their claims say.
    pub scopes: Vec<Scope>,
    /// A tenant, several with commas between, or `*`, where the credential names none itself; null: such a credential is refused.
    pub tenant: Option<String>,
    /// Labels for every series and resource it writes.
    pub extra_labels: BTreeMap<String, String>,
    /// How much it may.
    pub limits: LimitOverrides,
    /// What it may do, and from where; everything if empty.
    pub allow: Vec<AccessRule>,
    /// What it may not, whatever `allow` says.
    pub deny: Vec<AccessRule>,
}

impl GrantSettings {
    /// The tenants that are set.
    pub(crate) fn tenants(&self) -> Result<Option<TenantAccess>, String> {
        let parsed = self.tenant.as_deref().map(str::parse).transpose();
        parsed.map_err(|error: pharos_model::TenantIdError| format!("grant.tenant: {error}"))
    }

    /// The grant of one who is called `name`; `own_tenants` and `own_scopes` are what the credential says itself.
    pub(crate) fn grant(&self, name: &str, tenants: TenantAccess, own_scopes: &[Scope]) -> Grant {
        let mut scopes = self.scopes.clone();
        scopes.extend(own_scopes);
        scopes.sort_unstable();
        scopes.dedup();
        Grant {
            extra_labels: self.extra_labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            rules: AccessRules { allow: self.allow.clone(), deny: self.deny.clone() },
            limits: self.limits.clone(),
            ..Grant::new(name, &scopes, tenants)
        }
    }
}

impl IdentitySettings {
    /// Everything that makes no sense, each fault with the path of its key.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.headers.len() > HEADERS_MAX {
            faults.push(format!("identities.headers: list {HEADERS_MAX} at most"));
        }
        faults.extend(
            self.headers
                .iter()
                .filter_map(|name| header_fault(name))
                .map(|fault| format!("identities.headers: {fault}")),
        );
        if !SESSIONS_MS.contains(&self.sessions.as_ms()) {
            faults.push("identities.sessions: must be from 1m to 365d".to_owned());
        }
        for (at, issuer) in self.jwt.iter().enumerate() {
            faults.extend(issuer.faults().into_iter().map(|fault| format!("identities.jwt[{at}].{fault}")));
            if self.jwt[..at].iter().any(|earlier| earlier.issuer == issuer.issuer) {
                faults.push(format!("identities.jwt[{at}].issuer: {:?} is there twice", issuer.issuer));
            }
        }
        for (at, rule) in self.certificates.iter().enumerate() {
            faults.extend(rule.faults().into_iter().map(|fault| format!("identities.certificates[{at}].{fault}")));
        }
        for (at, proxy) in self.proxies.iter().enumerate() {
            faults.extend(proxy.faults().into_iter().map(|fault| format!("identities.proxies[{at}].{fault}")));
            if proxy.certificate_header.is_some() && self.certificates.is_empty() {
                faults.push(format!(
                    "identities.proxies[{at}].certificate_header: identities.certificates must say whose the certificates are"
                ));
            }
        }
        faults
    }
}

/// Why a header may not be one that tells who sent a request.
pub(crate) fn header_fault(name: &str) -> Option<String> {
    match name.parse::<HeaderName>() {
        Err(_) => Some(format!("{name:?} is no header's name")),
        Ok(name) if TAKEN_HEADERS.contains(&name.as_str()) => Some(format!("{name} has a meaning of its own")),
        Ok(_) => None,
    }
}

/// The longest name of an identity, bytes.
const NAME_BYTES_MAX: usize = 256;

/// Whether a text may be an identity's name: it goes into logs, metrics and listings.
pub(crate) fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}
