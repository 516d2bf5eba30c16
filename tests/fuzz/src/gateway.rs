//! Inputs that fuzzing of the gateway begins with: what senders and proxies show, and the token file.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pharos_gateway::fuzzing::NOW_S;
use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};
use serde_json::{Value, json};

/// Of all four targets.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut found: Vec<_> = web_tokens().into_iter().map(|input| ("web-token", input)).collect();
    found.extend(token_files().into_iter().map(|input| ("token-file", input)));
    found.extend(certificates().into_iter().map(|input| ("certificate", input)));
    found.extend(forwarded().into_iter().map(|input| ("forwarded", input)));
    found
}

fn web_tokens() -> Vec<Vec<u8>> {
    let plain = json!({"iss": "https://idp.example.com", "aud": "pharos", "sub": "ann", "exp": NOW_S + 300, "scope": "metrics:read debug"});
    let with = |more: Value| {
        let mut claims = plain.clone();
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        claims
    };
    let nested = with(
        json!({"a": {"b": "bob"}, "realm": {"roles": ["viewer"]}, "tenants": {"own": ["7", "8"]}, "groups": ["pharos-x"]}),
    );
    let payloads = [
        (0, plain.clone()),
        (1, with(json!({"exp": NOW_S + 1, "nbf": NOW_S}))),
        (0, with(json!({"exp": NOW_S as f64 + 0.5, "nbf": NOW_S + 59}))),
        (0, with(json!({"exp": 1e300, "tenant": "8"}))),
        (2, with(json!({"tenant": 9}))),
        (2, with(json!({"tenant": ["a", "b", "a"]}))),
        (2, with(json!({"tenant": "*"}))),
        (2, with(json!({"tenant": ["*", "7"]}))),
        (2, with(json!({"tenant": (0..101).map(|tenant: i32| tenant.to_string()).collect::<Vec<_>>()}))),
        (4, with(json!({"aud": ["x", "other"], "scope": ["traces:write"]}))),
        (8, nested.clone()),
        (56, nested.clone()),
        (16, with(json!({"scope": "viewer"}))),
        (8, with(json!({"a.b": "dotted", "realm.roles": "metrics:write", "tenants.own": "x"}))),
        (0, with(json!({"sub": "x".repeat(256)}))),
        (0, with(json!({"sub": "\u{1}"}))),
        (0, with(json!({"iat": -1, "exp": NOW_S - 59}))),
    ];
    let headers = [
        json!({"alg": "ES256"}),
        json!({"alg": "RS256", "kid": "k1", "typ": "at+JWT"}),
        json!({"alg": "none", "crit": ["b64"]}),
    ];
    let mut found = Vec::new();
    for (at, (chosen, payload)) in payloads.iter().enumerate() {
        for header in &headers[..if at < 8 { 3 } else { 2 }] {
            let (header, payload) = (header.to_string(), payload.to_string());
            let parts = format!("\0{header}\n{payload}");
            found.push([&[*chosen], parts.as_bytes()].concat());
            if at < 3 {
                let token = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
                found.push([&[*chosen], token.as_bytes()].concat());
            }
        }
    }
    found
}

