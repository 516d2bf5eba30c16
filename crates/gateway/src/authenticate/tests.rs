use std::fs;

use http::HeaderValue;
use pharos_base::SimClock;
use pharos_http::ClientCertificate;

use super::*;

const NOW_S: i64 = 1_700_000_000;

struct Fixture {
    _folder: tempfile::TempDir,
    clock: Arc<SimClock>,
    file: TokenFile,
    authenticator: Authenticator,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let clock = SimClock::at_ms(NOW_S * 1_000);
    let file = TokenFile::at(folder.path().join("tokens.json"));
    let settings = AuthSettings::with_tokens(file.clone());
    let authenticator = Authenticator::open(settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    Fixture { _folder: folder, clock, file, authenticator }
}

fn with_header(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
}

fn with_token(secret: &Secret) -> HeaderMap {
    with_header(AUTHORIZATION, &format!("Bearer {}", secret.reveal()))
}

impl Fixture {
    fn add(&self, new: NewToken) -> HeaderMap {
        let (secret, _) = self.file.add(new).unwrap();
        self.authenticator.tokens.look();
        with_token(&secret)
    }

    fn principal(&self, headers: &HeaderMap) -> Result<Principal, AuthError> {
        let presented = Presented {
            method: &http::Method::GET,
            path: "/",
            headers,
            peer: None,
            over_tls: false,
            certificate: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.authenticator.authenticate(&presented))
    }

    /// The cookie of a session.
    fn log_in(&self, secret: &str) -> Secret {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_, shown) = runtime.block_on(self.authenticator.shown(secret)).unwrap();
        self.authenticator.open_session(shown).0
    }

    fn name_of(&self, headers: &HeaderMap) -> Result<String, AuthError> {
        self.principal(headers).map(|principal| principal.name().to_owned())
    }
}

fn reader(name: &str) -> NewToken {
    NewToken::new(name, &[Scope::MetricsRead], TenantAccess::Any, NOW_S)
}

#[test]
fn the_first_token_is_made_once() {
    let fixture = fixture();
    let secret = fixture.authenticator.first_token().unwrap().unwrap();
    assert!(fixture.authenticator.first_token().unwrap().is_none());
    assert_eq!(fixture.name_of(&with_token(&secret)), Ok("first".to_owned()));
}

#[test]
fn grafana_may_send_the_token_as_a_basic_password() {
    let fixture = fixture();
    let secret = fixture.authenticator.first_token().unwrap().unwrap();
    let basic = STANDARD.encode(format!("grafana:{}", secret.reveal()));
    assert!(fixture.name_of(&with_header(AUTHORIZATION, &format!("Basic {basic}"))).is_ok());
}

#[test]
fn wrong_missing_malformed_and_expired_tokens_are_told_apart() {
    let fixture = fixture();
    let good = fixture.add(NewToken { expires_at: Some(NOW_S + 60), ..reader("short") });
    let later = fixture.add(NewToken { not_before: Some(NOW_S + 60), ..reader("later") });
    assert!(fixture.name_of(&good).is_ok(), "a new token works without a restart");
    assert_eq!(fixture.name_of(&later), Err(AuthError::NotYet));
    fixture.clock.advance_ms(60_000);
    assert_eq!(fixture.name_of(&good), Err(AuthError::Expired));
    assert!(fixture.name_of(&later).is_ok());
    assert_eq!(fixture.name_of(&HeaderMap::new()), Err(AuthError::Missing));
    for (value, error) in [
        ("Bearer nonsense", AuthError::Unknown),
        ("Negotiate abc", AuthError::Malformed),
        ("Basic !!!", AuthError::Malformed),
    ] {
        assert_eq!(fixture.name_of(&with_header(AUTHORIZATION, value)), Err(error), "{value}");
    }
}

