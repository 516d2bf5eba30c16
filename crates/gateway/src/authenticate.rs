//! From what a request shows to a principal.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ipnet::IpNet;
use pharos_base::{Clock, ErrorClass, Secret};
use pharos_http::QueryLimits;

use crate::audit::{Audit, AuditSettings};
use crate::live_tokens::{LiveSecret, LiveTokens};
use crate::session::{Sessions, Shown};
use crate::token_file::{TokenFile, TokenFileError, hash};
use crate::{
    CertificateRefused, GatewayError, Grant, Identities, IdentitySource, JwtError, NewToken, Presented, Principal,
    ProxyError, Quotas, Scope, TenantAccess,
};

/// The session cookie's name.
pub(crate) const SESSION_COOKIE: &str = "pharos_session";
/// How often the token file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a browser stays logged in where no setting says otherwise, seconds.
const SESSION_S: i64 = 12 * 3_600;

/// Why a request is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum AuthError {
    #[error("no credential: send the header \"Authorization: Bearer <token>\" (pharos token new makes one)")]
    Missing,
    #[error(
        "the Authorization header is neither \"Bearer <token>\" nor basic authentication with the token as password"
    )]
    Malformed,
    #[error("this token is not known here, or was revoked")]
    Unknown,
    #[error("this token has expired")]
    Expired,
    #[error("this token does not work yet")]
    NotYet,
    #[error("the header {header} is there more than once; send it once")]
    Twice { header: &'static str },
    #[error("{what}")]
    Original { what: &'static str },
    #[error("this browser session has ended; log in again")]
    SessionEnded,
    #[error("a page of another site made this browser send the request")]
    OtherSite,
    #[error("without authentication this server answers to loopback names only, not to {host:?}")]
    OtherHost { host: String },
    #[error(transparent)]
    Refused(#[from] GatewayError),
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Certificate(#[from] CertificateRefused),
}

impl AuthError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(error) => error.class(),
            Self::Jwt(error) => error.class(),
            Self::OtherSite | Self::OtherHost { .. } | Self::Original { .. } => ErrorClass::Forbidden,
            Self::Twice { .. } => ErrorClass::Invalid,
            Self::Missing
            | Self::Malformed
            | Self::Unknown
            | Self::Expired
            | Self::NotYet
            | Self::SessionEnded
            | Self::Proxy(_)
            | Self::Certificate(_) => ErrorClass::Unauthenticated,
        }
    }
}

/// How callers are authenticated.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// `false` lets everyone in as an anonymous principal with all scopes.
    pub enabled: bool,
    /// Whether this server is reached under loopback names only. Without authentication, a request for another
    /// name is then a browser that was talked into it (DNS rebinding), and refused.
    pub loopback_only: bool,
    /// Where the tokens are.
    pub token_file: TokenFile,
    /// Proxies that are believed when they say whom they speak for, and that the sender's connection is encrypted.
    pub trusted_networks: Vec<IpNet>,
    /// What is written about requests.
    pub audit: AuditSettings,
}

impl AuthSettings {
    /// Everyone needs a token of this file; proxies on this machine are trusted.
    #[must_use]
    pub fn with_tokens(token_file: TokenFile) -> Self {
        Self {
            enabled: true,
            loopback_only: false,
            token_file,
            trusted_networks: loopback_networks(),
            audit: AuditSettings::default(),
        }
    }
}

/// This machine: where the nginx of the examples is.
#[must_use]
pub fn loopback_networks() -> Vec<IpNet> {
    let v4 = IpNet::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8);
    let v6 = IpNet::new(Ipv6Addr::LOCALHOST.into(), 128);
    v4.into_iter().chain(v6).collect()
}

/// Knows all live tokens and open sessions.
#[derive(Debug)]
pub struct Authenticator {
    settings: AuthSettings,
    clock: Arc<dyn Clock>,
    tokens: LiveTokens,
    sessions: Sessions,
    audit: Audit,
    identities: Option<Arc<Identities>>,
    quotas: Option<Arc<Quotas>>,
}

impl Authenticator {
    /// Reads the token file.
    ///
    /// # Errors
    /// [`TokenFileError`] if there is a file that cannot be read.
    pub fn open(settings: AuthSettings, clock: Arc<dyn Clock>) -> Result<Self, TokenFileError> {
        let tokens = LiveTokens::open(settings.token_file.clone())?;
        let audit = Audit::new(settings.audit.clone(), Arc::clone(&clock));
        Ok(Self { settings, clock, tokens, sessions: Sessions::default(), audit, identities: None, quotas: None })
    }

