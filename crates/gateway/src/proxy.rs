//! Identities that a proxy in front vouches for.
//!
//! The header counts only on a connection from a listed network: the address is the socket's other end, never what a header says.
//! From anyone else the header is as if it were not there.

use std::net::IpAddr;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::identities::{GrantSettings, ProxySettings, is_name};
use crate::{Grant, TenantAccess};

/// Networks one proxy may be in.
const NETWORKS_MAX: usize = 1_000;

/// A proxy that is trusted says something that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum ProxyError {
    #[error("the proxy's header {header} is there more than once")]
    Twice { header: String },
    #[error("the proxy's header {header} is no name: 1 to 256 bytes of text")]
    NoName { header: String },
    #[error("the proxy's header {header} names no tenant")]
    NoTenant { header: String },
}

/// All trusted proxies.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Vec<Proxy>);

#[derive(Debug)]
struct Proxy {
    networks: Vec<IpNet>,
    header: HeaderName,
    tenant_header: Option<HeaderName>,
    tenants: Option<TenantAccess>,
    grant: GrantSettings,
}

impl ProxySettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.networks.is_empty() || self.networks.len() > NETWORKS_MAX {
            faults.push(format!("networks: list 1 to {NETWORKS_MAX} networks, such as 10.1.0.0/16"));
        }
        for (key, name) in [("header", Some(&self.header)), ("tenant_header", self.tenant_header.as_ref())] {
            let Some(name) = name else { continue };
            match name.parse::<HeaderName>() {
                Err(_) => faults.push(format!("{key}: {name:?} is no header's name")),
                Ok(name) if ["authorization", "cookie", "host", "x-scope-orgid"].contains(&name.as_str()) => {
                    faults.push(format!("{key}: {name} has a meaning of its own"));
                }
                Ok(_) => {}
            }
        }
        match self.grant.tenants() {
            Err(fault) => faults.push(fault),
            Ok(None) if self.tenant_header.is_none() => {
                faults.push("grant.tenant: is needed where no tenant_header names tenants".to_owned());
            }
            Ok(_) => {}
        }
        if self.grant.scopes.is_empty() {
            faults.push("grant.scopes: list at least one scope".to_owned());
        }
        faults
    }
}

impl Proxies {
    /// Of settings without faults; proxies with faults would be left out.
    pub(crate) fn new(settings: &[ProxySettings]) -> Self {
        let proxies = settings.iter().filter_map(|settings| {
            Some(Proxy {
                networks: settings.networks.clone(),
                header: settings.header.parse().ok()?,
                tenant_header: match &settings.tenant_header {
                    Some(name) => Some(name.parse().ok()?),
                    None => None,
                },
                tenants: settings.grant.tenants().ok()?,
                grant: settings.grant.clone(),
            })
        });
        Self(proxies.collect())
    }

    /// The first proxy of `peer`'s network whose header is there decides.
    pub(crate) fn grant_of(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Option<Grant>, ProxyError> {
        // An IPv4 sender on a socket of both families is an IPv4 sender.
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return Ok(None) };
        for proxy in &self.0 {
            let is_trusted = proxy.networks.iter().any(|network| network.contains(&peer));
            if is_trusted && let Some(value) = single(headers, &proxy.header)? {
                return proxy.grant_of(value, headers).map(Some);
            }
        }
        Ok(None)
    }
}

impl Proxy {
    fn grant_of(&self, value: &HeaderValue, headers: &HeaderMap) -> Result<Grant, ProxyError> {
        let name = std::str::from_utf8(value.as_bytes()).ok().map(str::trim).filter(|name| is_name(name));
        let name = name.ok_or_else(|| ProxyError::NoName { header: self.header.to_string() })?;
        let named = match &self.tenant_header {
            Some(header) => single(headers, header)?.map(|value| (header, value)),
            None => None,
        };
        let tenants = match (named, &self.tenants) {
            (Some((header, value)), _) => {
                let parsed = value.to_str().ok().and_then(|text| text.trim().parse().ok());
                parsed.ok_or_else(|| ProxyError::NoTenant { header: header.to_string() })?
            }
            (None, Some(tenants)) => tenants.clone(),
            (None, None) => {
                let header = self.tenant_header.as_ref().map_or_else(String::new, ToString::to_string);
                return Err(ProxyError::NoTenant { header });
            }
        };
        Ok(self.grant.grant(name, tenants, &[]))
    }
}

