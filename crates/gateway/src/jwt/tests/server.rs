//! Keys behind a URL: an issuer's server that rotates keys, is down, or answers nonsense.

#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with it")]

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;

use super::*;

/// An issuer's server on loopback.
struct Server {
    url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Answers of the key set's path.
    answer: Mutex<Answer>,
    /// What discovery says the issuer is; its own address if `None`.
    issuer: Mutex<Option<String>>,
    fetches: AtomicUsize,
}

#[derive(Clone, Default)]
enum Answer {
    Keys(Value),
    Status(StatusCode),
    Redirect,
    Bytes(usize),
    #[default]
    Garbage,
}

impl Server {
    async fn start() -> Self {
        let state = Arc::<State>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (own, of_keys, of_discovery) = (url.clone(), Arc::clone(&state), Arc::clone(&state));
        let keys = move || std::future::ready(of_keys.keys());
        let discovery = move || {
            let issuer = of_discovery.issuer.lock().clone().unwrap_or_else(|| own.clone());
            std::future::ready(axum::Json(json!({"issuer": issuer, "jwks_uri": format!("{own}/keys")})))
        };
        let router = Router::new()
            .route("/keys", get(keys.clone()))
            .route("/moved", get(keys))
            .route("/.well-known/openid-configuration", get(discovery));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    fn answers(&self, answer: Answer) {
        *self.state.answer.lock() = answer;
    }

    fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }

    /// Issuers that have their keys from here, and the task that keeps them.
    fn issuers(&self, clock: &Arc<SimClock>, keys: &Value) -> Arc<Issuers> {
        let issuers = Arc::new(open(&json!({"issuer": self.url, "keys": keys}), clock).unwrap());
        let keeping = Arc::clone(&issuers);
        tokio::spawn(async move { keeping.run(std::future::pending()).await });
        issuers
    }

    fn token(&self, key: &TestKey, kid: &str) -> String {
        let mut claims = claims();
        claims["iss"] = json!(self.url);
        token(&key.private, Algorithm::ES256, Some(kid), &claims)
    }
}

impl State {
    fn keys(&self) -> Response {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        match self.answer.lock().clone() {
            Answer::Keys(keys) => axum::Json(json!({"keys": keys})).into_response(),
            Answer::Status(status) => status.into_response(),
            Answer::Redirect => (StatusCode::FOUND, [("location", "/moved")]).into_response(),
            Answer::Bytes(length) => " ".repeat(length).into_response(),
            Answer::Garbage => "<html>".into_response(),
        }
    }
}

/// As requests do: one more try after the keys were waited for.
async fn verify(issuers: &Issuers, token: &str) -> Result<(), JwtError> {
    match issuers.verify(token) {
        Err(JwtError::KeysWanted(wanted)) => {
            issuers.wait_for_keys(wanted).await;
            issuers.verify(token).map(|_| ())
        }
        otherwise => otherwise.map(|_| ()),
    }
}

