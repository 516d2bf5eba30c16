//! Everything of the gateway that reads bytes of strangers, as functions that take any bytes and panic where a promise is broken.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use pharos_http::ClientCertificate;

use crate::certificate::CertificateRules;
use crate::identities::{CertificateSettings, is_name};
use crate::jwt::{IssuerSettings, fuzzing as jwt};
use crate::{Grant, Presented, TenantAccess};
use crate::{presented, proxy, token_file};

/// When it is, in every target; Unix seconds.
pub const NOW_S: i64 = 1_700_000_000;

/// A web token. Input: a byte that chooses what its claims mean, then the token; after a zero byte instead its header, a line feed, and
/// its payload, both in JSON.
///
/// # Panics
/// If a grant says what claims or settings did not, or is not good at this time: a bug.
pub fn web_token(bytes: &[u8]) {
    let Some((chosen, rest)) = bytes.split_first() else { return };
    let token = match rest.split_first() {
        Some((0, parts)) => {
            let end = parts.iter().position(|byte| *byte == b'\n').unwrap_or(parts.len());
            let (header, payload) = parts.split_at(end);
            let payload = payload.get(1..).unwrap_or_default();
            format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
        }
        _ => match std::str::from_utf8(rest) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
    };
    let settings = issuer_settings(*chosen);
    let Some(grant) = jwt::grant_of(&token, &settings, NOW_S) else { return };
    check(&grant);
    assert!(grant.expires_s.is_some_and(|end_s| NOW_S < end_s) && grant.not_before_s.is_none_or(|at_s| at_s <= NOW_S));
    let may = |scope| {
        let by_claims = settings.scopes.is_empty() || settings.scopes.iter().any(|one| one.grants.contains(scope));
        by_claims || settings.grant.scopes.contains(scope)
    };
    assert!(grant.scopes.iter().all(may), "{:?}", grant.scopes);
}

/// What claims mean, in the ways that settings can say it.
fn issuer_settings(chosen: u8) -> IssuerSettings {
    let is = |bit: u8| chosen & bit != 0;
    let mut settings = serde_json::json!({
        "issuer": "https://idp.example.com", "audience": ["pharos", "other"], "leeway": if is(1) { "0s" } else { "60s" },
        "grant": {"tenant": if is(2) { None } else { Some("7") }, "scopes": if is(4) { vec!["debug"] } else { vec![] }},
    });
    if is(8) {
        settings["claims"] = serde_json::json!({"name": "a.b", "scopes": "realm.roles", "tenant": "tenants.own"});
    }
    if is(16) {
        settings["scopes"] =
            serde_json::json!([{"value": "viewer", "grants": ["metrics:read"]}, {"value": "", "grants": ["admin"]}]);
    }
    if is(32) {
        settings["require"] = serde_json::json!([{"claim": "groups", "matches": "pharos-.*"}]);
    }
    serde_json::from_value(settings).expect("settings as users write them")
}

/// The token file's text.
///
/// # Panics
/// If what was read is written as something else, or tokens are not what the format promises: a bug.
pub fn token_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((tokens, written)) = token_file::rewritten(text) else { return };
    let (again, _) = token_file::rewritten(&written).expect("what is written can be read");
    assert_eq!(tokens, again);
    let names: std::collections::BTreeSet<_> = tokens.iter().map(|token| &token.name).collect();
    assert!(names.len() == tokens.len() && names.iter().all(|name| !name.is_empty()));
    for token in &tokens {
        let hashes: std::collections::BTreeSet<_> = token.secrets.iter().map(|secret| secret.sha256).collect();
        assert!((1..=8).contains(&token.secrets.len()) && hashes.len() == token.secrets.len());
        assert!(!token.extra_labels.contains_key("__name__"));
    }
}

/// A client's certificate, from DER to an identity, directly and by a proxy's header. Input: DER; after a zero byte a header's value.
///
/// # Panics
/// If both ways see another certificate, or a grant has a name that cannot be one: a bug.
pub fn certificate(bytes: &[u8]) {
    let found = if let Some((0, header)) = bytes.split_first() {
        proxy::certificate(header)
    } else {
        let direct = ClientCertificate::parse(bytes).ok();
        // In base64 it is as long as a header may be.
        let fits = bytes.len() <= 24 << 10;
        assert_eq!(proxy::certificate(STANDARD.encode(bytes).as_bytes()), direct.clone().filter(|_| fits));
        direct
    };
    let Some(found) = found else { return };
    let rules: Vec<CertificateSettings> = serde_json::from_value(serde_json::json!([
        {"match": {"uri": "spiffe://*/agent/*"}, "name": "agent {uri}", "grant": {"scopes": ["metrics:write"], "tenant": "7"}},
        {"match": {"dns": "*.example.com"}, "grant": {"scopes": ["traces:write"], "tenant": "8"}},
        {"match": {"common_name": "*"}, "name": "host {common_name}", "grant": {"scopes": ["metrics:read"], "tenant": "9"}},
    ]))
    .expect("settings as users write them");
    if let Ok(grant) = CertificateRules::new(&rules).grant_of(&found) {
        check(&grant);
        assert_eq!(grant.not_before_s, Some(found.not_before_s));
        let names = [&found.uris[..], &found.dns[..], found.common_name.as_slice()].concat();
        assert!(names.iter().any(|name| grant.name.ends_with(name.as_str())), "{} of {names:?}", grant.name);
    }
}

/// Headers of proxies. Input: lines `name: value`, the first one the address of the connection's other end.
///
/// # Panics
/// If a sender is made up: one that neither is the other end nor stands in a header of a proxy that is trusted.
pub fn forwarded(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let peer = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.trim().parse::<IpAddr>().ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    let trusted: [IpNet; 3] = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network"));
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let presented =
        Presented { method: &Method::GET, path: "/", headers: &headers, peer, over_tls: false, certificate: None };
    let client = presented.client(&trusted);
    assert_eq!(client.is_some(), peer.is_some(), "whoever is connected has an address");
    if presented.is_encrypted(&trusted) {
        assert!(peer.as_ref().is_some_and(is_trusted), "only a proxy that is trusted says that");
    }
    let (Some(client), Some(peer)) = (client, peer) else { return };
    if client != peer {
        assert!(is_trusted(&peer), "{client} by a stranger at {peer}");
        let named = headers.get_all("x-forwarded-for").iter().chain(headers.get("x-real-ip"));
        let texts: Vec<_> = named.filter_map(|value| value.to_str().ok()).collect();
        let words = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
        let is_there = words.filter_map(presented::address).any(|address| address == client);
        assert!(is_there, "{client} is not in {texts:?}");
    }
}

fn check(grant: &Grant) {
    assert!(is_name(&grant.name), "{:?}", grant.name);
    match &grant.tenants {
        TenantAccess::Some(tenants) => {
            assert!((2..=100).contains(&tenants.len()) && tenants.iter().all(|tenant| tenant.as_str() != "*"));
        }
        TenantAccess::One(tenant) => assert_ne!(tenant.as_str(), "*"),
        TenantAccess::Any => {}
    }
}
