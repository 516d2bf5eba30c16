//! Browser sessions: a random cookie that stands for a token which is still live.
//!
//! Sessions are kept in memory only: a restart asks for the token again. The cookie's hash is the key, and of a token its hash or what
//! it proved is kept, so that a memory dump gives neither away.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use pharos_base::{Secret, random_bytes};

use crate::jwt::Verified;
use crate::token_file::hash;

/// More sessions than this push out the oldest.
const SESSIONS_MAX: usize = 10_000;
/// More sessions of one holder than this push out its own oldest: nobody logs the others out.
const SESSIONS_PER_HOLDER_MAX: usize = 100;

/// What was shown when a session was opened.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    /// A token of the file, by its hash.
    Token([u8; 32]),
    /// A web token of an issuer.
    WebToken(Arc<Verified>),
}

#[derive(Debug, Clone)]
struct Session {
    shown: Shown,
    /// A token of the file, or whoever has web tokens of an issuer.
    holder: [u8; 32],
    expires_at: i64,
}

/// All open sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    /// Opens a session until `expires_at`, Unix seconds; the secret is the cookie's value.
    pub(crate) fn open(&self, shown: Shown, holder: [u8; 32], now_s: i64, expires_at: i64) -> Secret {
        let cookie = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
        let mut open = self.open.lock();
        open.retain(|_, session| session.expires_at > now_s);
        let own = open.values().filter(|session| session.holder == holder).count();
        if own >= SESSIONS_PER_HOLDER_MAX {
            remove_oldest(&mut open, |session| session.holder == holder);
        } else if open.len() >= SESSIONS_MAX {
            remove_oldest(&mut open, |_| true);
        }
        open.insert(hash(&cookie), Session { shown, holder, expires_at });
        Secret::new(cookie)
    }

    /// What was shown for a cookie.
    pub(crate) fn shown_for(&self, cookie: &str, now_s: i64) -> Option<Shown> {
        let open = self.open.lock();
        open.get(&hash(cookie)).filter(|session| session.expires_at > now_s).map(|session| session.shown.clone())
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

    fn open(sessions: &Sessions, holder: u8, now_s: i64, lasts_s: i64) -> Secret {
        sessions.open(Shown::Token([holder; 32]), [holder; 32], now_s, now_s + lasts_s)
    }

    fn holder_of(sessions: &Sessions, cookie: &str, now_s: i64) -> Option<u8> {
        match sessions.shown_for(cookie, now_s)? {
            Shown::Token(sha256) => Some(sha256[0]),
            Shown::WebToken(_) => None,
        }
    }

    #[test]
    fn sessions_end_by_time_and_by_logout() {
        let sessions = Sessions::default();
        let cookie = open(&sessions, 7, 100, 60);
        assert_eq!(holder_of(&sessions, cookie.reveal(), 101), Some(7));
        assert_eq!(holder_of(&sessions, cookie.reveal(), 160), None);
        assert_eq!(holder_of(&sessions, "guess", 101), None);
        sessions.close(cookie.reveal());
        assert_eq!(holder_of(&sessions, cookie.reveal(), 101), None);
    }

    #[test]
    fn many_logins_of_one_holder_log_nobody_else_out() {
        let sessions = Sessions::default();
        let other = open(&sessions, 0, 0, 3_600);
        let first = open(&sessions, 1, 0, 3_600);
        for now_s in 1..=i64::try_from(SESSIONS_PER_HOLDER_MAX).unwrap() {
            open(&sessions, 1, now_s, 3_600);
        }
        assert_eq!(holder_of(&sessions, other.reveal(), 1_000), Some(0));
        assert_eq!(holder_of(&sessions, first.reveal(), 1_000), None);
        assert_eq!(sessions.open.lock().len(), 1 + SESSIONS_PER_HOLDER_MAX);
    }
}
