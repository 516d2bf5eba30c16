//! Signatures, keys and claims; keys come from files here.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use crate::TenantAccess;

/// Issuers with one ES256 key, `current` settings on top, and that key.
fn with_ec(extra: &Value) -> (tempfile::TempDir, Arc<SimClock>, Issuers, TestKey) {
    let (folder, clock, key) = (tempfile::tempdir().unwrap(), clock(), TestKey::new(Algorithm::ES256));
    let file = written(folder.path(), "ec.pem", &key.public_pem);
    let mut json = json!({"keys": {"pem": [{"file": file, "algorithm": "ES256"}]}});
    json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let issuers = open(&json, &clock).unwrap();
    (folder, clock, issuers, key)
}

fn raw(header: &Value, payload: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload))
}

#[test]
fn every_algorithm_is_checked_with_its_key() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    for algorithm in
        ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
    {
        let named: Algorithm = algorithm.parse().unwrap();
        let secrets = ["a".repeat(64), "b".repeat(64)];
        let files = if algorithm.starts_with("HS") { "secrets" } else { "pem" };
        let (public, good, other) = match algorithm {
            _ if files == "secrets" => {
                let [good, other] = &secrets;
                (
                    format!("{good}\n"),
                    EncodingKey::from_secret(good.as_bytes()),
                    EncodingKey::from_secret(other.as_bytes()),
                )
            }
            "ES256" | "ES384" | "EdDSA" => {
                let (good, other) = (TestKey::new(named), TestKey::new(named));
                (good.public_pem, good.private, other.private)
            }
            _ => (rsa()[0].public_pem.clone(), rsa()[0].private.clone(), rsa()[1].private.clone()),
        };
        let file = written(folder.path(), algorithm, public);
        let issuers = open(&json!({"keys": {files: [{"file": file, "algorithm": algorithm}]}}), &clock).unwrap();
        let grant = issuers.verify(&token(&good, named, None, &claims())).unwrap();
        assert_eq!(
            (&*grant.name, grant.scopes.as_slice()),
            ("agent-7", &[crate::Scope::MetricsWrite][..]),
            "{algorithm}"
        );
        assert_eq!(issuers.verify(&token(&other, named, None, &claims())), Err(JwtError::Signature), "{algorithm}");
    }
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let file = written(folder.path(), "rsa.pem", &rsa()[0].public_pem);
    let issuers = open(&json!({"keys": {"pem": [{"file": file, "algorithm": "RS256"}]}}), &clock).unwrap();
    // The public key as the secret of an HMAC.
    let public = EncodingKey::from_secret(rsa()[0].public_pem.as_bytes());
    assert_eq!(issuers.verify(&token(&public, Algorithm::HS256, None, &claims())), Err(JwtError::Algorithm));
    // The right key, and another algorithm of its family.
    for other in [Algorithm::RS512, Algorithm::PS256] {
        assert_eq!(issuers.verify(&token(&rsa()[0].private, other, None, &claims())), Err(JwtError::Algorithm));
    }
    for none in ["none", "None", "NONE", ""] {
        let unsigned = raw(&json!({"alg": none, "typ": "JWT"}), &claims().to_string(), "");
        assert_eq!(issuers.verify(&unsigned), Err(JwtError::Algorithm), "{none}");
    }
    let good = token(&rsa()[0].private, Algorithm::RS256, None, &claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(issuers.verify(&format!("{signed}.")), Err(JwtError::Signature));
    assert!(issuers.verify(&good).is_ok());
}

