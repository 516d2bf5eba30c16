//! Identities that do not come from the token file: web tokens, certificates, trusted proxies.
//!
//! Three questions: which header brings a token ([`Identities::token_header`]), whose a web token is ([`Identities::of_jwt`]), and
//! whom a connection stands for that came without a token ([`Identities::of_connection`]).
//!
//! Invariants
//! - I1 A credential that is shown and is not good is an error, never an absence.
//! - I2 A request waits for nothing but keys of an issuer that are not known yet; the network is [`Identities::run`]'s alone.

mod settings;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use pharos_base::Clock;

pub use settings::{CertificateMatch, CertificateSettings, GrantSettings, IdentitySettings, ProxySettings};
pub(crate) use settings::{header_fault, is_name};

use crate::authenticate::AuthError;
use crate::certificate::CertificateRules;
use crate::jwt::{IssuerState, Issuers, JwtError, Verified, looks_like_jwt};
use crate::proxy::{Proxies, Vouched};
use crate::{Grant, IdentitySource, Presented, Principal};

/// Settings or files of identities that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct IdentityError(pub Vec<String>);

/// All identities that do not come from the token file.
#[derive(Debug)]
pub struct Identities {
    issuers: Issuers,
    certificates: CertificateRules,
    proxies: Proxies,
    token_headers: Vec<HeaderName>,
    session_s: i64,
    clock: Arc<dyn Clock>,
}

impl Identities {
    /// Reads the files that the settings name. Keys behind URLs come later, with [`Identities::run`].
    ///
    /// # Errors
    /// [`IdentityError`]: every fault of the settings, or every file that cannot be used.
    pub fn open(settings: &IdentitySettings, clock: Arc<dyn Clock>) -> Result<Self, IdentityError> {
        let faults = settings.faults();
        if !faults.is_empty() {
            return Err(IdentityError(faults));
        }
        Ok(Self {
            issuers: Issuers::open(&settings.jwt, Arc::clone(&clock)).map_err(IdentityError)?,
            certificates: CertificateRules::new(&settings.certificates),
            proxies: Proxies::new(&settings.proxies),
            token_headers: settings.headers.iter().filter_map(|name| name.parse().ok()).collect(),
            session_s: settings.sessions.as_ms().div_euclid(1_000),
            clock,
        })
    }

    /// The first of the configured headers that is there, and may bring a token.
    pub(crate) fn token_header(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        self.token_headers.iter().find(|name| headers.contains_key(*name))
    }

    /// How long a browser's session lasts, seconds.
    pub(crate) fn session_s(&self) -> i64 {
        self.session_s
    }

    /// Whether there are issuers whose keys can be read again.
    #[must_use]
    pub fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// How the keys of each issuer are, for metrics.
    pub fn issuers(&self) -> impl Iterator<Item = IssuerState<'_>> {
        self.issuers.states()
    }

    /// Whether a bearer's text is for [`Identities::of_jwt`] to judge.
    #[must_use]
    pub fn is_jwt(&self, bearer: &str) -> bool {
        !self.issuers.is_empty() && looks_like_jwt(bearer)
    }

    /// Who holds a web token. One that was seen before costs one hash; one whose key is not known waits for its issuer's keys, two
    /// seconds at most.
    ///
    /// # Errors
    /// [`JwtError`].
    pub async fn of_jwt(&self, token: &str) -> Result<Principal, JwtError> {
        let verified = self.verified(token).await?;
        Ok(Principal::of(Arc::clone(&verified.grant), IdentitySource::Jwt))
    }

    /// A web token that is good, and what it proved.
    pub(crate) async fn verified(&self, token: &str) -> Result<Arc<Verified>, JwtError> {
        match self.issuers.verified(token) {
            Err(JwtError::KeysWanted(wanted)) => {
                self.issuers.wait_for_keys(wanted).await;
                self.issuers.verified(token)
            }
            otherwise => otherwise,
        }
    }

    /// Whether what a web token proved once still counts.
    pub(crate) fn still_counts(&self, verified: &Verified) -> bool {
        self.issuers.still_counts(verified)
    }

    /// Whom a connection stands for by itself: whom a trusted proxy names, else whose certificate it showed. `None` if neither.
    ///
    /// # Errors
    /// [`AuthError::Proxy`], [`AuthError::Certificate`].
    pub(crate) fn of_connection(&self, presented: &Presented<'_>) -> Result<Option<Principal>, AuthError> {
        let now_s = self.clock.unix_ms().div_euclid(1_000);
        match self.proxies.vouched(presented.peer, presented.headers, now_s)? {
            Some(Vouched::For(grant)) => return Ok(Some(principal(*grant, IdentitySource::Proxy))),
            Some(Vouched::Showed(certificate)) => {
                let grant = self.certificates.grant_of(&certificate)?;
                return Ok(Some(principal(grant, IdentitySource::Certificate)));
            }
            None => {}
        }
        match presented.certificate {
            Some(certificate) if !self.certificates.is_empty() => {
                let grant = self.certificates.grant_of(certificate)?;
                Ok(Some(principal(grant, IdentitySource::Certificate)))
            }
            _ => Ok(None),
        }
    }

    /// Reads the files of keys again, and asks for those behind URLs. Blocks on the disk.
    ///
    /// # Errors
    /// [`IdentityError`]: files that cannot be used; the keys that were read from them before stay.
    pub fn reload(&self) -> Result<(), IdentityError> {
        self.issuers.reload().map_err(IdentityError)
    }

    /// Keeps keys fresh until `stop`.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        self.issuers.run(stop).await;
    }
}

fn principal(grant: Grant, source: IdentitySource) -> Principal {
    Principal::of(Arc::new(grant), source)
}
