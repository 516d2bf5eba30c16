//! Identities that a proxy in front vouches for.
//!
//! The header counts only on a connection from a listed network: the address is the socket's other end, never what a header says.
//! From anyone else the header is as if it were not there.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use percent_encoding::percent_decode;
use pharos_http::ClientCertificate;

use crate::identities::{GrantSettings, ProxySettings, header_fault, is_name};
use crate::{Grant, TenantAccess};

/// Networks one proxy may be in.
const NETWORKS_MAX: usize = 1_000;
/// The longest header with a certificate, bytes as sent.
const CERTIFICATE_BYTES_MAX: usize = 32 << 10;
/// Around a certificate in PEM.
const PEM: (&str, &str) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");

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
    #[error("the proxy's header {header} is no certificate: PEM with percent signs, or DER in base64, once")]
    NoCertificate { header: String },
    #[error("the certificate in the proxy's header {header} is not valid at this time")]
    CertificateTime { header: String },
}

/// All trusted proxies.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Vec<Proxy>);

#[derive(Debug)]
struct Proxy {
    /// Its place in the settings and its header, for [`Grant::authority`].
    authority: Arc<str>,
    networks: Vec<IpNet>,
    header: HeaderName,
    says: Says,
}

/// What is in a proxy's header.
#[derive(Debug)]
enum Says {
    Name { tenant_header: Option<HeaderName>, tenants: Option<TenantAccess>, grant: Box<GrantSettings> },
    Certificate,
}

/// What a trusted proxy says of a sender.
#[derive(Debug, PartialEq)]
pub(crate) enum Vouched {
    /// Who it is.
    For(Box<Grant>),
    /// Which certificate it showed there, within its time.
    Showed(Box<ClientCertificate>),
}

impl ProxySettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.networks.is_empty() || self.networks.len() > NETWORKS_MAX {
            faults.push(format!("networks: list 1 to {NETWORKS_MAX} networks, such as 10.1.0.0/16"));
        }
        let names = [("tenant_header", &self.tenant_header), ("certificate_header", &self.certificate_header)];
        let header = (!self.header.is_empty() || self.certificate_header.is_none()).then_some(&self.header);
        for (key, name) in names.iter().map(|(key, name)| (*key, name.as_ref())).chain([("header", header)]) {
            faults.extend(name.and_then(|name| header_fault(name)).map(|fault| format!("{key}: {fault}")));
        }
        if self.certificate_header.is_some() {
            if !self.header.is_empty() || self.tenant_header.is_some() || self.grant != GrantSettings::default() {
                faults.push(
                    "certificate_header: stands alone; names, tenants and scopes come from identities.certificates"
                        .to_owned(),
                );
            }
            return faults;
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
        Self(settings.iter().enumerate().filter_map(|(at, settings)| Proxy::new(at, settings)).collect())
    }

    /// The first proxy of `peer`'s network whose header is there decides.
    pub(crate) fn vouched(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
        now_s: i64,
    ) -> Result<Option<Vouched>, ProxyError> {
        // An IPv4 sender on a socket of both families is an IPv4 sender.
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return Ok(None) };
        for proxy in &self.0 {
            let is_trusted = proxy.networks.iter().any(|network| network.contains(&peer));
            if is_trusted && let Some(value) = single(headers, &proxy.header)? {
                return proxy.vouched(value, headers, now_s).map(Some);
            }
        }
        Ok(None)
    }
}

impl Proxy {
    fn new(at: usize, settings: &ProxySettings) -> Option<Self> {
        let (header, says) = if let Some(name) = &settings.certificate_header {
            (name, Says::Certificate)
        } else {
            let tenant_header = settings.tenant_header.as_ref().map(|name| name.parse()).transpose().ok()?;
            let (tenants, grant) = (settings.grant.tenants().ok()?, Box::new(settings.grant.clone()));
            (&settings.header, Says::Name { tenant_header, tenants, grant })
        };
        let (authority, networks) = (format!("{at} {header}").into(), settings.networks.clone());
        Some(Self { authority, networks, header: header.parse().ok()?, says })
    }

    fn vouched(&self, value: &HeaderValue, headers: &HeaderMap, now_s: i64) -> Result<Vouched, ProxyError> {
        let header = || self.header.to_string();
        let (tenant_header, tenants, grant) = match &self.says {
            Says::Name { tenant_header, tenants, grant } => (tenant_header, tenants, grant),
            Says::Certificate => {
                let found =
                    certificate(value.as_bytes()).ok_or_else(|| ProxyError::NoCertificate { header: header() })?;
                // The proxy looked when the connection began, and its connections last.
                if !(found.not_before_s..=found.not_after_s).contains(&now_s) {
                    return Err(ProxyError::CertificateTime { header: header() });
                }
                return Ok(Vouched::Showed(Box::new(found)));
            }
        };
        let name = std::str::from_utf8(value.as_bytes()).ok().map(str::trim).filter(|name| is_name(name));
        let name = name.ok_or_else(|| ProxyError::NoName { header: header() })?;
        let named = match tenant_header {
            Some(header) => single(headers, header)?.map(|value| (header, value)),
            None => None,
        };
        let tenants = match (named, tenants) {
            (Some((header, value)), _) => {
                let parsed = value.to_str().ok().and_then(|text| text.trim().parse().ok());
                parsed.ok_or_else(|| ProxyError::NoTenant { header: header.to_string() })?
            }
            (None, Some(tenants)) => tenants.clone(),
            (None, None) => {
                let header = tenant_header.as_ref().map_or_else(String::new, ToString::to_string);
                return Err(ProxyError::NoTenant { header });
            }
        };
        let authority = Arc::clone(&self.authority);
        Ok(Vouched::For(Box::new(Grant { authority, ..grant.grant(name, tenants, &[]) })))
    }
}

