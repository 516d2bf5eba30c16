//! From headers to a principal.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::Uri;
use http::header::{AUTHORIZATION, COOKIE, HOST};
use parking_lot::Mutex;
use pharos_base::{Clock, ErrorClass, Secret, full_message};
use subtle::ConstantTimeEq;

use crate::session::Sessions;
use crate::token_file::{TokenEntry, TokenFile, TokenFileError, hash};
use crate::{GatewayError, NewToken, Presented, Principal, Scope, TenantAccess};

/// The session cookie's name.
pub(crate) const SESSION_COOKIE: &str = "pharos_session";
/// The token file's change time is looked at this often at most, milliseconds.
const RELOAD_CHECK_MS: i64 = 1_000;

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
    #[error("this browser session has ended; log in again")]
    SessionEnded,
    #[error("a page of another site made this browser send the request")]
    OtherSite,
    #[error("without authentication this server answers to loopback names only, not to {host:?}")]
    OtherHost { host: String },
    #[error(transparent)]
    Refused(#[from] GatewayError),
}

impl AuthError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused(error) => error.class(),
            Self::OtherSite | Self::OtherHost { .. } => ErrorClass::Forbidden,
            _ => ErrorClass::Unauthenticated,
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
}

/// Knows all live tokens and open sessions.
#[derive(Debug)]
pub struct Authenticator {
    settings: AuthSettings,
    clock: Arc<dyn Clock>,
    tokens: ArcSwap<Vec<Known>>,
    sessions: Sessions,
    checked_at_ms: AtomicI64,
    file_seen: Mutex<Option<FileSeen>>,
}

#[derive(Debug)]
struct Known {
    entry: TokenEntry,
    principal: Principal,
}

/// What tells one version of the file from the next.
#[derive(Debug, PartialEq, Eq)]
struct FileSeen {
    modified: Option<SystemTime>,
    inode: u64,
    length: u64,
}

impl Authenticator {
    /// Reads the token file.
    ///
    /// # Errors
    /// [`TokenFileError`] if there is a file that cannot be read.
    pub fn open(settings: AuthSettings, clock: Arc<dyn Clock>) -> Result<Self, TokenFileError> {
        let authenticator = Self {
            settings,
            clock,
            tokens: ArcSwap::default(),
            sessions: Sessions::default(),
            checked_at_ms: AtomicI64::new(0),
            file_seen: Mutex::new(None),
        };
        authenticator.reload()?;
        Ok(authenticator)
    }

    /// Whether callers are authenticated at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Makes the first token where there is none yet: all scopes, all tenants.
    ///
    /// # Errors
    /// [`TokenFileError`] if the file cannot be written.
    pub fn first_token(&self) -> Result<Option<Secret>, TokenFileError> {
        if !self.tokens.load().is_empty() {
            return Ok(None);
        }
        let new = NewToken {
            name: "first".to_owned(),
            scopes: Scope::ALL.to_vec(),
            tenant: TenantAccess::Any,
            created_at: self.now_s(),
            expires_at: None,
        };
        let (secret, _) = self.settings.token_file.add(new)?;
        self.reload()?;
        Ok(Some(secret))
    }