/// RFC 9864 names the curve where RFC 8037 named a family: issuers move from one name to the other, keys and tokens at different times.
#[test]
fn an_ed25519_key_goes_by_both_its_names_and_by_no_other() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let (key, other, ec) =
        (TestKey::new(Algorithm::EdDSA), TestKey::new(Algorithm::EdDSA), TestKey::new(Algorithm::ES256));
    let signed = |key: &TestKey, alg: &str| {
        let unsigned = raw(&json!({"alg": alg, "typ": "JWT"}), &claims().to_string(), "");
        let text = unsigned.strip_suffix('.').unwrap();
        format!("{text}.{}", jsonwebtoken::crypto::sign(text.as_bytes(), &key.private, Algorithm::EdDSA).unwrap())
    };
    // A public key of this kind is the last 32 bytes of its DER.
    let base64: String = key.public_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
    let x = &der[der.len() - 32..];
    for of_key in ["EdDSA", "Ed25519"] {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": of_key, "x": URL_SAFE_NO_PAD.encode(x)});
        let set = written(folder.path(), "jwks.json", json!({"keys": [jwk]}).to_string());
        let pem = written(folder.path(), "ed.pem", &key.public_pem);
        for keys in [json!({"jwks_file": set}), json!({"pem": [{"file": pem, "algorithm": of_key}]})] {
            let issuers = open(&json!({"keys": keys, "algorithms": [of_key]}), &clock).unwrap();
            let by = |key: &TestKey, alg: &str| issuers.verify(&signed(key, alg)).map(|_| ());
            for of_token in ["EdDSA", "Ed25519"] {
                assert_eq!(by(&key, of_token), Ok(()), "{of_key} {of_token}");
                assert_eq!(by(&other, of_token), Err(JwtError::Signature), "{of_key} {of_token}");
            }
            for of_token in ["Ed448", "ed25519", "EDDSA", "ES256", "HS256", "none", ""] {
                assert_eq!(by(&key, of_token), Err(JwtError::Algorithm), "{of_key} {of_token}");
            }
        }
    }
    // No other key answers to the new name.
    let file = written(folder.path(), "ec.pem", &ec.public_pem);
    let issuers = open(&json!({"keys": {"pem": [{"file": file, "algorithm": "ES256"}]}}), &clock).unwrap();
    assert_eq!(issuers.verify(&signed(&key, "Ed25519")), Err(JwtError::Algorithm));
}

#[test]
fn a_session_counts_as_long_as_the_token_and_its_key() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let (one, two) = (TestKey::new(Algorithm::ES256), TestKey::new(Algorithm::ES256));
    let set = |keys: &[(&TestKey, &str)]| {
        let keys: Vec<_> = keys.iter().map(|(key, kid)| key.jwk(Algorithm::ES256, kid)).collect();
        written(folder.path(), "jwks.json", json!({"keys": keys}).to_string())
    };
    let issuers = open(&json!({"keys": {"jwks_file": set(&[(&one, "one")])}, "leeway": "60s"}), &clock).unwrap();
    let verified = issuers.verified(&token(&one.private, Algorithm::ES256, None, &claims())).unwrap();
    assert_eq!(verified.ends_s, NOW_S + 300, "without the leeway");
    set(&[(&one, "another name"), (&two, "two")]);
    issuers.reload().unwrap();
    assert!(issuers.still_counts(&verified), "keys came, and this one stayed");
    clock.advance_ms(299_000);
    assert!(issuers.still_counts(&verified));
    set(&[(&two, "one")]);
    issuers.reload().unwrap();
    assert!(!issuers.still_counts(&verified), "the key is gone, whatever is called so now");
    set(&[(&one, "one")]);
    issuers.reload().unwrap();
    assert!(issuers.still_counts(&verified));
    clock.advance_ms(1_000);
    assert!(!issuers.still_counts(&verified), "the token has ended");
}

#[test]
fn tokens_of_one_person_are_one_holders() {
    let (_folder, _clock, issuers, key) = with_ec(&json!({}));
    let holder = |name: &str, exp: i64| {
        let mut claims = claims();
        (claims["sub"], claims["exp"]) = (json!(name), json!(exp));
        issuers.verified(&token(&key.private, Algorithm::ES256, None, &claims)).unwrap().holder
    };
    assert_eq!(holder("ann", NOW_S + 1), holder("ann", NOW_S + 2));
    assert_ne!(holder("ann", NOW_S + 1), holder("bob", NOW_S + 1));
}