/// A header that is there once, or not at all: of two, one may be the sender's own.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ProxyError> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ProxyError::Twice { header: name.to_string() });
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(tenant_header: Option<&str>, tenant: Option<&str>) -> Proxies {
        let settings: ProxySettings = serde_json::from_value(serde_json::json!({
            "networks": ["10.1.0.0/16", "fd00::/8"],
            "header": "X-Auth-Request-Email",
            "tenant_header": tenant_header,
            "grant": {"scopes": ["metrics:read"], "tenant": tenant},
        }))
        .unwrap();
        assert_eq!(settings.faults(), Vec::<String>::new());
        Proxies::new(&[settings])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn peer(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn only_listed_networks_are_believed() {
        let (proxies, sent) = (proxies(None, Some("7")), headers(&[("x-auth-request-email", "ann@example.com")]));
        for trusted in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            let grant = proxies.grant_of(peer(trusted), &sent).unwrap().unwrap();
            assert_eq!((&*grant.name, grant.tenants.to_string()), ("ann@example.com", "7".to_owned()));
        }
        for stranger in ["10.2.2.3", "127.0.0.1", "::1", "no address"] {
            assert_eq!(proxies.grant_of(peer(stranger), &sent), Ok(None), "{stranger}");
        }
        assert_eq!(proxies.grant_of(peer("10.1.2.3"), &HeaderMap::new()), Ok(None));
    }

    #[test]
    fn tenants_come_from_the_proxy_or_from_the_grant() {
        let both = proxies(Some("X-Tenants"), Some("7"));
        let named = headers(&[("x-auth-request-email", "ann"), ("x-tenants", "8, 9")]);
        let tenants = |proxies: &Proxies, headers| {
            proxies.grant_of(peer("10.1.0.1"), headers).map(|grant| grant.unwrap().tenants.to_string())
        };
        assert_eq!(tenants(&both, &named).unwrap(), "8,9");
        let unnamed = headers(&[("x-auth-request-email", "ann")]);
        assert_eq!(tenants(&both, &unnamed).unwrap(), "7");
        let header_only = proxies(Some("X-Tenants"), None);
        assert!(matches!(tenants(&header_only, &unnamed), Err(ProxyError::NoTenant { .. })));
        let wrong = headers(&[("x-auth-request-email", "ann"), ("x-tenants", "a/b")]);
        assert!(matches!(tenants(&both, &wrong), Err(ProxyError::NoTenant { .. })), "never the default instead");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let proxies = proxies(None, Some("7"));
        let twice = headers(&[("x-auth-request-email", "ann"), ("x-auth-request-email", "root")]);
        assert!(matches!(proxies.grant_of(peer("10.1.0.1"), &twice), Err(ProxyError::Twice { .. })));
        for name in ["", "  ", &"x".repeat(257)] {
            let sent = headers(&[("x-auth-request-email", name)]);
            assert!(matches!(proxies.grant_of(peer("10.1.0.1"), &sent), Err(ProxyError::NoName { .. })), "{name:?}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let faults = |json| serde_json::from_value::<ProxySettings>(json).unwrap().faults().join("\n");
        let found = faults(serde_json::json!({"header": "Cookie", "grant": {"tenant": "a b"}}));
        for part in ["networks", "cookie has a meaning", "grant.tenant", "grant.scopes"] {
            assert!(found.contains(part), "{part} in {found}");
        }
    }
}
