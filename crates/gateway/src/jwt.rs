//! JSON web tokens (RFC 7519) of issuers that the settings name.
//!
//! Invariants
//! - J1 Nothing of a token is believed, logged or shown before its signature was checked with a key of the issuer that it names.
//! - J2 Which algorithm a signature is checked with is the key's matter, never the token's (RFC 8725, 3.1).
//! - J3 A token that was checked is good for as long as it says, and no longer than its issuer's keys stay the same: then it is
//!   checked again.
//! - J4 What strangers send costs bounded work and memory: only tokens that are good are remembered.
//! - J5 A browser's session that was opened with a token ends when the token does (`exp`, without the leeway), or when its issuer no
//!   longer has the key that it was checked with. The token itself is not kept.

mod claims;
mod compact;
mod error;
mod fetch;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod key;
mod keys;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use pharos_base::Clock;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

pub(crate) use compact::looks_like_jwt;
pub use error::{JwtError, KeysWanted};
pub use settings::{ClaimNames, IssuerSettings, JwtAlgorithm, KeyFile, KeySettings, Requirement, ScopeMapping};

use crate::Grant;
use claims::ClaimRules;
use compact::{Compact, TOKEN_BYTES_MAX};
use key::KeyPrint;
use keys::{Hope, Keys};

/// Tokens that are remembered.
const VERIFIED_MAX: usize = 10_000;

/// All issuers, and the tokens of theirs that were checked.
pub(crate) struct Issuers {
    all: Vec<Issuer>,
    verified: Cache<[u8; 32], Arc<Verified>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuers").field("all", &self.all).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Issuer {
    name: String,
    rules: ClaimRules,
    keys: Arc<Keys>,
}

/// The keys of an issuer at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerState<'a> {
    /// Its name, as in the claim `iss`.
    pub issuer: &'a str,
    /// Keys that are in use.
    pub keys: usize,
    /// When they were read or fetched last, changed or not, Unix seconds; `None`: never yet.
    pub had_at_s: Option<i64>,
}

/// A token that was checked; the times of the grant have the leeway in them.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) grant: Arc<Grant>,
    /// When it ends by its issuer's clock (`exp`), Unix seconds.
    pub(crate) ends_s: i64,
    /// Whose it is, among those of all issuers, whichever of their tokens this one is.
    pub(crate) holder: [u8; 32],
    issuer: usize,
    /// The key that its signature is by.
    key: KeyPrint,
    generation: u64,
}

impl Issuers {
    /// Of settings without faults.
    pub(crate) fn open(settings: &[IssuerSettings], clock: Arc<dyn Clock>) -> Result<Self, Vec<String>> {
        let (mut issuers, mut faults) = (Vec::new(), Vec::new());
        for (at, settings) in settings.iter().enumerate() {
            let opened = ClaimRules::new(settings).and_then(|rules| {
                let keys = Keys::open(settings, Arc::clone(&clock))?;
                Ok(Issuer { name: settings.issuer.clone(), rules, keys: Arc::new(keys) })
            });
            match opened {
                Ok(issuer) => issuers.push(issuer),
                Err(fault) => faults.push(format!("identities.jwt[{at}]: {fault}")),
            }
        }
        // Without issuers nothing is ever put in.
        let verified = Cache::new(if issuers.is_empty() { 1 } else { VERIFIED_MAX });
        if faults.is_empty() { Ok(Self { all: issuers, verified, clock }) } else { Err(faults) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A token, checked now or remembered.
    pub(crate) fn verified(&self, token: &str) -> Result<Arc<Verified>, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::TooLong { bytes: token.len(), bytes_max: TOKEN_BYTES_MAX });
        }
        let now_s = self.clock.unix_ms().div_euclid(1_000);
        let sha256: [u8; 32] = Sha256::digest(token).into();
        if let Some(verified) = self.verified.get(&sha256) {
            if self.is_good(&verified, now_s) {
                return Ok(verified);
            }
            self.verified.remove(&sha256);
        }
        let verified = Arc::new(self.check(token, now_s)?);
        self.verified.insert(sha256, Arc::clone(&verified));
        Ok(verified)
    }

    /// Whether a token that was checked once still counts: it has not ended, and its issuer still has the key.
    pub(crate) fn still_counts(&self, verified: &Verified) -> bool {
        let now_s = self.clock.unix_ms().div_euclid(1_000);
        now_s < verified.ends_s && self.all[verified.issuer].keys.current().has(&verified.key)
    }

    fn is_good(&self, verified: &Verified, now_s: i64) -> bool {
        let Grant { not_before_s, expires_s, .. } = *verified.grant;
        self.all[verified.issuer].keys.generation() == verified.generation
            && expires_s.is_some_and(|at_s| now_s < at_s)
            && not_before_s.is_none_or(|at_s| at_s <= now_s)
    }

    fn check(&self, token: &str, now_s: i64) -> Result<Verified, JwtError> {
        let token = Compact::parse(token)?;
        let name = token.issuer()?;
        let position = self.all.iter().position(|issuer| issuer.name == name);
        let at = position.ok_or(JwtError::UnknownIssuer)?;
        let issuer = &self.all[at];
        // In this order: keys that came in between are looked at, so that none is missed that the last attempt brought.
        let hope = issuer.keys.hope();
        let keys = issuer.keys.current();
        let key = keys.check(&token).map_err(|error| match (error, hope) {
            (JwtError::UnknownKey, Hope::Wait(attempts)) => JwtError::KeysWanted(KeysWanted { issuer: at, attempts }),
            (JwtError::UnknownKey, Hope::Later) => JwtError::KeysUnavailable,
            (error, _) => error,
        })?;
        let claims = token.read("its payload is no JSON object")?;
        let grant = issuer.rules.grant(&claims, now_s)?;
        let ends_s = issuer.rules.end_s(&grant).unwrap_or(now_s);
        let holder = Sha256::new().chain_update(Sha256::digest(&name)).chain_update(grant.name.as_bytes()).finalize();
        let (holder, grant, generation) = (holder.into(), Arc::new(grant), keys.generation);
        Ok(Verified { grant, ends_s, holder, issuer: at, key, generation })
    }

    /// Waits until the issuer's keys were asked for once more.
    pub(crate) async fn wait_for_keys(&self, wanted: KeysWanted) {
        if let Some(issuer) = self.all.get(wanted.issuer) {
            issuer.keys.wait(wanted.attempts).await;
        }
    }

    /// How each issuer's keys are.
    pub(crate) fn states(&self) -> impl Iterator<Item = IssuerState<'_>> {
        self.all.iter().map(|issuer| IssuerState {
            issuer: &issuer.name,
            keys: issuer.keys.current().len(),
            had_at_s: issuer.keys.had_at_s(),
        })
    }

    /// Reads all files again.
    pub(crate) fn reload(&self) -> Result<(), Vec<String>> {
        let fault = |issuer: &Issuer| issuer.keys.reload().err().map(|error| format!("{}: {error}", issuer.name));
        let faults: Vec<_> = self.all.iter().filter_map(fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Keeps all keys fresh until `stop`.
    pub(crate) async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let mut keeping = JoinSet::new();
        for issuer in &self.all {
            keeping.spawn(Arc::clone(&issuer.keys).keep());
        }
        // Dropped with this future or at its end, the set ends its tasks.
        stop.await;
    }
}
