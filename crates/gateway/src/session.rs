//! Browser sessions: a random cookie that stands for a token which is still live.
//!
//! Sessions are kept in memory only: a restart asks for the token again. The cookie's hash is the key,
//! so that a memory dump gives no cookie away.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use pharos_base::{Secret, random_bytes};

use crate::token_file::hash;

/// More sessions than this push out the oldest.
const SESSIONS_MAX: usize = 10_000;
/// More sessions of one token than this push out its own oldest: nobody logs the others out.
const SESSIONS_PER_TOKEN_MAX: usize = 100;

#[derive(Debug, Clone, Copy)]
struct Session {
    token_sha256: [u8; 32],
    expires_at: i64,
}

/// All open sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    /// Opens a session of `lasts_s` seconds for a token; the secret is the cookie's value.
    pub(crate) fn open(&self, token_sha256: [u8; 32], now_s: i64, lasts_s: i64) -> Secret {
        let cookie = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
        let mut open = self.open.lock();
        open.retain(|_, session| session.expires_at > now_s);
        let own = open.values().filter(|session| session.token_sha256 == token_sha256).count();
        if own >= SESSIONS_PER_TOKEN_MAX {
            remove_oldest(&mut open, |session| session.token_sha256 == token_sha256);
        } else if open.len() >= SESSIONS_MAX {
            remove_oldest(&mut open, |_| true);
        }
        open.insert(hash(&cookie), Session { token_sha256, expires_at: now_s + lasts_s });
        Secret::new(cookie)
    }

    /// The hash of the token behind a cookie.
    pub(crate) fn token_of(&self, cookie: &str, now_s: i64) -> Option<[u8; 32]> {
        let open = self.open.lock();
        open.get(&hash(cookie)).filter(|session| session.expires_at > now_s).map(|session| session.token_sha256)
    }

    /// Ends a session.
    pub(crate) fn close(&self, cookie: &str) {
        self.open.lock().remove(&hash(cookie));
    }
}

fn remove_oldest(open: &mut HashMap<[u8; 32], Session>, among: impl Fn(&Session) -> bool) {
    let candidates = open.iter().filter(|(_, session)| among(session));
    let oldest = candidates.min_by_key(|(_, session)| session.expires_at).map(|(key, _)| *key);
    oldest.and_then(|key| open.remove(&key));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_by_time_and_by_logout() {
        let sessions = Sessions::default();
        let cookie = sessions.open([7; 32], 100, 60);
        assert_eq!(sessions.token_of(cookie.reveal(), 101), Some([7; 32]));
        assert_eq!(sessions.token_of(cookie.reveal(), 160), None);
        assert_eq!(sessions.token_of("guess", 101), None);
        sessions.close(cookie.reveal());
        assert_eq!(sessions.token_of(cookie.reveal(), 101), None);
    }

    #[test]
    fn many_logins_with_one_token_log_nobody_else_out() {
        let sessions = Sessions::default();
        let other = sessions.open([0; 32], 0, 3_600);
        let first = sessions.open([1; 32], 0, 3_600);
        for now_s in 1..=i64::try_from(SESSIONS_PER_TOKEN_MAX).unwrap() {
            sessions.open([1; 32], now_s, 3_600);
        }
        assert_eq!(sessions.token_of(other.reveal(), 1_000), Some([0; 32]));
        assert_eq!(sessions.token_of(first.reveal(), 1_000), None);
        assert_eq!(sessions.open.lock().len(), 1 + SESSIONS_PER_TOKEN_MAX);
    }
}