    /// Lets in whoever these identities know, too.
    #[must_use]
    pub fn with_identities(self, identities: Arc<Identities>) -> Self {
        Self { identities: Some(identities), ..self }
    }

    /// Tells who is let in what their queries may.
    #[must_use]
    pub fn with_quotas(self, quotas: Arc<Quotas>) -> Self {
        Self { quotas: Some(quotas), ..self }
    }

    /// What the queries of this principal may, for the tenant that it asks for; `None` where nothing is limited.
    pub(crate) fn query_limits(&self, principal: &Principal) -> Option<QueryLimits> {
        let tenant = principal.tenant_for(None).ok()?;
        let limits = self.quotas.as_ref()?.of_queries(principal, &tenant);
        (limits != QueryLimits::default()).then_some(limits)
    }

    /// Whether callers are authenticated at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Proxies that are believed when they say whom they speak for.
    #[must_use]
    pub fn trusted_networks(&self) -> &[IpNet] {
        &self.settings.trusted_networks
    }

    /// Requests turned away so far, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.audit.refusals()
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Makes the first token where there is none yet: all scopes, all tenants.
    ///
    /// # Errors
    /// [`TokenFileError`] if the file cannot be written.
    pub fn first_token(&self) -> Result<Option<Secret>, TokenFileError> {
        if self.tokens.len() > 0 {
            return Ok(None);
        }
        let new = NewToken::new("first", &Scope::ALL, TenantAccess::Any, self.now_s());
        let (secret, _) = self.tokens.file().add(new)?;
        self.reload()?;
        Ok(Some(secret))
    }