#[test]
fn two_credentials_in_one_request_are_not_chosen_from() {
    let fixture = fixture();
    let mut headers = fixture.add(reader("a"));
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer other"));
    let error = fixture.name_of(&headers).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    let cookie = fixture.add(reader("b"));
    let mut wrong = with_header(AUTHORIZATION, "Bearer wrong");
    let secret = cookie[AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let session = fixture.log_in(secret);
    wrong.insert(COOKIE, HeaderValue::from_str(&format!("{SESSION_COOKIE}={}", session.reveal())).unwrap());
    assert_eq!(fixture.name_of(&wrong), Err(AuthError::Unknown), "a good cookie does not mend a wrong token");
}

#[test]
fn both_secrets_of_a_rotated_token_work_until_the_grace_ends() {
    let fixture = fixture();
    let old = fixture.add(reader("agent"));
    let (secret, _) = fixture.file.rotate("agent", NOW_S, 60).unwrap();
    fixture.authenticator.tokens.look();
    let new = with_token(&secret);
    assert_eq!((fixture.name_of(&old), fixture.name_of(&new)), (Ok("agent".to_owned()), Ok("agent".to_owned())));
    fixture.clock.advance_ms(60_000);
    assert_eq!((fixture.name_of(&old), fixture.name_of(&new)), (Err(AuthError::Expired), Ok("agent".to_owned())));
}

#[test]
fn a_revoked_token_ends_its_sessions_too() {
    let fixture = fixture();
    let secret = fixture.authenticator.first_token().unwrap().unwrap();
    let cookie = fixture.log_in(secret.reveal());
    let headers = with_header(COOKIE, &format!("theme=dark; {SESSION_COOKIE}={}", cookie.reveal()));
    assert_eq!(fixture.principal(&headers).unwrap().source(), IdentitySource::Session);
    fixture.file.remove("first").unwrap();
    fixture.authenticator.tokens.look();
    assert_eq!(fixture.name_of(&headers), Err(AuthError::SessionEnded));
}

#[test]
fn a_file_that_is_broken_or_gone_locks_nobody_out() {
    let fixture = fixture();
    let good = fixture.add(reader("a"));
    let whole = fs::read(fixture.file.path()).unwrap();
    fs::write(fixture.file.path(), "broken").unwrap();
    fixture.authenticator.tokens.look();
    assert!(fixture.name_of(&good).is_ok());
    assert!(fixture.authenticator.reload().is_err(), "who asks is told");
    fs::remove_file(fixture.file.path()).unwrap();
    fixture.authenticator.tokens.look();
    assert!(fixture.name_of(&good).is_ok());
    assert!(matches!(fixture.authenticator.reload(), Err(TokenFileError::Vanished { .. })));
    fs::write(fixture.file.path(), whole).unwrap();
    let other = fixture.add(reader("b"));
    assert_eq!((fixture.name_of(&good), fixture.name_of(&other)), (Ok("a".to_owned()), Ok("b".to_owned())));
}

#[test]
fn an_emptied_file_revokes_all() {
    let fixture = fixture();
    let good = fixture.add(reader("a"));
    fixture.file.remove("a").unwrap();
    fixture.authenticator.reload().unwrap();
    assert_eq!(fixture.name_of(&good), Err(AuthError::Unknown));
}

#[test]
fn a_token_goes_before_what_the_connection_stands_for() {
    let mut fixture = fixture();
    let settings = serde_json::json!({
        "proxies": [{"networks": ["10.0.0.0/8"], "header": "X-User", "grant": {"scopes": ["metrics:read"], "tenant": "7"}}],
        "certificates": [{"match": {"dns": "*.agents"}, "grant": {"scopes": ["metrics:write"], "tenant": "8"}}],
    });
    let settings = serde_json::from_value(settings).unwrap();
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    fixture.authenticator =
        fixture.authenticator.with_identities(Arc::new(Identities::open(&settings, clock).unwrap()));
    let token = fixture.add(reader("file"));
    let certificate = |name: &str| ClientCertificate {
        der: Box::default(),
        sha256: [0; 32],
        not_before_s: 0,
        not_after_s: i64::MAX,
        common_name: None,
        uris: Vec::new(),
        dns: vec![name.to_owned()],
        emails: Vec::new(),
    };
    let (known, unknown) = (certificate("n1.agents"), certificate("n1.others"));
    let user = |headers: HeaderMap| {
        let mut headers = headers;
        headers.insert("x-user", HeaderValue::from_static("ann"));
        headers
    };
    let wrong = with_header(AUTHORIZATION, "Bearer wrong");
    let ended = with_header(COOKIE, "pharos_session=old");
    let none = HeaderMap::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (headers, peer, certificate, expected) in [
        (user(token), "10.0.0.1", Some(&known), Ok("file")),
        (user(wrong), "10.0.0.1", Some(&known), Err(AuthError::Unknown)),
        (user(ended), "10.0.0.1", Some(&known), Err(AuthError::SessionEnded)),
        (user(none.clone()), "10.0.0.1", Some(&known), Ok("ann")),
        (user(none.clone()), "192.0.2.1", Some(&known), Ok("n1.agents")),
        (user(none.clone()), "192.0.2.1", Some(&unknown), Err(AuthError::Certificate(CertificateRefused))),
        (user(none.clone()), "192.0.2.1", None, Err(AuthError::Missing)),
        (none, "10.0.0.1", None, Err(AuthError::Missing)),
    ] {
        let presented = Presented {
            method: &http::Method::GET,
            path: "/",
            headers: &headers,
            peer: peer.parse().ok(),
            over_tls: true,
            certificate,
        };
        let found = runtime.block_on(fixture.authenticator.authenticate(&presented));
        assert_eq!(found.as_ref().map(Principal::name).map_err(Clone::clone), expected, "{headers:?} {peer}");
    }
}

/// The fixture with identities beside the token file.
fn with_settings(mut fixture: Fixture, settings: serde_json::Value) -> Fixture {
    let settings = serde_json::from_value(settings).unwrap();
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    let identities = Identities::open(&settings, clock).unwrap();
    fixture.authenticator = fixture.authenticator.with_identities(Arc::new(identities));
    fixture
}

#[test]
fn a_token_may_come_in_a_header_that_the_settings_name_and_in_no_other() {
    let fixture = with_settings(fixture(), serde_json::json!({"headers": ["X-API-Key", "api-key"]}));
    let token = fixture.add(reader("agent"));
    let secret = token[AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let header = |name: &'static str, value: &str| with_header(HeaderName::from_static(name), value);
    for name in ["x-api-key", "api-key"] {
        assert_eq!(fixture.name_of(&header(name, secret)), Ok("agent".to_owned()), "{name}");
        assert!(!fixture.authenticator.trusts_the_browser(&header(name, secret)), "no browser sends it by itself");
    }
    assert_eq!(fixture.name_of(&header("x-other", secret)), Err(AuthError::Missing));
    assert_eq!(fixture.name_of(&header("x-api-key", "wrong")), Err(AuthError::Unknown));
    let mut both = token.clone();
    both.insert("x-api-key", HeaderValue::from_static("wrong"));
    assert_eq!(fixture.name_of(&both), Ok("agent".to_owned()), "Authorization goes first");
    let mut twice = header("x-api-key", secret);
    twice.append("x-api-key", HeaderValue::from_static("other"));
    assert_eq!(fixture.name_of(&twice).unwrap_err().class(), ErrorClass::Invalid);
    let session = fixture.log_in(secret);
    let mut cookie = with_header(COOKIE, &format!("{SESSION_COOKIE}={}", session.reveal()));
    cookie.insert("x-api-key", HeaderValue::from_static("wrong"));
    assert_eq!(fixture.name_of(&cookie), Err(AuthError::Unknown), "a good cookie does not mend a wrong token");
}

#[test]
fn a_session_lasts_as_long_as_the_settings_say() {
    let fixture = with_settings(fixture(), serde_json::json!({"sessions": "1h"}));
    let secret = fixture.authenticator.first_token().unwrap().unwrap();
    let cookie = fixture.log_in(secret.reveal());
    let headers = with_header(COOKIE, &format!("{SESSION_COOKIE}={}", cookie.reveal()));
    fixture.clock.advance_ms(3_599_000);
    assert!(fixture.name_of(&headers).is_ok());
    fixture.clock.advance_ms(1_000);
    assert_eq!(fixture.name_of(&headers), Err(AuthError::SessionEnded));
}

#[test]
fn settings_of_headers_and_sessions_are_checked() {
    let faults = |settings| serde_json::from_value::<crate::IdentitySettings>(settings).unwrap().faults().join("\n");
    for (settings, expected) in [
        (serde_json::json!({"headers": ["Authorization"]}), "has a meaning of its own"),
        (serde_json::json!({"headers": ["a b"]}), "is no header's name"),
        (serde_json::json!({"headers": (0..9).map(|at| format!("X-{at}")).collect::<Vec<_>>()}), "8 at most"),
        (serde_json::json!({"sessions": "1s"}), "from 1m"),
        (
            serde_json::json!({"proxies": [{"networks": ["10.0.0.0/8"], "certificate_header": "X-Client-Cert"}]}),
            "must say whose",
        ),
    ] {
        let found = faults(settings);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_password_is_what_a_browser_sends_by_itself_and_a_bearers_token_is_not() {
    let fixture = with_settings(fixture(), serde_json::json!({"headers": ["X-API-Key"]}));
    let trusts = |headers: &HeaderMap| fixture.authenticator.trusts_the_browser(headers);
    for (value, expected) in
        [("Bearer abc", false), ("bearer abc", false), ("Basic dTpw", true), ("basic dTpw", true), ("BASIC dTpw", true)]
    {
        assert_eq!(trusts(&with_header(AUTHORIZATION, value)), expected, "{value}");
    }
    assert!(trusts(&HeaderMap::new()) && trusts(&with_header(COOKIE, "pharos_session=x")));
    let mut both = with_header(AUTHORIZATION, "Basic dTpw");
    both.insert("x-api-key", HeaderValue::from_static("abc"));
    assert!(trusts(&both), "the password is what counts, so it is what is judged");
}
