//! Who was turned away, from where, at which door, and why.
//!
//! Lines of the log (target `pharos_gateway::audit`) and counters. A line never holds a secret, a query or a body: the name of
//! the credential if it is known, the sender's address, the method, the path as it stands up to a length, the reason.
//!
//! Invariants
//! - A1 Every refusal is counted, whether it gets a line or not. That nobody is logged in, which `/auth/session` is asked for, is an
//!   answer and no refusal.
//! - A2 In one second at most `per_second_max` lines of a kind are written; how many were left out is told with the next one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pharos_base::Clock;
use serde::{Deserialize, Serialize};

use crate::authenticate::AuthError;
use crate::jwt::JwtError;
use crate::presented::Presented;
use crate::principal::{GatewayError, Principal};

/// Bytes of a path, a name or a method that a line shows.
const SHOWN_BYTES_MAX: usize = 200;

/// What is written about requests and their senders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Which requests get a line.
    pub level: AuditLevel,
    /// Lines in a second at most, refused and admitted requests each.
    pub per_second_max: u32,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { level: AuditLevel::Refused, per_second_max: 100 }
    }
}

/// Which requests get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditLevel {
    /// Those that are turned away.
    Refused,
    /// Admitted ones, too.
    All,
    /// None; refusals are counted all the same.
    Off,
}

/// Why a request is turned away: the label of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Missing,
    Malformed,
    Ambiguous,
    Unknown,
    Expired,
    NotYet,
    SessionEnded,
    OtherSite,
    OtherHost,
    Scope,
    Tenant,
    Rules,
    Original,
    WebToken,
    IssuerKeys,
    Requirement,
    Proxy,
    Certificate,
}

impl Reason {
    const ALL: [Self; 18] = [
        Self::Missing,
        Self::Malformed,
        Self::Ambiguous,
        Self::Unknown,
        Self::Expired,
        Self::NotYet,
        Self::SessionEnded,
        Self::OtherSite,
        Self::OtherHost,
        Self::Scope,
        Self::Tenant,
        Self::Rules,
        Self::Original,
        Self::WebToken,
        Self::IssuerKeys,
        Self::Requirement,
        Self::Proxy,
        Self::Certificate,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::SessionEnded => "session_ended",
            Self::OtherSite => "other_site",
            Self::OtherHost => "other_host",
            Self::Scope => "scope",
            Self::Tenant => "tenant",
            Self::Rules => "rules",
            Self::Original => "original_request",
            Self::WebToken => "web_token",
            Self::IssuerKeys => "issuer_keys",
            Self::Requirement => "requirement",
            Self::Proxy => "proxy",
            Self::Certificate => "certificate",
        }
    }

    fn of(error: &AuthError) -> Self {
        match error {
            AuthError::Missing => Self::Missing,
            AuthError::Malformed => Self::Malformed,
            AuthError::Twice { .. } => Self::Ambiguous,
            AuthError::Unknown => Self::Unknown,
            AuthError::Expired | AuthError::Jwt(JwtError::Expired) => Self::Expired,
            AuthError::NotYet | AuthError::Jwt(JwtError::NotYet) => Self::NotYet,
            AuthError::SessionEnded => Self::SessionEnded,
            AuthError::OtherSite => Self::OtherSite,
            AuthError::OtherHost { .. } => Self::OtherHost,
            AuthError::Original { .. } => Self::Original,
            AuthError::Jwt(JwtError::KeysWanted(_) | JwtError::KeysUnavailable) => Self::IssuerKeys,
            AuthError::Jwt(JwtError::Requirement { .. }) => Self::Requirement,
            AuthError::Jwt(_) => Self::WebToken,
            AuthError::Proxy(_) => Self::Proxy,
            AuthError::Certificate(_) => Self::Certificate,
            AuthError::Refused(GatewayError::Denied) => Self::Rules,
            AuthError::Refused(GatewayError::MissingScope { .. } | GatewayError::UnknownScope { .. }) => Self::Scope,
            AuthError::Refused(
                GatewayError::WrongTenant { .. }
                | GatewayError::OneTenant { .. }
                | GatewayError::TenantsDiffer { .. }
                | GatewayError::Tenant(_),
            ) => Self::Tenant,
        }
    }
}