    /// Reads the token file again; tokens in use stay if it cannot be read, or is gone. Blocks on the disk.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn reload(&self) -> Result<(), TokenFileError> {
        self.tokens.reload().map(|_| ())
    }

    /// Looks at the token file once a second until `stop`: a changed one is read, away from the threads that serve requests.
    pub async fn watch(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = ticks.tick() => {}
            }
            let authenticator = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || authenticator.tokens.look()).await {
                tracing::error!(%error, "looking at the token file panicked; it is looked at again");
            }
        }
    }

    /// Who sent a request that shows this.
    ///
    /// A token of the file is answered at once; only an identity that has to be asked for elsewhere makes a caller wait.
    ///
    /// # Errors
    /// [`AuthError`], whose message may be shown to the caller.
    pub async fn authenticate(&self, presented: &Presented<'_>) -> Result<Principal, AuthError> {
        if !self.settings.enabled {
            return Ok(Principal::anonymous());
        }
        let headers = presented.headers;
        // What is shown and is wrong is refused: it never falls back to something weaker that came with it.
        if let Some(value) = single(headers, &AUTHORIZATION, "Authorization")? {
            return self.by_token(&bearer(value.to_str().map_err(|_| AuthError::Malformed)?)?).await;
        }
        if let Some(name) = self.token_header(headers) {
            let value = single(headers, name, "with the token")?.and_then(|value| value.to_str().ok());
            return self.by_token(value.ok_or(AuthError::Malformed)?.trim()).await;
        }
        if let Some(cookie) = session_cookie(headers) {
            return self.by_session(cookie);
        }
        let identified = self.identities.as_ref().map(|identities| identities.of_connection(presented)).transpose()?;
        identified.flatten().ok_or(AuthError::Missing)
    }

    async fn by_token(&self, token: &str) -> Result<Principal, AuthError> {
        match &self.identities {
            Some(identities) if identities.is_jwt(token) => Ok(identities.of_jwt(token).await?),
            _ => Ok(Principal::of(self.grant_of(&hash(token), AuthError::Unknown)?, IdentitySource::Token)),
        }
    }

    fn token_header(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        self.identities.as_ref().and_then(|identities| identities.token_header(headers))
    }

    fn by_session(&self, cookie: &str) -> Result<Principal, AuthError> {
        let shown = self.sessions.shown_for(cookie, self.now_s()).ok_or(AuthError::SessionEnded)?;
        let grant = match &shown {
            Shown::Token(sha256) => self.grant_of(sha256, AuthError::SessionEnded)?,
            Shown::WebToken(verified) => {
                let still_counts = self.identities.as_ref().is_some_and(|identities| identities.still_counts(verified));
                still_counts.then(|| Arc::clone(&verified.grant)).ok_or(AuthError::SessionEnded)?
            }
        };
        Ok(Principal::of(grant, IdentitySource::Session))
    }

    /// Whether a request needs nothing that a browser would not send by itself: a cookie, a certificate, what makes a proxy vouch
    /// for it, no credential at all, or basic authentication. A browser that was ever asked for a name and a password by this origin,
    /// and a proxy may do so, sends them again whoever's page makes it.
    pub(crate) fn trusts_the_browser(&self, headers: &HeaderMap) -> bool {
        if !self.settings.enabled {
            return true;
        }
        match headers.get(AUTHORIZATION) {
            Some(value) => value.to_str().ok().and_then(scheme).is_some_and(|(scheme, _)| is_basic(scheme)),
            None => self.token_header(headers).is_none(),
        }
    }

    /// Refuses names that are not this machine's, where nothing else guards the server.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), AuthError> {
        if self.settings.enabled || !self.settings.loopback_only {
            return Ok(());
        }
        let header = headers.get(HOST).and_then(|value| value.to_str().ok());
        let host = uri.host().or_else(|| header.map(without_port)).unwrap_or("");
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_loopback { Ok(()) } else { Err(AuthError::OtherHost { host: host.chars().take(100).collect() }) }
    }

    /// Who shows this token to open a browser's session, and what the session has to know.
    pub(crate) async fn shown(&self, token: &str) -> Result<(Principal, Shown), AuthError> {
        let token = token.trim();
        match &self.identities {
            Some(identities) if identities.is_jwt(token) => {
                let verified = identities.verified(token).await?;
                let principal = Principal::of(Arc::clone(&verified.grant), IdentitySource::Jwt);
                // Within the leeway it is a credential, and no longer one to begin something with.
                if self.now_s() < verified.ends_s {
                    Ok((principal, Shown::WebToken(verified)))
                } else {
                    Err(JwtError::Expired.into())
                }
            }
            _ => {
                let sha256 = hash(token);
                let grant = self.grant_of(&sha256, AuthError::Unknown)?;
                Ok((Principal::of(grant, IdentitySource::Token), Shown::Token(sha256)))
            }
        }
    }

    /// Opens a browser session; its cookie, and how long it lasts, seconds: as long as the settings say, and no longer than what was
    /// shown for it.
    pub(crate) fn open_session(&self, shown: Shown) -> (Secret, i64) {
        let now_s = self.now_s();
        let lasts_s = self.identities.as_ref().map_or(SESSION_S, |identities| identities.session_s());
        let expires_at = now_s.saturating_add(lasts_s);
        let (holder, expires_at) = match &shown {
            // When a token of the file ends is looked up with each request.
            Shown::Token(sha256) => (*sha256, expires_at),
            Shown::WebToken(verified) => (verified.holder, expires_at.min(verified.ends_s)),
        };
        (self.sessions.open(shown, holder, now_s, expires_at), expires_at.saturating_sub(now_s))
    }

    /// Ends the browser session of a request.
    pub(crate) fn log_out(&self, headers: &HeaderMap) {
        if let Some(cookie) = session_cookie(headers) {
            self.sessions.close(cookie);
        }
    }

    fn grant_of(&self, sha256: &[u8; 32], unknown: AuthError) -> Result<Arc<Grant>, AuthError> {
        let LiveSecret { grant, expires_s } = self.tokens.get(sha256).ok_or(unknown)?;
        let now_s = self.now_s();
        if [expires_s, grant.expires_s].into_iter().flatten().any(|end| end <= now_s) {
            return Err(AuthError::Expired);
        }
        if grant.not_before_s.is_some_and(|begin| now_s < begin) {
            return Err(AuthError::NotYet);
        }
        Ok(grant)
    }

    fn now_s(&self) -> i64 {
        self.clock.unix_ms().div_euclid(1_000)
    }
}

/// The host of `host:port` or `[host]:port`.
fn without_port(header: &str) -> &str {
    match header.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => header,
    }
}

/// A header that may be there once: of two, nobody can say which one the next server reads.
pub(crate) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'h HeaderValue>, AuthError> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next();
    if values.next().is_some() { Err(AuthError::Twice { header: shown }) } else { Ok(first) }
}

/// The scheme of an Authorization header, and its rest.
fn scheme(header: &str) -> Option<(&str, &str)> {
    header.split_once(' ')
}

fn is_basic(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("basic")
}

fn bearer(header: &str) -> Result<Cow<'_, str>, AuthError> {
    let (scheme, rest) = scheme(header).ok_or(AuthError::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Cow::Borrowed(rest.trim()));
    }
    if !is_basic(scheme) {
        return Err(AuthError::Malformed);
    }
    let decoded = STANDARD.decode(rest.trim()).map_err(|_| AuthError::Malformed)?;
    let pair = String::from_utf8(decoded).map_err(|_| AuthError::Malformed)?;
    let (_user, password) = pair.split_once(':').ok_or(AuthError::Malformed)?;
    Ok(Cow::Owned(password.to_owned()))
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