fn token_files() -> Vec<Vec<u8>> {
    let hash = |number: u32| format!("{number:08x}").repeat(8);
    let secret = |number: u32| json!({"id": format!("{number:08x}"), "sha256": hash(number), "created_at": NOW_S});
    let token = |number: u32, more: Value| {
        let mut token = json!({
            "name": format!("t{number}"), "secrets": [secret(number)], "scopes": ["metrics:write"], "tenant": "7", "created_at": NOW_S,
        });
        token.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        token
    };
    let older = |number: u32| json!({"id": format!("{number:08x}"), "name": format!("t{number}"), "sha256": hash(number), "scopes": ["admin"], "tenant": "*", "created_at": NOW_S});
    let more = [
        json!({}),
        json!({"tenant": "7,8"}),
        json!({"tenant": "7:1"}),
        json!({"expires_at": NOW_S + 60, "not_before": NOW_S}),
        json!({"extra_labels": {"team": "a", "env": "prod"}}),
        json!({"extra_labels": {"__name__": "x"}}),
        json!({"limits": {"samples_per_second": 1000}}),
        json!({"limits": {"requests_in_flight": 4, "body_max": "1MiB"}}),
        json!({"allow": [{"networks": ["10.0.0.0/8"], "paths": ["/api/*"], "methods": ["GET"]}]}),
        json!({"deny": [{"networks": ["fd00::/8"]}]}),
        json!({"secrets": [secret(90), secret(91)]}),
        json!({"secrets": [secret(90), secret(90)]}),
        json!({"secrets": []}),
        json!({"secrets": (0..9).map(secret).collect::<Vec<_>>()}),
        json!({"scopes": ["metrics:read", "metrics:write", "traces:read", "traces:write", "admin", "debug"]}),
        json!({"scopes": ["root"]}),
        json!({"unknown": 1}),
        json!({"name": ""}),
        json!({"tenant": ""}),
    ];
    let mut found = Vec::new();
    for (number, more) in (1..).zip(more) {
        let one = token(number, more);
        found.push(json!({"version": 2, "tokens": [one]}).to_string().into_bytes());
        found.push(json!({"version": 2, "tokens": [one, token(99, json!({}))]}).to_string().into_bytes());
    }
    for version in 0..4 {
        found.push(json!({"version": version, "tokens": [older(1)]}).to_string().into_bytes());
    }
    found.push(json!({"version": 1, "tokens": [older(1), older(2)]}).to_string().into_bytes());
    found.push(json!({"version": 1, "tokens": []}).to_string().into_bytes());
    found
}

fn certificates() -> Vec<Vec<u8>> {
    let uri = |text: &str| SanType::URI(text.try_into().expect("ASCII"));
    let dns = |text: &str| SanType::DnsName(text.try_into().expect("ASCII"));
    let mail = SanType::Rfc822Name("a@example.com".try_into().expect("ASCII"));
    let names = [
        vec![],
        vec![uri("spiffe://prod/agent/a1")],
        vec![uri("spiffe://prod/agent/"), uri("spiffe://prod/x")],
        vec![dns("n1.example.com")],
        vec![dns("example.com"), dns("N2.EXAMPLE.COM"), mail.clone()],
        vec![uri("spiffe://prod/agent/a1"), dns("n1.example.com"), mail],
        vec![SanType::IpAddress([10, 0, 0, 1].into())],
        vec![uri("\u{1}"), uri("")],
    ];
    let commons = [None, Some("agent-7"), Some("a.b")];
    let mut found = Vec::new();
    for (at, alternatives) in names.iter().enumerate() {
        for common in commons {
            let mut params = CertificateParams::default();
            params.subject_alt_names.clone_from(alternatives);
            params.not_before = date_time_ymd(2020 + at as i32, 1, 1);
            if let Some(common) = common {
                params.distinguished_name.push(DnType::CommonName, common);
            }
            let made = params.self_signed(&KeyPair::generate().expect("keys")).expect("a certificate");
            found.push(made.der().to_vec());
            let pem = made.pem().replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
            found.push([&[0], pem.as_bytes()].concat());
        }
    }
    found
}

fn forwarded() -> Vec<Vec<u8>> {
    let peers = ["127.0.0.1", "10.1.2.3", "192.0.2.1", "fd12::1", "::ffff:127.0.0.1"];
    let chains = [
        "",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-For: 198.51.100.1, 203.0.113.9",
        "X-Forwarded-For: 198.51.100.1\nX-Forwarded-For: 203.0.113.9, 10.1.1.1",
        "X-Forwarded-For: unknown, [2001:db8::1]:443, 10.0.0.1:80",
        "X-Forwarded-For: \u{80}, 1.2.3.4\nX-Real-IP: 203.0.113.7",
        "X-Real-IP: 203.0.113.7\nX-Forwarded-Proto: https",
        "X-Forwarded-For: [fd00::1], ::ffff:203.0.113.9\nX-Forwarded-Proto: http",
        "X-Forwarded-For: ,,,\nX-Forwarded-For:",
    ];
    let all = peers.iter().flat_map(|peer| chains.iter().map(move |chain| format!("{peer}\n{chain}").into_bytes()));
    all.collect()
}