/// Writes and counts.
#[derive(Debug)]
pub(crate) struct Audit {
    settings: AuditSettings,
    clock: Arc<dyn Clock>,
    refused: [AtomicU64; Reason::ALL.len()],
    refused_lines: Mutex<Lines>,
    admitted_lines: Mutex<Lines>,
}

/// Lines of one kind in the second that is under way.
#[derive(Debug, Default)]
struct Lines {
    second: i64,
    written: u32,
    left_out: u64,
}

impl Audit {
    pub(crate) fn new(settings: AuditSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            refused: Default::default(),
            refused_lines: Mutex::default(),
            admitted_lines: Mutex::default(),
        }
    }

    /// Requests turned away so far, by reason.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.iter().zip(&self.refused).map(|(reason, count)| (reason.as_str(), count.load(Ordering::Relaxed)))
    }

    /// A request is turned away. `client` is its sender as far as it is known, `who` what its credential is called.
    pub(crate) fn refused(&self, presented: &Presented<'_>, client: Option<IpAddr>, who: &str, error: &AuthError) {
        let reason = Reason::of(error);
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        if self.settings.level == AuditLevel::Off {
            return;
        }
        let Some(left_out) = self.take_line(&self.refused_lines) else { return };
        let line = Line::of(presented, client);
        tracing::info!(
            reason = reason.as_str(), who = ?cut(who), client = line.client, method = line.method, path = ?line.path, left_out,
            "request refused"
        );
    }

    /// A request passed.
    pub(crate) fn admitted(&self, presented: &Presented<'_>, client: Option<IpAddr>, who: &Principal) {
        if self.settings.level != AuditLevel::All {
            return;
        }
        let Some(left_out) = self.take_line(&self.admitted_lines) else { return };
        let (line, tenant) = (Line::of(presented, client), who.tenant_for(None).unwrap_or_default());
        tracing::info!(
            who = ?cut(who.name()), by = who.source().as_str(), %tenant, client = line.client, method = line.method,
            path = ?line.path, left_out, "request admitted"
        );
    }

    /// `None` if this second has its lines; else how many were left out before.
    fn take_line(&self, lines: &Mutex<Lines>) -> Option<u64> {
        let second = self.clock.unix_ms().div_euclid(1_000);
        let mut lines = lines.lock();
        if lines.second != second {
            (lines.second, lines.written) = (second, 0);
        }
        if lines.written >= self.settings.per_second_max {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

/// The parts of a line that are alike for all.
struct Line<'r> {
    client: String,
    method: &'r str,
    path: &'r str,
}

impl<'r> Line<'r> {
    fn of(presented: &Presented<'r>, client: Option<IpAddr>) -> Self {
        Self {
            client: client.map_or_else(|| "unknown".to_owned(), |client| client.to_string()),
            method: cut(presented.method.as_str()),
            path: cut(presented.path),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};
    use pharos_base::SimClock;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason:?}");
        }
    }

    #[test]
    fn all_refusals_are_counted_and_few_of_a_second_are_written() {
        let clock = SimClock::at_ms(5_000);
        let settings = AuditSettings { per_second_max: 2, ..AuditSettings::default() };
        let audit = Audit::new(settings, Arc::clone(&clock) as Arc<dyn Clock>);
        let headers = HeaderMap::new();
        let presented = Presented {
            method: &Method::GET,
            path: "/x",
            headers: &headers,
            peer: None,
            over_tls: false,
            certificate: None,
        };
        for _ in 0..5 {
            audit.refused(&presented, None, "", &AuthError::Missing);
        }
        assert_eq!(audit.refusals().find(|(reason, _)| *reason == "missing"), Some(("missing", 5)));
        assert_eq!(audit.take_line(&audit.refused_lines), None);
        assert_eq!(audit.take_line(&audit.admitted_lines), Some(0), "admitted requests have lines of their own");
        clock.advance_ms(1_000);
        assert_eq!(audit.take_line(&audit.refused_lines), Some(4), "what was left out is told");
        assert_eq!(audit.take_line(&audit.refused_lines), Some(0));
    }
}