#[test]
fn settings_refuse_keys_that_are_not_what_they_are_called() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let ec = TestKey::new(Algorithm::ES256);
    let fails = |kind: &str, algorithm: &str, text: &str| {
        let file = written(folder.path(), "key", text);
        open(&json!({"keys": {kind: [{"file": file, "algorithm": algorithm}]}}), &clock).unwrap_err().join("\n")
    };
    assert!(fails("pem", "ES384", &ec.public_pem).contains("another size"));
    assert!(fails("pem", "RS256", &ec.public_pem).contains("another kind"));
    assert!(fails("pem", "ES256", &ec.private_pem).contains("private key"));
    assert!(fails("pem", "ES256", &ec.public_pem.repeat(2)).contains("several"));
    assert!(fails("secrets", "HS256", &rsa()[0].public_pem).contains("PEM"));
    assert!(fails("secrets", "HS512", &"x".repeat(63)).contains("too short"));
    assert!(fails("secrets", "HS256", &"x".repeat(70_000)).contains("too large"));
    let faults =
        |json: Value| serde_json::from_value::<IssuerSettings>(json).map(|settings| settings.faults().join("\n"));
    let found = faults(
        json!({"algorithms": ["HS256"], "refresh": "1s", "leeway": "1h", "keys": {"discovery": true, "jwks_file": "x"}}),
    );
    for part in ["issuer:", "audience:", "refresh:", "leeway:", "algorithms: HS256", "keys: give one"] {
        assert!(found.as_ref().unwrap().contains(part), "{part} in {found:?}");
    }
    for (url, is_allowed) in [
        ("https://idp.example.com/keys", true),
        ("http://127.0.0.1:8080/keys", true),
        ("http://[::1]/keys", true),
        ("http://idp.example.com/keys", false),
        ("http://127.0.0.1.example.com/keys", false),
        ("file:///etc/passwd", false),
    ] {
        let found = faults(json!({"issuer": "i", "audience": ["a"], "keys": {"jwks_url": url}})).unwrap();
        assert_eq!(found.is_empty(), is_allowed, "{url}: {found}");
    }
    for algorithm in ["none", "ES512", "hs256"] {
        assert!(faults(json!({"algorithms": [algorithm]})).is_err(), "{algorithm}");
    }
}

#[test]
fn key_sets_give_each_key_one_algorithm() {
    let mut without_alg = rsa()[0].jwk(Algorithm::RS256, "r");
    without_alg.as_object_mut().unwrap().remove("alg");
    let usable = |keys: Value, algorithms: &[JwtAlgorithm]| {
        key::KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), algorithms).map(|set| set.len())
    };
    assert!(usable(json!([without_alg]), &[]).unwrap_err().to_string().contains("name one in `algorithms`"));
    assert_eq!(usable(json!([without_alg]), &[JwtAlgorithm::RS256]).unwrap(), 1);
    assert!(usable(json!([without_alg]), &[JwtAlgorithm::RS256, JwtAlgorithm::PS256]).is_err());
    let named = rsa()[0].jwk(Algorithm::RS256, "r");
    assert!(usable(json!([named]), &[JwtAlgorithm::ES256]).is_err(), "not an algorithm that is allowed");
    let secret = json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode([7; 32])});
    assert!(
        usable(json!([secret]), &[]).unwrap_err().to_string().contains("oct"),
        "a secret that anyone can fetch is none"
    );
    let mut for_encryption = named.clone();
    for_encryption["use"] = json!("enc");
    assert_eq!(usable(json!([for_encryption, secret, {"kty": "new"}, 7, named]), &[]).unwrap(), 1);
    assert_eq!(usable(json!([]), &[]).unwrap(), 0);
    assert!(usable(json!(vec![named.clone(); 101]), &[]).is_err());
    let mut small = named;
    small["n"] = json!(URL_SAFE_NO_PAD.encode([200; 128]));
    assert!(usable(json!([small]), &[]).unwrap_err().to_string().contains("2048"));
}