/// A certificate in a header: in PEM with percent signs for what headers cannot have (nginx), or DER in base64, perhaps between
/// colons (RFC 9440).
pub(crate) fn certificate(value: &[u8]) -> Option<ClientCertificate> {
    if value.len() > CERTIFICATE_BYTES_MAX {
        return None;
    }
    let text = percent_decode(value).decode_utf8().ok()?;
    let text = text.trim();
    let inner = match text.strip_prefix(PEM.0) {
        Some(rest) => rest.strip_suffix(PEM.1)?,
        None => text.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).unwrap_or(text),
    };
    let base64: String = inner.split_ascii_whitespace().collect();
    ClientCertificate::parse(&STANDARD.decode(base64).ok()?).ok()
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

    const NOW_S: i64 = 1_700_000_000;

    fn named(vouched: Result<Option<Vouched>, ProxyError>) -> Result<Grant, ProxyError> {
        match vouched?.unwrap() {
            Vouched::For(grant) => Ok(*grant),
            Vouched::Showed(certificate) => panic!("{certificate:?}"),
        }
    }

    fn peer(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn only_listed_networks_are_believed() {
        let (proxies, sent) = (proxies(None, Some("7")), headers(&[("x-auth-request-email", "ann@example.com")]));
        for trusted in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            let grant = named(proxies.vouched(peer(trusted), &sent, NOW_S)).unwrap();
            assert_eq!((&*grant.name, grant.tenants.to_string()), ("ann@example.com", "7".to_owned()));
        }
        for stranger in ["10.2.2.3", "127.0.0.1", "::1", "no address"] {
            assert_eq!(proxies.vouched(peer(stranger), &sent, NOW_S), Ok(None), "{stranger}");
        }
        assert_eq!(proxies.vouched(peer("10.1.2.3"), &HeaderMap::new(), NOW_S), Ok(None));
    }

    #[test]
    fn tenants_come_from_the_proxy_or_from_the_grant() {
        let both = proxies(Some("X-Tenants"), Some("7"));
        let both_said = headers(&[("x-auth-request-email", "ann"), ("x-tenants", "8, 9")]);
        let tenants = |proxies: &Proxies, headers| {
            named(proxies.vouched(peer("10.1.0.1"), headers, NOW_S)).map(|grant| grant.tenants.to_string())
        };
        assert_eq!(tenants(&both, &both_said).unwrap(), "8,9");
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
        assert!(matches!(proxies.vouched(peer("10.1.0.1"), &twice, NOW_S), Err(ProxyError::Twice { .. })));
        for name in ["", "  ", &"x".repeat(257)] {
            let sent = headers(&[("x-auth-request-email", name)]);
            let found = proxies.vouched(peer("10.1.0.1"), &sent, NOW_S);
            assert!(matches!(found, Err(ProxyError::NoName { .. })), "{name:?}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let faults = |json| serde_json::from_value::<ProxySettings>(json).unwrap().faults().join("\n");
        let found = faults(serde_json::json!({"header": "Cookie", "grant": {"tenant": "a b"}}));
        for part in ["networks", "cookie has a meaning", "grant.tenant", "grant.scopes"] {
            assert!(found.contains(part), "{part} in {found}");
        }
        let both =
            serde_json::json!({"networks": ["10.0.0.0/8"], "header": "X-User", "certificate_header": "X-Client-Cert"});
        assert!(faults(both).contains("stands alone"));
    }

    #[test]
    fn a_certificate_counts_in_every_form_that_proxies_write_and_only_within_its_time() {
        let settings: ProxySettings = serde_json::from_value(serde_json::json!({
            "networks": ["10.1.0.0/16"], "certificate_header": "X-Client-Cert",
        }))
        .unwrap();
        assert_eq!(settings.faults(), Vec::<String>::new());
        let proxies = Proxies::new(&[settings]);
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a1.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2023, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 1, 1);
        let made = params.self_signed(&pair).unwrap();
        let escape =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let der = STANDARD.encode(made.der());
        let showed = |value: &str, now_s| {
            let sent = headers(&[("x-client-cert", value)]);
            proxies.vouched(peer("10.1.0.1"), &sent, now_s)
        };
        for value in [escape(&made.pem()), der.clone(), format!(":{der}:")] {
            let Ok(Some(Vouched::Showed(found))) = showed(&value, NOW_S) else { panic!("{value}") };
            assert_eq!(found.dns, ["a1.example.com"]);
        }
        assert!(matches!(showed(&der, 1_704_067_201), Err(ProxyError::CertificateTime { .. })));
        let twice = escape(&format!("{0}{0}", made.pem()));
        for wrong in ["", "agent", "%ff", &der[..der.len() - 8], &twice, &"A".repeat(CERTIFICATE_BYTES_MAX + 1)] {
            assert!(matches!(showed(wrong, NOW_S), Err(ProxyError::NoCertificate { .. })), "{wrong}");
        }
        let strangers = headers(&[("x-client-cert", &der)]);
        assert_eq!(proxies.vouched(peer("192.0.2.1"), &strangers, NOW_S), Ok(None));
    }
}