    /// Reads the token file again; tokens in use stay if it cannot be read.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn reload(&self) -> Result<(), TokenFileError> {
        let seen = self.look_at_file();
        let entries = self.settings.token_file.read()?;
        let known = entries.into_iter().map(|entry| {
            let principal = Principal::new(&entry.name, &entry.scopes, entry.tenant.clone());
            Known { entry, principal }
        });
        self.tokens.store(Arc::new(known.collect()));
        *self.file_seen.lock() = seen;
        Ok(())
    }

    /// Who sent a request that shows this.
    ///
    /// A token of the file is answered at once; only an identity that has to be asked for elsewhere makes a caller wait.
    ///
    /// # Errors
    /// [`AuthError`], whose message may be shown to the caller.
    #[expect(clippy::unused_async, reason = "keys of issuers may have to be fetched")]
    pub async fn authenticate(&self, presented: &Presented<'_>) -> Result<Principal, AuthError> {
        self.by_token(presented.headers)
    }

    fn by_token(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        if !self.settings.enabled {
            return Ok(Principal::anonymous());
        }
        self.reload_if_changed();
        if let Some(value) = headers.get(AUTHORIZATION) {
            let token = bearer(value.to_str().map_err(|_| AuthError::Malformed)?)?;
            return self.principal_of(&hash(&token), AuthError::Unknown);
        }
        match session_cookie(headers) {
            Some(cookie) => {
                let sha256 = self.sessions.token_of(cookie, self.now_s()).ok_or(AuthError::SessionEnded)?;
                self.principal_of(&sha256, AuthError::SessionEnded)
            }
            None => Err(AuthError::Missing),
        }
    }

    /// Whether a request needs nothing that a browser would not send by itself: a cookie, or no credential at all.
    pub(crate) fn trusts_the_browser(&self, headers: &HeaderMap) -> bool {
        let by_cookie = !headers.contains_key(AUTHORIZATION) && session_cookie(headers).is_some();
        !self.settings.enabled || by_cookie
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

    /// Opens a browser session for a token.
    pub(crate) fn log_in(&self, token: &str) -> Result<Secret, AuthError> {
        self.reload_if_changed();
        let sha256 = hash(token.trim());
        self.principal_of(&sha256, AuthError::Unknown)?;
        Ok(self.sessions.open(sha256, self.now_s()))
    }

    /// Ends the browser session of a request.
    pub(crate) fn log_out(&self, headers: &HeaderMap) {
        if let Some(cookie) = session_cookie(headers) {
            self.sessions.close(cookie);
        }
    }

    fn principal_of(&self, sha256: &[u8; 32], unknown: AuthError) -> Result<Principal, AuthError> {
        let tokens = self.tokens.load();
        // Every entry is compared in full: how long it takes says nothing about which one came close.
        let mut found = None;
        for known in tokens.iter() {
            if bool::from(known.entry.sha256.ct_eq(sha256)) {
                found = Some(known);
            }
        }
        let known = found.ok_or(unknown)?;
        match known.entry.expires_at {
            Some(expires_at) if expires_at <= self.now_s() => Err(AuthError::Expired),
            _ => Ok(known.principal.clone()),
        }
    }

    fn reload_if_changed(&self) {
        let now_ms = self.clock.unix_ms();
        let checked_at_ms = self.checked_at_ms.load(Ordering::Relaxed);
        if now_ms - checked_at_ms < RELOAD_CHECK_MS && checked_at_ms <= now_ms {
            return;
        }
        self.checked_at_ms.store(now_ms, Ordering::Relaxed);
        if *self.file_seen.lock() == self.look_at_file() {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!(tokens = self.tokens.load().len(), "token file reloaded"),
            Err(error) => {
                let error = full_message(&error);
                tracing::error!(error, "token file cannot be reloaded; the tokens known before stay valid");
            }
        }
    }

    fn look_at_file(&self) -> Option<FileSeen> {
        match fs::metadata(self.settings.token_file.path()) {
            Ok(found) => Some(FileSeen {
                modified: found.modified().ok(),
                inode: std::os::unix::fs::MetadataExt::ino(&found),
                length: found.len(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => None,
        }
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

fn bearer(header: &str) -> Result<String, AuthError> {
    let (scheme, rest) = header.split_once(' ').ok_or(AuthError::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(AuthError::Malformed);
    }
    let decoded = STANDARD.decode(rest.trim()).map_err(|_| AuthError::Malformed)?;
    let pair = String::from_utf8(decoded).map_err(|_| AuthError::Malformed)?;
    let (_user, password) = pair.split_once(':').ok_or(AuthError::Malformed)?;
    Ok(password.to_owned())
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
mod tests {
    use super::*;
    use http::HeaderValue;
    use pharos_base::SimClock;

    struct Fixture {
        _folder: tempfile::TempDir,
        clock: Arc<SimClock>,
        file: TokenFile,
        authenticator: Authenticator,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let clock = SimClock::at_ms(1_700_000_000_000);
        let file = TokenFile::at(folder.path().join("tokens.json"));
        let settings = AuthSettings { enabled: true, loopback_only: false, token_file: file.clone() };
        let authenticator = Authenticator::open(settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Fixture { _folder: folder, clock, file, authenticator }
    }

    fn with_header(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_first_token_is_made_once() {
        let fixture = fixture();
        let secret = fixture.authenticator.first_token().unwrap().unwrap();
        assert!(fixture.authenticator.first_token().unwrap().is_none());
        let headers = with_header(AUTHORIZATION, &format!("Bearer {}", secret.reveal()));
        assert_eq!(fixture.authenticator.by_token(&headers).unwrap().name(), "first");
    }

    #[test]
    fn grafana_may_send_the_token_as_a_basic_password() {
        let fixture = fixture();
        let secret = fixture.authenticator.first_token().unwrap().unwrap();
        let basic = STANDARD.encode(format!("grafana:{}", secret.reveal()));
        let headers = with_header(AUTHORIZATION, &format!("Basic {basic}"));
        assert!(fixture.authenticator.by_token(&headers).is_ok());
    }

    #[test]
    fn wrong_missing_malformed_and_expired_tokens_are_told_apart() {
        let fixture = fixture();
        let now_s = fixture.authenticator.now_s();
        let new = NewToken {
            name: "short".to_owned(),
            scopes: vec![Scope::MetricsRead],
            tenant: TenantAccess::Any,
            created_at: now_s,
            expires_at: Some(now_s + 60),
        };
        let (secret, _) = fixture.file.add(new).unwrap();
        let good = with_header(AUTHORIZATION, &format!("Bearer {}", secret.reveal()));
        assert!(fixture.authenticator.by_token(&good).is_ok(), "a new token works without a restart");
        fixture.clock.advance_ms(61_000);
        let failure = |headers: &HeaderMap| fixture.authenticator.by_token(headers).unwrap_err();
        assert_eq!(failure(&good), AuthError::Expired);
        assert_eq!(failure(&HeaderMap::new()), AuthError::Missing);
        assert_eq!(failure(&with_header(AUTHORIZATION, "Bearer nonsense")), AuthError::Unknown);
        assert_eq!(failure(&with_header(AUTHORIZATION, "Negotiate abc")), AuthError::Malformed);
        assert_eq!(failure(&with_header(AUTHORIZATION, "Basic !!!")), AuthError::Malformed);
    }

    #[test]
    fn a_revoked_token_ends_its_sessions_too() {
        let fixture = fixture();
        let secret = fixture.authenticator.first_token().unwrap().unwrap();
        let cookie = fixture.authenticator.log_in(secret.reveal()).unwrap();
        let headers = with_header(COOKIE, &format!("theme=dark; {SESSION_COOKIE}={}", cookie.reveal()));
        assert!(fixture.authenticator.by_token(&headers).is_ok());
        fixture.file.remove("first").unwrap();
        fixture.clock.advance_ms(RELOAD_CHECK_MS);
        assert_eq!(fixture.authenticator.by_token(&headers).unwrap_err(), AuthError::SessionEnded);
    }

    #[test]
    fn a_broken_token_file_does_not_lock_everyone_out() {
        let fixture = fixture();
        let secret = fixture.authenticator.first_token().unwrap().unwrap();
        fs::write(fixture.file.path(), "broken").unwrap();
        fixture.clock.advance_ms(RELOAD_CHECK_MS);
        let headers = with_header(AUTHORIZATION, &format!("Bearer {}", secret.reveal()));
        assert!(fixture.authenticator.by_token(&headers).is_ok());
    }
}