#[tokio::test]
async fn discovery_finds_the_keys_and_a_rotation_is_followed() {
    let (server, clock, old, new) =
        (Server::start().await, clock(), TestKey::new(Algorithm::ES256), TestKey::new(Algorithm::ES256));
    server.answers(Answer::Keys(json!([old.jwk(Algorithm::ES256, "old")])));
    let issuers = server.issuers(&clock, &json!({"discovery": true}));
    let by_old = server.token(&old, "old");
    assert_eq!(verify(&issuers, &by_old).await, Ok(()), "the very first token waits for the keys");
    assert_eq!(server.fetches(), 1);
    server.answers(Answer::Keys(json!([new.jwk(Algorithm::ES256, "new")])));
    let by_new = server.token(&new, "new");
    assert_eq!(verify(&issuers, &by_new).await, Err(JwtError::UnknownKey), "asked for just now");
    assert_eq!(verify(&issuers, &by_old).await, Ok(()));
    clock.advance_ms(30_000);
    assert_eq!(verify(&issuers, &by_new).await, Ok(()));
    assert_eq!(verify(&issuers, &by_old).await, Err(JwtError::UnknownKey), "though it is remembered");
    assert_eq!(server.fetches(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once() {
    let (server, clock, key) = (Server::start().await, clock(), TestKey::new(Algorithm::ES256));
    server.answers(Answer::Keys(json!([key.jwk(Algorithm::ES256, "k")])));
    let issuers = server.issuers(&clock, &json!({"jwks_url": format!("{}/keys", server.url)}));
    assert_eq!(verify(&issuers, &server.token(&key, "k")).await, Ok(()));
    for (round, answer) in
        [Answer::Keys(json!([key.jwk(Algorithm::ES256, "k")])), Answer::Garbage].into_iter().enumerate()
    {
        server.answers(answer);
        clock.advance_ms(30_000);
        let mut flood = JoinSet::new();
        for number in 0..200 {
            let (issuers, token) = (Arc::clone(&issuers), server.token(&key, &format!("unknown-{number}")));
            flood.spawn(async move { verify(&issuers, &token).await });
        }
        let outcomes = flood.join_all().await;
        // Where the server could not be asked, nobody knows: the sender is told to come again.
        let expected = if round == 0 { JwtError::UnknownKey } else { JwtError::KeysUnavailable };
        assert!(outcomes.iter().all(|outcome| *outcome == Err(expected.clone())), "{outcomes:?}");
        assert_eq!(server.fetches(), round + 2);
    }
    assert_eq!(verify(&issuers, &server.token(&key, "k")).await, Ok(()), "known keys stay");
}

#[tokio::test]
async fn keys_outlive_an_outage_and_nonsense() {
    let (server, clock, key) = (Server::start().await, clock(), TestKey::new(Algorithm::ES256));
    server.answers(Answer::Keys(json!([key.jwk(Algorithm::ES256, "k")])));
    let issuers = server.issuers(&clock, &json!({"discovery": true}));
    assert_eq!(verify(&issuers, &server.token(&key, "k")).await, Ok(()));
    let stranger = server.token(&key, "unknown");
    for answer in [
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Redirect,
        Answer::Bytes((1 << 20) + 1),
        Answer::Garbage,
        Answer::Keys(json!([{"kty": "oct", "k": "AAAA"}])),
        Answer::Keys(json!(vec![key.jwk(Algorithm::ES256, "unknown"); 101])),
    ] {
        server.answers(answer);
        clock.advance_ms(30_000);
        let asked = server.fetches();
        assert_eq!(verify(&issuers, &stranger).await, Err(JwtError::KeysUnavailable));
        assert_eq!(server.fetches(), asked + 1, "a redirect is not followed");
        let fresh = server.token(&key, "k");
        assert_eq!(verify(&issuers, &fresh).await, Ok(()));
    }
    *server.state.issuer.lock() = Some(format!("{}/", server.url));
    server.answers(Answer::Keys(json!([key.jwk(Algorithm::ES256, "unknown")])));
    clock.advance_ms(30_000);
    assert_eq!(verify(&issuers, &stranger).await, Err(JwtError::KeysUnavailable), "discovery of another issuer");
    *server.state.issuer.lock() = None;
    clock.advance_ms(30_000);
    assert_eq!(verify(&issuers, &stranger).await, Ok(()), "it is back");
}

#[tokio::test]
async fn while_the_issuers_server_is_down_senders_are_told_to_come_again() {
    let (clock, key) = (clock(), TestKey::new(Algorithm::ES256));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/keys");
    let issuers = Arc::new(open(&json!({"keys": {"jwks_url": url}}), &clock).unwrap());
    let keeping = Arc::clone(&issuers);
    let kept = tokio::spawn(async move { keeping.run(std::future::pending()).await });
    let token = token(&key.private, Algorithm::ES256, Some("k"), &claims());
    let refused = verify(&issuers, &token).await.unwrap_err();
    assert_eq!(refused.class(), pharos_base::ErrorClass::Unavailable, "{refused}");
    kept.abort();
}