#[test]
fn keys_are_found_by_their_name() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let (one, two) = (TestKey::new(Algorithm::ES256), TestKey::new(Algorithm::ES256));
    let set = json!({"keys": [one.jwk(Algorithm::ES256, "one"), two.jwk(Algorithm::ES256, "two")]});
    let file = written(folder.path(), "jwks.json", set.to_string());
    let issuers = open(&json!({"keys": {"jwks_file": file}}), &clock).unwrap();
    let by = |key: &TestKey, kid| issuers.verify(&token(&key.private, Algorithm::ES256, kid, &claims())).map(|_| ());
    assert_eq!(by(&one, Some("one")), Ok(()));
    assert_eq!(by(&two, Some("two")), Ok(()));
    assert_eq!(by(&one, Some("two")), Err(JwtError::Signature), "swapped");
    assert_eq!(by(&one, Some("three")), Err(JwtError::UnknownKey));
    assert_eq!(by(&two, None), Ok(()), "few enough to be tried");
    // Rotation: the first key goes, and what it signed ends at once though it was remembered.
    let last = token(&one.private, Algorithm::ES256, Some("one"), &claims());
    assert!(issuers.verify(&last).is_ok());
    written(folder.path(), "jwks.json", json!({"keys": [two.jwk(Algorithm::ES256, "two")]}).to_string());
    issuers.reload().unwrap();
    assert_eq!(issuers.verify(&last), Err(JwtError::UnknownKey));
    assert_eq!(by(&two, Some("two")), Ok(()));
    // A file that cannot be used changes nothing.
    written(folder.path(), "jwks.json", "{");
    assert!(issuers.reload().is_err());
    assert_eq!(by(&two, Some("two")), Ok(()));
}

#[test]
fn times_count_with_the_leeway_and_not_a_second_more() {
    let (_folder, clock, issuers, key) = with_ec(&json!({"leeway": "60s"}));
    let at = |exp: Value, nbf: Value| {
        let mut claims = claims();
        claims["exp"] = exp;
        claims["nbf"] = nbf;
        issuers.verify(&token(&key.private, Algorithm::ES256, None, &claims)).map(|_| ())
    };
    assert_eq!(at(json!(NOW_S - 59), json!(NOW_S)), Ok(()));
    assert_eq!(at(json!(NOW_S - 60), json!(NOW_S)), Err(JwtError::Expired));
    assert_eq!(at(json!(NOW_S + 9), json!(NOW_S + 60)), Ok(()));
    assert_eq!(at(json!(NOW_S + 9), json!(NOW_S + 61)), Err(JwtError::NotYet));
    assert_eq!(at(json!(NOW_S as f64 + 0.5), json!(NOW_S as f64 - 0.5)), Ok(()));
    for wrong in [json!(null), json!("tomorrow"), json!([1])] {
        assert!(matches!(at(wrong.clone(), json!(0)), Err(JwtError::Claim { .. })), "{wrong}");
        assert!(matches!(at(json!(NOW_S + 9), wrong.clone()), Err(JwtError::Claim { .. })), "{wrong}");
    }
    let remembered = token(&key.private, Algorithm::ES256, None, &claims());
    assert!(issuers.verify(&remembered).is_ok());
    clock.advance_ms(359_000);
    assert!(issuers.verify(&remembered).is_ok());
    clock.advance_ms(1_000);
    assert_eq!(issuers.verify(&remembered), Err(JwtError::Expired), "though it is remembered");
}

#[test]
fn issuer_and_audience_must_be_there_and_ours() {
    let (_folder, _clock, issuers, key) = with_ec(&json!({}));
    let with = |name: &str, value: Option<Value>| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().shift_remove(name);
        if let Some(value) = value {
            claims[name] = value;
        }
        issuers.verify(&token(&key.private, Algorithm::ES256, None, &claims)).map(|_| ())
    };
    assert_eq!(with("aud", Some(json!(["other", "metrics"]))), Ok(()));
    for wrong in [None, Some(json!("other")), Some(json!([])), Some(json!(["Pharos"])), Some(json!({"pharos": 1}))] {
        assert_eq!(with("aud", wrong.clone()), Err(JwtError::Audience), "{wrong:?}");
    }
    assert_eq!(with("iss", Some(json!(format!("{ISSUER}/")))), Err(JwtError::UnknownIssuer));
    assert!(matches!(with("iss", None), Err(JwtError::Malformed { .. })));
    assert!(matches!(with("exp", None), Err(JwtError::Claim { .. })), "a token without an end");
}

#[test]
fn claims_become_names_scopes_and_tenants() {
    let (_folder, _clock, issuers, key) = with_ec(&json!({
        "claims": {"name": "preferred_username", "scopes": "resource_access.pharos.roles", "tenant": "https://example.com/tenants"},
        "scopes": [{"value": "viewer", "grants": ["metrics:read", "traces:read"]}, {"value": "ops", "grants": ["admin"]}],
        "require": [{"claim": "groups", "matches": "pharos-.*"}],
        "grant": {"scopes": ["debug"], "tenant": "0", "extra_labels": {"via": "idp"}, "limits": {"samples_per_second": 5}},
    }));
    let base = json!({
        "iss": ISSUER, "aud": "pharos", "exp": NOW_S + 300, "preferred_username": "ann",
        "resource_access": {"pharos": {"roles": ["viewer", "admin", "unknown"]}},
        "groups": ["x", "pharos-users"],
    });
    let grant = |extra: Value| {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        issuers.verify(&token(&key.private, Algorithm::ES256, None, &claims))
    };
    let found = grant(json!({})).unwrap();
    let scopes: Vec<_> = found.scopes.iter().map(|scope| scope.as_str()).collect();
    assert_eq!(
        (&*found.name, scopes),
        ("ann", vec!["metrics:read", "traces:read", "debug"]),
        "the IdP's admin is not ours"
    );
    assert_eq!(found.tenants.to_string(), "0");
    assert_eq!(found.extra_labels, [("via".to_owned(), "idp".to_owned())]);
    assert_eq!(found.limits.samples_per_second, Some(5));
    for (tenant, expected) in [
        (json!("7"), "7"),
        (json!(7), "7"),
        (json!(["7", "8", "7"]), "7,8"),
        (json!(["7"]), "7"),
        (json!(null), "0"),
        (json!("*"), "*"),
    ] {
        let found = grant(json!({"https://example.com/tenants": tenant})).unwrap();
        assert_eq!(found.tenants.to_string(), expected, "{tenant}");
    }
    assert_eq!(grant(json!({"https://example.com/tenants": "*"})).unwrap().tenants, TenantAccess::Any);
    for tenant in
        [json!("a/b"), json!(""), json!([]), json!(["7", "*"]), json!(["7", 8]), json!({"a": 1}), json!("7,8")]
    {
        let found = grant(json!({"https://example.com/tenants": tenant}));
        assert!(matches!(found, Err(JwtError::Claim { .. })), "{tenant}: {found:?}");
    }
    assert!(matches!(grant(json!({"groups": ["my-pharos-users"]})), Err(JwtError::Requirement { .. })));
    assert!(matches!(grant(json!({"groups": null})), Err(JwtError::Requirement { .. })));
    for name in [json!(null), json!(""), json!(7), json!("a\nb"), json!("x".repeat(257))] {
        assert!(matches!(grant(json!({"preferred_username": name})), Err(JwtError::Claim { .. })));
    }
    assert!(matches!(grant(json!({"resource_access": {"pharos": {"roles": 7}}})), Err(JwtError::Claim { .. })));
}

#[test]
fn a_token_without_a_tenant_is_refused_where_none_is_set() {
    let (_folder, _clock, issuers, key) = with_ec(&json!({}));
    let mut claims = claims();
    claims.as_object_mut().unwrap().shift_remove("tenant");
    let found = issuers.verify(&token(&key.private, Algorithm::ES256, None, &claims));
    assert!(matches!(found, Err(JwtError::Claim { .. })), "{found:?}");
}

#[test]
fn headers_with_more_than_we_know_are_refused() {
    let (_folder, _clock, issuers, key) = with_ec(&json!({}));
    let good = token(&key.private, Algorithm::ES256, None, &claims());
    let header = |header: Value| issuers.verify(&raw(&header, &claims().to_string(), "AAAA"));
    for wrong in [
        json!({"alg": "ES256", "crit": ["b64"]}),
        json!({"alg": "ES256", "typ": "logout+jwt"}),
        json!({"alg": "ES256", "kid": 7}),
        json!({"alg": "ES256", "kid": "k".repeat(257)}),
        json!({"alg": 7}),
        json!({"typ": "JWT"}),
        json!(["ES256"]),
    ] {
        assert!(matches!(header(wrong.clone()), Err(JwtError::Malformed { .. })), "{wrong}");
    }
    // A key that the token brings along is not asked.
    let own = TestKey::new(Algorithm::ES256);
    let mut with_key = Header::new(Algorithm::ES256);
    with_key.jwk = Some(Jwk::from_encoding_key(&own.private, Algorithm::ES256).unwrap());
    assert_eq!(issuers.verify(&encode(&with_key, &claims(), &own.private).unwrap()), Err(JwtError::Signature));
    for wrong in [format!("{good}="), format!("{good}.x"), good.replacen('.', "", 1), good.replace('.', "..")] {
        assert!(issuers.verify(&wrong).is_err(), "{wrong}");
    }
    let long = format!("eyJ{}", "a".repeat(16 << 10));
    assert!(matches!(issuers.verify(&long), Err(JwtError::TooLong { .. })));
}

#[test]
fn nothing_of_a_token_or_a_secret_is_printed() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let secret = "correct-horse-battery-staple-0123456789";
    let file = written(folder.path(), "secret", secret);
    let issuers = open(&json!({"keys": {"secrets": [{"file": file, "algorithm": "HS256"}]}}), &clock).unwrap();
    let token =
        token(&EncodingKey::from_secret(b"another-secret-of-at-least-32-bytes"), Algorithm::HS256, None, &claims());
    let error = issuers.verify(&token).unwrap_err();
    let shown = format!("{issuers:?} {error:?} {error}");
    assert!(!shown.contains("horse") && !shown.contains("agent-7"), "{shown}");
}

proptest! {
    /// Whatever the header and the payload are, an answer comes, and it is no.
    #[test]
    fn bytes_from_outside_are_refused(header in ".{0,64}", payload in ".{0,64}", signature in "[A-Za-z0-9_-]{0,90}", text in ".{0,200}") {
        static ISSUERS: OnceLock<(tempfile::TempDir, Arc<SimClock>, Issuers, TestKey)> = OnceLock::new();
        let (_, _, issuers, key) = ISSUERS.get_or_init(|| with_ec(&json!({})));
        let made = format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&payload));
        prop_assert!(issuers.verify(&made).is_err());
        prop_assert!(issuers.verify(&text).is_err());
        let good = token(&key.private, Algorithm::ES256, None, &claims());
        let (signed, _) = good.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{signature}");
        prop_assert!(issuers.verify(&forged).is_err());
    }

    /// Claims of any shape, rightly signed, give a grant or an error.
    #[test]
    fn claims_of_any_shape_are_judged(name in arb_json(), scope in arb_json(), tenant in arb_json(), aud in arb_json(), exp in arb_json()) {
        let settings = settings(&json!({"keys": {"discovery": true}, "claims": {"scopes": "scope.a"}}));
        let rules = ClaimRules::new(&settings[0]).unwrap();
        let claims = json!({"sub": name, "scope": scope, "tenant": tenant, "aud": [aud, "pharos"], "exp": exp});
        if let Ok(grant) = rules.grant(claims.as_object().unwrap(), NOW_S) {
            prop_assert!(crate::identities::is_name(&grant.name));
            prop_assert!(grant.expires_s.is_some_and(|at_s| at_s > NOW_S));
        }
    }
}

fn arb_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(NOW_S + 5)),
        any::<f64>().prop_map(Value::from),
        "[a-z*:, ]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c.]{0,3}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
